"""Events of a function's return: what it was called with, kept until then where only its result is seen."""

from __future__ import annotations

from programs.common import *
from pybpf.lang import *

NAME_SIZE = 64


class CallKey(Struct):
    """A running call: of a function, by an event's number, in a thread."""

    event: u32
    tid: u32


class Call(Struct):
    """``args`` as they were at the beginning, and a string of that time."""

    args: u64[4]
    text: char[NAME_SIZE]


entered = LruHash(CallKey, Call, 1024)  # one that nobody sees return makes room in time


@inline
def note_call(event, first, second=0, third=0, fourth=0, text=0):
    """Remember a call that begins; ``text`` is the address of a string."""
    call = Call()
    call.args[0] = first
    call.args[1] = second
    call.args[2] = third
    call.args[3] = fourth
    if text:
        read_kernel_str(call.text, text)
    key = CallKey(event=event, tid=tid())
    if entered.update(key, call, BPF_NOEXIST) < 0:  # the last one was not seen to return
        count_loss(event)
        entered.update(key, call, BPF_ANY)


@inline
def noted_call(event):
    """The call that returns, or None."""
    return entered.lookup(CallKey(event=event, tid=tid()))


@inline
def forget_call(event):
    entered.delete(CallKey(event=event, tid=tid()))


def returned(name):
    """The way to see a function return with its arguments."""
    return f"fexit/{name}"
