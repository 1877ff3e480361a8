"""Run by test_export.py in a process of its own: EDITOR OTHER AGAIN OUT."""

import json
import sys


class Guard:
    """No import of this package, should it be installed here."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("toffee_hf", "builder", "model_cards", "spaces", "tests"):
            raise ImportError(f"{name} is not for this process")


sys.meta_path.insert(0, Guard())

import numpy as np  # noqa: E402
import torch  # noqa: E402
from diffusers import DiffusionPipeline, ModularPipeline  # noqa: E402
from PIL import Image  # noqa: E402


def picture(seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (64, 64, 3), dtype=np.uint8))


def ask(pipeline, **more):
    found = pipeline(subject_image=picture(0), num_inference_steps=2, output_type="np",
                     generator=torch.Generator().manual_seed(0), **more)
    return np.asarray(found if isinstance(found, np.ndarray) else found.images)


def both(pipeline, **more):
    mask = Image.new("L", (64, 64))
    mask.paste(255, (16, 16, 48, 48))
    return {"drawn": ask(pipeline, prompt="a mug on the beach", **more),
            "edited": ask(pipeline, prompt=["a mug", "a red mug"], image=picture(1), mask_image=mask,
                          num_images_per_prompt=2, **more)}


def refusal(load):
    try:
        load()
    except ValueError as err:
        return str(err)
    return "loaded"


def again_saved(pipeline, folder):
    pipeline.save_pretrained(folder)
    return DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)


def main(editor, other, again, out):
    classic = DiffusionPipeline.from_pretrained(editor, trust_remote_code=True)
    others = [DiffusionPipeline.from_pretrained(folder, trust_remote_code=True) for folder in (other, again)]
    saved = [again_saved(pipeline, f"{out}-{i}") for i, pipeline in enumerate((classic, others[0]))]
    blocks = ModularPipeline.from_pretrained(editor, trust_remote_code=True)
    blocks.load_components(trust_remote_code=True)
    forms = {"classic": both(classic), "modular": both(blocks, output="images"), "again": both(others[1]),
             "saved": both(saved[0])}
    np.savez(f"{out}.npz", **{f"{form}_{name}": x for form, found in forms.items() for name, x in found.items()})
    models = [part for pipeline in (classic, blocks) for part in pipeline.components.values()
              if isinstance(part, torch.nn.Module)]
    ours = [type(part) for part in (classic, classic.unet, classic.vae, blocks.unet, blocks.vae)]
    print(json.dumps({
        "dtypes": sorted({str(part.dtype) for part in models}),
        "modules": sorted({cls.__module__.partition(".")[0] for cls in ours}),
        "classic_untrusted": refusal(lambda: DiffusionPipeline.from_pretrained(editor)),
        "modular_untrusted": refusal(lambda: ModularPipeline.from_pretrained(editor)),
        "others": [type(pipeline).__name__ for pipeline in others],
        "saved": [type(pipeline).__name__ for pipeline in saved]}))


main(*sys.argv[1:])
