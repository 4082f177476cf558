"""What the print format of a tracepoint says about its fields: names of numbers, flags, addresses.

It is C, of which only what can be told apart without a doubt is taken: calls whose first argument is a field
alone (or masked), values that are constant expressions, conversions whose argument is a field alone.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_OPENERS, _CLOSERS = "({[", ")}]"


class Printed:
    """``names`` tells of a field whether they are flags, and the (name, value) pairs; ``hexadecimal`` fields are
    printed so; ``addresses`` makes a text of a field's bytes.
    """

    def __init__(self, text: str) -> None:
        self.names: dict[str, tuple[bool, list[tuple[str, int]]]] = {}
        self.hexadecimal: set[str] = set()
        self.addresses: dict[str, Callable[[bytes], object]] = {}
        parts = [*_split(text)]
        if parts:
            self._conversions(parts[0].strip(), [part.strip() for part in parts[1:]])
        for function, flags in (("__print_flags", True), ("__print_symbolic", False)):
            at = text.find(function + "(")
            while at >= 0:
                inside = _inside(text, at + len(function))
                self._named([*_split(inside)], flags)
                at = text.find(function + "(", at + 1)

    def _named(self, args: list[str], flags: bool) -> None:
        field = _field(args[0].partition("&")[0] if "&" in args[0] and flags else args[0])
        pairs = []
        for item in args[2 if flags else 1 :]:
            item = item.strip()
            if not item.startswith("{"):
                continue
            parts = [*_split(item[1:-1])]
            name = ",".join(parts[1:]).strip()
            number = constant(parts[0]) if parts else None
            if number is None or name[:1] != '"' or name[-1:] != '"':
                continue
            word = name[1:-1]
            if word and word.isascii() and word.isprintable() and not set(word) & set('"\\<>&'):
                pairs.append((word, number))
        if field and pairs:
            self.names.setdefault(field, (flags, pairs))

    def _conversions(self, text: str, args: list[str]) -> None:
        for conversion, arg in zip(_conversions(text), args):
            field = _field(arg)
            if not field:
                continue
            if conversion in ("pI4", "pi4"):
                self.addresses[field] = _ipv4
            elif conversion in ("pI6", "pI6c", "pi6"):
                self.addresses[field] = _ipv6
            elif conversion in ("pISpc", "pISpfsc", "pISc", "pIS"):
                self.addresses[field] = _sockaddr
            elif conversion in ("pM", "pMR"):
                self.addresses[field] = _mac
            elif conversion.startswith("pU"):
                self.addresses[field] = _hexadecimal
            elif conversion[:1] == "p" or (conversion[-1:] in "xX" and conversion.strip("0123456789#-lhzxX") == ""):
                self.hexadecimal.add(field)


def _split(text: str) -> Iterator[str]:
    """The parts between commas that are in no brackets and in no string."""
    depth = start = at = 0
    while at < len(text):
        letter = text[at]
        if letter == '"':
            at = _string_end(text, at)
        elif letter in _OPENERS:
            depth += 1
        elif letter in _CLOSERS:
            depth -= 1
        elif letter == "," and not depth:
            yield text[start:at]
            start = at + 1
        at += 1
    if text[start:].strip():
        yield text[start:]


def _string_end(text: str, at: int) -> int:
    """Where the string ends that begins at ``at``."""
    at += 1
    while at < len(text) and text[at] != '"':
        at += 2 if text[at] == "\\" else 1
    return at


def _inside(text: str, at: int) -> str:
    """What is between the bracket at ``at`` and its partner."""
    depth = 0
    start = at + 1
    while at < len(text):
        letter = text[at]
        if letter == '"':
            at = _string_end(text, at)
        elif letter in _OPENERS:
            depth += 1
        elif letter in _CLOSERS:
            depth -= 1
            if not depth:
                break
        at += 1
    return text[start:at]


def _field(text: str) -> str:
    """The field that an expression is, casts and brackets apart; empty for any other expression."""
    text = text.strip()
    while text[:1] == "(":
        inside = _inside(text, 0)
        rest = text[len(inside) + 2 :].strip()
        text = rest or inside.strip()
    name = text.removeprefix("REC->")
    return name if name != text and name.isidentifier() else ""


def _conversions(text: str) -> Iterator[str]:
    """``d``, ``-16s``, ``pI4`` of a format, one for each argument."""
    at = text.find("%")
    while at >= 0:
        end = at + 1
        while end < len(text) and text[end] in "0123456789.+-# lhzjtLq*":
            end += 1
        if text[at:].startswith("%%"):
            at = text.find("%", at + 2)
            continue
        last = end + 1
        if text[end : end + 1] == "p":
            while last < len(text) and text[last].isalnum():
                last += 1
        yield text[at + 1 : last]
        at = text.find("%", last)


# --- constant expressions ------------------------------------------------------------------

_RANKS = {"|": 1, "^": 2, "&": 3, "<<": 4, ">>": 4, "+": 5, "-": 5, "*": 6}
_MASK = (1 << 64) - 1


def constant(text: str) -> int | None:
    """The value of a C expression of numbers, operators, brackets and casts; None for any other."""
    parser = _Constant(text)
    try:
        value = parser.expression(0)
    except (ValueError, IndexError):
        return None
    return value if not parser.tokens else None


class _Constant:
    def __init__(self, text: str) -> None:
        self.tokens = [*_tokens(text)]

    def expression(self, rank: int) -> int:
        value = self.operand()
        while self.tokens and _RANKS.get(self.tokens[0], 0) > rank:
            operator = self.tokens.pop(0)
            other = self.expression(_RANKS[operator])
            value = _apply(operator, value, other)
        return value

    def operand(self) -> int:
        token = self.tokens.pop(0)
        if token == "(":
            if self.tokens[0].isidentifier():  # a cast
                while self.tokens.pop(0) != ")":
                    pass
                return self.operand()
            value = self.expression(0)
            if self.tokens.pop(0) != ")":
                raise ValueError(token)
            return value
        if token == "-":
            return -self.operand()
        if token == "~":
            return ~self.operand() & _MASK
        digits = token.rstrip("uUlL")
        return int(digits, 8) if digits[:1] == "0" and digits.isdigit() and len(digits) > 1 else int(digits, 0)


def _apply(operator: str, a: int, b: int) -> int:
    if operator in ("<<", ">>"):
        if not 0 <= b < 64:
            raise ValueError(operator)
        return a << b & _MASK if operator == "<<" else a >> b
    if operator == "|":
        return a | b
    if operator == "&":
        return a & b
    if operator == "^":
        return a ^ b
    return a + b if operator == "+" else a - b if operator == "-" else a * b


def _tokens(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        size = 2 if text[at : at + 2] in ("<<", ">>") else 1
        if text[at].isalnum() or text[at] == "_":
            while at + size < len(text) and (text[at + size].isalnum() or text[at + size] == "_"):
                size += 1
        yield text[at : at + size]
        at += size


# --- addresses ---------------------------------------------------------------------------


def _ipv4(data: bytes) -> object:
    from bfer.sockaddr import address4

    return address4(data) if len(data) >= 4 else _hexadecimal(data)


def _ipv6(data: bytes) -> object:
    from bfer.sockaddr import address6

    return address6(data) if len(data) >= 16 else _hexadecimal(data)


def _mac(data: bytes) -> object:
    return data[:6].hex(":")


def _hexadecimal(data: bytes) -> object:
    return f"0x{data.hex()}"


def _sockaddr(data: bytes) -> object:
    """As the kernel prints it: address and port."""
    from bfer.sockaddr import short

    return short(data)
