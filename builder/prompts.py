"""Stage 2: prompts. Each category of change has its own sentence; the seed of a pair chooses the words."""

from __future__ import annotations

import random

# Words of a pose prompt (the viewer's left and right), radians about the vertical.
TURNS = (("turned to the left", -1.1), ("turned to the right", 1.1))


def toy_prompt(seed: int, category: str, class_name: str) -> str:
    """A prompt in the words of the toy world; `category` is one of background, style, pose, colour, texture."""
    from toffee_hf.toy.captions import article, in_style, place
    from toffee_hf.toy.designs import COLOURS, MATERIALS
    from toffee_hf.toy.scenes import SCENES
    from toffee_hf.toy.styles import STYLES

    choice = random.Random(seed)
    where = place(choice.choice(list(SCENES)), choice)
    if category == "style":
        style = choice.choice([name for name in STYLES if name != "photo"])
        return in_style(style, f"{article(class_name)} {where}", choice)
    if category == "pose":
        return in_style("photo", f"{article(class_name)} {choice.choice(TURNS)[0]} {where}", choice)
    if category == "colour":
        return in_style("photo", f"{article(choice.choice(list(COLOURS)) + ' ' + class_name)} {where}", choice)
    if category == "texture":
        surface = choice.choice(("striped", "polka-dot", "checkered", "zigzag", *MATERIALS))
        return in_style("photo", f"{article(surface + ' ' + class_name)} {where}", choice)
    return in_style("photo", f"{article(class_name)} {where}", choice)
