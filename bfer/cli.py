"""The command line: words become Options."""

from __future__ import annotations

from bfer.errors import UsageError

COMMANDS = ("trace", "list", "help")
_OTHERS = ("explain", "doctor", "archive")  # which are found before this is read

# Long name: short name, name of the value (None for a switch), attribute of Options.
_OPTIONS = {
    "--trace": ("-t", "EXPRESSION", "expressions"),
    "--filter": ("-f", "EXPRESSION", "expressions"),
    "--scope": ("-s", "EXPRESSION", "expressions"),
    "--events": ("-e", "EVENTS", "events"),
    "--output": ("-o", "OUTPUT", "outputs"),
    "--duration": ("", "TIME", "duration"),
    "--buffer": ("", "SIZE", "buffer"),
    "--btf": ("", "FILE", "btf"),
    "--quiet": ("-q", None, "quiet"),
    "--debug": ("", None, "debug"),
    "--explain": ("", None, "explain"),
    "--list": ("-l", None, "list"),
    "--help": ("-h", None, "help"),
    "--version": ("", None, "version"),
}

# Options of Tracee that bfer has no use for, or not yet, with what to say about them.
_REFUSED = {
    "--capture": "bfer does not capture files, programs or packets",
    "-c": "bfer does not capture files, programs or packets",
    "--cache": "bfer has no cache of events: see --buffer",
    "-a": "bfer has no cache of events: see --buffer",
    "--crs": "bfer asks no container runtime: containers are known by their control groups",
    "--containers": "bfer asks no container runtime: containers are known by their control groups",
    "--perf-buffer-size": "bfer has one buffer for all CPUs: see --buffer",
    "-b": "bfer has one buffer for all CPUs: see --buffer",
    "--blob-perf-buffer-size": "bfer has one buffer for all CPUs: see --buffer",
    "--install-path": "bfer installs nothing",
    "--metrics": "bfer has no network service; losses are told on standard error",
    "--healthz": "bfer has no network service; losses are told on standard error",
    "--listen-addr": "bfer has no network service; losses are told on standard error",
    "--caps": "bfer drops no capabilities: CAP_BPF and CAP_PERFMON are enough for it",
    "--rules": "bfer has no rules: filter by expressions",
}
_SHORT = {short: name for name, (short, _, _) in _OPTIONS.items() if short}

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
_SIZES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "": 1}
_BUFFER_MIN, _BUFFER_MAX = 16 << 10, 1 << 30


class Options:
    """What was asked for. ``action`` is trace, list, help or version; ``buffer`` bytes or 0; ``duration`` seconds."""

    __slots__ = (
        *("action", "btf", "buffer", "command", "debug", "duration"),
        *("explain", "expressions", "help", "list", "outputs", "quiet", "topic", "version"),
    )

    def __init__(self) -> None:
        self.action = ""
        self.expressions: list[str] = []
        self.outputs: list[str] = []
        self.command: list[str] = []
        self.duration: float | None = None
        self.buffer = 0
        self.btf = ""
        self.topic = ""  # of which help is wanted: a section's title
        self.quiet = self.debug = self.explain = self.list = self.help = self.version = False


def parse(words: list[str]) -> Options:
    """Raises UsageError."""
    options = Options()
    bare: list[str] = []
    rest = list(words)
    command_given = False
    while rest:
        word = rest.pop(0)
        if word == "--":
            options.command = rest
            command_given = True
            break
        if word.startswith("-") and word != "-":
            _option(options, word, rest)
        elif not options.action:
            _action(options, word)
        else:
            bare.append(word)
    if command_given and not options.command:
        raise UsageError("no command after --")
    options.expressions += bare
    for name in ("version", "help", "list"):
        if getattr(options, name):
            options.action = name
    for words_given, topic in ((options.expressions, "expressions"), (options.outputs, "outputs")):
        if "help" in words_given:  # Tracee's way to ask for the grammar
            options.action, options.topic = "help", topic
    if not options.action:
        if not words:
            raise UsageError("nothing to do: try `bfer trace`, or `bfer --help`")
        options.action = "trace"
    if options.action == "list" and (options.expressions or options.command):
        raise UsageError(f"--list takes no arguments: {(options.expressions + options.command)[0]!r}")
    return options


def _action(options: Options, word: str) -> None:
    if word in COMMANDS:
        options.action = word
        return
    from bfer.suggest import nearest

    expression = any(c in word for c in "=<>")
    hint = f": did you mean `bfer trace {word}`?" if expression else nearest(word, (*COMMANDS, *_OTHERS))
    raise UsageError(f"unknown command {word!r}{hint or ': there are ' + ', '.join((*COMMANDS, *_OTHERS))}")


def _option(options: Options, word: str, rest: list[str]) -> None:
    name, given, value = word.partition("=")
    if not word.startswith("--"):
        name, value = _SHORT.get(word[:2], word[:2]), word[2:]
        given = value
    if name not in _OPTIONS:
        if name in _REFUSED:
            raise UsageError(f"{name}: {_REFUSED[name]}")
        from bfer.suggest import nearest

        raise UsageError(f"unknown option {name!r}{nearest(name, _OPTIONS) or ': see `bfer --help`'}")
    _, value_name, attribute = _OPTIONS[name]
    if value_name is None:
        setattr(options, attribute, True)
        if given and word.startswith("--"):
            raise UsageError(f"{name} takes no value: {word!r}")
        if value:  # further switches behind the same dash
            _option(options, "-" + value, rest)
        return
    if not given:
        if not rest or rest[0] == "--":
            raise UsageError(f"{name} needs a value: {name} {value_name}")
        value = rest.pop(0)
    if attribute == "expressions":
        options.expressions.append(value)
    elif attribute == "events":
        # Names alone, or an expression as for --trace.
        options.expressions.append(value if any(c in value for c in "=<>") else f"events={value}")
    elif attribute == "outputs":
        options.outputs.append(value)
    elif attribute == "duration":
        options.duration = duration(value)
    elif attribute == "buffer":
        options.buffer = size(value)
    else:
        setattr(options, attribute, value)


def _split(text: str) -> tuple[str, str]:
    number = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    return number, text[len(number) :]


def duration(text: str) -> float:
    """Seconds of ``10``, ``10s``, ``500ms``, ``2m`` or ``1h``."""
    number, unit = _split(text)
    whole, _, fraction = number.partition(".")
    digits = whole + fraction
    if unit not in _UNITS or not digits.isascii() or not digits.isdigit():
        raise UsageError(f"--duration {text}: not a time such as 10, 10s, 500ms, 2m or 1h")
    return float(number) * _UNITS[unit]


def size(text: str) -> int:
    """Bytes of ``65536``, ``256K`` or ``1M``, as a ring buffer may have them."""
    number, unit = _split(text)
    unit = unit.upper().rstrip("B").rstrip("I")
    if unit not in _SIZES or not number.isascii() or not number.isdigit():
        raise UsageError(f"--buffer {text}: not a size such as 65536, 256K or 1M")
    value = int(number) * _SIZES[unit]
    if value & value - 1 or not _BUFFER_MIN <= value <= _BUFFER_MAX:
        raise UsageError(f"--buffer {text}: it must be a power of two from 16K to 1G")
    return value
