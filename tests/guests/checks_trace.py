"""``bfer trace`` on this kernel: its events, filters and formats, as a user sees them; and nothing left afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time

from tests.guests.checks import check, equal, figure, held_by, in_guest, objects, skip

BFER = [sys.executable, "-m", "bfer"]
# A small process between this one and bfer: a child's peak memory counts what its parent had at the fork.
MEASURE = """
import os, sys
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
print("VmHWM", usage.ru_maxrss, file=sys.stderr)
os._exit(os.waitstatus_to_exitcode(status))
"""
FILES = ["file.txt", "file.log", "filet", "other.txt"]


def event():
    """The name of the system call by which the programs of this root open files."""
    try:
        os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):
        return "open" if os.uname().machine == "x86_64" else "openat"  # musl's open() is the oldest there is
    return "openat"


class Folder:
    """A folder with FILES for a ``with`` block."""

    def __enter__(self):
        self.at = tempfile.TemporaryDirectory(prefix="checks")
        for name in FILES:
            with open(f"{self.at.name}/{name}", "w"):
                pass
        return self.at.name

    def __exit__(self, *_):
        self.at.cleanup()


def bfer(*arguments, command=None):
    """Exit status, output and errors."""
    words = [*BFER, *arguments, *(("--", *command) if command else ())]
    done = subprocess.run(words, capture_output=True, check=False)
    errors = done.stderr.decode()
    skip_where_it_cannot_run(done.returncode, errors)
    return done.returncode, done.stdout.decode(), errors


_REFUSALS = ("big-endian", "BTF", "Thumb code", "not known for the machine")


def skip_where_it_cannot_run(status, errors):
    """What a machine cannot have for its byte order, its code, or want of BTF is refused in one clear line."""
    if status and (sys.byteorder == "big" or not os.path.exists("/sys/kernel/btf/vmlinux")):
        told = [line for line in errors.splitlines() if not line.startswith("bfer: note: ")]
        assert len(told) == 1, errors
        assert any(reason in told[0] for reason in _REFUSALS), errors
        skip(told[0])


def opened(*expressions, command):
    """The events of a command: (comm, path, result)."""
    import json

    status, output, errors = bfer("trace", "event=open*", *expressions, "--output", "json", command=command)
    # A system call made while the program ran already, in an interrupt, is counted; it is none of ours.
    # Where open is a system call of 32-bit processes only, a note says so.
    told = [line for line in errors.splitlines() if not line.startswith(("bfer: lost ", "bfer: note: "))]
    assert (status, told) == (0, []), f"exit status {status}: {errors}"
    rows = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return [(row["processName"], argument(row, "pathname"), row["returnValue"]) for row in rows]


def argument(event, name):
    return next(item["value"] for item in event["args"] if item["name"] == name)


@check
def check_table():
    """The table's line for an open, the family of programs taken, peak memory, and the time to the first line."""
    started = time.monotonic()
    words = [sys.executable, "-S", "-c", MEASURE, *BFER, "trace", "--debug", "event=open*", "--", "cat", "/etc/passwd"]
    first = None
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=errors)
        lines = []
        for raw in process.stdout:
            lines.append(raw.decode().split(None, 7))
            if first is None and len(lines[-1]) == 8 and "/etc/passwd" in lines[-1][7]:
                first = time.monotonic() - started
        status = process.wait()
        process.stdout.close()
        errors.seek(0)
        told = errors.read()
    skip_where_it_cannot_run(status, "".join(line for line in told.splitlines(True) if not line.startswith("VmHWM")))
    equal((status, told[: 0 if status == 0 else None]), (0, ""))
    rows = [line for line in lines if len(line) == 8 and "pathname: /etc/passwd," in line[7]]
    assert rows, f"no line for /etc/passwd: {lines} {told}"
    equal(len(rows), 1)
    _, uid, comm, pid, tid, _, name, _ = rows[0]
    equal((uid, comm, pid == tid), (str(os.getuid()), "cat", True))
    equal(name, event())
    figure("event", name)
    figure("family", told.partition("bfer: debug: ")[2].split(" ")[0])
    figure("peak RSS, kB", int(told.split("VmHWM ")[1]))
    figure("first event, s", round(first, 2))


@check
def check_json_and_failed_open():
    import json

    command = ["sh", "-c", "cat /etc/passwd /no/such/file 2>/dev/null; exit 4"]
    status, output, _ = bfer("trace", "event=open*", "--output", "json", command=command)
    equal(status, 4)
    events = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    (there,) = [event for event in events if argument(event, "pathname") == "/etc/passwd"]
    (missing,) = [event for event in events if argument(event, "pathname") == "/no/such/file"]
    equal((there["returnValue"] > 2, missing["returnValue"]), (True, -2))
    equal((there["processName"], there["hostName"], there["eventName"]), ("cat", os.uname().nodename, event()))
    equal(there["pidNamespace"], int(os.readlink("/proc/self/ns/pid")[5:-1]))
    assert abs(there["timestamp"] / 1e9 - time.time()) < 600, there["timestamp"]


@check
def check_empty_strings():
    """Before Linux 6.13 the helper that reads a string gives an empty one no length; it is none that cannot be read."""
    import json

    got = opened(command=["sh", "-c", 'cat "" 2>/dev/null; exit 0'])
    assert ("cat", "", -2) in got, got
    _, output, _ = bfer("trace", "event=execve", "--output", "json", command=["cat", "", "x"])
    rows = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    assert ["cat", "", "x"] in [argument(row, "argv") for row in rows], rows


def paths_for(folder, pattern):
    command = ["cat", *(f"{folder}/{name}" for name in FILES)]
    events = opened(f"{event()}.pathname={pattern}", command=command)
    return [path[len(folder) + 1 :] for _, path, result in events if path.startswith(folder) and result > 2]


@check
def check_filter_exact_path():
    with Folder() as folder:
        equal(paths_for(folder, f"{folder}/file.txt"), ["file.txt"])


@check
def check_filter_path_prefix():
    with Folder() as folder:
        equal(paths_for(folder, f"{folder}/file*"), ["file.txt", "file.log", "filet"])


@check
def check_filter_path_suffix():
    with Folder() as folder:
        equal(paths_for(folder, "*.txt"), ["file.txt", "other.txt"])


@check
def check_filter_comm():
    with Folder() as folder:
        got = opened("comm=tail", command=["sh", "-c", f"cat {folder}/filet; tail {folder}/filet"])
        equal({comm for comm, _, _ in got}, {"tail"})
        assert [1 for _, path, result in got if path == f"{folder}/filet" and result > 2], got


@check
def check_filter_result():
    with Folder() as folder:
        script = f"cat /etc/passwd {folder}/missing 2>/dev/null; :"
        got = opened(f"{event()}.retval=-ENOENT", "comm=cat", command=["sh", "-c", script])
        equal({result for _, _, result in got}, {-2})
        assert ("cat", f"{folder}/missing", -2) in got, got


@check
def check_follow():
    with Folder() as folder:
        script, target = f"{folder}/one", f"{folder}/filet"
        with open(script, "w") as file:
            file.write("#!/bin/sh\ntail $1 >/dev/null\n:\n")
        os.chmod(script, 0o755)
        got = opened("comm=one", "follow", command=["sh", "-c", f"cat {target}; {script} {target}"])
        equal([(comm, result > 2) for comm, path, result in got if path == target], [("tail", True)])


def tracer_of(tree, events="open*"):
    """A running bfer that traces a process's descendants, with its header read, and what it has made in the kernel."""
    before = objects()
    tracer = subprocess.Popen(
        [*BFER, "trace", f"event={events}", f"tree={tree}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    head = tracer.stdout.readline()
    if not head:
        errors = tracer.communicate()[1].decode()
        skip_where_it_cannot_run(tracer.returncode, errors)
        raise AssertionError(errors)
    assert head.startswith(b"TIME"), head
    # Where others use the kernel too, only what it has open is known to be its own.
    made = objects() - before if in_guest() else held_by(tracer.pid)
    assert {"program", "map"} <= {kind for kind, _ in made}, made
    return tracer, made


def wait_until_gone(made):
    end = time.monotonic() + 60  # maps are freed after a grace period
    while (left := made & objects()) and time.monotonic() < end:
        time.sleep(0.1)
    equal(left, set())


@check
def check_tree_and_nothing_left():
    """Only what descends from a running process; ended by a signal; nothing of ours remains."""
    with Folder() as folder:
        target = f"{folder}/filet"
        shells = [subprocess.Popen(["sh"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) for _ in range(2)]
        tracer, made = tracer_of(shells[1].pid)
        for shell, applet in zip(shells, ("cat", "tail")):
            shell.communicate(f"sh -c '{applet} {target}; {applet} {target}'\n".encode())
        tracer.send_signal(signal.SIGTERM)
        lines = [line.split(None, 7) for line in tracer.communicate()[0].decode().splitlines()]
        equal(tracer.returncode, 0)
        equal([line[2] for line in lines if len(line) == 8 and target in line[7]], ["tail", "tail"])
        wait_until_gone(made)


def probes_of(pid):
    """What a process has in kprobe_events."""
    try:
        with open("/sys/kernel/tracing/kprobe_events") as file:
            return [line for line in file if f":pybpf_{pid}_" in line]
    except OSError:
        return []


def children_of(pid):
    found = []
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{int(name)}/stat") as file:
                if int(file.read().rpartition(")")[2].split()[1]) == pid:
                    found.append(int(name))
        except (OSError, ValueError):
            pass
    return found


def own_memory(pid):
    """The kB that a process shares with no other."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Private_"))


@check
def check_nothing_left_after_a_kill():
    """SIGKILL: the kernel itself lets go of everything, by the objects' ids; a shell removes the probe in tracefs."""
    tracer, made = tracer_of(os.getpid(), "open*,kretprobe:vfs_readlink")
    probes, shells = probes_of(tracer.pid), children_of(tracer.pid)
    if in_guest() and os.uname().machine == "x86_64":
        equal(len(probes), 1)
    if probes:
        equal(len(shells), 1)
        figure("memory of what stands by to remove probes, kB", own_memory(shells[0]))
    tracer.kill()
    tracer.communicate()
    equal(tracer.returncode, -signal.SIGKILL)
    end = time.monotonic() + 20
    while probes_of(tracer.pid) or any(os.path.exists(f"/proc/{pid}") for pid in shells):
        assert time.monotonic() < end, (probes_of(tracer.pid), shells)
        time.sleep(0.05)
    wait_until_gone(made)
