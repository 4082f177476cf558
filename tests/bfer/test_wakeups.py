"""Events that come one by one must each wake the sleeping reader, whatever the moment they choose."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.native

ROOT = Path(__file__).parents[2]
COUNT = 400


def test_no_wakeup_is_missed(tmp_path: Path) -> None:
    words = ["trace", "event=openat", f"openat.pathname={tmp_path}/*", "-o", "json"]
    tracer = subprocess.Popen(
        [sys.executable, "-m", "bfer", *words], env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE
    )
    sent: dict[str, float] = {}
    late: list[float] = []
    seen: list[str] = []
    first = threading.Event()

    def read() -> None:
        for line in tracer.stdout or ():
            now = time.monotonic()
            name = json.loads(line)["args"][1]["value"]
            first.set()
            if name in sent:
                seen.append(name)
                late.append(now - sent[name])

    def touch(name: str) -> None:
        try:
            os.open(name, os.O_RDONLY)
        except FileNotFoundError:
            pass

    thread = threading.Thread(target=read)
    thread.start()
    for _ in range(200):
        if first.wait(0.1):
            break
        touch(f"{tmp_path}/probe")
    assert first.is_set()
    choose = random.Random(1)
    for number in range(COUNT):
        name = f"{tmp_path}/{number}"
        sent[name] = time.monotonic()
        touch(name)
        # Around the lengths of the reader's naps, sometimes long enough for it to sleep.
        time.sleep(choose.choice((0, 0.0005, 0.001, 0.002, 0.004, 0.02)) * choose.random())
    time.sleep(0.5)
    on_time = len(seen)
    tracer.terminate()
    thread.join()
    assert tracer.wait() == 0
    if tracer.stdout is not None:
        tracer.stdout.close()
    assert seen == list(sent)
    assert on_time == COUNT
    assert sorted(late)[COUNT // 2] < 0.1
