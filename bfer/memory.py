"""The fields of a record: what the caller's memory held, as values.

A value is bytes (a string), Cut (the beginning of one), Pointer (memory that could not be read,
or NULL), int, a list of values, or a dict of names to values and texts.
"""

from __future__ import annotations

from struct import unpack_from
from sys import byteorder

from bfer.records import (
    ARGS,
    FIELD,
    FIELDS_FULL,
    FORM_BYTES,
    FORM_CUT,
    FORM_DELETED,
    FORM_ITEM,
    FORM_ITEM_CUT,
    FORM_MORE,
    FORM_NUMBER,
    FORM_NUMBERS,
    FORM_POINTER,
    FORM_STRING,
    PATH_CUT,
    PATH_UNREADABLE,
    POINTER,
    SLOT_FOLDER,
    SLOT_HASH,
    SLOT_SYSCALL,
)
from bfer.values import MORE, Blob, Cut, Pointer, Relative

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from bfer.catalogue import Arg, Event
    from bfer.names import Names
    from bfer.records import Block


_STRINGS_MAX = 4104  # what the programs keep of a row of strings (programs.records.PATH_SIZE)


def fields(data: bytes) -> dict[int, list[tuple[int, bytes]]]:
    """Form and bytes of each field, by argument."""
    found: dict[int, list[tuple[int, bytes]]] = {}
    at = 0
    end = len(data) - FIELD.size
    while at <= end:
        arg, form, size = FIELD.unpack_from(data, at)
        at += FIELD.size
        if form == FORM_NUMBERS:
            for place in range(size // 8):
                found[arg + place] = [(FORM_NUMBER, data[at + 8 * place : at + 8 * place + 8])]
        else:
            found.setdefault(arg, []).append((form, data[at : at + size]))
        at += size + 7 & ~7
    return found


def value(arg: Arg, pieces: list[tuple[int, bytes]], args: Sequence[int], names: Names) -> object:
    """What is behind ``arg``; ``pieces`` are its fields, ``args`` the numbers of the record."""
    if arg.kind in _VECTORS:
        return _vector(pieces)
    if arg.kind == "view":
        return arg.decode(pieces, names)  # type: ignore[attr-defined,no-any-return]
    form, data = pieces[0]
    if form == FORM_POINTER:
        return Pointer(int.from_bytes(data, byteorder))
    if form == FORM_CUT:
        return Cut(data)
    if form == FORM_STRING:
        return data
    assert form == FORM_BYTES
    if arg.kind in _SOCKADDR:
        from bfer.sockaddr import decode

        return decode(data, names)
    if arg.kind in _OF_BYTES:
        return _OF_BYTES[arg.kind](data, args)
    from bfer.structures import decode

    return decode(arg.kind, data, args, names)


def _vector(pieces: list[tuple[int, bytes]]) -> object:
    items: list[object] = []
    for form, data in pieces:
        if form == FORM_POINTER:
            pointer = Pointer(int.from_bytes(data, byteorder))
            if len(pieces) == 1:
                return pointer
            items.append(pointer)
        elif form == FORM_ITEM:
            items.append(data)
        elif form == FORM_ITEM_CUT:
            items.append(Cut(data))
        elif form == FORM_MORE:
            items.append(MORE)
    return items


def vectors(event: Event, pieces: dict[int, list[tuple[int, bytes]]], size: int, env: bool) -> dict[int, list[object]]:
    """The vectors that have no item, or less than all, by argument.

    The program for execve stops reading without a word where the record is full (``size`` bytes have been filled).
    ``env``: the environment is read at all.
    """
    if event.hooks:
        return {arg.slot: [] for arg in event.args if arg.kind in _VECTORS and arg.slot not in pieces}
    if event.program != "exec":
        return {}
    found: dict[int, list[object]] = {}
    full = size > FIELDS_FULL
    for arg in reversed(event.args):
        if arg.kind != "argv" and not (arg.kind == "envp" and env):
            continue
        if arg.slot not in pieces:
            found[arg.slot] = [MORE] if full else []
        elif full:
            items = _vector(pieces[arg.slot])
            if isinstance(items, list) and items and items[-1] is not MORE:
                found[arg.slot] = [*items, MORE]
            break
    return found


def arguments(event: Event, block: Block, raw: bytes, names: Names, env: bool) -> list[object]:
    """The values of all arguments of a record with this block and data: an int for a plain number, as the register
    held it, None for what no record has (a hash), and else what stands above.
    """
    if event.program == "path":
        return [_path(block, raw) if arg.memory else block.args[arg.slot] for arg in event.args]
    if event.program in ("plain", "plain_enter"):
        return [block.args[arg.slot] for arg in event.args]
    pieces = fields(raw)
    size = len(raw)
    for slot in pieces:
        if slot >= SLOT_SYSCALL:  # no part in what was read of the arguments
            size -= FIELD.size + (len(pieces[slot][0][1]) + 7 & ~7)
    lists = vectors(event, pieces, size, env)
    values: list[object] = []
    for arg in event.args:
        slot = arg.slot
        found = pieces.get(slot)
        if slot in lists:
            values.append(lists[slot])
        elif found is None:
            values.append(block.args[slot] if slot < ARGS else None if slot == SLOT_HASH else 0)
        elif found[0][0] == FORM_NUMBER and arg.kind != "view":
            values.append(POINTER.unpack(found[0][1])[0])
        else:
            what = value(arg, found, block.args, names)
            if arg.is_path and SLOT_FOLDER + slot in pieces and type(what) is bytes:
                what = Relative(what)
                what.whole = resolved(event, block, what, *pieces[SLOT_FOLDER + slot][0])
            values.append(what)
    return values


def resolved(event: Event, block: Block, path: bytes, form: int, folder: bytes) -> bytes:
    """A relative path with the folder that it begins at; ``..`` stays, for what it leads to depends on links."""
    if form == FORM_DELETED:
        folder += b" (deleted)"
    if event.name == "chdir" and block.result == 0:
        return folder  # which is where it went
    names = [name for name in path.split(b"/") if name not in (b"", b".")]
    return b"/".join([folder.rstrip(b"/"), *names]) or b"/"


def _path(block: Block, raw: bytes) -> bytes | Pointer:
    if block.status == PATH_UNREADABLE:
        return Pointer(POINTER.unpack_from(raw)[0])
    return Cut(raw) if block.status == PATH_CUT else raw


def _pair(data: bytes, args: Sequence[int]) -> object:
    return [*unpack_from("=ii", data)]


def _string(data: bytes, args: Sequence[int]) -> object:
    return data


def _hooked(data: bytes, args: Sequence[int]) -> object:
    """Functions in the place of the kernel's (bfer.derive.fields.hooks), by place, or a list if that is empty."""
    words = data.split(b"\0")
    found = [(words[at], words[at + 1 : at + 3]) for at in range(0, len(words) - 2, 3)]
    symbols = [(place.decode(), {"SymbolName": name, "ModuleOwner": owner}) for place, (name, owner) in found]
    return dict(symbols) if found and found[0][0] else [symbol for _, symbol in symbols]


def _ip(data: bytes, args: Sequence[int]) -> object:
    """An address of IPv4 or IPv6 as text."""
    from bfer.sockaddr import address4, address6

    return (address6 if len(data) == 16 else address4)(data).encode()


def _strings(data: bytes, args: Sequence[int]) -> object:
    """Strings that lie in a row, each with its NUL."""
    *whole, rest = data.split(b"\0")
    return [*whole, Cut(rest), MORE] if len(data) >= _STRINGS_MAX else [*whole, rest] if rest else whole


def _blob(data: bytes, args: Sequence[int]) -> object:
    return Blob(data)


def _words(data: bytes, args: Sequence[int]) -> object:
    return [*unpack_from(f"={len(data) // 8}Q", data)]


_CREDENTIALS = (
    *("Uid", "Gid", "Suid", "Sgid", "Euid", "Egid", "Fsuid", "Fsgid", "UserNamespace", "SecureBits"),
    *(f"Cap{name}:capabilities" for name in ("Inheritable", "Permitted", "Effective", "Bounding", "Ambient")),
)


def _credentials(data: bytes, args: Sequence[int]) -> object:
    return dict(zip(_CREDENTIALS, unpack_from("=10I5Q", data)))


def _open_how(data: bytes, args: Sequence[int]) -> object:
    flags, mode, resolve = unpack_from("=QQQ", data)
    return {"flags:open": flags, "mode:mode": mode, "resolve:resolve": resolve}


_CLONE_ARGS = (
    *("flags:clone3", "pidfd:ptr", "child_tid:ptr", "parent_tid:ptr", "exit_signal:signal", "stack:ptr"),
    *("stack_size", "tls:ptr"),
)


def _clone_args(data: bytes, args: Sequence[int]) -> object:
    return dict(zip(_CLONE_ARGS, unpack_from("=8Q", data)))


_VECTORS = ("argv", "envp")
_SOCKADDR = ("sockaddr", "outsockaddr")
_OF_BYTES = {
    "pair": _pair,
    "sized": _string,
    "outbuf": _string,
    "strings": _strings,
    "bytes": _blob,
    "cred": _credentials,
    "helpers": _words,
    "hooked": _hooked,
    "ip": _ip,
    "open_how": _open_how,
    "clone_args": _clone_args,
}


def text(value: object, names: Names) -> bytes:
    """``value`` as a filter sees it: a string as it is, members and items as the table prints them."""
    if isinstance(value, bytes):
        return value
    from bfer.output.table import Table

    return Table({}, names).value(value).encode()
