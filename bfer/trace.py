"""``bfer trace``: from options to an exit status."""

from __future__ import annotations

import gc
import os

from bfer.errors import OutputClosed, OutputError
from bfer.output.sink import CONTAINERS, Outputs, Sink, create
from bfer.session import Session
from bfer.signals import Hurry, Signals
from bfer.writer import STDERR, divert, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bfer.cli import Options
    from bfer.loop import Loop
    from bfer.tracer import Tracer


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
        self.session = Session(options.expressions, self.outputs.wants, options.command, options.buffer, options.btf)
        self.policy = self.session.policy
        self.sinks: list[Sink] = []
        self.errors = -1

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
        session = self.session
        options = self.outputs.options | ({CONTAINERS} if self.policy.container is not None else set())
        for format, path in self.outputs.targets:
            self.sinks.append(Sink(format, path, options, session.events, session.names))
            self.sinks[-1].renderer.hashes = hashes
        if not self.options.quiet:
            for note in self.policy.notes:
                say(f"note: {note}")

    def run(self) -> int:
        signals = Signals(patient=bool(self.options.command))
        try:
            self.session.load()
            self.session.begin(self.sinks, signals, signals.restore_in_child, self.options.duration, say)
            return self.trace()
        except Hurry as hurry:
            return 128 + hurry.signum
        finally:
            try:
                self.session.close()
            finally:
                signals.close()

    def trace(self) -> int:
        session, loop = self.session, self.session.loop
        if self.options.debug:
            say(f"debug: {session.tracer.family or 'tp_btf'} programs, settings {session.plan.config}")
        session.attach()
        gc.freeze()  # what there is by now stays, so that nobody need look at it again
        gc.enable()
        self.tell_missing(session.tracer)
        if self.options.explain:
            from bfer.explain import table

            for line in table(session.tracer, session.derivation.missing if session.derivation is not None else None):
                say(line)
        try:
            for sink in self.sinks:
                sink.begin(self.options.quiet)
        except OutputClosed as closed:
            loop.failure = closed
        if session.command is not None:
            session.command.release()
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
        derivation = self.session.derivation
        unnamed = []
        for name, why in derivation.missing.items() if derivation is not None else ():
            if name in self.policy.spelled:
                say(f"event {name} is not traced: {why}")
            else:
                unnamed.append(name)
        # What the run needs for itself is not told.
        told = {hook.event.name for hook in tracer.hooks.hooks} - {event.name for event in self.policy.events}
        seen = {hook.event.name for hook in tracer.hooks.hooks if hook.links}
        for hook in tracer.hooks.hooks:
            if self.options.debug:
                for attempt in hook.tried:
                    say(f"debug: {attempt}")
            name = hook.event.name
            if hook.links or name in told:
                continue
            told.add(name)
            if name in seen:
                if name in self.policy.spelled and not self.options.quiet:
                    say(f"note: event {name} is traced in part only: {hook.tried[-1]}")
            elif name in self.policy.spelled:
                say(f"event {name} is not traced: {hook.tried[-1]}")
            else:
                unnamed.append(name)
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
