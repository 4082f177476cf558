"""Verifier logs to one line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybpf import verifier

TRAILER = """verification time 42 usec
stack depth 0+16
processed 12 insns (limit 1000000) max_states_per_insn 0 total_states 1 peak_states 1 mark_read 0
"""


def line(log: str, **arguments) -> str:
    return verifier.message("p", log, arguments.get("locate"), arguments.get("field"))


def test_register_fault_comes_with_its_instruction():
    log = "func#0 @0\n0: R1=ctx() R10=fp0\n; x = y @ prog.py:12\n0: (bf) r0 = r2\nR2 !read_ok\n" + TRAILER
    assert line(log) == ("verifier rejected program 'p': 0: (bf) r0 = r2: R2 !read_ok (prog.py:12; 6 lines omitted)")


def test_plain_last_line():
    assert line("infinite loop detected at insn 4\n" + TRAILER) == (
        "verifier rejected program 'p': infinite loop detected at insn 4 (3 lines omitted)"
    )
    assert line("unknown opcode ff") == "verifier rejected program 'p': unknown opcode ff"


def test_indented_last_line_takes_the_one_before():
    assert verifier.digest("caller passes wrong type\n\targ#1 is int\n").reason == (
        "caller passes wrong type: arg#1 is int"
    )


def test_location_by_line_info_on_old_kernels():
    log = "; x = y\n3: (79) r1 = *(u64 *)(r1 +0)\n17: (bf) r0 = r2\nR2 !read_ok\n"
    found = verifier.digest(log, lambda index: f"prog.py:{index}")
    assert (found.index, found.source) == (17, "prog.py:17")


def test_poisoned_relocation_is_named():
    log = "5: (85) call unknown#195896080\ninvalid func unknown#195896080\n" + TRAILER
    assert line(log, field=lambda index: f"task_struct.x of {index}") == (
        "verifier rejected program 'p': it needs task_struct.x of 5, which this kernel does not have (CO-RE) "
        "(4 lines omitted)"
    )
    assert "it needs a field or type, which this kernel" in line(log)


def test_comment_with_at_sign_in_the_text():
    assert verifier.digest('; f("a @ b") @ dir/my prog.py:7\n0: (95) exit\nR0 !read_ok').source == "dir/my prog.py:7"
    assert verifier.digest('; f("a @ b")\n0: (95) exit\nR0 !read_ok').source == ""


@pytest.mark.parametrize("log", ["", "\n\n", TRAILER])
def test_logs_without_a_reason(log):
    assert "the log says nothing" in line(log)


@given(st.text(alphabet=st.sampled_from("0123456789:; @R\t\n()abc.py"), max_size=200))
def test_never_fails_and_never_has_two_lines(log):
    assert "\n" not in line(log)
