"""Pictures are drawn once, by their own seeds, under a record that must not change."""

import json
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DModel
from PIL import Image

from toffee_hf.errors import InputError, RunMismatch
from toffee_hf.evaluation.dreambench.drawing import (
    Reference,
    Sampling,
    draw_missing,
    draw_with,
    locate_pipeline,
    open_pipeline,
    takes_subject,
    weights_hash,
)
from toffee_hf.evaluation.dreambench.protocol import Job

JOBS = [Job(subject, index, n, f"a {subject} {index}", 100 * index + n)
        for subject in ("mug", "cat") for index in (0, 7) for n in (0, 1)]
RECORD = {"model": "mine", "seed": 0}


class FakeEditor:
    """Takes what ToffeePipeline takes, and paints the first number of each generator."""

    def __init__(self):
        self.calls = []

    def __call__(self, prompt, subject_image=None, subject_mask=None, depth_image=None, num_inference_steps=20,
                 guidance_scale=2.0, generator=None, output_type="pil"):
        self.calls.append({name: value for name, value in locals().items() if name != "self"})
        shades = [int(torch.randint(256, (1,), generator=g)) for g in generator]
        return SimpleNamespace(images=[Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in shades])


class FakePainter(FakeEditor):
    """Takes words only."""

    def __call__(self, prompt, num_inference_steps=50, generator=None, output_type="pil"):
        return super().__call__(prompt, num_inference_steps=num_inference_steps, generator=generator)


def drawer(pipeline):
    return lambda jobs: draw_with(pipeline, jobs, None, Sampling())


def test_a_pipeline_is_shown_the_subject_if_it_takes_one():
    assert takes_subject(FakeEditor()) and not takes_subject(FakePainter())
    editor, shown = FakeEditor(), Image.new("RGB", (8, 8))
    mask = Image.new("L", (8, 8))
    draw_with(editor, JOBS[:2], Reference(shown, mask), Sampling(5, 3.0))
    call = editor.calls[0]
    assert call["prompt"] == ["a mug 0", "a mug 0"] and call["output_type"] == "pil"
    assert call["subject_image"] == [shown, shown] and call["subject_mask"] == [mask, mask]
    assert call["num_inference_steps"] == 5 and call["guidance_scale"] == 3.0 and call["depth_image"] is None
    draw_with(editor, JOBS[:2], Reference(shown, None, mask), Sampling())
    assert editor.calls[1]["subject_mask"] is None and editor.calls[1]["depth_image"] == [mask, mask]
    assert editor.calls[1]["num_inference_steps"] == 20, "left to the pipeline"


def test_words_are_all_that_other_pipelines_get():
    assert len(draw_with(FakePainter(), JOBS[:3], None, Sampling())) == 3


def test_a_pipeline_that_cannot_draw_so_is_one_sentence():
    class Repainter(FakePainter):
        def __call__(self, prompt, image=None, generator=None, output_type="pil"):
            raise ValueError("Input is in incorrect format.\nCurrently, we only support pictures")

    for pipeline, asked, reason in ((Repainter(), Sampling(), "incorrect format"),
                                    (FakePainter(), Sampling(guidance=3.0), "guidance_scale")):
        with pytest.raises(InputError, match=f"cannot draw.*--guidance.*{reason}") as err:
            draw_with(pipeline, JOBS[:2], None, asked)
        assert "\n" not in str(err.value)


def test_pictures_do_not_depend_on_the_batch(tmp_path):
    for size in (1, 8):
        assert draw_missing(JOBS, tmp_path / str(size), drawer(FakePainter()), RECORD, size) == len(JOBS)
    files = [{p.relative_to(tmp_path / str(size)): p.read_bytes() for p in (tmp_path / str(size)).rglob("*.png")}
             for size in (1, 8)]
    assert files[0] == files[1] and len(files[0]) == len(JOBS) and len(set(files[0].values())) > 2


def test_a_batch_holds_one_subject(tmp_path):
    pipeline = FakePainter()
    draw_missing(JOBS, tmp_path / "x", drawer(pipeline), RECORD, 3)
    assert [len(call["prompt"]) for call in pipeline.calls] == [3, 1, 3, 1]


def test_a_stopped_run_goes_on_and_ends_as_an_unbroken_one(tmp_path):
    class Stopped(FakePainter):
        def __call__(self, prompt, num_inference_steps=50, generator=None, output_type="pil"):
            if len(self.calls) == 2:
                raise KeyboardInterrupt
            return super().__call__(prompt, generator=generator)

    with pytest.raises(KeyboardInterrupt):
        draw_missing(JOBS, tmp_path / "a", drawer(Stopped()), RECORD, 2)
    assert len(list((tmp_path / "a").rglob("*.png"))) == 4
    assert draw_missing(JOBS, tmp_path / "a", drawer(FakePainter()), RECORD, 2) == len(JOBS) - 4
    assert draw_missing(JOBS, tmp_path / "a", drawer(FakePainter()), RECORD, 2) == 0
    draw_missing(JOBS, tmp_path / "b", drawer(FakePainter()), RECORD, 2)
    assert all((tmp_path / "a" / p.relative_to(tmp_path / "b")).read_bytes() == p.read_bytes()
               for p in (tmp_path / "b").rglob("*.png"))
    assert not list(tmp_path.rglob(".tmp-*"))


def test_pictures_drawn_otherwise_are_not_mixed_in(tmp_path):
    draw_missing(JOBS, tmp_path, drawer(FakePainter()), RECORD, 2)
    with pytest.raises(RunMismatch, match="drawn with another seed, steps; give another --output"):
        draw_missing(JOBS, tmp_path, drawer(FakePainter()), {**RECORD, "seed": 1, "steps": 3}, 2)
    (tmp_path / "drawn.json").write_text("{")
    with pytest.raises(InputError, match="drawn.json is damaged"):
        draw_missing(JOBS, tmp_path, drawer(FakePainter()), RECORD, 2)
    (tmp_path / "drawn.json").unlink()
    with pytest.raises(InputError, match="holds files, but no drawn.json"):
        draw_missing(JOBS, tmp_path, drawer(FakePainter()), RECORD, 2)


def test_steps_must_be_some():
    with pytest.raises(InputError, match="--steps must be at least 1, got 0"):
        Sampling(0)


def test_a_folder_is_known_by_its_weights(tmp_path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "model.safetensors").write_bytes(b"1")
    first = weights_hash(tmp_path)
    assert locate_pipeline(str(tmp_path), False).identity() == {"model": str(tmp_path), "revision": None,
                                                                "sha256": first}
    (tmp_path / "unet" / "model.safetensors").write_bytes(b"2")
    assert weights_hash(tmp_path) != first


def test_what_is_no_pipeline_is_one_sentence(tmp_path):
    for open_it in (lambda: locate_pipeline("absent/pipeline", False),
                    lambda: open_pipeline(locate_pipeline(str(tmp_path), False), False)):
        with pytest.raises(InputError, match="cannot be opened as a diffusers pipeline") as err:
            open_it()
        assert "\n" not in str(err.value)


def test_weights_cut_short_are_one_sentence(tmp_path):
    UNet2DModel(8, block_out_channels=(8,), down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
                norm_num_groups=4).save_pretrained(tmp_path / "unet")  # fmt: skip
    DDPMScheduler().save_pretrained(tmp_path / "scheduler")
    (tmp_path / "model_index.json").write_text(json.dumps({
        "_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"],
        "scheduler": ["diffusers", "DDPMScheduler"]}))
    located = locate_pipeline(str(tmp_path), False)
    open_pipeline(located, False)
    (weights,) = tmp_path.rglob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(InputError, match="cannot be opened as a diffusers pipeline"):
        open_pipeline(located, False)


def test_code_of_a_pipeline_is_run_only_if_asked(tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": ["pipeline_own", "OwnPipeline"]}))
    (tmp_path / "pipeline_own.py").write_text(
        "from diffusers import DiffusionPipeline\nclass OwnPipeline(DiffusionPipeline):\n    def __init__(self):\n"
        "        super().__init__()\n    def __call__(self, subject_image=None): ...\n")
    with pytest.raises(InputError, match="brings code of its own; read it, then add --trust-remote-code"):
        open_pipeline(locate_pipeline(str(tmp_path), False), False)
    assert takes_subject(open_pipeline(locate_pipeline(str(tmp_path), True), True))
