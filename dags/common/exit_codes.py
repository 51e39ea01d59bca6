"""What a job's exit code says where the job itself left no word: read off the words in which EMR says how it ended."""

from __future__ import annotations

import re

#: A job that ended so would fail the same way again: usage, terminal failure, failed gate.
TERMINAL = {2: "USAGE", 10: "TERMINAL", 11: "GATE_FAILED"}


def exit_code(details: str) -> int | None:
    """The driver's exit code in a job run's ``stateDetails``, None where they name none."""
    found = re.search(r"exit\s*code:?\s*(-?\d+)", details, re.IGNORECASE)
    return int(found.group(1)) if found else None
