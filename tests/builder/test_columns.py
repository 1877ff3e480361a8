import pytest

from builder.columns import CONFIGS, arrow_schema, column_names, features


@pytest.mark.parametrize("config", CONFIGS)
def test_what_is_written_is_what_datasets_would_write(config):
    wanted = features(config).arrow_schema
    assert arrow_schema(config).equals(wanted, check_metadata=True)
    assert arrow_schema(config).metadata == wanted.metadata


def test_source_and_mask_belong_to_editing():
    assert set(column_names("editing")) - set(column_names("generation")) == {"source", "mask"}
    assert set(column_names("rejected")) - set(column_names("editing")) == {"task", "reason"}
