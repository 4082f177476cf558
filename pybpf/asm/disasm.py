"""Instructions as text.

``text`` and ``disassemble`` give what ``llvm-objdump -d`` prints (LLVM 19, and
newer for what it does not know). LLVM's text does not say everything: a local
call looks like that of a helper. ``exact`` and ``source`` give text, in either
dialect, that assembles to the same bytes.
"""

from __future__ import annotations

from pybpf.asm.forms import FORMS, LLVM, Form
from pybpf.asm.grammar import is_exact, render
from pybpf.asm.insn import MASK64, Insn, Word
from pybpf.asm.opcodes import (
    BPF_ALU,
    BPF_ALU64,
    BPF_ATOMIC,
    BPF_END,
    BPF_IND,
    BPF_LD,
    BPF_NEG,
    BPF_PSEUDO_CALL,
    BPF_STX,
    EXIT,
    LD_IMM64,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

UNKNOWN = "<unknown>"

_BY_OPCODE: dict[int, list[Form]] = {}
for _form in FORMS:
    _BY_OPCODE.setdefault(_form.op, []).append(_form)


def text(insn: Insn, here: int = 0, label: str | Callable[[int], str] = "") -> str:
    """The instruction as one line of LLVM's text.

    With ``label`` (the name of the enclosing section or function) jump targets
    also get their place relative to it, ``<label+0x10>``; ``here`` is then the
    instruction's slot. ``label`` may also be a function that gives the name of a
    slot. What cannot be named prints as ``<unknown>``, as LLVM does.
    """
    form = _form_by_llvm(insn)
    if form is None:
        return UNKNOWN
    if insn.op == LD_IMM64 and insn.src:
        # LLVM shows the first slot only, and whatever the source register is.
        return f"ld_pseudo\tr{insn.dst}, {insn.src:#x}, {insn.imm & 0xFFFF_FFFF:#x}"
    if insn.op & 0xE7 == BPF_LD | BPF_IND and insn.imm:
        insn = Insn(insn.op, insn.dst, insn.src)
    shown = render(form, insn, LLVM)
    if label and insn.is_jump and not insn.is_gotox:
        target = here + 1 + (insn.imm if insn.is_gotol else insn.off)
        shown += f" <{label(target) if callable(label) else place_name(label, target * 8)}>"
    return shown


def place_name(label: str, offset: int) -> str:
    """A place ``offset`` bytes behind ``label``; one before it wraps around, as LLVM prints it."""
    return f"{label}+{offset & MASK64:#x}" if offset else label


def disassemble(insns: Sequence[Insn], label: str | Callable[[int], str] = "") -> list[str]:
    """One line per instruction: slot number, a colon and the text, laid out as llvm-objdump does."""
    lines = []
    slot = 0
    for insn in insns:
        lines.append(f"{slot:8d}:\t{text(insn, slot, label)}")
        slot += insn.slots
    return lines


def exact(insn: Insn, dialect: str = LLVM, byteorder: str = "little", target: str = "") -> str:
    """The instruction as text that says every bit of it.

    ``target`` is the label to print in place of a jump's or local call's
    distance. What has no spelling prints as ``.8byte`` with numbers, for which
    the byte order is needed.
    """
    if not isinstance(insn, Word):
        for form in _BY_OPCODE.get(insn.op, ()):
            if is_exact(form, insn, dialect):
                return render(form, insn, dialect, target)
    code = insn.encode(byteorder)
    big = byteorder == "big"
    words = [int.from_bytes(code[at : at + 8], "big" if big else "little") for at in range(0, len(code), 8)]
    return f".8byte {', '.join(f'{word:#018x}' for word in words)}"


def source(insns: Sequence[Insn], dialect: str = LLVM, byteorder: str = "little") -> str:
    """The code as text for the assembler, with labels: ``assemble(source(x)) == encode(x)``.

    Code of more than 32,767 slots may come out longer when it holds jumps that
    only a distance can express.
    """
    slots = []
    end = 0
    for insn in insns:
        slots.append(end)
        end += insn.slots
    targets: dict[int, int] = {}
    names: dict[int, str] = {}
    known = set(slots)
    for slot, insn in zip(slots, insns):
        is_call = insn.is_call and insn.src == BPF_PSEUDO_CALL
        if (not insn.is_jump and not is_call) or insn.is_gotox:
            continue
        target = slot + 1 + (insn.imm if insn.is_gotol or is_call else insn.off)
        if target in known:
            targets[slot] = target
            names[target] = f"F{target}" if is_call or names.get(target, "").startswith("F") else f"L{target}"
    lines = []
    for slot, insn in zip(slots, insns):
        if slot in names:
            lines.append(f"{names[slot]}:")
        lines.append(f"\t{exact(insn, dialect, byteorder, names.get(targets.get(slot, -1), ''))}")
    return "".join(f"{line}\n" for line in lines)


def _form_by_llvm(insn: Insn) -> Form | None:
    """The form that LLVM takes the instruction for: it looks at few of the fields that should be 0."""
    forms = _BY_OPCODE.get(insn.op)
    if forms is None or isinstance(insn, Word):
        return None
    kind, code = insn.op & 0x07, insn.op & 0xF0
    if insn.op == LD_IMM64:
        return forms[0] if not insn.off else None
    if kind in (BPF_ALU, BPF_ALU64) and code not in (BPF_END, BPF_NEG):
        matching = [form for form in forms if form.fixed.get("off", 0) == insn.off]
    elif (kind in (BPF_ALU, BPF_ALU64) and code == BPF_END) or insn.op & 0xE7 == BPF_STX | BPF_ATOMIC:
        matching = [form for form in forms if form.fixed["imm"] == insn.imm]
    elif insn.op == EXIT and insn.imm:
        return None
    else:
        matching = forms
    return matching[0] if matching else None
