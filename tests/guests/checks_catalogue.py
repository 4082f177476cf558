"""Every program of every event that is no system call: loaded and attached, or refused for a reason that is told."""

from __future__ import annotations

import functools
import os
import re

from tests.guests.checks import check, in_guest, write

_BUFFER = 64 << 10
# What the verifier says of a function that has another form, or that the compiler has given another name.
_LACKING = r"func '\w+' doesn't have \d+-th argument|[Tt]he address of function \w+ cannot be found"


@check(timeout=240.0)
def check_every_way_of_every_event():
    """Each way to see each event, not only the first that can be had; the table of docs/events.md is made of this."""
    from bfer.session import Session
    from btf.reader import Btf
    from pybpf.inkernel import relocates
    from tests.guests.checks_core import kernel_btf

    session = Session([f"event={','.join(names())}", f"pid={os.getpid()}"], set(), buffer=_BUFFER)
    plan = session.plan
    btf = kernel_btf()
    try:
        # A kernel that does not relocate has its types walked once, not for each program.
        given: Btf | None = None if relocates() else btf
        faults = []
        for event in plan.hooks:
            if not event.id:  # the run's own
                continue
            had, refused = tried(event, plan, given)
            write("\t".join(["@event", event.name, *had, *(f"{way}: {why}" for way, why in refused.items())]) + "\n")
            # A guest's kernel has every kind of hook that its version has, so that only the place can be missing.
            alone = in_guest() and not had
            faults += [
                f"{way}: {why}"
                for way, why in refused.items()
                if is_fault(event, way, why) or (alone and not re.search(r"has no (raw )?(function|tracepoint)", why))
            ]
    finally:
        btf.close()
    assert not faults, "; ".join(faults)


def is_fault(event, way, why):
    """Whether a program was refused for what it does, and not for what the kernel lacks.

    Ways for several forms of a function follow each other in the catalogue; the right one loads. Without
    helper 158 (5.11) none of the programs for BTF hooks can.
    """
    from pybpf.object.file import ObjectFile
    from tests.guests.checks_core import lacks_task_btf

    if "verifier" not in why or re.search(_LACKING, why):
        return False
    functions = ObjectFile(object_of(event.object)).functions
    typed = any(functions[name].section.startswith(("fentry/", "fexit/", "tp_btf/")) for name in way.split(" + "))
    return not (typed and lacks_task_btf())


def names():
    """The events that have programs of their own."""
    from bfer.catalogue import Catalogue

    return [event.name for event in Catalogue(os.uname().machine).events.values() if event.hooks and event.places()]


@functools.lru_cache(None)
def object_of(name):
    from programs import load_object

    return load_object(name)


def tried(event, plan, btf):
    """The ways that could be attached, and why the others could not."""
    from bfer.hooks import Hook, Hooks, known_calls
    from bfer.tracer import configure

    calls = known_calls(os.uname().machine)

    def prepare(spec):
        configure(spec, plan, _BUFFER, {"self_pid": os.getpid()})
        for name, numbers in calls.items():
            spec.set(name, numbers)

    had, refused = [], {}
    for place in event.places():
        for way in place:
            hooks = Hooks([], {}, prepare)
            hooks.hooks = [hook] = [Hook(event, [way])]
            try:
                hooks.load(object_of, btf)
                hooks.attach(object_of, btf)
                if hook.links:
                    had.append(" + ".join(program.section for program in hook.programs))
                else:
                    refused[" + ".join(way)] = hook.tried[-1].outcome
            finally:
                hooks.close()
    return had, refused
