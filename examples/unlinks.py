"""Who deletes files: counts unlink and unlinkat by command until Ctrl-C, then prints the table.

Run it as root. It can also be built ahead of time, with
``python3 -m pybpf build examples/unlinks.py -o unlinks.o``.
"""

from __future__ import annotations

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))

from pybpf.lang import *

LICENSE = "GPL"


class Who(Struct):
    comm: char[16]
    uid: u32


counts = Hash(Who, u64, 1024)


@inline
def count():
    who = Who()
    get_current_comm(who.comm)
    who.uid = uid()
    counts[who] += 1


@tracepoint("syscalls", "sys_enter_unlink")
def on_unlink(ctx):
    count()
    return 0


@tracepoint("syscalls", "sys_enter_unlinkat")
def on_unlinkat(ctx):
    count()
    return 0


def main() -> None:
    from pybpf.lang import compile_functions
    from pybpf.links import attach
    from pybpf.loader import Collection
    from pybpf.object.reader import read_object

    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 1e9
    spec = read_object(compile_functions([on_unlink, on_unlinkat]))
    with Collection(spec, ["on_unlink", "on_unlinkat"]) as loaded:
        links = [attach(program) for program in loaded.programs.values()]
        print("counting; Ctrl-C ends", flush=True)
        try:
            time.sleep(seconds)
        except KeyboardInterrupt:
            pass
        for link in links:
            link.close()
        for key, value in loaded.maps["counts"].items():
            name = key[:16].partition(b"\0")[0].decode(errors="replace")
            uid = int.from_bytes(key[16:20], sys.byteorder)
            print(f"{name:16} uid {uid:<6} {int.from_bytes(value, sys.byteorder):8}")


if __name__ == "__main__":
    main()
