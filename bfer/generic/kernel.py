"""Events of the kernel by name: functions, tracepoints, security hooks."""

from __future__ import annotations

from bfer.errors import UsageError
from bfer.generic import calls, prototypes
from bfer.generic.arguments import Types
from bfer.generic.event import GenericArg, GenericEvent
from bfer.generic.pieces import piece
from bfer.records import PIECE_NUMBER, PIECE_RESULT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bfer.generic import Generic
    from btf.errors import Error
    from btf.reader import Btf

    Params = list[tuple[str, int]]

_LSM = "bpf_lsm_"
_TRACEPOINT = "btf_trace_"
_MODULES = "/sys/kernel/btf"


class Kernel:
    """The running kernel's functions and tracepoints."""

    def __init__(self, owner: Generic, btf: str = "") -> None:
        self._owner = owner
        self._path = btf
        self._types: Types | None = None
        self._modules: dict[str, Types] = {}

    @property
    def types(self) -> Types:
        """Those of the kernel itself. Raises BtfError."""
        if self._types is None:
            from btf.reader import Btf

            if self._path:
                from btf.releases import open_for

                btf = open_for(self._path)
            else:
                btf = Btf.kernel()
            self._types = Types(btf, self._owner.names)
        return self._types

    def module(self, name: str) -> Types | None:
        """Those of a module (5.11), None where the kernel does not tell."""
        types = self._modules.get(name)
        if types is None:
            from btf.errors import BtfError
            from btf.reader import Btf

            try:
                btf: Btf = Btf.open(f"{_MODULES}/{name}", self.types.btf)
            except BtfError:
                return None
            types = self._modules[name] = Types(btf, self._owner.names)
        return types

    def close(self) -> None:
        for types in (*self._modules.values(), *([self._types] if self._types is not None else [])):
            types.btf.close()
        self._modules = {}
        self._types = None

    def maker(self, kind: str) -> Callable[[str, str], GenericEvent]:
        return {
            "kprobe": self._kprobe,
            "kretprobe": self._kretprobe,
            "fentry": self._fentry,
            "fexit": self._fexit,
            "tp": self._tp,
            "raw_tp": self._raw_tp,
            "tp_btf": self._raw_tp,
            "lsm": self._lsm,
        }[kind]

    # --- functions ------------------------------------------------------------------------

    def _function(self, name: str, spelled: str) -> tuple[Types, Params, int] | None:
        """Types, parameters and result of a function; None for one that BTF knows nothing of. Raises UsageError."""
        found = prototypes.function(self.types, name)
        if found is not None:
            return (self.types, *found)
        from pybpf import kallsyms

        try:
            symbols = kallsyms.find([name]).get(name, [])
        except OSError:
            symbols = []
        symbols = [symbol for symbol in symbols if symbol.kind in "tTwW"]
        if not symbols:
            from bfer.generic.alike import function_like

            raise UsageError(f"{spelled!r}: this kernel has no function {name!r}{function_like(name)}")
        types = self.module(symbols[0].module) if symbols[0].module else None
        found = prototypes.function(types, name) if types is not None else None
        if types is None or found is None:
            return None
        return (types, *found)

    def _kprobe(self, spelled: str, target: str) -> GenericEvent:
        name, plus, offset = target.partition("+")
        convention = calls.convention(self._owner.machine)
        args: list[GenericArg] = []
        if plus:
            _offset(offset, spelled)
            self._function(name, spelled)
            self._owner.note(f"{spelled}: arguments are known at the beginning of a function only")
        else:
            found = self._function(name, spelled)
            if found is None:
                self._owner.untyped.append(spelled)
                args = registers(convention)
            else:
                args = prototypes.entry(found[0], found[1], self._owner.machine)
        return self._event(spelled, "kprobe", f"kprobe/{target}", args)

    def _kretprobe(self, spelled: str, target: str) -> GenericEvent:
        name, plus, _ = target.partition("+")
        if plus:
            raise UsageError(f"{spelled!r}: a function returns as a whole, there is no offset")
        way = (calls.convention(self._owner.machine).result,)
        found = self._function(name, spelled)
        if found is None:
            self._owner.untyped.append(spelled)
            event = self._event(spelled, "kprobe", f"kretprobe/{name}", [])
            event.result = [piece(PIECE_RESULT, 0, way, 8)]
            return event
        types, _, result = found
        return self._returning(spelled, "kprobe", f"kretprobe/{name}", types, result, way, [])

    def _fentry(self, spelled: str, target: str) -> GenericEvent:
        types, params, _ = self._traceable(target, spelled)
        return self._event(spelled, "fentry", f"fentry/{target}", prototypes.words(types, params))

    def _fexit(self, spelled: str, target: str) -> GenericEvent:
        types, params, result = self._traceable(target, spelled)
        way = (sum((types.size(id) + 7) // 8 * 8 for _, id in params),)
        return self._returning(
            spelled, "fentry", f"fexit/{target}", types, result, way, prototypes.words(types, params)
        )

    def _traceable(self, name: str, spelled: str) -> tuple[Types, Params, int]:
        """A function that BTF describes, which trampolines need."""
        found = self._function(name, spelled)
        kprobe = f"kprobe:{name}" if spelled.startswith("fentry") else f"kretprobe:{name}"
        if found is None:
            raise UsageError(f"{spelled!r}: BTF does not describe {name!r}, which fentry and fexit need: try {kprobe}")
        if found[0] is not self.types:
            raise UsageError(f"{spelled!r}: {name!r} is a module's function: try {kprobe}")
        return found

    def _lsm(self, spelled: str, target: str) -> GenericEvent:
        name = target.removeprefix(_LSM).removeprefix("security_")
        found = prototypes.function(self.types, _LSM + name)
        if found is None:
            from bfer.generic.alike import alike

            hooks = [word[len(_LSM) :] for word in self.types.btf.names_starting(_LSM)]
            if not hooks:
                raise UsageError(f"{spelled!r}: this kernel runs no programs at security hooks (CONFIG_BPF_LSM)")
            raise UsageError(f"{spelled!r}: this kernel has no security hook {name!r}{alike(name, hooks)}")
        return self._event(spelled, "lsm", f"lsm/{name}", prototypes.words(self.types, found[0]))

    def _returning(
        self,
        spelled: str,
        base: str,
        section: str,
        types: Types,
        result: int,
        way: tuple[int, ...],
        args: list[GenericArg],
    ) -> GenericEvent:
        type, pieces, shown = prototypes.returned(types, result, way, len(args))
        if shown is not None:
            args.append(shown)
        event = self._event(spelled, base, section, args)
        event.returns = type
        event.result = pieces
        return event

    def _event(self, spelled: str, base: str, section: str, args: list[GenericArg]) -> GenericEvent:
        return GenericEvent(spelled, self._owner.number(), base, section, args)

    # --- tracepoints -----------------------------------------------------------------------

    def _tp(self, spelled: str, target: str) -> GenericEvent:
        from pybpf import tracefs
        from pybpf.errors import LinkError

        category, colon, name = target.replace("/", ":", 1).partition(":")
        if not category or (colon and not name) or {"/", ":"} & set(name) or category.startswith("."):
            raise UsageError(f"{spelled!r} must name category and tracepoint, as in tp:sched:sched_switch")
        try:
            tracefs.root()
        except LinkError as error:
            return self._tp_without_tracefs(spelled, name if colon else category, error)
        if not colon:
            homes = [home for home, _ in tracefs.event_names("*", category)]
            hint = f": did you mean tp:{homes[0]}:{category}?" if homes else ", as in tp:sched:sched_switch"
            raise UsageError(f"{spelled!r} must name category and tracepoint{hint}")
        try:
            fields = tracefs.event_format(category, name)
            printed = tracefs.event_printed(category, name)
        except LinkError as error:
            from errno import ENOENT

            if error.errno != ENOENT:
                raise
            from bfer.generic.alike import tracepoint_like

            hint = tracepoint_like(category, name)
            raise UsageError(f"{spelled!r}: this kernel has no tracepoint {category}:{name}{hint}") from None
        from bfer.generic import formats

        args = formats.arguments(category, fields, printed, self._owner.names)
        return self._event(spelled, "tp", f"tp/{category}/{name}", args)

    def _tp_without_tracefs(self, spelled: str, name: str, why: Error) -> GenericEvent:
        """Where the format of a tracepoint cannot be had, and it cannot be attached to: its arguments instead."""
        if prototypes.tracepoint(self.types, name) is None:
            hint = self._tracepoint_like(name)
            raise UsageError(f"{spelled!r}: {why}; the kernel's types have no tracepoint {name!r}{hint}")
        event = self._raw_tp(spelled, name)
        self._owner.note(
            f"{spelled}: tracefs is not mounted: the tracepoint's arguments are shown instead of its fields"
        )
        return event

    def _raw_tp(self, spelled: str, target: str) -> GenericEvent:
        params = prototypes.tracepoint(self.types, target)
        types = self.types
        if params is None:
            hint = ": it is named without its category" if ":" in target else self._tracepoint_like(target)
            raise UsageError(f"{spelled!r}: this kernel has no tracepoint {target!r}{hint}")
        base = "tp_btf" if spelled.startswith("tp_btf") else "raw_tp"
        return self._event(spelled, base, f"{base}/{target}", prototypes.each(types, params))

    def _tracepoint_like(self, name: str) -> str:
        from bfer.generic.alike import alike

        return alike(name, [word[len(_TRACEPOINT) :] for word in self.types.btf.names_starting(_TRACEPOINT)])

    # --- patterns --------------------------------------------------------------------------

    def matching(self, kind: str, pattern: str, spelled: str) -> list[str]:
        """The targets that a pattern stands for. Raises UsageError."""
        found = [*self._matching(kind, pattern)]
        if not found:
            raise UsageError(f"no event matches {spelled!r}")
        return found

    def _matching(self, kind: str, pattern: str) -> Iterable[str]:
        from fnmatch import fnmatchcase

        if kind == "tp":
            from pybpf import tracefs

            category, _, name = pattern.replace("/", ":", 1).partition(":")
            return [f"{home}:{one}" for home, one in tracefs.event_names(category, name or "*")]
        if kind in ("raw_tp", "tp_btf", "lsm"):
            prefix = _LSM if kind == "lsm" else _TRACEPOINT
            head = pattern.partition("*")[0].partition("?")[0]
            every = [word[len(prefix) :] for word in self.types.btf.names_starting(prefix + head)]
            return sorted(name for name in every if fnmatchcase(name, pattern) and self._is_hook(kind, name))
        if kind in ("uprobe", "uretprobe", "usdt"):
            raise UsageError(f"{kind} takes no patterns: {pattern!r}")
        found = self.functions(pattern)
        self.prefetch(found)
        if kind in ("fentry", "fexit"):
            return [name for name in found if prototypes.function(self.types, name) is not None]
        return found

    def _is_hook(self, kind: str, name: str) -> bool:
        if kind == "lsm":
            return prototypes.function(self.types, _LSM + name) is not None
        return prototypes.tracepoint(self.types, name) is not None

    def functions(self, pattern: str) -> list[str]:
        """Names of functions that can be traced and match ``pattern``."""
        from fnmatch import fnmatchcase

        from pybpf import kallsyms, tracefs
        from pybpf.errors import LinkError

        try:
            return sorted(set(tracefs.functions(pattern)))
        except LinkError:
            pass
        found = set()
        for block in kallsyms.blocks():
            for line in block.splitlines():
                words = line.split(None, 3)
                if words[1] in (b"t", b"T") and fnmatchcase(name := words[2].decode(errors="replace"), pattern):
                    found.add(name)
        return sorted(found)

    def prefetch(self, names: list[str]) -> None:
        """Look up functions in one go."""
        from btf.format import KIND_FUNC

        self.types.btf.prefetch(names, (KIND_FUNC,))


def registers(convention: calls.Convention) -> list[GenericArg]:
    """The registers for arguments, of which nothing else is known."""
    args = []
    for slot, register in enumerate(convention.registers[:6]):
        arg = GenericArg(f"arg{slot}", "unsigned long", slot)
        arg.kind = "hex"
        arg.pieces = [piece(PIECE_NUMBER, slot, (register,), 8)]
        args.append(arg)
    return args


def _offset(text: str, spelled: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise UsageError(f"{spelled!r}: {text!r} is no offset") from None
