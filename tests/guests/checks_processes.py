"""Who is traced: trees under a storm of forks and used-up process numbers, binaries, pid namespaces.

A program of many processes logs what each of them did, and what bfer attributed to them must be the same: no event
missed, and none of others.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time

from tests.guests.checks import check, equal, figure, in_guest, skip
from tests.guests.checks_trace import BFER, event, skip_where_it_cannot_run

# Forks until all its numbers are used up, at random depths: children that are waited for and such that outlive their
# parents, daemons that fork twice, forks out of threads, programs started by vfork, and by threads but the first.
# Each process opens a file of its own that is not there, and logs it.
STORM = """
import os, random, sys, threading, time

kind, count, log = sys.argv[1], int(sys.argv[2]), os.open(sys.argv[3], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
rng = random.Random(int(sys.argv[4]))
CAT = sys.argv[5]
PATIENT = int(sys.argv[6])  # where memory is short, most are waited for

def note(number, pid, tid):
    os.write(log, b"/no/%s-%d %d %d\\n" % (kind.encode(), number, pid, tid))

def look(number):
    try:
        os.open("/no/%s-%d" % (kind, number), os.O_RDONLY)
    except OSError:
        pass
    note(number, os.getpid(), threading.get_native_id())

def fork():
    while True:
        try:
            return os.fork()
        except BlockingIOError:  # no numbers left, for now
            reap()
            time.sleep(0.001)

def reap(block=False):
    try:
        while os.waitpid(-1, 0 if block else os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass

def in_thread(act):
    while True:
        thread = threading.Thread(target=act)
        try:
            thread.start()
        except RuntimeError:  # no numbers left
            reap()
            time.sleep(0.001)
            continue
        thread.join()
        # It may still be ending: musl before 1.2.4 leaves a lock that it holds then (that of pthread_key_delete) locked
        # for ever in what is forked meanwhile, and Python takes it there first of all.
        while os.path.exists("/proc/self/task/%d" % thread.native_id):
            time.sleep(0.001)
        return

def start_cat(number):
    while True:
        try:
            pid = os.posix_spawn(CAT, [CAT, "/no/%s-%d" % (kind, number)], {}, file_actions=SILENT)
        except BlockingIOError:
            reap()
            time.sleep(0.001)
            continue
        note(number, pid, pid)
        os.waitpid(pid, 0)
        return

def become_cat(number):
    note(number, os.getpid(), os.getpid())
    os.dup2(os.open("/dev/null", os.O_WRONLY), 2)
    os.execve(CAT, [CAT, "/no/%s-%d" % (kind, number)], {})

SILENT = [(os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0)]

def branch(low, high):
    way = rng.random()
    if way < 0.02:
        start_cat(low)
    else:
        look(low)
    low += 1
    while low < high:
        size = rng.randint(1, high - low)
        way = rng.random()
        if way < 0.02 and size == 1:
            pid = fork()
            if not pid:
                in_thread(lambda: become_cat(low))
        elif way < 0.10:
            in_thread(lambda: child(low, low + size, way))
        else:
            child(low, low + size, way)
        low += size

def child(low, high, way):
    seed = rng.random()
    pid = fork()
    if not pid:
        rng.seed(seed)
        if way < 0.25:  # a daemon
            os.setsid()
            if fork():
                os._exit(0)
        branch(low, high)
        if way > 0.5:
            reap(block=True)
        os._exit(0)
    if way > 0.3 or PATIENT:
        os.waitpid(pid, 0)
    else:
        reap()

sys.stdin.readline()
branch(0, count)
reap(block=True)
os._exit(0)
"""


def cat():
    """The program that `cat` is, by its own path; and what it is told to be there."""
    for folder in os.environ.get("PATH", os.defpath).split(":"):
        if os.path.exists(f"{folder}/cat"):
            return f"{folder}/cat"
    return skip("there is no cat")


class Storm:
    """A storm that waits for ``go``; ``wait`` until all of its processes have ended."""

    def __init__(self, kind, count, folder, seed):
        self.log = f"{folder}/{kind}"
        reading, writing = os.pipe()
        words = [sys.executable, "-S", "-E", "-c", STORM, kind, str(count), self.log, str(seed), cat(), is_small()]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, pass_fds=[writing])
        os.close(writing)
        self.reading = reading  # its end comes when the last process that has the other one is gone
        self.pid = self.process.pid

    def go(self):
        self.process.stdin.write(b"\n")
        self.process.stdin.close()

    def wait(self):
        os.read(self.reading, 1)
        os.close(self.reading)
        equal(self.process.wait(), 0)

    def logged(self):
        with open(self.log) as file:
            return sorted(tuple(line.split()) for line in file)


def traced(output):
    """Sorted (path, pid, tid), and what is written otherwise."""
    return sorted(tuple(line.split()) for line in output.splitlines() if line.startswith("/no/"))


TEMPLATE = "template={args.pathname} {processId} {threadId}"
# With room: a storm has moments in which a guest's only processor does not let bfer read.
COMMON = ["trace", "-q", "--buffer", "4M", "-o", TEMPLATE]


class Tracer:
    """A running bfer, which has begun."""

    def __init__(self, *expressions):
        self.folder = tempfile.TemporaryDirectory(prefix="checks")
        self.output, self.errors, table = (f"{self.folder.name}/{name}" for name in ("output", "errors", "table"))
        words = [*BFER, "trace", "--buffer", "4M", "-o", TEMPLATE, "-o", f"table:{table}", *expressions]
        with open(self.output, "wb") as output, open(self.errors, "wb") as errors:
            self.process = subprocess.Popen(words, stdout=output, stderr=errors)
        end = time.monotonic() + 240
        # The header is written when everything is attached.
        while self.process.poll() is None and time.monotonic() < end:
            if os.path.exists(table) and os.path.getsize(table):
                break
            time.sleep(0.02)

    def finish(self):
        """Events, when it has been told to stop; no losses, no complaints."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait()
        with self.folder:
            with open(self.errors) as file:
                told = file.read()
            skip_where_it_cannot_run(status, told)
            wrong = [line for line in told.splitlines() if not line.startswith("bfer: note: ")]
            equal((status, wrong), (0, []))
            with open(self.output) as file:
                return traced(file.read())


def weather(expressions, count, seed):
    """Two storms at once; ``expressions(pid)`` select the first. What it logged must be what was traced."""
    with tempfile.TemporaryDirectory(prefix="checks") as folder:
        ours = Storm("m", count, folder, seed)
        others = Storm("f", count, folder, seed + 1)
        running = Tracer(f"{event()}.pathname=/no/*", *expressions(ours.pid))
        for storm in (others, ours):
            storm.go()
        for storm in (others, ours):
            storm.wait()
        got = running.finish()
        compare(got, ours.logged(), count)
        figure("processes", len({pid for _, pid, _ in got}))
        equal(len(others.logged()), count)


def compare(got, logged, count):
    equal(len(logged), count)
    missed, foreign = sorted(set(logged) - set(got)), sorted(set(got) - set(logged))
    equal((missed[:5], foreign[:5], len(missed), len(foreign)), ([], [], 0, 0))
    equal(got, logged)


def is_small():
    """ "1" on a machine where a few dozen Pythons do not fit into memory, else "0"."""
    with open("/proc/meminfo") as file:
        return str(int(int(file.readline().split()[1]) < 128 << 10))


def count():
    return (60 if int(is_small()) else 100) if in_guest() else 2000


class FewNumbers:
    """A small limit of process numbers for a ``with`` block, so that each is used many times: in guests alone, for the
    limit is everybody's.
    """

    PATH = "/proc/sys/kernel/pid_max"

    def __enter__(self):
        self.before = ""
        if in_guest():
            with open(self.PATH) as file:
                self.before = file.read()
            used = max(int(name) for name in os.listdir("/proc") if name.isdigit())
            self.set(str(max(used, 301) + 80))

    def set(self, value):
        with open(self.PATH, "w") as file:
            file.write(value)

    def __exit__(self, *_):
        if self.before:
            self.set(self.before)


@check(timeout=60)
def check_tree_in_a_storm():
    with FewNumbers():
        weather(lambda pid: [f"tree={pid}"], count(), 1)


@check(timeout=60)
def check_follow_in_a_storm():
    with FewNumbers():
        weather(lambda pid: [f"pid={pid}", "follow"], count(), 2)


@check(timeout=60)
def check_all_but_a_tree_in_a_storm():
    """The other way round: what is not traced is not left out by accident either."""
    with FewNumbers(), tempfile.TemporaryDirectory(prefix="checks") as folder:
        ours, others = Storm("m", count(), folder, 3), Storm("f", count(), folder, 4)
        running = Tracer(f"{event()}.pathname=/no/m-*,/no/f-*", f"tree!={others.pid}")
        for storm in (others, ours):
            storm.go()
        for storm in (others, ours):
            storm.wait()
        compare(running.finish(), ours.logged(), count())


@check(timeout=60)
def check_command_is_a_storm():
    with tempfile.TemporaryDirectory(prefix="checks") as folder:
        others = Storm("f", count(), folder, 7)
        others.go()
        log = f"{folder}/m"
        words = [sys.executable, "-S", "-E", "-c", STORM, "m", str(count()), log, "8", cat(), is_small()]
        # The trace ends with the command, so this one ends when all have been there.
        script = (
            f'echo | "$@"; while [ $(wc -l <{log}) -lt {count()} ]; do sleep 1; done; sleep {2 if in_guest() else 1}'
        )
        done = subprocess.run(
            [*BFER, *COMMON, f"{event()}.pathname=/no/*", "--", "sh", "-c", script, "sh", *words],
            capture_output=True,
            check=False,
        )
        others.wait()
        skip_where_it_cannot_run(done.returncode, done.stderr.decode())
        equal((done.returncode, done.stderr), (0, b""))
        with open(log) as file:
            logged = sorted(tuple(line.split()) for line in file)
        compare(traced(done.stdout.decode()), logged, count())


THREADS = """
import os, threading, time
for _ in range(20):
    pid = os.fork()
    if not pid:
        for _ in range(7):
            threading.Thread(target=time.sleep, args=(100,), daemon=True).start()
        os._exit(0)
    os.waitpid(pid, 0)
    print(pid, flush=True)
"""


@check
def check_threads_that_end_together():
    """The end of each is an event of the process, which is forgotten after the last one."""
    with tempfile.TemporaryDirectory(prefix="checks") as folder:
        words = ["trace", "-q", "--buffer", "4M", "-o", f"template:{folder}/format", "-o", f"out-file:{folder}/out"]
        with open(f"{folder}/format", "w") as file:
            file.write("{processId} {threadId}\n")
        command = [sys.executable, "-S", "-E", "-c", THREADS]
        done = subprocess.run(
            [*BFER, *words, "event=sched_process_exit", "--", *command], capture_output=True, check=False
        )
        skip_where_it_cannot_run(done.returncode, done.stderr.decode())
        equal((done.returncode, done.stderr), (0, b""))
        with open(f"{folder}/out") as file:
            ended = [tuple(line.split()) for line in file]
    for pid in done.stdout.decode().split():
        equal((pid, len({thread for process, thread in ended if process == pid})), (pid, 8))


@check
def check_binary():
    """By the file that runs: what runs already, what is started, what becomes another program."""
    shell, program = os.path.realpath("/bin/sh"), os.path.realpath(cat())
    with tempfile.TemporaryDirectory(prefix="checks") as folder:
        running = subprocess.Popen(["/bin/sh"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for words, wanted in (
            ([f"binary={shell}"], {"/no/shell"}),
            ([f"binary={program}"], {"/no/cat"}),
            ([f"binary=*/{os.path.basename(program)}"], {"/no/cat"}),
            ([f"binary!={shell}", f"comm!={os.path.basename(sys.executable)}"], {"/no/cat"}),
            ([f"executable={os.path.dirname(os.path.realpath(sys.executable))}/*", "binary!=*sh"], None),
        ):
            if wanted is None:
                wanted = {"/no/python"} | (
                    {"/no/cat"} if words[0] == f"executable={os.path.dirname(program)}/*" else set()
                )
            elif shell == program:  # all of it is busybox
                wanted = {"/no/cat", "/no/shell"} if words[0].startswith(("binary=", "bin=")) else set()
            tracer = Tracer(f"{event()}.pathname=/no/*", *words)
            script = (
                f"(: </no/shell); {cat()} /no/cat; {sys.executable} -S -E -c 'open(\"/no/python\")'; echo >{folder}/x\n"
            )
            running.stdin.write(script.encode())
            running.stdin.flush()
            end = time.monotonic() + 120
            while not os.path.exists(f"{folder}/x") and time.monotonic() < end:
                time.sleep(0.02)
            os.unlink(f"{folder}/x")
            got = {path for path, _, _ in tracer.finish()}
            equal((words, got), (words, wanted))
        running.stdin.close()
        running.wait()


def number_of(namespace):
    return int(os.readlink(f"/proc/self/ns/{namespace}").partition("[")[2].rstrip("]"))


@check(timeout=60)
def check_who():
    """Every filter on who is calling, with what holds and with what does not."""
    node, mnt, pid = os.uname().nodename, number_of("mnt"), number_of("pid")
    cases = (
        (["uid=root", f"uts={node}", f"mntns={mnt}", f"pidns={pid}", "tid>1", "pid>1", "pid=new"], True),
        (
            ["uid=0", "uid!=1", "uid<5", "uid>=0", f"mntns>={mnt}", f"mntns<={mnt}", "!container", "comm!=x", "uts!=x"],
            True,
        ),
        (["uid>0"], False),
        (["uid!=root"], False),
        ([f"uts!={node}"], False),
        ([f"mntns!={mnt}"], False),
        ([f"pidns>{pid}"], False),
        (["tid=1"], False),
        (["pid=1"], False),
        (["pid!=new"], False),
        (["container"], False),
    )
    for words, wanted in cases[:5] if in_guest() else cases:
        done = subprocess.run(
            [*BFER, *COMMON, f"{event()}.pathname=/no/*", *words, "--", cat(), "/no/who"],
            capture_output=True,
            check=False,
        )
        skip_where_it_cannot_run(int(done.returncode == 1 and b"bfer: " in done.stderr), done.stderr.decode())
        equal((words, [path for path, _, _ in traced(done.stdout.decode())]), (words, ["/no/who"] * wanted))


@check
def check_bounds_of_arguments():
    """Integers of all widths and signs, above, below and between; and exact ones beside them."""
    script = "import os, sys; fd = os.open(sys.argv[1], 0); [os.lseek(fd, n, 0) for n in (0, 5, 6, 1 << 33)]"
    for words, wanted in (
        (["lseek.offset>5"], [6, 1 << 33]),
        (["lseek.offset>=5", "lseek.offset<=6"], [5, 6]),
        (["lseek.offset<0"], []),
        (["lseek.offset=0", "lseek.offset>6"], [0, 1 << 33]),
        (["lseek.offset!=5", "lseek.fd>=0", "lseek.whence<=0"], [0, 6, 1 << 33]),
        (["lseek.fd<0"], []),
        (["lseek.whence>SEEK_SET"], []),
    ):
        arguments = ["trace", "-q", "-o", "template={args.offset}", "event=lseek", *words]
        command = [sys.executable, "-S", "-E", "-c", script, sys.executable]
        done = subprocess.run([*BFER, *arguments, "--", *command], capture_output=True, check=False)
        skip_where_it_cannot_run(int(done.returncode == 1 and b"bfer: " in done.stderr), done.stderr.decode())
        got = [int(line) for line in done.stdout.split()]
        equal((words, [n for n in got if n in (5, 6, 1 << 33)]), (words, [n for n in wanted if n]))


class Groups:
    """The hierarchy that bfer goes by, for a ``with`` block; where there is none, one mounted for it."""

    def __enter__(self):
        from bfer import containers
        from pybpf.errors import SyscallError

        self.mounted = None
        try:
            return containers.root()
        except SyscallError as error:
            folder = tempfile.mkdtemp(prefix="checks")
            if subprocess.run(["mount", "-t", "cgroup2", "none", folder], check=False, capture_output=True).returncode:
                os.rmdir(folder)
                skip(str(error))
            self.mounted = folder
            return folder

    def __exit__(self, *_):
        if self.mounted:
            subprocess.run(["umount", self.mounted], check=True)
            os.rmdir(self.mounted)


@check(timeout=60)
def check_container():
    """A control group named as docker names them, there before, and made and removed meanwhile."""
    old, new = (digits * 28 + f"{os.getpid():08x}" for digits in ("0a", "3f"))  # several runs may be going on
    with Groups() as top:
        os.mkdir(f"{top}/docker-{old}.scope")
        try:
            script = "; ".join(
                [
                    f"{cat()} /no/outside",
                    f"sh -c 'echo $$ >{top}/docker-{old}.scope/cgroup.procs; exec {cat()} /no/old'",
                    f"mkdir {top}/docker-{new}.scope",
                    f"sh -c 'echo $$ >{top}/docker-{new}.scope/cgroup.procs; exec {cat()} /no/new'",
                    f"rmdir {top}/docker-{new}.scope",
                    "exit 0",
                ]
            )
            for words, wanted in (
                (["container"], ["/no/old", "/no/new"]),
                (["!container"], ["/no/outside"]),
                (["container=new"], ["/no/new"]),
                (["container!=new"], ["/no/old"]),
                ([f"container={old[:12]}"], ["/no/old"]),
                (["container=3f3f", "follow"], ["/no/new"]),
            ):
                arguments = [*COMMON[:-1], "template={args.pathname} {processId} {containerId}"]
                done = subprocess.run(
                    [*BFER, *arguments, f"{event()}.pathname=/no/*", *words, "--", "sh", "-c", script],
                    capture_output=True,
                    check=False,
                )
                skip_where_it_cannot_run(int(done.returncode == 1), done.stderr.decode())
                equal(done.returncode, 0)
                rows = [line.split(" ") for line in done.stdout.decode().splitlines()]
                equal((words, [row[0] for row in rows]), (words, wanted))
                for path, _, container in rows:
                    # The new one is gone by now, but its making was told.
                    equal(container, {"/no/old": old, "/no/new": new, "/no/outside": ""}[path])
        finally:
            os.rmdir(f"{top}/docker-{old}.scope")


@check
def check_executable():
    """The path of the running file with each event, whatever kind of program makes its record."""
    import json

    names = f"{event()},execve,getppid,exit_group,sched_process_exit"
    arguments = ["trace", "-q", "-o", "json", "-o", "option:executable", f"event={names}"]
    done = subprocess.run([*BFER, *arguments, "--", cat(), "/no/one"], capture_output=True, check=False)
    skip_where_it_cannot_run(int(b"bfer: " in done.stderr), done.stderr.decode())
    events = [json.loads(line) for line in done.stdout.splitlines()]
    seen = {one["eventName"] for one in events}
    assert {event(), "execve", "exit_group", "sched_process_exit"} <= seen, seen
    for one in events:
        # Most kernels tell of the end of a process when its memory is gone.
        if one["eventName"] != "sched_process_exit" or one["executable"]["path"]:
            equal((one["eventName"], one["executable"]), (one["eventName"], {"path": os.path.realpath(cat())}))


@check(timeout=60)
def check_list():
    """What is said to be missing, has a reason; what can be said of it costs no more than a moment."""
    import json

    started = time.monotonic()
    done = subprocess.run([*BFER, "list", "--json"], capture_output=True, check=False)
    figure("bfer list, s", round(time.monotonic() - started, 2))
    equal((done.returncode, done.stderr), (0, b""))
    events = json.loads(done.stdout)
    assert len(events) > 300, len(events)
    for one in events:
        equal((one["name"], one["available"]), (one["name"], not one["reason"]))
    assert next(one for one in events if one["name"] == "read")["available"]
    figure("events not in this kernel", sum(not one["available"] for one in events))


UNSHARE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
NEWNS, NEWPID, REC_PRIVATE = 0x20000, 0x20000000, 0x44000
if libc.unshare(NEWNS | NEWPID):
    sys.exit(75)
pid = os.fork()
if pid:
    os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 255)
if libc.mount(b"none", b"/", None, REC_PRIVATE, None) or libc.mount(b"proc", b"/proc", b"proc", 0, None):
    os._exit(75)
os.execvp(sys.argv[1], sys.argv[1:])
"""


@check(timeout=60)
def check_in_a_pid_namespace():
    """bfer where it has another number than the kernel's: not traced itself, and numbers are what it sees."""
    inside = (sys.executable, "-S", "-E", "-c", UNSHARE)
    if subprocess.run([*inside, "true"], check=False, stderr=subprocess.DEVNULL).returncode:
        skip("no pid namespace with a /proc of its own can be made")
    # The shell's child waits for a line, then opens a file itself.
    script = (
        "cat /no/early; (read x; : </no/child) <$1/fifo & child=$!; "
        f'{" ".join(BFER)} trace -o "{TEMPLATE}" -o table:$1/table {event()}.pathname=/no/*,/proc/*,$1/* '
        "tree=$child pid=$child tid=$child >$1/out & bfer=$!; "
        "while kill -0 $bfer && [ ! -s $1/table ]; do sleep 0.1; done; "
        "cat /no/other; echo >$1/fifo; wait $child; kill $bfer; wait $bfer"
    )
    with tempfile.TemporaryDirectory(prefix="checks") as folder:
        os.mkfifo(f"{folder}/fifo")
        done = subprocess.run([*inside, "sh", "-c", script, "sh", folder], capture_output=True, check=False)
        told = [line for line in done.stderr.decode().splitlines() if line.startswith("bfer: ")]
        skip_where_it_cannot_run(1 if told else 0, "\n".join(told))
        with open(f"{folder}/out") as file:
            got = traced(file.read())
    equal([line for line in told if not line.startswith(("bfer: note: ", "bfer: compiling "))], [])
    equal([path for path, _, _ in got], ["/no/child"])
    assert int(got[0][1]) < 100, got
    command = [*BFER, *COMMON, f"{event()}.pathname=/no/*", "--", "sh", "-c", "cat /no/command; :"]
    done = subprocess.run([*inside, *command], capture_output=True, check=False)
    equal([path for path, _, _ in traced(done.stdout.decode())], ["/no/command"])
