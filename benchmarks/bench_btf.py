"""What BTF costs at start: ``python benchmarks/bench_btf.py``. Prints; asserts nothing.

Each figure is the median (and the least) of fresh interpreters that time
themselves, over the same interpreter doing nothing; RSS is the peak in KB.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 11

PREFIX = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
start = time.perf_counter()
"""
# VmHWM, not getrusage(): the latter counts what the parent had before exec().
SUFFIX = """
took = time.perf_counter() - start
peak = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(took * 1000, *peak)
"""

OPEN = """
from btf.reader import Btf
kernel = Btf.kernel()
"""

# The local side is built beforehand: a program has it ready in its object.
LOCAL = """
from btf.builder import Builder
b = Builder()
u32, ptr = b.int("unsigned int", 4), b.ptr(0)
fields = {
    "task_struct": "pid tgid *real_parent *parent *nsproxy *cred *mm *group_leader exit_code flags *thread_pid "
    "*files *fs *signal start_time *sighand *io_context on_cpu prio *active_mm",
    "nsproxy": "*uts_ns *ipc_ns *mnt_ns *pid_ns_for_children *net_ns",
    "cred": "*user_ns *user *group_info",
    "pid": "level inode",
    "uts_namespace": "*user_ns",
    "mnt_namespace": "*user_ns *root",
    "pt_regs": "ip sp ax di si dx r10 r8 r9 orig_ax",
}
relos, code = [], bytearray()
for name, text in fields.items():
    members = [(f.strip("*"), ptr if f[0] == "*" else u32, 64 * i) for i, f in enumerate(text.split())]
    id = b.struct(name, 8 * len(members), members)
    for i, (_, type, _) in enumerate(members):
        relos.append((len(relos), id, f"0:{i}", 0))
        code += bytes([0x79 if type == ptr else 0x61, 0x12, 8 * i, 0, 0, 0, 0, 0])
local = b.to_bytes()
"""

RELOCATE = """
from btf.core import Relocator
Relocator(Btf(local), kernel).relocate(code, relos, "bench")
"""

CASES = {
    "open": OPEN,
    "walk over all types": OPEN + "kernel.type_count",
    "one name": OPEN + "kernel.find('task_struct', (4,))",
    "two attach points": OPEN
    + "[kernel.find_id(n, 8) for n in ('btf_trace_sys_exit', 'btf_trace_sched_process_fork')]",
    "one function": OPEN + "kernel.find('vfs_read', (12,))",
    "members of task_struct": OPEN + "kernel.members(kernel.find_id('task_struct', 4))",
    "relocations and attach points": OPEN
    + RELOCATE
    + "[kernel.find_id(n, 8) for n in ('btf_trace_sys_exit', 'btf_trace_sched_process_fork')]",
    "read without mmap": "import mmap\ndef no(*a, **k): raise OSError\nmmap.mmap = no\n" + OPEN,
}


def run(code: str) -> tuple[float, int]:
    done = subprocess.run([sys.executable, "-S", "-E", "-I", "-c", code], capture_output=True, text=True, check=True)
    took, rss = done.stdout.split()
    return float(took), int(rss)


def main() -> None:
    print(f"{'':32} {'ms':>7} {'least':>7} {'RSS KB':>7}")
    for name, body in {"nothing": "", **CASES}.items():
        setup = LOCAL if "relos" in body else ""
        code = PREFIX.replace("start =", setup + "start =") + body + SUFFIX
        results = [run(code) for _ in range(ROUNDS)]
        times = [took for took, _ in results]
        rss = statistics.median(kb for _, kb in results)
        print(f"{name:32} {statistics.median(times):7.2f} {min(times):7.2f} {rss:7.0f}")

    sys.path.insert(0, str(ROOT))
    from btf.core import Relocator
    from btf.reader import Btf

    scope: dict[str, object] = {"Btf": Btf, "kernel": Btf.kernel(), "Relocator": Relocator}
    exec(LOCAL, scope)
    exec(RELOCATE, scope)
    exec(LOCAL, scope)  # the code is patched by now
    start = time.perf_counter()
    exec(RELOCATE, scope)
    print(f"{'43 relocations, names known':32} {(time.perf_counter() - start) * 1000:7.2f}")
    tools()


def tools() -> None:
    """Whole commands on the running kernel's BTF, beside bpftool: least CPU time of 5 (user and system), peak RSS."""
    path = "/sys/kernel/btf/vmlinux"
    ours = [sys.executable, "-m", "pybpf", "btf"]
    bpftool = shutil.which("bpftool") or "/usr/sbin/bpftool"
    commands = {
        "btf dump": [*ours, "dump", path],
        "bpftool btf dump": [bpftool, "btf", "dump", "file", path, "format", "raw"],
        "btf dump --format c": [*ours, "dump", path, "--format", "c"],
        "bpftool btf dump format c": [bpftool, "btf", "dump", "file", path, "format", "c"],
        "btf show task_struct": [*ours, "show", "struct task_struct"],
        "btf find vfs_open": [*ours, "find", "vfs_open"],
    }
    used: dict[str, list[tuple[float, int]]] = {name: [] for name in commands}
    for _ in range(5):
        for name, command in commands.items():
            if os.path.exists(command[0]):
                used[name].append(spent(command))
    print()
    for name, results in used.items():
        if results:
            print(f"{name:32} {min(cpu for cpu, _ in results):7.0f} {'':7} {max(rss for _, rss in results):7}")


def spent(command: list[str]) -> tuple[float, int]:
    """CPU time in ms and peak RSS in KB of one run, its output thrown away."""
    with open(os.devnull, "wb") as null:
        process = subprocess.Popen(command, cwd=ROOT, stdout=null)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    return (usage.ru_utime + usage.ru_stime) * 1000, usage.ru_maxrss


if __name__ == "__main__":
    main()
