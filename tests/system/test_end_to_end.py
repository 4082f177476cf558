"""``bfer trace`` on the running kernel, from the command line to the printed line."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from running import BFER, ENVIRONMENT, Tracer, as_user, bfer, events, need, summary

from pybpf import commands

pytestmark = pytest.mark.native

# The members of Tracee 0.8, in its order.
MEMBERS = [
    *("timestamp", "threadStartTime", "processorId", "processId", "cgroupId", "threadId", "parentProcessId"),
    *("hostProcessId", "hostThreadId", "hostParentProcessId", "userId", "mountNamespace", "pidNamespace"),
    *("processName", "hostName", "containerId", "containerImage", "containerName", "podName", "podNamespace"),
    *("podUID", "eventId", "eventName", "argsNum", "returnValue", "stackAddresses", "contextFlags", "args"),
]


@pytest.fixture
def login() -> str:
    """A path in /tmp that no other process opens, as in the README."""
    path = f"/tmp/login-{os.getpid()}.txt"
    yield path
    for name in Path("/tmp").glob(f"login-{os.getpid()}*"):
        name.unlink()


def open_calls(rows: list[list[str]]) -> list[tuple[str, str, str, str]]:
    return [(row[1], row[2], row[5], row[7]) for row in rows]


def test_an_ordinary_users_file(login: str) -> None:
    tracer = Tracer("--trace", "event=openat", "--trace", f"openat.pathname={login[:-4]}*")
    try:
        before = time.time()
        for command in (f"echo x > {login}", f"exec cat {login}", f"exec cat {login[:-4]}.bak"):
            subprocess.run(as_user("sh", "-c", command), check=False, capture_output=True)
        subprocess.run(["cat", "/etc/hostname"], capture_output=True, check=True)
    finally:
        status, output, errors = tracer.stop()
    assert (status, errors) == (0, "")
    rows = events(output)
    assert [(row[1], row[2], row[5], row[6]) for row in rows] == [
        ("1000", "sh", "3", "openat"),
        ("1000", "cat", "3", "openat"),
        ("1000", "cat", str(-errno.ENOENT), "openat"),
    ]
    assert rows[0][7] == f"dirfd: -100, pathname: {login}, flags: O_WRONLY|O_CREAT|O_TRUNC, mode: 0666"
    assert rows[1][7] == f"dirfd: -100, pathname: {login}, flags: O_RDONLY, mode: 0"
    assert summary(output) == (3, 0)
    hour, minute, second, micro = (int(n) for n in rows[0][0].split(":"))
    then = time.localtime(before)
    assert (
        abs((hour * 60 + minute) * 60 + second + micro / 1e6 - (then.tm_hour * 60 + then.tm_min) * 60 - then.tm_sec)
        < 10
    )


def test_editor_and_rm(login: str) -> None:
    need("vim")
    editor = f"vim -u NONE -i NONE -E -s -c 'normal ihello' -c 'w! {login}' -c q"
    expression = ["event=open*,creat,unlink*"]
    expression += [
        f"{name}.pathname={login[:-4]}*" for name in ("open", "openat", "openat2", "creat", "unlink", "unlinkat")
    ]
    tracer = Tracer("trace", *expression)
    try:
        subprocess.run(as_user("sh", "-c", editor), check=False, capture_output=True, stdin=subprocess.DEVNULL)
        subprocess.run(as_user("rm", login), check=True)
    finally:
        _, output, _ = tracer.stop()
    rows = events(output)
    assert any(row[2] == "vim" and "O_WRONLY|O_CREAT" in row[7] and row[5] != "-2" for row in rows), output
    name, path = rows[-1][6], f"pathname: {login}"
    assert rows[-1][2] == "rm"
    assert name in ("unlink", "unlinkat")
    assert path in rows[-1][7]
    assert rows[-1][5] == "0"


def test_command_and_its_descendants_only(login: str) -> None:
    other = subprocess.Popen(["sh", "-c", f"while :; do cat {login}.other 2>/dev/null; done"], start_new_session=True)
    try:
        got = bfer("trace", "event=openat", "--", "sh", "-c", f"echo a > {login}; sh -c 'cat {login}; exit 3'")
    finally:
        os.killpg(other.pid, signal.SIGKILL)
        other.wait()
    assert got.returncode == 3
    rows = events(got.stdout)
    assert not [row for row in rows if "other" in row[7]]
    assert [(row[2], login in row[7]) for row in rows if login in row[7]] == [("sh", True), ("cat", True)]
    # The dynamic loader's very first calls, right behind the exec, are there.
    assert "/etc/ld.so.cache" in rows[0][7] or "ld-musl" in got.stdout
    assert summary(got.stdout) == (len(rows), 0)


def test_with_btf_from_a_file(login: str, tmp_path: Path) -> None:
    """Cut down to what the programs need; alone, and found by this kernel's release in a folder and in an archive."""
    small = tmp_path / f"{os.uname().release}.btf"
    words = [sys.executable, "-m", "pybpf", "btf", "minimize", "/sys/kernel/btf/vmlinux", "-o", str(small)]
    made = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, cwd="/", check=False)
    assert made.returncode == 0, made.stderr
    assert small.stat().st_size < 8192
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(small, f"somewhere/{small.name}")
    Path(login).write_text("x")
    for path in (small, tmp_path, tmp_path / "all.zip"):
        got = bfer("trace", "event=openat", "--btf", str(path), f"openat.pathname={login}", "--", "cat", login)
        assert (got.returncode, got.stderr) == (0, "")
        assert [(row[2], row[5]) for row in events(got.stdout)] == [("cat", "3")]


def test_a_command_killed_by_a_signal() -> None:
    assert bfer("trace", "--", "sh", "-c", "kill -TERM $$").returncode == -signal.SIGTERM


@pytest.mark.parametrize(("command", "status"), [("/no/such/command", 127), ("/etc/passwd", 126)])
def test_a_command_that_cannot_run(command: str, status: int) -> None:
    got = bfer("trace", "-q", "--", command)
    assert got.returncode == status
    assert got.stderr.startswith(f"bfer: cannot run '{command}': ")
    assert got.stderr.count("\n") == 1


def test_filters_on_who(tmp_path: Path) -> None:
    """Each filter, in the kernel, over the same small workload."""
    for name in ("alpha", "beta", "gamma"):
        os.symlink("/bin/cat", tmp_path / name)
    target = tmp_path / "target"
    target.write_text("x")
    other_user = shlex.join(as_user(f"{tmp_path}/alpha", str(target)))
    script = f"for c in alpha beta gamma; do {tmp_path}/$c {target}; done; {other_user}"
    os.chmod(tmp_path, 0o755)
    for folder in tmp_path.parents:
        if folder.stat().st_uid == os.getuid() and folder != Path("/"):
            os.chmod(folder, folder.stat().st_mode | 0o055)

    def who(*expressions: str) -> list[tuple[str, str]]:
        arguments = [a for e in (*expressions, "event=openat", f"openat.pathname={target}") for a in ("--trace", e)]
        got = bfer(*arguments, "--", "sh", "-c", script)
        assert got.returncode == 0, got.stderr
        return [(row[2], row[1]) for row in events(got.stdout)]

    everyone = [("alpha", "0"), ("beta", "0"), ("gamma", "0"), ("alpha", "1000")]
    assert who() == everyone
    assert who("comm=alpha") == [everyone[0], everyone[3]]
    assert who("comm=alpha,beta", "comm=gamma") == everyone
    assert who("comm!=alpha") == everyone[1:3]
    assert who("uid=1000") == everyone[3:]
    assert who("uid!=1000") == everyone[:3]
    assert who("uid>0") == everyone[3:]
    assert who("uid<1000") == everyone[:3]
    assert who("uid=0", "comm=beta") == everyone[1:2]
    assert who("pid=new") == everyone
    assert who("pid!=new") == []
    assert who("pid=1") == []
    assert who("comm=nobody") == []


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("{}/file.txt", ["file.txt"]),
        ("{}/file*", ["file.txt", "file.log", "filet"]),
        ("*.txt", ["file.txt", "other.txt"]),
        ("*le.t*", ["file.txt"]),
        ("{}/file.txt,*.log", ["file.txt", "file.log"]),
        ("{}/f*,{}/file.*,{}/filet", ["file.txt", "file.log", "filet"]),
    ],
)
def test_filters_on_the_path(tmp_path: Path, pattern: str, matches: list[str]) -> None:
    names = ["file.txt", "file.log", "filet", "other.txt"]
    for name in names:
        (tmp_path / name).write_text("")
    paths = " ".join(f"{tmp_path}/{name}" for name in names)
    pattern = pattern.replace("{}", str(tmp_path))

    def opened(operator: str) -> list[str]:
        expression = f"openat.pathname{operator}{pattern}"
        got = bfer("trace", "event=openat", "comm=cat", expression, "--", "sh", "-c", f"cat {paths}")
        assert got.returncode == 0, got.stderr
        paths_seen = [row[7].split("pathname: ")[1].split(", flags")[0] for row in events(got.stdout)]
        return [os.path.basename(path) for path in paths_seen if path.startswith(str(tmp_path))]

    assert opened("=") == matches
    assert opened("!=") == [name for name in names if name not in matches]


def test_result_filter(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("")
    script = f"cat {tmp_path}/there {tmp_path}/not"
    for expression in ("openat.retval<0", "openat.retval=-2", "openat.retval=-ENOENT"):
        got = bfer(
            "trace", "event=openat", expression, "comm=cat", f"openat.pathname={tmp_path}*", "--", "sh", "-c", script
        )
        assert [row[5] for row in events(got.stdout)] == ["-2"], expression


def test_tree_of_a_running_process_and_follow(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("x")
    shell = subprocess.Popen(["sh"], stdin=subprocess.PIPE, text=True)
    stranger = subprocess.Popen(["sh"], stdin=subprocess.PIPE, text=True)
    tracer = Tracer("trace", "event=openat", f"openat.pathname={target}", f"tree={shell.pid}")
    try:
        for process in (stranger, shell):
            assert process.stdin is not None
            process.stdin.write(f"sh -c 'cat {target}; cat {target}' >/dev/null\n")
            process.stdin.close()
            process.wait()
    finally:
        status, output, _ = tracer.stop(signal.SIGTERM)
    assert status == 0
    assert [row[2] for row in events(output)] == ["cat", "cat"]

    got = bfer(
        "trace", "event=openat", "comm=one", "follow", "--", "sh", "-c", f"cat {target}; {follower(tmp_path)} {target}"
    )
    seen = {row[2] for row in events(got.stdout) if str(target) in row[7]}
    assert seen == {"tail"}, "only what descends from the one that matched"


def follower(folder: Path) -> Path:
    """A command called ``one`` that opens nothing itself but starts one that does."""
    script = folder / "one"
    script.write_text("#!/bin/sh\ntail $1 >/dev/null\n:\n")
    script.chmod(0o755)
    return script


def test_json_lines(tmp_path: Path) -> None:
    odd = tmp_path / 'q"b\\s\tn\nü'
    odd.write_text("")
    out = tmp_path / "events.json"
    got = bfer("--trace", "event=openat", "--output", f"json:{out}", "--output", "table", "--", "cat", str(odd))
    assert got.returncode == 0, got.stderr
    lines = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert len(lines) == len(events(got.stdout)) == summary(got.stdout)[0]
    event = lines[-1]
    assert list(event) == MEMBERS
    assert abs(event["timestamp"] - time.time_ns()) < 60e9
    assert event["eventId"] == "257"
    assert event["processName"] == "cat"
    assert event["hostName"] == os.uname().nodename
    assert event["mountNamespace"] == int(os.readlink("/proc/self/ns/mnt")[5:-1])
    assert event["pidNamespace"] == int(os.readlink("/proc/self/ns/pid")[5:-1])
    assert event["args"] == [
        {"name": "dirfd", "type": "int", "value": -100},
        {"name": "pathname", "type": "const char*", "value": str(odd)},
        {"name": "flags", "type": "int", "value": 0},
        {"name": "mode", "type": "mode_t", "value": 0},
    ]


def test_pid_namespace(tmp_path: Path) -> None:
    """In a container's namespaces a process has other numbers, and another host name."""
    need("unshare")
    script = f"hostname inner; sh -c 'cat {tmp_path}/nothing; :'"
    out = tmp_path / "events.json"
    inner = ["unshare", "--pid", "--uts", "--fork", "--mount-proc", "sh", "-c", script]
    bfer("trace", "event=openat", "openat.pathname=*/nothing", "--output", f"json:{out}", "--", *inner)
    (event,) = [json.loads(line) for line in out.read_text().splitlines()]
    assert event["hostName"] == "inner"
    assert 0 < event["processId"] < 10
    assert event["processId"] == event["threadId"]
    assert event["hostProcessId"] > event["processId"]
    assert 0 < event["parentProcessId"] < event["processId"]
    assert event["pidNamespace"] != int(os.readlink("/proc/self/ns/pid")[5:-1])


def test_threads_have_their_own_numbers(tmp_path: Path) -> None:
    code = f"import threading as t; x = t.Thread(target=lambda: open('{tmp_path}/nothing')); x.start(); x.join()"
    out = tmp_path / "e.json"
    bfer(
        "trace",
        "event=openat",
        f"openat.pathname={tmp_path}/nothing",
        "-o",
        f"json:{out}",
        "--",
        sys.executable,
        "-c",
        code,
    )
    (event,) = [json.loads(line) for line in out.read_text().splitlines()]
    assert event["processId"] != event["threadId"]
    assert event["hostThreadId"] == event["threadId"]


def test_the_unshortened_nodename(tmp_path: Path) -> None:
    need("unshare")
    out = tmp_path / "e.json"
    name = "h" * 64
    command = ["unshare", "--uts", "sh", "-c", f"hostname {name}; exec cat {tmp_path}/nothing"]
    bfer("trace", "event=openat", "openat.pathname=*/nothing", "-o", f"json:{out}", "--", *command)
    (event,) = [json.loads(line) for line in out.read_text().splitlines()]
    assert event["hostName"] == name


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_nothing_is_lost(login: str, signum: int) -> None:
    tracer = Tracer("trace", "event=openat", f"openat.pathname={login}*")
    for number in range(50):
        try:
            os.close(os.open(f"{login}{number}", os.O_RDONLY))
        except FileNotFoundError:
            pass
    status, output, errors = tracer.stop(signum)
    assert (status, errors) == (0, "")
    assert [row[7].split(", ")[1] for row in events(output)] == [f"pathname: {login}{n}" for n in range(50)]
    assert summary(output) == (50, 0)


def test_a_signal_reaches_the_command() -> None:
    process = subprocess.Popen(
        [*BFER, "trace", "event=openat", "--", "sh", "-c", "trap 'exit 7' INT; while :; do sleep 0.05; done"],
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    assert process.stdout is not None
    os.read(process.stdout.fileno(), 10)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 7


def test_a_closed_pipe_is_no_failure_and_the_command_runs_on() -> None:
    workload = "for i in $(seq 40); do cat /dev/null; done; exit 4"
    command = f"{shlex.join([*BFER, 'trace', 'event=openat', '--', 'sh', '-c', workload])} | head -1"
    got = subprocess.run(
        ["bash", "-c", f"{command}; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=60,
        check=False,
    )
    header, status = got.stdout.splitlines()
    assert header.startswith("TIME")
    assert (status, got.stderr) == ("4", "")


def test_a_closed_pipe_without_any_event() -> None:
    """A reader that goes away is noticed although nothing is ever written to it."""
    tracer = Tracer("trace", "event=openat", "openat.pathname=/no/such/path/ever")
    assert tracer.process.stdout is not None
    tracer.process.stdout.close()
    assert tracer.process.wait(timeout=10) == 0
    assert tracer.process.stderr is not None
    assert tracer.process.stderr.read() == b""
    tracer.process.stderr.close()


def test_duration_and_quiet(login: str) -> None:
    started = time.monotonic()
    got = bfer("trace", "event=openat", f"openat.pathname={login}", "--duration", "0.5", "--quiet")
    assert (got.returncode, got.stdout, got.stderr) == (0, "", "")
    assert 0.5 <= time.monotonic() - started < 10


def test_a_full_disk(tmp_path: Path) -> None:
    need("unshare")
    disk = tmp_path / "disk"
    disk.mkdir()
    trace = [*BFER, "trace", "event=openat", "--output", f"json:{disk}/events", "--"]
    workload = "for i in 1 2 3 4 5 6 7 8; do cat /dev/null; done; exit 5"
    command = f"mount -t tmpfs -o size=8k none {disk} && exec {shlex.join(trace)} sh -c {shlex.quote(workload)}"
    alone = ["unshare", "-m", "sh", "-c", command]
    got = subprocess.run(alone, capture_output=True, text=True, env=ENVIRONMENT, cwd="/", check=False)
    assert got.returncode == 1
    wanted = rf"bfer: {disk}/events: No space left on device: \d+ events? not written\n"
    assert re.fullmatch(wanted, got.stderr), got.stderr


def test_a_slow_reader_loses_events_and_says_so(tmp_path: Path) -> None:
    """64 KiB of buffer against a burst of 5,000 long paths: every event is either printed or counted."""
    code = f"""
import os
for n in range(5000):
    try: os.open("{tmp_path}/" + "x" * 200 + str(n), 0)
    except OSError: pass
"""
    pattern = f"openat.pathname={tmp_path}/*"
    got = bfer("trace", "event=openat", pattern, "--buffer", "64K", "--", sys.executable, "-c", code)
    printed, lost = summary(got.stdout)
    assert printed == len(events(got.stdout))
    assert printed + lost == 5000
    if lost:
        assert f"openat {lost}" in got.stderr.splitlines()[-1]


def test_a_burst_fits_a_large_buffer(tmp_path: Path) -> None:
    code = f"""
import os
for n in range(20000):
    try: os.open("{tmp_path}/" + str(n), 0)
    except OSError: pass
"""
    out = tmp_path / "events.json"
    pattern = f"openat.pathname={tmp_path}/*"
    bfer("trace", "event=openat", pattern, "--buffer", "16M", "-o", f"json:{out}", "--", sys.executable, "-c", code)
    paths = [json.loads(line)["args"][1]["value"] for line in out.read_text().splitlines()]
    assert paths == [f"{tmp_path}/{n}" for n in range(20000)]


def test_a_fork_storm_is_followed(tmp_path: Path) -> None:
    script = f"for i in $(seq 300); do (cat {tmp_path}/missing; :) & done; wait"
    got = bfer("trace", "event=openat", f"openat.pathname={tmp_path}/missing", "--", "sh", "-c", script)
    assert len(events(got.stdout)) == 300


def kernel_objects() -> dict[str, set[int]]:
    """Ids of all programs, maps and links in the kernel."""
    found: dict[str, set[int]] = {}
    for kind, next_id in (
        ("programs", commands.prog_get_next_id),
        ("maps", commands.map_get_next_id),
        ("links", commands.link_get_next_id),
    ):
        ids = found[kind] = set()
        number: int | None = 0
        while (number := next_id(number)) is not None:
            ids.add(number)
    return found


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_in_the_kernel(signum: int) -> None:
    before = kernel_objects()
    tracer = Tracer("trace", "event=openat", "openat.pathname=/no/such/path", "tree=1", "follow")
    during = kernel_objects()
    made = {kind: during[kind] - before[kind] for kind in before}
    assert all(made.values())
    tracer.stop(signum)
    deadline = time.monotonic() + 10  # maps are freed after a grace period
    while any(left := [made[kind] & ids for kind, ids in kernel_objects().items()]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(left)
