"""Every kind of picture file that a folder of photographs holds, and every kind that must be refused."""

from __future__ import annotations

import io
import pickle
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageCms

from toffee_hf.images import GROUND_RGB, ImageError, decode, encode_image, encode_mask, probe

RED, BLUE = (220, 30, 20), (10, 40, 200)


def halves(mode: str = "RGB", size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Left half red, right half blue."""
    picture = Image.new("RGB", size, RED)
    picture.paste(BLUE, (size[0] // 2, 0, *size))
    return picture.convert(mode)


def saved(picture: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


def assert_near(pixel: np.ndarray, expected: tuple[int, int, int], within: int = 12) -> None:
    assert np.abs(pixel.astype(int) - expected).max() <= within, (pixel, expected)


@pytest.mark.parametrize(
    ("mode", "format", "options"),
    [
        ("RGB", "PNG", {}),
        ("RGB", "JPEG", {"quality": 95, "subsampling": 0}),
        ("RGB", "WEBP", {"lossless": True}),
        ("RGB", "WEBP", {"quality": 95}),
        ("RGB", "AVIF", {"quality": 95}),
        ("RGB", "BMP", {}),
        ("RGB", "TIFF", {"compression": "tiff_lzw"}),
        ("RGB", "JPEG2000", {}),
        ("P", "PNG", {}),
        ("P", "GIF", {}),
        ("RGBA", "PNG", {}),
        ("YCbCr", "JPEG", {"quality": 95, "subsampling": 0}),
        ("LAB", "TIFF", {}),
    ],
)
def test_colours_survive_every_format(mode: str, format: str, options: dict[str, object]) -> None:
    if mode == "LAB":
        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        picture = ImageCms.profileToProfile(halves(), srgb, lab, outputMode="LAB")
        assert picture is not None
    else:
        picture = halves(mode)
    array = decode(saved(picture, format, **options), 64)
    assert array.shape == (64, 64, 3) and array.dtype == np.uint8 and array.flags["C_CONTIGUOUS"]
    within = 24 if mode in ("P", "LAB") else 12  # 216 web colours; 8-bit Lab
    assert_near(array[32, 8], RED, within)
    assert_near(array[32, 56], BLUE, within)


def test_cmyk_is_near_its_colours() -> None:
    array = decode(saved(halves("CMYK"), "JPEG", quality=95), 64)
    assert_near(array[32, 8], RED, within=40)
    assert_near(array[32, 56], BLUE, within=40)


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_grey_becomes_three_equal_channels(mode: str) -> None:
    ramp = Image.fromarray(np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1)))
    array = decode(saved(ramp.convert(mode), "PNG"), 64)
    assert (array[..., 0] == array[..., 1]).all() and (array[..., 1] == array[..., 2]).all()
    assert array[:, :8].mean() < 30 and array[:, -8:].mean() > 225


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bits_are_scaled_not_clipped(format: str) -> None:
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))
    array = decode(saved(Image.fromarray(ramp), format), 64)
    assert np.array_equal(array[..., 0], np.rint(ramp / 257).astype(np.uint8))


def test_float_pictures_are_read_as_unit_range() -> None:
    array = decode(saved(Image.fromarray(np.full((64, 64), 0.5, np.float32)), "TIFF"), 32)
    assert (array == 128).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_transparency_lies_over_the_ground(mode: str) -> None:
    picture = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    picture.paste((0, 0, 0, 255), (32, 0, 64, 64))
    if mode == "P":
        data = saved(picture.quantize(4), "PNG")
    elif mode == "RGB":  # a transparent key colour
        data = saved(halves(size=(64, 64)), "PNG", transparency=RED)
    else:
        data = saved(picture.convert(mode), "PNG")
    array = decode(data, 64)
    assert_near(array[32, 4], GROUND_RGB, within=0)
    assert_near(array[32, 60], BLUE if mode == "RGB" else (0, 0, 0), within=0)


def test_half_transparent_pixels_mix_with_the_ground() -> None:
    array = decode(saved(Image.new("RGBA", (40, 40), (0, 0, 0, 128)), "PNG"), 40)
    assert_near(array[0, 0], (116, 116, 116), within=1)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_gives_its_first_frame(format: str) -> None:
    frames = [Image.new("RGB", (48, 48), colour) for colour in (RED, BLUE)]
    array = decode(saved(frames[0], format, save_all=True, append_images=frames[1:]), 32)
    assert_near(array[16, 16], RED)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_applied(format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate clockwise to look at it, so left becomes top
    array = decode(saved(halves(), format, exif=exif), 64)
    assert_near(array[6, 32], RED)
    assert_near(array[58, 32], BLUE)


def test_a_broken_exif_block_costs_nothing_else() -> None:
    data = saved(halves(), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert_near(decode(data, 64)[32, 8], RED, within=20)


def test_icc_profile_is_applied_and_a_broken_one_ignored() -> None:
    lab_like = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = lab_like.replace(b"rXYZ", b"tXYZ").replace(b"bXYZ", b"rXYZ").replace(b"tXYZ", b"bXYZ")
    swapped = swapped.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be")).replace(b"sRGB", b"swap")
    picture = halves(size=(64, 64))
    assert_near(decode(saved(picture, "PNG", icc_profile=b"not a profile"), 64)[32, 8], RED, within=0)
    assert_near(decode(saved(picture, "PNG", icc_profile=lab_like), 64)[32, 8], RED, within=1)
    turned = decode(saved(picture, "PNG", icc_profile=swapped), 64)[32, 8]
    assert turned[2] > 150 > turned[0], "red and blue primaries are swapped by the profile"


def test_centre_square_and_large_pictures() -> None:
    picture = Image.new("RGB", (3000, 1000), BLUE)
    picture.paste(RED, (1000, 0, 2000, 1000))
    for format in ("JPEG", "PNG"):
        array = decode(saved(picture, format), 128)
        assert_near(array[64, 64], RED)
        assert_near(array[64, 3], RED)
        assert_near(array[64, 124], RED)


def test_small_pictures_are_enlarged_and_decoding_is_deterministic() -> None:
    data = saved(halves(size=(33, 40)), "PNG")
    first, second = decode(data, 128), decode(data, 128)
    assert first.shape == (128, 128, 3) and np.array_equal(first, second)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: b"", "empty"),
        (lambda: b"this is text named .jpg", "not_a_picture"),
        (lambda: b"\x89PNG\r\n\x1a\n", "not_a_picture"),
        (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n", "not_a_picture"),
        (lambda: b"\x00\x00\x00\x18ftypheic" + bytes(64), "not_a_picture"),
        (lambda: png_header(9000, 9000), "too_large"),
        (lambda: png_header(60000, 60000), "too_large"),
        (lambda: saved(Image.new("RGB", (1, 1)), "PNG"), "too_small"),
        (lambda: saved(Image.new("RGB", (31, 64)), "PNG"), "too_small"),
        (lambda: saved(Image.new("RGB", (20000, 10)), "PNG"), "too_long"),
        (lambda: saved(Image.new("RGB", (40, 321)), "PNG"), "too_long"),
    ],
)
def test_bad_pictures_are_refused_by_their_header(make: Callable[[], bytes], reason: str) -> None:
    for read in (probe, lambda data: decode(data, 64)):
        with pytest.raises(ImageError) as caught:
            read(make())
        assert caught.value.reason == reason
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF"])
def test_truncated_files_fail_only_when_decoded(format: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    data = saved(Image.fromarray(noise), format)
    with pytest.raises(ImageError) as caught:
        decode(data[: len(data) // 2], 64)
    assert caught.value.reason in ("truncated", "not_a_picture")  # some formats keep their header at the end
    if format in ("JPEG", "PNG"):
        assert probe(data[: len(data) // 2]).width == 200
        assert caught.value.reason == "truncated"


def test_damaged_bytes_never_raise_anything_but_image_errors() -> None:
    random = np.random.default_rng(1)
    for format in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM"):
        data = np.frombuffer(saved(halves(), format), np.uint8)
        for _ in range(25):
            damaged = data.copy()
            damaged[random.integers(0, len(data), 6)] = random.integers(0, 256, 6)
            try:
                decode(damaged.tobytes(), 32)
            except ImageError:
                continue


def test_probe_tells_the_header() -> None:
    info = probe(saved(halves("L"), "PNG"))
    assert (info.width, info.height, info.format, info.mode) == (96, 64, "PNG", "L")


def test_image_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(ImageError("too_small", "1x1")))
    assert (error.reason, error.detail) == ("too_small", "1x1") and "1x1" in str(error)


def test_webp_is_lossless_and_jpeg_near() -> None:
    picture = np.random.default_rng(2).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    webp = Image.open(io.BytesIO(encode_image(picture, "webp")))
    assert webp.format == "WEBP" and np.array_equal(np.asarray(webp), picture)
    smooth = np.asarray(halves())
    jpeg = Image.open(io.BytesIO(encode_image(smooth, "jpeg")))
    assert jpeg.format == "JPEG" and np.abs(np.asarray(jpeg).astype(int) - smooth).max() <= 12


def test_masks_come_back_as_they_went() -> None:
    mask = (np.random.default_rng(3).random((40, 30)) > 0.5).astype(np.uint8) * 255
    data = encode_mask(mask)
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.mode == "L" and np.array_equal(np.asarray(picture), mask)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4), np.uint8), r"\(H, W, 3\)"),
        (np.zeros((4, 4, 4), np.uint8), r"\(H, W, 3\)"),
        (np.zeros((4, 4, 3), np.float32), "uint8"),
        (np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\)"),
    ],
)
def test_wrong_arrays_are_refused(array: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode_image(array, "webp")


def test_wrong_masks_formats_and_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="0 and 255"):
        encode_mask(np.full((4, 4), 7, np.uint8))
    with pytest.raises(ValueError, match=r"\(H, W\)"):
        encode_mask(np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="webp"):
        encode_image(np.zeros((4, 4, 3), np.uint8), "png")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="size_px"):
        decode(saved(halves(), "PNG"), 0)
