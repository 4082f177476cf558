"""What BTF costs at start: ``python benchmarks/bench_btf.py``. Prints; asserts nothing.

Each figure is the median (and the least) of fresh interpreters that time
themselves, over the same interpreter doing nothing; CPU is the least time on a CPU; RSS
is the peak in KB.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 11

PREFIX = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
start, cpu = time.perf_counter(), time.process_time()
"""
# VmHWM, not getrusage(): the latter counts what the parent had before exec().
SUFFIX = """
took, cpu = time.perf_counter() - start, time.process_time() - cpu
peak = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(took * 1000, cpu * 1000, *peak)
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

# The questions of a small tracer: where nine fields are (two of them in anonymous unions or structs), a
# function's id, an enumerator of a named enum and one of an anonymous enum. The first eleven are an object's.
QUERIES = """
import sys
from btf.builder import Builder
b = Builder(sys.byteorder)
u32, u64, ptr, proto = b.int("unsigned int", 4), b.int("unsigned long", 8), b.ptr(0), b.func_proto(0, [])
path = b.struct("path", 16, [("mnt", ptr, 0), ("dentry", ptr, 64)])
fields = {
    "task_struct": [("pid", u32), ("tgid", u32), ("real_parent", ptr), ("start_time", u64)],
    "file": [("f_path", path), ("f_inode", ptr)],
    "sock_common": [("skc_daddr", u32), ("skc_dport", b.int("unsigned short", 2))],
    "mm_struct": [("exe_file", ptr)],
}
relos, code = [], b""
for name, members in fields.items():
    id = b.struct(name, 16 * len(members), [(f, t, 128 * i) for i, (f, t) in enumerate(members)])
    for i in range(len(members)):
        relos.append((len(relos), id, f"0:{i}", 0))
        b.string(f"0:{i}")
        code += bytes([0xB7, 1, 0, 0, 16 * i, 0, 0, 0])
e = b.enum("pid_type", 4, [("PIDTYPE_TGID", 0)])
relos.append((len(relos), e, "0", 11))
b.string("0")
code += bytes([0xB7, 1, 0, 0, 0, 0, 0, 0])
main = b.func("main", proto, 1)
local = b.to_bytes()
functions = [("vfs_read", 12)]
"""

ANSWER = """
from btf.core import Relocator
relocator = Relocator(Btf(local), kernel)
answers = [relocator.resolve(*relo[1:]).new for relo in relos]
answers += [kernel.find_id(*one) for one in functions]
answers += [kernel.find_enumerator("BPF_NOEXIST")]
assert len(answers) == 12 and answers[-1] == 1
"""

# The kernel does it: a program that is nothing but the relocations, and a look-up of the function.
BY_KERNEL = """
from struct import pack
from pybpf import inkernel, kernel
if not inkernel.relocates(): raise SystemExit("this kernel does not relocate")
ids = inkernel.find_ids(functions)
strings = inkernel.Strings(local)
code += bytes([0xB7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0])
rows = b"".join(pack("=IIII", 8 * at, id, strings.offset(access), kind) for at, id, access, kind in relos)
with kernel.btf_load(local) as btf:
    info = pack("=II", 0, main)
    fd = kernel.prog_load(1, code, "GPL", btf_fd=btf.fd, func_info=info, core_relos=rows)
assert fd >= 0 and len(ids) == 1
"""

# From the cache, which an earlier process has filled.
BY_CACHE = """
from pybpf.target import Target
target = Target(local)
answers = [target.resolve(*relo[1:]).new for relo in relos]
answers += [target.find_id(*one) for one in functions]
assert len(answers) == 11
target.close()
"""

FULL_PARSE = """
from btf.table import Table
from btf.source import map_file
table = Table(map_file("/sys/kernel/btf/vmlinux"))
named = {}
for id in table.ids:
    named.setdefault((table.name(id), table.kind(id)), (id, table.record(id)))
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
    "able to call bpf()": "from pybpf import commands, inkernel\ncommands.prog_get_next_id(0)",
    "query set: walk": OPEN + ANSWER,
    "query set: kernel relocates": BY_KERNEL,
    "query set: cache": BY_CACHE,
    "every type as an object": FULL_PARSE,
    "read without mmap": "import mmap\ndef no(*a, **k): raise OSError\nmmap.mmap = no\n" + OPEN,
}


def run(code: str, cache: str) -> tuple[float, float, int]:
    """Milliseconds, those of them on a CPU (which other load on the machine changes less), and peak RSS in KB."""
    environment = {"BFER_CACHE": cache, "PATH": os.environ["PATH"]}
    command = [sys.executable, "-S", "-E", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    took, cpu, rss = done.stdout.split()
    return float(took), float(cpu), int(rss)


def given(body: str) -> str:
    """The object's side of a case as literals: a program has it ready, and no builder in memory."""
    source = LOCAL if "bench" in body else QUERIES if "relos" in body else ""
    scope: dict[str, object] = {}
    exec(source, scope)
    names = ("local", "relos", "code", "functions", "main")
    return "".join(f"{name} = {scope[name]!r}\n" for name in names if name in scope)


def bpftool() -> str:
    """The time of a whole process that dumps everything, and its memory."""
    program = shutil.which("bpftool") or "/usr/sbin/bpftool"
    if not os.path.exists(program):
        return "bpftool is not installed"
    rows = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        with open(os.devnull, "w") as null:
            pid = os.posix_spawn(
                program,
                [program, "btf", "dump", "file", "/sys/kernel/btf/vmlinux"],
                os.environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, null.fileno(), 1)],
            )
            _, _, usage = os.wait4(pid, 0)
        cpu = (usage.ru_utime + usage.ru_stime) * 1000
        rows.append(((time.perf_counter() - start) * 1000, cpu, usage.ru_maxrss))
    times, cpus, sizes = zip(*rows)
    return f"{statistics.median(times):7.2f} {min(times):7.2f} {min(cpus):7.2f} {sizes[0]:7}"


def main() -> None:
    sys.path.insert(0, str(ROOT))
    print(f"{'':32} {'ms':>7} {'least':>7} {'CPU':>7} {'RSS KB':>7}")
    with tempfile.TemporaryDirectory() as folder:
        cases = {"nothing": "", **CASES}
        codes = {}
        for name, body in cases.items():
            codes[name] = PREFIX.replace("start,", given(body) + "start,") + body + SUFFIX
        for code in codes.values():  # compiled, in the page cache, and the cache filled
            run(code, f"{folder}/cache")
        results: dict[str, list[tuple[float, float, int]]] = {name: [] for name in codes}
        for _ in range(ROUNDS):
            for name, code in codes.items():
                results[name].append(run(code, f"{folder}/cache"))
    for name, rows in results.items():
        times, cpus, sizes = zip(*rows)
        usual, size = statistics.median(times), statistics.median(sizes)
        print(f"{name:32} {usual:7.2f} {min(times):7.2f} {min(cpus):7.2f} {size:7.0f}")
    print(f"{'bpftool btf dump, whole process':32} {bpftool()}")

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
