"""``EVENT.scope.FIELD``: filters on who called, for one event."""

from __future__ import annotations

from bfer.errors import UsageError
from bfer.expr import ALL, EQUAL, number_of, pattern_of, user_of, values_of
from bfer.members import fill
from bfer.policy import Choice, Containers, EventFilter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bfer.catalogue import Event
    from bfer.expr import Parser
    from bfer.policy import Pattern

SCOPE = {
    **dict.fromkeys(("cpu", "processorId"), "cpu"),
    **dict.fromkeys(("pid", "processId", "p"), "pid"),
    **dict.fromkeys(("tid", "threadId"), "tid"),
    **dict.fromkeys(("ppid", "parentProcessId"), "ppid"),
    **dict.fromkeys(("hostPid", "hostProcessId"), "host_pid"),
    **dict.fromkeys(("hostTid", "hostThreadId"), "host_tid"),
    **dict.fromkeys(("hostPpid", "hostParentProcessId"), "host_ppid"),
    **dict.fromkeys(("uid", "userId"), "uid"),
    **dict.fromkeys(("mntns", "mountNamespace"), "mnt_ns"),
    **dict.fromkeys(("pidns", "pidNamespace"), "pid_ns"),
    **dict.fromkeys(("comm", "processName"), "comm"),
    **dict.fromkeys(("uts", "hostName"), "node"),
    "cgroupId": "cgroup_id",
    **dict.fromkeys(("container", "containerId"), "container"),
}
"""What may follow ``EVENT.scope.``, with the field of a record's block."""


def add(parser: Parser, event: Event, text: str, name: str, member: str, op: str, value: str) -> None:
    """Take ``text``, in which ``name`` ends in ``.scope.MEMBER``, into the policy. Raises UsageError."""
    field = SCOPE.get(member)
    if field is None:
        from bfer.suggest import nearest

        hint = nearest(member, SCOPE) or f": there are {', '.join(SCOPE)}"
        raise UsageError(f"there is no scope {member!r}{hint}: {text!r}")
    scope = parser.policy.filters.setdefault(event.name, EventFilter()).scope
    if field == "container":
        containers = scope.setdefault(field, Containers())
        assert isinstance(containers, Containers)
        if not op:
            containers.inside = True
            return
        parser.check_operator(text, name, op, EQUAL)
        containers.ids.update(dict.fromkeys(values_of(text, value), op == "="))
        return
    is_text = field in ("comm", "node")
    parser.check_operator(text, name, op, EQUAL if is_text else ALL)
    choice = scope.setdefault(field, Choice())
    assert isinstance(choice, Choice)
    items: list[Pattern | int] = []
    for word in values_of(text, value):
        if is_text:
            items.append(pattern_of(text, word))
        else:
            items.append(user_of(text, word) if field == "uid" else number_of(text, word))
    fill(choice, op, items)
    parser.texts.setdefault(name, []).append(text)
    parser.checks[name] = lambda: choice.is_empty(0, (1 << 64) - 1)
