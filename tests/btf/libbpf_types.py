"""libbpf by ctypes: what it makes of BTF, to compare with."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import pytest

_POINTER = ctypes.c_void_p


def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        pytest.skip(f"libbpf is not installed: {error}")
    for name in ("btf__new_empty", "btf__new", "btf__raw_data"):
        getattr(library, name).restype = _POINTER
    library.btf__new.argtypes = [ctypes.c_char_p, ctypes.c_uint32]
    library.btf__add_btf.argtypes = [_POINTER, _POINTER]
    library.btf__dedup.argtypes = [_POINTER, _POINTER]
    library.btf__raw_data.argtypes = [_POINTER, ctypes.POINTER(ctypes.c_uint32)]
    library.btf__free.argtypes = [_POINTER]
    library.btf__free.restype = None
    return library


def deduplicated(blobs: Sequence[bytes]) -> bytes:
    """The blobs one after the other, through btf__dedup()."""
    library = _library()
    whole = library.btf__new_empty()
    try:
        for blob in blobs:
            part = library.btf__new(blob, len(blob))
            assert part, f"libbpf refuses a blob: errno {ctypes.get_errno()}"
            added = library.btf__add_btf(whole, part)
            library.btf__free(part)
            assert added >= 0
        assert library.btf__dedup(whole, None) == 0
        size = ctypes.c_uint32()
        data = library.btf__raw_data(whole, ctypes.byref(size))
        return ctypes.string_at(data, size.value)
    finally:
        library.btf__free(whole)
