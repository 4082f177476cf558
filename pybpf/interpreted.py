"""What a kernel must not be given while it interprets programs: it would crash.

Where the JIT compiler writes a helper's call itself, the verifier leaves the call as it was, whether the program
will be compiled or not (bpf_jit_inlines_helper_call() in kernel/bpf/verifier.c). The interpreter takes the helper's
number for the distance to a function, and runs into the middle of another one.
"""

from __future__ import annotations

import os
from sys import byteorder

from pybpf.errors import NotSupported
from pybpf.privilege import kernel_version

_CALL = 0x85
_NAMES = {8: "bpf_get_smp_processor_id", 35: "bpf_get_current_task", 158: "bpf_get_current_task_btf"}
# From which kernel on the compiler of a machine writes which of these calls.
_WRITTEN = {
    "aarch64": ((6, 10), (8, 35, 158)),
    "riscv64": ((6, 10), (8,)),
    "x86_64": ((7, 0), (35, 158)),
}


def refuse_what_crashes(name: str, insns: bytes | bytearray) -> None:
    """Raise NotSupported if program ``name`` has a call that this kernel's interpreter cannot make."""
    since, helpers = _WRITTEN.get(os.uname().machine, ((0, 0), ()))
    if not helpers or kernel_version() < since:
        return
    opcodes = insns[::8]
    slot = opcodes.find(_CALL)
    while slot >= 0:
        at = slot * 8
        number = int.from_bytes(insns[at + 4 : at + 8], byteorder)
        if number in helpers and not insns[at + 1]:  # the registers' byte tells other kinds of calls
            raise NotSupported(
                f"program {name!r} calls {_NAMES[number]}, and this kernel interprets programs, which crashes in that "
                "call: have them compiled, sysctl net.core.bpf_jit_enable=1",
                0,
            )
        slot = opcodes.find(_CALL, slot + 1)
