"""How much memory is free: on a GPU, on the machine, and within the limit of a container."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path, PurePosixPath

import torch

from slicer_lite.base import distributed

# Control groups: where they may be; and in version 2 and in version 1 the files of a group's limit and use, and how
# its counts of what is kept of files begin, groups below included.
_MOUNTS = ("sys/fs/cgroup", "sys/fs/cgroup/unified", "sys/fs/cgroup/memory")
_GROUP_FILES = (
    ("memory.max", "memory.current", ""),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
)
_NO_LIMIT = 2**60  # bytes; version 1 says nearly 2**63 where there is none


def available(device: torch.device) -> int | None:
    """Bytes that are free for this process; None where that cannot be told.

    CPU, and MPS, which shares its memory: psutil's figure, or what the limit of a container leaves if that is less;
    an equal part for each process on the machine.
    """
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    try:
        import psutil  # here, because training works without it
    except ModuleNotFoundError:
        return None
    free = psutil.virtual_memory().available
    left = _left_by_groups()
    return (free if left is None else min(free, left)) // distributed.size_here()


def _left_by_groups(root: Path = Path("/")) -> int | None:
    """Bytes that the control groups of a container or a batch system leave this process; None without a limit.

    Linux: its own group and all above it, in version 2 and in version 1. What they keep of files makes room if need
    be. A container may see its group's path on the host and the group itself at the top, so missing ones are passed.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    left = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if not controllers or "memory" in controllers.split(","):  # of version 2, or of version 1
            path = PurePosixPath(group.lstrip("/"))
            folders = [root / mount / level for mount in _MOUNTS for level in (path, *path.parents)]
            left += [_left_by_group(folder, *files) for folder in folders for files in _GROUP_FILES]
    return min((room for room in left if room is not None), default=None)


def _left_by_group(folder: Path, limit: str, used: str, kept: str) -> int | None:
    """Bytes that one control group leaves; None where it has no limit, or is not there."""
    try:
        most, taken = (int((folder / name).read_text()) for name in (limit, used))  # "max": no limit
    except (OSError, ValueError):
        return None
    if most >= _NO_LIMIT:
        return None
    with suppress(OSError):
        counts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        taken -= sum(int(counts.get(f"{kept}{name}", 0)) for name in ("inactive_file", "active_file"))
    return max(most - max(taken, 0), 0)
