"""Two runs beside each other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dq_dashboard.findings import Finding


@dataclass(frozen=True)
class Comparison:
    """Tests by what became of them. ``fixed`` and ``still`` are findings of the later run, ``gone`` of the earlier one:
    they were broken, and the later run has no such test."""

    new: tuple[Finding, ...]
    still: tuple[Finding, ...]
    fixed: tuple[Finding, ...]
    gone: tuple[Finding, ...]


def compare(earlier: Iterable[Finding], later: Iterable[Finding]) -> Comparison:
    """Broken means failed, or could not be checked; fixed means that it passed."""
    before = {one.key: one for one in earlier if one.broken}
    after = {one.key: one for one in later}
    broken = [one for one in after.values() if one.broken]
    return Comparison(
        new=tuple(one for one in broken if one.key not in before),
        still=tuple(one for one in broken if one.key in before),
        fixed=tuple(one for key, one in after.items() if key in before and one.status == "passed"),
        gone=tuple(
            one
            for key, one in before.items()
            if key not in after or after[key].status in ("skipped", "no_history")
        ),
    )
