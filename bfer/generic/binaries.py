"""Events of programs and libraries by name: functions (uprobe, uretprobe), and the probes that they bring (usdt)."""

from __future__ import annotations

from errno import ENOENT

from bfer.errors import UsageError
from bfer.generic import calls
from bfer.generic.event import GenericArg, GenericEvent
from bfer.generic.pieces import behind, piece
from bfer.records import KIND_STRING, PIECE_CONSTANT, PIECE_NUMBER, PIECE_RESULT, PIECE_SIGNED_RESULT, PIECE_STRING
from pybpf.errors import LinkError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from bfer.generic import Generic
    from pybpf.links.usdt import Argument, Probe

# Bits and sign of C's integer types, and of the usual names for them.
_TYPES = {
    **dict.fromkeys(("int", "signed", "signed int", "int32_t", "pid_t", "i32", "s32"), (32, True)),
    **dict.fromkeys(("unsigned", "unsigned int", "uint32_t", "uid_t", "gid_t", "mode_t", "u32"), (32, False)),
    **dict.fromkeys(("long", "long int", "long long", "ssize_t", "off_t", "int64_t", "i64", "s64"), (64, True)),
    **dict.fromkeys(("unsigned long", "unsigned long long", "size_t", "uint64_t", "u64", "uintptr_t"), (64, False)),
    **dict.fromkeys(("short", "int16_t", "i16", "s16"), (16, True)),
    **dict.fromkeys(("unsigned short", "uint16_t", "u16"), (16, False)),
    **dict.fromkeys(("char", "signed char", "int8_t", "i8", "s8"), (8, True)),
    **dict.fromkeys(("unsigned char", "uint8_t", "u8", "bool", "_Bool"), (8, False)),
}
_SIZED = {
    (1, True): "signed char",
    (1, False): "unsigned char",
    (2, True): "short",
    (2, False): "unsigned short",
    (4, True): "int",
    (4, False): "unsigned int",
    (8, True): "long",
    (8, False): "unsigned long",
}
_QUALIFIERS = ("const", "volatile", "restrict", "struct", "union", "enum")


class Binaries:
    """What files have. ``owner`` gives the events their numbers."""

    def __init__(self, owner: Generic) -> None:
        self._owner = owner

    def maker(self, kind: str) -> Callable[[str, str], GenericEvent]:
        return {"uprobe": self._uprobe, "uretprobe": self._uretprobe, "usdt": self._usdt}[kind]

    def _uprobe(self, spelled: str, target: str) -> GenericEvent:
        target, declared = _declared(target, spelled)
        path, offset, inside = self._place(spelled, target)
        convention = calls.convention(self._owner.machine)
        if declared is not None:
            args = _arguments(declared, convention, spelled)
        elif inside:
            args = []
        else:
            from bfer.generic.kernel import registers

            args = registers(convention)
        return self._event(spelled, "uprobe", path, offset, args)

    def _uretprobe(self, spelled: str, target: str) -> GenericEvent:
        target, declared = _declared(target, spelled)
        path, offset, inside = self._place(spelled, target)
        if inside:
            raise UsageError(f"{spelled!r}: a function returns as a whole, there is no offset")
        way = (calls.convention(self._owner.machine).result,)
        returns = GenericArg("retval", "long", 6)
        args: list[GenericArg] = []
        if declared is None:
            returns.signed = True
        else:
            returns = _argument(declared or "void", 6, way, spelled)
            if returns.memory:
                shown = _argument(declared, 0, way, spelled)
                shown.name = "retval"
                args.append(shown)
                returns.bits, returns.kind, returns.memory = 64, "ptr", 0
        event = self._event(spelled, "uretprobe", path, offset, args)
        event.returns = returns
        event.result = [piece(PIECE_SIGNED_RESULT if returns.signed else PIECE_RESULT, 0, way, returns.bits // 8)]
        return event

    def _event(self, spelled: str, kind: str, path: str, offset: int, args: list[GenericArg]) -> GenericEvent:
        name = spelled.partition("(")[0]
        event = GenericEvent(name, self._owner.number(), "kprobe", kind, args)
        event.options = {"binary": path, "offset": offset}
        return event

    def _place(self, spelled: str, target: str) -> tuple[str, int, bool]:
        """File, offset in it, and whether that is inside of a function or unknown to be the start of one."""
        from pybpf.links import libraries
        from pybpf.links.binary import Binary

        binary, colon, function = target.rpartition(":")
        if not colon or not binary or not function:
            raise UsageError(f"{spelled!r} must name a file and a function, as in uprobe:/bin/sh:main")
        path = libraries.find(binary)
        name, plus, more = function.partition("+")
        try:
            extra = int(more, 0) if plus else 0
            if name[:2].lower() == "0x" or name.isdigit():
                return path, int(name, 0) + extra, True
        except ValueError:
            raise UsageError(f"{spelled!r}: {function!r} is neither a function nor an offset") from None
        with Binary(path) as file:
            try:
                start, size = file.function(name)
            except LinkError as error:
                if error.errno != ENOENT:
                    raise
                from bfer.generic.alike import alike

                hint = alike(name, file.function_names())
                raise UsageError(f"{spelled!r}: {error}{hint}") from None
        if size and extra >= size:
            raise UsageError(f"{spelled!r}: {name!r} has {size} bytes")
        return path, start + extra, extra > 0

    # --- USDT ------------------------------------------------------------------------------

    def _usdt(self, spelled: str, target: str) -> GenericEvent:
        from pybpf.links import libraries, usdt

        parts = target.rsplit(":", 2)
        if len(parts) != 3 or not all(parts):
            raise UsageError(f"{spelled!r} must name file, provider and probe, as in usdt:libc.so.6:libc:setjmp")
        binary, provider, name = parts
        path = libraries.find(binary)
        every = usdt.probes(path)
        found = [probe for probe in every if (probe.provider, probe.name) == (provider, name)]
        if not found:
            have = sorted({f"{probe.provider}:{probe.name}" for probe in every})
            from bfer.generic.alike import alike

            few = f": it has {', '.join(have[:6])}{' ...' if len(have) > 6 else ''}" if have else ": it has none at all"
            hint = alike(f"{provider}:{name}", have) or few
            raise UsageError(f"{spelled!r}: {path} has no such probe{hint}")
        number = self._owner.number()
        # The same instruction may stand twice, in copies of a note that a linker has merged.
        events = [self._at(spelled, number, path, probe) for probe in {probe.offset: probe for probe in found}.values()]
        events[0].twins = events[1:]
        return events[0]

    def _at(self, spelled: str, number: int, path: str, probe: Probe) -> GenericEvent:
        args = [_kept(slot, argument) for slot, argument in enumerate(probe.arguments())]
        if any(not arg.pieces for arg in args):
            self._owner.note(f"{spelled}: an argument is where it cannot be read, and shown as 0")
        event = GenericEvent(spelled, number, "kprobe", "uprobe", args)
        event.options = {"binary": path, "offset": probe.offset, "reference": probe.semaphore}
        return event


def _kept(slot: int, argument: Argument) -> GenericArg:
    """An argument of a probe, by what the note says about its place."""
    arg = GenericArg(f"arg{slot}", _SIZED[min(argument.size, 8), argument.signed], slot)
    arg.bits, arg.signed = min(argument.size, 8) * 8, argument.signed
    if argument.floating:
        arg.kind = "hex"
    size = arg.bits // 8
    if argument.kind == "const":
        arg.pieces = [piece(PIECE_CONSTANT, slot, (argument.value,), size)]
    elif argument.kind == "register":
        arg.pieces = [piece(PIECE_NUMBER, slot, (argument.register,), size)]
    elif argument.kind == "memory":
        arg.pieces = [piece(PIECE_NUMBER, slot, (argument.register, argument.value), size)]
    return arg


# --- declarations ------------------------------------------------------------------------


def _declared(target: str, spelled: str) -> tuple[str, str | None]:
    """``PLACE`` and ``ARGS`` of ``PLACE(ARGS)``; None where nothing is declared."""
    if not target.endswith(")"):
        return target, None
    place, bracket, inside = target[:-1].partition("(")
    if not bracket or "(" in inside or ")" in inside:
        raise UsageError(f"{spelled!r}: arguments are declared as in uprobe:libc.so.6:fopen(const char *path, int x)")
    return place, inside.strip()


def _arguments(text: str, convention: calls.Convention, spelled: str) -> list[GenericArg]:
    parts = [part.strip() for part in text.split(",")] if text and text != "void" else []
    places = convention.places([8] * len(parts))
    return [_argument(part, slot, places[slot][0], spelled) for slot, part in enumerate(parts)]


def _argument(text: str, slot: int, way: tuple[int, ...], spelled: str) -> GenericArg:
    """One declaration: ``const char *path``, ``size_t n``, ``int``."""
    words = text.replace("*", " * ").split()
    stars = words.count("*")
    plain = [word for word in words if word not in ("*", *_QUALIFIERS)]
    name = ""
    # What cannot belong to the type is the name.
    if len(plain) > 1 and (stars or " ".join(plain) not in _TYPES):
        name = plain.pop()
    elif stars and words[-1] != "*" and len(plain) == 1 and words.index("*") < len(words) - 1:
        name = ""
    type = " ".join([word for word in words if word != "*" and word != name]) + (" " + "*" * stars if stars else "")
    if name and not name.isidentifier():
        raise UsageError(f"{spelled!r}: {text!r} is no declaration")
    arg = GenericArg(name or f"arg{slot}", type, slot)
    known = _TYPES.get(" ".join(plain))
    if stars == 1 and plain == ["char"]:
        arg.kind, arg.memory = "text", KIND_STRING
        arg.pieces = [piece(PIECE_STRING, slot, behind(way))]
    elif stars:
        arg.kind = "ptr"
        arg.pieces = [piece(PIECE_NUMBER, slot, way, 8)]
    elif known is not None or plain == ["void"]:
        arg.bits, arg.signed = known or (64, False)
        arg.pieces = [piece(PIECE_NUMBER, slot, way, arg.bits // 8)]
    else:
        from bfer.suggest import nearest

        wrong = " ".join(plain)
        raise UsageError(f"{spelled!r}: {wrong!r} is no type that is known{nearest(wrong, _TYPES)}")
    return arg
