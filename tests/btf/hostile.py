"""Mutated BTF: our error or a correct answer, soon, in little memory: ``python -m tests.btf.hostile [COUNT [FIRST]]``.

Case N is a blob made by N and then changed by N: the same number always gives the
same bytes. All that reads BTF gets them: the lazy reader and the full one, names,
CO-RE with the blob on either side, .BTF.ext, cutting down, writing, printing,
comparing, deduplication, replacing of kinds, split BTF. An answer is checked
where there is another way to it: a look-up of a name by going through all types.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import struct
import sys
import time
from collections import Counter
from functools import lru_cache

if __name__ == "__main__":
    sys.path[:0] = [os.path.dirname(__file__)]

from btf_samples import every_kind
from core_corpus import Case

from btf.builder import Builder
from btf.core import Relocator
from btf.cprint import dump_c
from btf.dedup import deduplicate
from btf.diff import diff
from btf.distilled import relocate
from btf.dump import dump_raw
from btf.elf import sections
from btf.errors import BtfError
from btf.ext import parse_ext
from btf.ext_writer import ExtBuilder
from btf.format import COMPOSITES, ENUMS, KIND_ARRAY, KIND_DATASEC, KIND_FUNC_PROTO
from btf.layout import show
from btf.minimize import Minimizer
from btf.reader import Btf
from btf.sanitise import EVERYTHING, sanitise
from btf.search import find
from btf.table import Table
from btf.writer import blob, kind_layout, write

SECONDS = 5  # of CPU time that one blob may take
MEGABYTES = 64  # that one blob may take, beyond what the process has
_WORDS = (0, 1, 2, 3, 0x7F, 0xFF, 0x100, 0xFFFF, 0x10000, 0xFFFFFF, 0x1000000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_IDS = 300  # types of a blob that are looked at one by one


class Hang(BaseException):
    """A blob took too much time."""


def _every_kind() -> list[bytes]:
    """Blobs with every kind: as they are, in the other byte order, with a layout of kinds."""
    order = "big" if sys.byteorder == "little" else "little"
    kinds = every_kind(Builder(sys.byteorder))
    plain = Table(kinds.to_bytes())
    first, last = plain.header.type_off, plain.header.type_off + plain.header.type_len
    types, strings = kinds.to_bytes()[first:last], plain.strings
    layout = blob(types, strings, sys.byteorder, kind_layout(sys.byteorder))
    return [kinds.to_bytes(), every_kind(Builder(order)).to_bytes(), layout]


_KINDS = _every_kind()


@lru_cache(2)
def samples(seed: int) -> tuple[Case, list[bytes]]:
    """A case of CO-RE, and blobs to be changed: its two sides, and those with every kind."""
    case = Case(seed)
    return case, [case.target, case.builder.to_bytes(), *_KINDS]


def mutate(data: bytes, r: random.Random) -> bytes:
    """A few changes: bits, words, numbers that are limits, pieces cut, doubled and moved."""
    raw = bytearray(data)
    for _ in range(r.choice((1, 1, 1, 2, 3, 8))):
        if len(raw) < 8:
            break
        action = r.randrange(9)
        at = r.randrange(len(raw))
        word = r.randrange(len(raw) // 4) * 4
        if action == 0:
            raw[at] ^= 1 << r.randrange(8)
        elif action == 1:
            raw[at] = r.randrange(256)
        elif action in (2, 3):
            struct.pack_into(r.choice("<>") + "I", raw, word, r.choice(_WORDS))
        elif action == 4:  # a small number, as ids are
            struct.pack_into("=I", raw, word, r.randrange(64))
        elif action == 5:  # header
            struct.pack_into("=I", raw, r.randrange(1, min(8, len(raw) // 4)) * 4, r.choice((*_WORDS, len(raw), word)))
        elif action == 6:
            del raw[at : at + r.choice((1, 4, 12, 1000))]
        elif action == 7:
            size = r.choice((4, 12, 24))
            raw[word:word] = raw[at : at + size]
        else:  # the info word of a type: kind, flag and number of entries
            info = r.randrange(20) << 24 | r.choice((0, 0x80000000)) | r.choice((0, 1, 2, 5, 0xFFFF, 0xFFFFFF))
            struct.pack_into("=I", raw, word, info)
    return bytes(raw)


# ---- what is done with a blob -----------------------------------------------------------------


def read_all(btf: Btf) -> None:
    """Every accessor on every type; then each name must be found where going through all types finds it."""
    count = btf.type_count
    ids = range(min(count, _IDS))
    heads = {}
    for id in ids:
        kind = btf.kind(id)
        for step in (btf.label, btf.size, btf.resolve, btf.type, btf.kflag, btf.vlen):
            _try(step, id)
        if kind in COMPOSITES:
            _try(btf.members, id)
        elif kind in ENUMS:
            values = _try(btf.enumerators, id) or []
            for name, _ in values[:3]:
                _try(btf.find_enumerator, name)
        elif kind == KIND_FUNC_PROTO:
            _try(btf.params, id)
        elif kind == KIND_ARRAY:
            _try(btf.array, id)
        elif kind == KIND_DATASEC:
            _try(btf.vars, id)
        name = _try(btf.name, id)
        if name and id >= btf.first_id:
            heads.setdefault((name, kind), []).append(id)
    _try(btf.locate, count)
    # Names of bytes that are no UTF-8 have another spelling, which leads to nothing.
    for (name, kind), wanted in heads.items():
        if "\\x" not in name:
            got = [id for id in btf.find(name, (kind,), own=True) if id < _IDS]
            assert got == wanted, f"find({name!r}, {kind}) gave {got}, there are {wanted}"
            btf.find_flavours(name, (kind,))


def _try(step, id):
    try:
        return step(id)
    except BtfError:
        return None


def relocate_with(local: bytes, target: bytes, case: Case) -> None:
    code = bytearray(case.code)
    Relocator(Btf(local), Btf(target)).relocate(code, case.relos, "prog", sys.byteorder)


def cut_down(data: bytes, case: Case) -> None:
    keep = Minimizer(Table(data))
    keep.add(Btf(case.builder.to_bytes()), [relo[1:] for relo in case.relos])
    Table(keep.to_bytes())


def print_all(data: bytes) -> None:
    for _ in dump_raw(Table(data)):
        pass


def print_c(data: bytes) -> None:
    for _ in dump_c(Table(data)):
        pass


def show_all(data: bytes) -> None:
    table = Table(data)
    for id in table.ids:
        if table.kind(id) in COMPOSITES:
            try:
                list(show(table, id))
            except BtfError:
                pass
    list(find(table, "*", members=True))


def compare(data: bytes, original: bytes) -> None:
    list(diff(Table(original), Table(data)))


def dedup(data: bytes, original: bytes) -> None:
    found = deduplicate([Table(data), Table(original)])
    Table(found.data)


def write_again(data: bytes) -> None:
    table = Table(data)
    again = write(table)
    assert list(Table(again).records()) == list(table.records())


def split(data: bytes, base: bytes) -> None:
    below = Table(base)
    read_all(Btf(data, Btf(base)))
    table = Table(data, below)
    list(dump_raw(table))
    relocate(table, Table(base))


def ext(data: bytes, r: random.Random) -> None:
    builder = Builder(sys.byteorder)
    records = ExtBuilder(builder)
    for number in range(4):
        records.func("prog", 8 * number, number)
        records.line("prog", 8 * number, "file", "text", 1, 2)
        records.core("prog", 8 * number, 1, "0:1", 0)
    parse_ext(mutate(records.to_bytes(), r), sys.byteorder)


def steps(data: bytes, original: bytes, case: Case, r: random.Random):
    """What is done with a blob, by name."""
    return {
        "reader": lambda: read_all(Btf(data)),
        "table": lambda: read_all(Table(data)),
        "target": lambda: relocate_with(case.builder.to_bytes(), data, case),
        "local": lambda: relocate_with(data, case.target, case),
        "minimize": lambda: cut_down(data, case),
        "dump": lambda: print_all(data),
        "c": lambda: print_c(data),
        "show": lambda: show_all(data),
        "diff": lambda: compare(data, original),
        "dedup": lambda: dedup(data, original),
        "write": lambda: write_again(data),
        "sanitise": lambda: sanitise(data, r.choice((EVERYTHING, frozenset()))),
        "split": lambda: split(data, original),
        "base": lambda: split(original, data),
        "ext": lambda: ext(data, r),
        "elf": lambda: sections(b"\x7fELF\x02\x01" + data, (".BTF",)),
    }


def blob_of(number: int) -> tuple[Case, bytes, bytes, random.Random]:
    """``(case of CO-RE, unchanged blob, changed blob, source of chance)``."""
    r = random.Random(number)
    case, blobs = samples(number // 8)
    original = blobs[r.choice((0, 0, 1, 1, 2, 2, 3, 4))]
    return case, original, mutate(original, r), r


def run(first: int, count: int) -> tuple[Counter[str], list[str]]:
    """How often each step gave an answer or our error, and what went wrong."""
    seen: Counter[str] = Counter()
    complaints = []

    def stop(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGVTALRM, stop)
    slowest = 0.0
    try:
        for number in range(first, first + count):
            case, original, data, r = blob_of(number)
            for name, step in steps(data, original, case, r).items():
                start = time.process_time()
                signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
                try:
                    step()
                    seen[f"{name}: answer"] += 1
                except BtfError as error:
                    seen[f"{name}: error"] += 1
                    if "\n" in str(error):
                        complaints.append(f"case {number}: {name}: an error of two lines: {error!r}")
                except (Exception, Hang) as error:
                    complaints.append(f"case {number}: {name}: {type(error).__name__}: {str(error)[:200]}")
                finally:
                    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
                slowest = max(slowest, time.process_time() - start)
    finally:
        signal.signal(signal.SIGVTALRM, before)
    seen["slowest step, ms"] = round(slowest * 1000)
    return seen, complaints


def limit_memory() -> None:
    """A blob that wants more than MEGABYTES gets a MemoryError from here on."""
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])
    most = pages * os.sysconf("SC_PAGESIZE") + (MEGABYTES << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main() -> int:
    words = [*sys.argv[1:], *("100000", "0")[len(sys.argv) - 1 :]]
    count, first = int(words[0]), int(words[1])
    run(first, 20)  # everything imported
    limit_memory()
    seen, complaints = run(first, count)
    for name, number in sorted(seen.items()):
        print(f"{name:24} {number:7}")
    print(f"peak RSS {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss} KB")
    print("\n".join(complaints[:20]) or f"{count} blobs: nothing but answers and our errors")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
