"""Functions and tracepoints of the kernel, by its BTF: their arguments, and where a program finds each."""

from __future__ import annotations

from bfer.generic import calls
from bfer.generic.arguments import Types
from bfer.generic.event import VIEW
from btf.errors import BtfNotFound
from btf.format import COMPOSITES, KIND_FUNC, KIND_PTR, KIND_TYPEDEF

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bfer.generic.event import GenericArg

    Way = tuple[int, ...]


def function(types: Types, name: str) -> tuple[list[tuple[str, int]], int] | None:
    """Parameters (name and type) and result of a function; None where BTF has none of that name."""
    ids = types.btf.find(name, (KIND_FUNC,))
    if not ids:
        return None
    proto = types.btf.type(ids[0])
    params = types.btf.params(proto)
    if params and params[-1] == ("", 0):  # the rest of printf()'s kind
        params = params[:-1]
    return params, types.btf.type(proto)


def tracepoint(types: Types, name: str) -> list[tuple[str, int]] | None:
    """Parameters of a tracepoint, without the one that is the kernel's own; None where there is no such tracepoint."""
    btf = types.btf
    try:
        proto = btf.resolve(btf.find_id(f"btf_trace_{name}", KIND_TYPEDEF))
    except BtfNotFound:
        return None
    if btf.kind(proto) == KIND_PTR:
        proto = btf.type(proto)
    params = btf.params(proto)
    if not all(param for param, _ in params[1:]):
        # The type has no names; the function that calls what is attached (5.10) has.
        for caller in ("__traceiter_", "__bpf_trace_"):
            found = function(types, caller + name)
            if found is not None and len(found[0]) == len(params):
                params = [(there or own, id) for (own, id), (there, _) in zip(params, found[0])]
                break
    return params[1:]


def entry(types: Types, params: list[tuple[str, int]], machine: str) -> list[GenericArg]:
    """The arguments as a kprobe sees them."""
    return _arguments(types, params, calls.convention(machine).places(_sizes(types, params)))


def words(types: Types, params: list[tuple[str, int]]) -> list[GenericArg]:
    """The arguments as a program sees them that gets them as words of 8 bytes."""
    return _arguments(types, params, calls.slots(_sizes(types, params)))


def each(types: Types, params: list[tuple[str, int]]) -> list[GenericArg]:
    """The same of a tracepoint, where each has one word, whatever its size."""
    return _arguments(types, params, calls.slots([8] * len(params)))


def returned(types: Types, id: int, way: Way, slot: int) -> tuple[GenericArg | None, list[bytes], GenericArg | None]:
    """The result's type, its pieces, and an argument for what a returned pointer leads to."""
    result, pieces = types.result(id, way)
    shown = None
    base = types.btf.resolve(id)
    if types.btf.kind(base) == KIND_PTR:
        shown = types.argument("retval", id, slot, [way])
        if not shown.memory and shown.kind != VIEW:
            shown = None
    return result, pieces, shown


def _sizes(types: Types, params: list[tuple[str, int]]) -> list[int]:
    return [types.size(id) for _, id in params]


def _arguments(types: Types, params: list[tuple[str, int]], places: list[list[Way]]) -> list[GenericArg]:
    names = _unique([name for name, _ in params])
    following = [*names[1:], ""]
    return [
        types.argument(name, id, slot, ways, after)
        for slot, (name, (_, id), ways, after) in enumerate(zip(names, params, places, following))
    ]


def _unique(names: list[str]) -> list[str]:
    """A name for each."""
    found: list[str] = []
    for slot, name in enumerate(names):
        name = name or f"arg{slot}"
        found.append(f"{name}{slot}" if name in found else name)
    return found


def takes_structures(types: Types, params: list[tuple[str, int]]) -> bool:
    return any(types.btf.kind(types.btf.resolve(id)) in COMPOSITES for _, id in params)
