"""kprobes and kretprobes: programs at functions and instructions of the kernel."""

from __future__ import annotations

import os
from errno import EADDRNOTAVAIL, EBUSY, EILSEQ, EINVAL, ENOENT, EOPNOTSUPP, ESRCH
from functools import partial
from struct import pack
from sys import maxsize

from pybpf import abi, commands, kernel
from pybpf.errors import LinkError
from pybpf.links import order as orders
from pybpf.links import probe_events
from pybpf.links.base import UNSUPPORTED, Attempt, Link, described
from pybpf.links.events import Device, attach_event
from pybpf.links.names import split_offset
from pybpf.links.ways import first, group, ordered
from pybpf.sections import parse_section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pybpf.errors import SyscallError
    from pybpf.program import Program
    from pybpf.sections import Section

# What a system call's function is called (arch/*/include/asm/syscall_wrapper.h).
_WRAPPERS = {"x86_64": "__x64_", "aarch64": "__arm64_", "s390x": "__s390x_", "riscv64": "__riscv_", "i686": "__ia32_"}

# Where a kernel keeps the first bytes of its functions for ftrace and lets nobody probe them (riscv64 from 6.8 on), a
# function begins behind them, with its arguments as they were. One without them can be probed where it begins.
_BEHIND_FTRACE = {"riscv64": 8}

_EVERYWHERE = "vfs_read"
# What may be the function's fault.
_PLACE_ERRORS = (ENOENT, ESRCH, EINVAL, EILSEQ, EADDRNOTAVAIL)


def by_section(program: Program, section: Section, **options: Any) -> Link:
    """``kprobe/FUNCTION[+OFFSET]``, ``kprobe.multi/PATTERN``, ``ksyscall/NAME`` and the like."""
    kind, target = section.kind, section.target
    if not target and not {"function", "functions", "addresses", "name"} & options.keys():
        raise LinkError(
            f"{described(program)}: the section must name a function, as in {kind}/FUNCTION, or function= be given",
            EINVAL,
        )
    returns = kind in ("kretprobe", "kretprobe.multi", "kretsyscall")
    options.setdefault("returns", returns)
    if kind in ("ksyscall", "kretsyscall"):
        return attach_ksyscall(program, options.pop("name", target), **options)
    if kind in ("kprobe", "kretprobe"):
        if "function" not in options:
            options["function"], offset = split_offset(target, described(program))
            options.setdefault("offset", offset)
        return attach_kprobe(program, **options)
    if "addresses" not in options:
        options.setdefault("functions", target)
    if kind == "kprobe.session":
        options["session"] = True
    return attach_kprobe_multi(program, **options)


def attach_kprobe(
    program: Program,
    function: str | int,
    offset: int = 0,
    *,
    returns: bool = False,
    cookie: int = 0,
    maxactive: int = 0,
    fork: bool = True,
    order: Sequence[str] = orders.KPROBE,
) -> Link:
    """Run a kprobe program at the kernel function ``function`` (or address), ``offset`` bytes into it.

    ``returns`` runs it when the function returns (kretprobe) instead. Of calls that run at once the kernel sees so many
    return as it has made room for: that is one for each processor on a kernel that is not preemptible (before 6.2),
    while a function like vfs_read sleeps in any number of threads. ``maxactive`` (4096 at most) asks for other room,
    which takes a named event in tracefs; where that cannot be had, the ways of ``order`` come next, as without.
    Such an event outlives a process that is killed, so a shell looks after it, or where there is none a ``fork`` of
    this process, if that is allowed.
    ``cookie`` needs 5.15. ``order`` is the mechanisms to try. Raises LinkError.
    """
    place = f"{function:#x}" if isinstance(function, int) else function
    what = described(program, f"{'kretprobe' if returns else 'kprobe'} {place}{f'+{offset:#x}' if offset else ''}")
    if returns and offset:
        raise LinkError(f"{what}: a function returns as a whole: there is no offset", EINVAL)
    ways: dict[str, Callable[[], Link]] = {
        "pmu": partial(_pmu, program, function, offset, returns, cookie, what),
        "tracefs": partial(_tracefs, program, function, offset, returns, cookie, what),
    }
    wanted = list(ordered(ways, order, what))
    tried: list[Attempt] = []
    if returns and maxactive:
        try:
            return _tracefs(program, function, offset, returns, cookie, what, maxactive, fork)
        except LinkError as error:
            # Forbidden or not there: it says nothing of the other ways.
            tried.append(Attempt(f"tracefs, maxactive {maxactive}", error))
    try:
        link = first(what, wanted, partial(_explain, what, function, offset))
    except LinkError as error:
        behind = _BEHIND_FTRACE.get(os.uname().machine, 0)
        if error.errno != EINVAL or not behind or offset or isinstance(function, int):
            raise
        if returns:
            line = f"{what}: a return is probed where the function begins, which is ftrace's place on this machine"
            raise LinkError(f"{line}: use fexit", EINVAL, error.details) from error
        try:
            link = attach_kprobe(program, function, behind, cookie=cookie, order=order)
        except LinkError:
            raise error from None
    link.attempts = (*tried, *link.attempts)
    return link


def _pmu(program: Program, function: str | int, offset: int, returns: bool, cookie: int, what: str) -> Link:
    device = Device("kprobe")
    name = kernel.buffer(function.encode() + b"\0") if isinstance(function, str) else None
    event = commands.perf_event(
        -1,
        0,
        what,
        type=device.type,
        config=device.retprobe if returns else 0,
        sample_period=1,
        wakeup_events=1,
        # The function's name and an offset, or no name and an address.
        config1=kernel.address(name) if name is not None else 0,
        config2=offset if name is not None else int(function) + offset,
    )
    return attach_event(program, event, what, cookie, "pmu")


def _tracefs(
    program: Program,
    function: str | int,
    offset: int,
    returns: bool,
    cookie: int,
    what: str,
    maxactive: int = 0,
    fork: bool = True,
) -> Link:
    place = f"{function}+{offset}" if isinstance(function, str) else f"{function + offset:#x}"
    return probe_events.attach(program, "kprobe_events", place, returns, -1, what, cookie, maxactive, fork)


def attach_kprobe_multi(
    program: Program,
    functions: str | Sequence[str] = (),
    *,
    addresses: Sequence[int] = (),
    returns: bool = False,
    cookies: Sequence[int] = (),
    session: bool = False,
    order: Sequence[str] = orders.KPROBE_MULTI,
) -> Link:
    """Run a kprobe.multi program at many functions by one link (5.18), or by an event each where there is none.

    ``functions`` are names, or one pattern with ``*`` and ``?``; ``addresses`` may be
    given instead. ``cookies`` has one number for each. A ``session`` program runs at
    entry and return (6.10). Raises LinkError.
    """
    pattern = functions if isinstance(functions, str) else ""
    shown = pattern or ", ".join([*map(str, functions), *map(hex, addresses)][:3])
    kind = "kprobe.session" if session else "kretprobe.multi" if returns else "kprobe.multi"
    what = described(program, f"{kind} {shown}")
    names = _matching(pattern, what) if pattern else [str(name) for name in functions]
    if bool(names) == bool(addresses):
        raise LinkError(f"{what}: give functions or addresses", EINVAL)
    places: list[str | int] = [*names, *addresses]
    if cookies and len(cookies) != len(places):
        raise LinkError(f"{what}: {len(cookies)} cookies for {len(places)} functions", EINVAL)

    def one_by_one(mechanism: str) -> Link:
        pairs = zip(places, cookies or [0] * len(places))
        return group(
            what,
            [
                partial(attach_kprobe, program, place, returns=returns, cookie=cookie, order=(mechanism,))
                for place, cookie in pairs
            ],
        )

    def multi() -> Link:
        try:
            return _multi(program, names, addresses, returns, session, cookies, what)
        except LinkError as error:
            if error.errno not in UNSUPPORTED or _takes_multi(program, session):
                raise
            raise LinkError(f"{what}: this kernel has no {kind} (Linux {since}, CONFIG_FPROBE)", EOPNOTSUPP) from None

    since = "6.10" if session else "5.18"
    ways: dict[str, Callable[[], Link]] = {
        "kprobe.multi": multi,
        "pmu": partial(one_by_one, "pmu"),
        "tracefs": partial(one_by_one, "tracefs"),
    }
    if session:
        order = [mechanism for mechanism in order if mechanism == "kprobe.multi"]
    elif not parse_section(program.section).attach_type:
        # Loaded as a plain kprobe, which the kernel keeps apart.
        order = [mechanism for mechanism in order if mechanism != "kprobe.multi"]
    explain = partial(_explain, what, places[0] if len(places) == 1 else "", 0)
    return first(what, ordered(ways, order, what), explain)


def _multi(
    program: Program,
    names: Sequence[str],
    addresses: Sequence[int],
    returns: bool,
    session: bool,
    cookies: Sequence[int],
    what: str,
) -> Link:
    count = len(names) or len(addresses)
    texts = [kernel.buffer(name.encode() + b"\0") for name in names]
    # An array of pointers (of the machine's size) to names, or one of addresses; kept alive by these names.
    size = "Q" if maxsize > 1 << 32 else "I"
    values = kernel.buffer(pack(f"={count}{size}", *(map(kernel.address, texts) if names else addresses)))
    extra = kernel.buffer(pack(f"={len(cookies)}Q", *cookies))
    fd = commands.link_create(
        program.fd,
        0,
        abi.TRACE_KPROBE_SESSION if session else abi.TRACE_KPROBE_MULTI,
        0,
        "kprobe_multi",
        what,
        flags=abi.F_MULTI_RETURN if returns else 0,
        cnt=count,
        cookies=extra if cookies else 0,
        **{"syms" if names else "addrs": values},
    )
    return Link(what, fd, mechanism="kprobe.multi")


def _takes_multi(program: Program, session: bool) -> bool:
    """Whether the kernel has such links, found out with a function that every kernel has and lets be traced."""
    try:
        _multi(program, [_EVERYWHERE], [], False, session, [], "probe").close()
    except LinkError as error:
        return error.errno not in UNSUPPORTED
    return True


def has_kprobe_multi() -> bool:
    """Whether this kernel has kprobe.multi links (5.18, CONFIG_FPROBE), found out by making one."""
    from pybpf.errors import LoadError
    from pybpf.program import Request

    code = pack("=BBhi", 0xB7, 0, 0, 0) + pack("=BBhi", 0x95, 0, 0, 0)  # r0 = 0; exit
    try:
        with Request("probe", parse_section("kprobe.multi/" + _EVERYWHERE), code).load() as program:
            return _takes_multi(program, False)
    except LoadError:
        return False


def _matching(pattern: str, what: str) -> list[str]:
    if not {"*", "?", "["} & set(pattern):
        return [pattern]
    from pybpf.tracefs import functions

    # Modules may have functions of one name; the kernel takes a name once.
    found = list(dict.fromkeys(functions(pattern)))
    if not found:
        raise LinkError(f"{what}: no function that can be traced matches {pattern!r}", ENOENT)
    return found


def attach_ksyscall(program: Program, name: str, **options: Any) -> Link:
    """``attach_kprobe`` at the function of system call ``name``, whatever this machine calls it. Raises LinkError.

    Since 4.17 that function's only argument is ``struct pt_regs *``, which has the call's arguments.
    """
    from pybpf import kallsyms

    wrapped = _WRAPPERS.get(os.uname().machine, "") + "sys_" + name
    try:
        known = kallsyms.find({wrapped, "sys_" + name})
    except OSError as error:
        raise LinkError(f"system call {name}: {kallsyms.PATH}: {error.strerror}", error.errno or ENOENT) from None
    if not known:
        what = described(program, f"ksyscall {name}")
        raise LinkError(f"{what}: this kernel has no system call {name!r} (no function {wrapped})", ENOENT)
    return attach_kprobe(program, wrapped if wrapped in known else "sys_" + name, **options)


def _explain(what: str, function: str | int, offset: int, error: SyscallError) -> str:
    """One line for what the kernel said, after a look at what it knows of the function."""
    if "this kernel has no " in str(error):
        return str(error) if what in str(error) else f"{what}: {error}"
    if error.errno == EBUSY:
        return f"{what}: the place is taken by a probe of another kind"
    if not isinstance(function, str) or not function or error.errno not in _PLACE_ERRORS:
        return ""
    from pybpf import kallsyms

    try:
        known = kallsyms.find([function]).get(function)
    except OSError:
        return ""
    if not known:
        return f"{what}: this kernel has no function {function!r}; {_alike(function)}"
    if len(known) > 1:
        return f"{what}: this kernel has {len(known)} functions {function!r}: probe the address of one of them"
    if known[0].kind not in "tTwW":
        return f"{what}: {function!r} is no function, but data"
    if offset:
        return f"{what}: there is no instruction {offset} bytes into {function!r}, or it may not be probed"
    return f"{what}: the function may not be probed (it is marked notrace or on the kprobes blacklist)"


def _alike(function: str) -> str:
    """Compilers make copies of functions under other names: ``x.isra.0``, ``x.constprop.0``, ``x.part.0``."""
    from pybpf import kallsyms

    pattern = b" " + function.encode() + b"."
    for block in kallsyms.blocks():
        at = block.find(pattern)
        if at >= 0:
            return f"the compiler made it {block[at + 1 :].split(None, 1)[0].decode()!r}"
    return "it may be inlined, or be in a module that is not loaded"
