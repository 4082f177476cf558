"""Packages and sources of any Debian suite and architecture, through this machine's apt configuration.

Nothing is installed: packages are downloaded and unpacked. The archive's address is
the one that the machine's own sources name; only suite and architecture are replaced.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from .matrix import Unavailable, cache


def say(text: str) -> None:
    print(f"guests: {text}", file=sys.stderr, flush=True)


def need(program: str, package: str) -> str:
    """The path of a program. Raises Unavailable with the package that brings it."""
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        raise Unavailable(f"{program} is missing (Debian package {package})")
    return path


def run(command: list[str], what: str, **kwargs: object) -> str:
    """Standard output of a command. Raises Unavailable with the last line it printed when it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=-1, stderr=-1, text=True, check=False, **kwargs)  # type: ignore[call-overload]
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()
        errors = [line for line in lines if re.match(r"E:|.*[Ee]rror", line)]
        raise Unavailable(f"{what}: {(errors or lines)[-1].strip()}")
    return str(done.stdout)


@contextlib.contextmanager
def once(final: Path) -> Iterator[Path | None]:
    """Make a cached folder or file: gives the path to make it at, or None if it is there already.

    Two processes that want the same thing make it once; one that is interrupted leaves nothing.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    with open(final.parent / f".{final.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if final.exists():
            yield None
            return
        partial = final.parent / f".{final.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.unlink(missing_ok=True)
        yield partial
        os.rename(partial, final)


def packages(suite: str, arch: str, wanted: tuple[str, ...], into: Path) -> list[str]:
    """Unpack packages into a folder; each is a regular expression for the whole name, the newest match is taken.

    Returns the names taken. Raises Unavailable when one is not to be had.
    """
    need("dpkg-deb", "dpkg")
    options = _options(suite, arch, "deb")
    debs = into / ".debs"
    debs.mkdir(parents=True)
    for attempt in (1, 2):
        try:
            known = run(["apt-cache", *options, "pkgnames"], "apt-cache").split()
            names = [_newest(pattern, known, suite, arch) for pattern in wanted]
            say(f"downloading from {suite} {arch}: {' '.join(names)}")
            run(["apt-get", *options, "download", "-qq", *names], f"download from {suite}", cwd=debs)
            break
        except Unavailable:
            # The list may be older than the archive, which keeps only the newest versions.
            if attempt == 2:
                raise
            _update(options, suite, arch)
    for deb in sorted(debs.iterdir()):
        run(["dpkg-deb", "-x", str(deb), str(into)], f"unpack {deb.name}")
    shutil.rmtree(debs)
    return names


def sources(suite: str, names: tuple[str, ...], into: Path) -> None:
    """Download and unpack source packages into a folder. Raises Unavailable."""
    need("dpkg-source", "dpkg-dev")
    options = _options(suite, _machine(), "deb-src")
    into.mkdir(parents=True, exist_ok=True)
    say(f"downloading sources from {suite}: {' '.join(names)}")
    run(["apt-get", *options, "source", "-qq", "--download-only", *names], f"sources from {suite}", cwd=into)
    for description in sorted(into.glob("*.dsc")):
        run(["dpkg-source", "--no-check", "-x", description.name], f"unpack {description.name}", cwd=into)


def _newest(pattern: str, known: list[str], suite: str, arch: str) -> str:
    found = [name for name in known if re.fullmatch(pattern, name)]
    if not found:
        raise Unavailable(f"no package {pattern!r} in {suite} for {arch}")
    return max(found, key=lambda name: [int(part) if part.isdigit() else -1 for part in re.split(r"(\d+)", name)])


@functools.cache
def _machine() -> str:
    need("apt-get", "apt")
    return run(["dpkg", "--print-architecture"], "dpkg").strip()


@functools.cache
def _archive() -> tuple[str, str]:
    """URI of the distribution's own archive and the keyring its entry names, or an empty string."""
    fields = "$(CREATED_BY)|$(REPO_URI)|$(CODENAME)|$(COMPONENT)|$(SIGNED_BY)"
    own = ""
    with open("/etc/os-release") as file:
        for line in file:
            if line.startswith("VERSION_CODENAME="):
                own = line.strip().partition("=")[2].strip('"')
    for line in run(["apt-get", "indextargets", "--format", fields], "apt-get indextargets").splitlines():
        created, uri, codename, component, key = line.split("|")
        if (created, codename, component) == ("Packages", own, "main"):
            return uri, key if key.startswith("/") else ""
    raise Unavailable(f"apt has no source for {own or 'this distribution'} main: run apt-get update")


def _options(suite: str, arch: str, kind: str) -> list[str]:
    """apt's options for one suite and architecture, with lists of its own; fetches the lists if there are none."""
    uri, key = _archive() if _machine() else ("", "")
    state = cache() / "apt" / f"{suite}-{arch}-{kind}"
    (state / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (state / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    (state / "list").write_text(f"{kind} {f'[signed-by={key}] ' if key else ''}{uri} {suite} main\n")
    settings = {
        "APT::Sandbox::User": "",
        "APT::Architecture": arch,
        "APT::Architectures": arch,
        "APT::Update::Error-Mode": "any",
        "Acquire::Languages": "none",
        "Acquire::Retries": "2",
        "Acquire::http::Timeout": "30",
        "Dir::Etc::sourcelist": state / "list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State": state,
        "Dir::State::Lists": state / "lists",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": state,
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    with open(state / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (state / "complete").exists():
            _update(options, suite, arch)
            (state / "complete").touch()
    return options


def _update(options: list[str], suite: str, arch: str) -> None:
    run(["apt-get", *options, "update", "-qq"], f"package list of {suite} {arch}")
