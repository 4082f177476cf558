"""uprobes and uretprobes: programs at functions and instructions of programs and libraries."""

from __future__ import annotations

import os
from errno import EINVAL, EIO, ENOENT, EOPNOTSUPP, ESRCH
from functools import partial
from struct import pack
from sys import maxsize

from pybpf import abi, commands, kernel
from pybpf.errors import LinkError
from pybpf.links import libraries, probe_events
from pybpf.links import order as orders
from pybpf.links.base import UNSUPPORTED, Link, described
from pybpf.links.binary import Binary
from pybpf.links.events import Device, attach_event
from pybpf.links.names import number, split_offset
from pybpf.links.ways import first, group, ordered
from pybpf.sections import parse_section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pybpf.errors import SyscallError
    from pybpf.program import Program
    from pybpf.sections import Section


class Place:
    """An instruction of a file: ``offset`` in it; ``reference`` the offset of a semaphore, 0 for none."""

    __slots__ = ("cookie", "offset", "reference")

    def __init__(self, offset: int, reference: int = 0, cookie: int = 0) -> None:
        self.offset = offset
        self.reference = reference
        self.cookie = cookie


def by_section(program: Program, section: Section, **options: Any) -> Link:
    """``uprobe/FILE:FUNCTION[+OFFSET]`` and the like; FILE is a path, a soname or a command."""
    what = described(program)
    options.setdefault("returns", section.kind.startswith("uretprobe"))
    if section.target:
        binary, colon, function = section.target.rpartition(":")
        if not colon:
            raise LinkError(f"{what}: the section must name a place, as in {section.kind}/FILE:FUNCTION", EINVAL)
        options.setdefault("binary", binary)
        name, offset = split_offset(function, what)
    else:
        name, offset = "", 0
    if "binary" not in options:
        raise LinkError(f"{what}: the section names no file: binary= and function= or offset= must be given", EINVAL)
    if section.kind in ("uprobe", "uretprobe"):
        if name[:2].lower() == "0x" or name.isdigit():
            name, offset = "", number(name, what) + offset
        options.setdefault("function", name)
        options.setdefault("offset", offset)
        return attach_uprobe(program, **options)
    if "offsets" not in options:
        options.setdefault("functions", [name] if name else [])
    if section.kind == "uprobe.session":
        options["session"] = True
    return attach_uprobe_multi(program, **options)


def attach_uprobe(
    program: Program,
    binary: str,
    function: str = "",
    offset: int = 0,
    *,
    pid: int = -1,
    returns: bool = False,
    cookie: int = 0,
    reference: int = 0,
    order: Sequence[str] = orders.UPROBE,
) -> Link:
    """Run a kprobe-type program at a function of a file, in process ``pid`` (0: this one, -1: all, now and later).

    ``binary`` is a path, a library's name (``libc.so.6``, ``c``) or a command. Without
    ``function``, ``offset`` counts from the file's beginning. ``reference`` is the
    file offset of a 16-bit counter to be incremented while attached (a USDT
    semaphore; 4.20). ``cookie`` needs 5.15. Raises LinkError.
    """
    path = libraries.find(binary, pid or os.getpid())
    at = offset + (function_offset(path, function) if function else 0)
    shown = f"{binary}:{function}{f'+{offset:#x}' if offset and function else '' if function else f'{offset:#x}'}"
    what = described(program, f"{'uretprobe' if returns else 'uprobe'} {shown}")
    return _one(program, path, Place(at, reference, cookie), pid, returns, what, order)


def _one(program: Program, path: str, place: Place, pid: int, returns: bool, what: str, order: Sequence[str]) -> Link:
    ways: dict[str, Callable[[], Link]] = {
        "pmu": partial(_pmu, program, path, place, pid, returns, what),
        "tracefs": partial(_tracefs, program, path, place, pid, returns, what),
    }
    return first(what, ordered(ways, order, what), partial(_explain, what, path, place, pid))


def function_offset(path: str, name: str) -> int:
    """Offset in the file of function ``name``. Raises LinkError."""
    with Binary(path) as binary:
        return binary.function(name)[0]


def _pmu(program: Program, path: str, place: Place, pid: int, returns: bool, what: str) -> Link:
    device = Device("uprobe")
    config = device.retprobe if returns else 0
    if place.reference:
        if device.reference < 0:
            raise LinkError(f"{what}: semaphores of USDT probes need Linux 4.20, this kernel is older", EINVAL)
        config |= place.reference << device.reference
    name = kernel.buffer(os.fsencode(path) + b"\0")
    event = commands.perf_event(
        pid,
        # A process is followed to any CPU; for all processes one CPU's event stands for all CPUs.
        0 if pid < 0 else -1,
        what,
        type=device.type,
        config=config,
        sample_period=1,
        wakeup_events=1,
        config1=kernel.address(name),
        config2=place.offset,
    )
    return attach_event(program, event, what, place.cookie, "pmu")


def _tracefs(program: Program, path: str, place: Place, pid: int, returns: bool, what: str) -> Link:
    if set(path) & set(" \t\n"):
        raise LinkError(f"{what}: uprobe_events of tracefs takes no path with blanks", EINVAL)
    reference = f"({place.reference:#x})" if place.reference else ""
    text = f"{os.path.abspath(path)}:{place.offset:#x}{reference}"
    return probe_events.attach(program, "uprobe_events", text, returns, pid, what, place.cookie)


def attach_uprobe_multi(
    program: Program,
    binary: str,
    functions: Sequence[str] = (),
    *,
    offsets: Sequence[int] = (),
    pid: int = -1,
    returns: bool = False,
    cookies: Sequence[int] = (),
    session: bool = False,
    order: Sequence[str] = orders.UPROBE_MULTI,
) -> Link:
    """Run a uprobe.multi program at many places of a file by one link (6.6), or by an event each where there is none.

    ``offsets`` in the file may be given instead of ``functions``; ``cookies`` has one
    number for each. A ``session`` program runs at entry and return (6.13). Raises LinkError.
    """
    path = libraries.find(binary, pid or os.getpid())
    what = described(program, f"{'uretprobe' if returns else 'uprobe'}.multi {binary}")
    if bool(functions) == bool(offsets):
        raise LinkError(f"{what}: give functions or offsets", EINVAL)
    if functions:
        with Binary(path) as file:
            offsets = [file.function(name)[0] for name in functions]
    if cookies and len(cookies) != len(offsets):
        raise LinkError(f"{what}: {len(cookies)} cookies for {len(offsets)} places", EINVAL)
    places = [Place(offset, 0, cookie) for offset, cookie in zip(offsets, cookies or [0] * len(offsets))]
    return at_places(program, path, places, pid, returns, what, order, session)


def at_places(
    program: Program,
    path: str,
    places: Sequence[Place],
    pid: int,
    returns: bool,
    what: str,
    order: Sequence[str],
    session: bool = False,
) -> Link:
    """Attach at all ``places``: by one link, or by one event each. Raises LinkError."""

    def one_by_one(mechanism: str) -> Link:
        return group(what, [partial(_one, program, path, place, pid, returns, what, (mechanism,)) for place in places])

    def multi() -> Link:
        try:
            return _multi(program, path, places, pid, returns, session, what)
        except LinkError as error:
            if error.errno not in UNSUPPORTED or _takes_multi(program, session):
                raise
            since = "6.13" if session else "6.6"
            line = f"{what}: this kernel has no uprobe.{'session' if session else 'multi'} (Linux {since})"
            raise LinkError(line, EOPNOTSUPP, str(error)) from None

    ways: dict[str, Callable[[], Link]] = {
        "uprobe.multi": multi,
        "pmu": partial(one_by_one, "pmu"),
        "tracefs": partial(one_by_one, "tracefs"),
    }
    if session:
        order = [mechanism for mechanism in order if mechanism == "uprobe.multi"]
    elif not parse_section(program.section).attach_type:
        # Loaded as a plain uprobe, which the kernel keeps apart.
        order = [mechanism for mechanism in order if mechanism != "uprobe.multi"]
    return first(what, ordered(ways, order, what), partial(_explain, what, path, places[0], pid))


def _takes_multi(program: Program, session: bool) -> bool:
    """Whether the kernel has such links: one that has them looks at the path, which is no file's (EBADF)."""
    try:
        _multi(program, "/", [Place(1)], -1, False, session, "probe").close()
    except LinkError as error:
        return error.errno not in UNSUPPORTED
    return True


def _multi(
    program: Program, path: str, places: Sequence[Place], pid: int, returns: bool, session: bool, what: str
) -> Link:
    name = kernel.buffer(os.fsencode(path) + b"\0")
    count = len(places)
    word = "Q" if maxsize > 1 << 32 else "I"
    offsets = kernel.buffer(pack(f"={count}{word}", *(place.offset for place in places)))
    references = kernel.buffer(pack(f"={count}{word}", *(place.reference for place in places)))
    cookies = kernel.buffer(pack(f"={count}Q", *(place.cookie for place in places)))
    fd = commands.link_create(
        program.fd,
        0,
        abi.TRACE_UPROBE_SESSION if session else abi.TRACE_UPROBE_MULTI,
        0,
        "uprobe_multi",
        what,
        path=name,
        offsets=offsets,
        ref_ctr_offsets=references if any(place.reference for place in places) else 0,
        cookies=cookies if any(place.cookie for place in places) else 0,
        cnt=count,
        flags=abi.F_MULTI_RETURN if returns else 0,
        # 0 means all processes here, and a negative number nothing.
        pid=0 if pid < 0 else pid or os.getpid(),
    )
    return Link(what, fd, mechanism="uprobe.multi")


def _explain(what: str, path: str, place: Place, pid: int, error: SyscallError) -> str:
    if "this kernel has no " in str(error):
        return str(error) if what in str(error) else f"{what}: {error}"
    if error.errno == ESRCH:
        return f"{what}: there is no process {pid}"
    if error.errno in (EINVAL, EIO, ENOENT, EOPNOTSUPP, abi.ENOTSUPP):
        return f"{what}: the kernel cannot probe {path} at {place.offset:#x}: is that an instruction's beginning?"
    return ""
