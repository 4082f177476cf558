"""The part of Go's templates that prints fields (Tracee's ``gotemplate=FILE``), as a template of ours.

``{{ .EventName }}`` is a field; comments, trimmed blanks (``{{-`` and ``-}}``) and text in quotes work,
``range``, ``if``, functions and pipelines do not. Each event is a line: a newline is added where
the text has none at its end.
"""

from __future__ import annotations

from bfer.errors import UsageError

# Fields of Tracee's event, and what they are here where that is more than another first letter.
_FIELDS = {
    "ProcessorID": "processorId",
    "ProcessID": "processId",
    "CgroupID": "cgroupId",
    "ThreadID": "threadId",
    "ParentProcessID": "parentProcessId",
    "HostProcessID": "hostProcessId",
    "HostThreadID": "hostThreadId",
    "HostParentProcessID": "hostParentProcessId",
    "UserID": "userId",
    "MountNS": "mountNamespace",
    "PIDNS": "pidNamespace",
    "ContainerID": "containerId",
    "EventID": "eventId",
}


def translate(text: str) -> str:
    """Raises UsageError for what is no plain field."""
    from bfer.output.template import NAMES

    out = ""
    rest = text
    while rest:
        before, opened, rest = rest.partition("{{")
        trim_before = opened and rest[:2] in ("- ", "-\n", "-\t")
        out += _literal(before.rstrip() if trim_before else before)
        if not opened:
            break
        inside, closed, rest = rest.partition("}}")
        if not closed:
            raise UsageError(f"gotemplate: {{{{ without }}}} before {inside.strip()[:40]!r}")
        if trim_before:
            inside = inside[1:]
        if inside[-2:] in (" -", "\n-", "\t-"):
            inside, rest = inside[:-1], rest.lstrip()
        out += _action(inside.strip(), NAMES)
    return out


def _action(word: str, names: tuple[str, ...]) -> str:
    if word.startswith("/*") and word.endswith("*/"):
        return ""
    if len(word) > 1 and word[0] == word[-1] and word[0] in '"`' and word[0] not in word[1:-1]:
        return _quoted(word[1:-1]) if word[0] == '"' else _literal(word[1:-1])
    name = _FIELDS.get(word[1:], word[1:2].lower() + word[2:])
    if word[:1] != "." or name not in names:
        raise UsageError(
            f"gotemplate: {{{{{word}}}}} is not understood, only fields such as {{{{.EventName}}}} are: "
            "template=TEXT and `jq` on json do more"
        )
    return f"{{{name}}}"


def _literal(text: str) -> str:
    return text.replace("\\", "\\\\").replace("{", "{{").replace("}", "}}")


def _quoted(text: str) -> str:
    """Go's escapes of interest are ours."""
    return text.replace("{", "{{").replace("}", "}}")
