"""DreamBench's yardsticks of full size: DINO ViT-S/16, CLIP ViT-B/32, and CLIPSeg for masks.

B batch, N photographs, D features, H, W pixels. Weights are read from safetensors only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from safetensors import SafetensorError
from torch import Tensor

from toffee_hf.errors import InputError
from toffee_hf.evaluation.dreambench.protocol import BenchSubject, Job
from toffee_hf.family import default_device
from toffee_hf.perception.clipseg import clipseg_masks
from toffee_hf.perception.similarity import CLIP_MEAN, CLIP_STD, clip_texts, cosine
from toffee_hf.pipelines.pipeline_toffee_refiner import IMAGENET_MEAN, IMAGENET_STD, box_to_box, mask_box
from toffee_hf.training.backbone import SEGMENTER, Source

# Commits that hold safetensors; both main branches hold a pickle only.
DINO = Source("facebook/dino-vits16", "a7a4d161f5c0bd70478c05ca5777ec7cd8848021", "apache-2.0")
CLIP = Source("openai/clip-vit-base-patch32", "c237dc49a33fc61debc9276459120b7eac67e7ef", "unknown")
FRAME = 0.9                           # part of the picture that a cut-out subject fills
WEIGHTS_FILE = "model.safetensors"


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What a model's published `preprocessor_config.json` says of its pixels.

    crop: the short side is made the model's and the middle is cut out; otherwise both sides are made the model's.
    """

    crop: bool
    resample: Image.Resampling
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, pictures: Sequence[Image.Image], size_px: int) -> Tensor:
        """Normalised pixels (B, 3, size_px, size_px) of RGB pictures of any size."""
        pixels = torch.stack([torch.from_numpy(np.array(self._sized(p, size_px))) for p in pictures])
        x = pixels.permute(0, 3, 1, 2).float() / 255
        mean, std = (x.new_tensor(v)[:, None, None] for v in (self.mean, self.std))
        return (x - mean) / std

    def _sized(self, picture: Image.Image, size_px: int) -> Image.Image:
        if not self.crop:
            return picture.resize((size_px, size_px), self.resample)
        short = min(picture.size)
        width, height = (int(side * size_px / short) for side in picture.size)
        left, top = (width - size_px) // 2, (height - size_px) // 2
        resized = picture.resize((width, height), self.resample)
        return resized.crop((left, top, left + size_px, top + size_px))


DINO_PIXELS = Preprocessing(False, Image.Resampling.BILINEAR, IMAGENET_MEAN, IMAGENET_STD)
CLIP_PIXELS = Preprocessing(True, Image.Resampling.BICUBIC, CLIP_MEAN, CLIP_STD)


@dataclass(frozen=True, slots=True)
class Features:
    """What the models see in pictures: dino, clip, cut (B, D each), and whether the mask shows a subject, (B,)."""

    dino: Tensor
    clip: Tensor
    cut: Tensor
    shown: Tensor


class DreamBenchJudge:
    """Scores pictures against a subject's photographs and their prompts. Photographs are looked at once."""

    def __init__(self, subjects: Sequence[BenchSubject], dino: Any, clip: Any, tokenizer: Any, segmenter: Any,
                 segmenter_tokenizer: Any, sources: dict[str, dict[str, Any]]) -> None:
        self.device = default_device()
        self.subjects = {subject.name: subject for subject in subjects}
        self.dino, self.clip, self.segmenter = (m.eval().requires_grad_(False).to(self.device)
                                                for m in (dino, clip, segmenter))
        self.tokenizer, self.segmenter_tokenizer = tokenizer, segmenter_tokenizer
        self.sources = sources
        self.photos: tuple[str, Features] | None = None

    def scores(self, jobs: Sequence[Job], pictures: Sequence[Image.Image]) -> dict[str, Tensor]:
        """DINO, CLIP-I, CLIP-T and Seg-DINO, (B,) each, of pictures of one subject.

        DINO and CLIP-I are mean cosines to every photograph of the subject. Seg-DINO is DINO's between subjects cut
        out by their class word: 0 where a picture shows none, NaN where no photograph does.
        """
        subject = self.subjects[jobs[0].subject]
        seen, real = self.features(pictures, subject.class_name), self._photos(subject)
        text = clip_texts(self.clip, self.tokenizer, [job.prompt for job in jobs])
        return {"DINO": mean_cosine(seen.dino, real.dino), "CLIP-I": mean_cosine(seen.clip, real.clip),
                "CLIP-T": cosine(seen.clip, text).cpu(),
                "Seg-DINO": mean_cosine(seen.cut, real.cut[real.shown]) * seen.shown.cpu()}

    def _photos(self, subject: BenchSubject) -> Features:
        if self.photos is None or self.photos[0] != subject.name:
            found = self.features([open_picture(path) for path in subject.photos], subject.class_name)
            self.photos = subject.name, found
        return self.photos[1]

    @torch.no_grad()
    def features(self, pictures: Sequence[Image.Image], class_name: str) -> Features:
        """Of RGB pictures of any size that should show a thing of this class."""
        masks = [self.mask(picture, class_name) for picture in pictures]
        cut = [cut_out(picture, mask) for picture, mask in zip(pictures, masks, strict=True)]
        clip_size = self.clip.config.vision_config.image_size
        clip = self.clip.get_image_features(pixel_values=CLIP_PIXELS(pictures, clip_size).to(self.device))
        shown = torch.tensor([bool(mask.any()) for mask in masks], device=self.device)
        return Features(self._class_tokens(pictures), clip.pooler_output, self._class_tokens(cut), shown)

    def _class_tokens(self, pictures: Sequence[Image.Image]) -> Tensor:
        pixels = DINO_PIXELS(pictures, self.dino.config.image_size).to(self.device)
        found: Tensor = self.dino(pixel_values=pixels).last_hidden_state[:, 0]
        return found

    def mask(self, picture: Image.Image, class_name: str) -> Tensor:
        """The mask (1, 1, H, W) of 0 and 1 of the thing that the class word names; empty where there is none."""
        x = picture_pixels(picture).to(self.device)
        return clipseg_masks(self.segmenter, self.segmenter_tokenizer, x, [class_name]).cpu()


def mean_cosine(a_BD: Tensor, real_ND: Tensor) -> Tensor:
    """Mean cosine of each picture to every photograph, (B,); NaN where there is no photograph."""
    return torch.stack([cosine(a[None], real_ND).mean() for a in a_BD]).cpu()


def picture_pixels(picture: Image.Image) -> Tensor:
    """(1, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1


def cut_out(picture: Image.Image, mask_11HW: Tensor) -> Image.Image:
    """The subject on grey, in a square around its box, in its own proportions; all grey where the mask is empty."""
    x = picture_pixels(picture) * mask_11HW
    height, width = x.shape[-2:]
    x0, y0, x1, y1 = mask_box(mask_11HW)[0].tolist()
    half = max((x1 - x0) * width, (y1 - y0) * height) / 4 / FRAME          # pixels
    middle = torch.tensor([(x0 + x1) / 2, (y0 + y1) / 2])
    reach = torch.tensor([2 * half / width, 2 * half / height])
    side = max(1, round(2 * half))
    whole = torch.tensor([[-1.0, -1.0, 1.0, 1.0]])
    affine = box_to_box(whole, torch.cat([middle - reach, middle + reach])[None])
    canvas = torch.nn.functional.grid_sample(
        x, torch.nn.functional.affine_grid(affine, [1, 3, side, side], align_corners=False), align_corners=False)
    return Image.fromarray(((canvas[0] + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy())


def open_picture(path: Path) -> Image.Image:
    """An RGB picture, upright. Raises InputError where the file is not a picture."""
    try:
        with Image.open(path) as opened:
            return ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as err:
        raise InputError(f"{path} cannot be read as a picture; remove it or make it again ({err})") from err


def open_judge(subjects: Sequence[BenchSubject], dino: str = "", clip: str = "", segmenter: str = ""
               ) -> DreamBenchJudge:
    """The published models, or folders with copies of them. Raises InputError where weights are not at hand."""
    from transformers import CLIPModel, CLIPSegForImageSegmentation, CLIPTokenizer, ViTModel

    sources: dict[str, dict[str, Any]] = {}

    def opened(name: str, given: str, source: Source, cls: Any, **settings: Any) -> Any:
        place = {"pretrained_model_name_or_path": given} if given else {
            "pretrained_model_name_or_path": source.repository, "revision": source.revision}
        try:
            model = cls.from_pretrained(**place, **settings)
        except (OSError, ValueError, SafetensorError) as err:
            reason = str(err).partition("\n")[0][:200]
            raise InputError(f"the weights of the metric model {name} ({given or source.repository}) are not at hand; "
                             f"fetch them with a network, or give a folder with --{name} ({reason})") from err
        if "use_safetensors" in settings:
            sources[name] = _record(Path(given), source) if given else {
                **asdict(source), "revision": model.config._commit_hash}
        return model

    weights = {"use_safetensors": True}
    models = (opened("dino", dino, DINO, ViTModel, add_pooling_layer=False, **weights),
              opened("clip", clip, CLIP, CLIPModel, **weights), opened("clip", clip, CLIP, CLIPTokenizer),
              opened("segmenter", segmenter, SEGMENTER, CLIPSegForImageSegmentation, **weights),
              opened("segmenter", segmenter, SEGMENTER, CLIPTokenizer))
    return DreamBenchJudge(subjects, *models, sources)


def _record(folder: Path, source: Source) -> dict[str, Any]:
    """A copy in a folder is known by its weights' hash."""
    weights = folder / WEIGHTS_FILE
    digest = hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else None
    return {"repository": f"a copy, in place of {source.repository}", "revision": None, "sha256": digest,
            "model_type": json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")}
