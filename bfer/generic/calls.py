"""Where the arguments of a function are, by the calling convention of the machine.

Offsets in struct pt_regs, which is how kprobes and uprobes see a function at its entry.
"""

from __future__ import annotations

from bfer.errors import UsageError


class Convention:
    """Offsets of the registers for arguments, for the result, and of the stack pointer.

    ``stack`` is how far above it further arguments begin. Structures by value of at most 16 bytes
    take one register or two; ``copies``: larger ones are passed by address, not on the stack.
    """

    __slots__ = ("copies", "registers", "result", "sp", "stack")

    def __init__(self, registers: tuple[int, ...], result: int, sp: int, stack: int, copies: bool) -> None:
        self.registers = registers
        self.result = result
        self.sp = sp
        self.stack = stack
        self.copies = copies

    def places(self, sizes: list[int]) -> list[list[tuple[int, ...]]]:
        """Where arguments of these sizes are: a way to all of it, or one to each of two registers."""
        found: list[list[tuple[int, ...]]] = []
        used = on_stack = 0
        for size in sizes:
            words = (size + 7) // 8
            by_address = self.copies and words > 2
            if by_address:
                words = 1
            if words <= 2 and used + words <= len(self.registers):
                ways = [(register,) for register in self.registers[used : used + words]]
                used += words
            else:
                if self.copies:  # no later argument may use the registers left over (AAPCS64)
                    used = len(self.registers)
                ways = [(self.sp, self.stack + on_stack)]
                on_stack += 8 * words
            found.append([(*way, 0) for way in ways] if by_address else ways)
        return found


# arch/x86/include/asm/ptrace.h, arch/arm64/include/uapi/asm/ptrace.h, arch/riscv/include/asm/ptrace.h
_X86_64 = Convention((112, 104, 96, 88, 72, 64), 80, 152, 8, False)
_ARM64 = Convention(tuple(range(0, 64, 8)), 0, 248, 0, True)
_RISCV64 = Convention(tuple(range(80, 144, 8)), 80, 16, 0, True)
_CONVENTIONS = {
    **dict.fromkeys(("x86_64", "amd64"), _X86_64),
    **dict.fromkeys(("aarch64", "arm64", "armv8l"), _ARM64),
    "riscv64": _RISCV64,
}


def convention(machine: str) -> Convention:
    """That of a machine (as uname says it). Raises UsageError."""
    known = _CONVENTIONS.get(machine)
    if known is None:
        raise UsageError(f"how functions get their arguments is not known for the machine {machine!r}")
    return known


def slots(sizes: list[int]) -> list[list[tuple[int, ...]]]:
    """The same for programs of trampolines (fentry, fexit, LSM): words of 8 bytes, one after the other."""
    found: list[list[tuple[int, ...]]] = []
    at = 0
    for size in sizes:
        found.append([(at,)])
        at += (size + 7) // 8 * 8
    return found
