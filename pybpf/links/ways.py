"""A link that is made of several, and one that can be made in several ways."""

from __future__ import annotations

from errno import EACCES, EINVAL, EPERM

from pybpf import abi
from pybpf.errors import LinkError, SyscallError
from pybpf.links.base import UNSUPPORTED, Attempt, Link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


class LinkGroup(Link):
    """Several links that are one to their user: a program at many places, or many programs."""

    __slots__ = ("links",)

    def __init__(self, name: str, links: Sequence[Link]) -> None:
        mechanism = links[0].mechanism if links else "nothing"
        super().__init__(name, mechanism=mechanism, bpf_link=False)
        self.links = list(links)

    def close(self) -> None:
        for link in reversed(self.links):
            link.close()

    def detach(self) -> None:
        for link in reversed(self.links):
            link.detach()

    def __iter__(self) -> Iterator[Link]:
        return iter(self.links)

    def __len__(self) -> int:
        return len(self.links)


def group(name: str, ways: Iterable[Callable[[], Link]]) -> Link:
    """All of ``ways``, or none: a single link as it is, several as a group. Raises what a way raises."""
    links: list[Link] = []
    try:
        for way in ways:
            links.append(way())
    except BaseException:
        for link in reversed(links):
            link.close()
        raise
    return links[0] if len(links) == 1 else LinkGroup(name, links)


def first(
    what: str,
    ways: Iterable[tuple[str, Callable[[], Link]]],
    explain: Callable[[SyscallError], str] | None = None,
) -> Link:
    """The first mechanism that the kernel takes; it remembers those tried before.

    Trying ends when one is forbidden, or cannot be on this machine. A failure of all is one LinkError: what
    ``explain`` says about the most telling of them, else that one; ``details`` has all.
    """
    tried: list[Attempt] = []
    for mechanism, way in ways:
        try:
            link = way()
        except SyscallError as error:
            tried.append(Attempt(mechanism, error))
            # What is forbidden, or beyond this machine's architecture, is so by every mechanism.
            if error.errno in (EPERM, EACCES, abi.ENOTSUPP):
                break
            continue
        own = link.attempts if len(link.attempts) > 1 or not tried else (Attempt(mechanism),)
        link.attempts = (*tried, *own)
        return link
    errors = [attempt.error for attempt in tried if attempt.error is not None]
    if not errors:
        raise LinkError(f"{what}: no mechanism was allowed that could attach it", EINVAL)
    telling = next((error for error in errors if error.errno not in UNSUPPORTED), errors[0])
    line = explain(telling) if explain is not None else ""
    details = [str(attempt) for attempt in tried] + ([telling.details] if telling.details else [])
    raise LinkError(line or str(telling), telling.errno, "\n".join(details)) from telling


def ordered(
    ways: dict[str, Callable[[], Link]], order: Sequence[str], what: str
) -> Iterator[tuple[str, Callable[[], Link]]]:
    """``ways`` in the wanted order, some left out. Raises LinkError for a name that is none."""
    for mechanism in order:
        if mechanism not in ways:
            raise LinkError(f"{what}: there is no mechanism {mechanism!r}, only {', '.join(ways)}", EINVAL)
        yield mechanism, ways[mechanism]
