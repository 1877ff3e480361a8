"""Work over processes: in order, one thread each, the same as in this process."""

import os

import pytest
import torch

from toffee_hf.evaluation.processes import spread


def told(family, part):
    return family.folder, part, os.getpid(), torch.get_num_threads()


@pytest.mark.parametrize("workers", [1, 2])
def test_every_part_is_done_in_order(family, workers):
    found = list(spread(told, family, [3, 1, 2], workers, "parts"))
    assert [(folder, part) for folder, part, *_ in found] == [(family.folder, part) for part in (3, 1, 2)]
    assert {threads for *_, threads in found} == {1}
    assert (os.getpid() in {pid for *_, pid, _ in found}) == (workers == 1)
