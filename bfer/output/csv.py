"""RFC 4180: a header, then a line an event that ends in CR LF; columns are the members of JSON.

``contextFlags`` and ``args`` are JSON in a quoted field. Names are escaped as in the table, so that an
event never has more than one line.
"""

from __future__ import annotations

from bfer import escape
from bfer.output.json import Json
from bfer.output.lines import container_of, has_started
from bfer.records import Block

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bfer.catalogue import Event

COLUMNS = (
    *("timestamp", "threadStartTime", "processorId", "processId", "cgroupId", "threadId", "parentProcessId"),
    *("hostProcessId", "hostThreadId", "hostParentProcessId", "userId", "mountNamespace", "pidNamespace"),
    *("processName", "hostName", "containerId", "containerImage", "containerName", "podName", "podNamespace"),
    *("podUID", "eventId", "eventName", "argsNum", "returnValue", "stackAddresses", "contextFlags", "args"),
)


class Csv(Json):
    __slots__ = ()

    stamp = b"%d"
    no_stack = ""

    @property
    def opening(self) -> bytes:  # type: ignore[override]
        columns = list(COLUMNS)
        if self.executable:
            columns.insert(columns.index("processName") + 1, "executable")
        return (",".join(columns) + "\r\n").encode()

    def _running(self, raw: bytes) -> bytes:
        return _field(escape.for_table(self._executable(raw)).decode()).encode()

    def _addresses(self, addresses: list[int]) -> str:
        return f'"{super()._addresses(addresses)}"'

    def _context(self, block: Block) -> str:
        numbers = (
            *(block.start_time, block.cpu, block.pid, block.cgroup_id, block.tid, block.ppid, block.host_pid),
            *(block.host_tid, block.host_ppid, block.uid, block.mnt_ns, block.pid_ns),
        )
        texts = (block.comm, block.node, container_of(block))
        names = [_field(escape.for_table(text).decode()) for text in texts]
        if self.executable:
            names.insert(1, self.executable)
        return "," + ",".join([*map(str, numbers), *names, *[""] * 5])

    def _call(self, block: Block, event: Event) -> str:
        started = "true" if has_started(block) else "false"
        compat = ',"isCompat":true' if event.is_compat else ""
        flags = f'{{"containerStarted":{started}{compat}}}'
        return f',{event.id},{event.name},{len(event.args)},{block.result},{self.stack},"{_doubled(flags)}","'

    def _around_path(self, block: Block, event: Event) -> tuple[str, str]:
        head, tail = self._args_around_path(block, event)
        return self._call(block, event) + _doubled(head), _doubled(tail) + '"\r\n'

    def _all_numbers(self, block: Block, event: Event) -> str:
        return f'{self._call(block, event)}{_doubled(self._args_of_numbers(block, event))}"\r\n'

    def _around_fields(self, block: Block, event: Event) -> tuple[str, str]:
        return self._call(block, event) + "[", ']"\r\n'

    def _joined(self, args: list[str]) -> bytes:
        return _doubled(",".join(args)).encode()

    def _path(self, path: bytes) -> bytes:
        return super()._path(path).replace(b'"', b'""')

    def _address(self, raw: bytes) -> bytes:
        return super()._address(raw).replace(b'"', b'""')


def _doubled(text: str) -> str:
    return text.replace('"', '""')


def _field(text: str) -> str:
    return f'"{_doubled(text)}"' if '"' in text or "," in text else text
