"""`toffee evaluate dreambench` by its arguments: what it refuses, what it writes, and that it goes on."""

import json

import pytest
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline
from transformers import CLIPTextModel

from builder.cli import main
from tests.tiny_family import write_family
from tests.tiny_metrics import write_dreambench, write_metrics, write_ready
from tests.toffee_hf.evaluation.dreambench.test_drawing import FakeEditor
from toffee_hf.family import Family
from toffee_hf.toy.world import ToySubject

BAD = {
    "nothing": ([], "give --model NAME, a pipeline that draws, or --ready DIR"),
    "both": (["--model", "a", "--ready", "ready"], "give --model NAME"),
    "no photographs": (["--ready", "ready"], "the photographs are not at hand: give --data DIR"),
    "no such data": (["--ready", "ready", "--data", "absent"], "absent holds no copy of DreamBench"),
    "empty": (["--ready", "empty", "--data", "data"], "empty holds no picture of the benchmark"),
    "absent": (["--ready", "absent", "--data", "data"], "absent is not a folder; pictures to score"),
    "no weights": (["--ready", "ready", "--data", "data"], "metric model dino (facebook/dino-vits16) are not at hand"),
    "one subject": (["--toy", "--subjects", "1"], "at least 2 subjects"),
    "prompts": (["--toy", "--prompts", "26"], "1 to 25 prompts"),
    "images": (["--toy", "--images", "0"], "at least 1 picture"),
    "batch": (["--toy", "--batch", "0"], "--batch must be at least 1"),
    "steps": (["--toy", "--steps", "0"], "--steps must be at least 1"),
    "toy ready": (["--toy", "--ready", "ready"], "not --ready or --data"),
    "rival": (["--toy", "--rival", "a"], "--rival is held against --model"),
    "family": (["--toy", "--family", "absent"], "absent lacks vae"),
    "output": (["--toy", "--output", "file"], "--output file is not a folder"),
    "model": (["--toy", "--model", "absent/pipeline", "--family", "family"], "cannot be opened as a"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A family, metric models, photographs and ready pictures, once."""
    folder = tmp_path_factory.mktemp("made")
    write_family(folder / "family")
    write_dreambench(folder / "data")
    write_ready(folder / "ready", ["mug1", "cat2"], [0, 12], 2)
    return folder, write_metrics(folder / "metrics")


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch, made):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ToySubject.render, "__defaults__", (64, "cpu"))
    monkeypatch.setattr("toffee_hf.evaluation.ways.DRAFT_STEPS", 2)
    for name in ("family", "data", "ready"):
        (tmp_path / name).symlink_to(made[0] / name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    return tmp_path


def status(*arguments):
    try:
        return main(["evaluate", "dreambench", *map(str, arguments)])
    except SystemExit as err:  # argparse
        return err.code


@pytest.mark.parametrize("name", BAD)
def test_a_bad_argument_is_one_sentence_and_writes_nothing(place, capsys, name):
    given, says = BAD[name]
    before = sorted(path.name for path in place.iterdir())
    assert status(*given) == 2
    said = capsys.readouterr()
    mine = [line for line in said.err.splitlines() if line.startswith("toffee")]
    assert len(mine) == 1 and says in mine[0] and said.out == ""
    assert sorted(path.name for path in place.iterdir()) == before


def test_ready_pictures_are_scored_beside_the_published_table(place, made, capsys):
    models = [word for name, folder in made[1].items() for word in (f"--{name}", folder)]
    assert status("--ready", "ready", "--data", "data", "--output", "out", "--prompts", 2, "--images", 2, *models) == 0
    said = capsys.readouterr().out
    assert "| ToffeeNet | 0.728 | 0.817 | 0.306 | – | arXiv 2406.09305 |" in said
    assert "4 of 12 pictures are missing" in said
    assert "measured here, 2 subjects, 8 pictures; dino, clip, segmenter from given folders" in said
    told = json.loads((place / "out" / "result.json").read_text())
    assert told["benchmark"] == "DreamBench" and set(told["metric models"]) == {"dino", "clip", "segmenter"}
    assert told["ways"]["ready"]["pictures"] == {"scored": 8, "missing": 4, "unused": 0}
    assert not list((place / "out").rglob("*.png")), "ready pictures stay where they are"


def test_a_pipeline_of_diffusers_draws_from_words(place, made, capsys):
    family = Family(made[0] / "family", "cpu")
    vae = AutoencoderKL(block_out_channels=(8, 8, 8, 8), layers_per_block=1, latent_channels=4, norm_num_groups=4,
                        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)
    text = CLIPTextModel(family.clip.config.text_config)
    StableDiffusionPipeline(vae, text, family.tokenizer, family.unet, DDIMScheduler(), None, None,
                            requires_safety_checker=False).save_pretrained(place / "painter")
    models = [word for name, folder in made[1].items() for word in (f"--{name}", folder)]
    short = ["--data", "data", "--output", "out", "--prompts", 1, "--images", 1, "--steps", 1, *models]
    assert status("--model", "painter", *short) == 0
    first = {path: path.stat().st_mtime_ns for path in (place / "out" / "images").rglob("*.png")}
    assert len(first) == 3
    assert status("--model", "painter", *short, "--images", 2) == 0
    assert all(path.stat().st_mtime_ns == time for path, time in first.items()), "drawn once"
    assert len(list((place / "out" / "images").rglob("*.png"))) == 6
    capsys.readouterr()
    assert status("--model", "painter", *short, "--seed", 1) == 2
    assert "drawn with another seed; give another --output" in capsys.readouterr().err
    drawn = json.loads((place / "out" / "result.json").read_text())["drawn"]
    assert drawn["model"] == "painter" and len(drawn["sha256"]) == 64 and drawn["steps"] == 1


def test_the_toy_benchmark_runs_anywhere(place, capsys, monkeypatch):
    (place / "editor").mkdir()
    monkeypatch.setattr("toffee_hf.evaluation.dreambench.drawing.open_pipeline", lambda located, trusted: FakeEditor())
    short = ["--toy", "--family", "family", "--output", "out", "--subjects", 2, "--prompts", 2, "--images", 1]
    assert status(*short) == 0
    assert "difference" not in capsys.readouterr().out
    assert status(*short, "--model", "editor", "--rival", "editor") == 0
    said = capsys.readouterr().out
    for way in ("model", "model, depth given", "rival", "text only", "reference pasted onto the draft"):
        assert f"| {way} | 2 |" in said
    assert "| model − text only |" in said and "| model, depth given − rival, depth given |" in said
    told = json.loads((place / "out" / "result.json").read_text())
    assert told["benchmark"] == "toy DreamBench" and len(told["ways"]) == 7
    assert told["ways"]["model"]["pictures"] == {"scored": 4, "missing": 0, "unused": 0}
    assert (place / "out" / "table.md").read_text() in said
