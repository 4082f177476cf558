"""Numbers mean other calls in the table of 32-bit processes, and some mean none."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from running import bfer, events

pytestmark = pytest.mark.native

# Both tables in one process: `int $0x80` is the 32-bit table's way, for processes of 64 bits too.
SOURCE = r"""
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

static char path[] = "/no/such/32", here[] = "/no/such/64";

static long call32(long number, long a, long b, long c, long d)
{
	long result;
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d)
		: "memory", "r8", "r9", "r10", "r11");
	return result;
}

int main(void)
{
	call32(295, AT_FDCWD, (long)path, O_RDONLY, 0); /* openat; 64-bit: preadv */
	syscall(SYS_preadv, 77, here, 1, 0, 0);
	call32(257, 0, 0, 0, 0);                        /* remap_file_pages; 64-bit: openat */
	syscall(SYS_openat, AT_FDCWD, here, O_RDONLY, 0);
	syscall(295 + 512, AT_FDCWD, here, 0, 0);       /* none */
	call32(10, (long)path, 0, 0, 0);                /* unlink; 64-bit: mprotect */
	syscall(SYS_mprotect, 0, 0, 0);
	call32(6, 78, 0, 0, 0);                         /* close; 64-bit: lstat */
	syscall(SYS_close, 79);
	return 0;
}
"""
OPENS = [
    ("openat", "dirfd: -100, pathname: /no/such/32, flags: O_RDONLY, mode: 0"),
    ("openat", "dirfd: -100, pathname: /no/such/64, flags: O_RDONLY, mode: 0"),
]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if not compiler or os.uname().machine != "x86_64":
        pytest.skip("needs an x86-64 and its C compiler")
    folder = tmp_path_factory.mktemp("numbers")
    (folder / "both.c").write_text(SOURCE)
    # Static, for it then opens nothing else, and where a pointer has 32 bits at most.
    command = [compiler, "-no-pie", "-static", "-o", folder / "both", folder / "both.c"]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("there is no C library to link statically")
    if subprocess.run([folder / "both"], check=False).returncode < 0:
        pytest.skip("this kernel has no table of 32-bit processes")
    return folder / "both"


def seen(words: str, program: Path) -> list[tuple[str, str]]:
    output = bfer("trace", words, "--", str(program)).stdout
    rows = [(row[6], row[7]) for row in events(output)]
    return [row for row in rows if "0x" not in row[1] or row[0] == "preadv"]  # not mprotect of what it is loaded with


def test_one_call(both: Path) -> None:
    assert seen("event=openat", both) == OPENS


def test_calls_of_one_number(both: Path) -> None:
    """preadv and mprotect are handed over to other programs than the 32-bit calls of these numbers."""
    rows = seen("event=openat,preadv,close,unlink,mprotect", both)
    names = [name for name, _ in rows]
    assert names == ["openat", "preadv", "openat", "unlink", "mprotect", "close", "close"]
    assert [rows[0], rows[2]] == OPENS
    assert rows[3:] == [
        ("unlink", "pathname: /no/such/32"),
        ("mprotect", "addr: NULL, len: 0, prot: PROT_NONE"),
        ("close", "fd: 78"),
        ("close", "fd: 79"),
    ]
