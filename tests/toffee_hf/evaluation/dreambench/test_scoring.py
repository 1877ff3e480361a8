"""Scores by subject, the published table, and what a result tells."""

import json
import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.tiny_metrics import write_dreambench, write_metrics, write_ready
from tests.toffee_hf.evaluation.dreambench.test_drawing import FakeEditor, FakePainter
from toffee_hf.errors import InputError, RunMismatch
from toffee_hf.evaluation.dreambench import scoring
from toffee_hf.evaluation.dreambench.drawing import Located, Sampling
from toffee_hf.evaluation.dreambench.metric_models import open_judge
from toffee_hf.evaluation.dreambench.protocol import Extent, Found, find_pictures, jobs_of, read_dreambench
from toffee_hf.evaluation.dreambench.scoring import (
    PUBLISHED,
    Scored,
    draw_dreambench,
    dreambench_table,
    first_photo,
    result,
    score,
    shortfall,
    write_result,
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return read_dreambench(write_dreambench(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def judge(bench, tmp_path_factory):
    return open_judge(bench, **write_metrics(tmp_path_factory.mktemp("metrics")))


class Brightness:
    """A judge that scores how red a picture is."""

    def __init__(self):
        self.batches = []

    def scores(self, jobs, pictures):
        self.batches.append([job.place for job in jobs])
        return {"DINO": torch.tensor([picture.getpixel((0, 0))[0] / 255 for picture in pictures])}


def red(folder, values):
    """Pictures of one subject a line, of these reds."""
    for subject, shades in values.items():
        for n, shade in enumerate(shades):
            (folder / subject / "00").mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (shade, 0, 0)).save(folder / subject / "00" / f"{n}.png")
    return folder


def test_a_subject_counts_once_however_many_pictures_it_has(bench, tmp_path):
    jobs = jobs_of(bench, Extent(3, 1, 4), 0)
    found = find_pictures(red(tmp_path, {"mug1": [0, 51, 102, 255], "cat2": [255]}), jobs)
    judge = Brightness()
    scored = score(found, judge, 3)
    assert scored.means["mug1"]["DINO"] == pytest.approx(0.4) and scored.means["cat2"]["DINO"] == 1.0
    assert scored.figure("DINO").mean == 0.7 and scored.figure("DINO").n == 2
    assert scored.pictures == {"mug1": 4, "cat2": 1}
    assert [len(batch) for batch in judge.batches] == [3, 1, 1]


def test_what_is_missing_is_told_with_counts(bench, tmp_path):
    jobs = jobs_of(bench, Extent(3, 1, 4), 0)
    found = find_pictures(red(tmp_path, {"mug1": [0, 1, 2, 3], "cat2": [9]}), jobs)
    assert shortfall(found, jobs) == ("7 of 12 pictures are missing, of 2 prompts of 2 subjects (1 subjects have none "
                                      "and do not count); first: cat2/00/1")
    assert shortfall(Found({}, (), 0), []) == ""


def test_the_table_has_ours_and_what_others_published(bench):
    scored = Scored({"mug1": {"DINO": 0.5, "CLIP-I": 0.6, "CLIP-T": 0.3, "Seg-DINO": math.nan},
                     "cat2": {"DINO": 0.7, "CLIP-I": 0.6, "CLIP-T": 0.3, "Seg-DINO": math.nan}}, {"mug1": 1, "cat2": 2})
    lines = dreambench_table("mine", scored).splitlines()
    assert lines[0] == "| method | DINO | CLIP-I | CLIP-T | Seg-DINO | source |"
    assert lines[2] == ("| mine | 0.600 ± 0.196 | 0.600 ± 0.000 | 0.300 ± 0.000 | – | measured here, 2 subjects, "
                        "3 pictures |")
    assert lines[3] == "| ToffeeNet | 0.728 | 0.817 | 0.306 | – | arXiv 2406.09305 |"
    assert "| SuTI | 0.741 | 0.819 | 0.304 | – | arXiv 2304.00186; figures as in Toffee, arXiv 2406.09305 |" in lines
    assert len(lines) == 3 + len(PUBLISHED) == 10
    assert "3 pictures; dino, clip from given folders |" in dreambench_table("mine", scored, ["dino", "clip"])


def test_the_page_shows_the_same_published_table():
    page = (Path(__file__).parents[4] / "docs" / "dreambench.md").read_text()
    for p in PUBLISHED:
        assert f"| {p.method} | {p.dino:.3f} | {p.clip_i:.3f} | {p.clip_t:.3f} | {p.paper} |" in page


def test_a_result_is_plain_json_with_all_that_a_card_needs(bench, tmp_path):
    jobs = jobs_of(bench, Extent(3, 1, 2), 0)
    found = find_pictures(red(tmp_path / "p", {"mug1": [0, 255], "cat2": [51]}), jobs)
    scored = score(found, Brightness(), 4)
    scored.means["cat2"]["Seg-DINO"] = scored.means["mug1"]["Seg-DINO"] = math.nan
    told = result({"mine": scored}, {"mine": found}, Extent(3, 1, 2), {"benchmark": "DreamBench"})
    write_result(tmp_path / "out", told, "the table")
    read = json.loads((tmp_path / "out" / "result.json").read_text())
    assert read["asked"] == {"subjects": 3, "prompts": 1, "pictures": 2} and "torch" in read["versions"]
    mine = read["ways"]["mine"]
    assert mine["figures"]["Seg-DINO"] == {"mean": None, "half": None, "n": 0}
    assert mine["subjects"]["cat2"] == {"pictures": 1, "DINO": pytest.approx(0.2), "Seg-DINO": None}
    assert mine["pictures"] == {"scored": 3, "missing": 3, "unused": 0}
    assert (tmp_path / "out" / "table.md").read_text() == "the table\n"
    with pytest.raises(InputError, match="table.md cannot be written"):
        write_result(tmp_path / "out" / "table.md", told, "")


def test_a_subject_is_shown_by_its_first_photograph_and_its_mask(bench, judge, monkeypatch):
    mask = torch.zeros(1, 1, 40, 48)
    monkeypatch.setattr(judge, "mask", lambda picture, name: mask)
    assert first_photo(bench[0], judge).mask is None
    mask[..., 10:20] = 1
    shown = first_photo(bench[0], judge)
    assert shown.picture.size == shown.mask.size == (48, 40) and shown.mask.getextrema() == (0, 255)


@pytest.mark.parametrize("fake", [FakeEditor, FakePainter])
def test_a_pipeline_draws_and_is_scored_and_a_second_run_draws_nothing(bench, judge, tmp_path, monkeypatch, fake):
    pipeline = fake()
    monkeypatch.setattr(scoring, "open_pipeline", lambda located, trusted: pipeline)
    jobs = jobs_of(bench, Extent(3, 2, 2), 0)
    located = Located("mine", tmp_path, None, "0" * 64)

    def run(seed=0):
        return draw_dreambench(bench, jobs, judge, tmp_path / "images", located, Sampling(), trusted=False, seed=seed,
                               batch_size=3)

    found = run()
    assert len(found.paths) == len(jobs) == 12 and not found.missing and found.unused == 0
    calls = len(pipeline.calls)
    assert calls == 6 and run().paths == found.paths and len(pipeline.calls) == calls
    with pytest.raises(RunMismatch, match="another seed"):
        run(seed=1)
    scored = score(found, judge, 4)
    assert set(scored.columns) == set(scoring.COLUMNS) and scored.figure("DINO").n == 3
    assert json.loads((tmp_path / "images" / "drawn.json").read_text())["masks"] == judge.sources["segmenter"]


def test_ready_pictures_are_scored_by_the_real_classes(bench, judge, tmp_path):
    jobs = jobs_of(bench, Extent(3, 2, 2), 0)
    ready = write_ready(tmp_path, ["mug1", "cat2", "bear_plushie"], [0, 12], 2, "jpg")
    scored = score(find_pictures(ready, jobs), judge, 3)
    assert all(-1 <= scored.figure(column).mean <= 1 for column in ("DINO", "CLIP-I", "CLIP-T"))
    (ready / "cat2" / "12" / "1.jpg").write_bytes(b"half a pict")
    with pytest.raises(InputError, match="cat2/12/1.jpg cannot be read as a picture"):
        score(find_pictures(ready, jobs), judge, 3)
