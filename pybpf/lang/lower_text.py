"""Lowering of string tests: comparisons of bytes in memory with constants, in words as wide as their place allows."""

from __future__ import annotations

import ast

from pybpf.lang import ir
from pybpf.lang.ir import Block, Imm
from pybpf.lang.lower_atomics import Atomics
from pybpf.lang.lower_expr import is_text
from pybpf.lang.lower_places import chunks
from pybpf.lang.maps import LpmTrie
from pybpf.lang.operand import BTF, MEM, PROBED, RODATA, Const, Place, Pointer, Value, int_constant
from pybpf.lang.types import ArrayType, StructType, char, u8, u32


class Texts(Atomics):
    """String tests."""

    def text_equals(self, place: Value, text: Value, node: ast.AST, then: Block, els: Block) -> None:
        """Branch on ``place == text``: the bytes and the NUL after them, which a full array has not."""
        assert isinstance(place, Place)
        assert isinstance(place.type, ArrayType)
        raw = self._bytes(text, node)
        if len(raw) > place.type.count:
            raise self.error(node, f"the string has {len(raw)} bytes, a {place.type} never equals it")
        if len(raw) < place.type.count:
            raw += b"\0"
        self._match(place, raw, node, then, els)

    def _bytes(self, value: Value, node: ast.AST) -> bytes:
        if isinstance(value, Const) and isinstance(value.value, (str, bytes)):
            return value.value.encode() if isinstance(value.value, str) else value.value
        raise self.error(node, f"a constant string is wanted here, not {self.describe(value)}")

    def _match(self, place: Place, raw: bytes, node: ast.AST, then: Block, els: Block) -> None:
        """Branch on whether the place starts with these bytes."""
        slot = None
        if place.space in PROBED and raw:
            slot = self.take(len(raw), node)
            copy = Place(char[len(raw)], MEM, slot, 0, 8)
            self.copy_bytes(copy, place, len(raw), node)
            place = copy
        at = 0
        # Of a typed pointer only the running kernel knows the alignment, and the verifier does not ask for any.
        for size in chunks(len(raw), *((0, 8) if place.space == BTF else (place.off, place.align))):
            word = self.scalar()
            if place.space == BTF:
                self._direct(word, place, size, False, at, (at,))
            else:
                self.emit(ir.LOAD, dst=word, a=place.reg, off=place.off + at, size=size)
            value = int.from_bytes(raw[at : at + size], "little")
            following = self.block("same")
            self.branch("eq", word, Imm(value - (1 << 64) if value >> 63 else value), following, els)
            self.start(following)
            at += size
        self.goto(then)
        if slot is not None:
            self.give(slot)

    def _text_place(self, node: ast.expr, what: str) -> Place:
        value = self.expr(node)
        if isinstance(value, Pointer):
            value = self.deref(value, node)
        if not is_text(value):
            raise self.error(node, f"{what} looks at a char[N], not {self.describe(value)}")
        assert isinstance(value, Place)
        return value

    # --- startswith

    def do_startswith(self, node: ast.Call) -> Value:
        """The test as a value."""
        return self._truth(node)

    def test_startswith(self, node: ast.Call, then: Block, els: Block) -> None:
        """``startswith(place, text)``: with a constant, a setting of ``char[N]`` (up to its NUL), or any in a trie."""
        args = self.arguments(node, ("place", "text"), 2, "startswith()")
        place = self._text_place(args["place"], "startswith()")
        text = self.expr(args["text"])
        assert isinstance(place.type, ArrayType)
        if isinstance(text, Const) and isinstance(text.value, LpmTrie):
            self._starts_with_any(place, text.value, node, then, els)
            return
        if is_text(text) and isinstance(text, Place) and text.space in (MEM, RODATA):
            self._starts_with_setting(place, text, args["place"], then, els)
            return
        raw = self._bytes(text, args["text"])
        if len(raw) > place.type.count:
            raise self.error(args["text"], f"the string has {len(raw)} bytes, a {place.type} never starts with it")
        self._match(place, raw, node, then, els)

    def _starts_with_setting(self, place: Place, text: Place, node: ast.expr, then: Block, els: Block) -> None:
        """Byte by byte up to the setting's NUL; the verifier knows the setting, so few passes cost it little."""
        assert isinstance(place.type, ArrayType)
        assert isinstance(text.type, ArrayType)
        if place.space not in (MEM, RODATA):
            raise self.error(node, f"copy() the {place.type} into a Struct first: a setting is compared byte by byte")
        index, count = self.scalar(), min(place.type.count, text.type.count)
        base, wanted = self.address(place), self.address(text)
        head, inside, more, same = (self.block(name) for name in ("prefix", "byte", "compare", "same"))
        full = then if count == text.type.count else self.block("longer")
        self.move(index, Imm(0))
        self.goto(head)
        self.start(head)
        self.branch("lt", index, Imm(count), inside, full)
        self.start(inside)
        expected, found = self.scalar(), self.scalar()
        self.emit(ir.LOAD, dst=expected, a=self.alu(ir.ADD, wanted, index, ir.POINTER), size=1)
        self.branch("eq", expected, Imm(0), then, more)
        self.start(more)
        self.emit(ir.LOAD, dst=found, a=self.alu(ir.ADD, base, index, ir.POINTER), size=1)
        self.branch("eq", found, expected, same, els)
        self.start(same)
        self.emit(ir.ADD, dst=index, a=index, b=Imm(1))
        self.goto(head)
        self.drop_incoming(head)
        if full is not then:
            # The place is full; only if the setting ends right there does it start with it.
            self.start(full)
            last = self.scalar()
            self.emit(ir.LOAD, dst=last, a=text.reg, off=text.off + count, size=1)
            self.branch("eq", last, Imm(0), then, els)

    def _starts_with_any(self, place: Place, trie: LpmTrie, node: ast.Call, then: Block, els: Block) -> None:
        """Whether some entry of the trie, whose key is a u32 (bits) and a text, is a prefix of the place."""
        layout = trie.key
        assert isinstance(layout, StructType)
        assert isinstance(place.type, ArrayType)
        fields = layout.fields
        text = fields[1].type if len(fields) == 2 else None
        if not isinstance(text, ArrayType) or text.element not in (char, u8):
            raise self.error(node.args[1], f"the key of {trie.name} is not a u32 and a char[N], but {layout}")
        if self.fits(layout.size):
            key = Place(layout, MEM, self.take_temporary(layout.size, node), 0, 8)
        else:
            key = self.scratch(layout, "prefix", node)
        count = min(place.type.count, text.count)
        bits = Place(u32, MEM, key.reg, key.off, 8)
        to = Place(char[text.count], MEM, key.reg, key.off + fields[1].offset, 4)
        self.store(bits, Const(count * 8), node)
        self.copy_bytes(to, place, count, node)
        if text.count > count:
            self.store_bytes(to, bytes(text.count - count), node, count)
        found = self.lookup(trie, key, node)
        self.branch("ne", self.pointer_reg(found), Imm(0), then, els)

    # --- endswith

    def do_endswith(self, node: ast.Call) -> Value:
        """The test as a value."""
        return self._truth(node)

    def test_endswith(self, node: ast.Call, then: Block, els: Block) -> None:
        """``endswith(place, text, n)``: the last of the ``n`` bytes, which are kept within the place."""
        args = self.arguments(node, ("place", "text", "n"), 3, "endswith()")
        place = self._text_place(args["place"], "endswith()")
        raw = self._bytes(self.expr(args["text"]), args["text"])
        assert isinstance(place.type, ArrayType)
        if place.space not in (MEM, RODATA):
            raise self.error(args["place"], f"copy() the {place.type} into a Struct first")
        if len(raw) > place.type.count:
            raise self.error(args["text"], f"the string has {len(raw)} bytes, a {place.type} never ends with it")
        length = self.number(self.expr(args["n"]), args["n"])
        number = int_constant(length)
        if number is not None and not 0 <= number <= place.type.count:
            raise self.error(args["n"], f"{number} bytes are not inside of {place.type}")
        start = self.alu(ir.SUB, self.operand(length), Imm(len(raw)))
        inside = self.block("inside")
        # As unsigned numbers: a string that is too short wraps around to a huge start.
        self.branch("le", start, Imm(place.type.count - len(raw)), inside, els)
        self.start(inside)
        base = self.alu(ir.ADD, self.base(place.reg), start, ir.POINTER)
        self._match(Place(char[len(raw) or 1], place.space, base, place.off, 1), raw, node, then, els)
