"""Several views of an object: MVImgNet's folders, pairs of views, and an object put into the other view's place."""

import math

import pytest
import torch

from tests.toffee_hf.training.real_data import VIEWS, mask, photo, pictures
from tests.toffee_hf.training.test_colmap import looking, quaternion
from toffee_hf.errors import InputError
from toffee_hf.training.backbone import open_backbone
from toffee_hf.training.multiview import drawn_pairs, is_mvimgnet, mvimgnet_pictures, put_in_place, turns
from toffee_hf.training.pictures import prepare


@pytest.fixture
def mvimgnet(tmp_path):
    """One mug with masks and cameras of two of three views, one duck without either, one object of class 137."""
    for home, things in (("mug/a1", 0), ("rubber_duck/b2", 1), ("137/c3", 2)):
        (tmp_path / home / "images").mkdir(parents=True)
        for view in range(VIEWS):
            (tmp_path / home / "images" / f"{view:03d}.jpg").write_bytes(photo(things, view))
    for view in range(VIEWS):
        for home, name in (("mug/a1", f"{view:03d}.jpg.png"), ("137/c3", f"{view:03d}.png")):
            (tmp_path / home / "masks").mkdir(exist_ok=True)
            (tmp_path / home / "masks" / name).write_bytes(mask(view))
    sparse = tmp_path / "mug" / "a1" / "sparse" / "0"
    sparse.mkdir(parents=True)
    lines = [f"{i} {' '.join(map(repr, map(float, quaternion(looking(angle)))))} 0 0 3 1 {i:03d}.jpg\n\n"
             for i, angle in enumerate((0.0, 0.5))]  # fmt: skip
    (sparse / "images.txt").write_text("".join(lines))
    return tmp_path


def test_the_folders_of_mvimgnet_are_known_and_read(mvimgnet):
    assert is_mvimgnet(mvimgnet) and not is_mvimgnet(mvimgnet / "mug") and not is_mvimgnet(mvimgnet / "nowhere")
    found = {p.file: p for p in mvimgnet_pictures(mvimgnet)}
    assert len(found) == 9 and list(found) == sorted(found)
    mug, duck = found["mug/a1/images/001.jpg"], found["rubber_duck/b2/images/000.jpg"]
    assert (mug.thing, mug.class_name, duck.class_name) == ("mug/a1", "mug", "rubber duck")
    assert mug.read() == photo(0, 1) and mug.read_mask() == mask(1) and duck.read_mask is None
    assert mug.yaw - found["mug/a1/images/000.jpg"].yaw == pytest.approx(0.5, abs=0.05)
    assert math.isnan(found["mug/a1/images/002.jpg"].yaw) and math.isnan(duck.yaw)


@pytest.mark.parametrize("name", ["images/001.jpg", "masks/001.jpg.png"])
def test_pictures_that_were_replaced_are_not_taken_for_those_before(mvimgnet, family, tmp_path_factory, name):
    place, base = tmp_path_factory.mktemp("p") / "x", open_backbone(str(family.folder))
    prepare(mvimgnet_pictures(mvimgnet)[3:], place, 64, base)
    before = mvimgnet / "mug" / "a1" / name
    before.write_bytes(before.read_bytes() + b"\0")
    with pytest.raises(InputError, match="holds other pictures"):
        prepare(mvimgnet_pictures(mvimgnet)[3:], place, 64, base)


def test_a_link_to_nothing_is_counted(mvimgnet, family, tmp_path_factory):
    (mvimgnet / "mug" / "a1" / "images" / "003.jpg").symlink_to(mvimgnet / "nowhere")
    some = [p for p in mvimgnet_pictures(mvimgnet) if p.thing == "mug/a1"]
    found = prepare(some, tmp_path_factory.mktemp("p") / "x", 64, open_backbone(str(family.folder)))
    assert found.skipped == {"unreadable_file": 1} and len(found) == 3


def test_a_class_that_is_a_number_needs_masks(mvimgnet, family, tmp_path_factory):
    for path in (mvimgnet / "137" / "c3" / "masks").iterdir():
        path.unlink()
    some = [p for p in mvimgnet_pictures(mvimgnet) if p.class_name != "rubber duck"]
    found = prepare(some, tmp_path_factory.mktemp("p") / "x", 64, open_backbone(str(family.folder)), views=2)
    assert found.skipped == {"no_class_word": 3} and set(found.things) == {"mug/a1"}


@pytest.fixture
def prepared(tmp_path, family):
    some = [p for p in pictures() if p.file not in ("0-2", "1-1")]
    return prepare(some, tmp_path / "p", 64, open_backbone(str(family.folder)), views=2)


def test_pairs_are_two_views_of_one_thing_and_all_of_them_come(prepared):
    a, b = drawn_pairs(prepared, 600, torch.Generator().manual_seed(0))
    things = [prepared.things[i] for i in a.tolist()]
    assert things == [prepared.things[i] for i in b.tolist()] and not (a == b).any()
    assert len(set(zip(a.tolist(), b.tolist(), strict=True))) == 2 + 2 + 6 + 6
    assert all(110 < things.count(thing) < 190 for thing in set(things)), "every thing as often"


def test_turns_are_told_where_both_cameras_are_known(prepared):
    found = turns(prepared, torch.tensor([0, 1, 9]), torch.tensor([1, 0, 8]))
    assert found[:2].tolist() == pytest.approx([0.4, -0.4]) and found[2].isnan()


def test_an_object_is_put_into_the_place_and_size_it_has_in_the_wanted_view():
    shown, own = torch.full((1, 3, 64, 64), -0.5), torch.zeros(1, 1, 64, 64)
    own[..., 8:24, 8:24] = 1
    shown = torch.where(own > 0, 0.9, shown)
    wanted, other = torch.linspace(-1, 1, 64).expand(1, 3, 64, 64).clone(), torch.zeros(1, 1, 64, 64)
    other[..., 20:52, 24:56] = 1
    truth = wanted.clone()
    wanted[..., 20:52, 24:56] = 0.0
    photo_, seen = put_in_place(shown, own, wanted, other)
    assert (seen - other).abs().mean() < 0.03, "twice as large, in the middle of the wanted one"
    assert (photo_[..., 24:48, 28:52] - 0.9).abs().max() < 1e-3
    outside = torch.ones(64, 64, dtype=torch.bool)
    outside[17:55, 21:59] = False
    assert torch.equal(photo_[0, :, outside], truth[0, :, outside]), "the surroundings are those of the wanted view"


def test_what_only_the_wanted_object_covered_is_filled_from_around_it():
    own, other = torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 64, 64)
    own[..., 28:36, 8:56], other[..., 8:56, 28:36] = 1, 1      # a lying and a standing bar
    wanted = torch.where(other > 0, 1.0, -0.8).expand(1, 3, 64, 64)
    photo_, seen = put_in_place(torch.zeros(1, 3, 64, 64), own, wanted, other)
    hidden = (other > 0) & (seen < 0.01)
    assert hidden.sum() > 200 and (photo_[hidden.expand_as(photo_)] + 0.8).abs().max() < 0.05
