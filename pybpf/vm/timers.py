"""Timers in map values (bpf_timer, 5.15): the helpers, and running those whose time is up (kernel/bpf/helpers.c).

Time stands still in the interpreter but for looks at it: ``Vm.run_timers`` moves
it on and calls what is due, as the kernel's softirq would.
"""

from __future__ import annotations

from errno import EBUSY, EDEADLK, EINVAL
from typing import TYPE_CHECKING

from pybpf.vm.errors import VmError
from pybpf.vm.helpers import add_helper
from pybpf.vm.maps import MapModel
from pybpf.vm.memory import M32, Region

if TYPE_CHECKING:
    from pybpf.vm.machine import Vm

_SIZE = 16  # struct bpf_timer
_CLOCKS = (0, 1, 7)  # CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME
_ABSOLUTE, _PINNED = 1, 2


class Timer:
    """A timer that was initialised; ``due`` is its time in nanoseconds, None while it does not run."""

    __slots__ = ("callback", "due", "map", "region")

    def __init__(self, map: MapModel, region: Region) -> None:
        self.map = map
        self.region = region
        self.callback = 0
        self.due: int | None = None

    def key(self, cpu: int) -> bytes | None:
        """The key of the entry that holds the timer; None when that is gone."""
        return next((key for key, region in self.map.walk(cpu) if region is self.region), None)


def _init(vm: Vm, timer: int, map: int, flags: int) -> int:
    region, _ = vm.memory.locate(timer, _SIZE, "initialises a timer in", True)
    model = vm.map_at(map)
    if flags not in _CLOCKS:
        return -EINVAL
    if timer in vm.timers:
        return -EBUSY
    made = Timer(model, region)
    if made.key(vm.environment.cpu) is None:
        raise VmError(f"timer_init: the timer is not in a value of {model}")
    vm.timers[timer] = made
    return 0


def _set_callback(vm: Vm, timer: int, callback: int) -> int:
    known = vm.timers.get(timer)
    if known is None:
        return -EINVAL
    if callback not in vm.functions:
        raise VmError(f"timer_set_callback: {callback:#x} is no function")
    known.callback = callback
    return 0


def _start(vm: Vm, timer: int, nsecs: int, flags: int) -> int:
    known = vm.timers.get(timer)
    if known is None or not known.callback or flags & ~(_ABSOLUTE | _PINNED):
        return -EINVAL
    known.due = nsecs if flags & _ABSOLUTE else vm.environment.time + nsecs
    return 0


def _cancel(vm: Vm, timer: int) -> int:
    known = vm.timers.get(timer)
    if known is None:
        return -EINVAL
    if known is vm.timer_running:
        return -EDEADLK
    active = known.due is not None
    known.due = None
    return int(active)


add_helper(169, 3, _init, "timer_init")
add_helper(170, 2, _set_callback, "timer_set_callback")
add_helper(171, 3, _start, "timer_start")
add_helper(172, 1, _cancel, "timer_cancel")


def run_due(vm: Vm) -> int:
    """Call back every timer whose time is up, the earliest first; how many calls that were. Raises VmError."""
    calls = 0
    while True:
        due = [timer for timer in vm.timers.values() if timer.due is not None and timer.due <= vm.environment.time]
        if not due:
            return calls
        timer = min(due, key=lambda one: one.due or 0)
        timer.due = None
        key = timer.key(vm.environment.cpu)
        if key is None:
            continue  # deleting an entry cancels its timer
        calls += 1
        where = Region(bytearray(key), "a key of a timer's entry", writable=False)
        vm.timer_running = timer
        try:
            result = vm.call(
                timer.callback, vm.map_address(timer.map), vm.memory.map(where), vm.memory.map(timer.region)
            )
        finally:
            vm.timer_running = None
        vm.memory.unmap(where)
        if result & M32:
            raise VmError(f"a timer's callback returned {result:#x}; it must return 0")
