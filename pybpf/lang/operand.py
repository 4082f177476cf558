"""What an expression of the language stands for while it is lowered."""

from __future__ import annotations

from pybpf.lang.ir import Imm, Slot
from pybpf.lang.types import Scalar, StructType, Type, i64, u32, u64

# Pointer spaces: which instruction reads what is behind a pointer.
MEM = "mem"  # stack, map value, ring buffer record: plain loads and stores
RODATA = "rodata"  # settings: plain loads
CTX = "ctx"  # the program's context: loads that the verifier rewrites, constant offsets only
BTF = "btf"  # typed by the verifier: direct loads, CO-RE offsets
KERN = "kern"  # any other kernel address: probe_read_kernel
USER = "user"  # the process's memory: probe_read_user

PROBED = (KERN, USER)
SPACE_NAMES = {
    MEM: "memory",
    RODATA: "settings",
    CTX: "the context",
    BTF: "kernel memory",
    KERN: "kernel memory",
    USER: "user memory",
}


class Value:
    """Base of everything an expression can be."""

    __slots__ = ()


class Const(Value):
    """A value known when compiling: a Python object."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value


class Int(Value):
    """A number in a register, or a constant that was given a type. The register holds it extended to 64 bits.

    ``type`` is never big-endian nor ``char``: loading has converted it.
    """

    __slots__ = ("op", "type")

    def __init__(self, type: Scalar, op: int | Imm) -> None:
        self.type = type
        self.op = op


class Settled(Int):
    """A number that is in the code once it is loaded: the verifier takes it for a constant."""

    __slots__ = ()


class Pointer(Value):
    """An address: register or frame slot, plus ``off`` bytes. ``align`` is what is known of its alignment."""

    __slots__ = ("align", "nullable", "off", "reg", "space", "target")

    def __init__(
        self, target: Type, space: str, reg: int | Slot, off: int = 0, nullable: bool = False, align: int = 0
    ) -> None:
        self.target = target
        self.space = space
        self.reg = reg
        self.off = off
        self.nullable = nullable
        self.align = align or target.align

    @property
    def steadiness(self) -> int:
        """What is known of the alignment of the address itself, ``off`` included."""
        return min(self.align, self.off & -self.off) if self.off else self.align

    def describe(self) -> str:
        """For messages."""
        return f"Ptr[{self.target}] to {SPACE_NAMES[self.space]}"


class Place(Value):
    """Somewhere in memory that holds a ``type``: what can be read, written or have its address taken.

    ``off`` is the nominal offset from ``reg``. If ``root`` is set the place is
    inside kernel type ``root`` at CO-RE path ``path`` (indexes, the first one
    counting whole roots), and the real offset is known at load time only. A
    bit-field starts at bit ``bit`` of the byte at ``off``.
    """

    __slots__ = ("align", "bit", "off", "path", "reg", "root", "space", "type")

    def __init__(
        self,
        type: Type,
        space: str,
        reg: int | Slot,
        off: int = 0,
        align: int = 0,
        root: StructType | None = None,
        path: tuple[int, ...] = (),
        bit: int = 0,
    ) -> None:
        self.type = type
        self.bit = bit
        self.space = space
        self.reg = reg
        self.off = off
        self.align = align or type.align
        self.root = root
        self.path = path

    @property
    def relocated(self) -> bool:
        """Whether the offset needs a CO-RE relocation: not so for the root's own start."""
        return self.root is not None and (len(self.path) > 1 or self.path[0] != 0)


class Void(Value):
    """No value: what a function without a result returns."""

    __slots__ = ()


class Group(Value):
    """A tuple of which not everything is constant; it can only be taken apart again."""

    __slots__ = ("items",)

    def __init__(self, items: list[Value]) -> None:
        self.items = items


class Var:
    """A local variable. ``value`` says where it lives; for a compile-time value it is that value.

    ``pinned`` says that its address may outlive the function that owns it.
    ``holds`` is the ring buffer reservation behind it, if it names one.
    """

    __slots__ = ("bound", "holds", "name", "pinned", "value")

    def __init__(self, name: str, value: Value, bound: bool = False) -> None:
        self.name = name
        self.value = value
        self.bound = bound
        self.pinned = False
        self.holds: Reservation | None = None


class Reservation:
    """A ring buffer record between reserve and submit."""

    __slots__ = ("name", "reg")

    def __init__(self, name: str, reg: int) -> None:
        self.name = name
        self.reg = reg


# How a number can be compared: as signed, as unsigned, or either way with the same outcome.
SIGNED, UNSIGNED, EITHER = "signed", "unsigned", "either"


def int_constant(value: Value) -> int | None:
    """The number, if it is known when compiling."""
    if type(value) is Int:
        return value.op.value if isinstance(value.op, Imm) else None
    if type(value) is Const and isinstance(value.value, int):
        return int(value.value)
    return None


def sign_of(value: Int | Const) -> str:
    """SIGNED for what may be negative, UNSIGNED for what may exceed i64, else EITHER."""
    number = int_constant(value)
    if number is not None:
        return SIGNED if number < 0 else EITHER if number < 1 << 63 else UNSIGNED
    assert isinstance(value, Int)
    return SIGNED if value.type.signed else EITHER if value.type.small else UNSIGNED


def is_narrow(value: Int | Const) -> bool:
    """Whether the number is certainly in 0 .. 2**32-1."""
    number = int_constant(value)
    if number is not None:
        return 0 <= number < 1 << 32
    assert isinstance(value, Int)
    return value.type.small


def type_of(value: Int | Const) -> Scalar:
    """The narrowest common name of the number's type: its own, or the one a constant takes by itself."""
    if isinstance(value, Int):
        return value.type
    number = int_constant(value)
    assert number is not None
    return u32 if 0 <= number < 1 << 32 else i64 if number < 1 << 63 else u64
