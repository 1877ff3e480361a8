import datasets
import pytest
from PIL import Image

from builder.subject_datasets import is_dataset
from builder.subjects import index_subjects
from toffee_hf.errors import InputError


def rows(**columns):
    pictures = [Image.new("RGB", (40, 40), (k, 0, 0)) for k in (1, 2, 2)]
    made = datasets.Dataset.from_dict({"image": pictures, "class_name": ["mug", "duck", "duck"], **columns})
    return made.cast_column("image", datasets.Image())


def parquet_folder(made, folder):
    folder.mkdir()
    made.to_parquet(folder / "train-00000.parquet")
    return str(folder)


@pytest.mark.parametrize("kind", ["parquet", "saved"])
def test_rows_become_subjects(tmp_path, kind):
    made = rows(subject_id=["a", "b", "c"])
    if kind == "parquet":
        spec = parquet_folder(made, tmp_path / "data")
    else:
        made.save_to_disk(spec := str(tmp_path / "data"))
    index = index_subjects(spec, 32)
    assert {(s.subject_id, s.class_name) for s in index} == {("a", "mug"), ("b", "duck")}
    assert [(line.file, line.reason) for line in index.skipped] == [("row 2", "duplicate: of row 1")]
    assert all(subject.read()[:4] == b"\x89PNG" for subject in index)


def test_a_column_that_is_missing_is_named(tmp_path):
    spec = parquet_folder(rows().remove_columns("class_name"), tmp_path / "data")
    with pytest.raises(InputError, match="missing: class_name"):
        index_subjects(spec, 32)


def test_what_cannot_be_opened_is_the_users_to_mend(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.parquet").write_bytes(b"not parquet")
    with pytest.raises(InputError, match="cannot be opened as a dataset"):
        index_subjects(str(tmp_path / "data"), 32)


def parquet(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"PAR1")


PLACES = {
    "top": ("a.parquet", "", True), "data": ("data/deep/a.parquet", "", True),
    "elsewhere": ("other/a.parquet", "", False),
    "listed": ("other/a.parquet", "---\nconfigs:\n- data_files:\n  - path: other/train-*\n---\n", True),
    "listed elsewhere": ("other/a.parquet", "---\nconfigs:\n- data_files: ../x/*\n---\n", False),
}  # fmt: skip


@pytest.mark.parametrize("name", PLACES)
def test_a_folder_is_a_dataset_by_where_its_parquet_lies(tmp_path, name):
    path, card, wanted = PLACES[name]
    parquet(tmp_path / path)
    if card:
        (tmp_path / "README.md").write_text(card)
    assert is_dataset(str(tmp_path)) is wanted


def test_photos_beside_parquet_are_photos(photos):
    parquet(photos / "toffee" / "generation" / "train-0.parquet")
    parquet(photos / "a.parquet")
    assert not is_dataset(str(photos))
    assert len(index_subjects(str(photos), 32)) == 10
