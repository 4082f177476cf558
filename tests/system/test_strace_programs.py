"""Real programs, watched by strace and by bfer in one and the same run: every call, argument and result."""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from strace_compare import RULES, Comparison, read_bfer, read_strace

pytestmark = pytest.mark.native

ROOT = Path(__file__).parents[2]
PYTHON = os.path.realpath(sys.executable)

THREADS = """
import socket, threading, time
lock, seen = threading.Lock(), []
def work(n):
    for i in range(20):
        with lock:
            seen.append((n, i))
        time.sleep(0.0001)
threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
for t in threads: t.start()
for t in threads: t.join()
server = socket.socket(); server.bind(("127.0.0.1", 0)); server.listen()
client = socket.create_connection(server.getsockname())
peer, address = server.accept()
client.sendall(b"hello"); peer.recv(5)
a, b = socket.socketpair()
u = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); u.bind("\\0abstract")
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
try: s.sendto(b"x", ("::1", 9))
except OSError: pass
"""

FORKS = """
import os
for i in range(2000):
    pid = os.fork()
    if not pid:
        os.getppid()
        os._exit(i & 7)
    os.waitpid(pid, 0)
"""

GIT = """
git init -q g && cd g && echo hi > f && git add f && git -c user.name=a -c user.email=b commit -qm x
"""

BUSYBOX = """
busybox ls -l / | busybox wc; busybox ln -sf q w; busybox rm w; busybox df >/dev/null
"""

PROGRAMS = {
    "a pipeline": ["sh", "-c", "ls -l / | sort -r | head -3 | tr a-z A-Z; echo done > out; rm out"],
    "git": [
        "sh",
        "-c",
        "git init -q g && cd g && echo hi > f && git add f && git -c user.name=a -c user.email=b commit -qm x",
    ],
    "python": [
        PYTHON,
        "-S",
        "-E",
        "-c",
        "import json, os; os.makedirs('a/b'); open('a/b/c', 'w').write(json.dumps([1]))",
    ],
    "tar": ["tar", "czf", "x.tgz", "-C", str(ROOT / "btf"), "."],
    "make": ["make", "-f", "Makefile"],
    "curl": ["curl", "-s", "-o", "page", "URL"],
    "sqlite3": ["sqlite3", "t.db", "create table t(a); insert into t values(1),(2); select sum(a) from t"],
    "find": ["find", str(ROOT / "bfer"), "-name", "*.py", "-newer", "/etc/passwd"],
    "vim": ["vim", "-es", "-u", "NONE", "-c", "r /etc/hostname", "-c", "w! v.txt", "-c", "q"],
    "busybox": [
        "busybox",
        "sh",
        "-c",
        "busybox ls -l / | busybox wc; busybox ln -sf q w; busybox rm w; busybox df >/dev/null",
    ],
    "threads": [PYTHON, "-S", "-E", "-c", THREADS],
    "2000 children": [PYTHON, "-S", "-E", "-c", FORKS],
}


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "index.html").write_text("hello")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    handler.log_message = lambda *args: None  # type: ignore[attr-defined]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/index.html"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name: str, tmp_path: Path, url: str) -> None:
    command = [url if word == "URL" else word for word in PROGRAMS[name]]
    for tool in ("strace", command[0]):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    folder = tmp_path / "w"
    folder.mkdir()
    (folder / "Makefile").write_text("all: a b\na:\n\techo a > a\nb: a\n\tcp a b\n")
    events, log = tmp_path / "events.json", tmp_path / "log"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "bfer", "trace", "-q", "set=syscalls", "--buffer", "32M", "-o", f"json:{events}"),
            *("-o", "option:parse-arguments", "--"),
            *(
                "strace",
                "-ff",
                "-xx",
                "-s",
                "9999",
                "-e",
                "signal=none",
                "-e",
                "abbrev=execve",
                "-o",
                str(log),
                *command,
            ),
        ],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not re.search(r"^bfer: lost", done.stderr, re.M), done.stderr
    comparison = Comparison()
    comparison.threads(read_strace(log), read_bfer(events))
    assert comparison.calls > 50
    assert comparison.rules.keys() <= RULES.keys()
    assert comparison.differences == []
