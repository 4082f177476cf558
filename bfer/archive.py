"""Makes bfer one executable file: a zip archive with everything but the interpreter.

The archive holds the packages btf, pybpf, programs (with the compiled eBPF
object) and bfer, so that ``./bfer.pyz`` runs wherever ``python3`` does. The same
sources and interpreter give the same bytes: time stamps are fixed, and byte code
is made in a fresh interpreter with a fixed hash seed.
"""

from __future__ import annotations

import os
import sys

from bfer.errors import UsageError
from pybpf.errors import ObjectError

PACKAGES = ("btf", "pybpf", "programs", "bfer")
# Of no use on a device: the reference interpreter, tools that print, what writes the pages of the documentation.
_LEFT_OUT = (
    *("pybpf/vm", "pybpf/asmtool.py", "pybpf/uapi.py", "btf/clayout.py", "btf/cnames.py", "btf/cprint.py"),
    *("btf/dedup.py", "btf/diff.py", "btf/dump.py", "btf/layout.py", "btf/search.py", "bfer/docs.py"),
)

# What compiles programs: a device loads those that are there.
_COMPILER = ("pybpf/lang", "pybpf/asm", "pybpf/ktypes.py", "pybpf/object/image.py", "pybpf/object/writer.py")
_COMPILED = "programs/"

# The only source file of a sourceless archive: byte code of another version
# cannot even be read, so that the check must not be byte code itself.
_MAIN = """\
import sys
{check}from bfer.__main__ import forget_runpy, main

forget_runpy()
sys.exit(main())
"""
_CHECK = """\
if sys.implementation.cache_tag != {tag!r}:
    sys.exit("bfer: this archive holds byte code of {tag} only; this is " + str(sys.implementation.cache_tag))
"""

# Marshalled list of (name, source) on stdin -> marshalled list of .pyc contents.
# What marshal writes depends on what else the process has interned: hence a
# process of its own that imports nothing outside the interpreter's core. What only
# type checkers read is left out: it would be a tenth of the code, and be kept in memory.
_COMPILE = """\
import marshal, sys, _ast, _imp
from _frozen_importlib_external import MAGIC_NUMBER
UNCHECKED_HASH = (1).to_bytes(4, "little")

def strip(node):
    for name in node._fields:
        value = getattr(node, name, None)
        if isinstance(value, list):
            kept = [part for part in value if not for_checkers(part, node)]
            if len(kept) < len(value):
                value[:] = kept or [_ast.Pass(lineno=1, col_offset=0)]
            for part in value:
                if isinstance(part, _ast.AST):
                    strip(part)
        elif isinstance(value, _ast.AST):
            strip(value)
    if isinstance(node, (_ast.FunctionDef, _ast.AsyncFunctionDef)):
        node.returns = None
    elif isinstance(node, _ast.arg):
        node.annotation = None
    elif isinstance(node, _ast.Module):
        node.body = [plain(part) if isinstance(part, _ast.AnnAssign) else part for part in node.body]

def for_checkers(node, parent):
    if isinstance(node, _ast.AnnAssign):
        return isinstance(parent, _ast.Module) and node.value is None
    return isinstance(node, _ast.If) and isinstance(node.test, _ast.Name) and node.test.id == "TYPE_CHECKING"

def plain(node):
    return _ast.Assign([node.target], node.value, lineno=node.lineno, col_offset=node.col_offset)

out = []
for name, source in marshal.loads(sys.stdin.buffer.read()):
    tree = compile(source, name, "exec", flags=_ast.PyCF_ONLY_AST, dont_inherit=True)
    strip(tree)
    code = compile(tree, name, "exec", dont_inherit=True, optimize=2)
    digest = _imp.source_hash(int.from_bytes(MAGIC_NUMBER[:2], "little"), source)
    out.append(MAGIC_NUMBER + UNCHECKED_HASH + digest + marshal.dumps(code))
sys.stdout.buffer.write(marshal.dumps(out))
"""


def main(words: list[str]) -> int:
    """``bfer archive OUT [--pyc] [--compiler]``. Raises UsageError and what make_archive raises."""
    options = [word for word in words if word.startswith("-")]
    paths = [word for word in words if not word.startswith("-")]
    if len(paths) != 1 or [word for word in options if word not in ("--pyc", "--compiler")]:
        raise UsageError("usage: bfer archive OUT.pyz [--pyc] [--compiler]")
    make_archive(paths[0], "--pyc" in options, "--compiler" in options)
    print(f"{paths[0]}: {os.path.getsize(paths[0])} bytes")
    return 0


def make_archive(out: str, sourceless: bool, compiler: bool = False) -> None:
    """Write the executable archive ``out``.

    With ``sourceless`` the modules are stored as byte code only. Such an archive
    starts several times as fast, since sources in an archive are compiled at every
    start, but is larger and tied to the Python version that made it: one made by
    3.11 runs on 3.11 only, and says so when started by another. With ``compiler`` programs in
    pybpf's language can be compiled where the archive runs; bfer has no need of that. The eBPF
    programs are compiled afresh. Raises pybpf's errors, and OSError when ``out`` cannot be written.
    """
    from pybpf.__main__ import compile_programs

    compiled = compile_programs(lines=False)  # the tracer does not look at them, and a device is short of room
    files = [file for file in _sources() if compiler or not _is_of_compiler(file[0])]
    check = ""
    if sourceless:
        files = _byte_code(files)
        check = _CHECK.format(tag=sys.implementation.cache_tag)
    files += [("programs/" + os.path.basename(path), data) for path, data in compiled]
    files.insert(0, ("__main__.py", _MAIN.format(check=check).encode()))
    _write_zip(out, files)


def _sources() -> list[tuple[str, bytes]]:
    """Every module of the packages as ``(path in the archive, contents)``, sorted."""
    from importlib.util import find_spec

    files = []
    for package in PACKAGES:
        spec = find_spec(package)
        root = spec.submodule_search_locations[0] if spec is not None and spec.submodule_search_locations else ""
        if not os.path.isdir(root):
            raise ObjectError(f"package {package!r} is not a directory of sources: make the archive from a checkout")
        for directory, subdirectories, names in os.walk(root):
            folder = os.path.normpath(os.path.join(package, os.path.relpath(directory, root))).replace(os.sep, "/")
            wanted = [name for name in subdirectories if name != "__pycache__" and f"{folder}/{name}" not in _LEFT_OUT]
            subdirectories[:] = sorted(wanted)
            for name in names:
                if name.endswith(".py") and f"{folder}/{name}" not in _LEFT_OUT:
                    with open(os.path.join(directory, name), "rb") as file:
                        files.append((f"{folder}/{name}", file.read()))
    return sorted(files)


def _is_of_compiler(name: str) -> bool:
    """Does nothing but compiling need this module?"""
    return name.startswith(_COMPILER) or (name.startswith(_COMPILED) and name != "programs/__init__.py")


def _byte_code(sources: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    import marshal
    import subprocess

    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment["PYTHONHASHSEED"] = "0"
    # Columns, like documentation strings, are of no use without the sources; both cost memory and a third of the file.
    environment["PYTHONNODEBUGRANGES"] = "1"
    done = subprocess.run(
        [sys.executable, "-S", "-s", "-c", _COMPILE],
        input=marshal.dumps(sources),
        stdout=subprocess.PIPE,
        env=environment,
        check=False,
    )
    if done.returncode:
        raise ObjectError(f"compiling the modules failed (exit status {done.returncode})")
    codes = marshal.loads(done.stdout)
    return [(name + "c", code) for (name, _), code in zip(sources, codes)]


def _write_zip(out: str, files: list[tuple[str, bytes]]) -> None:
    from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

    partial = f"{out}.{os.getpid()}.tmp"
    try:
        with open(partial, "wb") as file:
            file.write(b"#!/usr/bin/env python3\n")
            with ZipFile(file, "w", ZIP_DEFLATED, compresslevel=9) as archive:
                for name, contents in files:
                    info = ZipInfo(name)  # its date is the start of 1980
                    info.compress_type = ZIP_DEFLATED
                    info.create_system = 3  # Unix, whatever made it
                    info.external_attr = 0o100644 << 16
                    archive.writestr(info, contents)
        os.chmod(partial, 0o755)
        os.replace(partial, out)
    except OSError:
        if os.path.exists(partial):
            os.unlink(partial)
        raise
