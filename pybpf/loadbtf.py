"""Giving BTF to a kernel that does not know all of it, in what it knows."""

from __future__ import annotations

from pybpf import kernel
from pybpf.errors import SyscallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from btf.builder import Builder

_accepted: frozenset[str] | None = None


def load_simpler(data: bytes, refusal: SyscallError) -> kernel.Fd:
    """BPF_BTF_LOAD of what the kernel refused as it is, with what it does not know replaced (btf.sanitise).

    Raises LoadError: the ``refusal`` when nothing had to be replaced.
    """
    from btf.errors import BtfError
    from btf.sanitise import sanitise

    try:
        simpler = sanitise(data, accepted())
    except BtfError:
        raise refusal from None
    if simpler == data:
        raise refusal
    return kernel.btf_load(simpler)


def accepted() -> frozenset[str]:
    """What this kernel knows of BTF (the names of btf.sanitise), by trying; remembered for the process's life."""
    global _accepted
    if _accepted is None:
        _accepted = frozenset(name for name, blob in probes().items() if _takes(blob))
    return _accepted


def _takes(data: bytes) -> bool:
    try:
        kernel.btf_load(data).close()
    except SyscallError:
        return False
    return True


def probes() -> dict[str, bytes]:
    """The smallest BTF that has one ability each."""
    from btf import sanitise
    from btf.builder import Builder
    from btf.format import KIND_ENUM, KIND_INT, KIND_SHIFT, MAX_VLEN, NATIVE
    from btf.writer import blob, kind_layout, pack_records

    makers: dict[str, Callable[[Builder, int], object]] = {
        sanitise.FUNC: lambda b, int_: b.func("x", b.func_proto(0, [("a", int_)]), 0),
        sanitise.DATASEC: lambda b, int_: b.datasec(".data", 4, [(b.var("x", int_, 0), 0, 4)]),
        sanitise.FUNC_GLOBAL: lambda b, int_: b.func("x", b.func_proto(0, [("a", int_)]), 1),
        sanitise.FLOAT: lambda b, _: b.float_("float", 4),
        sanitise.DECL_TAG: lambda b, int_: b.decl_tag("tag", b.var("x", int_, 0)),
        sanitise.TYPE_TAG: lambda b, int_: b.ptr(b.type_tag("tag", int_)),
        sanitise.ENUM64: lambda b, _: b.enum64("x", 8, [("X", 1 << 32)]),
        sanitise.QUESTION_MARK: lambda b, int_: b.datasec("?.data", 4, [(b.var("x", int_, 0), 0, 4)]),
        sanitise.ATTRIBUTES: lambda b, int_: b.ptr(b.type_tag("tag", int_, attribute=True)),
    }
    found = {}
    for name, make in makers.items():
        b = Builder(NATIVE)
        make(b, b.int("int", 4, signed=True))
        found[name] = b.to_bytes()
    strings = b"\0int\0"
    int_ = (1, KIND_INT << KIND_SHIFT, 4, 32)
    found[sanitise.LAYOUT] = blob(pack_records([int_], NATIVE), strings, NATIVE, kind_layout(NATIVE))
    count = MAX_VLEN + 1
    enum = (1, KIND_ENUM << KIND_SHIFT | count, 4, *(1, 0) * count)
    found[sanitise.LONG_VLEN] = blob(pack_records([enum], NATIVE), strings, NATIVE)
    return found
