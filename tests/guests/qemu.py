"""Boots a guest, streams what its command prints, and returns the command's exit status."""

from __future__ import annotations

import os
import re
import secrets
import select
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from . import module, project, roots
from .fetch import need
from .kernel import Kernel, kernel, modules
from .matrix import ARCHES, Guest, Unavailable, cache

_APPEND = "quiet panic=-1 mitigations=off nokaslr cryptomgr.notests rcupdate.rcu_expedited=1"
_DISK = "root=/dev/nvme0n1p1 rootwait ro init=/init"

# Runs as process 1 from the second partition, after the root's own /init.
_INIT = """\
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb PYTHONDONTWRITEBYTECODE={compiled}
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
for at in /tmp /run /dev/shm /root /var/tmp; do mount -t tmpfs none $at; done
mount -t tracefs none /sys/kernel/tracing
mount -t debugfs none /sys/kernel/debug
mount -t bpf none /sys/fs/bpf
mount -t securityfs none /sys/kernel/security
mount -t cgroup2 none /sys/fs/cgroup
mount -o bind /mnt/project /project
[ ! -e /mnt/boot ] || ln -s /mnt/boot /boot
ln -s /proc/self/fd /dev/fd
ip link set lo up
hostname guest
stty -F /dev/{tty} raw -echo
for module in {modules}; do insmod /mnt/modules/$module.ko || echo "insmod $module failed"; done >/dev/{tty} 2>&1
export PYTHONPATH=/project/bfer.pyz:/project BFER_GUEST={name}
cd /project
setsid sh /mnt/command </dev/null >/dev/{tty} 2>&1
printf '\\n{mark} %d\\n' $? >/dev/{tty}
sync
poweroff -f
"""


class Machine:
    """A guest that is ready to boot: kernel and root are there. Raises Unavailable if they cannot be had."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.arch = ARCHES[guest.arch]
        command = self.arch.qemu.split()
        if guest.cpu:
            command[command.index("-cpu") + 1] = guest.cpu
        self.program = [need(command[0], self.arch.package), *command[1:]]
        self.kernel: Kernel = kernel(guest)
        self.root: Path = roots.image(guest)

    def run(
        self,
        command: str,
        output: Callable[[bytes], object],
        *,
        archive: Path | None = None,
        tests: bool = False,
        wanted: tuple[str, ...] = (),
        optional: bool = False,
        timeout: float = 600,
    ) -> tuple[int, str]:
        """Boot, run a shell command in /project, power off.

        ``wanted`` are kernel modules to load first; ``optional`` goes on without those that the kernel does not have.
        ``output`` gets what the command prints as it comes. Returns the exit status and the
        kernel's log; 255 is the status of a guest that ended without one, or was too slow.
        """
        mark = "@@guest-exit-" + secrets.token_hex(8)
        with tempfile.TemporaryDirectory(dir=cache(), prefix=".run-") as name:
            work = Path(name)
            loaded = modules(self.kernel.modules, list(wanted), optional)
            self._stage(work / "disk", command, mark, archive, tests, loaded)
            process = subprocess.Popen(
                self._command(work), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            try:
                status = _stream(process, output, b"\n" + mark.encode() + b" ", time.monotonic() + timeout)
            finally:
                process.kill()
                process.wait()
                assert process.stdout is not None
                process.stdout.close()
            log = work / "console"
            return status, log.read_text("utf-8", "replace") if log.exists() else ""

    def _stage(
        self, disk: Path, command: str, mark: str, archive: Path | None, tests: bool, loaded: list[tuple[str, bytes]]
    ) -> None:
        """Fill the folder that becomes /mnt: what this run is about, and the module that checks load."""
        (disk / "modules").mkdir(parents=True)
        for name, data in loaded:
            (disk / "modules" / f"{name}.ko").write_bytes(data)
        for name, data in module.images(self.kernel, cache() / "modules"):
            (disk / "modules" / f"{name}.ko").write_bytes(data)
        names = " ".join(name for name, _ in loaded)
        # A root whose Python is not the one that byte code is made for has none: it keeps what it makes at first use.
        compiled = "1" if self.arch.python == "3.11" else ""
        init = _INIT.format(tty=self.arch.tty, mark=mark, name=self.guest.name, modules=names, compiled=compiled)
        (disk / "init").write_text(init)
        (disk / "command").write_text(command + "\n")
        # Where there is no BTF, the configuration is all that tells what the kernel was built without.
        if not self.arch.disk and self.kernel.config.exists():
            (disk / "boot").mkdir()
            shutil.copy(self.kernel.config, disk / "boot" / f"config-{self.kernel.release}")
        project.stage(disk / "project", archive, tests, self.arch.python)

    def _command(self, work: Path) -> list[str]:
        serial = ["-serial", f"file:{work}/console", "-serial", "stdio"]
        if self.arch.tty != "ttyS1":
            serial = ["-serial", "stdio"]
        append = f"{_APPEND} {self.arch.append} {self.guest.append}"
        if self.arch.disk:
            roots.ext4(work / "disk", work / "disk.ext4")
            roots.disk((self.root, work / "disk.ext4"), work / "disk.img")
            disks = ["-drive", f"file={work}/disk.img,if=none,id=disk,format=raw"]
            disks += ["-device", "nvme,serial=0,drive=disk"]
            append += f" {_DISK}"
        else:
            # The kernel unpacks archives that stand behind each other.
            with open(work / "initrd", "wb") as file, open(self.root, "rb") as root:
                shutil.copyfileobj(root, file)
                roots.cpio(work / "disk", "mnt", file)
            disks = ["-initrd", str(work / "initrd")]
        machine = ["-accel", "tcg", "-m", str(self.guest.memory), "-smp", "1", "-nodefaults", "-display", "none"]
        boot = ["-no-reboot", "-kernel", str(self.kernel.image), "-append", append]
        return [*self.program, *machine, *serial, *disks, *boot]


def _stream(process: subprocess.Popen[bytes], output: Callable[[bytes], object], mark: bytes, end: float) -> int:
    """Pass on what comes before the mark; the number behind it is the exit status."""
    assert process.stdout is not None
    held = b""
    while True:
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            output(held + b"\nguest: too slow, stopped\n")
            return 255
        chunk = os.read(process.stdout.fileno(), 65536)
        held += chunk
        at = held.find(mark)
        if at >= 0:
            status = re.match(rb"(\d+)\r?\n", held[at + len(mark) :])
            if status:
                output(held[:at])
                return int(status[1])
        if not chunk:
            output(held + b"\nguest: ended without an exit status\n")
            return 255
        if at < 0:
            # What might be the mark's beginning waits for the rest.
            keep = next(
                (size for size in range(min(len(mark) - 1, len(held)), 0, -1) if mark.startswith(held[-size:])), 0
            )
            if len(held) > keep:
                output(held[: len(held) - keep])
                held = held[len(held) - keep :]


def shell(words: list[str]) -> str:
    """The shell command for the words after ``--``: one word is a script, more are a command line."""
    return words[0] if len(words) == 1 else shlex.join(words)


__all__ = ["Machine", "Unavailable", "shell"]
