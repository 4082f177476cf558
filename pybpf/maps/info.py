"""What the kernel tells of a map: BPF_OBJ_GET_INFO_BY_FD (4.13) and the descriptor's fdinfo."""

from __future__ import annotations

from pybpf import attrs, kernel

_NAMES = {
    "id": "id",
    "type": "type",
    "key_size": "key_size",
    "value_size": "value_size",
    "max_entries": "max_entries",
    "flags": "map_flags",
    "ifindex": "ifindex",
    "btf_id": "btf_id",
    "key_type_id": "btf_key_type_id",
    "value_type_id": "btf_value_type_id",
    "map_extra": "map_extra",
}


class MapInfo:
    """``type``, ``key_size``, ``value_size``, ``max_entries``, ``flags``, ``map_extra``: as the map was made.

    ``id`` and ``name`` (15 characters at most) are the kernel's; ``btf_id`` with
    ``key_type_id`` and ``value_type_id`` are the types it was made with, 0 for none. ``frozen``
    says that user space may not write any more, ``memory`` is what the map takes, in
    bytes (kernels before 6.4: an estimate, 0 if the kernel does not tell).
    """

    __slots__ = (*_NAMES, "frozen", "memory", "name")

    id: int
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    ifindex: int
    btf_id: int
    key_type_id: int
    value_type_id: int
    map_extra: int

    def __init__(self, fd: int, what: str = "map") -> None:
        raw = kernel.obj_get_info(fd, attrs.size("bpf_map_info"), what)
        for name, value in zip(_NAMES, attrs.read("bpf_map_info", raw, *_NAMES.values())):
            setattr(self, name, value)
        (text,) = attrs.read("bpf_map_info", raw, "name")
        assert isinstance(text, bytes)
        self.name = text.partition(b"\0")[0].decode(errors="replace")
        told = fdinfo(fd)
        self.frozen = told.get("frozen", "0") != "0"
        self.memory = int(told.get("memlock", "0"))

    def __repr__(self) -> str:
        return f"<MapInfo {self.name!r} id {self.id} type {self.type}>"


def fdinfo(fd: int) -> dict[str, str]:
    """``/proc/self/fdinfo/FD`` as a dict: for a map also memlock, frozen, owner_prog_type; empty without procfs."""
    try:
        with open(f"/proc/self/fdinfo/{fd}") as file:
            rows = [line.partition(":") for line in file]
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in rows}
