"""Events that are no system calls: what a small program does, seen by the kernel's security hooks and tracepoints."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile

from tests.guests.checks import check, equal, skip
from tests.guests.checks_trace import BFER, argument, bfer, skip_where_it_cannot_run
from tests.guests.eventkit import arguments, deeds, encoded, one

DEEDS = """
import os, socket, sys
folder = sys.argv[1]
with open("/proc/self/comm", "w") as file:
    file.write("curl")
with open(folder + "/login.txt", "w"):
    pass
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
try:
    sender.connect(("127.0.0.1", 8080))
except OSError:  # the loopback interface is down; the hook comes before
    pass
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("0.0.0.0", 0))
server.listen(5)
os.rename(folder + "/login.txt", folder + "/old")
os.unlink(folder + "/old")
"""


def events_of(*expressions):
    """The events of DEEDS by name, and the folder that it worked in."""
    with tempfile.TemporaryDirectory(prefix="checks") as folder:
        command = [sys.executable, "-S", "-c", DEEDS, folder]
        status, output, errors = bfer("trace", *expressions, "-o", "json", command=command)
        if status == 1 and "none of the events can be traced" in errors:
            skip(errors.strip())
        refused = [line for line in errors.splitlines() if "is not traced" in line]
        if refused:
            skip("; ".join(refused))
        equal(status, 0)
        found = {}
        for line in output.splitlines():
            if line.startswith("{"):
                event = json.loads(line)
                equal(event["argsNum"], len(event["args"]))
                found.setdefault(event["eventName"], []).append(event)
        return found, folder


@check(timeout=60.0)
def check_security_hooks():
    """Opened, renamed and unlinked files, and every step of a socket's life, with their arguments."""
    found, folder = events_of("event=security_*", "comm=curl")
    opened = [argument(event, "pathname") for event in found["security_file_open"]]
    assert f"{folder}/login.txt" in opened, opened
    families = [[argument(event, name) for name in ("family", "type")] for event in found["security_socket_create"]]
    assert [2, 2] in families, families
    (connected,) = found["security_socket_connect"]
    equal(argument(connected, "remote_addr"), {"sa_family": "AF_INET", "sin_addr": "127.0.0.1", "sin_port": "8080"})
    (bound,) = found["security_socket_bind"]
    equal(argument(bound, "local_addr")["sin_addr"], "0.0.0.0")
    (listening,) = found["security_socket_listen"]
    equal(argument(listening, "backlog"), 5)
    equal(argument(listening, "sockfd"), argument(bound, "sockfd"))
    assert int(argument(listening, "local_addr")["sin_port"]) > 0
    options = [
        [argument(event, name) for name in ("level", "optname")] for event in found["security_socket_setsockopt"]
    ]
    assert [1, 2] in options, options
    (renamed,) = found["security_inode_rename"]
    assert argument(renamed, "old_path").endswith("/login.txt"), renamed
    assert argument(renamed, "new_path").endswith("/old"), renamed
    (unlinked,) = found["security_inode_unlink"]
    assert argument(unlinked, "pathname").endswith("/old"), unlinked


CURL = """#!{python} -S
import socket, sys
with open(sys.argv[1], "w"):
    pass
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.connect(("127.0.0.1", 8080))
try:
    sender.send(b"login")
except OSError:  # nobody listens
    pass
"""


@check(timeout=60.0)
def check_a_program_named_curl():
    """``bfer --output json --trace comm=curl``: the file it opens, the socket it makes, whom it sends to."""
    with tempfile.TemporaryDirectory(prefix="checks") as folder, open(f"{folder}/errors", "w+") as errors:
        with open(f"{folder}/curl", "w") as file:
            file.write(CURL.format(python=sys.executable))
        os.chmod(f"{folder}/curl", 0o755)
        tracer = subprocess.Popen(
            [*BFER, "--output", "json", "--trace", "comm=curl"], stdout=subprocess.PIPE, stderr=errors
        )
        while True:  # there is no telling when it traces, but by what it shows
            subprocess.run([f"{folder}/curl", f"{folder}/login.txt"], check=True)
            if select.select([tracer.stdout], [], [], 1)[0]:
                break
        subprocess.run([f"{folder}/curl", f"{folder}/login.txt"], check=True)
        tracer.send_signal(signal.SIGINT)
        output = tracer.communicate()[0]
        errors.seek(0)
        told = errors.read()
        skip_where_it_cannot_run(tracer.returncode, told)
        equal(tracer.returncode, 0)
        if "lets nobody trace" in told and "security_file_open" in told:
            skip(told.strip())
        found = {}
        for line in output.splitlines():
            event = json.loads(line)
            equal(event["processName"], "curl")
            found.setdefault(event["eventName"], []).append(event)
        assert f"{folder}/login.txt" in [argument(event, "pathname") for event in found["security_file_open"]]
        sockets = [[argument(event, name) for name in ("family", "type")] for event in found["security_socket_create"]]
        assert [2, 2] in sockets, sockets
        remote = {"sa_family": "AF_INET", "sin_addr": "127.0.0.1", "sin_port": "8080"}
        equal(argument(found["security_socket_connect"][-1], "remote_addr"), remote)
        equal(list(argument(found["security_socket_connect"][-1], "remote_addr")), list(remote))
        equal(argument(found["connect"][-1], "addr"), remote)


@check(timeout=60.0)
def check_stacks_and_running_calls():
    """Options stack-addresses and detect-syscall on hooks of all kinds."""
    options = ["-o", "option:stack-addresses", "-o", "option:detect-syscall", "-o", "option:parse-arguments"]
    found, _ = events_of("event=security_file_open,task_rename,openat,sched_process_exec", *options)
    for event in (event for events in found.values() for event in events):
        equal(type(event["stackAddresses"]), list)
        assert 0 < len(event["stackAddresses"]) <= 20, event
    equal({argument(event, "syscall") for event in found["security_file_open"]} - {"open", "openat", "execve"}, set())
    equal({argument(event, "syscall") for event in found["task_rename"]}, {"execve", "write"})


@check(timeout=60.0)
def check_relative_paths():
    """Option resolve-paths: by the current folder and by a descriptor, as the kernel has them."""
    from bfer.catalogue import Catalogue

    with tempfile.TemporaryDirectory(prefix="checks") as folder:
        os.mkdir(f"{folder}/below")
        deeds = "import os, sys; os.chdir(sys.argv[1]); fd = os.open('below', os.O_RDONLY); os.mkdir('x', dir_fd=fd); "
        deeds += "os.chdir('below/x'); os.rmdir(sys.argv[1] + '/below/x'); os.access('y', 0)"
        known = Catalogue(os.uname().machine).events
        calls = [name for name in ("open", "openat", "mkdirat", "access", "faccessat") if name in known]
        words = [f"event={','.join(calls)}", "-o", "option:resolve-paths", "-o", "json"]
        status, output, _ = bfer("trace", *words, command=[sys.executable, "-S", "-c", deeds, folder])
        equal(status, 0)
        found = {}
        for line in output.splitlines():
            for arg in json.loads(line)["args"]:
                if arg["name"] == "pathname":
                    found[arg["value"]] = arg.get("resolved")
        wanted = {"below": f"{folder}/below", "x": f"{folder}/below/x", "y": f"{folder}/below/x (deleted)/y"}
        equal({name: found.get(name) for name in wanted}, wanted)


@check(timeout=60.0)
def check_process_tracepoints():
    """A program starts, renames itself and ends."""
    found, _ = events_of("event=sched_process_exec,sched_process_exit,task_rename")
    started = found["sched_process_exec"][-1]
    equal(argument(started, "pathname"), os.path.realpath(sys.executable))
    # To the name of its file as it starts, then to the one that it writes into /proc.
    renamed = [(argument(event, "old_name"), argument(event, "new_name")) for event in found["task_rename"]]
    equal(renamed[-1], (os.path.basename(sys.executable)[:15], "curl"))
    (ended,) = found["sched_process_exit"]
    equal((argument(ended, "exit_code"), argument(ended, "process_group_exit")), (0, 1))
    equal(ended["processName"], "curl")


PROCESSES = """
import time
told(pid=os.getpid())
child = os.fork()
if not child:
    os.execve("/proc/self/exe", ["renamed", "-S", "-c", "", "last"], {"ONE": "two"})
os.waitpid(child, 0)
time.sleep(0.01)
told(child=child, exe=os.path.realpath("/proc/self/exe"), file=os.stat("/proc/self/exe"))
told(input=os.stat("/proc/self/fd/0"))
"""


@check(timeout=60.0)
def check_processes_as_the_kernel_sees_them():
    """All arguments of a fork and an exec, switches of a processor, system calls as such."""
    names = ("sched_process_fork", "sched_process_exec", "sched_switch", "sys_enter", "sys_exit")
    with deeds(names, PROCESSES, "-o", "option:exec-env") as (found, _, facts):
        pid, child = facts["pid"], facts["child"]
        forked = one(found, "sched_process_fork", child_tid=child)
        ids = [forked[f"{who}_{what}"] for who in ("parent", "child") for what in ("tid", "ns_tid", "pid", "ns_pid")]
        equal(ids, [pid] * 4 + [child] * 4)
        (raw,) = [event for event in found["sched_process_exec"] if event["hostProcessId"] == child]
        started = arguments(raw)
        equal(forked["start_time"], raw["threadStartTime"])
        _, inode, device, changed, _ = facts["file"]
        equal(
            (started["cmdpath"], started["pathname"], started["interp"]),
            ("/proc/self/exe", facts["exe"], "/proc/self/exe"),
        )
        equal((started["argv"], started["env"]), (["renamed", "-S", "-c", "", "last"], ["ONE=two"]))
        equal((started["dev"], started["inode"], started["ctime"]), (encoded(device), inode, changed))
        equal((started["stdin_type"], started["inode_mode"]), (facts["input"][0], facts["file"][0]))
        equal(started["invoked_from_kernel"], 0)
        if started["interpreter_pathname"]:  # where the kernel lets the headers be seen
            linker = os.stat(started["interpreter_pathname"])
            equal(started["interpreter_inode"], linker.st_ino)
            equal(
                (started["interpreter_dev"], started["interpreter_ctime"]), (encoded(linker.st_dev), linker.st_ctime_ns)
            )
        switches = [*map(arguments, found["sched_switch"])]
        assert [1 for event in switches if event["prev_tid"] == pid and event["next_tid"] != pid], switches
        names = {event["processName"] for event in found["sys_enter"] if event["threadId"] == pid}
        assert {event["prev_comm"] for event in switches if event["prev_tid"] == pid} <= names, (switches, names)
        assert all(event["cpu"] < (os.cpu_count() or 1) and event["next_comm"] for event in switches), switches
        (entered, left) = [
            [(event["threadId"], argument(event, "syscall")) for event in found[name]]
            for name in ("sys_enter", "sys_exit")
        ]
        assert len(set(entered)) > 10, entered
        assert set(left) <= {*entered, *[call for call in left if call[0] == child]}, (entered, left)


@check(timeout=60.0)
def check_filters_on_numbers_behind_the_block():
    """What changes with every record is compared all the same: in the kernel where it can be."""
    inode = os.stat(os.path.realpath(sys.executable)).st_ino
    for filter, wanted in ((f"={inode}", True), (f"!={inode}", False), (f"={str(inode)[:-1]}*", True), ("=*x", False)):
        with deeds(("sched_process_exec",), PROCESSES, f"sched_process_exec.inode{filter}") as (found, _, facts):
            started = [event for event in found["sched_process_exec"] if event["hostProcessId"] == facts["child"]]
            equal((filter, len(started)), (filter, int(wanted)))


IN_MEMORY = """
program = os.memfd_create("of_a_check", 0)
with open("/proc/self/exe", "rb") as file:
    while True:
        piece = file.read(1 << 20)
        if not piece:
            break
        os.write(program, piece)
child = os.fork()
if not child:
    os.execve("/proc/self/fd/%d" % program, ["from_memory", "-S", "-c", ""], {})
os.waitpid(child, 0)
told(child=child)
"""


@check(timeout=60.0)
def check_program_that_is_in_no_folder():
    """What is run from memory alone has the name that it was given there."""
    with deeds(("sched_process_exec",), IN_MEMORY) as (found, _, facts):
        (started,) = [
            arguments(event) for event in found["sched_process_exec"] if event["hostProcessId"] == facts["child"]
        ]
        equal((started["pathname"], started["argv"][0]), ("memfd:of_a_check", "from_memory"))
        assert "env" not in started, started


@check(timeout=60.0)
def check_filters_on_paths_of_hooks():
    """A path filter of a security hook is the kernel's work too."""
    found, folder = events_of("event=security_file_open", "security_file_open.pathname=*/login.txt")
    equal([argument(event, "pathname") for event in found["security_file_open"]], [f"{folder}/login.txt"])
