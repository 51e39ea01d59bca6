"""RUNBOOK_AWS_2025.md as data: its procedures and blocks, pure. What is wrong with the form is said by line.

A block of language `bash` has in the line before it a marker: `<!-- run -->` (executed by tests),
`<!-- aws: REASON -->`
(cannot run locally, checked against AWS's service models) or `<!-- by hand: REASON -->` (checked for syntax). Blocks of
language `text` show what is printed. A procedure is a heading `### <number> <title> {#name}` with the parts Symptoms,
Cause, Do, It worked when; its blocks are executed in order.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from local.shell_words import assigned, variables
from local.stack import REPO

sys.path.insert(0, str(REPO / "dags"))

from common import roles

RUNBOOK = REPO / "RUNBOOK_AWS_2025.md"
PARTS = ("Symptoms", "Cause", "Do", "It worked when")
DAILY = "daily"
#: What a shell has that is set up as section 2 says, or by `make local-up`.
ENVIRONMENT = frozenset(
    {
        "USER",
        "LAKE_BUCKET",
        "CODE_BUCKET",
        "LAKEHOUSE_CONFIG",
        "EMR_APPLICATION_ID",
        *roles.SETTINGS,
        "EMR_PYTHON_ARCHIVE",
        "EMR_LOG_URI",
        "ALERT_TOPIC_ARN",
        "KAFKA_MODE",
        "S3_DQ_REPORTS_BUCKET",
    }
)
_MARKER = re.compile(r"^<!--\s*(run|aws|by hand)\s*(?::\s*(.*?))?\s*-->$")
_HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*$")
_PROCEDURE = re.compile(r"^(\d+(?:\.\d+)*)\s+(.*?)\s*\{#([a-z][a-z0-9-]*)\}$")
_FENCE = re.compile(r"^(`{3,})\s*(\S*)\s*$")
_LINK = re.compile(r"\]\(#([^)\s]+)\)")


@dataclass(frozen=True)
class Problem:
    """What is wrong, and in which line of the document (from 1)."""

    line: int
    message: str

    def __str__(self) -> str:
        return f"{RUNBOOK.name}:{self.line}: {self.message}"


@dataclass(frozen=True)
class Block:
    """A fenced block of bash: the line of its first command, its marker (None: it has none) and the marker's reason."""

    line: int
    marker: str | None
    reason: str
    script: str


@dataclass
class Procedure:
    """What is followed in one go: its name is its heading's anchor."""

    name: str
    number: str
    title: str
    line: int
    text: list[str] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)

    @property
    def runs(self) -> list[Block]:
        return [block for block in self.blocks if block.marker == "run"]

    @property
    def asks_for(self) -> list[str]:
        """Variables that a person takes from the symptoms."""
        script = "\n".join(block.script for block in self.blocks)
        return sorted(n for n in variables(script) - assigned(script) - ENVIRONMENT if n == n.upper())


@dataclass
class Runbook:
    """The document: all its blocks, its procedures, and what is wrong with its form."""

    blocks: list[Block] = field(default_factory=list)
    procedures: list[Procedure] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    #: The blocks outside of procedures: what is typed on a day on which nothing is broken.
    daily: Procedure = field(default_factory=lambda: Procedure(DAILY, "", "a day without incidents", 1))

    def procedure(self, name: str) -> Procedure:
        """Raises KeyError, naming those there are."""
        for found in (self.daily, *self.procedures):
            if found.name == name:
                return found
        names = ", ".join(each.name for each in (self.daily, *self.procedures))
        raise KeyError(f"received the procedure {name!r}, expected one of {names}")


def load(path: Path = RUNBOOK) -> Runbook:
    return parse(path.read_text(encoding="utf-8"))


def parse(document: str) -> Runbook:
    """Never raises: what is wrong is in ``problems``."""
    runbook = Runbook()
    current: Procedure | None = None
    lines = document.splitlines()
    anchors: set[str] = set()
    links: list[tuple[int, str]] = []
    fence: str | None = None
    begun = 0
    for number, line in enumerate(lines, 1):
        found = _FENCE.match(line)
        if fence is not None:
            if found and not found[2] and found[1] == fence:
                block = _block(lines, begun, number, runbook.problems)
                if block is not None:
                    runbook.blocks.append(block)
                    (current or runbook.daily).blocks.append(block)
                fence = None
            continue
        if found:
            fence, begun = found[1], number
            continue
        heading = _HEADING.match(line)
        if heading:
            current = _heading(heading, number, current, runbook, anchors)
            continue
        if current is not None:
            current.text.append(line)
        links += [(number, name) for name in _LINK.findall(line)]
        marker = _MARKER.match(line.strip())
        if line.strip().startswith("<!--") and marker is None:
            runbook.problems.append(
                Problem(number, f"received {line.strip()!r}, expected run, aws: REASON or by hand: REASON")
            )
        elif marker and not (number < len(lines) and lines[number].startswith("```bash")):
            runbook.problems.append(Problem(number, "a marker stands in the line before a block of bash"))
    if fence is not None:
        runbook.problems.append(Problem(begun, "this block is never closed"))
    for number, name in links:
        if name not in anchors:
            runbook.problems.append(Problem(number, f"nothing here is called #{name}"))
    for procedure in runbook.procedures:
        _check_form(procedure, runbook.problems)
    runbook.problems.sort(key=lambda problem: problem.line)
    return runbook


def _heading(
    heading: re.Match[str], line: int, current: Procedure | None, runbook: Runbook, anchors: set[str]
) -> Procedure | None:
    """The procedure that begins here, or that goes on."""
    level, title = len(heading[1]), heading[2]
    found = _PROCEDURE.match(title)
    if "{#" in title and (found is None or level != 3):
        runbook.problems.append(
            Problem(line, f"received {heading[0]!r}, expected `### <number> <title> {{#name}}`")
        )
    if found is None:
        anchors.add(re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-"))
        return current if level > 3 else None
    if found[3] in anchors:
        runbook.problems.append(Problem(line, f"#{found[3]} is there twice"))
    anchors.add(found[3])
    runbook.procedures.append(Procedure(found[3], found[1], found[2], line))
    return runbook.procedures[-1]


def _block(lines: list[str], begun: int, ended: int, problems: list[Problem]) -> Block | None:
    """The block between two fences (lines from 1); None where it is no bash."""
    language = _FENCE.match(lines[begun - 1])[2]  # type: ignore[index]  # the caller has matched it
    if language not in ("bash", "text"):
        problems.append(
            Problem(begun, f"received a block of language {language or 'none'!r}, expected bash or text")
        )
    if language != "bash":
        return None
    marker = _MARKER.match(lines[begun - 2].strip()) if begun > 1 else None
    if marker is None:
        problems.append(
            Problem(
                begun, "a block of bash needs <!-- run -->, <!-- aws: … --> or <!-- by hand: … --> before it"
            )
        )
    elif marker[1] != "run" and not marker[2]:
        problems.append(
            Problem(begun - 1, f"the marker {marker[1]!r} says why, as in <!-- {marker[1]}: … -->")
        )
    script = "\n".join(lines[begun : ended - 1])
    return Block(begun + 1, marker[1] if marker else None, (marker[2] or "") if marker else "", script)


def _check_form(procedure: Procedure, problems: list[Problem]) -> None:
    text = "\n".join(procedure.text)
    places = [text.find(f"**{part}**") for part in PARTS]
    absent = [part for part, place in zip(PARTS, places, strict=True) if place < 0]
    if absent:
        problems.append(
            Problem(procedure.line, f"{procedure.name} lacks {', '.join(f'**{p}**' for p in absent)}")
        )
    elif places != sorted(places):
        problems.append(Problem(procedure.line, f"{procedure.name}: its parts follow as {', '.join(PARTS)}"))
    for name in procedure.asks_for:
        if f"${name}" not in text:
            problems.append(
                Problem(procedure.line, f"{procedure.name}: its text does not say what ${name} is")
            )
