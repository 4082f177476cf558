"""Runs in a guest: bfer does what it should there. Prints one JSON line for each check and for each figure.

Standard library only, and only what a firmware's Python has: no pytest, no unittest.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

BFER = [sys.executable, "-m", "bfer"]
# A small process between this one and bfer: a child's peak memory counts what its parent had at the fork.
MEASURE = """
import os, sys
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
print("VmHWM", usage.ru_maxrss, file=sys.stderr)
os._exit(os.waitstatus_to_exitcode(status))
"""
FOLDER = "/tmp/files"
CHECKS = {}
seen = {}  # what an earlier check found out: the name of the event that the libc's open() gives


def check(function):
    CHECKS[function.__name__] = function
    return function


def say(**words):
    print(json.dumps(words), flush=True)


def equal(got, wanted):
    assert got == wanted, f"got {got!r}, wanted {wanted!r}"


def bfer(*arguments, command=None):
    words = [*BFER, *arguments, *(("--", *command) if command else ())]
    done = subprocess.run(words, capture_output=True, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def opened(*expressions, command):
    """The events of a command: (comm, path, result)."""
    status, output, errors = bfer("trace", "event=open*", *expressions, "--output", "json", command=command)
    assert (status, errors) == (0, ""), f"exit status {status}: {errors}"
    rows = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return [(row["processName"], argument(row, "pathname"), row["returnValue"]) for row in rows]


def argument(event, name):
    return next(item["value"] for item in event["args"] if item["name"] == name)


@check
def prints_the_event():
    """The table's line for an open, the family of programs taken, peak memory, and the time to the first line."""
    started = time.monotonic()
    words = [
        sys.executable,
        "-S",
        "-c",
        MEASURE,
        *BFER,
        "trace",
        "--debug",
        "event=open*",
        "--",
        "/bin/cat",
        "/etc/passwd",
    ]
    with open("/tmp/errors", "w+") as errors:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=errors)
        lines = []
        for raw in process.stdout:
            lines.append(raw.decode().split(None, 7))
            if len(lines[-1]) == 8 and "/etc/passwd" in lines[-1][7] and "first event, s" not in seen:
                seen["first event, s"] = round(time.monotonic() - started, 2)
        status = process.wait()
        process.stdout.close()
        errors.seek(0)
        told = errors.read()
    equal(status, 0)
    rows = [line for line in lines if len(line) == 8 and "pathname: /etc/passwd," in line[7]]
    assert rows, f"no line for /etc/passwd: {lines} {told}"
    equal(len(rows), 1)
    _, uid, comm, pid, tid, ret, name, _ = rows[0]
    equal((uid, comm, ret, pid == tid), ("0", "cat", "3", True))
    assert name in ("open", "openat"), name
    seen["event"] = name
    say(figure="event", value=name)
    say(figure="family", value=told.partition("bfer: debug: ")[2].split(" ")[0])
    say(figure="peak RSS, kB", value=int(told.split("VmHWM ")[1]))
    say(figure="first event, s", value=seen["first event, s"])


@check
def json_and_failed_open():
    command = ["/bin/sh", "-c", "/bin/cat /etc/passwd /no/such/file 2>/dev/null; exit 4"]
    status, output, _ = bfer("trace", "event=open*", "--output", "json", command=command)
    equal(status, 4)
    events = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    (there,) = [event for event in events if argument(event, "pathname") == "/etc/passwd"]
    (missing,) = [event for event in events if argument(event, "pathname") == "/no/such/file"]
    equal((there["returnValue"], missing["returnValue"]), (3, -2))
    equal((there["processName"], there["hostName"], there["eventName"]), ("cat", "guest", seen["event"]))
    equal(there["pidNamespace"], int(os.readlink("/proc/self/ns/pid")[5:-1]))
    assert abs(there["timestamp"] / 1e9 - time.time()) < 600, there["timestamp"]


FILES = ["file.txt", "file.log", "filet", "other.txt"]
CAT = ["/bin/cat", *(f"{FOLDER}/{name}" for name in FILES)]


def paths_for(pattern):
    events = opened(f"{seen['event']}.pathname={pattern}", command=CAT)
    return [path[len(FOLDER) + 1 :] for _, path, result in events if path.startswith(FOLDER) and result == 3]


@check
def filter_exact_path():
    equal(paths_for(f"{FOLDER}/file.txt"), ["file.txt"])


@check
def filter_path_prefix():
    equal(paths_for(f"{FOLDER}/file*"), ["file.txt", "file.log", "filet"])


@check
def filter_path_suffix():
    equal(paths_for("*.txt"), ["file.txt", "other.txt"])


@check
def filter_comm():
    script = f"/bin/cat {FOLDER}/filet; /bin/tail {FOLDER}/filet"
    got = opened("comm=tail", command=["/bin/sh", "-c", script])
    equal({comm for comm, _, _ in got}, {"tail"})
    assert ("tail", f"{FOLDER}/filet", 3) in got, got


@check
def filter_result():
    script = f"/bin/cat /etc/passwd {FOLDER}/missing 2>/dev/null; :"
    got = opened(f"{seen['event']}.retval=-ENOENT", "comm=cat", command=["/bin/sh", "-c", script])
    equal({result for _, _, result in got}, {-2})
    equal(got[-1], ("cat", f"{FOLDER}/missing", -2))


@check
def follow():
    script = f"{FOLDER}/one"
    with open(script, "w") as file:
        file.write("#!/bin/sh\n/bin/tail $1 >/dev/null\n:\n")
    os.chmod(script, 0o755)
    target = f"{FOLDER}/filet"
    got = opened("comm=one", "follow", command=["/bin/sh", "-c", f"/bin/cat {target}; {script} {target}"])
    equal([(comm, result) for comm, path, result in got if path == target], [("tail", 3)])


@check
def tree_and_nothing_left():
    """Only what descends from a running process; ended by a signal; no program or map of ours remains."""
    from pybpf import kernel

    def objects():
        found = set()
        for kind, following in (("program", kernel.prog_get_next_id), ("map", kernel.map_get_next_id)):
            number = 0
            while (number := following(number)) is not None:
                found.add((kind, number))
        return found

    before = objects()
    target = f"{FOLDER}/filet"
    shells = [subprocess.Popen(["/bin/sh"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) for _ in range(2)]
    words = ["trace", "event=open*", f"{seen['event']}.pathname={target}", f"tree={shells[1].pid}"]
    tracer = subprocess.Popen([*BFER, *words], stdout=subprocess.PIPE)
    head = tracer.stdout.readline()
    assert head.startswith(b"TIME"), head
    made = objects() - before
    equal({kind for kind, _ in made}, {"program", "map"})
    for shell, applet in zip(shells, ("cat", "tail")):
        shell.communicate(f"/bin/sh -c '/bin/{applet} {target}; /bin/{applet} {target}'\n".encode())
    tracer.send_signal(signal.SIGTERM)
    lines = [line.split(None, 7) for line in tracer.communicate()[0].decode().splitlines()]
    equal(tracer.returncode, 0)
    equal([line[2] for line in lines if len(line) == 8 and target in line[7]], ["tail", "tail"])
    end = time.monotonic() + 60  # maps are freed after a grace period
    while (left := made & objects()) and time.monotonic() < end:
        time.sleep(0.1)
    equal(left, set())


def main():
    os.makedirs(FOLDER, exist_ok=True)
    for name in FILES:
        with open(f"{FOLDER}/{name}", "w") as file:
            file.write("")
    failed = 0
    for name, function in CHECKS.items():
        try:
            function()
            say(check=name, ok=True)
        except Exception as error:  # the next check runs all the same
            failed += 1
            say(check=name, ok=False, why=f"{type(error).__name__}: {error}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
