"""Known pictures score high, far ones low, and a saved domain is the same domain."""

import torch

from toffee_hf.models.toffee_domain import ToffeeDomain


def cloud(count, seed=0):
    """Class tokens of 12 features, strongly correlated."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(12, 12, generator=torch.Generator().manual_seed(9))
    return torch.randn(count, 12, generator=generator) @ mix + 3


def test_the_known_are_near_and_the_unknown_far():
    domain = ToffeeDomain.fitted(cloud(4000))
    known = domain(cloud(500, seed=1))
    assert abs(known.mean() - 0.5) < 0.1, "a Gaussian's mean squared distance per feature is 1"
    assert domain(domain.mean[None]).item() > 0.999
    off_the_cloud = domain(cloud(500, seed=1).roll(1, 1))
    assert off_the_cloud.median() == -1, "no score leaves [-1, 1]"
    assert known.quantile(0.1) > 0


def test_it_is_the_mahalanobis_distance():
    tokens = cloud(4000)
    found = ToffeeDomain.fitted(tokens)(tokens[:20])
    centred = (tokens[:20] - tokens.mean(0)).double()
    exact = 1 - 0.5 * (centred @ torch.linalg.inv(torch.cov(tokens.double().T)) * centred).sum(-1) / 12
    assert torch.allclose(found.double(), exact.clamp(-1, 1), atol=0.1)


def test_saved_and_loaded_it_is_the_same(tmp_path):
    domain = ToffeeDomain.fitted(cloud(400))
    domain.save_pretrained(tmp_path)
    assert torch.equal(ToffeeDomain.from_pretrained(tmp_path)(cloud(5)), domain(cloud(5)))
