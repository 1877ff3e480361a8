"""The tokenizer of the tiny family and the training of its CLIP, whose text tower conditions every diffusion model."""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from toffee_hf.perception.similarity import clip_pixels
from toffee_hf.toy.captions import caption
from toffee_hf.toy.scenes import SCENES
from toffee_hf.toy.styles import STYLES
from toffee_hf.training.loop import Schedule, fit
from toffee_hf.training.pool import SHOTS, Pool

MAX_TOKENS = 32


def train_tokenizer(lines: list[str], folder: Path) -> CLIPTokenizer:
    """A byte-level BPE of CLIP's kind, learned from `lines` and saved to `folder`."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=1000, initial_alphabet=alphabet, end_of_word_suffix="</w>",
                                  show_progress=False)
    tokenizer.train_from_iterator(lines, trainer)
    learned = tokenizer.get_vocab()
    pairs = json.loads(tokenizer.to_str())["model"]["merges"]
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in pairs]
    words = [*alphabet, *(a + "</w>" for a in alphabet), *sorted(learned, key=learned.__getitem__),
             "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(words))}
    clip = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_TOKENS)
    clip.save_pretrained(folder)
    return clip


def clip_config(tokenizer: CLIPTokenizer) -> CLIPConfig:
    """Two towers of 192 features and 4 layers; pictures of 128 px in patches of 16."""
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id}
    tower = {"hidden_size": 192, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512,
             "projection_dim": 128}
    return CLIPConfig(
        text_config={**tower, **ends, "vocab_size": len(tokenizer), "max_position_embeddings": MAX_TOKENS},
        vision_config={**tower, "image_size": 128, "patch_size": 16}, projection_dim=128, logit_scale_init_value=2.3)


def tokens(tokenizer: CLIPTokenizer, captions: list[str]) -> dict[str, Tensor]:
    """Padded token ids and mask, each (B, MAX_TOKENS)."""
    found = tokenizer(captions, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt")
    return {"input_ids": found["input_ids"], "attention_mask": found["attention_mask"]}


def new_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    """Two towers for this tokenizer's words."""
    return CLIPModel(clip_config(tokenizer))


def train_clip(model: CLIPModel, pool: Pool, tokenizer: CLIPTokenizer, schedule: Schedule, folder: Path, seed: int,
               locked: bool = False) -> CLIPModel:
    """Contrastive training on pool pictures and their captions; each batch holds a subject once.

    Every picture is also held against its own caption with another style, scene or subject in it, or the score would go
    by the scene, which is most of a picture. locked: the text tower stays as it is, for other models listen to it
    (Zhai et al., LiT, 2022).
    """
    model.requires_grad_(True)
    if locked:
        for part in (model.text_model, model.text_projection):
            part.requires_grad_(False)

    def loss(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        people = torch.randperm(pool.subjects, generator=generator)[: schedule.batch_size]
        index = people * 4 + torch.randint(4, people.shape, generator=generator)
        worded = [_wordings(pool, int(i), random.Random(f"clip/{seed}/{step}/{i}")) for i in index]
        text = model.get_text_features(**tokens(tokenizer, [words for row in worded for words in row])).pooler_output
        text = F.normalize(text, dim=-1).unflatten(0, (len(index), -1))
        image = model.get_image_features(pixel_values=clip_pixels(_seen(pool.pictures("image", index), generator)))
        image = F.normalize(image.pooler_output, dim=-1)
        scale, target = model.logit_scale.exp(), torch.arange(len(index))
        logits = scale * image @ text[:, 0].T
        twisted = scale * (image[:, None] * text[:, 1:]).sum(-1)
        same = torch.tensor([[words == row[0] for words in row[1:]] for row in worded])
        twisted = twisted.masked_fill(same, -torch.inf)
        total = (F.cross_entropy(torch.cat([logits, twisted], 1), target) + F.cross_entropy(logits.T, target)) / 2
        return {"loss": total, "accuracy": (logits.argmax(1) == target).float().mean(),
                "untwisted": (logits.diagonal()[:, None] > twisted).float().mean()}

    fit("clip", model, loss, schedule, folder, seed)
    return model


def _wordings(pool: Pool, i: int, choice: random.Random) -> list[str]:
    """A caption of row i, and the same with another style, another scene and another subject."""
    subject, shot = pool.people[i // SHOTS], pool.shots[i]
    other = pool.people[choice.randrange(len(pool.people))]
    style, scene = (choice.choice([name for name in names if name != mine])
                    for names, mine in ((list(STYLES), shot.style), (list(SCENES), shot.scene)))
    key = choice.random()
    return [caption(thing.class_name, thing.design, place, manner, shot.camera.yaw, random.Random(key))
            for thing, place, manner in ((subject, shot.scene, shot.style), (subject, shot.scene, style),
                                         (subject, scene, shot.style), (other, shot.scene, shot.style))]


def _seen(x_B3HW: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures shifted, and half of the batches less sharp, as drawn pictures are."""
    shift = torch.randint(-8, 9, (2,), generator=generator).tolist()
    x = torch.roll(x_B3HW, shift, (-2, -1))
    if torch.rand((), generator=generator) < 0.5:
        x = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2, mode="bilinear", align_corners=False)
    return x
