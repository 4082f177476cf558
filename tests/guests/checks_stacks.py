"""System calls from odd places: code in memory that no file stands behind, and a stack that is none."""

from __future__ import annotations

import os

from tests.guests.checks import check, equal, skip
from tests.guests.eventkit import deeds, one

# Machine code: getpid() from where it stands; and the same with the stack pointer set to the first argument meanwhile.
CODE = {
    "x86_64": (
        "b8270000000f05c3",  # mov eax, 39; syscall; ret
        "4889e24889fcb8270000000f054889d4c3",  # mov rdx, rsp; mov rsp, rdi; ...; mov rsp, rdx; ret
    ),
    "aarch64": (
        "881580d2010000d4c0035fd6",  # mov x8, 172; svc 0; ret
        "e90300911f000091881580d2010000d43f010091c0035fd6",  # mov x9, sp; mov sp, x0; ...; mov sp, x9; ret
    ),
}

SCRIPT = """
import mmap
source, pivot = [bytes.fromhex(text) for text in {code!r}]
code = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code[:len(source)] = source
code[1024:1024 + len(pivot)] = pivot
stack = mmap.mmap(-1, 65536, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
at = ctypes.addressof(ctypes.c_char.from_buffer(code))
top = ctypes.addressof(ctypes.c_char.from_buffer(stack)) + 32768
for _ in range(3):
    pid = ctypes.CFUNCTYPE(ctypes.c_int)(at)()
same = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(at + 1024)(top)
told(code=at, top=top, pid=pid, same=same, own=os.getpid())
import threading, signal
def calls():
    for _ in range(10):
        os.getppid()
threads = [threading.Thread(target=calls) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
if not os.fork():
    os._exit(0)
os.wait()
os.posix_spawn("/bin/true", ["true"], {{}})
os.wait()
"""


def odd_calls(name):
    code = CODE.get(os.uname().machine)
    if code is None:
        skip(f"no machine code for {os.uname().machine}")
    return deeds([name], SCRIPT.format(code=code))


@check(timeout=60.0)
def check_call_from_memory_without_a_file():
    """Told once, however often it is made; the program's own calls, threads and children are not."""
    number = 39 if os.uname().machine == "x86_64" else 172
    with odd_calls("suspicious_syscall_source") as (found, _, facts):
        equal((facts["pid"], facts["same"]), (facts["own"], facts["own"]))
        event = one(found, "suspicious_syscall_source")
        equal((event["syscall"], event["vma_type"]), (number, "anonymous"))
        equal(facts["code"] < event["ip"] < facts["code"] + 1024, True)
        equal(event["vma_start"] <= facts["code"] < event["vma_start"] + event["vma_size"], True)
        equal(event["vma_flags"] & 7, 7)


@check(timeout=60.0)
def check_stack_that_is_none():
    """The main thread's stack pointer somewhere else; threads and spawned processes have stacks of their own."""
    number = 39 if os.uname().machine == "x86_64" else 172
    with odd_calls("stack_pivot") as (found, _, facts):
        event = one(found, "stack_pivot")
        equal((event["syscall"], event["sp"], event["vma_type"]), (number, facts["top"], "anonymous"))
        equal(event["vma_start"] <= facts["top"] < event["vma_start"] + event["vma_size"], True)
