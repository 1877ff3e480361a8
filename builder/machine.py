"""What a shard was made on: for receipts, never for rows. Loads no library to find out."""

from __future__ import annotations

import os
import platform
import sys
from functools import lru_cache
from pathlib import Path

from toffee_hf.versions import installed_versions

LIBRARIES = ("torch", "diffusers", "transformers", "pillow", "pyarrow", "numpy")
_INSTRUCTION_SETS = (("avx512f", "avx512"), ("avx2", "avx2"), ("sve", "sve"), ("asimd", "neon"), ("sse4_2", "sse4.2"))


@lru_cache(maxsize=1)
def library_versions() -> dict[str, str]:
    """Versions of everything that can change a bit."""
    return {"python": platform.python_version(), **installed_versions(LIBRARIES)}


@lru_cache(maxsize=1)
def instruction_set() -> str:
    """Machine and widest vector instructions, such as `x86_64 avx512`: kernels differ in bits between them."""
    forced = os.environ.get("ATEN_CPU_CAPABILITY")
    flags = _cpu_flags()
    widest = next((name for flag, name in _INSTRUCTION_SETS if flag in flags), "base")
    return f"{platform.machine()} {forced or widest}"


def _cpu_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    lines = (line for line in text.splitlines() if line.startswith(("flags", "Features")))
    return set(next(lines, "").partition(":")[2].split())


def device_name() -> str:
    """The accelerator that this process has used, else `cpu`."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return "cpu"


def device_kind() -> str:
    """`gpu` or `cpu`: what workers started from here will use, found without loading torch."""
    return "gpu" if visible_gpus() and "+cpu" not in library_versions().get("torch", "+cpu") else "cpu"


def cpu_cores() -> int:
    """Cores that this process may use, by affinity and by the container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _cgroup_cores() or cores))


def _cgroup_cores() -> int | None:
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else -(-int(quota) // int(period))


def visible_gpus() -> tuple[str, ...]:
    """Names for CUDA_VISIBLE_DEVICES, one per NVIDIA GPU that this process may use."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return tuple(name.strip() for name in allowed.split(",") if name.strip() not in ("", "-1"))
    numbers = sorted(int(path.name[6:]) for path in Path("/dev").glob("nvidia[0-9]*") if path.name[6:].isdigit())
    return tuple(str(position) for position, _ in enumerate(numbers))
