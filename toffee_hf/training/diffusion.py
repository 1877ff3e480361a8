"""Training of the tiny diffusion models on the shared latent pool: base, ControlNet, Refiner and View Generator.

The base is trained first, then on together with its ControlNet; the others start from its weights. B batch, C latent
channels, h, w latent cells.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import ControlNetModel, EulerDiscreteScheduler, StableDiffusionControlNetPipeline, UNet2DConditionModel
from torch import Tensor
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTokenizer, Dinov2Model

from toffee_hf.drafting import draft_latents
from toffee_hf.evaluation.ways import DRAFT_STEPS, steered
from toffee_hf.models.toffee_refiner_unet import ToffeeRefinerUNet
from toffee_hf.models.toffee_view_unet import ToffeeViewUNet
from toffee_hf.perception.depth import control_picture, depth_of
from toffee_hf.training.ahead import Ahead, Drawn
from toffee_hf.training.loop import Schedule, fit
from toffee_hf.training.pool import SHOTS, Pool
from toffee_hf.training.refiner_examples import RefinerExample, refiner_examples
from toffee_hf.training.view_examples import ViewExample, view_examples

REFINED_FROM = (550, 950)             # steps of the noise schedule from which the Refiner starts
VIEWED_FROM = (840, 960)              # steps from which the View Generator starts
ON_THE_VIEW = 2.5                     # how much more an error of it counts on the object
DRAWN = 0.5                           # share of the Refiner's examples whose draft was drawn by the base
Text = tuple[Tensor, dict[str, Tensor] | None]     # hidden states (B, N, T), and what SDXL is told besides
DROP_TEXT = 0.12                      # share of examples that learn without their caption, for guidance
WORDINGS = 2                          # of each row's caption, where they are held
TOLD_DEPTH = 0.25                     # share of each batch that base and ControlNet draw by depth
ON_THE_SUBJECT = 2.0                  # how much more an error of base and ControlNet counts there
SIGMAS = (32.0, 1.4)                  # noise over signal between which pictures are drawn: of 1,000 steps 980 to 600
SEEN_AS_TOLD = 0.15                   # weight of depth that is seen elsewhere than it was told, against the error
LEARNT_THERE = 0.85                   # share of what base and ControlNet learn that lies between these
ANY_SHOT = 0.7                        # share of what they learn from shots in any pose and style
UNET: dict[str, Any] = {
    "sample_size": 16, "in_channels": 16, "out_channels": 16, "block_out_channels": (64, 96, 144),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 192, "attention_head_dim": 4, "norm_num_groups": 8,
    "addition_embed_type": "text",    # the caption as a whole reaches every layer: words alone teach shapes slowly
}


def noise_schedule() -> EulerDiscreteScheduler:
    """Cosine schedule down to zero signal, velocity prediction.

    Pictures are drawn between two levels of noise alone, and what is predicted at the lower one is the picture: further
    steps bring in more errors of a young model than they take out (docs/log.md).
    """
    return EulerDiscreteScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction",
                                  rescale_betas_zero_snr=True, timestep_spacing="trailing", use_exponential_sigmas=True,
                                  sigma_max=SIGMAS[0], sigma_min=SIGMAS[1])


class Captions:
    """Captions of pool rows as hidden states of the frozen text encoder.

    On a CPU a caption is worded when it is asked for; elsewhere WORDINGS of each row are held from the beginning.
    """

    def __init__(self, pool: Pool, tokenizer: CLIPTokenizer, encoder: CLIPTextModel, name: str) -> None:
        self.pool, self.tokenizer, self.name = pool, tokenizer, name
        self.encoder = encoder.eval().requires_grad_(False).to(pool.place.device)
        self.held: Tensor | None = None                   # (WORDINGS · rows + 1, N, T) half, the last without words
        if pool.place.device.type != "cpu":
            self.hold()

    def hold(self) -> None:
        """Word and encode everything."""
        choice = random.Random(f"{self.name}/captions")
        words = [self.pool.caption(i, choice) for _ in range(WORDINGS) for i in range(len(self.pool))]
        starts = range(0, len(words) + 1, 1024)
        self.held = torch.cat([self._states([*words, ""][i : i + 1024]).half() for i in starts])

    @torch.no_grad()
    def _states(self, words: list[str]) -> Tensor:
        ids = self.tokenizer(words, padding="max_length", truncation=True, return_tensors="pt").input_ids
        return self.encoder(ids.to(self.pool.place.device)).last_hidden_state

    def __call__(self, index: Tensor, step: int) -> Tensor:
        """Hidden states (B, N, T); DROP_TEXT of them of the empty caption.

        index: on the pool's device, whose default generator chooses among captions that are held.
        """
        if self.held is not None:
            wording = torch.randint(WORDINGS, index.shape, device=index.device)
            dropped = torch.rand(index.shape, device=index.device) < DROP_TEXT
            return self.held[torch.where(dropped, len(self.held) - 1, wording * len(self.pool) + index)].float()
        choice = random.Random(f"{self.name}/captions/{step}")
        words = [self.pool.caption(i, choice) for i in index.tolist()]
        return self._states(["" if choice.random() < DROP_TEXT else w for w in words])


def _noised(z: Tensor, t: Tensor, alphas: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy latents, velocity, and signal rate (B,) at steps t (B,)."""
    alpha = alphas[t].sqrt()
    a, s = alpha[:, None, None, None], (1 - alpha**2).clamp_min(0).sqrt()[:, None, None, None]
    noise = torch.randn(z.shape, generator=generator)
    return a * z + s * noise, a * noise - s * z, alpha


def train_base(unet: UNet2DConditionModel, pool: Pool, captions: Captions, schedule: Schedule, folder: Path, seed: int
               ) -> UNet2DConditionModel:
    """Text to image on every pool picture."""
    unet = unet.to(memory_format=torch.channels_last)
    alphas = noise_schedule().alphas_cumprod.to(pool.place.device)

    def loss(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        index = _mostly_any(pool, schedule.batch_size, generator)
        noisy, velocity, t = _noised_rows(pool, index, alphas, generator)
        found = unet(noisy, t, captions(index, step), return_dict=False)[0]
        return _on_the_subject(found, velocity, pool, index)

    fit("base", unet, loss, schedule, folder, seed, place=pool.place, recorded=True)
    return unet


def _mostly_any(pool: Pool, count: int, generator: torch.Generator) -> Tensor:
    """Rows (count,), ANY_SHOT of them in any pose and style, the others photos of a reference's kind."""
    people = torch.randint(pool.subjects, (count,), generator=generator)
    free = torch.rand(count, generator=generator) < ANY_SHOT
    return people * SHOTS + 2 * free + torch.randint(2, (count,), generator=generator)


def _noised_rows(pool: Pool, index: Tensor, alphas: Tensor, generator: torch.Generator
                 ) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy latents of pool rows, velocity, and steps (B,)."""
    z = pool.rows("image_latents", index).float()
    t = drawn_steps(len(z), alphas, generator)
    noisy, velocity, _ = _noised(z, t, alphas, generator)
    return noisy, velocity, t


def drawn_steps(count: int, alphas: Tensor, generator: torch.Generator) -> Tensor:
    """Steps (count,) to learn: most of them as pictures are drawn, evenly in the log of sigma between SIGMAS (and a
    quarter beyond either), the others anywhere."""
    low, high = math.log(SIGMAS[1] / 1.25), math.log(SIGMAS[0] * 1.25)
    where, which = torch.rand(2, count, generator=generator)
    logs = (1 / alphas.double() - 1).log() / 2
    there = torch.searchsorted(logs, (low + (high - low) * where).double()).clamp(max=len(alphas) - 1)
    return torch.where(which < LEARNT_THERE, there, (len(alphas) * where).long())


def _on_the_subject(found: Tensor, velocity: Tensor, pool: Pool, index: Tensor) -> dict[str, Tensor]:
    inside = F.avg_pool2d(pool.planes("mask", index), 8)
    return _weighted(found, velocity, 1 + ON_THE_SUBJECT * inside, inside)


def new_controlnet(unet: UNet2DConditionModel) -> ControlNetModel:
    """A ControlNet that starts from the base."""
    control = ControlNetModel.from_unet(unet, conditioning_channels=3,
                                        conditioning_embedding_out_channels=(8, 16, 32, 64))
    torch.nn.init.normal_(control.controlnet_cond_embedding.conv_out.weight, std=0.05)
    return control


def train_controlnet(control: ControlNetModel, pool: Pool, captions: Captions, unet: UNet2DConditionModel,
                     schedule: Schedule, folder: Path, seed: int) -> tuple[ControlNetModel, UNet2DConditionModel]:
    """Depth of the subject as a control, and the base on beside it: most of each batch is drawn by caption alone."""
    both = torch.nn.ModuleDict({name: model.to(memory_format=torch.channels_last)
                                for name, model in (("control", control), ("unet", unet))})
    alphas = noise_schedule().alphas_cumprod.to(pool.place.device)
    told = max(1, round(schedule.batch_size * TOLD_DEPTH))

    def loss(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        index = _mostly_any(pool, schedule.batch_size, generator)
        noisy, velocity, t = _noised_rows(pool, index, alphas, generator)
        text = captions(index, step)
        picture = control_picture(pool.planes("depth", index[:told]), pool.planes("mask", index[:told]))
        down, middle = control(noisy[:told], t[:told], text[:told], picture, return_dict=False)
        free = (0, 0) * 3 + (0, schedule.batch_size - told)
        found = unet(noisy, t, text, down_block_additional_residuals=[F.pad(d, free) for d in down],
                     mid_block_additional_residual=F.pad(middle, free), return_dict=False)[0]
        return _on_the_subject(found, velocity, pool, index)

    fit("controlnet", both, loss, schedule, folder, seed, place=pool.place, recorded=True)
    return control.eval(), unet.eval()


def train_consistency(control: ControlNetModel, pool: Pool, captions: Captions, unet: UNet2DConditionModel,
                      autoencoder: Any, depth: Any, schedule: Schedule, folder: Path, seed: int) -> ControlNetModel:
    """The ControlNet on, over the base as it is: the depth model must see in its pictures the depth that it was told.

    Source: ControlNet++ (Li et al., 2024, arXiv 2404.07987): the clean picture of one step is judged.
    """
    control, device = control.to(memory_format=torch.channels_last), pool.place.device
    unet, autoencoder, depth = (model.to(device).eval().requires_grad_(False) for model in (unet, autoencoder, depth))
    alphas = noise_schedule().alphas_cumprod.to(device)

    def loss(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        index = _mostly_any(pool, schedule.batch_size, generator)
        noisy, velocity, t = _noised_rows(pool, index, alphas, generator)
        told, mask, text = pool.planes("depth", index), pool.planes("mask", index), captions(index, step)
        down, middle = control(noisy, t, text, control_picture(told, mask), return_dict=False)
        found = unet(noisy, t, text, down_block_additional_residuals=down, mid_block_additional_residual=middle,
                     return_dict=False)[0].float()
        alpha = alphas[t].sqrt()[:, None, None, None]
        clean = alpha * noisy - (1 - alpha**2).clamp_min(0).sqrt() * found
        with torch.autocast(device.type, enabled=False):
            seen = depth_of(depth, autoencoder.pictures(clean).clamp(-1, 1))
        terms = _on_the_subject(found, velocity, pool, index)
        apart = 1 - _correlation(seen, told, mask).mean()
        return {**terms, "loss": terms["loss"] + SEEN_AS_TOLD * apart, "apart": apart.detach()}

    fit("consistency", control, loss, schedule, folder, seed, place=pool.place, recorded=True)
    return control.eval()


def _correlation(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """Pearson's correlation of planes (B, 1, H, W) by weights, (B,)."""
    total = weight.sum((1, 2, 3), keepdim=True).clamp_min(1)
    a, b = (x - (x * weight).sum((1, 2, 3), keepdim=True) / total for x in (a, b))
    both, one, other = ((x * y * weight).sum((1, 2, 3)) for x, y in ((a, b), (a, a), (b, b)))
    return both / (one * other).clamp_min(1e-8).sqrt()


@torch.no_grad()
def draw_drafts(pool: Pool, pipeline: StableDiffusionControlNetPipeline, count: int, seed: int, batch_size: int = 16
                ) -> None:
    """Let the base draw `count` rows of the pool anew, by their captions and the depth of their subjects."""
    choice = random.Random(f"drafts/{seed}")
    rows = torch.tensor(sorted(choice.sample(range(len(pool)), min(count, len(pool)))))
    latents = []
    for index in tqdm(rows.split(batch_size), desc="drafts", disable=None):
        picture = control_picture(pool.planes("depth", index), pool.planes("mask", index))
        prompts = [pool.caption(i, choice) for i in index.tolist()]
        generators = [torch.Generator().manual_seed(i) for i in index.tolist()]
        steering = steered([pool.shots[i].style for i in index.tolist()])
        latents.append(draft_latents(pipeline, prompts, picture, generators, DRAFT_STEPS, steering).half().cpu())
    for name, values in (("draft_latents", torch.cat(latents).numpy()), ("draft_rows", rows.numpy())):
        part = pool.folder / f"{name}.part"
        with part.open("wb") as file:
            np.save(file, values)
        part.rename(part.with_suffix(".npy"))


def train_refiner(model: ToffeeRefinerUNet, pool: Pool, captions: Captions, autoencoder: Any, encoder: Dinov2Model,
                  schedule: Schedule, folder: Path, seed: int) -> ToffeeRefinerUNet:
    """Restore a degraded picture from the features of an altered copy of it: single pictures, no pairs."""
    device = pool.place.device
    autoencoder, encoder = autoencoder.to(device), encoder.to(device)
    drawn = torch.from_numpy(np.array(pool.arrays["draft_rows"])).to(device) if "draft_rows" in pool.arrays else None
    alphas = noise_schedule().alphas_cumprod.to(pool.place.device)

    def draw(generator: torch.Generator) -> Drawn[RefinerExample]:
        index = torch.randint(len(pool), (schedule.batch_size,), generator=generator)
        if drawn is not None:
            chosen = drawn[torch.randint(len(drawn), index.shape, generator=generator)]
            index = torch.where(torch.rand(index.shape, generator=generator) < DRAWN, chosen, index)
        return refiner_examples(pool, index, autoencoder, encoder, generator), index

    def judged(drawn: Drawn[RefinerExample], step: int, generator: torch.Generator) -> dict[str, Tensor]:
        example, index = drawn
        return refiner_loss(model, example, (captions(index, step), None), alphas, generator)

    _fit_drawn("refiner", model, draw, judged, pool, schedule, folder, seed)
    return model


def _fit_drawn(name: str, model: Any, draw: Callable[[torch.Generator], Drawn[Any]],
               judged: Callable[[Drawn[Any], int, torch.Generator], dict[str, Tensor]], pool: Pool, schedule: Schedule,
               folder: Path, seed: int) -> None:
    """`fit` from drawn examples: on a CPU each step's own, elsewhere ones that are made ahead."""
    ahead = None if pool.place.device.type == "cpu" else Ahead(draw, pool.place, name, seed)

    def loss(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        return judged(draw(generator) if ahead is None else ahead.pick(schedule.batch_size, generator), step, generator)

    fit(name, model, loss, schedule, folder, seed, place=pool.place, recorded=True,
        prepare=None if ahead is None else ahead.renew)


def refiner_loss(model: ToffeeRefinerUNet, example: RefinerExample, text: Text, alphas: Tensor,
                 generator: torch.Generator) -> dict[str, Tensor]:
    """Error of the clean latents, weighted towards the subject, and the plain error inside its mask."""
    t = torch.randint(*REFINED_FROM, (len(example.clean),), generator=generator)
    from_draft = (torch.rand(len(t), generator=generator) < 0.5)[:, None, None, None]
    noisy, _, alpha = _noised(torch.where(from_draft, example.draft, example.clean), t, alphas, generator)
    found = model(noisy, t, text[0], example.draft, example.mask, *example.grid, alpha, text[1])
    return _weighted(found, example.clean, 0.25 + example.mask, example.mask)


def _weighted(found: Tensor, clean: Tensor, weight: Tensor, inside: Tensor) -> dict[str, Tensor]:
    """`loss` by the weights (B, 1, h, w), and what it is inside the subject."""
    error = (weight * (found - clean).square()).sum() / (weight.sum() * found.shape[1])
    return {"loss": error, "inside": ((found - clean).square() * inside).sum().detach()
            / (inside.sum() * found.shape[1])}


def train_view(model: ToffeeViewUNet, pool: Pool, captions: Captions, autoencoder: Any, encoder: Dinov2Model,
               schedule: Schedule, folder: Path, seed: int) -> ToffeeViewUNet:
    """Draw one shot of a subject from another shot of it in the same surroundings; most are told the turn.

    It learns the one step that it is to take, from the noised known view.
    """
    autoencoder, encoder = autoencoder.to(pool.place.device), encoder.to(pool.place.device)
    alphas = noise_schedule().alphas_cumprod.to(pool.place.device)

    def draw(generator: torch.Generator) -> Drawn[ViewExample]:
        people = torch.randint(pool.subjects, (schedule.batch_size,), generator=generator) * SHOTS
        swap = torch.randint(2, people.shape, generator=generator)
        shown, wanted = people + swap, people + 1 - swap
        return view_examples(pool, shown, wanted, autoencoder, encoder, generator), wanted

    def judged(drawn: Drawn[ViewExample], step: int, generator: torch.Generator) -> dict[str, Tensor]:
        example, wanted = drawn
        inside = F.avg_pool2d(pool.planes("mask", wanted), 8)
        return view_loss(model, example, (captions(wanted, step), None), inside, alphas, generator,
                         steps=VIEWED_FROM, from_known=1.0, on_object=ON_THE_VIEW)

    _fit_drawn("view", model, draw, judged, pool, schedule, folder, seed)
    return model


def view_loss(model: ToffeeViewUNet, example: ViewExample, text: Text, inside: Tensor, alphas: Tensor,
              generator: torch.Generator, *, steps: tuple[int, int] = (250, 950), from_known: float = 0.5,
              on_object: float = 0.0) -> dict[str, Tensor]:
    """Error of the clean latents, weighted towards the region, and the plain error inside the wanted view's mask.

    steps: of the noise schedule, from the first to before the second; from_known: share of the noisy latents that are
    the known view's, from which sampling starts, the others are the wanted view's, as in its later steps; on_object:
    how much more an error counts inside the mask.
    """
    t = torch.randint(*steps, (len(example.clean),), generator=generator)
    known = (torch.rand(len(t), generator=generator) < from_known)[:, None, None, None]
    noisy, _, alpha = _noised(torch.where(known, example.known, example.clean), t, alphas, generator)
    tokens, seen = model.tokens(example.features, example.subject, example.turn)
    found = model(noisy, t, text[0], tokens, seen, example.known, example.region, example.turned, example.covered,
                  alpha, text[1])
    return _weighted(found, example.clean, 0.1 + example.region + on_object * inside, inside)


