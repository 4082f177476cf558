"""The common helpers (include/uapi/linux/bpf.h), with the results and error numbers of the kernel's.

What the verifier would refuse (a bad pointer, a map of the wrong kind) is a
VmError; what the kernel's function refuses at run time is its negative errno.
"""

from __future__ import annotations

from collections.abc import Iterator
from errno import E2BIG, EFAULT, EINVAL, ENOENT, ERANGE
from typing import TYPE_CHECKING, Callable, NamedTuple

from pybpf.vm.context import ETH_HLEN, PacketContext
from pybpf.vm.errors import VmError
from pybpf.vm.memory import M32, M64, Region
from pybpf.vm.othermaps import MapOfMaps, PerfEventArray, QueueMap, RingBufMap
from pybpf.vm.printf import format_text

if TYPE_CHECKING:
    from pybpf.vm.machine import Vm

TAIL_CALL = 12

_MAX_LOOPS = 8 * 1024 * 1024
_CURRENT_CPU = 0xFFFFFFFF
_TASK_COMM_LEN = 16
# XDP_PACKET_HEADROOM without the struct xdp_frame in it; a page without headroom and struct skb_shared_info.
_XDP_HEADROOM = 256 - 40
_XDP_LONGEST = 4096 - 256 - 320
_PRINTED_STRING = 511


class Helper(NamedTuple):
    """A helper: ``function(vm, *registers)`` with ``params`` registers gives r0, or None for nothing."""

    name: str
    params: int
    function: Callable[..., int | None]


HELPERS: dict[int, Helper] = {}
"""Helpers by number. bpf_tail_call is an instruction of the interpreter."""


def add_helper(number: int, params: int, function: Callable[..., int | None], name: str) -> None:
    """Add a helper that stands elsewhere."""
    HELPERS[number] = Helper(name, params, function)


def _helper(number: int, params: int) -> Callable[[Callable[..., int | None]], Callable[..., int | None]]:
    def register(function: Callable[..., int | None]) -> Callable[..., int | None]:
        HELPERS[number] = Helper(function.__name__.lstrip("_"), params, function)
        return function

    return register


def _size(value: int) -> int:
    """A size argument; the verifier takes none that may be negative or huge."""
    if value >= 1 << 29:
        raise VmError(f"size {value:#x} is negative or beyond all bounds")
    return value


def _s32(value: int) -> int:
    return (value & M32 ^ 1 << 31) - (1 << 31)


# --- maps ---------------------------------------------------------------------------


@_helper(1, 2)
def _map_lookup_elem(vm: Vm, map: int, key: int) -> int:
    return _lookup(vm, map, key, vm.environment.cpu)


@_helper(195, 3)
def _map_lookup_percpu_elem(vm: Vm, map: int, key: int, cpu: int) -> int:
    if not vm.map_at(map).percpu:
        raise VmError(f"map_lookup_percpu_elem of {vm.map_at(map)}, which is not a per-CPU map")
    cpu &= M32
    return _lookup(vm, map, key, cpu) if cpu < vm.cpus else 0


def _lookup(vm: Vm, map: int, key: int, cpu: int) -> int:
    model = vm.map_at(map)
    model.check_prog(False)
    if isinstance(model, MapOfMaps):
        found = model.maps.get(vm.read(key, model.key_size))
        return 0 if found is None else vm.map_address(found)
    region = model.prog_lookup(vm.read(key, model.key_size), cpu)
    return 0 if region is None else vm.memory.map(region)


@_helper(2, 4)
def _map_update_elem(vm: Vm, map: int, key: int, value: int, flags: int) -> int:
    model = vm.map_at(map)
    model.check_prog(True)
    return model.prog_update(vm.read(key, model.key_size), vm.read(value, model.value_size), flags, vm.environment.cpu)


@_helper(3, 2)
def _map_delete_elem(vm: Vm, map: int, key: int) -> int:
    model = vm.map_at(map)
    model.check_prog(True)
    return model.prog_delete(vm.read(key, model.key_size))


@_helper(87, 3)
def _map_push_elem(vm: Vm, map: int, value: int, flags: int) -> int:
    model = vm.map_at(map)
    return model.prog_push(vm.read(value, model.value_size), flags)


@_helper(88, 2)
def _map_pop_elem(vm: Vm, map: int, value: int) -> int:
    return _take(vm, map, value, True)


@_helper(89, 2)
def _map_peek_elem(vm: Vm, map: int, value: int) -> int:
    return _take(vm, map, value, False)


def _take(vm: Vm, map: int, value: int, remove: bool) -> int:
    model = vm.map_at(map)
    if not isinstance(model, QueueMap):
        raise model.unfit("pop or peek")
    taken = model.prog_take(remove)
    vm.write(value, bytes(model.value_size) if taken is None else taken)
    return -ENOENT if taken is None else 0


def _callback_result(result: int, name: str) -> int:
    if result > 1:
        raise VmError(f"{name}: the callback returned {result:#x}; it must return 0 to go on or 1 to stop")
    return result


@_helper(164, 4)
def _for_each_map_elem(vm: Vm, map: int, callback: int, ctx: int, flags: int) -> int:
    if flags:
        return -EINVAL
    count = 0
    for key, value in vm.map_at(map).walk(vm.environment.cpu):
        where = Region(bytearray(key), "a key in for_each_map_elem", writable=False)
        base = vm.memory.map(where)
        count += 1
        stop = vm.call(callback, map, base, vm.memory.map(value), ctx)
        vm.memory.unmap(where)
        if _callback_result(stop, "for_each_map_elem"):
            break
    return count


@_helper(181, 4)
def _loop(vm: Vm, count: int, callback: int, ctx: int, flags: int) -> int:
    count &= M32
    if flags:
        return -EINVAL
    if count > _MAX_LOOPS:
        # The verifier puts this call's code in line, with a 32-bit move (kernel/bpf/verifier.c, inline_bpf_loop).
        return -E2BIG & M32
    for index in range(count):
        if _callback_result(vm.call(callback, index, ctx), "loop"):
            return index + 1
    return count


@_helper(93, 1)
def _spin_lock(vm: Vm, lock: int) -> None:
    vm.memory.locate(lock, 4, "locks", True)
    if vm.locked is not None:
        raise VmError(f"takes the spin lock at {lock:#x} while it holds the one at {vm.locked:#x}")
    vm.locked = lock


@_helper(94, 1)
def _spin_unlock(vm: Vm, lock: int) -> None:
    if vm.locked != lock:
        raise VmError(f"gives back the spin lock at {lock:#x}, which it does not hold")
    vm.locked = None


# --- ring and perf buffers --------------------------------------------------------------


def _ring(vm: Vm, map: int) -> RingBufMap:
    model = vm.map_at(map)
    if not isinstance(model, RingBufMap):
        raise VmError(f"{model} is no ring buffer")
    return model


@_helper(130, 4)
def _ringbuf_output(vm: Vm, map: int, data: int, size: int, flags: int) -> int:
    return _ring(vm, map).output(vm.read(data, _size(size)), flags)


@_helper(131, 3)
def _ringbuf_reserve(vm: Vm, map: int, size: int, flags: int) -> int:
    ring = _ring(vm, map)
    region = None if flags else ring.reserve(_size(size))
    if region is None:
        return 0
    base = vm.memory.map(region)
    vm.reserved[base] = ring
    return base


@_helper(132, 2)
def _ringbuf_submit(vm: Vm, record: int, flags: int) -> None:
    _finish(vm, record, True, flags)


@_helper(133, 2)
def _ringbuf_discard(vm: Vm, record: int, flags: int) -> None:
    _finish(vm, record, False, flags)


def _finish(vm: Vm, record: int, submit: bool, flags: int) -> None:
    ring = vm.reserved.pop(record, None)
    if ring is None:
        raise VmError(f"{record:#x} is no record that ringbuf_reserve gave and that is still open")
    region = vm.memory.pages[record >> 32]
    ring.finish(region, submit, flags & M32)
    vm.memory.unmap(region)


@_helper(134, 2)
def _ringbuf_query(vm: Vm, map: int, what: int) -> int:
    return _ring(vm, map).query(what)


@_helper(25, 5)
def _perf_event_output(vm: Vm, ctx: int, map: int, flags: int, data: int, size: int) -> int:
    model = vm.map_at(map)
    if not isinstance(model, PerfEventArray):
        raise VmError(f"{model} is no perf event array")
    if vm.context is None or ctx != vm.context.base:
        raise VmError(f"perf_event_output with {ctx:#x} as context, which is not the program's")
    raw = vm.read(data, _size(size))
    extra = flags >> 32 & 0xFFFFF
    if flags >> 52 or (extra and not isinstance(vm.context, PacketContext)):
        return -EINVAL
    if isinstance(vm.context, PacketContext):
        if extra > len(vm.context.packet.data):
            return -EFAULT
        raw += bytes(vm.context.packet.data[:extra])
    cpu = vm.environment.cpu if flags & M32 == _CURRENT_CPU else flags & M32
    if cpu >= model.max_entries:
        return -E2BIG
    model.records.append((cpu, raw))
    return 0


# --- memory -------------------------------------------------------------------------------


def _refusal(source: int, user: bool) -> int:
    """The error for an address that cannot be read.

    For kernel memory x86 and arm64 tell addresses of user space, null included,
    from others that fault (copy_from_kernel_nofault_allowed).
    """
    return -EFAULT if user or source >> 63 else -ERANGE


def _probe(vm: Vm, to: int, size: int, source: int, user: bool) -> int:
    size = _size(size)
    raw = vm.memory.probe(source, size, user) if user or source >> 63 else None
    vm.write(to, bytes(size) if raw is None else raw)
    return _refusal(source, user) if raw is None else 0


def _probe_str(vm: Vm, to: int, size: int, source: int, user: bool) -> int:
    if not _size(size):
        return 0
    raw = vm.memory.probe_string(source, size - 1, user)
    if raw is None:
        vm.write(to, bytes(size))
        return _refusal(source, user)
    region, at = vm.memory.locate(to, size, "lets a helper write", True)
    # What is behind the string stays, but counts as written for the verifier.
    vm.write(to, raw + b"\0" + bytes(region.data[at + len(raw) + 1 : at + size]))
    return len(raw) + 1


@_helper(4, 3)
def _probe_read(vm: Vm, to: int, size: int, source: int) -> int:
    return _probe(vm, to, size, source, not source >> 63)


@_helper(112, 3)
def _probe_read_user(vm: Vm, to: int, size: int, source: int) -> int:
    return _probe(vm, to, size, source, True)


@_helper(113, 3)
def _probe_read_kernel(vm: Vm, to: int, size: int, source: int) -> int:
    return _probe(vm, to, size, source, False)


@_helper(148, 3)
def _copy_from_user(vm: Vm, to: int, size: int, source: int) -> int:
    return _probe(vm, to, size, source, True)


@_helper(45, 3)
def _probe_read_str(vm: Vm, to: int, size: int, source: int) -> int:
    return _probe_str(vm, to, size, source, not source >> 63)


@_helper(114, 3)
def _probe_read_user_str(vm: Vm, to: int, size: int, source: int) -> int:
    return _probe_str(vm, to, size, source, True)


@_helper(115, 3)
def _probe_read_kernel_str(vm: Vm, to: int, size: int, source: int) -> int:
    return _probe_str(vm, to, size, source, False)


# --- strings --------------------------------------------------------------------------------


@_helper(182, 3)
def _strncmp(vm: Vm, one: int, size: int, other: int) -> int:
    # The second string is constant for the verifier, which knows that a NUL ends it.
    for at, a in enumerate(vm.read(one, _size(size))):
        b = vm.read(other + at, 1)[0]
        if a != b:
            return -1 if a < b else 1
        if not a:
            break
    return 0


def _number(vm: Vm, text: int, size: int, flags: int) -> tuple[int, int, bool] | int:
    """What lib/kstrtox.c reads: (characters used, value, negative) or a negative errno."""
    if flags not in (0, 8, 10, 16):
        return -EINVAL
    raw = vm.read(text, _size(size))
    at = 0
    while at < len(raw) and raw[at : at + 1] in b" \t\n\v\f\r":
        at += 1
    negative = raw[at : at + 1] == b"-"
    at += negative
    rest = raw[at:].lower()
    base = flags
    if not base:
        hexadecimal = rest[:2] == b"0x" and rest[2:3] in [b"%c" % c for c in b"0123456789abcdef"]
        base = 16 if hexadecimal else 8 if rest[:1] == b"0" else 10
    if base == 16 and rest[:2] == b"0x":
        rest, at = rest[2:], at + 2
    digits = b"0123456789abcdef"[:base]
    count = 0
    while count < len(rest) and rest[count] in digits:
        count += 1
    if not count:
        return -EINVAL
    value = int(rest[:count], base)
    return -ERANGE if value > M64 else (at + count, value, negative)


@_helper(105, 4)
def _strtol(vm: Vm, text: int, size: int, flags: int, result: int) -> int:
    vm.write(result, bytes(8))
    parsed = _number(vm, text, size, flags)
    if isinstance(parsed, int):
        return parsed
    used, value, negative = parsed
    if value > (1 << 63) - (not negative):
        return -ERANGE
    vm.write(result, (-value & M64 if negative else value).to_bytes(8, vm.byteorder))
    return used


@_helper(106, 4)
def _strtoul(vm: Vm, text: int, size: int, flags: int, result: int) -> int:
    vm.write(result, bytes(8))
    parsed = _number(vm, text, size, flags)
    if isinstance(parsed, int):
        return parsed
    if parsed[2]:
        return -EINVAL
    vm.write(result, parsed[1].to_bytes(8, vm.byteorder))
    return parsed[0]


def _string_reader(vm: Vm) -> Callable[[int, bool], bytes]:
    # What cannot be read prints as nothing.
    return lambda address, user: vm.memory.probe_string(address, _PRINTED_STRING, user) or b""


@_helper(6, 2)
def _trace_printk(vm: Vm, text: int, size: int) -> int:
    if not _size(size):
        raise VmError("trace_printk of a format of 0 bytes")
    # As many arguments as the format has: the others may be unset.
    shown = format_text(vm.read(text, size), vm.registers[3:6], vm.memory, _string_reader(vm))
    if shown is None:
        return -EINVAL
    vm.trace.append(shown.decode(errors="replace"))
    return len(shown) + 1


@_helper(165, 5)
def _snprintf(vm: Vm, to: int, size: int, text: int, data: int, data_size: int) -> int:
    if data_size % 8 or data_size > 96:
        return -EINVAL
    # The verifier wants a constant format that ends with a NUL.
    form = bytearray()
    while not form.endswith(b"\0"):
        form += vm.read(text + len(form), 1)
    raw = vm.read(data, data_size)
    args = [int.from_bytes(raw[at : at + 8], vm.byteorder) for at in range(0, data_size, 8)]
    shown = format_text(bytes(form), args, vm.memory, _string_reader(vm))
    if shown is None:
        return -EINVAL
    if _size(size):
        vm.write(to, (shown[: size - 1] + b"\0").ljust(size, b"\0"))
    return len(shown) + 1


# --- process, time, machine -------------------------------------------------------------------


def _value(number: int, read: Callable[[Vm], int], name: str) -> None:
    HELPERS[number] = Helper(name, 0, read)


_value(5, lambda vm: vm.environment.now(), "ktime_get_ns")
_value(7, lambda vm: vm.environment.random(), "get_prandom_u32")
_value(8, lambda vm: vm.environment.cpu, "get_smp_processor_id")
_value(14, lambda vm: vm.environment.tgid << 32 | vm.environment.pid, "get_current_pid_tgid")
_value(15, lambda vm: vm.environment.gid << 32 | vm.environment.uid, "get_current_uid_gid")
_value(35, lambda vm: vm.environment.task, "get_current_task")
_value(42, lambda vm: vm.environment.numa_node, "get_numa_node_id")
_value(80, lambda vm: vm.environment.cgroup_id, "get_current_cgroup_id")
_value(118, lambda vm: vm.environment.now() // 4_000_000, "jiffies64")
_value(125, lambda vm: vm.environment.now(), "ktime_get_boot_ns")
_value(158, lambda vm: vm.environment.task, "get_current_task_btf")
_value(160, lambda vm: vm.environment.now(), "ktime_get_coarse_ns")
_value(208, lambda vm: vm.environment.now(), "ktime_get_tai_ns")


@_helper(16, 2)
def _get_current_comm(vm: Vm, to: int, size: int) -> int:
    name = vm.environment.comm[: min(_size(size), _TASK_COMM_LEN) - 1]
    vm.write(to, name.ljust(size, b"\0"))
    return 0


@_helper(46, 1)
def _get_socket_cookie(vm: Vm, ctx: int) -> int:
    return vm.environment.socket_cookie


@_helper(173, 1)
def _get_func_ip(vm: Vm, ctx: int) -> int:
    return vm.environment.func_ip


@_helper(174, 1)
def _get_attach_cookie(vm: Vm, ctx: int) -> int:
    return vm.environment.attach_cookie


# --- packets ------------------------------------------------------------------------------------


def _packet(vm: Vm, ctx: int, *kinds: str) -> PacketContext:
    if not isinstance(vm.context, PacketContext) or vm.context.base != ctx or vm.context.kind not in kinds:
        raise VmError(f"the helper wants the context of a packet ({', '.join(kinds)}) in r1")
    return vm.context


@_helper(26, 4)
def _skb_load_bytes(vm: Vm, ctx: int, offset: int, to: int, size: int) -> int:
    context = _packet(vm, ctx, "tc", "action", "socket")
    offset &= M32
    raw = bytes(context.packet.data[offset : offset + _size(size)])
    good = offset <= 0x7FFFFFFF and len(raw) == size
    vm.write(to, raw if good else bytes(size))
    return 0 if good else -EFAULT


@_helper(9, 5)
def _skb_store_bytes(vm: Vm, ctx: int, offset: int, source: int, size: int, flags: int) -> int:
    context = _packet(vm, ctx, "tc", "action")
    offset &= M32
    raw = vm.read(source, _size(size))
    if flags & ~3:
        return -EINVAL
    packet = bytearray(context.packet.data)
    if offset > 0x7FFFFFFF or offset + len(raw) > len(packet):
        return -EFAULT
    packet[offset : offset + len(raw)] = raw
    context.replace(bytes(packet))
    return 0


@_helper(44, 2)
def _xdp_adjust_head(vm: Vm, ctx: int, delta: int) -> int:
    context = _packet(vm, ctx, "xdp")
    packet = bytes(context.packet.data)
    change = _s32(delta)
    if context.moved + change < -_XDP_HEADROOM or len(packet) - change < ETH_HLEN:
        return -EINVAL
    context.moved += change
    context.replace(packet[change:] if change >= 0 else bytes(-change) + packet)
    return 0


@_helper(65, 2)
def _xdp_adjust_tail(vm: Vm, ctx: int, delta: int) -> int:
    context = _packet(vm, ctx, "xdp")
    packet = bytes(context.packet.data)
    change = _s32(delta)
    if len(packet) + change < ETH_HLEN or len(packet) + change > _XDP_LONGEST:
        return -EINVAL
    context.replace(packet[:change] if change < 0 else packet + bytes(change))
    return 0


def helper_names() -> Iterator[tuple[int, str]]:
    """Number and name of every helper that is modelled, bpf_tail_call included."""
    names = {number: helper.name for number, helper in HELPERS.items()}
    names[TAIL_CALL] = "tail_call"
    return iter(sorted(names.items()))
