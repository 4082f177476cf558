"""An event as an object, for programs that use bfer as a library."""

from __future__ import annotations

from os import fsdecode
from typing import TYPE_CHECKING, Any

from bfer import memory, values
from bfer.records import Block
from bfer.values import MORE, Cut, More
from bfer.values import Pointer as _Pointer

if TYPE_CHECKING:
    from bfer.catalogue import Arg
    from bfer.catalogue import Event as Declared
    from bfer.names import Names

_CACHE_MAX = 4096


class Pointer(int):
    """An address: what it points at is not in the event, because it could not be read or is not shown."""

    def __repr__(self) -> str:
        return f"{int(self):#x}" if self else "NULL"


class Truncated(str):
    """The beginning of a string that was longer."""

    __slots__ = ()


class TruncatedList(list):  # type: ignore[type-arg]
    """The beginning of a list that was longer."""

    __slots__ = ()


class Event:
    """One event: what happened, who did it, and when.

    Numbers without ``host`` are those of the process's own pid namespace.
    """

    __slots__ = ("_args", "_block", "_declared", "_raw", "_source", "timestamp")

    timestamp: int
    """Nanoseconds since 1970; with the option relative-time since the start."""

    def __init__(self, source: Decoder, declared: Declared, block: Block, timestamp: int, raw: bytes) -> None:
        self._source = source
        self._declared = declared
        self._block = block
        self._raw = raw
        self._args: dict[str, Any] | None = None
        self.timestamp = timestamp

    @property
    def name(self) -> str:
        """Such as ``openat`` or ``security_file_open``."""
        return self._declared.name

    @property
    def id(self) -> int:
        """Tracee's number of the event."""
        return self._declared.id

    @property
    def is_compat(self) -> bool:
        """Did a 32-bit process on a 64-bit kernel make this call?"""
        return self._declared.is_compat

    @property
    def result(self) -> int:
        """What the call returned, minus an error number where it failed; 0 for what is no call."""
        return self._block.result

    @property
    def args(self) -> dict[str, Any]:
        """The arguments by name, in their order.

        Numbers are int, with their sign. What stood in memory is a str (undecodable bytes as os.fsdecode has them),
        a list, or a dict for a structure; Truncated and TruncatedList tell what is not all, Pointer what
        could not be read.
        """
        if self._args is None:
            self._args = self._source.arguments(self._declared, self._block, self._raw)
        return self._args

    def text(self, name: str) -> str:
        """An argument as the table shows it: flags, modes and structures by their names. Raises KeyError."""
        return self._source.text(self._declared, self._block, self._raw, name)

    @property
    def comm(self) -> str:
        """The thread's name."""
        return fsdecode(self._block.comm)

    @property
    def host_name(self) -> str:
        return fsdecode(self._block.node)

    @property
    def pid(self) -> int:
        return self._block.pid

    @property
    def tid(self) -> int:
        return self._block.tid

    @property
    def parent_pid(self) -> int:
        return self._block.ppid

    @property
    def host_pid(self) -> int:
        return self._block.host_pid

    @property
    def host_tid(self) -> int:
        return self._block.host_tid

    @property
    def host_parent_pid(self) -> int:
        return self._block.host_ppid

    @property
    def uid(self) -> int:
        """The real user."""
        return self._block.uid

    @property
    def cpu(self) -> int:
        return self._block.cpu

    @property
    def cgroup_id(self) -> int:
        return self._block.cgroup_id

    @property
    def container_id(self) -> str:
        """Empty outside of containers."""
        from bfer.output.lines import container_of

        return fsdecode(container_of(self._block))

    @property
    def mount_namespace(self) -> int:
        return self._block.mnt_ns

    @property
    def pid_namespace(self) -> int:
        return self._block.pid_ns

    @property
    def thread_start_time(self) -> int:
        """Nanoseconds since boot."""
        return self._block.start_time

    def __repr__(self) -> str:
        args = ", ".join([f"{name}={value!r}" for name, value in self.args.items()])
        return f"<{self.comm}[{self.pid}] {self.name}({args}) = {self.result}>"


class Decoder:
    """Makes events of records. ``events`` is by number."""

    def __init__(self, events: dict[int, Declared], names: Names, env: bool) -> None:
        self._events = events
        self._names = names
        self._env = env
        self._blocks: dict[bytes, tuple[Block, Declared]] = {}

    def decode(self, rows: list[Any], offset: int) -> list[Event]:
        """``rows`` holds time, block and data of each record; ``offset`` (ns) is added to the times."""
        out = []
        for time, data, raw in zip(rows[0::3], rows[1::3], rows[2::3]):
            known = self._blocks.get(data)
            if known is None:
                if len(self._blocks) >= _CACHE_MAX:
                    self._blocks.clear()
                block = Block(data, self._names)
                known = self._blocks[data] = block, self._events[block.event]
            out.append(Event(self, known[1], known[0], time + offset, raw))
        return out

    def arguments(self, declared: Declared, block: Block, raw: bytes) -> dict[str, Any]:
        found = memory.arguments(declared, block, raw, self._names, self._env)
        return {arg.name: _value(arg, value) for arg, value in zip(declared.args, found)}

    def text(self, declared: Declared, block: Block, raw: bytes, name: str) -> str:
        for arg, value in zip(declared.args, memory.arguments(declared, block, raw, self._names, self._env)):
            if arg.name == name:
                if type(value) is int:
                    return values.text(arg, value, self._names, block.args)
                return memory.text(b"" if value is None else value, self._names).decode("utf-8", "replace")
        raise KeyError(name)


def _value(arg: Arg, value: object) -> Any:
    if type(value) is int:
        return values.plain(arg, value)
    return _plain(value)


def _plain(value: object) -> Any:
    if isinstance(value, _Pointer):
        return Pointer(value)
    if isinstance(value, bytes):
        return Truncated(fsdecode(value)) if isinstance(value, Cut) else fsdecode(value)
    if isinstance(value, list):
        kind = TruncatedList if MORE in value else list
        return kind([_plain(item) for item in value if not isinstance(item, More)])
    if isinstance(value, dict):
        return {key.partition(":")[0]: _plain(item) for key, item in value.items()}
    return value
