"""``bfer trace``: from options to an exit status."""

from __future__ import annotations

import os

from bfer import expr
from bfer.catalogue import Catalogue
from bfer.errors import OutputClosed, OutputError, UsageError
from bfer.names import Names
from bfer.output.sink import Outputs, Sink, create
from bfer.pushdown import push_down
from bfer.signals import Hurry, Signals
from bfer.writer import STDERR, divert, say
from btf.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bfer.cli import Options
    from bfer.command import Command
    from bfer.loop import Loop
    from bfer.policy import Policy
    from bfer.residual import Residual
    from bfer.sorting import Sorter
    from bfer.tracer import Tracer

_SMALL_MEMORY = 128 << 20


def trace(options: Options) -> int:
    """Run a whole trace. Returns the exit status, or -N when the command was killed by signal N.

    Raises Error; nothing remains in the kernel in any case.
    """
    run = _Run(options)
    try:
        run.open_outputs()
        return run.run()
    finally:
        close_all(run.sinks)
        run.close_errors()


def close_all(sinks: list[Sink]) -> None:
    """Close all, also when one fails. Raises OutputError."""
    if sinks:
        try:
            sinks[0].close()
        finally:
            close_all(sinks[1:])


class _Run:
    """What the steps of one run share."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.outputs = Outputs(options.outputs)
        catalogue = Catalogue(os.uname().machine, self.outputs.options)
        self.names = Names(catalogue.machine)
        self.policy = expr.parse(options.expressions, catalogue, self.names, command=bool(options.command))
        self.events = {event.number: event for named in self.policy.events for event in named.both()}
        self.plan = push_down(self.policy, bool(options.command), self.outputs.options)
        self.sinks: list[Sink] = []
        self.errors = -1
        check_tree(self.policy, bool(options.command))

    def close_errors(self) -> None:
        if self.errors >= 0:
            divert(STDERR)
            os.close(self.errors)

    def open_outputs(self) -> None:
        if self.outputs.errors:
            self.errors = create(self.outputs.errors)
            divert(self.errors)
        hashes = None
        if "exec-hash" in self.outputs.options:
            from bfer.hashes import Hashes

            hashes = Hashes()
        for format, path in self.outputs.targets:
            self.sinks.append(Sink(format, path, self.outputs.options, self.events, self.names))
            self.sinks[-1].renderer.hashes = hashes
        if not self.options.quiet:
            for note in self.policy.notes:
                say(f"note: {note}")

    def run(self) -> int:
        signals = Signals(patient=bool(self.options.command))
        try:
            return self.with_programs(signals)
        except Hurry as hurry:
            return 128 + hurry.signum
        finally:
            signals.close()

    def with_programs(self, signals: Signals) -> int:
        from bfer.tracer import Tracer

        options, plan = self.options, self.plan
        tracer = Tracer(plan, options.buffer or default_buffer(), options.btf)
        # Loading is where memory peaks: what is not needed for it is imported after it.
        from bfer.clock import RelativeClock, WallClock
        from bfer.loop import Loop
        from bfer.losses import Losses

        clock = RelativeClock() if "relative-time" in self.outputs.options else WallClock()
        command: Command | None = None
        try:
            if options.command:
                from bfer.command import Command

                # Not before the programs are loaded: until its exec the child shares our memory,
                # and every page that we write meanwhile becomes two.
                command = Command(options.command, signals.restore_in_child)
            if options.debug:
                say(f"debug: {tracer.family or 'tp_btf'} programs, settings {plan.config}")
            untracked = tracer.maps.get("untracked") if plan.follows_processes else None
            losses = Losses(tracer.maps["lost"], untracked, tracer.missed, plan.names)
            loop = Loop(
                *(tracer, self.sinks, clock, signals, losses),
                *(self.residual(), command, options.duration, self.sorter()),
            )
            try:
                return self.with_loop(loop)
            finally:
                loop.close()
        finally:
            if command is not None:
                command.close()
            tracer.close()

    def residual(self) -> Residual | None:
        if not self.plan.residual:
            return None
        from bfer.residual import Residual

        return Residual(self.plan.residual, self.events, self.names)

    def sorter(self) -> Sorter | None:
        if "sort-events" not in self.outputs.options:
            return None
        from bfer.sorting import Sorter

        return Sorter()

    def with_loop(self, loop: Loop) -> int:
        command = loop.command
        loop.tracer.start(command.pid if command is not None else 0)
        self.tell_missing(loop.tracer)
        if self.options.explain:
            from bfer.explain import table

            for line in table(loop.tracer):
                say(line)
        try:
            for sink in self.sinks:
                sink.begin(self.options.quiet)
        except OutputClosed as closed:
            loop.failure = closed
        if command is not None:
            command.release()
        if loop.failure is None:
            loop.run()
        loop.losses.tell(final=True)
        if loop.failure is None and not self.options.quiet:
            try:
                for sink in self.sinks:
                    sink.write(sink.renderer.summary(loop.events, loop.losses.total))
            except OutputClosed as closed:
                loop.failure = closed
        return _status(loop)

    def tell_missing(self, tracer: Tracer) -> None:
        """Say which events cannot be had here; the rest is traced."""
        if tracer.hooks is None:
            return
        unnamed = []
        for hook in tracer.hooks.hooks:
            if self.options.debug:
                for text in hook.tried:
                    say(f"debug: {text}")
            if hook.link is not None:
                continue
            if hook.event.name in self.policy.spelled:
                say(f"event {hook.event.name} is not traced: {hook.tried[-1]}")
            else:
                unnamed.append(hook.event.name)
        if unnamed and not self.options.quiet:
            say(f"note: this kernel lets nobody trace {', '.join(sorted(unnamed))} (--explain tells why)")


def _status(loop: Loop) -> int:
    failed = isinstance(loop.failure, OutputError)
    if failed:
        say(f"{loop.failure}: {loop.unwritten} event{'s' if loop.unwritten != 1 else ''} not written")
    command = loop.command
    if command is None:
        return int(failed)
    if not loop.signum:
        loop.outlast_command()
    if loop.signum:
        return 128 + loop.signum
    status = command.status or 0
    if failed:
        return 1
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


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
    """1 MiB, a quarter of that on a machine with little memory."""
    try:
        with open(path, "rb") as file:
            total = int(file.readline().split()[1]) << 10
    except (OSError, IndexError, ValueError):
        return 256 << 10
    return 256 << 10 if total <= _SMALL_MEMORY else 1 << 20
