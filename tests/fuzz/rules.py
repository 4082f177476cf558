"""The language's integer rules, stated once for the generators and the oracle; the compiler has its own."""

from __future__ import annotations

M64 = (1 << 64) - 1

# What a number can be: signed 64 bits, unsigned 64 bits, or in 0 .. 2**32-1 ("narrow"), which mixes with both.
SIGNED, UNSIGNED, NARROW = "s", "u", "n"
KINDS = {"i64": "s", "i32": "s", "i16": "s", "i8": "s", "u64": "u", "u32": "n", "u16": "n", "u8": "n", "bool": "n"}


class Invalid(Exception):
    """The text is not a valid program: the language refuses what it does."""


def kind_of_constant(value: int) -> str:
    """``s``, ``u``, ``n``, or ``e``: non-negative and wider than 32 bits, which takes the other side's sign."""
    if not -(1 << 63) <= value <= M64:
        raise Invalid(f"{value} does not fit in 64 bits")
    return "s" if value < 0 else "n" if value < 1 << 32 else "e" if value < 1 << 63 else "u"


def arithmetic(op: str, a: str, b: str) -> str:
    """The kind of ``a <op> b``, the kinds of the operands given."""
    if op == "<<":
        return "s" if a == "s" else "u"
    if op == ">>":
        return a if a in "sn" else "u"
    if op in ("//", "%"):
        if {a, b} == {"s", "u"}:
            raise Invalid("division of signed by unsigned")
        return "s" if "s" in (a, b) else "n" if a == "n" else "u"
    if op == "&" and "n" in (a, b):
        return "n"
    if op in ("|", "^") and a == b == "n":
        return "n"
    return "u" if "u" in (a, b) else "s" if "s" in (a, b) else "u"


def joined(a: str, b: str) -> str:
    """The kind of a value that is one or the other."""
    if {a, b} == {"s", "u"}:
        raise Invalid("signed on one path, unsigned on another")
    return "n" if a == b == "n" else "s" if "s" in (a, b) else "u"


def least(greatest: bool, a: str, b: str) -> str:
    """The kind of min() or max()."""
    if {a, b} == {"s", "u"}:
        raise Invalid("comparison of signed with unsigned")
    if a == b == "n" or (not greatest and "s" not in (a, b) and "n" in (a, b)):
        return "n"
    return "s" if "s" in (a, b) else "u"


def check_comparison(a: str, b: str) -> None:
    """Refuse what has no common order."""
    if {a, b} == {"s", "u"}:
        raise Invalid("comparison of signed with unsigned")
