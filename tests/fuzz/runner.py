"""Compiles batches of programs and runs each three ways."""

from __future__ import annotations

import importlib.util
import itertools
import os
import random
import sys
import tempfile
import traceback

from pybpf.errors import CompileError, VerifierError
from pybpf.fold import fold
from pybpf.lang.compile import compile_functions
from pybpf.lang.surface import PROGRAMS
from pybpf.object.reader import read_object
from pybpf.vm import Vm
from pybpf.vm.errors import VmError
from tests.fuzz import integers, memories
from tests.fuzz.host import Oracle
from tests.fuzz.rules import Invalid

SCHEMAS = {"integer": integers.Schema, "memory": memories.Schema}
PRELUDE = "from __future__ import annotations\nfrom pybpf.lang import *\n"
INPUTS = 3
_numbers = itertools.count()


class Failure(Exception):
    """``what``: the class of a failure, the same after shrinking; ``details``: what was seen."""

    def __init__(self, what, details, program="", inputs=None):
        super().__init__(f"{what}: {details}")
        self.what, self.details, self.program, self.inputs = what, details, program, inputs


def compile_text(text):
    """The object of a module's text."""
    name = f"fuzz_case_{os.getpid()}_{next(_numbers)}"
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, f"{name}.py")
        with open(path, "w", encoding="utf-8") as file:
            file.write(PRELUDE + text)
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
            return compile_functions(PROGRAMS[name].values())
        finally:
            sys.modules.pop(name, None)
            PROGRAMS.pop(name, None)


class VmRuns:
    """The object in pybpf.vm."""

    name = "vm"

    def __init__(self, spec):
        self.vm = Vm(spec)
        self.programs = None  # all

    def run(self, program, context, presets, xdp=False):
        for name, model in self.vm.maps.items():
            if model.__class__.__name__ == "RingBufMap":
                model.drain()
                continue
            if name.startswith("."):
                continue
            array = not hasattr(model, "_elements")
            for key in list(model.keys()):
                if array:
                    model.update(key, bytes(model.value_size))
                else:
                    model.delete(key)
            for key, value in presets.get(name, {}).items():
                model.update(key, value)
        memory = bytearray(context)
        result = self.vm.run(program, packet=context) if xdp else self.vm.run(program, ctx=memory)
        if xdp:
            memory = self.vm.context.packet.data
        contents, records = {}, []
        for name, model in self.vm.maps.items():
            if model.__class__.__name__ == "RingBufMap":
                records = model.drain()
            elif not name.startswith("."):
                contents[name] = {key: value[: model.value_size] for key, value in model.items()}
        return result & 0xFFFFFFFF, bytes(memory), contents, records


class OldKernelRuns(VmRuns):
    """The programs that ask for bpf_loop as a kernel gets them that lacks it: the loader cuts the call out."""

    name = "vm without bpf_loop"

    def __init__(self, spec):
        asking = {name: function for name, function in spec.programs.items() if function.core_relos}
        for name, function in asking.items():
            code = bytearray(function.insns)
            for index, *_ in function.core_relos:
                code[index * 8 + 4 : index * 8 + 8] = bytes(4)
            folded = fold(function, bytes(code), {}, {}, spec.byteorder)
            assert folded is not None
            folded.core_relos = []
            spec.programs[name] = folded
        super().__init__(spec)
        self.programs = set(asking)


class KernelRuns:
    """The object in the kernel; the process stays on one CPU, whose values of per-CPU maps count."""

    name = "kernel"
    programs = None

    def __init__(self, spec, programs):
        from pybpf import abi
        from pybpf.loader import Collection
        from pybpf.ringbuf import RingBuffer

        self.cpu = min(os.sched_getaffinity(0))
        self.rejected: dict[str, VerifierError] = {}
        names = list(programs)
        self.loaded = []
        self.maps: dict[str, object] = {}
        self.loaded_programs: dict[str, object] = {}
        # One load of all; what the verifier refuses, perhaps after a million steps, is not shown to it again,
        # and tells why without a line for each step.
        while names:
            try:
                self._take(Collection(spec, names, log_level=abi.LOG_STATS))
                break
            except VerifierError as error:
                refused = next(name for name in names if f"program {name!r}" in str(error))
                self.rejected[refused] = error
                names.remove(refused)
        self.percpu = {
            n for n, m in self.maps.items() if m.type in (abi.MAP_TYPE_PERCPU_ARRAY, abi.MAP_TYPE_PERCPU_HASH)
        }
        self.arrays = {n for n, m in self.maps.items() if m.type in (abi.MAP_TYPE_ARRAY, abi.MAP_TYPE_PERCPU_ARRAY)}
        self.rings = {n: RingBuffer(m) for n, m in self.maps.items() if m.type == abi.MAP_TYPE_RINGBUF}

    def _take(self, collection):
        self.loaded.append(collection)
        self.loaded_programs.update(collection.programs)
        for name, map in collection.maps.items():
            self.maps.setdefault(name, map)

    def run(self, program, context, presets, xdp=False):
        for name, map in self.maps.items():
            if name.startswith(".") or name in self.rings:
                continue
            if name not in self.arrays:
                for key in list(map.keys()):
                    map.delete(key)
            entries = dict(presets.get(name, {}))
            if name in self.arrays:
                for index in range(map.max_entries):
                    entries.setdefault(index.to_bytes(4, "little"), bytes(map.value_size))
            for key, value in entries.items():
                map.update(key, value)
        run = self.loaded_programs[program].test_run(**{"data" if xdp else "ctx": context})
        contents, records = {}, []
        for name, map in self.maps.items():
            if name in self.rings:
                self.rings[name].drain(records)
            elif name in self.percpu:
                contents[name] = {key: map.lookup_percpu(key)[self.cpu][: map.value_size] for key in list(map.keys())}
            elif not name.startswith("."):
                contents[name] = dict(map.items())
        return run.retval, run.data if xdp else run.ctx, contents, [bytes(record) for record in records]

    def close(self):
        for ring in self.rings.values():
            ring.close()
        for collection in self.loaded:
            collection.close()


def difference(expected, found):
    """What of a run's outcome differs; the empty string if nothing does."""
    for what, a, b in zip(("result", "context"), expected, found):
        if a != b:
            return f"{what} {a.hex() if isinstance(a, bytes) else a} != {b.hex() if isinstance(b, bytes) else b}"
    for name, entries in found[2].items():
        if name.startswith("scratch"):
            continue  # the compiler's own, for what does not fit the stack
        wanted = expected[2][name]
        if wanted != entries:
            show = {k.hex(): (wanted.get(k, b"").hex() or None, entries.get(k, b"").hex() or None)
                    for k in {*wanted, *entries} if wanted.get(k) != entries.get(k)}  # fmt: skip
            return f"map {name} {{key: (expected, found)}} {show}"
    if expected[3] != found[3]:
        return f"records {[r.hex() for r in expected[3]]} != {[r.hex() for r in found[3]]}"
    return ""


class Counts:
    """What a run of the command sums up."""

    def __init__(self):
        self.programs = self.runs = self.rejected = self.invalid = 0
        self.reasons: dict[str, int] = {}
        self.failures: list[tuple[Failure, object, int, int]] = []

    def add(self, other):
        for name in ("programs", "runs", "rejected", "invalid"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for reason, count in other.reasons.items():
            self.reasons[reason] = self.reasons.get(reason, 0) + count
        self.failures += other.failures


# Refusals that are nobody's fault, by a part of their message.
LIMITS = {
    "BPF program is too large": "the verifier's limit of 1,000,000 instructions: too many paths",
    "bytes of stack": "the 512 bytes of stack: more values are needed at once than fit",
    "do not fit the stack": "the 512 bytes of stack: more objects are needed at once than fit",
}


def limit_of(text):
    """Which limit a refusal's text speaks of; the empty string if none."""
    return next((reason for part, reason in LIMITS.items() if part in text), "")


def last_words(error):
    """The verifier's last lines without statistics, and without numbers: the same for the smaller program."""
    lines = [line for line in error.details.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("processed", "verification time", "stack depth"))]
    return "; ".join("".join(c for c in line if not c.isdigit())[:80] for line in lines[-2:]) or str(error)


def run_text(schema, programs, seed, kernel, counts=None, inputs=None):
    """Compile ``programs`` (name to text) into one object and run each; raises the first Failure."""
    counts = counts if counts is not None else Counts()
    text = schema.text + "".join(programs.values())
    try:
        data = compile_text(text)
    except CompileError as error:
        raise Failure("compile error", str(error)) from None
    except Exception as error:
        raise Failure(f"compiler: {type(error).__name__}", traceback.format_exc(limit=-4)) from None
    oracle = Oracle(text)
    ways = [VmRuns(read_object(data)), OldKernelRuns(read_object(data))]
    native = None
    try:
        if kernel:
            native = KernelRuns(read_object(data), programs)
            ways.append(native)
        for name in programs:
            counts.programs += 1
            if native is not None and name in native.rejected:
                reason = limit_of(native.rejected[name].details)
                if not reason:
                    raise Failure("refused by the verifier", last_words(native.rejected[name]), name)
                counts.rejected += 1
                counts.reasons[reason] = counts.reasons.get(reason, 0) + 1
            rng = random.Random(f"{seed}/{name}/inputs")
            for values in [inputs] if inputs is not None else [schema.inputs(rng) for _ in range(INPUTS)]:
                try:
                    expected = oracle.run(name, *values, xdp=schema.xdp)
                except Invalid as error:
                    raise Failure("oracle", str(error), name, values) from None
                for way in ways:
                    if (way is native and name in native.rejected) or (
                        way.programs is not None and name not in way.programs
                    ):
                        continue
                    try:
                        found = way.run(name, *values, xdp=schema.xdp)
                    except VmError as error:
                        raise Failure("vm error", str(error), name, values) from None
                    wrong = difference(expected, found)
                    if wrong:
                        raise Failure(f"mismatch in {way.name}", wrong, name, values)
                    counts.runs += 1
    finally:
        if native is not None:
            native.close()
    return counts


def batch(kind, seed, count, kernel, counts, xdp=False):
    """One object of ``count`` programs; those that fail are noted one by one. ``xdp``: as programs on packets."""
    schema = SCHEMAS[kind](random.Random(f"{kind}/{seed}/schema"), xdp)
    programs = {f"f{n}": schema.program(random.Random(f"{kind}/{seed}/{n}"), f"f{n}") for n in range(count)}
    trial = Counts()
    try:
        run_text(schema, programs, seed, kernel, trial)
        counts.add(trial)
        return
    except Failure:
        pass
    for number, (name, text) in enumerate(programs.items()):
        trial = Counts()
        try:
            run_text(schema, {name: text}, seed, kernel, trial)
        except Failure as failure:
            trial = Counts()
            trial.programs = 1
            limit = limit_of(failure.details)
            if failure.what == "compile error" and limit:
                trial.rejected, trial.reasons = 1, {limit: 1}
            else:
                trial.failures.append((failure, (schema, name, text), seed, number))
        counts.add(trial)
