"""The embedded recipe: 128-pixel pictures by the tiny family, which knows the toy world and nothing else.

Costs 2.9 s of one core a pair on a processor without AVX-512, less with it, and no download.
Thresholds: docs/thresholds.md.
"""

from __future__ import annotations

from builder.prompts import TURNS, toy_prompt
from builder.recipe import PromptPlan, Recipe, Weight
from builder.rules import Bounds
from builder.stages.draft import Draft
from builder.stages.refine import Refine
from builder.stages.score import Score, TargetMask
from builder.stages.subject import Decode, InDomain, SubjectMask
from builder.stages.view import View
from toffee_hf.drafting import Steering
from toffee_hf.family import TINY

SIZE_PX = 128


def tiny() -> Recipe:
    """Generation and editing pairs of toy-world subjects."""
    return Recipe(
        name="tiny", size_px=SIZE_PX,
        prompts=PromptPlan(write=toy_prompt, shares=(
            ("background", 0.4), ("style", 0.25), ("pose", 0.15), ("colour", 0.1), ("texture", 0.1))),
        stages=(
            Decode(size_px=SIZE_PX),
            InDomain(family="tiny", min_in_domain=0.25),
            SubjectMask(family="tiny"),
            View(family="tiny", pose_category="pose", turns=TURNS, share=0.5, widest_turn=0.9, min_similarity=0.86,
                 looks=4),
            Draft(family="tiny", steps=12, steering=Steering(guidance=3.2, guidance_end=0.75, control=2.0),
                  steerings=(("style", Steering(guidance=2.3, control=1.4)),)),
            Refine(family="tiny", transfers=(("background", "full"), ("style", "full"), ("pose", "full"),
                                           ("colour", "pattern"), ("texture", "palette")),
                   strength=0.8, steps=1, top_k=4, temperature=0.05, threshold=-1.0, nearness=1.0, margin_px=5,
                   feather_px=3, surfaces=(("background", 0.5), ("pose", 0.5)), grains=(("style", 0.5),),
                   looks=2, relight=True),
            TargetMask(family="tiny"),
            Score(family="tiny"),
        ),
        rules=(
            Bounds(score="mask_area", low=0.02, high=0.7, below="mask_unsound", above="mask_unsound"),
            Bounds(score="seg_dino", low=0.86, below="identity_lost", above="copy_paste",
                   lows=(("style", 0.69), ("colour", 0.85), ("texture", 0.79))),
            Bounds(score="detail", low=0.75, below="identity_lost", above="copy_paste",
                   lows=(("style", 0.635), ("pose", 0.865), ("colour", 0.5), ("texture", 0.75))),
            Bounds(score="copy", high=0.9, below="identity_lost", above="copy_paste"),
            Bounds(score="clip_t", low=0.54, below="prompt_missed", above="prompt_missed",
                   lows=(("style", 0.69), ("colour", 0.73), ("texture", 0.72))),
        ),
        weights=(Weight(name="tiny family", licence="apache-2.0", path=TINY,
                        source="trained by this repository (`toffee train tiny`)"),),
        seconds_per_pair=2.9, bytes_per_pair=45_000)
