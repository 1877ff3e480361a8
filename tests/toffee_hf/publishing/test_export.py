"""An exported pipeline loads where this package is not, and draws the same pixels."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from toffee_hf.publishing.export import export_pipeline
from toffee_hf.publishing.repository import files_of

ROOT = Path(__file__).parents[3]
ALONE = Path(__file__).parent / "alone.py"
WEIGHTS = ["depth_estimator/model.safetensors", "encoder/model.safetensors", "text_encoder/model.safetensors",
           "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"]
CODE = ["pipeline_toffee.py", "toffee_blocks.py", "unet/toffee_editor_unet.py", "vae/toffee_autoencoder.py"]


def picture(seed: int, size: tuple[int, int] = (64, 64)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8))


def drawn(pipeline: Any) -> np.ndarray:
    found = pipeline("a mug on the beach", picture(0), num_inference_steps=2, output_type="np",
                     generator=torch.Generator().manual_seed(0))
    return np.asarray(found.images)


def edited(pipeline: Any) -> np.ndarray:
    mask = Image.new("L", (64, 64))
    mask.paste(255, (16, 16, 48, 48))
    found = pipeline(["a mug", "a red mug"], picture(0), image=picture(1), mask_image=mask, num_inference_steps=2,
                     num_images_per_prompt=2, output_type="np", generator=torch.Generator().manual_seed(0))
    return np.asarray(found.images)


def alone(work: Path, *arguments: object, **environment: str) -> Any:
    """What `alone.py` finds in a process that has no way to import this package."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    variables |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(work / "hf"), **environment}
    done = subprocess.run([sys.executable, "-I", ALONE, *map(str, arguments)], cwd=work, env=variables,
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_repository_holds_weights_code_and_words(repository):
    assert [file.path for file in files_of(repository)] == sorted([
        "LICENSE", "README.md", "examples/drawn.png", "model_index.json", "modular_config.json",
        "modular_model_index.json", "scheduler/scheduler_config.json", "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json", *CODE, *WEIGHTS, *(f"{Path(name).parent}/config.json" for name in WEIGHTS)])


def test_the_code_is_ours_letter_by_letter(repository):
    for name in CODE:
        (original,) = (ROOT / "toffee_hf").rglob(Path(name).name)
        assert (repository / name).read_bytes() == original.read_bytes()


def test_the_index_names_the_copies(repository):
    index = json.loads((repository / "model_index.json").read_text())
    assert index["_class_name"] == ["pipeline_toffee", "ToffeePipeline"]
    assert index["unet"] == ["toffee_editor_unet", "ToffeeEditorUNet"]
    assert index["vae"] == ["toffee_autoencoder", "ToffeeAutoencoder"]
    assert index["text_encoder"] == ["transformers", "CLIPTextModel"]


def test_nothing_tells_where_it_was_made(repository, family):
    for file in files_of(repository):
        if file.source.suffix in (".json", ".md"):
            text = file.source.read_text()
            assert str(family.folder) not in text and str(ROOT) not in text
            assert '"_name_or_path"' not in text and '"local_files_only"' not in text


def test_weights_are_narrowed_only_where_nothing_is_lost(editor, repository, tmp_path):
    stored = load_file(repository / "unet" / "diffusion_pytorch_model.safetensors")
    assert {x.dtype for x in stored.values()} == {torch.float32}, "random weights do not fit"
    export_pipeline(editor, tmp_path / "half", "card", "licence", half=True)
    assert all(x.dtype != torch.float32 for name in WEIGHTS for x in load_file(tmp_path / "half" / name).values())
    assert editor.unet.dtype == torch.float32, "the pipeline itself stays as it was"


def test_what_fits_is_half_as_large_and_loads_as_float32(family, tmp_path):
    from diffusers import DiffusionPipeline

    pipeline = copy.deepcopy(family.refiner_pipeline)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            for parameter in part.parameters():
                parameter.data = parameter.data.half().float()
    export_pipeline(pipeline, tmp_path / "refiner", "card", "licence")
    stored = load_file(tmp_path / "refiner" / "unet" / "diffusion_pytorch_model.safetensors")
    assert {x.dtype for x in stored.values()} == {torch.float16}
    loaded = DiffusionPipeline.from_pretrained(tmp_path / "refiner", trust_remote_code=True)
    assert {part.dtype for part in loaded.components.values() if isinstance(part, torch.nn.Module)} == {torch.float32}
    for name, part in pipeline.components.items():
        if isinstance(part, torch.nn.Module):
            theirs = getattr(loaded, name).state_dict()
            assert all(torch.equal(theirs[key], value) for key, value in part.state_dict().items()), name


def test_alone_it_draws_the_same_pixels_in_both_forms(editor, repository, family, tmp_path):
    """Without this package, without a network, from another folder, beside two other exports."""
    other = tmp_path / "refiner"
    export_pipeline(family.refiner_pipeline, other, "card", "licence")
    again = tmp_path / "again"
    export_pipeline(editor, again, "card", "licence")
    told = alone(tmp_path, repository, other, again, tmp_path / "out")
    found = np.load(tmp_path / "out.npz")
    ours = {"drawn": drawn(editor), "edited": edited(editor)}
    for form in ("classic", "modular", "again", "saved"):
        for name, pixels in ours.items():
            assert np.array_equal(found[f"{form}_{name}"], pixels), f"{form}: {name}"
    assert told["dtypes"] == ["torch.float32"]
    assert told["modules"] == ["diffusers_modules"], "of no class of this package"
    assert "trust_remote_code=True" in told["classic_untrusted"] and "custom code" in told["classic_untrusted"]
    assert "trust_remote_code=True" in told["modular_untrusted"]
    assert told["others"] == ["ToffeeRefinerPipeline", "ToffeePipeline"]
    assert told["saved"] == ["ToffeePipeline", "ToffeeRefinerPipeline"]
    for name in ("pipeline_toffee.py", "unet/toffee_editor_unet.py", "vae/toffee_autoencoder.py"):
        assert (tmp_path / "out-0" / name).read_bytes() == (repository / name).read_bytes()


def test_an_index_for_a_hub_names_the_repository(editor, tmp_path):
    from diffusers import ModularPipeline

    export_pipeline(editor, tmp_path / "model", "card", "licence", repository="org/toffee")
    index = json.loads((tmp_path / "model" / "modular_model_index.json").read_text())
    assert {index[name][2]["pretrained_model_name_or_path"] for name in ("unet", "vae", "scheduler")} == {"org/toffee"}
    blocks = ModularPipeline.from_pretrained(str(tmp_path / "model"), trust_remote_code=True)
    blocks.load_components(trust_remote_code=True)
    assert type(blocks.unet).__name__ == "ToffeeEditorUNet", "what lies in the folder comes from there"
    with pytest.raises(ValueError, match="callback_on_step_end_tensor_inputs must be out of"):
        blocks(prompt="a mug", subject_image=picture(0), num_inference_steps=1,
               callback_on_step_end=lambda *told: {}, callback_on_step_end_tensor_inputs=["image"])


@pytest.mark.slow
def test_from_a_hub_it_draws_the_same_pixels_in_both_forms(editor, family, hub, tmp_path):
    folder = tmp_path / "model"
    export_pipeline(editor, folder, "card", "licence", repository="org/toffee")
    other = tmp_path / "refiner"
    export_pipeline(family.refiner_pipeline, other, "card", "licence")
    hub.api().create_repo("org/toffee")
    hub.api().upload_folder(repo_id="org/toffee", folder_path=folder)
    told = alone(tmp_path, "org/toffee", other, folder, tmp_path / "out", **hub.environment(None))
    found = np.load(tmp_path / "out.npz")
    for form in ("classic", "modular"):
        assert np.array_equal(found[f"{form}_drawn"], drawn(editor))
        assert np.array_equal(found[f"{form}_edited"], edited(editor))
    assert "trust_remote_code=True" in told["classic_untrusted"]
