"""`datasets` and `diffusers`, unmodified, load from the stand-in what was published to it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.hub_stand_in import Hub, cut_download, status

CARD = """---
configs:
- config_name: generation
  default: true
  data_files: [{split: train, path: generation/train-*}]
- config_name: editing
  data_files: [{split: train, path: editing/train-*}]
---
"""
LOAD = """
from datasets import get_dataset_config_names, load_dataset
assert get_dataset_config_names("org/toffee") == ["generation", "editing"]
for streaming in (False, True):
    rows = list(load_dataset("org/toffee", split="train", streaming=streaming))
    assert [row["id"] for row in rows] == ["generation-0", "generation-1", "generation-2"], rows
    rows = list(load_dataset("org/toffee", "editing", split="train", streaming=streaming, revision="v1"))
    assert rows[0] == {"id": "editing-0", "picture": bytes(range(256)) * 100}, rows
"""
STREAM = """
from datasets import load_dataset
rows = load_dataset("org/toffee", split="train", streaming=True)
assert [row["id"] for row in rows] == ["generation-0", "generation-1", "generation-2"]
"""
PUSH = """
from datasets import Dataset, load_dataset
made = Dataset.from_dict({"id": [str(i) for i in range(10)]})
made.push_to_hub("org/pushed", num_shards=2)
made.push_to_hub("org/pushed", num_shards=2)
assert load_dataset("org/pushed", split="train").to_list() == made.to_list()
"""
PIPELINE = """
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
made = DDPMPipeline(UNet2DModel(sample_size=8, block_out_channels=(8,), layers_per_block=1, norm_num_groups=4,
                                down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",)), DDPMScheduler())
made.save_pretrained("editor", repo_id="org/toffee-editor", push_to_hub=True)
from diffusers import DiffusionPipeline
got = DiffusionPipeline.from_pretrained("org/toffee-editor")
assert all((a == b).all() for a, b in zip(made.unet.parameters(), got.unet.parameters(), strict=True))
assert got(num_inference_steps=1).images[0].size == (8, 8)
"""


def run(hub: Hub, code: str, token: str | None = None, **environment: str) -> None:
    environment.setdefault("USE_TORCH", "0")   # `datasets` imports it for a stream, which takes longer than the rest
    done = hub.python(code, token, OMP_NUM_THREADS="1", **environment)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture
def dataset(hub: Hub, tmp_path: Path) -> Hub:
    """Two configs of three rows in two shards each, tagged v1."""
    folder = tmp_path / "toffee"
    for config in ("generation", "editing"):
        (folder / config).mkdir(parents=True)
        for shard, numbers in enumerate(([0, 1], [2])):
            rows = [{"id": f"{config}-{number}", "picture": bytes(range(256)) * 100} for number in numbers]
            pq.write_table(pa.Table.from_pylist(rows), folder / config / f"train-{shard:05d}.parquet")
    (folder / "README.md").write_text(CARD)
    hub.api().create_repo("org/toffee", repo_type="dataset")
    hub.api().upload_folder(repo_id="org/toffee", folder_path=folder, repo_type="dataset")
    hub.api().create_tag("org/toffee", tag="v1", repo_type="dataset")
    return hub


def test_a_dataset_is_loaded_whole_and_streamed_by_anybody(dataset: Hub) -> None:
    run(dataset, LOAD)
    assert dataset.count("download", 206) > 0, "a stream reads ranges"
    assert dataset.count("unknown", 200) == 0


def test_a_stream_goes_on_after_faults(dataset: Hub) -> None:
    dataset.faults.inject("download", status(503))
    dataset.faults.inject("download", cut_download(1000), after=1)
    run(dataset, STREAM)
    assert {one.fault.name for one in dataset.requests if one.kind == "download"} == {"", "status 503", "cut download"}


@pytest.mark.parametrize("without_xet", ["0", "1"])
def test_a_dataset_is_pushed_and_pushed_again(hub: Hub, without_xet: str) -> None:
    run(hub, PUSH, hub.write, HF_HUB_DISABLE_XET=without_xet)
    assert hub.count("lfs-put") == (2 if without_xet == "1" else 0)


@pytest.mark.slow
def test_a_pipeline_is_pushed_and_loaded(hub: Hub) -> None:
    run(hub, PIPELINE, hub.write, USE_TORCH="1")
    assert "unet/config.json" in hub.repository("org/toffee-editor", "model").files
