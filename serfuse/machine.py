"""What this machine has to give: memory, GPUs."""

import os
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
"""Where Linux says what a container may take."""


def available(cgroup: Path = CGROUP) -> int:
    """Bytes that further processes can take: of the machine, or of the container where that has less.

    Args:
        cgroup: the folder of the container's limits, of version 1 or 2.
    """
    import psutil

    free = int(psutil.virtual_memory().available)
    for folder, limit, used, cache in (
        (cgroup, "memory.max", "memory.current", "inactive_file"),
        (cgroup / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        with suppress(OSError, ValueError):  # "max": no limit
            taken = int((folder / used).read_text()) - _statistic(folder / "memory.stat", cache)
            free = min(free, int((folder / limit).read_text()) - taken)
    return max(free, 0)


def _statistic(path: Path, name: str) -> int:
    """A line of `memory.stat`, 0 without one. Files read lately count as taken, but make room when it is wanted."""
    with suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return 0


def gpus() -> list[str]:
    """NVIDIA GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them, found without any library."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown is not None:
        names = [name.strip() for name in shown.split(",")]
        return list(takewhile(lambda name: name not in ("", "-1"), names))  # CUDA shows none behind an invalid one
    try:
        devices = [name.removeprefix("nvidia") for name in os.listdir("/dev") if name.startswith("nvidia")]
    except OSError:
        return []
    return sorted((name for name in devices if name.isdigit()), key=int)
