"""What the reader and the programs tell each other in shared memory, without system calls.

A call of bpf() that reads or writes a map keeps programs on perf events (kprobes, the records of tracepoints) from
running on its processor until it is done (bpf_disable_instrumentation() in the kernel), and since Linux 7 a task can be
preempted in the midst of it: what others do meanwhile is not seen. So the reader makes no such call
while it traces and nothing is lost.
"""

from __future__ import annotations

from pybpf import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybpf.maps import Map

# Values of the first word, and the second word (programs/common.py). Elements of an array are 8 bytes apart.
SILENT, AT_NEXT, AT_WATERMARK = 0, 1, 2
_BELL, _ALARM = 0, 2


class Doorbell:
    """The map ``doorbell``, mapped."""

    __slots__ = ("_memory", "_words")

    def __init__(self, map: Map) -> None:
        """Raises MapError."""
        self._memory = kernel.map_memory(map.fd, kernel.page_size(), writable=True, what=str(map))
        self._words = memoryview(self._memory).cast("I")

    def ring_at(self, when: int) -> None:
        """Ask to be woken: SILENT, AT_NEXT or AT_WATERMARK."""
        self._words[_BELL] = when

    def alarmed(self) -> bool:
        """Whether programs have counted a loss since the last call."""
        words = self._words
        if not words[_ALARM]:
            return False
        words[_ALARM] = 0  # before the counters are read: one that comes now gives the alarm again
        return True

    def close(self) -> None:
        self._words.release()
        self._memory.close()
