"""What there is to say of events by name: ``bfer explain kprobe:vfs_unlink``, ``bfer list --functions PATTERN``."""

from __future__ import annotations

from bfer import about
from bfer.errors import UsageError
from bfer.generic import Generic, split
from bfer.generic.prototypes import function, tracepoint
from bfer.names import Names
from btf.cdecl import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bfer.generic.kernel import Kernel

_INDENT = "    "
_WHEN = {
    "kprobe": "seen when the kernel's function begins (kprobe)",
    "kretprobe": "seen when the kernel's function returns (kretprobe)",
    "fentry": "seen when the kernel's function begins (trampoline)",
    "fexit": "seen when the kernel's function returns (trampoline)",
    "tp": "a tracepoint, with the fields of its record",
    "raw_tp": "a tracepoint, with its arguments",
    "tp_btf": "a tracepoint, with its arguments",
    "lsm": "a security hook, which is observed only",
    "uprobe": "seen when the function begins",
    "uretprobe": "seen when the function returns",
    "usdt": "a static probe",
}


def explained(name: str, machine: str) -> list[str]:
    """All lines on one event. Raises UsageError, or Error where the system does not tell."""
    names = Names(machine)
    source = Generic(machine, names)
    try:
        event = source.event(name)
        lines = [f"{event.name}: {_WHEN[split(name)[0]]}"]
        lines += [f"note: {note}" for note in source.notes]
    finally:
        source.close()
    lines.append("arguments:" if event.args else "no arguments")
    for arg in event.args:
        lines += about.argument_lines(arg, names)
    result = f"result: {event.returns.type}" if event.returns is not None else "result: always 0"
    return [*lines, result, "here:", *[_INDENT + line for line in about.hooks(event)], *about.examples(event, names)]


def functions(pattern: str, machine: str) -> list[str]:
    """The functions that can be traced and match ``pattern``, as C declares them. Raises UsageError."""
    source = Generic(machine, Names(machine))
    try:
        kernel = source.kernel()
        found = kernel.functions(pattern)
        if not found:
            raise UsageError(f"no function that can be traced matches {pattern!r}")
        kernel.prefetch(found)
        return [_declared(kernel, name) for name in found]
    finally:
        source.close()


def _declared(kernel: Kernel, name: str) -> str:
    types = kernel.types
    found = function(types, name)
    if found is None:
        return f"{name}: no type is known"
    params, result = found
    return f"{plain(types.btf, result, f'{name}({_params(kernel, params)})')}"


def _params(kernel: Kernel, params: list[tuple[str, int]]) -> str:
    return ", ".join([plain(kernel.types.btf, id, name or f"arg{slot}") for slot, (name, id) in enumerate(params)])


def tracepoints(pattern: str, machine: str) -> list[str]:
    """The tracepoints that match ``pattern``: CATEGORY:NAME where tracefs is mounted, with their arguments."""
    from fnmatch import fnmatchcase

    from pybpf import tracefs
    from pybpf.errors import LinkError

    source = Generic(machine, Names(machine))
    try:
        kernel = source.kernel()
        homes: dict[str, str] = {}
        try:
            homes = {name: home for home, name in tracefs.event_names("*", "*")}
        except LinkError:
            pass  # names without categories, then
        every = {name[len("btf_trace_") :] for name in kernel.types.btf.names_starting("btf_trace_")} | homes.keys()
        lines = []
        for name in sorted(every, key=lambda name: (homes.get(name, ""), name)):
            full = f"{homes[name]}:{name}" if name in homes else name
            if fnmatchcase(full, pattern) or fnmatchcase(name, pattern):
                params = tracepoint(kernel.types, name)
                lines.append(f"{full}({_params(kernel, params)})" if params is not None else full)
        if not lines:
            raise UsageError(f"no tracepoint matches {pattern!r}")
        return lines
    finally:
        source.close()
