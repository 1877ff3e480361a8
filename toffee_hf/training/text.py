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
from toffee_hf.training.loop import Schedule, fit
from toffee_hf.training.pool import Pool

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


def train_clip(model: CLIPModel, pool: Pool, tokenizer: CLIPTokenizer, schedule: Schedule, folder: Path, seed: int
               ) -> CLIPModel:
    """Contrastive training on pool pictures and their captions; each batch holds a subject once."""
    def loss(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        people = torch.randperm(pool.subjects, generator=generator)[: schedule.batch_size]
        index = people * 4 + torch.randint(4, people.shape, generator=generator)
        choice = random.Random(f"clip/{seed}/{step}")
        text = tokens(tokenizer, [pool.caption(int(i), choice) for i in index])
        x = pool.pictures("image", index)
        shift = torch.randint(-8, 9, (2,), generator=generator).tolist()
        x = torch.roll(x, shift, (-2, -1))
        out = model(**text, pixel_values=clip_pixels(x))
        target = torch.arange(len(index))
        logits = out.logits_per_text
        total = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        return {"loss": total, "accuracy": (logits.argmax(1) == target).float().mean()}

    fit("clip", model, loss, schedule, folder, seed)
    return model
