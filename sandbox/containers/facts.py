"""What the kernel says about the processes of a container."""

from dataclasses import dataclass
from pathlib import Path

import psutil

_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts of all processes of a container.

    Attributes:
        users: their effective user ids; capabilities: the union of their bounding sets, as bits.
        no_new_privileges: of all of them.
        root_is_read_only: the mount of `/`.
        memory: their proportional memory in bytes; memory_limit: in bytes.
    """

    users: frozenset[int]
    capabilities: int
    no_new_privileges: bool
    root_is_read_only: bool
    memory: int
    memory_limit: int


def facts_of(pid: int) -> Facts:
    """Facts of a process and its descendants. Raises psutil.Error if it has ended."""
    root = psutil.Process(pid)
    users: set[int] = set()
    capabilities, no_new_privileges, memory = 0, True, 0
    for process in (root, *root.children(recursive=True)):
        try:
            status = status_of(Path(f"/proc/{process.pid}/status").read_text())
            memory += process.memory_full_info().pss
        except (psutil.NoSuchProcess, ProcessLookupError, FileNotFoundError):
            continue  # a health check that has just ended
        users.add(int(status["Uid"].split()[1]))
        capabilities |= int(status["CapBnd"], 16) | int(status["CapEff"], 16)
        no_new_privileges &= status["NoNewPrivs"] == "1"
    mounts = Path(f"/proc/{pid}/mounts").read_text().splitlines()
    options = next(line.split()[3] for line in mounts if line.split()[1] == "/")
    return Facts(
        frozenset(users), capabilities, no_new_privileges, "ro" in options.split(","), memory, _memory_limit(pid)
    )


def status_of(text: str) -> dict[str, str]:
    """The fields of /proc/PID/status. Pure."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, _, value in pairs}


def _memory_limit(pid: int) -> int:
    """Of the process's control group, version 1 or 2; 0 without a limit."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            return int((_CGROUPS / "memory" / path.lstrip("/") / "memory.limit_in_bytes").read_text())
        if not controllers:
            file = _CGROUPS / path.lstrip("/") / "memory.max"
            if file.exists() and (text := file.read_text().strip()) != "max":
                return int(text)
    return 0
