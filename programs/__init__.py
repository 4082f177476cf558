"""The eBPF programs of bfer, in pybpf's DSL, and the object that is built from them."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybpf.object.elf import FileBytes

OBJECT = "bfer.bpf.o"
"""System calls and process trees: file name of the compiled object, beside this file or inside the archive."""

STEADY = "steady.bpf.o"
"""The same for kernels that preempt programs on raw tracepoints."""

STEADY_FAMILY = "__steady"
"""Suffix of the programs that run with preemption off wherever they hang."""

HOOKS = "hooks.bpf.o"
"""The same of security hooks; this and the others, of events that are no system calls, are read only when asked for."""

GENERIC = "generic.bpf.o"
"""The same of functions and tracepoints that are named by the user."""

OBJECTS = {
    OBJECT: ("programs.syscalls", "programs.execs", "programs.processes"),
    STEADY: ("programs.steady",),
    HOOKS: ("programs.hooks",),
    "pidns.bpf.o": ("programs.pidns",),
    "tasks.bpf.o": ("programs.tasks", "programs.failures"),
    "files.bpf.o": ("programs.files", "programs.watches"),
    "readwrite.bpf.o": ("programs.readwrite",),
    "memory.bpf.o": ("programs.memory",),
    "security.bpf.o": ("programs.security", "programs.credentials"),
    GENERIC: ("programs.generic",),
    "drivers.bpf.o": ("programs.drivers",),
    "integrity.bpf.o": ("programs.integrity",),
    "sockets.bpf.o": ("programs.sockets",),
    "stacks.bpf.o": ("programs.stacks",),
    "crypto.bpf.o": ("programs.crypto",),
    "attachments.bpf.o": ("programs.attachments",),
    "objects.bpf.o": ("programs.objects",),
}
"""The modules that ``python -m pybpf build`` compiles into each object."""

COMPILER = {
    "pybpf": ("abi", "errors", "ktypes", "sections"),
    "pybpf.asm": ("assembler", "insn", "opcodes"),
    "pybpf.object": ("elf", "image", "spec", "unit", "writer"),
    "btf": ("builder", "errors", "ext", "ext_writer", "format", "writer"),
}
"""What takes part in that besides pybpf.lang; a checkout's objects are older than none of it."""

_HERE = os.path.dirname(__file__)
_ROOT = os.path.dirname(_HERE)


def load_object(name: str = OBJECT) -> bytes:
    """A compiled object, as it was shipped: a device never compiles.

    A bare checkout has none at first, or one older than its sources; there it is
    compiled here and kept beside the sources if that place can be written.
    """
    # __loader__ finds the file in a directory and in a zip archive alike.
    return _built(name) or __loader__.get_data(_path(name))  # type: ignore[name-defined,no-any-return]


def open_object(name: str = OBJECT) -> bytes | FileBytes:
    """The same, to be read: of a file no more than is asked for."""
    data = _built(name)
    if data:
        return data
    from pybpf.object.elf import FileBytes

    try:
        return FileBytes(_path(name))
    except NotADirectoryError:
        return load_object(name)


def _path(name: str) -> str:
    return os.path.join(_HERE, name)


def _built(name: str) -> bytes:
    """What had to be compiled here; nothing where there is an object that is as new as its sources."""
    path = _path(name)
    if os.path.exists(os.path.join(_ROOT, "pyproject.toml")) and _is_stale(path):
        return _build(path, name)
    return b""


def _is_stale(path: str) -> bool:
    """Is there no such object, or has a file that it is made of been changed since?"""
    try:
        built = os.stat(path).st_mtime_ns
        for folder in (_HERE, os.path.join(_ROOT, "pybpf", "lang")):
            with os.scandir(folder) as entries:
                if any(e.name.endswith(".py") and e.stat().st_mtime_ns > built for e in entries):
                    return True
        for package, modules in COMPILER.items():
            folder = os.path.join(_ROOT, *package.split("."))
            if any(os.stat(os.path.join(folder, module + ".py")).st_mtime_ns > built for module in modules):
                return True
    except OSError:
        return True
    return False


def _build(path: str, name: str) -> bytes:
    import sys

    from pybpf.lang import compile_modules

    print(f"bfer: compiling {name} from this checkout, once (all: python3 -m pybpf build)", file=sys.stderr)
    data: bytes = compile_modules(OBJECTS[name], name)
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(temporary, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except OSError:  # a checkout that cannot be written works too, a little slower
        pass
    return data
