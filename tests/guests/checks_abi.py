"""Checks of the kernel's own description of bpf(2) against the tables: structures, commands, types, flags."""

from __future__ import annotations

from pybpf import abi, attrs
from pybpf.privilege import kernel_version
from tests.guests.checks import check, equal, figure, skip

# Structures of their own, and the heads whose variants are declared apart. All others are members of union bpf_attr.
OWN = ("bpf_common_attr", "bpf_prog_info", "bpf_map_info", "bpf_btf_info", "bpf_link_info")
PERF = ("perf_event_attr", "perf_event_mmap_page")
HEADS = {"link_create": 16, "bpf_link_info": 16}
# Members of the union that have no name there, by their first field.
UNNAMED = {
    "map_create": "map_type",
    "element": "map_fd",
    "prog_load": "prog_type",
    "obj": "pathname",
    "prog_attach": "target_fd",
    "by_id": "start_id",
    "btf_load": "btf",
}
# The first kernel that has a structure at all, where that is later than 5.10.
SINCE = {
    "link_create_kprobe_multi": "5.18",
    "link_create_perf_event": "5.15",
    "link_create_tracing": "5.19",
    "link_create_netfilter": "6.4",
    "link_create_tcx": "6.6",
    "link_create_netkit": "6.7",
    "link_create_cgroup": "6.17",
    "link_create_uprobe_multi": "6.6",
    "link_create_tracing_multi": "7.2",
    "token_create": "6.9",
    "prog_stream_read": "6.17",
    "prog_assoc_struct_ops": "7.0",
    "bpf_common_attr": "7.2",
    "bpf_link_info_struct_ops": "6.4",
    "bpf_link_info_netfilter": "6.4",
    "bpf_link_info_kprobe_multi": "6.6",
    "bpf_link_info_uprobe_multi": "6.8",
    "bpf_link_info_tcx": "6.6",
    "bpf_link_info_netkit": "6.7",
    "bpf_link_info_sockmap": "6.10",
}


def kernel_btf():
    from btf.errors import Error
    from btf.reader import Btf

    try:
        return Btf.kernel()
    except Error as error:
        skip(f"no BTF of the kernel: {error}")


def parsed(version):
    return tuple(int(part) for part in version.split("."))


def flattened(btf, id, base=0):
    """``{name: (offset, size)}`` in bytes of a structure's members, those of anonymous ones included."""
    found = {}
    for name, type, offset, bits in btf.members(id):
        inner = btf.resolve(type)
        if name:
            if not bits:
                found[name] = base + offset // 8, btf.size(type)
        else:
            found.update(flattened(btf, inner, base + offset // 8))
    return found


def first_member(btf, id):
    name, type, _, _ = btf.members(id)[0]
    return name or first_member(btf, btf.resolve(type))


def structures(btf):
    """The ids of the structures that this kernel has, by the names of the table."""
    from btf.format import KIND_STRUCT, KIND_UNION

    known = {}
    unnamed = {first: layout for layout, first in UNNAMED.items()}
    (attr,) = btf.find("bpf_attr", (KIND_UNION,))
    for name, type, _, _ in btf.members(attr):
        id = btf.resolve(type)
        known.setdefault(name or unnamed.get(first_member(btf, id), ""), id)
    for name in (*OWN, *PERF):
        for id in btf.find(name, (KIND_STRUCT,))[:1]:
            known[name] = id
    for head, at in HEADS.items():
        for name, type, offset, _ in btf.members(known[head]):
            if not name and offset == at * 8:
                variants = btf.resolve(type)
                for variant, variant_type, _, _ in btf.members(variants):
                    id = btf.resolve(variant_type)
                    if not variant and btf.kind(id) == KIND_STRUCT:
                        variant = "iter"  # the one that has no name: iter_info and its length
                    known[f"{head}_{variant}"] = id
    return known


def complaints(btf, name, id):
    """What the table says of a structure that the kernel does not: an older one may end earlier, and that is all."""
    theirs = flattened(btf, id)
    if name in HEADS:
        theirs = {field: place for field, place in theirs.items() if place[0] < HEADS[name]}
    wrong = []
    ours = {field: (offset, size) for field, (offset, _, size) in attrs.fields(name).items()}
    end = max((offset + size for offset, size in theirs.values()), default=0)
    places = dict(theirs.values())
    for field, (offset, size) in ours.items():
        if field in theirs:
            if theirs[field] != (offset, size):
                wrong.append(f"{name}.{field} is at {theirs[field]}, not {(offset, size)}")
        elif offset < end and places.get(offset, size) != size:
            wrong.append(f"{name}.{field} at {offset} has {places[offset]} bytes, not {size}")
    last = max(offset + size for offset, size in ours.values())
    wrong += [
        f"{name}.{field} at {offset} is not in the table"
        for field, (offset, size) in theirs.items()
        if offset >= last and not field.startswith("__")
    ]
    return wrong


@check
def check_structures():
    """Every field of every structure is where the table says."""
    with kernel_btf() as btf:
        known = structures(btf)
        wrong, missing = [], []
        for name in attrs.LAYOUTS:
            id = known.get(name)
            if id is None:
                missing.append(name)
            else:
                wrong += complaints(btf, name, id)
        assert not wrong, "; ".join(wrong)
        version = kernel_version()
        late = [name for name in missing if parsed(SINCE.get(name, "5.10")) <= version]
        assert not late, f"not in this kernel, which is new enough: {late}"
        figure("structures compared", len(attrs.LAYOUTS) - len(missing))


def enum(btf, name):
    from btf.format import KIND_ENUM

    ids = btf.find(name, (KIND_ENUM,))
    return dict(btf.enumerators(ids[0])) if ids else {}


@check
def check_numbers():
    """Commands and map types have the kernel's numbers, and the kernel has none that the table lacks."""
    with kernel_btf() as btf:
        commands = enum(btf, "bpf_cmd")
        for name, number in commands.items():
            if name.startswith("BPF_") and name not in ("BPF_PROG_RUN", "BPF_COMMON_ATTRS"):
                equal((name, abi.COMMAND_NAMES.get(number)), (name, name))
        equal(commands.get("BPF_COMMON_ATTRS", abi.COMMON_ATTRS), abi.COMMON_ATTRS)
        types = {
            name[4:]: number
            for name, number in enum(btf, "bpf_map_type").items()
            if name.startswith("BPF_MAP") and not name.endswith(("_UNSPEC", "_DEPRECATED"))
        }
        wrong = {name: number for name, number in types.items() if getattr(abi, name, None) != number}
        equal(wrong, {})
