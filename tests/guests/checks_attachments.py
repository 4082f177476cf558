"""BPF programs that are attached: what they are, and what to."""

from __future__ import annotations

from tests.guests.checks import check, equal, skip
from tests.guests.eventkit import arguments, deeds


def attached(*words):
    """The events of a bfer that runs under another: its programs are attached, and it ends."""
    script = (
        "import subprocess\n"
        f"words = [sys.executable, '-m', 'bfer', 'trace', *{words!r}, '--', 'true']\n"
        "done = subprocess.run(words, capture_output=True)\n"
        "told(status=done.returncode, errors=done.stderr.decode())\n"
    )
    with deeds(["bpf_attach"], script) as (found, _, facts):
        if facts["status"]:
            skip(facts["errors"].strip())
        return [arguments(event) for event in found["bpf_attach"]]


def one(events, **wanted):
    fitting = [event for event in events if all(event[key] == value for key, value in wanted.items())]
    assert fitting, f"nothing with {wanted}: {events}"
    return fitting[0]


@check(timeout=90.0)
def check_program_on_a_tracepoint():
    """Raw tracepoints have a link of their own; where bfer goes by the records of one, it is a perf event's."""
    event = one(attached("event=openat"), symbol_name="sys_exit")
    assert event["prog_name"].startswith("sys_exit"), event
    # Raw tracepoint or tracing, or tracepoint.
    equal(event["attach_type"], {17: 0, 26: 0, 5: 1}[event["prog_type"]])


@check(timeout=90.0)
def check_program_on_a_function():
    """By a trampoline or a probe, as the kernel has them: the function's name either way."""
    events = attached("event=security_file_open")
    event = one(events, symbol_name="security_file_open")
    if event["prog_type"] == 26:
        equal((event["attach_type"], event["symbol_addr"] > 1 << 63), (66, True))
    else:
        equal((event["prog_type"], event["attach_type"], event["symbol_addr"] > 1 << 63), (2, 2, True))
    assert event["prog_id"] > 0, event
