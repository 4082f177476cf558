"""What this kernel cannot have of the events, and why: by its symbols, and by trying each kind of hook once.

Nothing is claimed that was not observed: where the kernel hides its symbols, or probing is not permitted, all events
count as available, and an attempt will tell.
"""

from __future__ import annotations

from bfer.records import HOOKS
from btf.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bfer.catalogue import Catalogue, Event
    from bfer.derive.source import Source

# What the entry points of system calls are called (include/linux/syscalls.h, arch/*/include/asm/syscall_wrapper.h).
_PREFIXES = ("__x64_sys_", "__arm64_sys_", "__riscv_sys_", "__s390x_sys_", "__s390_sys_", "sys_")
# Calls whose entry point has another name than they.
_ALIASES = {
    **{name: f"new{name}" for name in ("stat", "fstat", "lstat", "uname")},
    "umount2": "umount",
    "sendfile": "sendfile64",
    "fadvise64": "fadvise64_64",
}
_WEAK = "wW"  # a stub that says ENOSYS
# How the kernel calls what a tracepoint runs (5.10), and the tracepoint itself.
_TRACEPOINTS = ("__traceiter_", "__tracepoint_", "__bpf_trace_")
_FUNCTION_KINDS = ("fentry", "fexit", "fmod_ret", "kprobe", "kretprobe", "kprobe.multi", "kretprobe.multi", "lsm")
_TRACEPOINT_KINDS = ("tp_btf", "raw_tp", "tp")


def missing(catalogue: Catalogue) -> dict[str, str]:
    """Why not, by the names of the events that cannot be had here."""
    events = list(catalogue.events.values())
    hooks = {event.name: _hooks(event) for event in events if event.hooks}
    symbols = _symbols(_wanted(events, hooks))
    found = {}
    for event in events:
        why = _hook_missing(hooks[event.name], symbols) if event.hooks else _call_missing(event, symbols)
        if not why and event.derive:
            why = _source(event).refused(symbols) if symbols or not _source(event).NEEDS else ""
        if why:
            found[event.name] = why
    return found


def _source(event: Event) -> type[Source]:
    """What makes an event that user space makes."""
    module = __import__(f"bfer.derive.{event.derive}", fromlist=["SOURCE"])
    return module.SOURCE  # type: ignore[no-any-return]


def _wanted(events: list[Event], hooks: dict[str, list[list[list[tuple[str, str]]]]]) -> set[bytes]:
    names = {"__traceiter_sys_exit", *[prefix + "read" for prefix in _PREFIXES]}
    for event in events:
        if event.number < HOOKS:
            for name in _entries(event.name):
                names.update([prefix + name for prefix in _PREFIXES])
        else:
            if event.derive:
                names.update(_source(event).NEEDS)
            for kind, target in [hook for place in hooks[event.name] for way in place for hook in way]:
                names.update([prefix + target for prefix in _TRACEPOINTS] if kind in _TRACEPOINT_KINDS else [target])
    return {name.encode() for name in names}


def _entries(call: str) -> tuple[str, ...]:
    return (call, _ALIASES[call]) if call in _ALIASES else (call,)


def _symbols(wanted: set[bytes]) -> dict[str, str]:
    """Those of the symbols that the kernel has, with nm's letter."""
    from pybpf.kallsyms import blocks

    found = {}
    try:
        for block in blocks():
            lines = block.split(b"\n")
            start = lines[0].find(b" ") + 3  # address, blank, letter, blank
            for line in lines:
                name = line[start:]
                if name in wanted or name.partition(b"\t")[0] in wanted:
                    found[name.partition(b"\t")[0].decode()] = line[start - 2 : start - 1].decode()
    except OSError:
        return {}
    return found


def _call_missing(event: Event, symbols: dict[str, str]) -> str:
    if event.is_compat:
        return ""
    for prefix in _PREFIXES:
        if prefix + "read" in symbols:
            letters = [symbols[prefix + name] for name in _entries(event.name) if prefix + name in symbols]
            if not letters:
                return "it has no such system call"
            if all(letter in _WEAK for letter in letters):
                return "it was built without this system call"
    return ""


def _hooks(event: Event) -> list[list[list[tuple[str, str]]]]:
    """Kinds of hooks and their targets: for each place where the event is seen, for each way to see it there."""
    from programs import open_object
    from pybpf.object.file import ObjectFile

    if event.object not in _sections:
        functions = ObjectFile(open_object(event.object)).functions
        _sections[event.object] = {name: function.section for name, function in functions.items()}
    sections = _sections[event.object]
    return [
        [[_split(sections[name]) for name in names if name in sections] for names in ways] for ways in event.places()
    ]


def _split(section: str) -> tuple[str, str]:
    kind, _, target = section.partition("/")
    return kind, target.rpartition("/")[2]


_sections: dict[str, dict[str, str]] = {}  # by object: sections of its programs


def _hook_missing(places: list[list[list[tuple[str, str]]]], symbols: dict[str, str]) -> str:
    """Why the event can be seen in none of these places; the empty string if it can in one."""
    reasons: list[str] = []
    for place in places:
        whys = [_way_missing(way, symbols) for way in place]
        if not all(whys):
            return ""
        reasons += whys
    return "; ".join(dict.fromkeys(reasons))


def _way_missing(way: list[tuple[str, str]], symbols: dict[str, str]) -> str:
    """Why not all of these hooks, which belong together, can be had."""
    for kind, target in way:
        why = _place_missing(kind, target, symbols) or _refused(kind)
        if why:
            return why
    return ""


def _place_missing(kind: str, target: str, symbols: dict[str, str]) -> str:
    if kind in _TRACEPOINT_KINDS:
        known = "__traceiter_sys_exit" in symbols
        if known and not any(prefix + target in symbols for prefix in _TRACEPOINTS):
            return f"it has no tracepoint {target}"
    elif kind in _FUNCTION_KINDS and symbols and target not in symbols:
        return f"it has no function {target}"
    return ""


def _refused(kind: str) -> str:
    """Why this kind of hook cannot be had at all, found out once."""
    if kind not in _verdicts:
        _verdicts[kind] = _try(kind)
    return _verdicts[kind]


_verdicts: dict[str, str] = {}


def _try(kind: str) -> str:
    from pybpf.features import probes, refusal, tables

    if "refusal" not in _verdicts:
        _verdicts["refusal"] = refusal()
    if _verdicts["refusal"]:
        return ""  # nothing can be probed
    names = {
        "fentry": "fentry, fexit",
        "fexit": "fentry, fexit",
        "fmod_ret": "fentry, fexit",
        "kprobe": "kprobe (perf event)",
        "kretprobe": "kprobe (perf event)",
        "kprobe.multi": "kprobe.multi",
        "kretprobe.multi": "kprobe.multi",
        "lsm": "LSM",
        "tp_btf": "tp_btf",
    }
    for feature in tables.hooks():
        if feature.name == names.get(kind):
            try:
                finding = probes.find(feature)
            except Error:
                return ""
            # Not known is not had either: programs as such can be loaded here, as was seen before.
            return f"{kind}: {finding.reason}" if finding.state != probes.YES else ""
    return ""
