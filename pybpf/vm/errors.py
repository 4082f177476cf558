"""What the interpreter raises."""

from __future__ import annotations

from pybpf.errors import Error


class VmError(Error):
    """A program did what no verified program may do, or was given to the interpreter in a wrong way.

    ``program`` is the program's name, ``index`` the slot of the instruction,
    counted from the first instruction of ``function`` (the program itself or
    one of its subprograms), ``insn`` its text; ``index`` is -1 when the mistake
    has no place in the code. ``reason`` says what is wrong, without the place.
    ``details`` shows the registers as they were.
    """

    def __init__(self, reason: str, details: str = "") -> None:
        super().__init__(reason, details)
        self.reason = reason
        self.program = ""
        self.function = ""
        self.index = -1
        self.insn = ""

    def locate(self, program: str, function: str, index: int, insn: str) -> VmError:
        """Say where it happened; returns the error itself. The first call wins: it knows the innermost place."""
        if self.index < 0:
            self.program, self.function, self.index, self.insn = program, function, index, insn
            inside = f", function {function!r}" if function != program else ""
            self.args = (f"program {program!r}{inside}, instruction {index} ({insn}): {self.reason}",)
        return self
