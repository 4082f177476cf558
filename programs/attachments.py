"""The event of BPF programs that are attached: by links of any kind, and to perf events the old way."""

from __future__ import annotations

from programs.events import *
from programs.records import *
from pybpf.ktypes import (
    bpf_link,
    bpf_perf_link,
    bpf_prog,
    bpf_raw_tp_link,
    bpf_tracing_link,
    file,
    struct_perf_event,
    task_struct,
    trace_kprobe,
    trace_probe,
    trace_probe_event,
    trace_uprobe,
)
from pybpf.lang import *

BPF_ATTACH = HOOKS + 160

PERF_EVENT_IOC_SET_BPF = 0x40042408
LINK_RAW_TRACEPOINT, LINK_TRACING, LINK_PERF_EVENT = 1, 2, 7  # enum bpf_link_type

# What a program can be attached to (bfer.names.system): Tracee's numbers, and from LINK on a kind of link.
RAW_TRACEPOINT, TRACEPOINT, KPROBE, KRETPROBE, UPROBE, URETPROBE = range(6)
LINK = 64


class Place(Struct):
    """Where a program hangs: the address of a name, an address or offset, and a kind of the above."""

    name: u64
    address: u64
    kind: u64


@inline
def probe_of(call):
    """The struct trace_probe whose part a probe's event is."""
    made = cast(Ptr[trace_probe_event], call - offsetof(trace_probe_event, "call"))
    return u64(made.probes.next) - offsetof(trace_probe, "list")


@inline
def find_perf_place(place, event):
    """The tracepoint or probe behind a perf event."""
    call = event.tp_event
    place.kind = LINK + LINK_PERF_EVENT
    if not u64(call):  # a counter
        return
    # include/linux/trace_events.h: the first flag went away with the filter (6.12), and one for all that is dynamic
    # came in before that of kprobes when the module was joined with a counter (5.15).
    tracepoint_flag: u64 = 8
    if exists(call.filter):
        tracepoint_flag = 16
    kprobe_flag = tracepoint_flag << 2
    if exists(call.mod):
        kprobe_flag = tracepoint_flag << 1
    if u64(call.flags) & tracepoint_flag:
        place.kind = TRACEPOINT
        place.name = u64(call.tp.name)
    elif exists(trace_kprobe) and u64(call.flags) & kprobe_flag:
        kprobe_made = cast(Ptr[trace_kprobe], probe_of(u64(call)) - offsetof(trace_kprobe, "tp"))
        place.kind = KRETPROBE if u64(kprobe_made.rp.handler) else KPROBE
        place.name = u64(kprobe_made.symbol)
        place.address = u64(kprobe_made.rp.kp.addr)
    elif exists(trace_uprobe) and u64(call.flags) & (kprobe_flag << 1):
        uprobe_made = cast(Ptr[trace_uprobe], probe_of(u64(call)) - offsetof(trace_uprobe, "tp"))
        place.kind = URETPROBE if u64(uprobe_made.consumer.ret_handler) else UPROBE
        place.name = u64(uprobe_made.filename)
        place.address = uprobe_made.offset
    else:  # a system call's tracepoint
        place.kind = TRACEPOINT
        place.name = u64(call.name)


@inline
def fill_attached(record, shape, given):
    program, place = given
    # The type, an enum, is followed by another, and that by the length.
    record.args[0] = read_kernel(u32, u64(addr(program.len)) - 8)
    record.args[2] = program.aux.id
    record.args[4] = place.address
    record.args[5] = place.kind
    put_kernel_string(record, shape, 3, place.name)
    return put_kernel_string(record, shape, 1, u64(addr(program.aux.name)))


@hook(*function("bpf_link_prime"), name="bpf_attach__prime")
def prime(ctx, link: u64):
    """Every link that is made comes by here first, and gets a file, which has a descriptor once the program hangs."""
    remember(BPF_ATTACH, link)
    return 0


@hook(*function("fd_install"))
def bpf_attach(ctx, descriptor: u32, opened: Ptr[file]):
    """Not at bpf_link_settle, the function for it: compilers put that into those that call it."""
    call = remembered(BPF_ATTACH)
    if not call:
        return 0
    primed = call.args[0]
    forget(BPF_ATTACH)
    if u64(opened.private_data) != primed:  # what was primed is gone: it could not be attached
        return 0
    link = cast(Ptr[bpf_link], primed)
    program = cast(Ptr[bpf_prog], u64(link.prog))
    if not u64(program):
        return 0
    place = Place()
    kind = u64(read_kernel(u32, u64(addr(link.id)) + 4))
    place.kind = LINK + kind
    if kind == LINK_RAW_TRACEPOINT:
        place.kind = RAW_TRACEPOINT
        place.name = u64(cast(Ptr[bpf_raw_tp_link], u64(link)).btp.tp.name)
    elif kind == LINK_TRACING:
        place.name = u64(program.aux.attach_func_name)
        place.address = u64(cast(Ptr[bpf_tracing_link], u64(link)).trampoline.func.addr)
    elif kind == LINK_PERF_EVENT:
        if exists(bpf_perf_link):
            counted = cast(Ptr[file], u64(cast(Ptr[bpf_perf_link], u64(link)).perf_file))
            find_perf_place(place, cast(Ptr[struct_perf_event], u64(counted.private_data)))
    emit(BPF_ATTACH, fill_attached, (program, addr(place)))
    return 0


@hook(*function("security_file_ioctl"))
def bpf_attach__ioctl(ctx, opened: Ptr[file], command: u32, descriptor: u64):
    if command != PERF_EVENT_IOC_SET_BPF:
        return 0
    attached = cast(Ptr[file], open_file(cast(Ptr[task_struct], u64(current_task())), descriptor))
    program = cast(Ptr[bpf_prog], u64(attached.private_data))
    place = Place()
    find_perf_place(place, cast(Ptr[struct_perf_event], u64(opened.private_data)))
    emit(BPF_ATTACH, fill_attached, (program, addr(place)))
    return 0
