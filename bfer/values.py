"""Scalar arguments: the number that a record holds, as the argument's C type, and its text."""

from __future__ import annotations

from bfer import flags
from bfer.catalogue import DIRFD, HOW, MODE, OPEN_FLAGS, SIZE, UNLINK_FLAGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from bfer.catalogue import Arg

    OpenTable = Sequence[tuple[str, int]]

U32 = 0xFFFFFFFF


def signed32(value: int) -> int:
    return ((value & U32) ^ 0x80000000) - 0x80000000


def number(arg: Arg, scalars: Sequence[int]) -> int:
    """The value of ``arg`` as its C type holds it."""
    value = scalars[arg.slot]
    if arg.kind == SIZE:
        return value
    return value & U32 if arg.kind == MODE else signed32(value)


def text(arg: Arg, scalars: Sequence[int], table: OpenTable) -> str:
    """The value of ``arg`` for people: flags by name, modes in octal."""
    value = scalars[arg.slot]
    if arg.kind == OPEN_FLAGS:
        return flags.open_flags(value & U32, table)
    if arg.kind == UNLINK_FLAGS:
        return flags.unlink_flags(value & U32)
    if arg.kind == MODE:
        return flags.mode(value & U32)
    if arg.kind == HOW:
        members = how(arg, scalars, table)
        return f"{{flags: {members[0]}, mode: {members[1]}, resolve: {members[2]}}}"
    return str(number(arg, scalars))


def how(arg: Arg, scalars: Sequence[int], table: OpenTable) -> tuple[str, str, str]:
    """flags, mode and resolve of a struct open_how, as text."""
    how_flags, mode, resolve = scalars[arg.slot : arg.slot + 3]
    return flags.open_flags(how_flags, table), flags.mode(mode), flags.resolve(resolve)


def parse(arg: Arg, word: str, table: OpenTable) -> int | None:
    """The number that ``word`` stands for where ``arg`` is meant; None when it is neither number nor name."""
    if arg.kind == OPEN_FLAGS:
        value = flags.parse(word, table, True)
    elif arg.kind == UNLINK_FLAGS:
        value = flags.parse_unlink(word)
    elif arg.kind == DIRFD and word == "AT_FDCWD":
        value = -100
    else:
        value = None
    if value is None:
        octal = arg.kind == MODE and word[:1] == "0" and word.isdigit()
        value = parse_number("0o" + word if octal else word)
    return value


def parse_number(word: str) -> int | None:
    """A decimal, 0x or 0o number with an optional minus; None for anything else."""
    digits = word[1:] if word[:1] == "-" else word
    # int() alone would take blanks, underscores and digits of other scripts too.
    if not digits.isascii() or not digits.isalnum():
        return None
    try:
        return int(word, 0)
    except ValueError:
        return int(word) if digits.isdigit() else None
