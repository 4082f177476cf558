"""Generated cases for CO-RE: a local type, a target that is like it or not, and relocations between them.

A type is a tuple, so that the target's can be made by changing the local one:
``("int", name, size, signed)``, ``("ptr", type or None)``, ``("array", type, n)``,
``("struct", name, [(field, type, bits)])`` and so on; see ``Emitter``. A number
seeds a case, and the same number always gives the same case.
"""

from __future__ import annotations

import random
import struct
import sys

from btf.builder import Builder
from btf.core import Relocator
from btf.core_spec import ENUMVAL_KINDS, FIELD_BYTE_OFFSET, FIELD_BYTE_SIZE, KIND_LABELS, TYPE_KINDS
from btf.errors import BtfError
from btf.reader import Btf

INTS = [
    ("int", "unsigned char", 1, False),
    ("int", "signed char", 1, True),
    ("int", "short", 2, True),
    ("int", "unsigned short", 2, False),
    ("int", "int", 4, True),
    ("int", "unsigned int", 4, False),
    ("int", "long long", 8, True),
    ("int", "unsigned long", 8, False),
    ("int", "__int128", 16, True),
]
FLOATS = [("float", "float", 4), ("float", "double", 8)]
NAMES = ("pid", "tgid", "comm", "flags", "x", "y", "next", "state", "inner", "v")
ENUMERATORS = ("RED", "GREEN", "BLUE", "RED___old", "LAST")


class Emitter:
    """Writes types into a Builder; lays out structs as a compiler would."""

    def __init__(self, builder: Builder, long_size: int = 8) -> None:
        self.builder = builder
        # Present on both sides: it says how large the target's pointers are.
        self.long_size = long_size
        builder.int("long", long_size, signed=True)

    def size(self, t) -> int:
        sort = t[0]
        if sort in ("int", "float"):
            return t[2]
        if sort in ("enum", "enum64"):
            return t[2]
        if sort == "ptr":
            return self.long_size
        if sort == "array":
            return self.size(t[1]) * t[2]
        if sort in ("struct", "union"):
            return self._layout(t)[1]
        if sort in ("typedef", "type_tag"):
            return self.size(t[2])
        if sort in ("const", "volatile", "restrict"):
            return self.size(t[1])
        return 0

    def _align(self, t) -> int:
        sort = t[0]
        if sort in ("struct", "union"):
            return max([1, *(self._align(member) for _, member, _ in t[2])])
        if sort in ("typedef", "type_tag"):
            return self._align(t[2])
        if sort in ("array", "const", "volatile", "restrict"):
            return self._align(t[1])
        return max(1, min(self.size(t), 8))

    def _layout(self, t) -> tuple[list[int], int]:
        """Offsets in bits of a composite's members, and its size in bytes."""
        at = size = 0
        offsets = []
        for _, member, bits in t[2]:
            width = self.size(member) * 8
            if bits:
                if at // width != (at + bits - 1) // width:
                    at = -(-at // width) * width
                length = bits
            else:
                align = self._align(member) * 8
                at = -(-at // align) * align
                length = width
            offsets.append(at)
            size = max(size, -(-(at + length) // 8))
            at = 0 if t[0] == "union" else at + length
        align = self._align(t)
        return offsets, -(-size // align) * align

    def emit(self, t) -> int:
        """The type's id; 0 for None (void)."""
        if t is None:
            return 0
        b, sort = self.builder, t[0]
        if sort == "int":
            return b.int(t[1], t[2], signed=t[3])
        if sort == "float":
            return b.float_(t[1], t[2])
        if sort in ("enum", "enum64"):
            make = b.enum if sort == "enum" else b.enum64
            return make(t[1], t[2], t[4], signed=t[3])
        if sort == "fwd":
            return b.fwd(t[1], union=t[2])
        if sort == "array":
            return b.array(self.emit(t[1]), t[2])
        if sort in ("struct", "union"):
            t = _distinct(t, set())
            offsets, size = self._layout(t)
            members = [
                (name, self.emit(member), at, bits) if bits else (name, self.emit(member), at)
                for (name, member, bits), at in zip(t[2], offsets)
            ]
            return (b.struct if sort == "struct" else b.union)(t[1], size, members)
        if sort in ("typedef", "type_tag"):
            return getattr(b, sort)(t[1], self.emit(t[2]))
        if sort == "func_proto":
            return b.func_proto(self.emit(t[1]), [("", self.emit(p)) for p in t[2]])
        return getattr(b, sort)(self.emit(t[1]))  # ptr, const, volatile, restrict


def _distinct(t, seen: set[str]):
    """``t`` without two members of one name, those of anonymous members included: as C demands.

    With two, libbpf takes the wrong offset (bpf_core_match_member() does not undo what a
    nested search has added when it ends at a member of another sort).
    """
    members = []
    for name, member, bits in t[2]:
        while name in seen:
            name += "_2"
        if name:
            seen.add(name)
        elif member[0] in ("struct", "union"):
            member = _distinct(member, seen)
        members.append((name, member, bits))
    return (*t[:2], tuple(members))


class Maker:
    """Random types, changes to them, and relocations into them."""

    def __init__(self, seed: int) -> None:
        self.r = random.Random(seed)

    def maybe(self, chance: float) -> bool:
        return self.r.random() < chance

    # ---- types --------------------------------------------------------------------

    def enum(self):
        r = self.r
        wide, signed = self.maybe(0.4), self.maybe(0.5)
        low, high = (-(1 << 31), (1 << 31) - 1) if signed else (0, (1 << 32) - 1)
        if wide:
            low, high = (-(1 << 63), (1 << 63) - 1) if signed else (0, (1 << 64) - 1)
        names = r.sample(ENUMERATORS, r.randint(1, len(ENUMERATORS)))
        near = [v for v in range(-3, 9) if v >= low]
        values = [(name, r.choice(near) if self.maybe(0.6) else r.randint(low, high)) for name in names]
        size = 8 if wide else r.choice((4, 4, 4, 1, 8))
        name = r.choice(("colour", "colour", "colour___v2", "size", ""))
        return ("enum64" if wide else "enum", name, size, signed, tuple(values))

    def leaf(self):
        r = self.r
        kind = r.choice(("int", "int", "int", "int", "ptr", "ptr", "enum", "float", "fwd ptr", "func ptr"))
        if kind == "int":
            return r.choice(INTS)
        if kind == "float":
            return r.choice(FLOATS)
        if kind == "enum":
            return self.enum()
        if kind == "ptr":
            return ("ptr", r.choice((None, r.choice(INTS), ("struct", "opaque", ()))))
        if kind == "fwd ptr":
            return ("ptr", ("fwd", "later", self.maybe(0.3)))
        return ("ptr", self.proto())

    def proto(self):
        r = self.r
        return ("func_proto", r.choice((None, r.choice(INTS))), tuple(r.choice(INTS) for _ in range(r.randint(0, 3))))

    def wrap(self, t):
        while self.maybe(0.25):
            kind = self.r.choice(("typedef", "const", "volatile", "type_tag"))
            t = (kind, "wrapped", t) if kind in ("typedef", "type_tag") else (kind, t)
        return t

    def type(self, depth: int = 3):
        kind = self.r.choice(("leaf", "leaf", "leaf", "array", "composite"))
        if depth <= 0 or kind == "leaf":
            return self.wrap(self.leaf())
        if kind == "array":
            return self.wrap(("array", self.type(depth - 1), self.r.choice((0, 1, 2, 3, 5))))
        return self.wrap(self.composite(self.r.choice(("", "inner", "inner")), depth - 1))

    def composite(self, name: str, depth: int = 3):
        r = self.r
        members = []
        for field in r.sample(NAMES, r.randint(1, 5)):
            if depth > 0 and self.maybe(0.2):
                members.append(("", self.composite("", depth - 1), 0))
            elif self.maybe(0.15):
                base = r.choice(INTS[:8])
                members.append((field, base, r.randint(1, base[2] * 8)))
            else:
                members.append((field, self.type(depth - 1), 0))
        if self.maybe(0.15):
            members.append(("v", ("array", r.choice(INTS[:8]), 0), 0))
        return (r.choice(("struct", "struct", "struct", "union")), name, tuple(members))

    def root(self):
        kind = self.r.choice(("struct",) * 6 + ("enum", "typedef", "func", "int"))
        if kind == "struct":
            return self.composite("task")
        if kind == "enum":
            return self.enum()
        if kind == "func":
            return ("typedef", "callback", ("ptr", self.proto()))
        if kind == "int":
            return self.r.choice(INTS)
        return ("typedef", "thing_t", self.type(2))

    # ---- changes -------------------------------------------------------------------

    def change(self, t, rate: float):
        """``t`` as another kernel might have it; each part differs with probability ``rate``."""
        if t is None:
            return None
        r, sort = self.r, t[0]
        hit = self.maybe(rate)
        if sort in ("struct", "union"):
            return self._change_composite(t, rate)
        if sort in ("int", "float"):
            return r.choice(INTS + FLOATS) if hit else t
        if sort in ("enum", "enum64"):
            if not hit:
                return t
            other = self.enum()
            return other if self.maybe(0.5) else (*other[:1], t[1], *other[2:])
        if sort == "ptr":
            if hit:
                return r.choice((("ptr", None), r.choice(INTS), ("ptr", ("fwd", "opaque", self.maybe(0.5)))))
            return ("ptr", self.change(t[1], rate))
        if sort == "array":
            return ("array", self.change(t[1], rate), r.choice((0, 1, 2, 4)) if hit else t[2])
        if sort in ("typedef", "type_tag"):
            return self.change(t[2], rate) if hit and self.maybe(0.3) else (sort, t[1], self.change(t[2], rate))
        if sort in ("const", "volatile", "restrict"):
            return self.change(t[1], rate) if hit else (sort, self.change(t[1], rate))
        if sort == "func_proto" and hit:
            return self.proto()
        return t

    def _change_composite(self, t, rate: float):
        r = self.r
        sort, name, members = t
        out = []
        for field, member, bits in members:
            if self.maybe(rate):
                action = r.choice(("drop", "rename", "type", "before", "bits", "nest"))
                if action == "drop":
                    continue
                if action == "rename":
                    field = r.choice((*NAMES, field + "___x", ""))
                elif action == "type":
                    member, bits = self.type(1), 0
                elif action == "before":
                    out.append((r.choice(("pad", "pad2")), r.choice(INTS), 0))
                elif action == "bits" and bits:
                    bits = r.randint(0, 8)
                elif action == "nest":
                    inner = (r.choice(("struct", "union")), "", ((field, member, bits), ("more", INTS[6], 0)))
                    out.append(("", inner, 0))
                    continue
            changed = self.change(member, rate)
            if bits and (changed[0] != "int" or bits > changed[2] * 8):
                bits = 0
            # Only integers and composites may be anonymous members, and a composite has to be for others to look in.
            out.append((field if field or changed[0] in ("struct", "union") else "unnamed", changed, bits))
        if self.maybe(rate / 2):
            r.shuffle(out)
        if self.maybe(rate / 3):
            sort = "union" if sort == "struct" else "struct"
        return (sort, name, tuple(out))

    # ---- relocations ------------------------------------------------------------------

    def access(self, t) -> str:
        """A path into ``t``; one in ten leads nowhere, one in fifty is no path at all."""
        r = self.r
        if self.maybe(0.02):
            # No negative number: libbpf 1.1 takes it for an index and reads before the array.
            return r.choice(("", ":", "0:", "0:x", "x", ":".join(["0"] * 65), "1" * 3))
        path = [r.choice((0, 0, 0, 0, 0, 1, 2))]
        while self.maybe(0.85):
            while t[0] in ("typedef", "type_tag", "const", "volatile", "restrict"):
                t = t[2] if t[0] in ("typedef", "type_tag") else t[1]
            if t[0] in ("struct", "union"):
                index = r.randrange(len(t[2])) if t[2] else 0
                path.append(index + len(t[2]) if self.maybe(0.03) else index)
                if path[-1] >= len(t[2]):
                    break
                t = t[2][index][1]
            elif t[0] == "array":
                path.append(r.randint(0, t[2] + (1 if self.maybe(0.2) else -1)) if t[2] else r.randint(0, 4))
                t = t[1]
            else:
                if self.maybe(0.03):
                    path.append(0)
                break
            if t is None:
                break
        return ":".join(map(str, path))

    def relocation(self, t) -> tuple[str, int]:
        r, sort = self.r, t[0]
        if sort in ("enum", "enum64") and self.maybe(0.8):
            index = r.randrange(len(t[4]) + 1) if self.maybe(0.1) else r.randrange(len(t[4]))
            return str(index), r.choice(ENUMVAL_KINDS)
        if sort in ("struct", "union") and self.maybe(0.8):
            return self.access(t), r.choice((0, 0, 0, 0, 1, 2, 3, 4, 5))
        if self.maybe(0.04):
            return self.access(t) if t[0] != "func_proto" else "0", r.randrange(len(KIND_LABELS))
        return "0" if self.maybe(0.98) else "0:0", r.choice(TYPE_KINDS)

    def instruction(self, kind: int, old: int, size: int) -> bytes:
        """One that holds ``old``, now and then of a form or size that does not fit."""
        r = self.r
        form = r.choice(("load",) * 6 + ("store", "store imm", "alu", "alu64", "wide"))
        if kind not in (FIELD_BYTE_OFFSET, FIELD_BYTE_SIZE) or not 0 <= old < 0x8000:
            form = r.choice(("alu", "alu64", "wide", "wide", "alu64"))
        if self.maybe(0.03):
            form = r.choice(("register", "jump", "absolute", "load", "wide map", "wide cut"))
        if self.maybe(0.03):
            old += r.choice((1, 8, 1 << 32))
        if self.maybe(0.05):
            size = r.choice((1, 2, 4, 8))
        code = {4: 0x00, 2: 0x08, 1: 0x10, 8: 0x18}.get(size, 0x18)
        off = old if 0 <= old < 0x8000 else 0
        low, high = old & 0xFFFFFFFF, old >> 32 & 0xFFFFFFFF
        if form in ("load", "store", "store imm"):
            return _insn({"load": 0x61, "store": 0x63, "store imm": 0x62}[form] | code, 0x12, off, 0)
        if form in ("alu", "alu64"):
            return _insn({"alu": 0xB4, "alu64": r.choice((0xB7, 0x07, 0x57))}[form], 0x01, 0, low)
        if form == "register":
            return _insn(0xBF, 0x12, 0, low)
        if form == "jump":
            return _insn(0x15, 0x01, 0, low)
        if form == "absolute":
            return _insn(0x20, 0, 0, low)
        if form == "wide map":
            return _insn(0x18, 0x11, 0, low) + _insn(0, 0, 0, high)
        if form == "wide cut":
            return _insn(0x18, 0x01, 0, low) + _insn(0xB7, 0, 0, high)
        return _insn(0x18, 0x01, 0, low) + _insn(0, 0, 0, high)


def _insn(code: int, registers: int, off: int, imm: int) -> bytes:
    # Registers as on a little-endian machine, destination low.
    if sys.byteorder == "big":
        registers = registers >> 4 | (registers & 0xF) << 4
    return struct.pack("=BBhI", code, registers, off, imm)


class Case:
    """``builder``: the object's types; ``target``: raw BTF; ``relos`` as for Relocator.relocate()."""

    def __init__(self, seed: int) -> None:
        make = Maker(seed)
        rate = make.r.choice((0, 0.1, 0.2, 0.4, 0.7))
        roots = [make.root() for _ in range(make.r.choice((1, 1, 2)))]
        self.builder = Builder(sys.byteorder)
        emitter = Emitter(self.builder)
        ids = [emitter.emit(_flavoured(root, make, 0.3)) for root in roots]
        self.target = self._target(make, roots, rate)
        self.relos: list[tuple[int, int, str, int]] = []
        self.code = b""
        for _ in range(make.r.choice((1, 1, 1, 2, 3))):
            which = make.r.randrange(len(roots))
            access, kind = make.relocation(roots[which])
            type_id = ids[which] if make.maybe(0.99) else make.r.choice((0, 999))
            self.relos.append((len(self.code) // 8, type_id, access, kind))
            self.code += make.instruction(kind, *self._local_value(type_id, access, kind))
        self.code += _insn(0xB7, 0, 0, 0) + _insn(0x95, 0, 0, 0)

    def _target(self, make: Maker, roots: list, rate: float) -> bytes:
        builder = Builder(sys.byteorder)
        emitter = Emitter(builder, long_size=make.r.choice((8, 8, 8, 8, 4)))
        for number in range(make.r.randint(0, 3)):
            emitter.emit(make.r.choice(INTS + FLOATS) if number else ("ptr", None))
        for root in roots:
            if make.maybe(0.05):
                continue  # the kernel lacks it
            for _ in range(make.r.choice((1, 1, 1, 2))):
                emitter.emit(_flavoured(make.change(root, rate), make, 0.2))
        return builder.to_bytes()

    def _local_value(self, type_id: int, access: str, kind: int) -> tuple[int, int]:
        """``(value that the compiler would have put there, size of a load)``."""
        try:
            found = Relocator(Btf(self.builder.to_bytes()), Btf(self.builder.to_bytes())).resolve(type_id, access, kind)
        except (BtfError, IndexError):
            return 0, 8
        return found.old, found.old_size or 8


def _flavoured(t, make: Maker, chance: float):
    if t[0] in ("struct", "union", "enum", "enum64", "typedef") and t[1] and make.maybe(chance):
        return (t[0], t[1].partition("___")[0] + make.r.choice(("___v1", "___new", "____no", "___v1___new")), *t[2:])
    return t
