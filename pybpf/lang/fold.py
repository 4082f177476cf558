"""What operations do to constants: the ISA's arithmetic on Python integers."""

from __future__ import annotations

from pybpf.lang import ir

MASK64 = 0xFFFF_FFFF_FFFF_FFFF
MIRRORED = {
    "eq": "eq", "ne": "ne", "set": "set",
    "gt": "lt", "ge": "le", "lt": "gt", "le": "ge",
    "sgt": "slt", "sge": "sle", "slt": "sgt", "sle": "sge",
}  # fmt: skip
OPPOSITE = {
    "eq": "ne", "ne": "eq", "gt": "le", "le": "gt", "ge": "lt", "lt": "ge",
    "sgt": "sle", "sle": "sgt", "sge": "slt", "slt": "sge",
}  # fmt: skip


def signed(value: int, bits: int = 64) -> int:
    """The low ``bits`` of value as a two's complement number."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> bits - 1 else value


def fits_s32(value: int) -> bool:
    """Whether a 64-bit value is the sign extension of its low 32 bits."""
    return -0x8000_0000 <= signed(value) <= 0x7FFF_FFFF


def binary(op: str, a: int, b: int, size: int) -> int:
    """The unsigned 64-bit result of a binary operation (RFC 9669 section 4.1)."""
    bits = size * 8
    mask = (1 << bits) - 1
    a &= mask
    b &= mask
    shift = b & bits - 1
    if op == ir.ADD:
        result = a + b
    elif op == ir.SUB:
        result = a - b
    elif op == ir.MUL:
        result = a * b
    elif op == ir.DIV:
        result = a // b if b else 0
    elif op == ir.MOD:
        result = a % b if b else a
    elif op == ir.AND:
        result = a & b
    elif op == ir.OR:
        result = a | b
    elif op == ir.XOR:
        result = a ^ b
    elif op == ir.LSH:
        result = a << shift
    elif op == ir.RSH:
        result = a >> shift
    else:
        result = signed(a, bits) >> shift
    return result & mask


def extend(op: str, value: int, size: int) -> int:
    """ZEXT or SEXT of the low ``size`` bytes, as an unsigned 64-bit number."""
    if op == ir.ZEXT:
        return value & (1 << size * 8) - 1
    return signed(value, size * 8) & MASK64


def swap(value: int, size: int, to_big: bool) -> int:
    """BSWAP on a little-endian machine: the low ``size`` bytes, reversed when to_big."""
    low = value & (1 << size * 8) - 1
    return int.from_bytes(low.to_bytes(size, "little"), "big") if to_big else low


def compare(cond: str, a: int, b: int, size: int) -> bool:
    """The outcome of a branch."""
    bits = size * 8
    mask = (1 << bits) - 1
    if cond[0] == "s" and cond != "set":
        a, b = signed(a, bits), signed(b, bits)
        cond = cond[1:]
    else:
        a, b = a & mask, b & mask
    if cond == "eq":
        return a == b
    if cond == "ne":
        return a != b
    if cond == "gt":
        return a > b
    if cond == "ge":
        return a >= b
    if cond == "lt":
        return a < b
    if cond == "le":
        return a <= b
    return bool(a & b)
