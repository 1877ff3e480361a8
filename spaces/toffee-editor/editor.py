"""The editor: a diffusers pipeline, loaded once, that draws for one visitor at a time."""

from __future__ import annotations

import html
import logging
import math
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:                                  # ZeroGPU's, which has to come before torch
    from spaces import GPU  # type: ignore[attr-defined]
except ImportError:
    def GPU(duration: Any) -> Any:
        """Off ZeroGPU functions run where they are."""
        return lambda function: function

import gradio as gr
from PIL import Image

from pictures import Unusable

MOST_LETTERS, MOST_SUBJECTS, MOST_SEED = 500, 4, 2**31 - 1
RANGES = {"Subject strength": (0.0, 2.0), "Steps": (1, 50), "Pictures": (1, 4), "Seed": (0, MOST_SEED)}
LOG = logging.getLogger("toffee")

_pipeline: Any = None
_missing = "The editor has not been loaded yet."
_drawing = threading.Lock()           # a pipeline holds the state of the call that runs


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What to draw. scene, mask: the picture to edit, and where; both or none. Raises Unusable."""

    prompt: str
    subjects: tuple[Image.Image, ...]
    scene: Image.Image | None = None
    mask: Image.Image | None = None
    subject_scale: float = 1.0
    steps: int = 20
    count: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.subjects:
            raise Unusable("Add a photo of your subject first: one thing, clearly seen.")
        if len(self.subjects) > MOST_SUBJECTS:
            raise Unusable(f"These are {len(self.subjects)} photos; keep at most {MOST_SUBJECTS}.")
        if not isinstance(self.prompt, str) or not self.prompt.strip():
            raise Unusable("Write a prompt first: name the subject, and say where it is or how it looks.")
        if len(self.prompt) > MOST_LETTERS:
            raise Unusable(f"The prompt has {len(self.prompt):,} characters, and at most {MOST_LETTERS} are read. "
                           "Shorten it to what matters.")
        if (self.scene is None) != (self.mask is None):
            raise Unusable("Paint on the scene where the subject should go, or choose a place below it.")
        for name, value in (("Subject strength", self.subject_scale), ("Steps", self.steps),
                            ("Pictures", self.count), ("Seed", self.seed)):
            _in_range(name, value)


def _in_range(name: str, value: Any) -> None:
    low, high = RANGES[name]
    whole = isinstance(low, int)
    if not isinstance(value, int if whole else int | float) or not low <= value <= high:
        raise Unusable(f"{name} must be {'a whole number' if whole else 'a number'} from {low} to {high}.")


def number(value: Any) -> Any:
    """What a browser or a program sent as a number: 20.0 and 20 are the same."""
    whole = isinstance(value, float) and math.isfinite(value) and value == int(value)
    return int(value) if whole else value


def load(name: str, revision: str | None = None) -> bool:
    """Load a folder or a Hub repository. Whether that worked; `missing` says why not."""
    global _pipeline, _missing
    import torch
    from diffusers import DiffusionPipeline

    on_gpu = torch.cuda.is_available()
    try:
        pipeline = DiffusionPipeline.from_pretrained(name, revision=revision, trust_remote_code=True,
                                                     dtype=torch.bfloat16 if on_gpu else torch.float32)
    except Exception:                 # whatever is wrong with a repository, the page says so and stays
        LOG.exception("the model %s cannot be loaded", name)
        _missing = (f"No model could be loaded from “{Path(name).name}”. Whoever runs this page sets "
                    "TOFFEE_MODEL to an exported editor, a folder or a Hub repository; the log says more.")
        return False
    pipeline.set_progress_bar_config(disable=True)
    _pipeline = pipeline.to("cuda" if on_gpu else "cpu")
    return True


def missing() -> str:
    """Why there is no editor; empty where there is one."""
    return "" if _pipeline is not None else _missing


def _seconds(wish: Wish) -> int:
    """What ZeroGPU reserves for a wish."""
    return 15 + wish.steps * wish.count


@GPU(duration=_seconds)
def drawn(wish: Wish) -> list[Image.Image]:
    """The pictures of a wish, picture i from seed + i, the same alone as in a row. Raises gr.Error."""
    import torch

    if _pipeline is None:
        raise friendly(_missing, "No editor")
    progress = gr.Progress()
    progress(0, desc="Waiting")

    def told(pipeline: Any, step: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        progress((step + 1, wish.steps), desc="Drawing", unit="steps")
        return tensors

    generators = [torch.Generator().manual_seed(wish.seed + i) for i in range(wish.count)]
    place = {} if wish.scene is None else {"image": wish.scene.convert("RGB"), "mask_image": wish.mask}
    with _drawing:
        progress((0, wish.steps), desc="Drawing", unit="steps")
        try:
            return list(_pipeline(wish.prompt, [list(wish.subjects)], subject_scale=float(wish.subject_scale),
                                  num_inference_steps=wish.steps, num_images_per_prompt=wish.count,
                                  generator=generators, callback_on_step_end=told, **place).images)
        except ValueError as err:     # the pipeline's own sentences about pictures and numbers
            raise friendly(str(err).replace("subject_image", "the subject's photo"), "That does not work") from err


def friendly(sentence: str, title: str = "Not yet") -> gr.Error:
    """A message for the visitor, as plain text whatever it quotes."""
    return gr.Error(html.escape(sentence, quote=False), title=title, duration=12, print_exception=False)
