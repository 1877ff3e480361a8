"""Designs: every one paints in its palette's colours, shows all of them, and differs from the others."""

import itertools

import pytest
import torch

from toffee_hf.toy.designs import COLOURS, DARK_COLOUR, DESIGNS, MATERIALS, Design

PALETTE = ("red", "white", "blue")


def points(count=4000):
    """Points on a barrel like a subject's body: three (N,)."""
    u = torch.rand(2, count, generator=torch.Generator().manual_seed(0))
    angle = (u[0] - 0.5) * 6.2831
    return 0.35 * angle.sin(), 0.8 * u[1], 0.35 * angle.cos()


@pytest.mark.parametrize("name", DESIGNS)
@pytest.mark.parametrize("params", [(0.0,) * 4, (0.5,) * 4, (0.999,) * 4, (0.1, 0.9, 0.3, 0.7)], ids=str)
def test_a_pattern_names_colours_of_the_palette_and_at_least_two(name, params):
    index = DESIGNS[name](points(), params)
    assert set(index.unique().tolist()) <= {0.0, 1.0, 2.0}
    shares = [(index == k).float().mean().item() for k in range(3)]
    assert sorted(shares)[-2] > 0.02, "a second colour can be seen"
    body = Design(name, params, PALETTE).body(points())
    colours = torch.tensor([COLOURS[c] for c in PALETTE])
    assert torch.cdist(body, colours).amin(1).max() < 1e-6


@pytest.mark.parametrize("name", MATERIALS)
def test_a_material_brings_its_own_colours_in_range(name):
    body = Design(name, (0.5,) * 4, PALETTE).body(points())
    other = Design(name, (0.5,) * 4, ("green", "black", "pink")).body(points())
    assert body.shape == (4000, 3) and body.min() >= 0 and body.max() <= 1
    assert torch.equal(body, other) and body.std(0).max() > 0.03


@pytest.mark.parametrize("name", ["striped", *MATERIALS])
def test_parts_have_one_colour_or_the_material(name):
    design, p = Design(name, (0.5,) * 4, PALETTE), points(8)
    assert torch.allclose(design.part(3, p), torch.tensor(DARK_COLOUR))
    for slot in (1, 2):
        part = design.part(slot, p)
        assert part.shape == (8, 3) and part.min() >= 0 and part.max() <= 1
        if name in DESIGNS:
            assert torch.allclose(part, torch.tensor(COLOURS[PALETTE[slot]]))


def test_no_two_designs_look_the_same():
    bodies = {name: Design(name, (0.4, 0.3, 0.6, 0.2), PALETTE).body(points()) for name in (*DESIGNS, *MATERIALS)}
    for a, b in itertools.combinations(bodies, 2):
        assert ((bodies[a] - bodies[b]).abs().amax(1) > 0.1).float().mean() > 0.01, (a, b)


def test_colours_can_be_told_apart():
    values = torch.tensor(list(COLOURS.values()))
    apart = torch.cdist(values, values) + torch.eye(len(values))
    assert apart.min() > 0.15 and values.min() > 0 and values.max() < 1
