"""The health score: one number of counts alone, so that the head of a report is enough for it."""

from __future__ import annotations

from collections.abc import Iterable
from math import floor

from dq_dashboard.findings import Finding
from dq_runner.report import Counts

#: What a critical failure weighs; everything else weighs 1.
CRITICAL_WEIGHT = 5

FORMULA = (
    "Health = 100 × passed ÷ (passed + failed + could not be checked + "
    f"{CRITICAL_WEIGHT - 1} × critical failures), rounded down. So a critical failure counts {CRITICAL_WEIGHT} times; "
    "a muted one raises no alarm and counts once. Skipped tests, and those with too little history, are left out."
)


def health(counts: Counts) -> int | None:
    """0 to 100, rounded down: 100 only where everything held. None where nothing was judged."""
    broken = counts.failed + counts.error + (CRITICAL_WEIGHT - 1) * counts.critical
    judged = counts.passed + broken
    return floor(100 * counts.passed / judged) if judged else None


def count(findings: Iterable[Finding]) -> Counts:
    """Findings by status, as the report counts them."""
    numbers = dict.fromkeys(Counts.model_fields, 0)
    for one in findings:
        numbers[one.status] += 1
        numbers["critical"] += one.critical
        numbers["muted"] += one.status == "failed" and one.muted is not None
    return Counts(**numbers)


def together(parts: Iterable[Counts]) -> Counts:
    """The sum of counts, by status."""
    found = list(parts)
    return Counts(**{name: sum(getattr(one, name) for one in found) for name in Counts.model_fields})
