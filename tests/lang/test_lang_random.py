"""The compiler against CPython running the same text: IR, machine code, and (natively) the kernel."""

from __future__ import annotations

import random
import struct

import pytest
from bpf_interp import BpfMachine, patch
from lang_harness import CTX, World, lower, object_of
from lang_random import M, Writer, python_answer

from pybpf.lang.backend import generate

HEADS = {
    True: "class C(Struct):\n    a: i64\n    b: i64\n    c: i64\n    d: i64\n    out: i64\n",
    False: "class C(Struct):\n    a: u64\n    b: u64\n    c: u64\n    d: u64\n    out: u64\n",
}


def program(body: str, signed: bool) -> str:
    lines = "\n".join("    " + line for line in body.splitlines())
    return f"{HEADS[signed]}@hook('syscall')\ndef f(ctx: Ptr[C]):\n{lines}\n"


def inputs(rng: random.Random) -> dict[str, int]:
    pool = [
        0,
        1,
        2,
        3,
        M,
        M - 5,
        1 << 63,
        (1 << 63) - 1,
        1 << 31,
        (1 << 32) - 1,
        rng.getrandbits(64),
        rng.getrandbits(8),
    ]
    return {name: rng.choice(pool) for name in "abcd"}


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("block", range(4))
def test_same_answer_as_python(tmp_path, signed, block):
    for seed in range(block * 40, block * 40 + 40):
        body = Writer(seed, signed).body()
        unit = lower(tmp_path, program(body, signed))
        code, _ = patch(generate(unit.functions[0]), lambda ref: 0, lambda kind, name: 0)
        rng = random.Random(seed)
        for _ in range(4):
            values = inputs(rng)
            expected = python_answer(body, signed, values)
            context = struct.pack("<QQQQQ", *values.values(), 0)
            assert World(unit, context).run() & M == expected, f"seed {seed} {values}\n{body}"
            machine = BpfMachine(code, (CTX,), memory={CTX + i: byte for i, byte in enumerate(context)})
            assert machine.run() == expected, f"machine code, seed {seed} {values}\n{body}"


@pytest.mark.native
@pytest.mark.parametrize("signed", [True, False])
def test_same_answer_in_the_kernel(tmp_path, signed):
    from pybpf.errors import VerifierError
    from pybpf.loader import Collection
    from pybpf.object.reader import read_object

    ran = 0
    for seed in range(1000, 1030):
        body = Writer(seed, signed).body()
        stored = body.replace("\nreturn ", "\nctx.out = ") + "\nreturn 0"
        data = object_of(tmp_path, program(stored, signed))
        try:
            loaded = Collection(read_object(data), ["f"])
        except VerifierError as error:
            if "too large" in error.details or "too complex" in error.details:
                continue  # more paths than the verifier walks
            raise
        with loaded:
            rng = random.Random(seed)
            for _ in range(3):
                values = inputs(rng)
                run = loaded.programs["f"].test_run(ctx=struct.pack("<QQQQQ", *values.values(), 0))
                (out,) = struct.unpack_from("<Q", run.ctx, 32)
                assert out == python_answer(body, signed, values), f"seed {seed} {values}\n{body}"
                ran += 1
    assert ran > 30
