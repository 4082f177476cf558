"""``python -m tests.guests.soak [KERNEL [SECONDS]]``: the check ``soak`` for ten minutes, in the small guest."""

from __future__ import annotations

import sys

from tests.guests.__main__ import main

if __name__ == "__main__":
    name, seconds = [*sys.argv[1:], *("5.10-musl", "600")[len(sys.argv) - 1 :]]
    command = f"BFER_SOAK={int(seconds)} python3 -m tests.guests.checks soak"
    sys.exit(main([name, "--timeout", str(4 * int(seconds) + 300), "--", command]))
