"""A fixed slice of the three-way comparison; ``python -m tests.fuzz`` runs thousands."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pybpf.asm.opcodes import BPF_OR
from pybpf.lang import ir, isel
from tests.fuzz import runner
from tests.fuzz.__main__ import report
from tests.fuzz.host import Oracle
from tests.fuzz.shrink import shrink


def check(kind, seeds, count, kernel=False, xdp=False):
    counts = runner.Counts()
    for seed in seeds:
        runner.batch(kind, seed, count, kernel, counts, xdp)
    assert not counts.failures, "\n".join(f"seed {f[2]} {f[1][1]}: {f[0]}\n{f[1][2]}" for f in counts.failures)
    return counts


@pytest.mark.parametrize("kind", ["integer", "memory"])
def test_vm_agrees_with_python(kind):
    assert check(kind, [1], 20).runs >= 60


def test_kernels_without_bpf_loop_are_tried_too():
    """Programs with loop() are run once more, as such a kernel gets them."""
    assert check("memory", [2], 10).runs > 30


@pytest.mark.native
@pytest.mark.parametrize("xdp", [False, True], ids=["syscall", "xdp"])
@pytest.mark.parametrize("kind", ["integer", "memory"])
def test_kernel_agrees_with_python(kind, xdp):
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    try:
        counts = check(kind, [100], 12 if xdp else 24, kernel=True, xdp=xdp)
    finally:
        os.sched_setaffinity(0, cpus)
    assert counts.rejected <= 1


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(st.sampled_from(["integer", "memory"]), st.integers(0, 1 << 32))
def test_any_seed(kind, seed):
    check(kind, [seed], 2)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("ctx.out = i64(ctx.c) // 2", (1 << 64) - 3),  # floor
        ("ctx.out = ctx.d // 0 + ctx.d % 0", 9),
        ("x: u8 = ctx.c\n    x += 10\n    ctx.out = x", 5),  # an annotated variable keeps its width
        ("x = ctx.a\n    x >>= 63\n    ctx.out = x", (1 << 64) - 1),
    ],
)
def test_the_oracle_itself(body, expected):
    oracle = Oracle(f"{runner.integers.CONTEXT}def f(ctx: Ptr[C]):\n    {body}\n    return 0\n")
    numbers = {0: -1, 2: -5, 3: 9}
    context = b"".join((numbers.get(i, 0) & (1 << 64) - 1).to_bytes(8, "little") for i in range(9))
    out = oracle.run("f", context[:72], {})[1]
    offset = oracle.scope["C"].layout.fields["out"][0]
    assert int.from_bytes(out[offset : offset + 8], "little") == expected


def test_parameters_keep_their_width():
    """An annotated parameter that is assigned was u64 once, whatever its annotation said."""
    for decorator in ("inline", "subprog"):
        text = (
            f"@{decorator}\ndef g(p: u8) -> u64:\n    p += 255\n    return p\n@hook('syscall')\ndef f(ctx: Ptr[C]):\n"
        )
        schema = runner.integers.Schema(None)
        runner.run_text(schema, {"f": text + "    ctx.out = g(ctx.c)\n    return 0\n"}, 0, False)


def test_subtraction_from_an_absent_entry():
    """The negated number was computed only where the entry existed."""
    text = "m_x = Hash(u32, i64, 4)\n@hook('syscall')\ndef f(ctx: Ptr[C]):\n    m_x[1] -= ctx.a + 1\n    return 0\n"
    runner.run_text(runner.integers.Schema(None), {"f": text}, 0, False)


@pytest.mark.native
def test_a_refusal_that_no_limit_explains_is_a_failure():
    text = (
        "class V(Struct):\n    data: u8[64]\nm_v = Array(V, 1)\n@hook('syscall')\ndef f(ctx: Ptr[C]):\n"
        "    v = m_v.lookup(0)\n    if v:\n        ctx.out = v.data[ctx.c]\n    return 0\n"
    )
    with pytest.raises(runner.Failure, match=r"refused by the verifier: .*unbounded"):
        runner.run_text(runner.integers.Schema(None), {"f": text}, 0, True, inputs=(bytes(72), {}))


def test_a_miscompilation_is_found_and_shrunk(monkeypatch):
    """With XOR compiled as OR, what is left of a program of 40 lines is the XOR and what it takes."""
    monkeypatch.setitem(isel.ALU, ir.XOR, BPF_OR)
    counts = runner.Counts()
    runner.batch("integer", 3, 1, False, counts)
    ((failure, made, seed, number),) = counts.failures
    assert failure.what == "mismatch in vm"
    told = report("integer", failure, *made, seed, number, False)
    first, *program = told[: told.index("\n  context")].splitlines(), told[told.index("@hook") :].strip()
    assert "integer seed 3 program 0: mismatch in vm: context" in first[0]
    assert program[0].count("\n") <= 8 < made[2].count("\n")
    assert "^" in program[0]


def test_shrinking():
    text = "def f(a):\n    b = 1\n    if a:\n        c = (a + 2) * 3\n    return b\n"
    small = shrink(text, lambda t: "* 3" in t)
    assert small.count("\n") <= 3
    assert "if" not in small
