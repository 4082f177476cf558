"""libbpf as an oracle for CO-RE: an object and a target's BTF go in, relocated instructions come out.

libbpf.so.1 is driven by ctypes. A handler for the section ``core`` sees each
program after relocation and before the kernel would (libbpf_prog_prepare_load_fn_t)
and stops there, so that no program has to please the verifier.
"""

from __future__ import annotations

import ctypes as c
import sys

from btf.builder import Builder
from pybpf.object.image import assemble
from pybpf.object.unit import CodeUnit, Core

SECTION = "core"
_STOP = -125  # ECANCELED: what the handler answers
_SOCKET_FILTER = 1


class _OpenOpts(c.Structure):
    _fields_ = [
        ("sz", c.c_size_t),
        ("object_name", c.c_char_p),
        ("relaxed_maps", c.c_bool),
        ("pin_root_path", c.c_char_p),
        ("removed", c.c_uint32),
        ("kconfig", c.c_char_p),
        ("btf_custom_path", c.c_char_p),
        ("kernel_log_buf", c.c_char_p),
        ("kernel_log_size", c.c_size_t),
        ("kernel_log_level", c.c_uint32),
    ]


_PREPARE = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_void_p, c.c_long)
_PRINT = c.CFUNCTYPE(c.c_int, c.c_int, c.c_char_p, c.c_void_p)


class _HandlerOpts(c.Structure):
    _fields_ = [
        ("sz", c.c_size_t),
        ("cookie", c.c_long),
        ("setup", c.c_void_p),
        ("prepare", _PREPARE),
        ("attach", c.c_void_p),
    ]


# The handler stays for good: libbpf 1.1 uses its table after freeing it when the last one is unregistered.
_handler: list[object] = []


class Libbpf:
    """The library; OSError when it is not installed. One at a time, for its settings are the process's."""

    current: Libbpf

    def __init__(self) -> None:
        lib = self._lib = c.CDLL("libbpf.so.1", use_errno=True)
        self._libc = c.CDLL(None)
        for name in ("bpf_object__open_mem", "bpf_program__insns", "bpf_object__next_program"):
            getattr(lib, name).restype = c.c_void_p
        lib.bpf_program__insn_cnt.restype = c.c_size_t
        lib.libbpf_version_string.restype = c.c_char_p
        self.version = lib.libbpf_version_string().decode()
        self.log: list[str] = []
        self._code: bytes | None = None
        Libbpf.current = self
        self._print_callback = _PRINT(self._print)
        lib.libbpf_set_print(self._print_callback)
        if not _handler:
            callback = _PREPARE(lambda program, _options, _cookie: Libbpf.current._prepare(program))
            handler = _HandlerOpts(c.sizeof(_HandlerOpts), 0, None, callback, None)
            assert lib.libbpf_register_prog_handler(SECTION.encode(), _SOCKET_FILTER, 0, c.byref(handler)) >= 0
            _handler.append(callback)

    def close(self) -> None:
        """No more messages are taken."""
        self._lib.libbpf_set_print(None)

    def _print(self, level: int, text: bytes, arguments: int) -> int:
        room = c.create_string_buffer(4096)
        self._libc.vsnprintf(room, c.c_size_t(len(room)), text, c.c_void_p(arguments))
        self.log.append(room.value.decode(errors="replace").rstrip())
        return 0

    def _prepare(self, program: int) -> int:
        at = self._lib.bpf_program__insns(c.c_void_p(program))
        self._code = c.string_at(at, 8 * self._lib.bpf_program__insn_cnt(c.c_void_p(program)))
        return _STOP

    def relocate(self, data: bytes, target: str) -> bytes | None:
        """Code of the only program of an object, relocated for the BTF in file ``target``; None if refused.

        ``log`` then holds what libbpf said.
        """
        self.log.clear()
        self._code = None
        options = _OpenOpts(sz=c.sizeof(_OpenOpts), object_name=b"case", btf_custom_path=target.encode())
        opened = self._lib.bpf_object__open_mem(data, c.c_size_t(len(data)), c.byref(options))
        if not opened:
            return None
        try:
            self._lib.bpf_object__load(c.c_void_p(opened))
        finally:
            self._lib.bpf_object__close(c.c_void_p(opened))
        return self._code


def make_object(builder: Builder, code: bytes, relos: list[tuple[int, int, str, int]]) -> bytes:
    """An object with one program in SECTION; ``relos`` as for Relocator.relocate(). Completes ``builder``."""
    number = builder.int("int", 4, signed=True)
    function = builder.func("prog", builder.func_proto(number, [("ctx", builder.ptr(0))]), 1)
    unit = CodeUnit("prog", SECTION, code, 0)
    unit.cores = [(index, Core(kind, type_id, access)) for index, type_id, access, kind in relos]
    return assemble([unit], {"prog": function}, [], {}, "GPL", builder, sys.byteorder)
