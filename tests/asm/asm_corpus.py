"""Instructions generated from the table of forms: every form with edge values of every operand."""

from __future__ import annotations

import re
import shutil
import subprocess
from itertools import product

from pybpf.asm.forms import FORMS, LLVM, MNEMONIC
from pybpf.asm.grammar import fill
from pybpf.asm.insn import Insn

EDGES = {
    "r": range(11),
    "w": range(11),
    "x": range(11),
    "%": range(11),
    "i": (0, 1, -1, 2, 10, 0x7F, 0x80, 0xFFFF, 0x10000, -0x8000, 0x7FFFFFFF, -0x80000000),
    "u16": (0, 1, 2, 0x7FFF, 0x8000, 0xFFFF),
    "s16": (1, -1, 0x7FFF, -0x8000),
    "i64": (0, 1, (1 << 64) - 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 2),
    "off": (0, 1, -1, 8, -8, 0x7FFF, -0x8000),
    "add": (0, 1, -1, 0x7FFFFFFF, -0x80000000),
    "jump": (0, 1, -1, 2, 100, -100, 0x7FFF, -0x8000),
    "pc": (0, 1, -1, 2, 0x7FFFFFFF, -0x80000000),
}
LONG = (0x8000, -0x8001, 0x7FFFFFFF, -0x80000000)
_OPERAND = re.compile(r"\{([a-z0-9%]+):([a-z_]+)\}")


def operands(form, dialect=MNEMONIC):
    """``(field, values)`` of each operand of a form."""
    found = {}
    for kind, field in _OPERAND.findall(form.template(dialect)):
        values = tuple(EDGES[kind])
        if kind == "jump" and field == "imm":
            values += LONG
        found[field] = values
    return list(found.items())


def build(form, fields):
    insn = Insn(form.op, **form.fixed)
    for field, value in fields.items():
        fill(insn, field, value)
    return insn


def of_form(form):
    """Instructions of one form: each operand through its edges alone, and all pairs of registers, then the corners."""
    parts = operands(form)
    middle = {field: values[len(values) // 2] for field, values in parts}
    found = {}
    for field, values in parts:
        for value in values:
            found[build(form, {**middle, field: value})] = None
    registers = [(field, values) for field, values in parts if field in ("dst", "src")]
    for pair in product(*(values for _, values in registers)):
        found[build(form, {**middle, **dict(zip((field for field, _ in registers), pair))})] = None
    for corner in product(*((values[0], values[-1]) for _, values in parts)):
        found[build(form, dict(zip((field for field, _ in parts), corner)))] = None
    return list(found)


def everything():
    """``(form, instruction)`` for all forms."""
    return [(form, insn) for form in FORMS for insn in of_form(form)]


def tool(name):
    """The newest ``name`` of LLVM that is installed and its version, or (None, 0)."""
    best = (None, 0)
    for candidate in (name, *(f"{name}-{version}" for version in range(14, 40))):
        path = shutil.which(candidate)
        if path is not None:
            shown = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
            match = re.search(r"version (\d+)", shown)
            if match is not None and int(match[1]) > best[1]:
                best = path, int(match[1])
    return best


__all__ = ["FORMS", "LLVM", "MNEMONIC", "build", "everything", "of_form", "operands", "tool"]
