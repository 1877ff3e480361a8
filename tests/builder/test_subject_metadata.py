import pytest

from builder.subject_metadata import metadata_lines
from toffee_hf.errors import InputError

HEADER = "file_name,class_name\n"
GOOD = {"file_name": "a.png", "class_name": "mug"}
BAD_CSV = {
    "an open quote": '"b.png,mug\n',
    "an open quote among quotes": '"b.png,mug\n"c.png","mug"\n',
    "words after a quote": '"b" c.png,mug\n',
    "too many fields": "b.png,mug,1,2,3\n",
    "no file": ",mug\n",
    "a field without end": '"' + "x" * 200_000 + '",mug\n',
}


def lines(folder, name, text):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(metadata_lines(path))


@pytest.mark.parametrize("name", BAD_CSV)
def test_a_bad_csv_line_costs_only_itself(tmp_path, name):
    found = lines(tmp_path, "metadata.csv", f"{HEADER}a.png,mug\n{BAD_CSV[name]}\na.png,mug\n")
    good = [number for number, line in found if line == GOOD]
    assert (good[0], good[-1]) == (2, BAD_CSV[name].count("\n") + 4)
    assert (3, None) in found


def test_line_breaks_in_quotes_and_short_lines_are_fine(tmp_path):
    found = lines(tmp_path, "metadata.csv", f'{HEADER}"a\nb.png",mug\r\nc.png\r\n')
    assert found == [(2, {"file_name": "a\nb.png", "class_name": "mug"}), (4, {"file_name": "c.png"})]


@pytest.mark.parametrize("bad", ["{broken", "[1]", "[" * 100_000, '{"class_name": "mug"}', '"a.png"', "1" * 5000])
def test_a_bad_json_line_costs_only_itself(tmp_path, bad):
    found = lines(tmp_path, "metadata.jsonl", f'{{"file_name": "a.png", "class_name": "mug"}}\n{bad}\n')
    assert found == [(1, GOOD), (2, None)]


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_another_encoding_is_one_sentence(tmp_path, name, encoding):
    with pytest.raises(InputError, match=f"{name} is not UTF-8; save it as UTF-8"):
        lines(tmp_path, name, f"{HEADER}thé.png,tasse\n".encode(encoding))


def test_missing_columns_are_told_in_order(tmp_path):
    with pytest.raises(InputError, match="missing: file_name, class_name"):
        lines(tmp_path, "metadata.csv", "picture;class\n")
