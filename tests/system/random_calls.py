"""``random_calls.py --seed N --count N``: system calls with random arguments, told by strace and by bfer in one run.

Nothing takes place: see denied_calls.py. Prints what was compared, what strace knows more, and the differences.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from call_compare import RandomComparison  # noqa: E402
from call_plan import Plan  # noqa: E402
from denied_calls import COMM  # noqa: E402
from strace_compare import Call, read_bfer, read_strace  # noqa: E402


def run(plan: Plan, folder: Path) -> tuple[list[Call], list[dict]]:
    """What strace and bfer tell of a plan's calls. Raises OSError where that cannot be had."""
    file, events, log = folder / "plan", folder / "events.json", folder / "log"
    plan.write(file)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "bfer", "trace", "-q", "set=syscalls", f"comm={COMM.decode()}"),
            *("--buffer", "32M", "-o", f"json:{events}", "-o", "option:parse-arguments", "--"),
            *("strace", "-ff", "-xx", "-v", "-s", "9999", "-e", "signal=none", "-o", str(log)),
            *(os.path.realpath(sys.executable), "-S", "-E", "-B", str(Path(__file__).with_name("denied_calls.py"))),
            str(file),
        ],
        env={"PATH": os.environ["PATH"], "LC_ALL": "C", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise OSError(done.stderr)
    (theirs,) = read_strace(log).values()
    (mine,) = read_bfer(events).values()
    first = next(i for i, call in enumerate(theirs) if call.line.startswith("prctl(PR_SET_SECCOMP"))
    begun = next(i for i, e in enumerate(mine) if e["eventName"] == "prctl" and "PR_SET_SECCOMP" in str(e["args"]))
    return theirs[first + 1 :], mine[begun + 1 :]


def compare(plan: Plan, theirs: list[Call], mine: list[dict], machine: str) -> RandomComparison:
    """Finds the plan's calls among those that the interpreter makes for itself."""
    comparison = RandomComparison(machine)
    if len(theirs) != len(mine):
        comparison.differences.append(f"{len(mine)} calls, strace {len(theirs)}")
    planned = iter(plan.calls)
    wanted = next(planned, None)
    for call, event in zip(theirs, mine):
        if wanted is not None and event["eventName"] == wanted[0] and call.name in (wanted[0], wanted[2]):
            comparison.planned(call, event, wanted[1])
            wanted = next(planned, None)
    if wanted is not None:
        comparison.differences.append(f"{wanted[0]} is missing, and what follows")
    return comparison


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--only", default="", help="calls, by commas")
    parser.add_argument("--keep", help="a folder for the plan and what both have told")
    options = parser.parse_args()
    machine = os.uname().machine
    plan = Plan(options.seed, options.count, machine, options.only.split(",") if options.only else ())
    with tempfile.TemporaryDirectory() as folder:
        if options.keep:
            os.makedirs(options.keep, exist_ok=True)
            for old in Path(options.keep).glob("log.*"):
                old.unlink()
        theirs, mine = run(plan, Path(options.keep or folder))
    comparison = compare(plan, theirs, mine, machine)
    print(f"{comparison.calls} calls, {comparison.arguments} arguments; by rule: {dict(comparison.rules)}")
    print("strace knows more:", ", ".join(f"{name} ({n})" for name, n in sorted(comparison.more.items())))
    print("addresses:", ", ".join(f"{name} ({n})" for name, n in sorted(comparison.addresses.items())))
    for difference in comparison.differences:
        print(difference)
    return bool(comparison.differences)


if __name__ == "__main__":
    sys.exit(main())
