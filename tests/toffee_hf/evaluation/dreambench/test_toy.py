"""The benchmark's like in the toy world: prompts, truth, ways and scores."""

import pytest
import torch

from tests.toffee_hf.evaluation.dreambench.test_drawing import FakeEditor, FakePainter
from toffee_hf.evaluation import ways
from toffee_hf.evaluation.dreambench import toy
from toffee_hf.evaluation.dreambench.drawing import Sampling
from toffee_hf.evaluation.dreambench.protocol import Extent, jobs_of
from toffee_hf.evaluation.dreambench.scoring import Scored
from toffee_hf.toy.captions import understood
from toffee_hf.toy.designs import MATERIALS
from toffee_hf.toy.world import toy_subject

pytestmark = pytest.mark.usefixtures("small_toys")


@pytest.fixture
def jobs():
    return jobs_of(toy.toy_bench(2), Extent(2, 5, 1), 0)


@pytest.fixture
def few_steps(monkeypatch):
    monkeypatch.setattr(ways, "DRAFT_STEPS", 2)


def test_it_has_the_shape_of_dreambench():
    bench = toy.toy_bench()
    assert len(bench) == 30 and {len(s.prompts) for s in bench} == {25} and len(toy.KINDS) == 25
    assert len(jobs_of(bench, Extent(30), 0)) == 3000
    assert bench[3].name == "toy-held-out-0003" and all(s.class_name in s.prompts[0] for s in bench)


def test_prompts_and_truth_say_the_same():
    for index in (0, 1, 14):
        wish, person = toy.wishes(index), toy_subject("held-out", index)
        for number, (prompt, shot, become) in enumerate(zip(wish.prompts, wish.shots, wish.become, strict=True)):
            told = understood(prompt)
            assert (told.scene, told.style) == (shot.scene, shot.style)
            assert (shot.style != "photo") == (toy.KINDS[number] == "style")
            assert (become != person) == (toy.KINDS[number] in ("colour", "texture")), prompt
        assert toy.wishes(index) is wish


def test_wood_is_asked_for_a_surface_not_a_colour():
    wooden = next(i for i in range(60) if toy_subject("held-out", i).design.name in MATERIALS)
    wish = toy.wishes(wooden)
    assert all(b.design.name != toy_subject("held-out", wooden).design.name for b in wish.become[20:])


def test_photographs_are_of_the_subject_and_differ():
    shown = toy.photographs(toy_subject("held-out", 2))
    assert shown.x.shape == (toy.PHOTOS, 3, 64, 64) and {s.style for s in shown.shots} == {"photo"}
    assert torch.equal(shown.x, toy.photographs(toy_subject("held-out", 2)).x)
    assert all((shown.x[0] - x).abs().max() > 0.1 for x in shown.x[1:])


def test_the_truth_is_as_near_as_8_bits_and_other_subjects_are_not(family, jobs):
    judge = toy.ToyJudge(family)
    one = jobs[:5]
    wish = toy.wish_of(one)
    right = toy._pictures(toy.pictures(wish.become, wish.shots).x)
    found = judge.scores(one, right)
    assert set(found) == set(toy.COLUMNS) and all(v.shape == (5,) for v in found.values())
    assert found["PSNR"].min() > 50
    assert judge.scores(one, right[1:] + right[:1])["PSNR"].max() < 40
    alone = judge.scores(one[2:3], right[2:3])
    assert all(torch.allclose(found[name][2:3], alone[name], atol=1e-3) for name in found)


def test_a_photograph_is_itself_to_the_class_token(family, jobs):
    judge = toy.ToyJudge(family)
    photos = toy.photographs(toy_subject("held-out", 0))
    found = judge.scores(jobs[:1], toy._pictures(photos.x[:1]))
    tokens = judge.photos(toy_subject("held-out", 0)).dino
    expected = torch.nn.functional.cosine_similarity(tokens[:1], tokens).mean()
    assert found["DINO"][0] == pytest.approx(expected.item(), abs=1e-3)


def test_pictures_of_another_size_are_scored_too(family, jobs):
    wide = [picture.resize((96, 96)) for picture in toy._pictures(torch.zeros(1, 3, 64, 64))]
    assert toy.ToyJudge(family).scores(jobs[:1], wide)["PSNR"].isfinite().all()


def test_baselines_draw_by_the_jobs_seeds(family, jobs, few_steps):
    own = toy.baselines(family)
    assert list(own) == [toy.TEXT, toy.PASTE, toy.REAL]
    for draw in own.values():
        both = draw(jobs[:2])
        assert [p.size for p in both] == [(64, 64)] * 2
        assert draw(jobs[1:2])[0].tobytes() == pytest.approx(both[1].tobytes(), abs=2)
    pasted, text = own[toy.PASTE](jobs[:1])[0], own[toy.TEXT](jobs[:1])[0]
    reference = toy.toy_reference(toy_subject("held-out", 0), depth=False)
    inside = [(x, y) for x in range(64) for y in range(64) if reference.mask.getpixel((x, y)) == 255]
    close = [max(abs(a - b) for a, b in zip(pasted.getpixel(p), reference.picture.getpixel(p), strict=True)) <= 2
             for p in inside]
    assert sum(close) > 0.9 * len(close) and pasted.tobytes() != text.tobytes()


def test_a_model_is_asked_with_and_without_the_depth(jobs):
    editor = FakeEditor()
    drawers = toy.model_drawers(toy.MODEL, editor, Sampling(3))
    assert list(drawers) == ["model", "model, depth given"]
    for draw in drawers.values():
        draw(jobs[:2])
    plain, posed = editor.calls
    assert plain["depth_image"] is None and len(posed["depth_image"]) == 2
    assert plain["subject_image"][0].size == (64, 64) and plain["subject_mask"][0].mode == "L"
    assert plain["num_inference_steps"] == 3 and plain["prompt"] == [job.prompt for job in jobs[:2]]
    near = posed["depth_image"][0]
    assert near.mode == "L" and near.getextrema() == (0, 255)
    assert list(toy.model_drawers(toy.RIVAL, FakePainter(), Sampling())) == ["rival"]


def test_the_model_is_held_against_the_other_ways_subject_by_subject():
    def scored(*values):
        return Scored({f"s{i}": dict.fromkeys(toy.COLUMNS, value) for i, value in enumerate(values)}, {})

    text = toy.toy_table({"model": scored(0.5, 0.9), "rival": scored(0.4, 0.8), toy.TEXT: scored(0.1, 0.7)})
    lines = text.splitlines()
    assert lines[2].startswith("| model | 2 | 0.700 ± 0.392 |")
    assert any(line.startswith("| model − rival | 0.100 ± 0.000 |") for line in lines), "of pairs, not of means"
    assert any(line.startswith("| model − text only | 0.300 ± 0.196 |") for line in lines)
    assert "rival −" not in text
    assert "difference" not in toy.toy_table({toy.TEXT: scored(0.1, 0.2)})


def test_every_way_has_a_folder_of_its_own(tmp_path):
    names = [toy.MODEL, toy.MODEL + toy.POSED, toy.RIVAL, toy.RIVAL + toy.POSED, toy.TEXT, toy.PASTE, toy.REAL]
    folders = {toy.folder_of(tmp_path, name) for name in names}
    assert len(folders) == len(names) and tmp_path / "images" / "model-depth-given" in folders
