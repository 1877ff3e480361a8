from builder.seeds import generator_for, seed_for


def test_seeds_depend_on_every_name_and_on_their_borders():
    asked = [(0,), (1,), (0, 1), (0, "1"), (0, 1, 2), (0, 12), (0, "a", "b"), (0, "ab"), (0, "a", "b", 0)]
    seeds = {seed_for(*names) for names in asked}
    assert len(seeds) == len(asked)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seeds_are_the_same_everywhere():
    assert seed_for(7, "pair", 3) == 8946138601025421714


def test_generators_are_fresh():
    import torch

    first, again = (torch.rand(3, generator=generator_for(1, 2, "draft", 0)) for _ in range(2))
    other = torch.rand(3, generator=generator_for(1, 2, "draft", 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
