import json

import pytest

from builder.run_record import read_record
from tests.builder.report.made_folder import make_folder
from toffee_hf.errors import InputError

RUN = {"run8": "0a1b2c3d", "seed": 0}
DAMAGE = {
    "cut": "{", "deep": "[" * 100_000, "list": [], "no runs": {}, "runs": {"runs": 3}, "run": {"runs": [3]},
    "no seed": {"runs": [{"run8": "0a1b2c3d"}]}, "pairs": {"runs": [{**RUN, "pairs": "3"}]},
    "skipped": {"runs": [{**RUN, "skipped": [{"file": "a"}]}]}, "licences": {"runs": [RUN], "licences": []},
    "weights": {"runs": [{**RUN, "licences": {"weights": [{"name": "x"}]}}]},
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_record_is_one_sentence(tmp_path, name):
    damaged = DAMAGE[name]
    (tmp_path / "recipe.json").write_text(damaged if isinstance(damaged, str) else json.dumps(damaged))
    with pytest.raises(InputError, match="recipe.json cannot be read; remove it, and"):
        read_record(tmp_path)


def test_sound_records_are_read(tmp_path):
    made = make_folder(tmp_path / "toffee", {"editing": 1}, shards=1)
    assert read_record(made) == json.loads((made / "recipe.json").read_text())
    (tmp_path / "recipe.json").write_text(json.dumps({"runs": [RUN]}))
    assert read_record(tmp_path) == {"runs": [RUN]}
