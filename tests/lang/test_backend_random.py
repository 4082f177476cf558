"""Random functions mean the same before and after compilation."""

from __future__ import annotations

from bpf_interp import BpfMachine, patch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ir_interp import IrMachine
from ir_random import ARITY, Generator, core_value, helper, symbol

from pybpf.lang.backend import generate
from pybpf.lang.cfg import clone
from pybpf.lang.opt import optimise

INPUTS = ((0, 0), (1, (1 << 64) - 1), (0x123456789ABCDEF, 77))


def observe(machine):
    return machine.run(), machine.calls


def run_ir(func, params):
    return observe(IrMachine(func, params, helper, symbol, core_value))


def compare(func):
    unit = generate(func)
    code, calls = patch(unit, core_value, symbol)
    optimised = clone(func)
    optimise(optimised)
    for params in INPUTS:
        want = run_ir(func, params)
        assert run_ir(optimised, params) == want, func.dump() + "\n\n" + optimised.dump()
        machine = BpfMachine(code, params, helper, calls_by_slot=calls)
        machine.arity = ARITY
        try:
            got = observe(machine)
        except Exception as error:
            raise AssertionError(f"{error}\n{func.dump()}\n\n{optimised.dump()}") from error
        assert got == want, func.dump() + "\n\n" + optimised.dump()
    return unit


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_small_functions(rng):
    compare(Generator(rng, blocks=rng.randint(1, 8), variables=rng.randint(2, 6)).func)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_many_live_values(rng):
    compare(Generator(rng, blocks=rng.randint(3, 14), variables=rng.randint(10, 18), length=14).func)
