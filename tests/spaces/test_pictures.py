"""Pictures of strangers are opened within limits, and what was painted becomes a mask."""

from __future__ import annotations

import io
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from tests.spaces.hostile import write_hostile

pictures = pytest.importorskip("pictures")


def saved(picture, kind="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["text", "empty", "svg", "html", "cut off", "bomb", "zip bomb", "gif"])
def test_hostile_files_get_one_friendly_sentence(tmp_path, kind):
    path = write_hostile(tmp_path)[kind]
    tracemalloc.start()
    with pytest.raises(pictures.Unusable) as caught:
        pictures.opened(str(path), "Photo 1")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    said = str(caught.value)
    assert said.startswith("Photo 1") and "<" not in said and "Traceback" not in said and str(tmp_path) not in said
    assert ("too large" in said) == (kind == "bomb") and most < 20e6


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_large_pictures_become_small(kind):
    given = saved(Image.new("RGB", (5200, 300), "teal"), kind)
    assert pictures.opened(given, "Photo 1").size == (1024, 59)


def test_pictures_come_out_upright_and_without_hidden_data():
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "my address"
    picture = pictures.opened(saved(Image.new("RGB", (40, 20), "red"), "JPEG", exif=exif), "Photo 1")
    assert picture.size == (20, 40) and b"my address" not in saved(picture) and not picture.info


@pytest.mark.parametrize(("mode", "becomes"), [("RGBA", "RGBA"), ("LA", "RGBA"), ("L", "RGB"), ("1", "RGB"),
                                               ("P", "RGB"), ("I;16", "RGB"), ("RGB", "RGB")])
def test_every_mode_is_colour(mode, becomes):
    assert pictures.opened(saved(Image.new(mode, (8, 8))), "Photo 1").mode == becomes


def test_sixteen_bits_are_scaled():
    grey = Image.fromarray(np.full((8, 8), 32768, np.uint16))
    assert pictures.opened(saved(grey), "Photo 1").getpixel((0, 0)) == (128, 128, 128)


def test_paint_of_all_layers_is_the_mask():
    layer, other = Image.new("RGBA", (20, 10)), Image.new("RGBA", (20, 10))
    layer.paste((255, 255, 255, 255), (0, 0, 5, 5))
    other.paste((0, 0, 0, 200), (10, 5, 20, 10))
    mask = np.array(pictures.painted([layer, other], (20, 10)))
    assert mask[2, 2] == 255 and mask[7, 15] == 255 and mask[2, 15] == 0
    assert pictures.painted([layer], (40, 20)).getbbox() == (0, 0, 10, 10), "in the scene's size"


@pytest.mark.parametrize("layers", [[], [Image.new("RGBA", (20, 10))], [Image.new("RGB", (20, 10), "white")]])
def test_no_paint_is_no_mask(layers):
    assert pictures.painted(layers, (20, 10)) is None


def test_named_places_need_no_paint():
    first, *others = pictures.PLACES
    assert pictures.placed(first, (40, 40)) is None
    boxes = {place: pictures.placed(place, (40, 40)).getbbox() for place in others}
    assert len(set(boxes.values())) == 3 and boxes["On the left"][2] <= 20 <= boxes["On the right"][0]


def test_a_subject_that_is_cut_out_stands_in_a_place_by_its_outline():
    toy = Image.new("RGBA", (60, 60))
    toy.paste((255, 0, 0, 255), (10, 20, 50, 30))                 # four times as wide as high
    x0, y0, x1, y1 = pictures.placed("In the middle", (200, 200), toy).getbbox()
    assert 3 < (x1 - x0) / (y1 - y0) < 4 and x0 < 40 < 160 < x1 and abs(y1 - 184) <= 4
    whole = Image.new("RGBA", (60, 60), "red")
    ellipse = pictures.placed("In the middle", (200, 200)).tobytes()
    for other in (whole, Image.new("RGBA", (60, 60)), whole.convert("RGB")):
        assert pictures.placed("In the middle", (200, 200), other).tobytes() == ellipse


def test_what_was_given_is_shown_whole_on_plain_ground():
    shown = pictures.on_ground(Image.new("RGBA", (10, 40), (255, 0, 0, 255)), (80, 80))
    assert shown.size == (80, 80) and shown.getpixel((40, 40)) == (255, 0, 0) and shown.getpixel((2, 2)) == (232,) * 3
