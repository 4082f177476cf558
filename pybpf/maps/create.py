"""Maps made from Python, without an object file: every type that the kernel has, by its name."""

from __future__ import annotations

import sys
from errno import EINVAL, ENOENT

from pybpf import abi, attrs, commands, kernel
from pybpf.errors import MapError
from pybpf.maps.base import Map, check_ringbuf_size
from pybpf.maps.codec import codec
from pybpf.maps.typed import TypedMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PREFIX = "MAP_TYPE_"

# Sizes that the type prescribes: of keys (None: any), of values (None: any).
_INDEX = 4
_SIZES: dict[int, tuple[int | None, int | None]] = {
    abi.MAP_TYPE_ARRAY: (_INDEX, None),
    abi.MAP_TYPE_PROG_ARRAY: (_INDEX, 4),
    abi.MAP_TYPE_PERF_EVENT_ARRAY: (_INDEX, 4),
    abi.MAP_TYPE_PERCPU_ARRAY: (_INDEX, None),
    abi.MAP_TYPE_STACK_TRACE: (4, None),
    abi.MAP_TYPE_CGROUP_ARRAY: (_INDEX, 4),
    abi.MAP_TYPE_ARRAY_OF_MAPS: (_INDEX, 4),
    abi.MAP_TYPE_HASH_OF_MAPS: (None, 4),
    abi.MAP_TYPE_DEVMAP: (_INDEX, None),
    abi.MAP_TYPE_SOCKMAP: (_INDEX, None),
    abi.MAP_TYPE_CPUMAP: (_INDEX, None),
    abi.MAP_TYPE_XSKMAP: (_INDEX, 4),
    abi.MAP_TYPE_CGROUP_STORAGE: (None, None),
    abi.MAP_TYPE_REUSEPORT_SOCKARRAY: (_INDEX, None),
    abi.MAP_TYPE_QUEUE: (0, None),
    abi.MAP_TYPE_STACK: (0, None),
    abi.MAP_TYPE_SK_STORAGE: (4, None),
    abi.MAP_TYPE_DEVMAP_HASH: (4, None),
    abi.MAP_TYPE_STRUCT_OPS: (_INDEX, None),
    abi.MAP_TYPE_RINGBUF: (0, 0),
    abi.MAP_TYPE_INODE_STORAGE: (4, None),
    abi.MAP_TYPE_TASK_STORAGE: (4, None),
    abi.MAP_TYPE_BLOOM_FILTER: (0, None),
    abi.MAP_TYPE_USER_RINGBUF: (0, 0),
    abi.MAP_TYPE_CGRP_STORAGE: (4, None),
    abi.MAP_TYPE_ARENA: (0, 0),
    abi.MAP_TYPE_INSN_ARRAY: (_INDEX, None),
}
_STORAGES = (
    abi.MAP_TYPE_SK_STORAGE,
    abi.MAP_TYPE_INODE_STORAGE,
    abi.MAP_TYPE_TASK_STORAGE,
    abi.MAP_TYPE_CGRP_STORAGE,
)
# Flags that a type wants.
_FLAGS = {
    **dict.fromkeys(_STORAGES, abi.F_NO_PREALLOC),
    abi.MAP_TYPE_LPM_TRIE: abi.F_NO_PREALLOC,
    abi.MAP_TYPE_RHASH: abi.F_NO_PREALLOC,
    abi.MAP_TYPE_ARENA: abi.F_MMAPABLE,
}


def kinds() -> dict[str, int]:
    """Every map type by its name: ``hash``, ``array``, ``prog_array``..."""
    return {
        name[len(_PREFIX) :].lower(): value
        for name, value in vars(abi).items()
        if name.startswith(_PREFIX) and isinstance(value, int)
    }


def create(
    kind: str | int,
    key: Any = None,
    value: Any = None,
    max_entries: int = 0,
    *,
    name: str = "",
    flags: int = 0,
    inner: Map | None = None,
    lock: bool = False,
    **fields: int,
) -> TypedMap:
    """Make a map and give it with typed keys and values, see ``pybpf.maps.codec``.

    ``kind`` is a name of ``kinds()`` or a number; the key of an array, and what has no key or value,
    need not be given. ``inner`` is a map like the ones that a map of maps will
    hold. ``lock`` says that the value begins with a bpf_spin_lock (4 bytes, 5.1). ``fields`` are
    other fields of ``attrs.LAYOUTS["map_create"]``: ``numa_node``, ``map_extra``, ``map_ifindex``...
    Storages and maps with a lock are made with BTF, which they want. Raises MapError for
    types that do not fit, LoadError when the kernel refuses.
    """
    type = kinds().get(kind, 0) if isinstance(kind, str) else kind
    if not type:
        raise MapError(f"{kind!r} is no type of map: there are {', '.join(kinds())}", EINVAL)
    key_size = _size(type, 0, key)
    value_size = _size(type, 1, value)
    if type == abi.MAP_TYPE_PERF_EVENT_ARRAY and not max_entries:
        max_entries = kernel.possible_cpus()
    elif type in (abi.MAP_TYPE_RINGBUF, abi.MAP_TYPE_USER_RINGBUF):
        check_ringbuf_size(name, max_entries)
    btf = None
    try:
        if lock or type in _STORAGES:
            btf, key_id, value_id = _describe(key_size, value_size, lock)
            fields = {**fields, "btf_fd": btf.fd, "btf_key_type_id": key_id, "btf_value_type_id": value_id}
        if inner is not None:
            fields = {**fields, "inner_map_fd": inner.fd}
        fd = _create(type, key_size, value_size, max_entries, name, flags | _FLAGS.get(type, 0), fields)
    finally:
        if btf is not None:
            btf.close()
    map = Map(fd, name, type, key_size, value_size, max_entries)
    try:
        return TypedMap(map, key if key is not None else _default(key_size), value)
    except BaseException:
        map.close()
        raise


def _default(size: int) -> Any:
    return int if size == _INDEX else None


def _size(type: int, which: int, given: Any) -> int:
    fixed = _SIZES.get(type, (None, None))[which]
    if given is None and fixed is not None:
        return fixed
    return codec(given, fixed).size


def _create(
    type: int, key_size: int, value_size: int, max_entries: int, name: str, flags: int, fields: dict[str, int]
) -> kernel.Fd:
    attr = attrs.build(
        "map_create",
        "max_entries",
        map_type=type,
        key_size=key_size,
        value_size=value_size,
        max_entries=max_entries,
        map_flags=flags,
        map_name=kernel.object_name(name),
        **fields,
    )
    return commands.map_create(attr, f"map {name!r}")


def _describe(key_size: int, value_size: int, lock: bool) -> tuple[kernel.Fd, int, int]:
    """BTF for a key and a value of these sizes: ``(loaded BTF, id of the key's type, of the value's)``."""
    from btf.builder import Builder

    build = Builder(sys.byteorder)
    number = build.int("int", 4, signed=True)
    byte = build.int("unsigned char", 1)
    key = number if key_size == 4 else build.struct("key", key_size, [("bytes", build.array(byte, key_size), 0)])
    members = []
    if lock:
        members.append(("lock", build.struct("bpf_spin_lock", 4, [("val", number, 0)]), 0))
    start = 4 * len(members)
    if value_size > start:
        members.append(("bytes", build.array(byte, value_size - start), start * 8))
    value = build.struct("value", value_size, members)
    return kernel.btf_load(build.to_bytes()), key, value


def struct_ops(name: str, *, map_name: str = "", flags: int = 0) -> Map:
    """A map for the operations ``name`` of the kernel, such as ``tcp_congestion_ops`` (5.6), not yet filled in.

    Its value is the kernel's ``struct bpf_struct_ops_NAME``. Raises MapError if there is none, LoadError.
    """
    from btf.errors import BtfNotFound
    from btf.format import KIND_STRUCT
    from btf.reader import Btf

    with Btf.kernel() as kernel_btf:
        try:
            id = kernel_btf.find_id(f"bpf_struct_ops_{name}", KIND_STRUCT)
        except BtfNotFound:
            raise MapError(f"this kernel has no operations {name!r} for struct_ops", ENOENT) from None
        size = kernel_btf.size(id)
    # The first program that is loaded makes the kernel look at its own BTF; before, it knows no such operations.
    prepared = commands.prog_load_once(abi.PROG_TYPE_SOCKET_FILTER, b"\xb7" + bytes(7) + b"\x95" + bytes(7))
    if prepared >= 0:
        kernel.Fd(prepared, "program").close()
    # The kernel wants some BTF to be there, although the type is its own.
    btf, _, _ = _describe(4, 4, False)
    with btf:
        fields = {"btf_fd": btf.fd, "btf_vmlinux_value_type_id": id}
        fd = _create(abi.MAP_TYPE_STRUCT_OPS, 4, size, 1, map_name or name, flags, fields)
    return Map(fd, map_name or name, abi.MAP_TYPE_STRUCT_OPS, 4, size, 1)


def nested(
    kind: str,
    key: Any,
    inner_kind: str,
    inner_key: Any,
    inner_value: Any,
    inner_entries: int,
    max_entries: int,
    **more: Any,
) -> TypedMap:
    """A map of maps, ``array_of_maps`` or ``hash_of_maps``, for inner maps made like this. Raises as ``create``."""
    with create(inner_kind, inner_key, inner_value, inner_entries, name="template") as template:
        return create(kind, key, None, max_entries, inner=template.map, **more)
