"""Our CO-RE against libbpf's, case by case: ``python -m tests.btf.core_oracle [COUNT [FIRST]]``.

Two differences are known and told apart, everything else is a failure:

* *truncated*: a value of more than 32 bits in an ALU instruction. libbpf cuts it
  without a word; here it is an error.
* *element*: whether a load may change its size is decided by an array's element
  here and in libbpf 1.6 and later (Linux 6.15), by the whole array before. With the
  old rule in place of ours the results must be equal.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter

if __name__ == "__main__":
    sys.path[:0] = [os.path.dirname(__file__)]

from core_corpus import Case
from libbpf import Libbpf, make_object

from btf import core
from btf.core_spec import KIND_LABELS
from btf.errors import BtfError
from btf.reader import Btf

# What libbpf's log says of the rules that a case has met.
RULES = {
    "ambiguous value": "relocation decision ambiguity",
    "ambiguous offset": "field offset ambiguity",
    "poisoned": "substituting insn",
    "size adjusted": ") mem_sz ",
    "size that cannot change": "accesses field incorrectly",
    "local value is wrong": "unexpected insn",
    "no target": "no matching targets found",
    "candidate dropped": "non-matching candidate",
    "bad spec": "parsing [",
}


def ours(case: Case, local: bytes) -> tuple[bytes | None, str]:
    """``(patched code or None, error)``."""
    code = bytearray(case.code)
    try:
        core.Relocator(Btf(local), Btf(case.target)).relocate(code, case.relos, "prog", sys.byteorder)
    except BtfError as error:
        return None, str(error)
    return bytes(code), ""


def compare(case: Case, libbpf: Libbpf, path: str) -> tuple[str, str]:
    """``(outcome, complaint)``: the outcome is failed, unchanged, patched or a known difference."""
    # Before the object adds types of its own: ids stay what they are.
    local = case.builder.to_bytes()
    with open(path, "wb") as file:
        file.write(case.target)
    got, error = ours(case, local)
    wanted = libbpf.relocate(make_object(case.builder, case.code, case.relos), path)
    if got == wanted:
        return ("failed" if wanted is None else "unchanged" if wanted == case.code else "patched"), ""
    if got is None and wanted is not None and "does not fit into the 32 bits" in error:
        return "truncated", ""
    with_our_rule, core._element_size = core._element_size, Btf.size
    try:
        if tuple(map(int, libbpf.version.lstrip("v").split("."))) < (1, 6) and ours(case, local)[0] == wanted:
            return "element", ""
    finally:
        core._element_size = with_our_rule
    told = "\n".join(line for line in libbpf.log if "relo #" in line or "CO-RE" in line)
    return "different", f"{case.relos}\nours: {got.hex() if got else error}\nlibbpf: {wanted and wanted.hex()}\n{told}"


def run(first: int, count: int) -> tuple[Counter[str], list[str]]:
    """Cases ``first`` and on: how often each outcome, rule and relocation kind occurred, and complaints."""
    seen: Counter[str] = Counter()
    complaints = []
    libbpf = Libbpf()
    try:
        with tempfile.TemporaryDirectory() as folder:
            for seed in range(first, first + count):
                case = Case(seed)
                outcome, complaint = compare(case, libbpf, f"{folder}/target.btf")
                seen[outcome] += 1
                log = "\n".join(libbpf.log)
                seen.update(rule for rule, text in RULES.items() if text in log)
                seen.update(KIND_LABELS[kind] for _, _, _, kind in case.relos)
                if complaint:
                    complaints.append(f"case {seed}: {complaint}")
    finally:
        libbpf.close()
    return seen, complaints


def main() -> int:
    words = [*sys.argv[1:], *("10000", "0")[len(sys.argv) - 1 :]]
    seen, complaints = run(int(words[1]), int(words[0]))
    for name, count in sorted(seen.items()):
        print(f"{name:24} {count:7}")
    print("\n\n".join(complaints[:10]) or "no difference")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
