"""Every instruction of the instruction set, with its spelling in both text dialects.

One table drives the assembler, the disassembler and the tests. A spelling is a
template: words and signs as written, and operands in braces, ``{kind:field}``.
The field is where the operand goes (``dst``, ``src``, ``off``, ``imm`` or a part
of ``imm``), the kind is how it is written:

====== ==============================================================
r w    a register of the pseudo-C dialect: ``r1``, ``w1``
x      a register that accesses of less than 8 bytes print as ``w1``; ``r1`` is accepted too
%      a register of the mnemonic dialect: ``%r1``
i      a 32-bit constant
u16    an unsigned 16-bit constant
s16    a signed 16-bit constant
i64    a 64-bit constant
off    offset of a memory access behind its register: `` + 4``, ``-8``; nothing is 0
add    the same with 32 bits, and 0 is not printed
jump   destination of a jump: ``+3``, ``-4`` or a label
label  a function: only a name
pc     destination as the kernel prints that of calls: ``pc+3``
name   a helper as the kernel prints it: ``bpf_ktime_get_ns#5``
sym    a map or function, with an offset: ``stats+8``
====== ==============================================================
"""

from __future__ import annotations

from pybpf.asm.opcodes import (
    BPF_ABS,
    BPF_ADD,
    BPF_ADDR_SPACE_CAST,
    BPF_ALU,
    BPF_ALU64,
    BPF_AND,
    BPF_ARSH,
    BPF_ATOMIC,
    BPF_B,
    BPF_CMPXCHG,
    BPF_DIV,
    BPF_DW,
    BPF_END,
    BPF_FETCH,
    BPF_H,
    BPF_IND,
    BPF_JA,
    BPF_JCOND,
    BPF_JEQ,
    BPF_JGE,
    BPF_JGT,
    BPF_JLE,
    BPF_JLT,
    BPF_JMP,
    BPF_JMP32,
    BPF_JNE,
    BPF_JSET,
    BPF_JSGE,
    BPF_JSGT,
    BPF_JSLE,
    BPF_JSLT,
    BPF_LD,
    BPF_LDX,
    BPF_LOAD_ACQ,
    BPF_LSH,
    BPF_MEM,
    BPF_MEMSX,
    BPF_MOD,
    BPF_MOV,
    BPF_MUL,
    BPF_NEG,
    BPF_OR,
    BPF_PSEUDO_BTF_ID,
    BPF_PSEUDO_CALL,
    BPF_PSEUDO_FUNC,
    BPF_PSEUDO_KFUNC_CALL,
    BPF_PSEUDO_MAP_FD,
    BPF_PSEUDO_MAP_IDX,
    BPF_PSEUDO_MAP_IDX_VALUE,
    BPF_PSEUDO_MAP_VALUE,
    BPF_RSH,
    BPF_ST,
    BPF_STORE_REL,
    BPF_STX,
    BPF_SUB,
    BPF_TO_BE,
    BPF_TO_LE,
    BPF_W,
    BPF_X,
    BPF_XCHG,
    BPF_XOR,
    CALL,
    EXIT,
    JA,
    LD_IMM64,
)

LLVM, MNEMONIC = "llvm", "mnemonic"
DIALECTS = (LLVM, MNEMONIC)
FIELDS = ("dst", "src", "off", "imm")

# The newest cpu version that LLVM numbers; what came later has LATER.
CPU_V1, CPU_V2, CPU_V3, CPU_V4, LATER = 1, 2, 3, 4, 5


class Form:
    """One instruction with one set of operands.

    ``op`` is the opcode byte and ``fixed`` the fields that are part of the
    instruction; a field that is neither fixed nor an operand is 0. ``llvm`` and
    ``mnemonic`` are the templates to print; ``llvm_aliases`` and
    ``mnemonic_aliases`` are only read. ``cpu`` is the version that brought it.
    """

    __slots__ = ("cpu", "fixed", "llvm", "llvm_aliases", "mnemonic", "mnemonic_aliases", "op")

    def __init__(
        self,
        op: int,
        llvm: str,
        mnemonic: str,
        cpu: int = CPU_V1,
        llvm_aliases: tuple[str, ...] = (),
        mnemonic_aliases: tuple[str, ...] = (),
        **fixed: int,
    ) -> None:
        self.op = op
        self.llvm = llvm
        self.mnemonic = mnemonic
        self.cpu = cpu
        self.llvm_aliases = llvm_aliases
        self.mnemonic_aliases = mnemonic_aliases
        self.fixed = fixed

    def __repr__(self) -> str:
        return f"Form({self.op:#04x}, {self.llvm!r})"

    def template(self, dialect: str) -> str:
        """How ``dialect`` prints it."""
        return self.llvm if dialect == LLVM else self.mnemonic

    def templates(self, dialect: str) -> tuple[str, ...]:
        """Everything that ``dialect`` reads as this instruction."""
        if dialect == LLVM:
            return (self.llvm, *self.llvm_aliases)
        return (self.mnemonic, *self.mnemonic_aliases)

    def is_free(self, field: str) -> bool:
        """Whether ``field`` is (partly) an operand."""
        return f":{field}" in self.mnemonic


_ALU = (
    (BPF_ADD, "+=", "add"),
    (BPF_SUB, "-=", "sub"),
    (BPF_MUL, "*=", "mul"),
    (BPF_DIV, "/=", "div"),
    (BPF_OR, "|=", "or"),
    (BPF_AND, "&=", "and"),
    (BPF_LSH, "<<=", "lsh"),
    (BPF_RSH, ">>=", "rsh"),
    (BPF_MOD, "%=", "mod"),
    (BPF_XOR, "^=", "xor"),
    (BPF_MOV, "=", "mov"),
    (BPF_ARSH, "s>>=", "arsh"),
)
_JUMPS = (
    (BPF_JEQ, "==", "jeq", CPU_V1),
    (BPF_JGT, ">", "jgt", CPU_V1),
    (BPF_JGE, ">=", "jge", CPU_V1),
    (BPF_JSET, "&", "jset", CPU_V1),
    (BPF_JNE, "!=", "jne", CPU_V1),
    (BPF_JSGT, "s>", "jsgt", CPU_V1),
    (BPF_JSGE, "s>=", "jsge", CPU_V1),
    (BPF_JLT, "<", "jlt", CPU_V2),
    (BPF_JLE, "<=", "jle", CPU_V2),
    (BPF_JSLT, "s<", "jslt", CPU_V2),
    (BPF_JSLE, "s<=", "jsle", CPU_V2),
)
_SIZES = ((BPF_B, 8, "b"), (BPF_H, 16, "h"), (BPF_W, 32, "w"), (BPF_DW, 64, "dw"))
_ATOMICS = ((BPF_ADD, "+=", "add"), (BPF_OR, "|=", "or"), (BPF_AND, "&=", "and"), (BPF_XOR, "^=", "xor"))


def _alu(forms: list[Form], kind: int, r: str, suffix: str, cpu: int) -> None:
    """Arithmetic of one width: class ``kind``, register letter ``r``."""
    long = ("64",) if not suffix else ()
    dst, src = f"{{{r}:dst}}", f"{{{r}:src}}"

    def add(code: int, sign: str, name: str, cpu: int, **fixed: int) -> None:
        also = f"{name}64" if long else ""
        for bit, llvm, mnemonic in ((0, "{i:imm}", "{i:imm}"), (BPF_X, src, "{%:src}")):
            alias = (f"{also} {{%:dst}}, {mnemonic}",) if also else ()
            forms.append(
                Form(
                    kind | code | bit,
                    f"{dst} {sign} {llvm}",
                    f"{name}{suffix} {{%:dst}}, {mnemonic}",
                    cpu,
                    (),
                    alias,
                    **fixed,
                )
            )

    for code, sign, name in _ALU:
        add(code, sign, name, cpu)
        if code in (BPF_DIV, BPF_MOD):
            add(code, f"s{sign}", f"s{name}", CPU_V4, off=1)
    neg = ("neg64 {%:dst}",) if long else ()
    forms.append(Form(kind | BPF_NEG, f"{dst} = -{dst}", f"neg{suffix} {{%:dst}}", cpu, (), neg))
    for bits in (8, 16, 32) if long else (8, 16):
        name = f"movsx{bits}{suffix or '64'}"
        forms.append(
            Form(
                kind | BPF_MOV | BPF_X,
                f"{dst} = (s{bits}){src}",
                f"{name} {{%:dst}}, {{%:src}}",
                CPU_V4,
                off=bits,
            )
        )


def _swaps(forms: list[Form]) -> None:
    for bits in (16, 32, 64):
        for op, name, cpu in (
            (BPF_ALU | BPF_END | BPF_TO_LE, "le", CPU_V1),
            (BPF_ALU | BPF_END | BPF_TO_BE, "be", CPU_V1),
            (BPF_ALU64 | BPF_END, "bswap", CPU_V4),
        ):
            alias = (f"swap{bits} {{%:dst}}",) if name == "bswap" else ()
            forms.append(
                Form(op, f"{{r:dst}} = {name}{bits} {{r:dst}}", f"{name}{bits} {{%:dst}}", cpu, (), alias, imm=bits)
            )


def _jumps(forms: list[Form]) -> None:
    for kind, r, suffix in ((BPF_JMP, "r", ""), (BPF_JMP32, "w", "32")):
        for code, sign, name, since in _JUMPS:
            cpu = since if kind == BPF_JMP else CPU_V3
            for bit, llvm, mnemonic in ((0, "{i:imm}", "{i:imm}"), (BPF_X, f"{{{r}:src}}", "{%:src}")):
                forms.append(
                    Form(
                        kind | code | bit,
                        f"if {{{r}:dst}} {sign} {llvm} goto {{jump:off}}",
                        f"{name}{suffix} {{%:dst}}, {mnemonic}, {{jump:off}}",
                        cpu,
                    )
                )
    forms += [
        Form(JA, "goto {jump:off}", "ja {jump:off}", CPU_V1),
        Form(BPF_JMP32 | BPF_JA, "gotol {jump:imm}", "ja32 {jump:imm}", CPU_V4, (), ("gotol {jump:imm}",)),
        Form(BPF_JMP | BPF_JCOND, "may_goto {jump:off}", "may_goto {jump:off}", CPU_V4),
        # Through a table of instruction addresses (BPF_MAP_TYPE_INSN_ARRAY).
        Form(JA | BPF_X, "gotox {r:dst}", "gotox {%:dst}", LATER),
        Form(CALL, "call {i:imm}", "call {i:imm}", CPU_V1, ("call {name:imm}",), ("call helper {i:imm}",)),
        Form(
            CALL,
            "call {pc:imm}",
            "call local {jump:imm}",
            CPU_V1,
            ("call {label:imm}", "call local {jump:imm}"),
            ("call {label:imm}", "call {pc:imm}"),
            src=BPF_PSEUDO_CALL,
        ),
        Form(
            CALL,
            "call kfunc {i:imm}",
            "call kfunc {i:imm}",
            CPU_V1,
            (),
            ("call runtime {i:imm}",),
            src=BPF_PSEUDO_KFUNC_CALL,
        ),
        # The second number is the index of a module's BTF in fd_array.
        Form(
            CALL,
            "call kfunc {i:imm}, {s16:off}",
            "call kfunc {i:imm}, {s16:off}",
            CPU_V1,
            src=BPF_PSEUDO_KFUNC_CALL,
        ),
        Form(CALL | BPF_X, "callx {r:dst}", "callx {%:dst}", CPU_V1),
        Form(EXIT, "exit", "exit", CPU_V1),
    ]


def _loads_and_stores(forms: list[Form]) -> None:
    for size, bits, letter in _SIZES:
        r = "r" if bits == 64 else "x"
        forms += [
            Form(
                BPF_LDX | BPF_MEM | size,
                f"{{{r}:dst}} = *(u{bits} *)({{r:src}}{{off:off}})",
                f"ldx{letter} {{%:dst}}, [{{%:src}}{{off:off}}]",
            ),
            Form(
                BPF_ST | BPF_MEM | size,
                f"*(u{bits} *)({{r:dst}}{{off:off}}) = {{i:imm}}",
                f"st{letter} [{{%:dst}}{{off:off}}], {{i:imm}}",
            ),
            Form(
                BPF_STX | BPF_MEM | size,
                f"*(u{bits} *)({{r:dst}}{{off:off}}) = {{{r}:src}}",
                f"stx{letter} [{{%:dst}}{{off:off}}], {{%:src}}",
            ),
            Form(
                BPF_STX | BPF_ATOMIC | size,
                f"{{{r}:dst}} = load_acquire((u{bits} *)({{r:src}}{{off:off}}))",
                f"ldacq{letter} {{%:dst}}, [{{%:src}}{{off:off}}]",
                LATER,
                imm=BPF_LOAD_ACQ,
            ),
            Form(
                BPF_STX | BPF_ATOMIC | size,
                f"store_release((u{bits} *)({{r:dst}}{{off:off}}), {{{r}:src}})",
                f"strel{letter} [{{%:dst}}{{off:off}}], {{%:src}}",
                LATER,
                imm=BPF_STORE_REL,
            ),
        ]
        if bits < 64:
            forms.append(
                Form(
                    BPF_LDX | BPF_MEMSX | size,
                    f"{{r:dst}} = *(s{bits} *)({{r:src}}{{off:off}})",
                    f"ldxs{letter} {{%:dst}}, [{{%:src}}{{off:off}}]",
                    CPU_V4,
                )
            )
            # Loads from the packet, kept from classic BPF: the result is r0, the context is r6.
            forms.append(
                Form(BPF_LD | BPF_ABS | size, f"r0 = *(u{bits} *)skb[{{i:imm}}]", f"ldabs{letter} {{i:imm}}", CPU_V1)
            )
            forms.append(
                Form(
                    BPF_LD | BPF_IND | size,
                    f"r0 = *(u{bits} *)skb[{{r:src}}{{add:imm}}]",
                    f"ldind{letter} {{%:src}}, {{i:imm}}",
                    CPU_V1,
                    (),
                    (f"ldind{letter} {{%:src}}",),
                )
            )


def _atomics(forms: list[Form]) -> None:
    for size, bits, r, suffix, c_suffix, kernel in (
        (BPF_W, 32, "x", "32", "32_32", "atomic"),
        (BPF_DW, 64, "r", "", "_64", "atomic64"),
    ):
        op = BPF_STX | BPF_ATOMIC | size
        place, src = "{r:dst}{off:off}", f"{{{r}:src}}"
        memory = "[{%:dst}{off:off}], {%:src}"
        r0 = {"x": "w0", "r": "r0"}[r]
        for code, sign, name in _ATOMICS:
            forms += [
                Form(
                    op,
                    f"lock *(u{bits} *)({place}) {sign} {src}",
                    f"lock {name}{suffix} {memory}",
                    CPU_V1 if code == BPF_ADD else CPU_V3,
                    imm=code,
                ),
                Form(
                    op,
                    f"{src} = atomic_fetch_{name}((u{bits} *)({place}), {src})",
                    f"lock fetch {name}{suffix} {memory}",
                    CPU_V3,
                    (f"{src} = {kernel}_fetch_{name}((u{bits} *)({place}), {src})",) if kernel != "atomic" else (),
                    (f"lock fetch_{name}{suffix} {memory}",),
                    imm=code | BPF_FETCH,
                ),
            ]
        forms += [
            Form(
                op,
                f"{src} = xchg{c_suffix}({place}, {src})",
                f"lock xchg{suffix} {memory}",
                CPU_V3,
                (f"{src} = {kernel}_xchg((u{bits} *)({place}), {src})",),
                imm=BPF_XCHG,
            ),
            Form(
                op,
                f"{r0} = cmpxchg{c_suffix}({place}, {r0}, {src})",
                f"lock cmpxchg{suffix} {memory}",
                CPU_V3,
                (f"r0 = {kernel}_cmpxchg((u{bits} *)({place}), r0, {src})",),
                imm=BPF_CMPXCHG,
            ),
        ]


def _constants(forms: list[Form]) -> None:
    forms += [
        Form(
            BPF_ALU64 | BPF_MOV | BPF_X,
            "{r:dst} = addr_space_cast({r:src}, {u16:imm_high}, {u16:imm_low})",
            "addr_space_cast {%:dst}, {%:src}, {u16:imm_high}, {u16:imm_low}",
            CPU_V4,
            off=BPF_ADDR_SPACE_CAST,
        ),
        Form(
            LD_IMM64,
            "{r:dst} = {i64:imm} ll",
            "lddw {%:dst}, {i64:imm}",
            CPU_V1,
            ("ld_pseudo {r:dst}, 0x0, {i64:imm}", "{r:dst} = {sym:imm} ll"),
            ("lddw {%:dst}, {sym:imm}",),
        ),
    ]
    for number, name in (
        (BPF_PSEUDO_MAP_FD, "map_fd"),
        (BPF_PSEUDO_MAP_VALUE, "map_value"),
        (BPF_PSEUDO_BTF_ID, "btf_id"),
        (BPF_PSEUDO_FUNC, "func"),
        (BPF_PSEUDO_MAP_IDX, "map_idx"),
        (BPF_PSEUDO_MAP_IDX_VALUE, "map_idx_value"),
    ):
        # The one instruction that LLVM prints with a mnemonic, so with a tab.
        llvm = f"ld_pseudo\t{{r:dst}}, {number:#x}, {{i64:imm}}"
        short = f"lddw {{%:dst}}, {name} {{i:imm_first}}"
        label = (f"lddw {{%:dst}}, {name} {{label:imm}}",) if number == BPF_PSEUDO_FUNC else ()
        forms.append(Form(LD_IMM64, llvm, short, CPU_V1, (), label, src=number))
        # The second number is the second slot's: the offset in the value, the module of the variable.
        forms.append(Form(LD_IMM64, llvm, f"{short}, {{i:imm_second}}", CPU_V1, src=number))


def _all_forms() -> list[Form]:
    forms: list[Form] = []
    _alu(forms, BPF_ALU64, "r", "", CPU_V1)
    _alu(forms, BPF_ALU, "w", "32", CPU_V1)
    _swaps(forms)
    _jumps(forms)
    _loads_and_stores(forms)
    _atomics(forms)
    _constants(forms)
    return forms


FORMS: tuple[Form, ...] = tuple(_all_forms())
