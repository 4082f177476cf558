"""Checks: functions that show one ability on the kernel at hand, the same in every guest and natively.

A module ``checks_SUBJECT.py`` holds functions marked with ``@check``. One that returns has
passed, one that calls ``skip(reason)`` has found out that the kernel lacks something (the
reason says what was observed), any other exception is a failure. eBPF programs in the DSL stand in
``programs_SUBJECT.py``; ``programs("SUBJECT")`` gives their object, which a guest gets
compiled. Standard library only, and only what a firmware's Python has: no pytest, no unittest.

Every check runs in a process of its own, which is killed when it takes too long, and which
must leave no descriptor, and in a guest nothing in the kernel either.

``python3 -m tests.guests.checks [SUBJECT | SUBJECT.CHECK]...`` runs them. Each result is a line
``@check``, name, outcome, seconds and reason, each figure a line ``@figure``, name and
value, separated by tabs; the reader must expect other output in between.
"""

from __future__ import annotations

import errno
import gc
import os
import select
import signal
import sys
import time

PASS, SKIP, FAIL = "pass", "skip", "fail"
_HERE = os.path.dirname(os.path.abspath(__file__))
_PREFIX, _PROGRAMS = "checks_", "programs_"
# Objects are freed after a grace period of RCU, some of them after two; a guest may be slow.
_GRACE = 60.0

CHECKS = {}  # name to Check, in the order of definition


class Skip(Exception):
    """The kernel, or the machine, lacks what the check is about; the message is the reason as observed."""


class Check:
    """One check: ``name`` is SUBJECT.WHAT, ``timeout`` in seconds natively."""

    def __init__(self, name, function, timeout):
        self.name = name
        self.function = function
        self.timeout = timeout


class Result:
    """``outcome`` is PASS, SKIP or FAIL; ``reason`` one line, empty for a pass; ``figures`` name to value."""

    def __init__(self, name, outcome, reason, seconds):
        self.name = name
        self.outcome = outcome
        self.reason = reason
        self.seconds = seconds

    def line(self):
        return f"@check\t{self.name}\t{self.outcome}\t{self.seconds:.2f}\t{self.reason}\n"


def check(function=None, *, timeout=30.0):
    """Mark a function of a module ``checks_SUBJECT`` as a check; its name may begin with ``check_``."""

    def mark(function):
        subject = function.__module__.rpartition(".")[2][len(_PREFIX) :]
        name = f"{subject}.{function.__name__[6:] if function.__name__.startswith('check_') else function.__name__}"
        assert name not in CHECKS, f"two checks are called {name}"
        CHECKS[name] = Check(name, function, timeout)
        return function

    return mark if function is None else mark(function)


def skip(reason):
    """End the check: what it is about cannot be had here, for this reason as observed."""
    raise Skip(reason)


def figure(name, value):
    """Tell a measured value, for the table."""
    write(f"@figure\t{name}\t{value}\n")


def equal(got, wanted):
    assert got == wanted, f"got {got!r}, wanted {wanted!r}"


def in_guest():
    """Whether nothing else uses this kernel: every new object in it is then of the check's making."""
    return os.environ.get("BFER_GUEST", "") != ""


def slower():
    """By how much a guest's processor is slower, about: time limits are multiplied by it."""
    return 12.0 if in_guest() else 1.0


def connected_to(address):
    """socket.create_connection() without the codec (idna) that it asks for, which a firmware's Python may lack."""
    import socket

    client = socket.socket()
    try:
        client.connect(address)
    except BaseException:
        client.close()
        raise
    return client


def programs(subject):
    """The specification of the object that is made from ``programs_SUBJECT.py``; skips on a big-endian machine."""
    from pybpf.object.reader import read_object

    name = _PROGRAMS + subject
    try:
        with open(os.path.join(_HERE, name + ".o"), "rb") as file:
            data = file.read()
    except FileNotFoundError:
        from pybpf.lang import compile_modules

        data = compile_modules([f"tests.guests.{name}"], name + ".o")
    spec = read_object(data)
    if spec.byteorder != sys.byteorder:
        skip(f"the compiler's object is {spec.byteorder}-endian, this machine is {sys.byteorder}-endian")
    return spec


def subjects():
    """All SUBJECTs, sorted."""
    names = {name.partition(".")[0] for name in os.listdir(_HERE) if name.endswith((".py", ".pyc"))}
    return sorted(name[len(_PREFIX) :] for name in names if name.startswith(_PREFIX))


def load(subject):
    """Import a subject's module; gives its checks in the order of definition."""
    from importlib import import_module

    import_module(f"tests.guests.{_PREFIX}{subject}")
    return [CHECKS[name] for name in CHECKS if name.startswith(subject + ".")]


# --- running ------------------------------------------------------------------------


def run(check):
    """Run one check in a process of its own."""
    before = _kernel_objects()
    started = time.monotonic()
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reading)
        os.setsid()
        _child(check, writing)
    os.close(writing)
    limit = check.timeout * slower()
    try:
        told = _read(reading, started + limit)
        if told is None and in_guest():
            _tell_where_all_stand()
    finally:
        os.close(reading)
        # The whole session: what the check started must not outlive it. The check's process
        # is not reaped yet, so that its number cannot mean another.
        _kill_group(pid)
        status = os.waitpid(pid, 0)[1]
    seconds = time.monotonic() - started
    if told is None:
        return Result(check.name, FAIL, f"took longer than {limit:.0f} s", seconds)
    outcome, _, reason = told.partition("\t")
    if outcome not in (PASS, SKIP, FAIL):
        outcome, reason = FAIL, f"the process ended by {_how(status)} before it had a result"
    left = _left(before) if outcome != FAIL else ""
    if left:
        outcome, reason = FAIL, f"left in the kernel: {left}"
    return Result(check.name, outcome, reason, seconds)


def _child(check, writing):
    """In the new process: never returns."""
    try:
        before = _descriptors()
        told = _outcome(check)
        if told == PASS:
            gc.collect()
            leaked = [f"{fd} {at}" for fd, at in sorted(_descriptors().items()) if before.get(fd) != at]
            if leaked:
                told = f"{FAIL}\tleaked file descriptors: {', '.join(leaked)}"
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(writing, told.encode("utf-8", "replace"))  # whoever reads it ends this process
    finally:
        os._exit(0)


def _outcome(check):
    try:
        check.function()
    except Skip as reason:
        return f"{SKIP}\t{_one_line(str(reason)) or 'no reason was given'}"
    except BaseException as error:  # the next check runs all the same
        where, trace = "", error.__traceback__
        while trace is not None:  # the last place in a module of checks
            name = os.path.basename(trace.tb_frame.f_code.co_filename)
            where = f"{name}:{trace.tb_lineno}" if name.startswith(_PREFIX) or not where else where
            trace = trace.tb_next
        details = getattr(error, "details", "")
        print(f"{check.name}: {type(error).__name__}: {error}\n{details}", file=sys.stderr, flush=True)
        return f"{FAIL}\t{where}: {type(error).__name__}: {_one_line(str(error))}"
    return PASS


def _one_line(text):
    return " ".join(text.split())


def _read(fd, end):
    """What comes until the other end is closed, as text; None when that takes longer than until ``end``."""
    data = b""
    while True:
        if not select.select([fd], [], [], max(0.0, end - time.monotonic()))[0]:
            return None
        piece = os.read(fd, 65536)
        if not piece:
            return data.decode("utf-8", "replace")
        data += piece
        if b"\t" in data or data == PASS.encode():  # a child of the check may hold the pipe open
            return data.decode("utf-8", "replace")


def _tell_where_all_stand():
    """What each process waits for, and kernel threads that cannot be interrupted: why a check did not end."""
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read(80).replace(b"\0", b" ").decode("utf-8", "replace")
            with open(f"/proc/{pid}/stat") as file:
                name, _, rest = file.read().rpartition(")")
            state, parent = rest.split()[:2]
            if words or state == "D":
                with open(f"/proc/{pid}/stack") as file:
                    places = [line.split()[-1].partition("+")[0] for line in file]
                write(f"{name}) {state}, child of {parent}: {words or '-'}: {' '.join(places)}\n")
        except OSError:  # it has ended by now
            pass


def _kill_group(pid):
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def _how(status):
    return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit status {os.WEXITSTATUS(status)}"


def _descriptors():
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the directory's own descriptor, closed by now
            pass
    return found


# --- what is in the kernel ------------------------------------------------------------


def objects():
    """Every program, map, link and BTF object in the kernel, as (noun, id). Raises pybpf's SyscallError."""
    from pybpf import commands
    from pybpf.errors import SyscallError

    kinds = (
        ("program", commands.prog_get_next_id),
        ("map", commands.map_get_next_id),
        ("link", commands.link_get_next_id),
        ("BTF", commands.btf_get_next_id),
    )
    found = set()
    for noun, following in kinds:
        number = 0
        try:
            while (number := following(number)) is not None:
                found.add((noun, number))
        except SyscallError as error:
            if noun != "link" or error.errno != errno.EINVAL:  # links have numbers since 5.8
                raise
    return found


def held_by(pid):
    """The programs, maps and links that a process has open, as (noun, id), by what /proc tells of its descriptors."""
    nouns = {"prog_id": "program", "map_id": "map", "link_id": "link"}
    found = set()
    for name in os.listdir(f"/proc/{pid}/fdinfo"):
        try:
            with open(f"/proc/{pid}/fdinfo/{name}") as file:
                told = [line.split() for line in file]
        except OSError:  # closed by now
            continue
        keys = [words[0].rstrip(":") for words in told if len(words) == 2]
        # A link's descriptor tells of its program too.
        wanted = "link_id" if "link_id" in keys else next((key for key in nouns if key in keys), "")
        found |= {(nouns[wanted], int(words[1])) for words in told if wanted and words[0] == wanted + ":"}
    return found


def _kernel_objects():
    """What a check may leave behind; nothing where others use the kernel too."""
    if not in_guest():
        return set()
    found = objects()
    for path in ("/sys/kernel/tracing/kprobe_events", "/sys/kernel/tracing/uprobe_events"):
        try:
            with open(path) as file:
                found |= {("probe", line.split()[0]) for line in file}
        except OSError:
            pass
    for noun, top in (("pin", "/sys/fs/bpf"), ("cgroup", "/sys/fs/cgroup")):
        for folder, folders, names in os.walk(top):
            found |= {(noun, os.path.join(folder, name)) for name in (folders if noun == "cgroup" else folders + names)}
    return found


def _left(before):
    """What is there that was not, after waiting for it to go; as text, empty for nothing."""
    end = time.monotonic() + _GRACE
    while True:
        left = _kernel_objects() - before
        if not left or time.monotonic() > end:
            return ", ".join(f"{noun} {name}" for noun, name in sorted(left, key=str))
        time.sleep(0.05)


# --- the command ----------------------------------------------------------------------


def write(text):
    """One line, at once, past the buffer that a forked child would inherit."""
    sys.stdout.flush()
    os.write(1, text.encode("utf-8", "replace"))


def main(words):
    """Run the subjects or checks named (default: all) and print a line for each; 1 if one failed, 2 wrong usage."""
    known = subjects()
    wanted = words or known
    for word in wanted:
        if word.partition(".")[0] not in known:
            print(f"checks: no subject {word.partition('.')[0]!r}: there are {', '.join(known)}", file=sys.stderr)
            return 2
    failed = False
    for subject in dict.fromkeys(word.partition(".")[0] for word in wanted):
        # A process for each subject: what its module imports is free again for the next.
        pid = os.fork()
        if not pid:
            os._exit(_subject(subject, [word for word in wanted if word.partition(".")[0] == subject]))
        failed |= os.waitpid(pid, 0)[1] != 0
    return int(failed)


def _subject(subject, wanted):
    try:
        found = load(subject)
    except Exception as error:
        write(Result(f"{subject}.import", FAIL, f"{type(error).__name__}: {_one_line(str(error))}", 0.0).line())
        return 1
    failed = 0
    for check in found:
        if subject in wanted or check.name in wanted:
            result = run(check)
            failed |= result.outcome == FAIL
            write(result.line())
    return failed


if __name__ == "__main__":
    # As a module of its own name: the subjects' modules import this one, and register there.
    from tests.guests import checks

    sys.exit(checks.main(sys.argv[1:]))
