"""What a page sends is looked at as a stranger's, and the page's own pictures stay while those of visitors go."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace

import pytest
from PIL import Image

app = pytest.importorskip("app")
editing = pytest.importorskip("editing")
NUMBERS = [1, 1, 1, 0, False]


@pytest.fixture
def uploads(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    (tmp_path / "gradio").mkdir()
    return tmp_path / "gradio"


@pytest.fixture
def upload(uploads):
    """A picture among the uploads, as a page names it."""
    Image.new("RGBA", (64, 64), "white").save(uploads / "a.png")
    return {"path": str(uploads / "a.png")}


def said(sent, prompt="a mug", drawing=None, place="Where I paint"):
    with pytest.raises(editing.gr.Error) as caught:
        editing._drawn(sent, prompt, drawing, place, *NUMBERS)
    return caught.value.message


def chosen(gallery, index=0, slider=None):
    return editing.compared(slider or gallery, gallery, SimpleNamespace(index=index))


def test_pictures_of_the_page_outlive_those_of_visitors(uploads):
    from gradio.route_utils import delete_files_created_by_app

    page = app.make_page("no-model", "no-dataset")
    parts = {part.elem_id: part for part in page.blocks.values() if getattr(part, "elem_id", None)}
    visitors = parts["subjects"].move_resource_to_block_cache(__file__)
    kept = [part.icon["path"] for part in page.blocks.values() if getattr(part, "icon", None)]
    assert len(kept) == len(list(editing.EXAMPLES.glob("*.png"))) - 1
    for path in editing.EXAMPLES.glob("*.png"):         # as a click on an example puts them there
        kept += [parts[name].move_resource_to_block_cache(path) for name in ("subjects", "scene")]
    time.sleep(0.01)
    delete_files_created_by_app(page, age=0)
    assert not os.path.exists(visitors) and all(map(os.path.exists, kept))


def test_pictures_are_kept_for_an_hour_at_most():
    frequency, age = app.make_page("no-model", "no-dataset").delete_cache
    assert 0 < frequency + age <= 3600 and age >= 3000


def test_what_has_been_swept_is_to_be_added_again(upload, uploads):
    gone = {"path": str(uploads / "gone.png")}
    assert said([{"image": gone}]) == "Photo 1 is no longer kept; add it again."
    assert said([{"image": upload}], drawing={"background": gone, "layers": []}).startswith("The scene is no longer")
    with pytest.raises(editing.gr.Error, match="no longer kept; draw it again"):
        chosen([{"image": gone}], slider=[upload, upload])


NO_UPLOADS = [{"path": 5}, {"path": None}, {"path": ["a"]}, {"path": "a\0b"}, {"name": "a"}, "str", ["x"], 5, [[]]]


@pytest.mark.parametrize("sent", NO_UPLOADS, ids=repr)
def test_what_is_no_upload_is_a_sentence(sent, upload):
    again = "is not among the uploads: add it again."
    assert said([{"image": sent}]) == f"Photo 1 {again}"
    assert said([sent]) == f"Photo 1 {again}"
    assert said([{"image": upload}], drawing={"background": sent}) == f"The scene {again}"
    assert said([{"image": upload}], drawing={"background": upload, "layers": [sent]}) == f"What was painted {again}"
    assert editing.cleaned([sent]) == []
    for gallery, slider in (([sent], [upload, upload]), ([{"image": upload}], [sent])):
        with pytest.raises(editing.gr.Error, match=again):
            chosen(gallery, slider=tuple(slider))
    with pytest.raises(editing.gr.Error, match=f"Photo 1 {again}"):
        editing.edit_picture(sent, "a mug")


@pytest.mark.parametrize("sent", [5, "str", {"a": 1}, [{"image": None}]], ids=repr)
def test_nor_need_a_list_be_one(sent, upload):
    assert "is not among the uploads" in said(sent)
    assert "is not among the uploads" in said([{"image": upload}], drawing=[sent])
    assert "is not among the uploads" in said([{"image": upload}], drawing={"background": upload, "layers": sent})
    assert editing.cleaned(sent) == []


@pytest.mark.parametrize("place", [["x"], {}, None, 5, "Nowhere"], ids=repr)
def test_missing_layers_and_a_place_that_is_none(upload, place):
    assert "Paint on the scene" in said([{"image": upload}], drawing={"background": upload}, place=place)


def test_layers_are_few_and_opened_one_after_another(upload, monkeypatch):
    names, opened = [], editing.opened
    monkeypatch.setattr(editing, "opened", lambda file, name: names.append(name) or opened(file, name))
    scene, layers = editing._drawing({"background": upload, "layers": [upload] * 4})
    assert names == ["The scene"] and editing.painted(layers, scene.size).getbbox() == (0, 0, 64, 64)
    assert names == ["The scene"] + 4 * ["What was painted"]
    assert "has 5 layers" in said([{"image": upload}], drawing={"background": upload, "layers": [upload] * 5})
