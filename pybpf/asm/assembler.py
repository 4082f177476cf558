"""Labels, jump fix-up and jump relaxation over plain instructions.

Jump offsets are 16 bits. A jump that must go farther is led over islands:
unconditional jumps placed within reach that go on to the target. From cpu v4
on (Linux 6.6) an unconditional jump has a 32-bit form, which islands and
plain jumps then use.
"""

from __future__ import annotations

from pybpf.asm.insn import Insn, encode
from pybpf.asm.opcodes import BPF_JA, BPF_JMP32, JA, LD_IMM64
from pybpf.errors import AsmError

REACH = 0x7FFF  # slots a 16-bit offset spans in both directions (one more backwards, not used)
_STEP = 0x7F00  # how far from a jump its island is sought: leaves room for other islands in between


class Label:
    """A place in the code; compare by identity. ``name`` is for people."""

    __slots__ = ("name",)

    def __init__(self, name: str = "") -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"Label({self.name!r})"


class Assembler:
    """A list of instructions with labels.

    Use ``emit`` for instructions and ``jump`` for those whose target is a label,
    ``place`` to put a label at the current end; then ``finish`` once. ``slot``
    afterwards gives the slot number of the n-th emitted instruction, for tables
    (relocations, line numbers) that were kept by instruction number.
    """

    def __init__(self, long_jumps: bool = False) -> None:
        self.long_jumps = long_jumps
        self._insns: list[Insn] = []
        self._targets: dict[int, Label] = {}
        self._places: dict[Label, int] = {}
        self._slots: list[int] = []
        self._islands: dict[Label, list[Label]] = {}
        self._numbers: list[int] = []

    def __len__(self) -> int:
        """How many instructions were emitted so far: the number the next one gets."""
        return len(self._numbers)

    def emit(self, insn: Insn) -> int:
        """Append an instruction; returns its number."""
        self._numbers.append(len(self._insns))
        self._insns.append(insn)
        return len(self._numbers) - 1

    def jump(self, insn: Insn, target: Label) -> int:
        """Append a jump to ``target``, or a call of it or a load of its address; finish fills in the distance."""
        self._targets[len(self._insns)] = target
        return self.emit(insn)

    def goto(self, target: Label) -> int:
        """Append an unconditional jump."""
        return self.jump(Insn(JA), target)

    def place(self, label: Label) -> None:
        """Put ``label`` before the next instruction. Raises AsmError when it has a place already."""
        if label in self._places:
            raise AsmError(f"label {label.name!r} is placed twice")
        self._places[label] = len(self._insns)

    def finish(self) -> list[Insn]:
        """The instructions with every offset set.

        Raises AsmError for a jump to a label without a place or behind the last
        instruction.
        """
        for index, label in self._targets.items():
            place = self._places.get(label)
            if place is None or place >= len(self._insns):
                raise AsmError(f"instruction {index} jumps to label {label.name!r}, which no instruction follows")
        self._measure()
        while self._relax_one():
            self._measure()
        for index, label in self._targets.items():
            insn = self._insns[index]
            distance = self._distance(index, label)
            if insn.op == LD_IMM64:
                # The address of a function: the first slot's half is the distance, the second's stays 0.
                insn.imm = distance & 0xFFFF_FFFF
            elif insn.is_gotol or not insn.is_jump:
                insn.imm = distance
            else:
                insn.off = distance
        return list(self._insns)

    def code(self, byteorder: str = "little") -> bytes:
        """``finish`` and encode."""
        return encode(self.finish(), byteorder)

    def slot(self, number: int) -> int:
        """The slot of the instruction that emit or jump gave ``number``; valid after finish."""
        return self._slots[self._numbers[number]]

    def _measure(self) -> None:
        self._slots = slots = []
        at = 0
        for insn in self._insns:
            slots.append(at)
            at += 2 if insn.op == LD_IMM64 else 1

    def _distance(self, index: int, label: Label) -> int:
        return self._slots[self._places[label]] - self._slots[index] - 1

    def _relax_one(self) -> bool:
        """Give one jump that is too long a nearer target; returns whether there was one."""
        if not self._slots or self._slots[-1] <= REACH:
            return False
        for index, label in self._targets.items():
            insn = self._insns[index]
            if not insn.is_jump or insn.is_gotol:
                continue  # calls and gotol have 32 bits
            distance = self._distance(index, label)
            if -REACH <= distance <= REACH:
                continue
            if self.long_jumps and insn.op == JA:
                insn.op = BPF_JMP32 | BPF_JA
                return True
            island, at, grown = self._near_island(index, label) or self._island(index, label, distance > 0)
            self._targets[index + grown if at <= index else index] = island
            return True
        return False

    def _near_island(self, index: int, target: Label) -> tuple[Label, int, int] | None:
        """An island made for an earlier jump that lies on the way of this one."""
        whole = self._distance(index, target)
        for label in self._islands.get(target, ()):
            distance = self._distance(index, label)
            if (0 < distance <= REACH and whole > 0) or (-REACH <= distance < -1 and whole < 0):
                return label, 0, 0
        return None

    def _island(self, index: int, target: Label, forward: bool) -> tuple[Label, int, int]:
        """Make a place within reach of instruction ``index`` from which a jump leads on to ``target``.

        Returns the place, and where how many instructions were inserted for it.
        """
        origin = self._slots[index]
        if self.long_jumps:
            # Anywhere will do, so close by; the far jump itself is then a gotol.
            at = index + 1
        elif forward:
            at = index
            while at + 1 < len(self._insns) and self._slots[at + 1] - origin < _STEP:
                at += 1
        else:
            at = index
            while at > 0 and origin - self._slots[at - 1] < _STEP:
                at -= 1
        label = Label(f"{target.name}~")
        # Prefer a gap that nothing falls into: it needs no jump around the island.
        near = at
        for candidate in range(at, max(at - 64, index) if forward else min(at + 64, index), -1 if forward else 1):
            if candidate and not self._insns[candidate - 1].falls_through:
                near = candidate
                break
        body = [Insn(JA)]
        if not near or self._insns[near - 1].falls_through:
            around = Label("around")
            body.insert(0, Insn(JA))
        else:
            around = None
        self._insert(near, body)
        self._places[label] = near + len(body) - 1
        self._targets[near + len(body) - 1] = target
        if around is not None:
            self._targets[near] = around
            self._places[around] = near + 2
        if not self.long_jumps:
            self._islands.setdefault(target, []).append(label)
        return label, near, len(body)

    def _insert(self, at: int, body: list[Insn]) -> None:
        by = len(body)
        # A label at the gap belongs to the instruction after it, so it moves along.
        self._targets = {i + by if i >= at else i: label for i, label in self._targets.items()}
        self._places = {label: i + by if i >= at else i for label, i in self._places.items()}
        self._numbers = [i + by if i >= at else i for i in self._numbers]
        self._insns[at:at] = body
