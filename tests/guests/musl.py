"""A small firmware's root, built from Debian's sources: CPython on musl and busybox, about 12 MB.

The interpreter is dynamic against musl's libc.so (so ctypes works) and holds all its
extension modules; the standard library is byte code only and lacks what firmware lacks. ``python3-static``
is the same interpreter linked statically, which can load no library.

x86-64 is compiled by musl-gcc. arm64 is compiled by the C compiler of the package ziglang (340 MB, put into
the cache), which knows musl for many machines; it gets Debian's own libc.so and busybox.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from .fetch import need, once, packages, run, say, sources
from .matrix import ROOT_SUITE, Unavailable, cache
from .roots import compile_all, furnish, python311

_RECIPE = 2  # of this file: another recipe is another root in the cache
_SOURCES = ("python3.11", "libffi", "zlib")
_ZIG = "ziglang==0.16.0"
_CONFIGURE = (
    *("--prefix=/usr", "--without-ensurepip", "--disable-test-modules", "--with-dbmliborder=", "--disable-ipv6"),
    *("--without-doc-strings", "MODULE_BUILDTYPE=static"),
)
# Extension modules that firmware does without, or that want libraries it does not have.
_NO_MODULES = re.compile(
    r"#|$|\*shared\*|_crypt\b|spwd|.*(_codecs_|_multibyte|_testi|audioop|nis |ossaudio|_tkinter|_sqlite|_ssl|_hashlib"
    r"|_curses|readline|_gdbm|_dbm|xxlimited|_xxtest|_lzma|_bz2|_uuid)"
)
# makesetup takes a line with "=" for a make variable: hence -DNAME without a value.
_CTYPES = (
    "_ctypes _ctypes/_ctypes.c _ctypes/callbacks.c _ctypes/callproc.c _ctypes/stgdict.c _ctypes/cfield.c "
    "-DHAVE_FFI_PREP_CIF_VAR -DHAVE_FFI_PREP_CLOSURE_LOC -DHAVE_FFI_CLOSURE_ALLOC "
    "-I{prefix}/include {prefix}/lib/libffi.a\n"
)
# The parts of the standard library that stay out.
_NO_LIBRARY = """
lib2to3 pydoc_data distutils ensurepip idlelib tkinter turtledemo test wsgiref dbm sqlite3 xmlrpc curses
multiprocessing asyncio email http html xml msilib venv zoneinfo unittest logging __pycache__
pydoc.py doctest.py turtle.py pickletools.py _pydecimal.py decimal.py fractions.py statistics.py imaplib.py
smtpd.py smtplib.py ftplib.py nntplib.py poplib.py telnetlib.py mailbox.py cgi.py cgitb.py tarfile.py pdb.py
ssl.py plistlib.py webbrowser.py cProfile.py profile.py pstats.py tracemalloc.py optparse.py
"""
_ENCODINGS = {"__init__.py", "aliases.py", "ascii.py", "latin_1.py", "utf_8.py", "cp437.py", "charmap.py"}


def name(arch: str) -> str:
    """The root's name in the cache."""
    return f"musl-{arch}-{_RECIPE}"


def build(arch: str) -> Path:
    """The folder of the musl root, built first if the cache has none (some minutes). Raises Unavailable."""
    final = cache() / "roots" / name(arch)
    with once(final) as root:
        if root is not None:
            need("gcc", "gcc")
            need("make", "make")
            if os.uname().machine != "x86_64":
                raise Unavailable("the musl roots are built on x86-64 only")
            work = cache() / f"build-{arch}"
            shutil.rmtree(work, ignore_errors=True)
            (_Native if arch == "amd64" else _Cross)(work).root(root)
            shutil.rmtree(work)
    return final


class _Builder:
    """The steps that all machines share. ``host`` are configure's options for another machine than this."""

    loader = ""  # musl's well-known name
    host: tuple[str, ...] = ()
    cc: Path
    flags = "-Os"
    link_flags = ""

    def __init__(self, work: Path) -> None:
        self.work, self.prefix, self.log = work, work / "prefix", work / "log"
        self.started = time.monotonic()
        self.environment: dict[str, str] = {}
        (self.prefix / "lib/pkgconfig").mkdir(parents=True)
        (self.prefix / "include").mkdir()

    def libc(self) -> Path:
        """The musl that programs are started with."""
        raise NotImplementedError

    def busybox(self) -> Path:
        raise NotImplementedError

    def root(self, root: Path) -> None:
        sources(ROOT_SUITE, _SOURCES, self.work)
        self.libffi(self.source("libffi-*"))
        self.zlib(self.source("zlib-*"))
        python = self.python(self.source("python3.11-*"))
        busybox, libc = self.busybox(), self.libc()
        self.step("root")
        for folder in ("bin", "lib", "usr/bin", "usr/lib"):
            (root / folder).mkdir(parents=True)
        shutil.copy(python, root / "usr/bin/python3.11")
        (root / "usr/bin/python3").symlink_to("python3.11")
        shutil.copy(python.parent / "python-static", root / "usr/bin/python3-static")
        shutil.copy(libc, root / "lib/libc.so")
        (root / "lib/libc.so").chmod(0o755)
        (root / "lib" / self.loader).symlink_to("libc.so")
        shutil.copy(busybox, root / "bin/busybox")
        library = root / "usr/lib/python3.11"
        _library(
            python.parent / "Lib" if (python.parent / "Lib").is_dir() else self.source("python3.11-*") / "Lib", library
        )
        (library / "lib-dynload").mkdir()  # empty; how Python recognises its exec_prefix
        compile_all(root, library, "-OO")
        for path in library.rglob("*.py"):
            path.unlink()
        furnish(root)
        size = sum(path.lstat().st_size for path in root.rglob("*") if not path.is_dir())
        say(f"musl root: {size / 1e6:.1f} MB, built in {time.monotonic() - self.started:.0f} s")

    def source(self, pattern: str) -> Path:
        return next(path for path in sorted(self.work.glob(pattern)) if path.is_dir())

    def step(self, text: str) -> None:
        say(f"musl: {text} ({time.monotonic() - self.started:.0f} s)")

    def call(self, folder: Path, *command: str, **environment: str) -> None:
        """Run a command of the build. Raises Unavailable with the first error in its output."""
        settings = {
            **os.environ,
            "CC": str(self.cc),
            "CFLAGS": self.flags,
            "CPPFLAGS": f"-I{self.prefix}/include",
            "LDFLAGS": f"-L{self.prefix}/lib {self.link_flags}".strip(),
            "PKG_CONFIG_LIBDIR": f"{self.prefix}/lib/pkgconfig",
            "PKG_CONFIG_PATH": "",
            **self.environment,
            **environment,
        }
        with open(self.log, "wb") as log:
            done = subprocess.run(
                ["nice", *command],
                cwd=folder,
                env=settings,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=False,
            )
        if done.returncode:
            lines = self.log.read_text(errors="replace").strip().splitlines() or ["no output"]
            bad = [line for line in lines if re.search(r"error|undefined|Error ", line)]
            raise Unavailable(f"building the musl root: {folder.name}: {command[0]}: {(bad or lines[-1:])[0].strip()}")

    def make(self, folder: Path, *words: str, **environment: str) -> None:
        self.call(folder, "make", "-s", f"-j{os.cpu_count() or 1}", *words, **environment)

    def libffi(self, folder: Path) -> None:
        self.step("libffi")
        flags = ("--enable-static", "--disable-shared", "--disable-docs", "--disable-multi-os-directory")
        self.call(folder, "./configure", "-q", f"--prefix={self.prefix}", *self.host, *flags)
        self.make(folder)
        self.make(folder, "install")

    def zlib(self, folder: Path) -> None:
        self.step("zlib")
        self.call(folder, "./configure", "--static", f"--prefix={self.prefix}")
        self.make(folder, "libz.a")
        for name, to in (
            ("libz.a", "lib"),
            ("zlib.h", "include"),
            ("zconf.h", "include"),
            ("zlib.pc", "lib/pkgconfig"),
        ):
            shutil.copy(folder / name, self.prefix / to)

    def python(self, folder: Path) -> Path:
        self.step("python: configure")
        out = self.work / "python"
        out.mkdir()
        self.call(out, str(folder / "configure"), "-q", *_CONFIGURE, *self.python_host())
        lines = (out / "Modules/Setup.stdlib").read_text().splitlines(keepends=True)
        kept = [line for line in lines if not _NO_MODULES.match(line)]
        (out / "Modules/Setup.local").write_text("".join(kept) + _CTYPES.format(prefix=self.prefix))
        self.step("python: make")
        self.make(out, "python")
        (out / "python").rename(out / "python-dynamic")
        # Nothing is compiled anew, only linked.
        self.make(out, "python", f"LDFLAGS=-static -L{self.prefix}/lib {self.link_flags}", "LINKFORSHARED=")
        (out / "python").rename(out / "python-static")
        (out / "python-dynamic").rename(out / "python")
        if not self.link_flags:
            self.call(out, "strip", "python", "python-static")
        return out / "python"

    def python_host(self) -> tuple[str, ...]:
        return self.host


class _Native(_Builder):
    """x86-64, by musl-gcc; busybox from its sources too."""

    loader = "ld-musl-x86_64.so.1"

    def __init__(self, work: Path) -> None:
        need("musl-gcc", "musl-tools")
        super().__init__(work)
        # musl-gcc answers --print-multiarch with glibc's triplet, at which CPython's configure stops.
        self.cc = work / "musl-cc"
        self.cc.write_text('#!/bin/sh\ncase " $* " in *" --print-multiarch "*) exit 0;; esac\nexec musl-gcc "$@"\n')
        self.cc.chmod(0o755)
        # It knows no kernel headers either; without them AF_NETLINK is missing and busybox does not compile.
        headers = work / "headers"
        headers.mkdir()
        for name, at in (("linux", ""), ("asm-generic", ""), ("mtd", ""), ("scsi", ""), ("asm", "x86_64-linux-gnu/")):
            if not os.path.isdir(f"/usr/include/{at}{name}"):
                raise Unavailable(f"/usr/include/{at}{name} is missing (Debian package linux-libc-dev)")
            (headers / name).symlink_to(f"/usr/include/{at}{name}")
        self.flags = f"-Os -isystem {headers}"

    def libc(self) -> Path:
        return Path("/lib") / self.loader

    def busybox(self) -> Path:
        sources(ROOT_SUITE, ("busybox",), self.work / "applets")
        folder = self.source("applets/busybox-*")
        self.step("busybox")
        self.make(folder, "defconfig")
        config = (folder / ".config").read_text()
        for option in ("SELINUX", "FEATURE_HAVE_RPC", "FEATURE_MOUNT_NFS", "FEATURE_INETD_RPC", "TC"):
            config = config.replace(f"CONFIG_{option}=y\n", f"# CONFIG_{option} is not set\n")
        config = config.replace("# CONFIG_STATIC is not set", "CONFIG_STATIC=y")
        (folder / ".config").write_text(config)
        self.call(folder, "sh", "-c", "yes '' | make -s oldconfig")
        compiler = (f"CC={self.cc}", f"EXTRA_CFLAGS={self.flags}", "HOSTCC=gcc")
        self.make(folder, *compiler, CFLAGS="", CPPFLAGS="", LDFLAGS="")
        return folder / "busybox"


class _Cross(_Builder):
    """arm64, by zig's C compiler."""

    loader = "ld-musl-aarch64.so.1"
    host = ("--host=aarch64-linux-musl",)
    flags = "-Os -Wno-date-time -Wno-error=implicit-function-declaration -fno-sanitize=undefined"
    link_flags = "-s"

    def __init__(self, work: Path) -> None:
        super().__init__(work)
        zig = _zig()
        for name, command in (
            ("cc", "cc -target aarch64-linux-musl -dynamic"),
            ("ar", "ar"),
            ("ranlib", "ranlib"),
        ):
            path = work / name
            # configure would take an answer to --print-multiarch for a mistake.
            quiet = 'case " $* " in *" --print-multiarch "*) exit 0;; esac\n' if name == "cc" else ""
            path.write_text(f'#!/bin/sh\n{quiet}exec {zig} {command} "$@"\n')
            path.chmod(0o755)
        self.cc = work / "cc"
        self.environment = {"AR": f"{work}/ar", "RANLIB": f"{work}/ranlib", "READELF": need("readelf", "binutils")}
        self.environment["ZIG_GLOBAL_CACHE_DIR"] = self.environment["ZIG_LOCAL_CACHE_DIR"] = f"{work}/zig"

    def python_host(self) -> tuple[str, ...]:
        python = python311()
        if len(python) != 1:
            raise Unavailable("cross-compiling Python needs an installed Python 3.11")
        answers = ("ac_cv_file__dev_ptmx=yes", "ac_cv_file__dev_ptc=no", "ac_cv_buggy_getaddrinfo=no")
        # zig's musl (1.2.5) has them, Debian's (1.2.3) has not.
        answers += ("ac_cv_func_preadv2=no", "ac_cv_func_pwritev2=no")
        return (*self.host, "--build=x86_64-linux-gnu", f"--with-build-python={python[0]}", *answers)

    def libc(self) -> Path:
        return self.package("musl", "lib/aarch64-linux-musl/libc.so")

    def busybox(self) -> Path:
        return self.package("busybox-static", "bin/busybox")

    def package(self, name: str, file: str) -> Path:
        """A file of one of Debian's arm64 packages."""
        folder = self.work / "packages" / name
        packages(ROOT_SUITE, "arm64", (re.escape(name),), folder)
        return folder / file


def _zig() -> Path:
    """The zig of the package ziglang, installed into the cache first. Raises Unavailable."""
    final = cache() / "packages" / _ZIG.replace("==", "-")
    with once(final) as partial:
        if partial is not None:
            say(f"installing {_ZIG}")
            pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target"]
            run([*pip, str(partial), _ZIG], f"pip install {_ZIG}")
    return final / "ziglang" / "zig"


def _library(source: Path, target: Path) -> None:
    def left_out(folder: str, names: list[str]) -> set[str]:
        where = os.path.relpath(folder, source)
        if where == ".":
            return set(_NO_LIBRARY.split()) & set(names)
        if where == "encodings":
            return set(names) - _ENCODINGS
        return {"test", "macholib", "__pycache__"} & set(names)

    shutil.copytree(source, target, ignore=left_out)
    # zipfile names cp437 and utf_8; logging is small without its handlers.
    (target / "logging").mkdir()
    shutil.copy(source / "logging/__init__.py", target / "logging/__init__.py")
