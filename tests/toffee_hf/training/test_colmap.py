"""Cameras of COLMAP: both formats read alike, damage costs the cameras, and a turn has the sign of the pipeline."""

import math
import struct

import numpy as np
import pytest

from toffee_hf.training.colmap import read_cameras, yaws

TILT = 0.3


def looking(angle, lean=TILT):
    """Rotation world → camera (x right, y down, z forward) of a camera that went `angle` to its left around the
    origin, looking down by `lean`; the world's vertical is y."""
    forward = np.array([math.sin(angle) * math.cos(lean), -math.sin(lean), -math.cos(angle) * math.cos(lean)])
    right = np.cross(forward, (0.0, 1.0, 0.0))
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward])


def quaternion(rotation):
    w = math.sqrt(max(0.0, 1 + np.trace(rotation))) / 2
    x, y, z = ((rotation[2, 1] - rotation[1, 2]), (rotation[0, 2] - rotation[2, 0]), (rotation[1, 0] - rotation[0, 1]))
    return np.array([w, x / (4 * w), y / (4 * w), z / (4 * w)])


ANGLES = {"001.jpg": 0.0, "002.jpg": 0.5, "a picture.jpg": -0.9}
CAMERAS = {name: looking(angle) for name, angle in ANGLES.items()}


def write_text(folder):
    lines = ["# Image list", "#   IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME"]
    for i, (name, rotation) in enumerate(CAMERAS.items(), 1):
        lines += [f"{i} {' '.join(map(repr, map(float, quaternion(rotation))))} 0 0 3 1 {name}",
                  "" if i == 2 else "1.5 2.5 -1"]  # fmt: skip
    (folder / "images.txt").write_text("\n".join(lines) + "\n")


def write_binary(folder):
    data = struct.pack("<Q", len(CAMERAS))
    for i, (name, rotation) in enumerate(CAMERAS.items(), 1):
        data += struct.pack("<i7di", i, *quaternion(rotation), 0, 0, 3, 1) + name.encode() + b"\0"
        data += struct.pack("<Q", i) + struct.pack("<ddq", 1.5, 2.5, -1) * i
    (folder / "images.bin").write_bytes(data)


@pytest.mark.parametrize("write", [write_text, write_binary])
def test_both_formats_are_read(tmp_path, write):
    write(tmp_path)
    found = read_cameras(tmp_path)
    assert found.keys() == CAMERAS.keys()
    assert all(np.allclose(found[name], CAMERAS[name], atol=1e-6) for name in found)


def test_a_turn_is_how_far_the_camera_has_gone_to_its_left():
    found = yaws(CAMERAS)
    assert found["002.jpg"] - found["001.jpg"] == pytest.approx(0.5, abs=0.01)
    assert found["a picture.jpg"] - found["002.jpg"] == pytest.approx(-1.4, abs=0.01)


def test_two_cameras_that_lean_alike_are_enough():
    found = yaws({"a": looking(0.0), "b": looking(0.2)})
    assert found["b"] - found["a"] == pytest.approx(0.2, abs=0.03)
    assert yaws({"a": looking(0.7)}) == {"a": pytest.approx(0.0, abs=1e-9)}


def test_a_positive_turn_moves_the_front_to_the_right():
    def column(rotation, point, far=3.0):
        x, _, z = rotation @ point + np.array([0, 0, far])
        return x / z

    front = -0.4 * CAMERAS["001.jpg"][2]                      # the point of the object that the first camera sees first
    turn = yaws(CAMERAS)["002.jpg"] - yaws(CAMERAS)["001.jpg"]
    assert turn > 0 and column(CAMERAS["002.jpg"], front) > column(CAMERAS["001.jpg"], front) + 0.01


def test_the_frame_of_the_world_does_not_matter():
    frame = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    frame *= np.sign(np.linalg.det(frame))
    turned = yaws({name: rotation @ frame for name, rotation in CAMERAS.items()})
    plain = yaws(CAMERAS)
    assert all(turned[name] - turned["001.jpg"] == pytest.approx(plain[name] - plain["001.jpg"], abs=1e-6)
               for name in plain)  # fmt: skip


@pytest.mark.parametrize("damage", [b"", b"\x05", struct.pack("<Q", 9) + b"short", b"\xff" * 200])
def test_a_damaged_file_costs_the_cameras(tmp_path, damage):
    (tmp_path / "images.bin").write_bytes(damage)
    assert read_cameras(tmp_path) == {}


@pytest.mark.parametrize("text", ["", "# nothing\n", "1 a b c d 0 0 0 1 x.jpg\n\n", "1 0 0 0 0 0 0 3 1 x.jpg\n\n",
                                  "1 nan 0 0 1 0 0 3 1 x.jpg\n\n"])  # fmt: skip
def test_nonsense_in_the_text_costs_the_cameras(tmp_path, text):
    (tmp_path / "images.txt").write_text(text)
    assert read_cameras(tmp_path) == {} and yaws({}) == {}


def test_no_folder_is_no_camera(tmp_path):
    assert read_cameras(tmp_path / "nowhere") == {}
