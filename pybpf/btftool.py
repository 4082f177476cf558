"""What ``python -m pybpf btf`` does: read, print, compare, search and cut down BTF."""

from __future__ import annotations

import sys

from btf.errors import BtfError, BtfNotFound, Error
from btf.files import close_table, open_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Iterable

    from btf.table import Table

    Command = Callable[[Namespace], int]

KERNEL = "/sys/kernel/btf/vmlinux"
_FILE = "raw BTF, an ELF file with .BTF (kernel image, module, object), or the name of a loaded module"


def add_commands(parser: ArgumentParser) -> None:
    """Fill in the parser of ``btf``: a sub-command is a function here that takes the options, and an entry there."""
    commands = parser.add_subparsers(dest="btf_command", required=True, metavar="COMMAND")
    for name, help, configure, run in _COMMANDS:
        command = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        configure(command)
        command.set_defaults(run=run)


def _open(name: str, base: str | None) -> Table:
    below = open_table(base) if base else None
    try:
        return open_table(name, below)
    except BaseException:
        if below is not None:
            close_table(below)
        raise


def _write(pieces: Iterable[bytes]) -> int:
    """Write out pieces as they are made, so that the whole never stands in memory. Returns how many there were."""
    sys.stdout.flush()
    write = sys.stdout.buffer.write
    count = 0
    for piece in pieces:
        count += 1
        rest = memoryview(piece)
        while rest:
            # Unbuffered (PYTHONUNBUFFERED), a pipe may take less than it is given.
            rest = rest[write(rest) :]
    sys.stdout.buffer.flush()
    return count


def _btf_options(parser: ArgumentParser) -> None:
    parser.add_argument("--btf", default=KERNEL, metavar="FILE", help=f"{_FILE} (default: the running kernel's)")
    parser.add_argument("--base", metavar="FILE", help="BTF that FILE stands on")


# --- dump ---


def _dump_options(parser: ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help=_FILE)
    parser.add_argument("--base", metavar="FILE", help="BTF that FILE stands on, for a module that is not loaded here")
    parser.add_argument("--format", choices=("raw", "c"), default="raw", help="a line for each item (default), or C")


def _dump(options: Namespace) -> int:
    table = _open(options.file, options.base)
    try:
        if options.format == "c":
            from btf.cprint import dump_c

            _write(dump_c(table))
        else:
            from btf.dump import dump_raw

            _write(dump_raw(table))
    finally:
        close_table(table)
    return 0


# --- find ---


def _find_options(parser: ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", metavar="NAME", help="a name, in which * stands for any text")
    parser.add_argument("--members", action="store_true", help="members of structs and parameters of functions too")
    _btf_options(parser)


def _find(options: Namespace) -> int:
    from btf.search import find

    table = _open(options.btf, options.base)
    try:
        missing = []
        for name in options.names:
            if not _write(f"{line}\n".encode() for line in find(table, name, options.members)):
                missing.append(name)
    finally:
        close_table(table)
    if missing:
        raise BtfNotFound(f"{options.btf}: nothing is named {missing[0]!r}")
    return 0


# --- show ---


def _show_options(parser: ArgumentParser) -> None:
    parser.add_argument("types", nargs="+", metavar="TYPE", help="a name, or 'struct NAME', 'union NAME', 'enum NAME'")
    _btf_options(parser)
    parser.add_argument("--cacheline", type=int, default=64, metavar="BYTES", help="size of a cache line (default: 64)")


def _show(options: Namespace) -> int:
    from btf.layout import lookup, show

    if options.cacheline < 1:
        raise BtfError(f"a cache line of {options.cacheline} bytes: give its size, such as 64")
    table = _open(options.btf, options.base)
    try:
        for name in options.types:
            for id in lookup(table, name):
                _write(f"{line}\n".encode() for line in show(table, id, options.cacheline))
    finally:
        close_table(table)
    return 0


# --- diff ---


def _diff_options(parser: ArgumentParser) -> None:
    parser.add_argument("old", metavar="A", help=_FILE)
    parser.add_argument("new", metavar="B", help="the same, to compare with")
    parser.add_argument("types", nargs="*", metavar="TYPE", help="names to compare (default: all that either side has)")


def _diff(options: Namespace) -> int:
    from btf.diff import diff

    old = _open(options.old, None)
    try:
        new = _open(options.new, None)
        try:
            _write(f"{line}\n".encode() for line in diff(old, new, options.types))
        finally:
            close_table(new)
    finally:
        close_table(old)
    return 0


# --- minimize ---


def _minimize_options(parser: ArgumentParser) -> None:
    parser.usage = "pybpf btf minimize [-h] [--base FILE] FULL -o OUT [OBJECT ...]"
    parser.add_argument("files", nargs="*", metavar="FULL", help=_FILE)
    # argparse takes a list of positional arguments in one piece only: those behind OUT belong to -o.
    parser.add_argument(
        *("-o", "--output"),
        required=True,
        nargs="+",
        metavar=("OUT", "OBJECT"),
        help="file to write: raw BTF, for --btf; and eBPF objects that are to be loaded with it (default: bfer's own)",
    )
    parser.add_argument("--base", metavar="FILE", help="BTF that FULL stands on")
    parser.set_defaults(wrong=parser.error)


def _minimize(options: Namespace) -> int:
    from btf.minimize import Minimizer
    from btf.reader import Btf
    from pybpf.__main__ import write_file
    from pybpf.errors import ObjectError
    from pybpf.object.reader import read_object

    output, *behind = options.output
    files = [*options.files, *behind]
    if not files:
        options.wrong("the full BTF is missing: FULL")
    table = _open(files[0], options.base)
    try:
        keep = Minimizer(table)
        count = 0
        for name, data in _objects(files[1:]):
            try:
                spec = read_object(data)
                relos = [relo[1:] for program in spec.programs.values() for relo in program.core_relos]
                if relos:
                    with Btf(spec.btf) as local:
                        keep.add(local, relos)
            except Error as error:
                raise ObjectError(f"{name}: {error}", error.details) from None
            count += len(relos)
        data = keep.to_bytes()
    finally:
        close_table(table)
    write_file(output, data)
    print(f"{output}: {len(data)} bytes, for {count} relocations")
    return 0


def _objects(names: list[str]) -> Iterable[tuple[str, bytes]]:
    if not names:
        from importlib import import_module

        programs = import_module("programs")
        for name in programs.OBJECTS:
            yield name, programs.load_object(name)
    for name in names:
        with open(name, "rb") as file:
            yield name, file.read()


_COMMANDS: tuple[tuple[str, str, Callable[[ArgumentParser], None], Command], ...] = (
    ("dump", "print all types", _dump_options, _dump),
    ("show", "show the layout of types: offsets, holes, padding, bit-fields, cache lines", _show_options, _show),
    ("diff", "tell what moved between two kernels", _diff_options, _diff),
    ("find", "find types, members and enumerators by name", _find_options, _find),
    ("minimize", "write the few types that objects need on a kernel without BTF", _minimize_options, _minimize),
)
