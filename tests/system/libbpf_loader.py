"""libbpf as a second loader: libbpf.so.1 by ctypes loads an object, with its own ELF reader, CO-RE and maps."""

from __future__ import annotations

import ctypes as c
import os
from collections.abc import Iterable

from pybpf import kernel
from pybpf.maps import Map
from pybpf.object.spec import ObjectSpec
from pybpf.program import Program, Request
from pybpf.sections import parse_section

_PRINT = c.CFUNCTYPE(c.c_int, c.c_int, c.c_char_p, c.c_void_p)


class LibbpfError(Exception):
    """libbpf refused; what it said."""


class LibbpfObject:
    """The object ``data`` with the programs of ``names``, as libbpf loads it: ``programs`` and ``maps`` by name.

    ``spec`` says which programs and maps there are. A context manager; OSError when there is no libbpf.so.1.
    """

    def __init__(self, data: bytes, spec: ObjectSpec, names: Iterable[str]) -> None:
        lib = self._lib = c.CDLL("libbpf.so.1", use_errno=True)
        lib.bpf_object__open_mem.restype = c.c_void_p
        lib.bpf_object__find_program_by_name.restype = c.c_void_p
        self.programs: dict[str, Program] = {}
        self.maps: dict[str, Map] = {}
        said: list[str] = []
        libc = c.CDLL(None)

        def note(_level: int, text: bytes, arguments: int) -> int:
            room = c.create_string_buffer(4096)
            libc.vsnprintf(room, c.c_size_t(len(room)), text, c.c_void_p(arguments))
            said.append(room.value.decode(errors="replace"))
            return 0

        callback = _PRINT(note)
        lib.libbpf_set_print.restype = c.c_void_p
        before = lib.libbpf_set_print(callback)
        try:
            opened = lib.bpf_object__open_mem(data, c.c_size_t(len(data)), None)
            if not opened:
                raise LibbpfError("".join(said[-20:]))
            try:
                self._load(opened, spec, set(names), said)
            finally:
                lib.bpf_object__close(c.c_void_p(opened))
        finally:
            lib.libbpf_set_print(c.c_void_p(before))

    def _load(self, opened: int, spec: ObjectSpec, names: set[str], said: list[str]) -> None:
        lib = self._lib
        handles = {}
        for name, program in spec.programs.items():
            if program.section != ".text":
                handles[name] = lib.bpf_object__find_program_by_name(c.c_void_p(opened), name.encode())
                lib.bpf_program__set_autoload(c.c_void_p(handles[name]), c.c_bool(name in names))
        if lib.bpf_object__load(c.c_void_p(opened)) < 0:
            raise LibbpfError("".join(said[-40:]))
        # Descriptors of our own: libbpf's go with its object.
        for name in names:
            fd = kernel.Fd(os.dup(lib.bpf_program__fd(c.c_void_p(handles[name]))), name)
            wanted = spec.programs[name]
            self.programs[name] = Program(fd, Request(name, parse_section(wanted.section), wanted.insns))
        for name, map in spec.maps.items():
            number = lib.bpf_object__find_map_fd_by_name(c.c_void_p(opened), name.encode())
            if number >= 0:
                fd = kernel.Fd(os.dup(number), name)
                self.maps[name] = Map(fd, name, map.type, map.key_size, map.value_size, map.max_entries)

    def close(self) -> None:
        """Close every descriptor."""
        for thing in (*self.programs.values(), *self.maps.values()):
            thing.close()

    def __enter__(self) -> LibbpfObject:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
