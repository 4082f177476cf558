"""USDT: static probes that programs carry as notes (sys/sdt.h), with arguments and semaphores.

A note of .note.stapsdt gives the probe's instruction, a semaphore (a counter that the
program tests before it prepares the arguments), names, and where the
arguments are at that instruction, as an assembler would write them.
"""

from __future__ import annotations

from errno import EINVAL, ENOENT
from struct import Struct

from pybpf.errors import LinkError
from pybpf.links import libraries
from pybpf.links import order as orders
from pybpf.links.base import Link, described
from pybpf.links.binary import Binary
from pybpf.links.uprobes import Place, at_places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pybpf.program import Program
    from pybpf.sections import Section

_NOTES, _BASE = ".note.stapsdt", ".stapsdt.base"
_NOTE_TYPE = 3
_EM_X86_64, _EM_AARCH64 = 62, 183

# Offsets in struct pt_regs (arch/x86/include/asm/ptrace.h), and what a register's parts are called.
_X86_64_ORDER = (
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8"),
    *("rax", "rcx", "rdx", "rsi", "rdi", "orig_rax", "rip", "cs", "eflags", "rsp"),
)
_X86_64 = {name: 8 * index for index, name in enumerate(_X86_64_ORDER)}
# struct user_pt_regs (arch/arm64/include/uapi/asm/ptrace.h).
_AARCH64 = {**{f"x{n}": 8 * n for n in range(31)}, "sp": 248, "pc": 256}


class Argument:
    """Where a probe's argument is: ``size`` bytes, ``signed``, ``floating``.

    ``kind`` is ``const`` (``value``), ``register`` (``register``: its offset in pt_regs),
    ``memory`` (at ``register`` + ``value``) or ``indexed`` (at ``register`` + ``index`` *
    ``scale`` + ``value``; ``index`` is an offset in pt_regs too).
    """

    __slots__ = ("floating", "index", "kind", "register", "scale", "signed", "size", "text", "value")

    def __init__(self, text: str, size: int, signed: bool, floating: bool) -> None:
        self.text = text
        self.size = size
        self.signed = signed
        self.floating = floating
        self.kind = "const"
        self.value = 0
        self.register = self.index = -1
        self.scale = 1

    def __repr__(self) -> str:
        return f"<Argument {self.text}>"


class Probe:
    """One place of a probe: ``provider:name``; ``offset`` and ``semaphore`` (0: none) in the file."""

    __slots__ = ("machine", "name", "offset", "provider", "semaphore", "specification")

    def __init__(self, provider: str, name: str, specification: str, offset: int, semaphore: int, machine: int) -> None:
        self.provider = provider
        self.name = name
        self.specification = specification
        self.offset = offset
        self.semaphore = semaphore
        self.machine = machine

    def arguments(self) -> list[Argument]:
        """Where the arguments are. Raises LinkError for a machine or a form that is not known."""
        return [parse_argument(text, self.machine) for text in _split(self.specification)]

    def __repr__(self) -> str:
        return f"<Probe {self.provider}:{self.name} at {self.offset:#x}>"


def _split(text: str) -> list[str]:
    """arm64 has blanks inside brackets: ``-4@[sp, 12] 8@x0``."""
    parts: list[str] = []
    for word in text.split():
        if parts and parts[-1].count("[") > parts[-1].count("]"):
            parts[-1] += word
        else:
            parts.append(word)
    return parts


def probes(path: str) -> list[Probe]:
    """All places of all probes of a file. Raises LinkError."""
    with Binary(path) as binary:
        word = Struct(binary.prefix + ("QQQ" if binary.wide else "III"))
        # prelink may move a file after its notes were written; the empty section tells by how much.
        base = binary.section(_BASE)
        found = []
        for owner, type, contents in binary.notes(_NOTES):
            if owner != "stapsdt" or type != _NOTE_TYPE:
                continue
            texts = contents[word.size :].split(b"\0")
            if len(contents) < word.size or len(texts) < 3:
                raise LinkError(f"{path}: section {_NOTES} is malformed", EINVAL)
            address, noted, semaphore = word.unpack_from(contents)
            moved = base[0] - noted if base is not None and noted else 0
            provider, name, specification = (text.decode(errors="replace") for text in texts[:3])
            found.append(
                Probe(
                    provider,
                    name,
                    specification,
                    binary.file_offset(address + moved),
                    binary.file_offset(semaphore + moved, False) if semaphore else 0,
                    binary.machine,
                )
            )
        return found


def by_section(program: Program, section: Section, **options: Any) -> Link:
    """``usdt/FILE:PROVIDER:NAME``."""
    parts = section.target.rsplit(":", 2)
    if section.target and len(parts) == 3:
        for key, value in zip(("binary", "provider", "name"), parts):
            options.setdefault(key, value)
    elif not {"binary", "provider", "name"} <= options.keys():
        raise LinkError(f"{described(program)}: the section must name a probe, as in usdt/FILE:PROVIDER:NAME", EINVAL)
    return attach_usdt(program, **options)


def attach_usdt(
    program: Program,
    binary: str,
    provider: str,
    name: str,
    *,
    pid: int = -1,
    cookies: Sequence[int] = (),
    order: Sequence[str] = orders.UPROBE_MULTI,
) -> Link:
    """Run a program at every place of a file's probe ``provider:name``, in process ``pid`` (-1: all).

    Its semaphore counts up while attached, so that the program with the probe
    prepares its arguments. ``cookies`` has one number for each place, in the
    order of ``probes()``, or one for all. Raises LinkError.
    """
    what = described(program, f"usdt {binary}:{provider}:{name}")
    path = libraries.find(binary, pid)
    every = probes(path)
    found = [probe for probe in every if (probe.provider, probe.name) == (provider, name)]
    if not found:
        have = sorted({f"{probe.provider}:{probe.name}" for probe in every})
        hint = f"it has {', '.join(have[:8])}{' ...' if len(have) > 8 else ''}" if have else "it has none at all"
        raise LinkError(f"{what}: {path} has no such probe: {hint}", ENOENT)
    if len(cookies) == 1:
        cookies = list(cookies) * len(found)
    if cookies and len(cookies) != len(found):
        raise LinkError(f"{what}: {len(cookies)} cookies for {len(found)} places", EINVAL)
    # The same instruction may stand twice, in copies of a note that a linker has merged.
    places: dict[int, Place] = {}
    for probe, cookie in zip(found, cookies or [0] * len(found)):
        places.setdefault(probe.offset, Place(probe.offset, probe.semaphore, cookie))
    return at_places(program, path, list(places.values()), pid, False, what, order)


# --- arguments --------------------------------------------------------------------


def parse_argument(text: str, machine: int = _EM_X86_64) -> Argument:
    """``-4@%edi``, ``8@-16(%rbp)``, ``4@$5``; arm64: ``8@x0``, ``-4@[sp,12]``, ``8@5``. Raises LinkError."""
    size, at, place = text.partition("@")
    floating = size.endswith("f")
    digits = size.rstrip("f")
    if not at or digits.lstrip("-") not in ("1", "2", "4", "8", "16"):
        raise LinkError(f"USDT argument {text!r} has no size", EINVAL)
    argument = Argument(text, abs(int(digits)), digits.startswith("-"), floating)
    parse = {_EM_X86_64: _x86_64, _EM_AARCH64: _aarch64}.get(machine)
    if parse is None:
        raise LinkError(f"USDT arguments of ELF machine {machine} are not known, only x86-64 and arm64", EINVAL)
    if not parse(argument, place.replace(" ", "")):
        raise LinkError(f"USDT argument {text!r} has a form that is not known", EINVAL)
    return argument


def _integer(text: str) -> int | None:
    try:
        return int(text, 0) if text else 0
    except ValueError:
        return None


def _x86_64(argument: Argument, place: str) -> bool:
    if place.startswith("$"):
        value = _integer(place[1:])
        argument.value = value or 0
        return value is not None
    if place.startswith("%"):
        argument.kind = "register"
        argument.register = _x86_register(place[1:])
        return argument.register >= 0
    displacement, bracket, inside = place.partition("(")
    value = _integer(displacement)
    parts = inside.rstrip(")").split(",")
    if not bracket or value is None or len(parts) > 3:
        return False
    argument.kind, argument.value = "memory", value
    argument.register = _x86_register(parts[0].lstrip("%")) if parts[0] else -1
    if len(parts) > 1:
        argument.kind = "indexed"
        argument.index = _x86_register(parts[1].lstrip("%"))
        argument.scale = _integer(parts[2]) or 1 if len(parts) > 2 else 1
        return argument.index >= 0 and argument.scale in (1, 2, 4, 8) and (argument.register >= 0 or not parts[0])
    return argument.register >= 0


def _x86_register(name: str) -> int:
    """Offset in pt_regs of a register or of its low part; -1 for any other (``%ah``, ``%xmm0``)."""
    if name[:1] == "r" and name[1:].rstrip("bwd").isdigit():
        return _X86_64.get(name.rstrip("bwd"), -1)
    if name in _X86_64:
        return _X86_64[name]
    for whole in (f"r{name}", f"r{name[1:]}", f"r{name[:-1]}x", f"r{name[:-1]}"):
        # eax, ax and al; esi, si and sil: the whole register with r in front.
        if whole in _X86_64 and not name.endswith("h"):
            return _X86_64[whole]
    return -1


def _aarch64(argument: Argument, place: str) -> bool:
    if place.startswith("["):
        parts = place[1:].rstrip("]").split(",")
        argument.register = _AARCH64.get(parts[0], -1)
        argument.kind = "memory"
        if len(parts) == 1:
            return argument.register >= 0
        value = _integer(parts[1].lstrip("#"))
        if value is not None:
            argument.value = value
            return argument.register >= 0 and len(parts) == 2
        argument.kind = "indexed"
        argument.index = _AARCH64.get(parts[1], -1)
        shift = _integer(parts[2][3:].lstrip("#")) if len(parts) > 2 and parts[2].startswith("lsl") else 0
        argument.scale = 1 << (shift or 0)
        return argument.register >= 0 and argument.index >= 0
    # w0 is the lower half of x0.
    register = _AARCH64.get("x" + place[1:] if place[:1] == "w" else place, -1)
    if register >= 0:
        argument.kind, argument.register = "register", register
        return True
    value = _integer(place.lstrip("#"))
    argument.value = value or 0
    return value is not None
