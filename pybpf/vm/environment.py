"""What helpers tell a program of the process, the time and the machine; deterministic unless a test changes it."""

from __future__ import annotations

_MULTIPLIER = 6364136223846793005
_INCREMENT = 1442695040888963407


class Environment:
    """Plain values. ``time`` is nanoseconds and grows by ``tick`` with each look at it; ``task`` is an address."""

    __slots__ = (
        "attach_cookie",
        "cgroup_id",
        "comm",
        "cpu",
        "func_ip",
        "gid",
        "numa_node",
        "pid",
        "seed",
        "socket_cookie",
        "task",
        "tgid",
        "tick",
        "time",
        "uid",
    )

    def __init__(self) -> None:
        self.time = 1_000_000_000
        self.tick = 1000
        self.pid = 1234
        self.tgid = 1234
        self.uid = 0
        self.gid = 0
        self.comm = b"vm"
        self.task = 0
        self.cgroup_id = 1
        self.cpu = 0
        self.numa_node = 0
        self.attach_cookie = 0
        self.func_ip = 0
        self.socket_cookie = 1
        self.seed = 1

    def now(self) -> int:
        """The time, which goes on by a tick."""
        self.time += self.tick
        return self.time

    def random(self) -> int:
        """The next pseudo-random 32 bits after ``seed``."""
        self.seed = self.seed * _MULTIPLIER + _INCREMENT & (1 << 64) - 1
        return self.seed >> 32
