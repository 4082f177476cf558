"""Events that are named by their hook: functions, tracepoints, security hooks, user space; arguments as they were."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile

from tests.guests.checks import check, equal, figure, skip
from tests.guests.checks_trace import BFER, MEASURE, argument, bfer

# sync() marks the beginning: what Python itself does before is not looked at.
DEEDS = """
import os, sys
os.chdir(sys.argv[1])
fd = os.open("made.txt", os.O_CREAT | os.O_WRONLY, 0o640)
os.write(fd, b"twelve bytes")
os.close(fd)
try:
    os.unlink("missing.txt")
except OSError:
    pass
os.unlink("made.txt")
"""


class Trace:
    """What bfer showed of DEEDS: ``events`` by name, ``notes``; ``folder`` is where they were done."""

    def __init__(self, *expressions, command=None, result=0):
        with tempfile.TemporaryDirectory(prefix="checks") as folder:
            self.folder = os.path.realpath(folder)
            command = command or [sys.executable, "-S", "-c", DEEDS, folder]
            status, output, self.notes = bfer("trace", *expressions, "-o", "json", command=command)
        signs = ("is not traced", "can be traced here", "lets nobody trace")
        refused = [line for line in self.notes.splitlines() if any(sign in line for sign in signs)]
        if refused:
            skip("; ".join(refused))
        equal((status, self.notes if status != result else ""), (result, ""))
        self.events = {}
        for line in output.splitlines():
            if line.startswith("{"):
                event = json.loads(line)
                equal(event["argsNum"], len(event["args"]))
                assert int(event["eventId"]) >= 6000, event
                self.events.setdefault(event["eventName"], []).append(event)

    def of(self, name):
        return self.events.get(name, [])

    def __getitem__(self, name):
        assert name in self.events, f"{name}: {sorted(self.events)} {self.notes}"
        return self.events[name]


def types(event):
    return {item["name"]: item["type"] for item in event["args"]}


@check(timeout=60.0)
def check_tracepoints():
    """The same exec by its format, by raw arguments, and by BTF; system calls as tracepoints."""
    names = ["tp:sched:sched_process_exec", "raw_tp:sched_process_exec", "tp_btf:sched_process_exec"]
    trace = Trace("event=" + ",".join(names), command=["/bin/sh", "-c", "exit 0"])
    (record,), (raw,), (typed,) = (trace[name] for name in names)
    pid = record["hostProcessId"]
    if "tracefs is not mounted" not in trace.notes:
        equal([argument(record, name) for name in ("filename", "pid", "old_pid")], ["/bin/sh", pid, pid])
        equal(types(record), {"filename": "char[]", "pid": "pid_t", "old_pid": "pid_t"})
    for event in (raw, typed):
        task = argument(event, event["args"][0]["name"])
        equal(task, {"pid": pid, "tgid": pid, "comm": os.path.basename("/bin/sh")})
        equal(event["args"][2]["value"], "/bin/sh")
        equal([item["type"] for item in event["args"]], ["struct task_struct *", "pid_t", "struct linux_binprm *"])
        equal(event["returnValue"], 0)
    equal([int(event["eventId"]) for event in (record, raw, typed)], [6000, 6001, 6002])


@check(timeout=60.0)
def check_tracepoint_filters():
    """Numbers and texts of a tracepoint are compared in the kernel; a pattern stands for several tracepoints."""
    name = "tp:sched:sched_process_exec"
    script = "/bin/sh -c 'exit 0'; /bin/sh -c 'exit 0'; exit 0"
    trace = Trace(f"event={name}", f"{name}.filename=/bin/s*", command=["/bin/sh", "-c", script])
    pids = [event["hostProcessId"] for event in trace[name]]
    equal(len(set(pids)), 3)
    assert not Trace(f"{name}.filename=*/no", command=["/bin/sh", "-c", script]).events
    trace = Trace("event=tp:sched:sched_process_*", "event!=tp:sched:*wait", command=["/bin/sh", "-c", script])
    found = {event.rpartition("_")[2] for event in trace.events}
    assert found >= {"exec", "exit", "fork"}, found
    assert "wait" not in found, found


@check(timeout=60.0)
def check_kprobes():
    """A function's arguments and result by kprobes; a path filter in the kernel; memory."""
    trace = Trace(
        "event=kprobe:vfs_unlink,kretprobe:vfs_unlink,kprobe:vfs_write",
        "kprobe:vfs_write.file=*/made.txt",
        "kretprobe:vfs_unlink.retval=0",
    )
    (unlinked,) = trace["kprobe:vfs_unlink"]
    assert argument(unlinked, "dentry").endswith("/made.txt"), unlinked
    equal([types(unlinked)[name] for name in ("dir", "dentry")], ["struct inode *", "struct dentry *"])
    assert argument(unlinked, "dir")["i_ino"] > 0, unlinked
    (done,) = trace["kretprobe:vfs_unlink"]
    equal((done["returnValue"], done["args"]), (0, []))
    (written,) = trace["kprobe:vfs_write"]
    equal(argument(written, "file"), f"{trace.folder}/made.txt")
    equal([argument(written, name) for name in ("buf", "count")], ["twelve bytes", 12])
    equal([types(written)[name] for name in ("file", "buf", "count")], ["struct file *", "const char *", "size_t"])


@check(timeout=90.0)
def check_patterns_of_functions():
    """All functions that match, by one program where the kernel has kprobe.multi, each with its own arguments."""
    trace = Trace(
        "event=kprobe:vfs_w*,kretprobe:vfs_w*", "kprobe:vfs_write.file=*/made.txt", "kretprobe:vfs_write.retval=12"
    )
    (written,) = trace["kprobe:vfs_write"]
    equal(argument(written, "file"), f"{trace.folder}/made.txt")
    equal([argument(written, name) for name in ("buf", "count")], ["twelve bytes", 12])
    (done,) = trace["kretprobe:vfs_write"]
    equal((done["returnValue"], done["processName"]), (12, written["processName"]))
    from pybpf.links.kprobes import has_kprobe_multi

    figure("patterns of kprobes", "kprobe.multi" if has_kprobe_multi() else "one by one")


@check(timeout=60.0)
def check_fentry_and_fexit():
    """The same by trampolines, with what a function returns."""
    from pybpf import kallsyms

    opener = "do_filp_open" if kallsyms.find(["do_filp_open"]) else "do_file_open"
    trace = Trace(
        f"event=fentry:vfs_unlink,fexit:vfs_write,fexit:{opener}",
        "fexit:vfs_write.retval=12",
        f"fexit:{opener}.retval=*/made.txt",
    )
    (unlinked,) = trace["fentry:vfs_unlink"]
    assert argument(unlinked, "dentry").endswith("/made.txt"), unlinked
    (written,) = trace["fexit:vfs_write"]
    equal(written["returnValue"], 12)
    equal(argument(written, "file"), f"{trace.folder}/made.txt")
    equal([argument(written, name) for name in ("buf", "count")], ["twelve bytes", 12])
    (opened,) = trace[f"fexit:{opener}"]  # and not those that failed, whose result leads to no path
    equal(argument(opened, "retval"), f"{trace.folder}/made.txt")
    equal(argument(opened, "pathname"), "made.txt")
    equal(argument(opened, "dfd"), -100)


@check(timeout=60.0)
def check_lsm():
    """A security hook, observed: nothing is denied."""
    trace = Trace("event=lsm:file_open,lsm:inode_unlink", "lsm:file_open.file=*/made.txt")
    (opened,) = trace["lsm:file_open"]
    equal(argument(opened, "file"), f"{trace.folder}/made.txt")
    (unlinked,) = trace["lsm:inode_unlink"]
    assert argument(unlinked, "dentry").endswith("/made.txt"), unlinked


@check(timeout=60.0)
def check_user_space():
    """A function of the C library, with declared arguments and result."""
    trace = Trace("event=uprobe:c:unlink(const char *path),uretprobe:c:unlink(int),uprobe:c:unlink+0x0")
    equal([argument(event, "path") for event in trace["uprobe:c:unlink"]], ["missing.txt", "made.txt"])
    equal([event["returnValue"] for event in trace["uretprobe:c:unlink"]], [-1, 0])
    trace = Trace("event=uprobe:c:unlink(const char *path)", "uprobe:c:unlink.path=made*")
    equal([argument(event, "path") for event in trace["uprobe:c:unlink"]], ["made.txt"])


@check(timeout=60.0)
def check_usdt():
    """A static probe: the arguments as the note says, where the machine is one that they are known for."""
    from tests.guests.linkkit import usdt_program

    path = f"/tmp/generic-usdt-{os.getpid()}"
    usdt_program(path)
    try:
        trace = Trace(f"event=usdt:{path}:demo:hit", command=[path], result=1)
        (hit,) = {event["hostThreadId"]: event for event in trace[f"usdt:{path}:demo:hit"]}.values()
        equal(hit["processName"], os.path.basename(path)[:15])
        # The semaphore, which is up while somebody looks, and a constant.
        equal([(item["type"], item["value"]) for item in hit["args"]], [("unsigned long", 1), ("int", 7)])
    finally:
        os.unlink(path)


@check(timeout=60.0)
def check_memory_and_time():
    """What a kprobe by name costs in memory, with the kernel's types read for it."""
    words = [
        *BFER,
        "trace",
        "-q",
        "event=kprobe:vfs_unlink,tp:sched:sched_process_exec",
        "--",
        "/bin/sh",
        "-c",
        "exit 0",
    ]
    done = subprocess.run([sys.executable, "-S", "-c", MEASURE, *words], capture_output=True, text=True, check=False)
    if "VmHWM" not in done.stderr or done.returncode:
        skip(done.stderr.strip().splitlines()[0] if done.stderr.strip() else "no figure")
    figure("peak RSS by name, kB", int(done.stderr.split("VmHWM ")[1]))


@check(timeout=60.0)
def check_what_cannot_be_had():
    """Names that are none are refused in one line, exit status 2, with the nearest that there is."""
    for name, near in (
        ("raw_tp:sched_swich", "'sched_switch'"),
        ("kprobe:vfs_unlnk", "'vfs_unlink'"),
        ("lsm:file_opem", ""),
    ):
        status, _, errors = bfer("trace", f"event={name}", command=["/bin/true"])
        equal((status, errors.count("\n")), (2, 1))
        assert near in errors, errors
