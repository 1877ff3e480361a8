import csv
import json
import os
import socket
from pathlib import Path

import pytest
from PIL import Image

from builder.subjects import index_subjects
from toffee_hf.errors import InputError


def picture(path, colour=(200, 30, 30), size=(48, 40)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def write_csv(folder, *lines, header=("file_name", "class_name", "subject_id")):
    with (folder / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *lines])


def reasons(index):
    return {line.file: line.reason for line in index.skipped}


def test_folders_name_classes(photos):
    index = index_subjects(str(photos), 32)
    assert len(index) == 10
    assert {subject.class_name for subject in index} == {"mug", "rubber duck"}
    assert len({subject.subject_id for subject in index}) == 10
    assert all(subject.read() for subject in index)


def test_names_and_places_do_not_matter_but_content_and_class_do(photos, tmp_path):
    before = index_subjects(str(photos), 32).digest
    (photos / "mug" / "0.png").rename(photos / "mug" / "zero.png")
    photos.rename(tmp_path / "moved")
    assert index_subjects(str(tmp_path / "moved"), 32).digest == before
    (tmp_path / "moved" / "mug").rename(tmp_path / "moved" / "cup")
    assert index_subjects(str(tmp_path / "moved"), 32).digest != before


def bad_files(folder):
    """Every kind of bad picture; returns the reason of each by name."""
    good = picture(folder / "mug" / "a good one.png")
    picture(folder / "mug" / "z copy.png")
    for name, data in {
        "zero.jpg": b"",
        "text.jpg": b"not a picture at all",
        "broken.png": good.read_bytes()[:20],
        "odd header.webp": b"RIFF\x00\x00\x00\x00WEBP",
    }.items():
        (folder / "mug" / name).write_bytes(data)
    (folder / "mug" / "x.png").mkdir()
    picture(folder / "mug" / "dot.png", size=(1, 1))
    picture(folder / "mug" / "long.png", size=(20_000, 10))
    bomb = Image.new("1", (12_000, 12_000))
    bomb.save(folder / "mug" / "bomb.png")
    picture(folder.parent / "outside.png", (1, 2, 3))
    (folder / "mug" / "link.png").symlink_to(folder.parent / "outside.png")
    (folder / "mug" / "loop.png").symlink_to(folder / "mug" / "loop.png")
    (folder / "mug" / "dangling.png").symlink_to(folder / "mug" / "nowhere.png")
    return {
        "zero.jpg": "empty", "text.jpg": "not_a_picture", "broken.png": "not_a_picture",
        "odd header.webp": "not_a_picture", "x.png": "unreadable_file", "dot.png": "too_small",
        "long.png": "too_", "bomb.png": "too_large", "link.png": "outside_folder", "loop.png": "",
        "dangling.png": "unreadable_file", "z copy.png": "duplicate: of mug/a good one.png",
    }  # fmt: skip


def test_a_bad_picture_costs_one_line_and_nothing_else(tmp_path):
    wanted = bad_files(tmp_path / "photos")
    index = index_subjects(str(tmp_path / "photos"), 32)
    found = reasons(index)
    assert len(index) == 1
    assert {name.removeprefix("mug/") for name in found} == set(wanted)
    for name, reason in wanted.items():
        assert found[f"mug/{name}"].startswith(reason), (name, found[f"mug/{name}"])


ODD = ["with space.png", 'it\'s "quoted".png', "new\nline.png", "茶壶 ☕.png", "comma, semi;colon.png", "-dash.png"]


def test_odd_names_are_fine_in_folders_and_metadata(tmp_path):
    for number, name in enumerate(ODD):
        picture(tmp_path / "folders" / "mug" / name, (number, 0, 0))
        picture(tmp_path / "listed" / name, (number, 0, 0))
    write_csv(tmp_path / "listed", *[(name, "mug", "") for name in ODD])
    folders, listed = index_subjects(str(tmp_path / "folders"), 32), index_subjects(str(tmp_path / "listed"), 32)
    assert len(folders) == len(ODD)
    assert folders.digest == listed.digest


def test_metadata_lines_that_lead_out_or_say_too_little_are_refused(tmp_path):
    folder = tmp_path / "photos"
    picture(folder / "in.png")
    picture(folder / "nameless.png", (9, 9, 9))
    outside = picture(tmp_path / "out.png", (1, 1, 1))
    (folder / "link.png").symlink_to(outside)
    write_csv(folder, ("in.png", "mug", "m1"), ("../out.png", "mug", ""), (str(outside), "mug", ""),
              ("link.png", "mug", ""), ("missing.png", "mug", ""), ("nameless.png", " ", ""), ("", "mug", ""),
              ("a\0b.png", "mug", ""), ("x" * 5000, "mug", ""))  # fmt: skip
    index = index_subjects(str(folder), 32)
    assert [(s.subject_id, s.class_name) for s in index] == [("m1", "mug")]
    found = reasons(index)
    assert found["../out.png"] == found["out.png"] == found["link.png"] == "outside_folder"
    assert found["nameless.png"] == "no_class_name"
    assert found["missing.png"].startswith("unreadable_file")
    assert found["metadata.csv:8"] == "bad_line"
    assert len(found) == 8


def test_json_lines_work_and_bad_ones_are_named(tmp_path):
    picture(tmp_path / "a.png")
    lines = [json.dumps({"file_name": "a.png", "class_name": "tea  pot"}), "{broken", "[1]", ""]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    index = index_subjects(str(tmp_path), 32)
    assert [subject.class_name for subject in index] == ["tea pot"]
    assert reasons(index) == {"metadata.jsonl:2": "bad_line", "metadata.jsonl:3": "bad_line"}


def test_one_subject_may_have_several_pictures(tmp_path):
    picture(tmp_path / "a.png", (1, 0, 0))
    picture(tmp_path / "b.png", (2, 0, 0))
    write_csv(tmp_path, ("a.png", "mug", "mine"), ("b.png", "mug", "mine"))
    assert [subject.subject_id for subject in index_subjects(str(tmp_path), 32)] == ["mine", "mine"]


def test_unusable_folders_are_one_sentence(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "both").mkdir()
    (tmp_path / "bad" / "mug").mkdir(parents=True)
    (tmp_path / "bad" / "mug" / "text.jpg").write_text("x")
    (tmp_path / "columns").mkdir()
    write_csv(tmp_path / "columns", ("a.png",), header=("file_name",))
    write_csv(tmp_path / "both")
    (tmp_path / "both" / "metadata.jsonl").write_text("")
    for name, says in {
        "empty": "put pictures into <class name>/ folders",
        "file": "is not a folder",
        "missing": "does not exist",
        "both": "keep one of them",
        "bad": "1 left out, the first is 'mug/text.jpg'",
        "columns": "missing: class_name",
    }.items():
        with pytest.raises(InputError, match=says):
            index_subjects(str(tmp_path / name), 32)


def test_a_picture_that_changes_after_indexing_is_noticed(photos):
    subject = index_subjects(str(photos), 32)[0]
    picture(photos.joinpath(subject.locator.path), (7, 7, 7))
    with pytest.raises(OSError, match="changed since"):
        subject.read()


def test_unknown_toys_are_refused():
    with pytest.raises(InputError, match="toy:held-out, toy:train"):
        index_subjects("toy:bears", 32)


def test_what_is_no_file_is_one_line(photos, tmp_path):
    os.mkfifo(photos / "mug" / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(photos / "mug" / "s.jpg"))
        index = index_subjects(str(photos), 32)
    assert len(index) == 10
    why = "unreadable_file: it is a pipe, a socket or a device"
    assert reasons(index) == {"mug/pipe.jpg": why, "mug/s.jpg": why}


NAMES = {
    "\udce9t\udce9": "not_utf8", "x" * 101: "long_class_name", "   ": "no_class_name",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_class_name_that_cannot_stand_in_a_row_costs_its_pictures(photos, name):
    picture(photos / name / "a.png", (1, 2, 3))
    index = index_subjects(str(photos), 32)
    assert (len(index), list(reasons(index).values())) == (10, [NAMES[name]])


def test_a_file_name_of_another_encoding_is_one_line(photos):
    (photos / "mug" / "0.png").rename(photos / "mug" / "\udce9.png")
    assert list(reasons(index_subjects(str(photos), 32)).values()) == ["not_utf8"]


def test_a_locked_class_folder_is_one_line(photos, monkeypatch):
    listing = Path.iterdir

    def locked(path):
        if path.name == "mug":
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(Path, "iterdir", locked)
    index = index_subjects(str(photos), 32)
    assert (len(index), reasons(index)) == (5, {"mug/": "unreadable_file: Permission denied"})


def test_outputs_of_ours_and_hidden_folders_are_no_classes(photos):
    picture(photos / "toffee" / "contact_sheet.png", (1, 2, 3))
    (photos / "toffee" / "receipts").mkdir()
    (photos / "toffee" / "recipe.json").write_text("{}")
    picture(photos / ".cache" / "a.png", (4, 5, 6))
    index = index_subjects(str(photos), 32)
    assert (len(index), index.skipped) == (10, ())


def test_a_linked_class_folder_is_followed(photos, tmp_path):
    picture(tmp_path / "elsewhere" / "a.png", (1, 2, 3))
    picture(tmp_path / "secret.png", (4, 5, 6))
    (tmp_path / "elsewhere" / "link.png").symlink_to(tmp_path / "secret.png")
    (photos / "teapot").symlink_to(tmp_path / "elsewhere")
    index = index_subjects(str(photos), 32)
    assert [subject.file for subject in index if subject.class_name == "teapot"] == ["teapot/a.png"]
    assert reasons(index) == {"teapot/link.png": "outside_folder"}
