"""The models of a recipe as one family in one folder, each loaded once a process, when it is first needed.

Folder layout, every model in the format of its own `save_pretrained`: `vae`, `tokenizer`, `clip` (its text tower is the
text encoder), `unet`, `controlnet`, `refiner`, `view`, `dino`, `depth`, `segmenter`, `domain`, `scheduler`; and where
there are any, `axis`, `classifier` (of toys) and `editor`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from toffee_hf.errors import InputError

TINY = Path(__file__).parent / "weights" / "tiny"
MEMBERS = ("vae", "tokenizer", "clip", "unet", "controlnet", "refiner", "view", "dino", "depth", "segmenter",
           "domain", "scheduler")
CAMERA = {"field_of_view": 0.628, "nearest": 1.5, "farthest": 9.0}     # radians; distances of depth 1 and 0
SAFE = {"use_safetensors": True}      # of every model that is loaded: a pickle can run anything


@cache
def open_family(name: str, device: str | None = None) -> Family:
    """The family of this process: `tiny`, or a folder. `device` defaults to the accelerator where there is one."""
    return Family(TINY if name == "tiny" else Path(name), device or default_device())


def default_device() -> str:
    """`cuda` where torch has it, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


class Family:
    """Models of one folder in float32, ready to run and not to train."""

    def __init__(self, folder: Path, device: str) -> None:
        missing = [name for name in MEMBERS if not (folder / name).is_dir()]
        if missing:
            raise InputError(f"{folder} lacks {', '.join(missing)}; a family has {', '.join(MEMBERS)}")
        self.folder, self.device = folder, device

    def ready(self, model: Any) -> Any:
        import torch

        memory_format = torch.channels_last if any(p.ndim == 4 for p in model.parameters()) else torch.contiguous_format
        return model.float().eval().requires_grad_(False).to(self.device, memory_format=memory_format)

    @cached_property
    def vae(self) -> Any:
        from toffee_hf.models.toffee_autoencoder import ToffeeAutoencoder

        return self.ready(ToffeeAutoencoder.from_pretrained(self.folder / "vae", **SAFE))

    @cached_property
    def tokenizer(self) -> Any:
        from transformers import CLIPTokenizer

        return CLIPTokenizer.from_pretrained(self.folder / "tokenizer")

    @cached_property
    def clip(self) -> Any:
        from transformers import CLIPModel

        return self.ready(CLIPModel.from_pretrained(self.folder / "clip", **SAFE))

    @property
    def text_encoder(self) -> Any:
        return self.clip.text_model

    def hidden_states(self, prompts: Sequence[str]) -> Any:
        """What the diffusion models are told of the prompts, (B, tokens, features)."""
        import torch

        ids = self.tokenizer(list(prompts), padding="max_length", truncation=True, return_tensors="pt").input_ids
        with torch.no_grad():
            return self.text_encoder(ids.to(self.device))[0]

    @cached_property
    def unet(self) -> Any:
        from diffusers import UNet2DConditionModel

        return self.ready(UNet2DConditionModel.from_pretrained(self.folder / "unet", **SAFE))

    @cached_property
    def controlnet(self) -> Any:
        from diffusers import ControlNetModel

        return self.ready(ControlNetModel.from_pretrained(self.folder / "controlnet", **SAFE))

    @cached_property
    def refiner_unet(self) -> Any:
        from toffee_hf.models.toffee_refiner_unet import ToffeeRefinerUNet

        return self.ready(ToffeeRefinerUNet.from_pretrained(self.folder / "refiner", **SAFE))

    @cached_property
    def view_unet(self) -> Any:
        from toffee_hf.models.toffee_view_unet import ToffeeViewUNet

        return self.ready(ToffeeViewUNet.from_pretrained(self.folder / "view", **SAFE))

    @cached_property
    def editor_unet(self) -> Any:
        """The editor, which a family may lack. Raises InputError."""
        from toffee_hf.training.editor import editor_of

        if not (self.folder / "editor").is_dir():
            raise InputError(f"the family {self.folder.name!r} has no editor; give the output of `toffee train editor`")
        return self.ready(editor_of(self.unet, self.folder / "editor"))

    @cached_property
    def dino(self) -> Any:
        from transformers import Dinov2Model

        return self.ready(Dinov2Model.from_pretrained(self.folder / "dino", **SAFE))

    @cached_property
    def depth(self) -> Any:
        from transformers import DepthAnythingForDepthEstimation

        return self.ready(DepthAnythingForDepthEstimation.from_pretrained(self.folder / "depth", **SAFE))

    @cached_property
    def axis(self) -> Any:
        """What finds the axes of objects, which a family may lack: None."""
        from toffee_hf.models.toffee_axis import ToffeeAxis

        if not (self.folder / "axis").is_dir():
            return None
        return self.ready(ToffeeAxis.from_pretrained(self.folder / "axis", **SAFE))

    @cached_property
    def segmenter(self) -> Any:
        from toffee_hf.models.toffee_segmenter import ToffeeSegmenter

        return self.ready(ToffeeSegmenter.from_pretrained(self.folder / "segmenter", **SAFE))

    @cached_property
    def classifier(self) -> Any:
        """The yardstick of evaluation; only a toy family has one."""
        from toffee_hf.models.toffee_classifier import ToffeeClassifier

        return self.ready(ToffeeClassifier.from_pretrained(self.folder / "classifier", **SAFE))

    @cached_property
    def domain(self) -> Any:
        from toffee_hf.models.toffee_domain import ToffeeDomain

        return self.ready(ToffeeDomain.from_pretrained(self.folder / "domain", **SAFE))

    def scheduler(self) -> Any:
        """A new scheduler, since pipelines keep state in theirs."""
        from diffusers import EulerDiscreteScheduler

        return EulerDiscreteScheduler.from_pretrained(self.folder / "scheduler")

    @cached_property
    def draft_pipeline(self) -> Any:
        """The stock depth-ControlNet pipeline of diffusers."""
        from diffusers import StableDiffusionControlNetPipeline

        return _quiet(StableDiffusionControlNetPipeline(
            vae=self.vae, text_encoder=self.text_encoder, tokenizer=self.tokenizer, unet=self.unet,
            controlnet=self.controlnet, scheduler=self.scheduler(), safety_checker=None, feature_extractor=None,
            requires_safety_checker=False))

    @cached_property
    def refiner_pipeline(self) -> Any:
        """`ToffeeRefinerPipeline`."""
        from toffee_hf.pipelines.pipeline_toffee_refiner import ToffeeRefinerPipeline

        pipeline = ToffeeRefinerPipeline(self.vae, self.text_encoder, self.tokenizer, self.refiner_unet, self.dino,
                                         self.scheduler())
        return _quiet(pipeline)

    @property
    def camera(self) -> dict[str, float]:
        """What its depth model and its View Generator take for granted, see `ToffeeViewPipeline`."""
        return dict(CAMERA)

    @cached_property
    def view_pipeline(self) -> Any:
        """`ToffeeViewPipeline`."""
        from toffee_hf.pipelines.pipeline_toffee_view import ToffeeViewPipeline

        pipeline = ToffeeViewPipeline(self.vae, self.text_encoder, self.tokenizer, self.view_unet, self.dino,
                                      self.scheduler(), **self.camera, axis=self.axis)
        return _quiet(pipeline)

    def editor_pipeline(self, unet: Any = None) -> Any:
        """`ToffeePipeline` around an editor, or around the family's own."""
        from toffee_hf.pipelines.pipeline_toffee import ToffeePipeline

        return _quiet(ToffeePipeline(self.vae, self.text_encoder, self.tokenizer, unet or self.editor_unet, self.dino,
                                     self.scheduler(), depth_estimator=self.depth))


def _quiet(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
