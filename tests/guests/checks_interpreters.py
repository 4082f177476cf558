"""Pythons as small systems have them: bfer works with them, or says in one line what is missing."""

from __future__ import annotations

import shutil
import subprocess
import sys

from tests.guests.checks import check, equal, skip
from tests.guests.checks_trace import skip_where_it_cannot_run

TRACE = ["trace", "event=open*", "--", "cat", "/etc/passwd"]
# bfer in a Python without the module MISSING.
WITHOUT = """
import sys
sys.modules[{missing!r}] = None
sys.argv[0] = "bfer"
from bfer.__main__ import main
sys.exit(main())
"""


def run(*words):
    done = subprocess.run(words, capture_output=True, check=False)
    if b"_ctypes" not in done.stderr:
        skip_where_it_cannot_run(done.returncode, done.stderr.decode())
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@check
def check_statically_linked_python():
    """It can load no library, so has no libc to call: system calls go by a few bytes of machine code."""
    static = shutil.which("python3-static")
    if static is None:
        skip("there is no statically linked Python here (python3-static)")
    code = "import _ctypes\ntry: _ctypes.dlopen(None, 0)\nexcept OSError as error: print(error)"
    assert "not supported" in subprocess.check_output([static, "-c", code], text=True)
    status, output, errors = run(static, "-m", "bfer", *TRACE)
    equal((status, "pathname: /etc/passwd," in output), (0, True))
    assert "Traceback" not in errors, errors


@check
def check_python_without_ctypes():
    """No way to call bpf(): one line that names the module and the package that brings it."""
    status, output, errors = run(sys.executable, "-c", WITHOUT.format(missing="_ctypes"), *TRACE)
    equal((status, output), (1, ""))
    equal(errors.count("\n"), 1)
    assert "no _ctypes module" in errors, errors
    assert "python3-ctypes" in errors, errors


@check
def check_python_without_what_firmware_lacks():
    """The modules that distributions split off are not needed to trace."""
    missing = ("asyncio", "logging", "email", "unittest", "ssl", "sqlite3", "multiprocessing", "ctypes", "decimal")
    code = f"import sys\nfor name in {missing!r}: sys.modules[name] = None\n"
    code += WITHOUT.format(missing="xml")
    status, output, errors = run(sys.executable, "-c", code, *TRACE)
    equal((status, "pathname: /etc/passwd," in output), (0, True))
    assert "Traceback" not in errors, errors
