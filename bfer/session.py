"""One run of bfer, whoever asked for it: from expressions to programs in the kernel and the records out of them.

The command line and the Python interface differ only in what they do with the records, and in what may stop them.
"""

from __future__ import annotations

import os

from bfer import expr
from bfer.catalogue import Catalogue
from bfer.errors import UsageError
from bfer.machine import is_large, is_small, tidy
from bfer.names import Names
from bfer.pushdown import push_down
from btf.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bfer.clock import RelativeClock, WallClock
    from bfer.command import Command
    from bfer.derive import Derivation
    from bfer.loop import Loop, Receiver, Waker
    from bfer.policy import Policy
    from bfer.residual import Residual
    from bfer.sorting import Sorter
    from bfer.tracer import Tracer


class Session:
    """What a run traces, and what it has in the kernel: ``load``, ``begin`` and ``attach`` it, and ``close`` it.

    ``options`` are those of output; ``buffer`` is in bytes, 0 for as much as suits this machine. All
    raise Error; what is wrong with the expressions is a UsageError, and nothing has been touched by then.
    """

    def __init__(
        self,
        expressions: Sequence[str],
        options: set[str],
        command: Sequence[str] = (),
        buffer: int = 0,
        btf: str = "",
    ) -> None:
        catalogue = Catalogue(os.uname().machine, options)
        self.options = options
        self.names = Names(catalogue.machine)
        self.policy = expr.parse(expressions, catalogue, self.names, command=bool(command), btf=btf)
        self.events = {event.number: event for named in self.policy.events for event in named.both()}
        self.plan = push_down(self.policy, bool(command), options)
        if self.plan.derived:
            from bfer.derive import prepare

            prepare(self.plan)
        self.derivation: Derivation | None = None
        self.command: Command | None = None
        self._argv = list(command)
        self._buffer = buffer
        self._btf = btf
        self._tracer: Tracer | None = None
        self._loop: Loop | None = None
        check_tree(self.policy, bool(command))

    @property
    def tracer(self) -> Tracer:
        """What is in the kernel; there is nothing before ``load``."""
        assert self._tracer is not None
        return self._tracer

    @property
    def loop(self) -> Loop:
        """What reads the records; there is none before ``begin``."""
        assert self._loop is not None
        return self._loop

    def load(self) -> None:
        """Bring the programs and their settings into the kernel; none runs yet."""
        from bfer.tracer import Tracer

        self._tracer = Tracer(self.plan, self._buffer or default_buffer(), self._btf)
        if self._tracer.looking is not None:
            from bfer.derive import Derivation
            from bfer.derive.kernel import Kernel

            self.derivation = Derivation(self.plan, Kernel(self._tracer.looking))
            missing = self.derivation.missing
            if len(missing) == len(self.events):
                why = next(iter(missing.values()))
                raise Error(f"none of the events can be traced here: {why}", why)
        tidy()

    def begin(
        self,
        receivers: Sequence[Receiver],
        waker: Waker,
        in_child: Callable[[], None],
        duration: float | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        """Make what reads the records, and the process of the command, which waits until it is released.

        ``waker`` is what stops the run or tells of the command's end, ``tell`` takes what there is to say
        about losses, ``duration`` is in seconds.
        """
        # Loading is where memory peaks: what is not needed for it is imported after it.
        from bfer.loop import Loop
        from bfer.losses import Losses

        tracer, plan = self.tracer, self.plan
        self.names.read_node = tracer.maps["node_names"].lookup
        if self._argv:
            from bfer.command import Command

            # Not before the programs are loaded: until its exec the child shares our memory,
            # and every page that we write meanwhile becomes two.
            self.command = Command(self._argv, in_child)
        untracked = tracer.maps.get("untracked") if plan.follows_processes else None
        losses = Losses(tracer.maps["lost"], untracked, tracer.missed, plan.names, tell, tracer.doorbell.alarmed)
        self._loop = Loop(
            *(tracer, receivers, self._clock(), waker, losses),
            *(self._residual(), self.command, duration, self._sorter(), self.derivation),
        )

    def attach(self) -> None:
        """Begin to trace; a command still waits for its release."""
        self.tracer.start(self.command.pid if self.command is not None else 0)
        if self.derivation is not None:
            self.derivation.begin()

    def close(self) -> None:
        """Nothing remains in the kernel. A command that was released runs on."""
        if self._loop is not None:
            self._loop.close()
        if self.command is not None:
            self.command.close()
        if self._tracer is not None:
            self._tracer.close()
        self._loop = self._tracer = None

    def _clock(self) -> WallClock | RelativeClock:
        from bfer.clock import RelativeClock, WallClock

        return RelativeClock() if "relative-time" in self.options else WallClock()

    def _residual(self) -> Residual | None:
        groups = self.tracer.groups
        if not self.plan.residual and groups is None:
            return None
        from bfer.residual import Residual

        return Residual(self.plan.residual, self.events, self.names, groups)

    def _sorter(self) -> Sorter | None:
        if "sort-events" not in self.options:
            return None
        from bfer.sorting import Sorter

        return Sorter()


def check_tree(policy: Policy, command: bool) -> None:
    """Raises UsageError or Error when ``tree`` cannot be what was meant."""
    if not policy.tree:
        return
    if command:
        raise UsageError("a command after -- is traced as a tree already: it cannot be combined with tree")
    from bfer.processes import exists

    for pid in policy.tree:
        if not exists(pid):
            raise Error(f"tree: there is no process {pid}")


def default_buffer(path: str = "/proc/meminfo") -> int:
    """1 MiB: a quarter of that on a machine with little memory, eight times as much where nobody will miss it."""
    if is_small(path):
        return 256 << 10
    return 8 << 20 if is_large(path) else 1 << 20
