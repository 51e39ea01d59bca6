"""Which findings are asked for. The page keeps each choice in the URL, by the name of its field here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dq_dashboard.findings import Finding


@dataclass(frozen=True)
class Filters:
    """An empty choice takes everything; choices of several fields must all hold."""

    source: tuple[str, ...] = ()
    status: tuple[str, ...] = ()
    severity: tuple[str, ...] = ()
    table: tuple[str, ...] = ()
    rule: tuple[str, ...] = ()

    @property
    def active(self) -> int:
        return sum(bool(chosen) for chosen in vars(self).values())


#: Field of the filters → what of a finding it looks at, and its label on the page.
LABELS = {"source": "Source", "status": "Status", "severity": "Severity", "table": "Table", "rule": "Rule"}


def value(finding: Finding, field: str) -> str:
    """``rule`` filters by kind: not_null is one choice, not one for each of a thousand columns."""
    return str(getattr(finding, "kind" if field == "rule" else field))


def options(findings: Iterable[Finding], field: str) -> list[str]:
    return sorted({value(one, field) for one in findings})


def matching(findings: Iterable[Finding], filters: Filters) -> list[Finding]:
    """Findings that fit, in the order given."""
    chosen = {field: frozenset(values) for field, values in vars(filters).items() if values}
    return [one for one in findings if all(value(one, field) in values for field, values in chosen.items())]


def unknown(query: Mapping[str, Sequence[str]], known: Mapping[str, Sequence[str]]) -> list[str]:
    """Names of filters for which a link asks for what is not here, so that it shows more than it was made for."""
    return [
        field for field, asked in query.items() if field in known and set(asked) - {""} - set(known[field])
    ]
