"""How far a camera has gone around an object, from the cameras that COLMAP found (`images.txt` or `images.bin`)."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

OWN_VERTICAL = 0.01                   # weight of the cameras' own vertical, which leans with them
Rotations = dict[str, NDArray[np.float64]]


def read_cameras(folder: Path) -> Rotations:
    """Rotations world → camera (3, 3), x right, y down, z forward, by picture name; of `folder`/images.bin or .txt.

    Empty where there is no such file, or it cannot be understood.
    """
    try:
        if (folder / "images.bin").is_file():
            return _from_binary((folder / "images.bin").read_bytes())
        if (folder / "images.txt").is_file():
            return _from_text((folder / "images.txt").read_text(errors="replace"))
    except (OSError, ValueError, IndexError, struct.error):
        return {}
    return {}


def _from_binary(data: bytes) -> Rotations:
    """A count, then per picture: id, quaternion, position, camera, name, a count of points and 24 bytes for each."""
    found: Rotations = {}
    (count,), at = struct.unpack_from("<Q", data), 8
    for _ in range(count):
        quaternion = struct.unpack_from("<i4d", data, at)[1:]
        at += struct.calcsize("<i7di")
        end = data.index(b"\0", at)
        found[data[at:end].decode()] = _rotation(quaternion)
        (points,) = struct.unpack_from("<Q", data, end + 1)
        at = end + 9 + 24 * points
    return found


def _from_text(text: str) -> Rotations:
    """Two lines a picture, of which the first is `id qw qx qy qz tx ty tz camera name`; the second may be empty."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    found: Rotations = {}
    for line in lines[::2]:
        fields = line.split(maxsplit=9)
        if len(fields) == 10:
            found[fields[9].strip()] = _rotation(tuple(map(float, fields[1:5])))
    return found


def _rotation(quaternion: tuple[float, ...]) -> NDArray[np.float64]:
    """Of a quaternion w, x, y, z."""
    length = math.sqrt(sum(value * value for value in quaternion))
    if not length > 0 or not math.isfinite(length):
        raise ValueError(f"{quaternion} is no rotation")
    w, x, y, z = (value / length for value in quaternion)
    return np.array([[1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                     [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                     [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]])


def _vertical(rotations: NDArray[np.float64]) -> NDArray[np.float64]:
    """The direction that all cameras' horizontals leave out; where these are too alike to say, near the cameras' own
    vertical. (3,), up."""
    right, up = rotations[:, 0], -rotations[:, 1].mean(0)
    spread = right.T @ right / len(right) - OWN_VERTICAL * np.outer(up, up)
    found = np.linalg.eigh(spread)[1][:, 0]
    return found if found @ up >= 0 else -found


def yaws(cameras: Rotations) -> dict[str, float]:
    """Radians by which each camera has gone around the object, by picture name.

    A difference of two yaws is the turn between the pictures: it is positive where the object's front moves to the
    right, as in `pipeline_toffee_view.turned`.
    """
    if not cameras:
        return {}
    up = _vertical(np.stack(list(cameras.values())))
    ahead = {name: rotation[2] - up * (rotation[2] @ up) for name, rotation in cameras.items()}
    first = next((view for view in ahead.values() if np.linalg.norm(view) > 1e-3), None)
    if first is None:
        return {}
    side = np.cross(up, first)
    return {name: -math.atan2(float(view @ side), float(view @ first))
            for name, view in ahead.items() if np.linalg.norm(view) > 1e-3}
