"""The ground of the lowering: instructions, blocks, frame slots, errors with positions."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from pybpf.errors import CompileError
from pybpf.lang import ir
from pybpf.lang.diagnostics import SourceFile, error_at
from pybpf.lang.flow import Flow, Frame, merge
from pybpf.lang.ir import Block, Core, Function, Imm, Ins, Loc, Slot
from pybpf.lang.operand import Place, Pointer, Value

if TYPE_CHECKING:
    from pybpf.lang.compile import Compilation
    from pybpf.lang.surface import Kind
    from pybpf.lang.types import StructType

# map_update_elem, map_delete_elem, push, pop, peek, for_each: the verifier puts the map's own function in their place,
# which gave an int before Linux 6.4: the upper half of r0 then says nothing. Other helpers sign-extend.
_MAP_OPERATIONS = frozenset((2, 3, 87, 88, 89, 164))
STACK = 512
"""Bytes of stack that a program has (MAX_BPF_STACK)."""
BIG, ROOM = 64, 64
"""Objects of more bytes leave so many of the stack free."""


class Emitter:
    """State of lowering one function, and the primitives that write IR.

    ``cur`` is the block that is being written, None where no path leads.
    """

    def __init__(self, unit: Compilation, func: Function, kind: Kind, section: str, frame: Frame) -> None:
        self.unit = unit
        self.func = func
        self.kind = kind
        self.section = section
        self.frame = self.root = frame
        self.context: Pointer | None = None  # of a program
        self.cur: Block | None = None
        self.flow: Flow = {}
        self.loc: Loc | None = None
        self._incoming: dict[Block, list[Flow]] = {}
        self._free: dict[int, list[Slot]] = {}
        self._stack = 0
        self.temps: list[Slot] = []  # slots that end with the statement
        self.passing: set[Slot] = set()  # the same of all statements under way

    # --- errors

    def error(self, node: ast.AST, message: str) -> CompileError:
        """An error at ``node`` of the body that is being lowered, to be raised."""
        trail: list[tuple[SourceFile, ast.AST]] = []
        frame = self.frame
        while frame.parent is not None and frame.call is not None:
            trail.append((frame.parent.routine.source, frame.call))
            frame = frame.parent
        return error_at(self.frame.routine.source, node, message, tuple(reversed(trail)))

    def at(self, node: ast.AST) -> None:
        """From here on instructions belong to ``node``."""
        self.loc = self.frame.routine.source.loc(node)

    # --- instructions

    def emit(
        self,
        op: str,
        *,
        dst: int | None = None,
        a: int | Slot | Imm | None = None,
        b: int | Imm | None = None,
        imm: int = 0,
        off: int = 0,
        size: int = 8,
        ref: object = None,
        args: tuple[int | Imm, ...] = (),
    ) -> None:
        """Append an instruction, unless no path leads here."""
        if self.cur is not None:
            ins = Ins(op, dst, a, b, imm, off, size, ref, args, loc=self.loc)
            self.cur.ins.append(ins)

    def scalar(self) -> int:
        """A new register for numbers and plain addresses."""
        return self.func.vreg(ir.SCALAR)

    def pointer(self) -> int:
        """A new register for pointers that the verifier tracks."""
        return self.func.vreg(ir.POINTER)

    def reg(self, op: int | Imm) -> int:
        """``op`` in a register."""
        if isinstance(op, int):
            return op
        dst = self.scalar()
        self.emit(ir.CONST, dst=dst, imm=op.value)
        return dst

    def alu(self, op: str, a: int | Imm, b: int | Imm, kind: str = ir.SCALAR) -> int:
        """``a <op> b`` in a new register."""
        dst = self.func.vreg(kind)
        self.emit(op, dst=dst, a=self.reg(a), b=b)
        return dst

    def move(self, dst: int, op: int | Imm) -> None:
        """Set register ``dst``."""
        if isinstance(op, Imm):
            self.emit(ir.CONST, dst=dst, imm=op.value)
        else:
            self.emit(ir.MOV, dst=dst, a=op)

    def call(self, number: int, *args: int | Imm, pointer: bool = False) -> int:
        """Call a helper; the register with its result, which is of 64 bits."""
        dst = self.pointer() if pointer else self.scalar()
        self.emit(ir.CALL, dst=dst, imm=number, args=args)
        if number not in _MAP_OPERATIONS:
            return dst
        wide = self.scalar()
        self.emit(ir.SEXT, dst=wide, a=dst, size=4)
        return wide

    def core(self, core: Core, nominal: int) -> int:
        """The value of a CO-RE relocation in a register; ``nominal`` is what it is by the declared types."""
        dst = self.scalar()
        self.emit(ir.CORE, dst=dst, ref=core, imm=nominal)
        return dst

    def map_pointer(self, name: str) -> int:
        """The map in a register."""
        dst = self.pointer()
        self.emit(ir.MAP, dst=dst, ref=name)
        return dst

    # --- blocks

    def goto(self, block: Block) -> None:
        """End the current block with a jump."""
        if self.cur is not None:
            self.cur.ins.append(Ins(ir.JUMP, then=block, loc=self.loc))
            self._incoming.setdefault(block, []).append(self.flow)
            self.cur = None

    def branch(
        self,
        cond: str,
        a: int | Imm,
        b: int | Imm,
        then: Block,
        els: Block,
        then_flow: Flow | None = None,
        els_flow: Flow | None = None,
    ) -> None:
        """End the current block with a conditional jump; the flows are what is known on either side, if more."""
        left = self.reg(a)
        if self.cur is not None:
            self.cur.ins.append(Ins(ir.BRANCH, cond=cond, a=left, b=b, then=then, els=els, loc=self.loc))
            self._incoming.setdefault(then, []).append(self.flow if then_flow is None else then_flow)
            self._incoming.setdefault(els, []).append(self.flow if els_flow is None else els_flow)
            self.cur = None

    def start(self, block: Block) -> bool:
        """Go on at ``block``, with what all paths to it agree on; False if no path leads there."""
        flows = self._incoming.pop(block, None)
        if flows is None:
            self.cur = None
            return False
        self.func.blocks.append(block)
        self.cur = block
        self.flow = merge(flows)
        return True

    def drop_incoming(self, block: Block) -> None:
        """Forget the jump back to a loop's head, which was started with what holds on every pass."""
        self._incoming.pop(block, None)

    def leads_to(self, block: Block) -> bool:
        """Whether some path goes to ``block``, which is not started yet."""
        return block in self._incoming

    def block(self, name: str) -> Block:
        """A new block; it becomes part of the function when it is started."""
        return Block(name)

    # --- frame slots

    def take(self, size: int, node: ast.AST, name: str = "") -> Slot:
        """A frame slot of at least ``size`` bytes. Raises CompileError when the stack is full."""
        rounded = -(-size // 8) * 8
        pool = self._free.get(rounded)
        if pool:
            return pool.pop()
        self._stack += rounded
        if self._stack > STACK:
            raise self.error(
                node,
                f"{size} more bytes do not fit the stack: {self._stack - rounded} of {STACK} are in use; "
                "keep big data in a PerCpuArray(T, 1) and look it up",
            )
        return Slot(rounded, 8, name)

    def fits(self, size: int) -> bool:
        """Whether ``size`` more bytes fit the stack; big objects leave some room for small ones and for spills."""
        rounded = -(-size // 8) * 8
        limit = self.unit.stack - ROOM if size > BIG else STACK
        return bool(self._free.get(rounded)) or self._stack + rounded <= limit

    def take_temporary(self, size: int, node: ast.AST, name: str = "") -> Slot:
        """A slot that is given back at the end of the statement."""
        slot = self.take(size, node, name)
        self.temps.append(slot)
        self.passing.add(slot)
        return slot

    def give(self, slot: Slot) -> None:
        """Give a slot back: nothing refers to its contents any more."""
        self._free.setdefault(slot.size, []).append(slot)

    def slot_address(self, slot: Slot, off: int = 0) -> int:
        """The address of a byte of ``slot``."""
        dst = self.pointer()
        self.emit(ir.FRAME, dst=dst, ref=slot)
        return self.alu(ir.ADD, dst, Imm(off), ir.POINTER) if off else dst

    # --- what the parts of the lowering need of each other

    def expr(self, node: ast.expr) -> Value:
        """The value of an expression."""
        raise NotImplementedError

    def scratch(self, layout: StructType, name: str, node: ast.Call) -> Place:
        """Memory for an object that does not fit the stack."""
        raise NotImplementedError

    def cond(self, node: ast.expr, then: Block, els: Block) -> None:
        """Go to ``then`` or ``els``, as the truth of an expression says."""
        raise NotImplementedError
