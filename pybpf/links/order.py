"""Which mechanism is tried first: tables, and nothing else.

A mechanism that a kernel lacks costs one failed system call; so the best comes
first and none is asked for by version number.
"""

from __future__ import annotations

# kprobe.multi programs: one link for all functions (5.18); one event each.
KPROBE_MULTI = ("kprobe.multi", "pmu", "tracefs")
# "pmu": perf_event_open with the function's name (4.17), gone with its descriptor. "tracefs": a
# named event in kprobe_events, which outlives a killed process until the next one cleans up.
KPROBE = ("pmu", "tracefs")
UPROBE_MULTI = ("uprobe.multi", "pmu", "tracefs")  # (6.6)
UPROBE = ("pmu", "tracefs")
XDP = ("bpf link", "netlink")  # (5.9)
TC = ("tcx", "clsact")  # (6.6)
CGROUP = ("bpf link", "attach")  # (5.7)
SOCKMAP = ("bpf link", "attach")  # (6.10)
FREPLACE = ("bpf link", "trampoline")  # to any fitting target (5.10); to that of the load

# Kinds of programs that see the same, best first: a function's entry, its return, a tracepoint.
ALIKE = (
    ("fentry", "kprobe.multi", "kprobe"),
    ("fexit", "kretprobe.multi", "kretprobe"),
    ("tp_btf", "raw_tp", "tp"),
)
