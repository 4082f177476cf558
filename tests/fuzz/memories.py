"""Random programs of memory: Structs, all kinds of maps, ring-buffer records, strings, byte buffers, casts."""

from __future__ import annotations

import random

from tests.fuzz.integers import CONTEXT, FIELDS, Expressions, head, number
from tests.fuzz.integers import Schema as Integers
from tests.fuzz.rules import KINDS

WORDS = ("", "a", "ab", "abc", "root", "bash", "python3", "usr/bin", "etc/pas", "12345678", "1234567")
SCALARS = ("u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64", "be16", "be32", "be64")
NATIVE = {"be16": "u16", "be32": "u32", "be64": "u64"}


class Schema(Integers):
    """Structs and maps that the programs of one object share; their fields are random."""

    def __init__(self, rng: random.Random, xdp: bool = False) -> None:
        self.xdp = xdp
        self.inner = {f"x{i}": rng.choice(SCALARS) for i in range(rng.randint(1, 3))}
        self.outer = {f"f{i}": rng.choice(SCALARS) for i in range(rng.randint(2, 5))}
        self.key = {"k0": rng.choice(("u8", "u16", "u32")), "k1": rng.choice(("u32", "u64", "u16"))}
        self.value = {name: rng.choice(("u32", "u64", "i64", "i32")) for name in ("m_h", "m_a", "m_n")}
        self.per_cpu = {name: rng.choice(("u8", "u16", "u32", "u64", "i64")) for name in ("m_pa", "m_ph")}
        self.entries = rng.choice([4, 16])
        self.flags = {f"b{i}": bit_field(rng) for i in range(rng.randint(2, 5))}
        if rng.random() < 0.5:
            self.flags["plain"] = rng.choice(("u8", "u32", "i16"))
        names = list(self.flags)
        rng.shuffle(names)
        self.flags = {name: self.flags[name] for name in names}
        lines = [CONTEXT]
        order = [f"    {name}: {type}" for name, type in self.outer.items()]
        order += ["    name: char[8]", "    text: char[11]", "    raw: u8[16]", "    words: u32[4]"]
        order += ["    one: Inner", "    two: Inner[2]", "    mix: Mixed"]
        rng.shuffle(order)
        lines += ["class Inner(Struct):", *(f"    {name}: {type}" for name, type in self.inner.items())]
        self.pair = {"lo": rng.choice(SCALARS), "hi": rng.choice(SCALARS)}
        lines += ["class Pair(Struct):", *(f"    {name}: {type}" for name, type in self.pair.items())]
        lines += ["class Mixed(Union):", "    whole: u64", "    _: Anon[Pair]", "    octets: u8[8]"]
        lines += ["class Outer(Struct):", *order]
        lines += ["class Key(Struct):", *(f"    {name}: {type}" for name, type in self.key.items())]
        lines += ["class Head(Struct, packed=True):", "    kind: u8", "    len: be16", "    id: u32", "    proto: be16"]
        lines += ["class Flags(Struct):", *(f"    {name}: {type}" for name, type in self.flags.items())]
        lines += ["    table: u32[8]"]
        lines += ["class Packet(Struct):", "    len: u32", "    data: u8[64]"]
        lines += [
            f"m_h = Hash(u32, {self.value['m_h']}, {self.entries})",
            f"m_a = Array({self.value['m_a']}, 4)",
            f"m_n = Hash(char[8], {self.value['m_n']}, 8)",
            f"m_pa = PerCpuArray({self.per_cpu['m_pa']}, 4)",
            f"m_ph = PerCpuHash(u32, {self.per_cpu['m_ph']}, 8)",
            "m_s = Hash(Key, Outer, 4)",
            "m_as = Array(Outer, 2)",
            "m_p = Array(Packet, 2)",
            "m_f = Array(Flags, 1)",
            "ring = RingBuf(65536)",
        ]
        self.text = "\n".join(lines) + "\n"

    def program(self, rng: random.Random, name: str) -> str:
        return Writer(rng, self).text(name)

    def inputs(self, rng: random.Random) -> tuple[bytes, dict[str, dict[bytes, bytes]]]:
        context, _ = super().inputs(rng)
        word = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "i32": 4, "i64": 8}
        presets: dict[str, dict[bytes, bytes]] = {}
        for name, type in {**self.value, **self.per_cpu}.items():
            entries = presets[name] = {}
            for _ in range(rng.randint(0, 3)):
                key = (
                    rng.randint(0, 3).to_bytes(4, "little")
                    if name != "m_n"
                    else rng.choice(WORDS).encode().ljust(8, b"\0")
                )
                entries[key] = (number(rng) & (1 << 8 * word[type]) - 1).to_bytes(word[type], "little")
        data = bytes(rng.choice((0, 1, 8, 17, 64, 97, 255, rng.getrandbits(8))) for _ in range(64))
        presets["m_p"] = {bytes(4): rng.randint(0, 64).to_bytes(4, "little") + data}
        return context, presets


def bit_field(rng: random.Random) -> str:
    base = rng.choice(("u8", "u16", "u32", "u64", "i32", "i64"))
    most = int(base[1:])
    if base == "u64":  # a narrower one counts as a narrow number
        return f"Bits[u64, {rng.randint(33, 64)}]"
    return f"Bits[{base}, {rng.choice([1, 1, 2, 3, 5, rng.randint(1, most - 1), most])}]"


class Writer(Expressions):
    """One program."""

    def __init__(self, rng: random.Random, schema: Schema) -> None:
        super().__init__(rng)
        self.schema = schema
        self.lines: list[str] = []
        self.structs = ["s", "t"]
        self.fresh = 0
        self.budget = 0
        self.program = ""
        self.apart = False  # in a function that has not all variables of the program
        self.callbacks: list[str] = []

    def text(self, name: str) -> str:
        rng = self.rng
        self.program = name
        for field in rng.sample(sorted(FIELDS), 4):
            self.lines.append(f"    {field}: {FIELDS[field]} = ctx.{field}")
            self.names[field] = FIELDS[field]
        self.lines.append("    s = Outer()")
        self.lines.append("    fl = Flags()")
        field = rng.choice(list(self.schema.outer))
        self.lines.append(f"    t = Outer({field}={self.value()}, name='{self.word(8)}')")
        self.lines.append(f"    kk = Key(k0={self.value()}, k1={self.value()})")
        self.budget = rng.randint(5, 16)
        while self.budget > 0:
            self.statement(1, False)
        self.lines.append(f"    ctx.out = {self.value()}")
        self.lines.append(f"    ctx.more = {' ^ '.join(self.names)} ^ {self.read('s')[0]} ^ {self.read('t')[0]}")
        self.lines.append("    return 0")
        return "".join(self.callbacks) + head(name, self.schema.xdp) + "\n".join(self.lines) + "\n"

    def word(self, size: int) -> str:
        return self.rng.choice([word for word in WORDS if len(word) <= size])

    def value(self) -> str:
        return self.expression(2)[0]

    def index(self, count: int) -> str:
        rng = self.rng
        return str(rng.randrange(count)) if rng.random() < 0.6 else f"{self.expression(0)[0]} & {count - 1}"

    def place(self, owner: str) -> tuple[str, str]:
        """A number inside of an Outer, and its type."""
        rng, schema = self.rng, self.schema
        roll = rng.random()
        if roll < 0.32:
            name = rng.choice(list(schema.outer))
            return f"{owner}.{name}", schema.outer[name]
        if roll < 0.36:
            name = rng.choice(list(schema.pair))
            return f"{owner}.mix.{name}", schema.pair[name]
        if roll < 0.4:
            return rng.choice([(f"{owner}.mix.whole", "u64"), (f"{owner}.mix.octets[{self.index(8)}]", "u8")])
        if roll < 0.6:
            name = rng.choice(list(schema.inner))
            where = "one" if rng.random() < 0.5 else f"two[{self.index(2)}]"
            return f"{owner}.{where}.{name}", schema.inner[name]
        if roll < 0.75:
            return f"{owner}.words[{self.index(4)}]", "u32"
        if roll < 0.9:
            return f"{owner}.raw[{self.index(16)}]", "u8"
        return f"{owner}.name[{self.index(8)}]", "u8"

    def flag(self, owner: str) -> tuple[str, str]:
        """A bit-field, or the number beside them."""
        name = self.rng.choice(list(self.schema.flags))
        type = self.schema.flags[name]
        return f"{owner}.{name}", KINDS[type[5:].split(",")[0] if type.startswith("Bits") else type]

    def flags(self, indent: int, in_loop: bool) -> None:
        """Bit-fields on the stack or in a map, also as what an index is made of."""
        rng, owner = self.rng, "fl"
        if rng.random() < 0.5:
            owner = self.name("w")
            self.emit(indent, f"{owner} = m_f.lookup(0)")
            self.emit(indent, f"if {owner}:")
            indent += 1
        self.emit(indent, f"{self.flag(owner)[0]} {rng.choice(['=', '=', '+=', '^=', '|='])} {self.value()}")
        if rng.random() < 0.7:
            place = f"{owner}.table[{self.flag(owner)[0]} & {rng.choice([1, 7])}]"
            self.emit(indent, f"{place} {rng.choice(['=', '+='])} {self.value()}")
            self.emit(indent, f"{rng.choice(list(self.names))} ^= {place}")

    def read(self, owner: str) -> tuple[str, str]:
        text, type = self.place(owner)
        return text, KINDS[NATIVE.get(type, type)]

    def variable(self) -> tuple[str, str]:
        roll = self.rng.random()
        if roll < 0.06 and len(self.lines) > 8 and not self.apart:
            return self.flag("fl")
        if roll < 0.25 and len(self.lines) > 8:
            return self.read(self.rng.choice(self.structs))
        return super().variable()

    def condition(self, depth: int, value: bool = False) -> str:
        rng = self.rng
        if rng.random() < 0.35 and len(self.lines) > 8 and not self.apart:
            owner = rng.choice(self.structs)
            name, size = rng.choice([("name", 8), ("text", 11)])
            return rng.choice(
                [
                    f"{owner}.{name} == '{self.word(size)}'",
                    f"{owner}.{name} != '{self.word(size)}'",
                    f"{owner}.{name} in ('{self.word(size)}', 'root')",
                    # What is known when compiling would be a constant, which must fit where it is stored.
                    f"startswith({owner}.{name}, '{self.word(size) or 'b'}')",
                    f"endswith({owner}.{name}, '{self.word(4) or 'h'}', {self.expression(0)[0]} & 7)",
                    f"{self.small_key()} in m_h",
                    f"{owner}.name not in m_n",
                    "kk in m_s",
                ]
            )
        return super().condition(depth, value)

    def small_key(self) -> str:
        rng = self.rng
        return str(rng.randint(0, 5)) if rng.random() < 0.6 else f"({self.expression(0)[0]} & 7)"

    def emit(self, indent: int, text: str) -> None:
        self.lines.append("    " * indent + text)

    def name(self, prefix: str) -> str:
        self.fresh += 1
        return f"{prefix}{self.fresh}"

    def statement(self, indent: int, in_loop: bool) -> None:
        self.budget -= 1
        rng = self.rng
        choices = [self.store, self.store, self.texts, self.maps, self.maps, self.maps, self.pointers]
        choices += [self.flags, self.atomics]
        if indent < 3:
            choices += [self.branch, self.branch, self.lookup, self.lookup, self.packet]
            choices += [self.record] if not in_loop else []
            choices += [self.loop, self.callback] if indent == 1 else []
        rng.choice(choices)(indent, in_loop)

    def block(self, indent: int, in_loop: bool) -> None:
        for _ in range(self.rng.randint(1, 2)):
            self.statement(indent, in_loop)

    def store(self, indent: int, in_loop: bool) -> None:
        rng = self.rng
        roll = rng.random()
        if roll < 0.3:
            self.emit(indent, f"{rng.choice(list(self.names))} {rng.choice(['=', '+=', '^='])} {self.value()}")
        elif roll < 0.36 and not self.apart:
            self.emit(indent, f"kk.{rng.choice(list(self.schema.key))} = {self.value()} & 3")
        elif roll < 0.8:
            self.emit(indent, f"{self.place(rng.choice(self.structs))[0]} = {self.value()}")
        else:
            operator = rng.choice(["+=", "-=", "|=", "^=", "&=", "*="])
            self.emit(indent, f"{self.place(rng.choice(self.structs))[0]} {operator} {self.value()}")

    def texts(self, indent: int, in_loop: bool) -> None:
        rng = self.rng
        to, source = rng.choice(self.structs), rng.choice(self.structs)
        first = rng.randint(0, 8)
        self.emit(
            indent,
            rng.choice(
                [
                    f"{to}.name = '{self.word(8)}'",
                    f"{to}.text = '{self.word(11)}'",
                    f"copy({to}.text, {source}.name)",
                    f"copy({to}.name, {source}.raw)",
                    f"copy({to}.raw, {source}.words)",
                    f"copy({to}.raw[{first}:{first + 8}], {source}.name)",
                    f"{to}.one = {source}.two[{rng.randint(0, 1)}]",
                    f"copy({to}.two[{rng.randint(0, 1)}], {source}.one)",
                    f"copy({to}.text, 'abc')",
                ]
                if to != source
                else [f"{to}.name = '{self.word(8)}'", f"{to}.text = '{self.word(11)}'"]
            ),
        )

    def maps(self, indent: int, in_loop: bool) -> None:
        rng = self.rng
        owner = rng.choice(["s", "t"])
        key, value = self.small_key(), self.value()
        flags = rng.choice(["BPF_ANY", "BPF_NOEXIST", "BPF_EXIST"])
        variable = rng.choice(list(self.names))
        atomic = rng.choice(["+=", "-=", "|=", "^=", "&="] if not self.schema.xdp else ["+=", "-="])
        self.emit(
            indent,
            rng.choice(
                [
                    f"m_h[{key}] = {value}",
                    f"m_h[{key}] {atomic} {value}",
                    f"del m_h[{key}]",
                    f"{variable} += m_h.update({key}, {value}, {flags})",
                    f"{variable} ^= m_h.get({key}, 7)",
                    f"m_a[{key}] {atomic} {value}",
                    f"m_a[{key}] = {value}",
                    f"{variable} ^= m_a.get({key}, 3)",
                    f"m_pa[{key}] {rng.choice(['+=', '-=', '*=', '^='])} {value}",
                    f"m_ph[{key}] {rng.choice(['+=', '-=', '|='])} {value}",
                    f"m_ph[{key}] = {value}",
                    f"{variable} ^= m_ph.get({key}, 1)",
                    f"m_n[{owner}.name] = {value}",
                    f"m_n['{self.word(8)}'] += {value}",
                    f"{variable} ^= m_n.get({owner}.name, 9)",
                    f"del m_n['{self.word(8)}']",
                    f"m_s[kk] = {owner}",
                    f"{variable} += m_s.update(kk, {owner}, {flags})",
                    "del m_s[kk]",
                    f"m_as[{rng.randint(0, 2)}] = {owner}",
                    f"ring.output({owner})",
                    f"ring.output({owner}, {rng.randint(1, 16)})",
                ]
            ),
        )

    def pointers(self, indent: int, in_loop: bool) -> None:
        rng = self.rng
        owner = rng.choice(self.structs)
        name = rng.choice(list(self.schema.inner))
        pointer = self.name("p")
        roll = rng.random()
        if roll < 0.4:
            self.emit(indent, f"{pointer} = addr({owner}.{rng.choice(['one', 'two[0]', 'two[1]'])})")
            self.emit(indent, f"{pointer}.{name} {rng.choice(['=', '+='])} {self.value()}")
        elif roll < 0.7:
            offset = rng.randint(0, 6)
            self.emit(indent, f"{pointer} = cast(Ptr[Head], addr({owner}.raw[{offset}]))")
            field = rng.choice(["kind", "len", "id", "proto"])
            self.emit(indent, f"{pointer}.{field} {rng.choice(['=', '+=', '^='])} {self.value()}")
        elif roll < 0.85:
            target = rng.choice(["u8", "u16", "u32"])
            self.emit(indent, f"{pointer} = cast(Ptr[{target}], addr({owner}.words))")
            self.emit(indent, f"{rng.choice(list(self.names))} += {pointer}[{rng.randint(0, 3)}]")
        else:
            self.emit(indent, f"{owner}.words[0] += sizeof({owner}.one)")

    def atomics(self, indent: int, in_loop: bool) -> None:
        rng, owner = self.rng, self.rng.choice(self.structs)
        places = [name for name, type in self.schema.outer.items() if type in ("u32", "u64", "i32", "i64")]
        place = f"{owner}.{rng.choice([*places, f'words[{rng.randint(0, 3)}]'])}"
        if self.schema.xdp:  # kernels that cannot run SYSCALL programs have no other
            self.emit(indent, f"atomic_add({place}, {self.value()})")
            return
        name, variable = rng.choice(["add", "or", "and", "xor", "xchg", "cmpxchg"]), rng.choice(list(self.names))
        if name == "cmpxchg":
            self.emit(
                indent, f"{variable} ^= atomic_cmpxchg({place}, {rng.choice([place, self.value()])}, {self.value()})"
            )
        elif name == "xchg" or rng.random() < 0.6:
            call = f"atomic_{'' if name == 'xchg' else 'fetch_'}{name}({place}, {self.value()})"
            self.emit(indent, f"{variable} ^= {call}")
        else:
            self.emit(indent, f"atomic_{name}({place}, {self.value()})")

    def branch(self, indent: int, in_loop: bool) -> None:
        rng = self.rng
        self.emit(indent, f"if {self.condition(1)}:")
        self.block(indent + 1, in_loop)
        if in_loop and rng.random() < 0.3:
            self.emit(indent + 1, rng.choice(["break", "continue"]))
        if rng.random() < 0.4:
            self.emit(indent, "else:")
            self.block(indent + 1, in_loop)

    def lookup(self, indent: int, in_loop: bool) -> None:
        """Within an ``if p:`` the pointer is used at once: a later update may replace the element."""
        rng = self.rng
        pointer = self.name("q")
        if rng.random() < 0.4:
            map, key = rng.choice(["m_h", "m_a", "m_pa", "m_ph"]), self.small_key()
            made = map in ("m_h", "m_ph") and rng.random() < 0.5
            self.emit(
                indent, f"{pointer} = {map}.{f'get_or_init({key}, {self.value()})' if made else f'lookup({key})'}"
            )
            self.emit(indent, f"if {pointer}:")
            self.emit(indent + 1, f"{pointer}[0] {rng.choice(['=', '+=', '*=', '^='])} {self.value()}")
            self.emit(indent + 1, f"{rng.choice(list(self.names))} ^= {pointer}[0]")
            return
        found = ["m_s.lookup(kk)", f"m_as.lookup({rng.randint(0, 2)})", f"m_s.get_or_init(kk, {rng.choice('st')})"]
        found += [f"m_s.get_or_init(Key(k1={self.small_key()}), Outer(name='{self.word(8)}'))"]
        self.emit(indent, f"{pointer} = {rng.choice(found)}")
        self.emit(indent, f"if {rng.choice([pointer, f'{pointer} is not None'])}:")
        kept, self.structs = self.structs, [*self.structs, pointer, pointer]
        for _ in range(rng.randint(1, 3)):
            rng.choice([self.store, self.texts, self.pointers])(indent + 1, in_loop)
        if rng.random() < 0.3:
            self.emit(indent + 1, f"ring.output({pointer})")
        self.structs = kept

    def packet(self, indent: int, in_loop: bool) -> None:
        """A packet in a map's value, taken apart."""
        rng = self.rng
        pointer, head, off = self.name("b"), self.name("h"), self.name("o")
        variable = rng.choice(list(self.names))
        self.emit(indent, f"{pointer} = m_p.lookup({rng.randint(0, 1)})")
        self.emit(indent, f"if {pointer}:")
        indent += 1
        self.emit(indent, f"{head} = cast(Ptr[Head], addr({pointer}.data[{rng.randint(0, 55)}]))")
        self.emit(indent, f"if {head}.kind != {rng.choice([0, 1, 8, 17])} and {head}.len >= {rng.randint(0, 300)}:")
        self.emit(indent + 1, f"{variable} ^= {head}.id + {head}.proto")
        self.emit(indent, f"{off}: u64 = ({pointer}.data[{rng.randint(0, 63)}] & 15) * {rng.choice([1, 2, 4])}")
        self.emit(indent, f"if {off} < {pointer}.len and {off} <= 48:")
        self.emit(indent + 1, f"{variable} += {pointer}.data[{off}]")
        self.emit(indent + 1, f"{pointer}.data[{off} + {rng.randint(0, 3)}] = {self.value()}")
        if rng.random() < 0.5:
            self.emit(indent + 1, f"copy(s.raw, {pointer}.data[{off}:{off} + 16])")

    def record(self, indent: int, in_loop: bool) -> None:
        """A record; all of it is set, for what it held before is chance."""
        rng, record = self.rng, self.name("r")
        self.emit(indent, f"with ring.reserve(Outer) as {record}:")
        self.emit(indent + 1, f"copy({record}, {rng.choice(['s', 't'])})")
        kept, self.structs = self.structs, [*self.structs, record]
        for _ in range(rng.randint(0, 2)):
            rng.choice([self.store, self.texts])(indent + 1, in_loop)
        if rng.random() < 0.3:
            self.emit(indent + 1, f"if {self.condition(1)}:")
            self.emit(indent + 2, f"{record}.discard()")
            self.emit(indent + 2, "ctx.out = 77")
            self.emit(indent + 2, "return 5")
        self.structs = kept

    def callback(self, indent: int, in_loop: bool) -> None:
        """A function called in a loop(), which gets two objects by place and a number by value."""
        rng, name = self.rng, f"{self.program}_c{len(self.callbacks)}"
        kept = self.lines, self.names, self.structs, self.budget
        number = rng.choice(("u32", "i64", "u64"))
        self.lines, self.names, self.structs, self.budget = [""] * 9, {"i": "u32", "n": number}, ["s", "x"], 0
        self.apart = True
        for _ in range(rng.randint(1, 3)):
            rng.choice([self.store, self.store, self.texts, self.pointers])(1, False)
        self.emit(1, f"n += {self.value()}")
        self.emit(1, f"s.words[i & 3] ^= {self.read('x')[0]}")
        if rng.random() < 0.6:
            self.emit(1, f"return {self.condition(1, True)}")
        body = "\n".join(self.lines[9:])
        self.lines, self.names, self.structs, self.budget = kept
        self.apart = False
        self.callbacks.append(f"@inline\ndef {name}(i: u32, s, x, n: {number}):\n{body}\n")
        passes = rng.choice([str(rng.randint(0, 5)), f"({self.expression(0)[0]} & {rng.choice([1, 3])})"])
        self.emit(indent, f"{rng.choice(list(self.names))} ^= u32(loop(u64({passes}), {name}, s, t, {self.value()}))")

    def loop(self, indent: int, in_loop: bool) -> None:
        rng, name = self.rng, self.name("lp")
        self.emit(indent, f"for {name} in range({rng.randint(1, 4)}):")
        self.emit(indent + 1, f"s.raw[{name}] ^= {self.value()}")
        self.block(indent + 1, True)
