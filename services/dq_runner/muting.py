"""Adding a line to config/dq_mutes.yaml: comments and form of the file stay, and nothing is muted that nobody knows."""

from __future__ import annotations

import difflib
import json
import re
from datetime import date, timedelta
from pathlib import Path

from dq_runner import documents
from dq_runner.documents import Document
from dq_runner.model import Mute, TableName
from dq_runner.patterns import matches_table, written
from dq_runner.report import Report
from dq_runner.rules.mutes import MuteFile, means
from lakehouse.errors import ConfigError, UsageError, Violation

#: A failure that nobody mends for longer is no longer one that is waited for.
MOST_DAYS = 90
_EMPTY = re.compile(r"(?m)^mutes:[ \t]*(?:\[[ \t]*\][ \t]*)?(?=#|$)")


def known_rule(report: Report, table: str, rule: str) -> TableName:
    """The one table of a report that is meant, whose rule it is. Raises UsageError with what there is."""
    tables = {TableName(row.database, row.schema_, row.table) for row in report.results}
    try:
        meant = sorted(name for name in tables if matches_table(table, name))
    except ValueError as error:
        raise UsageError(f"received the table {table!r}, expected {error}") from None
    if len(meant) != 1:
        some = ", ".join(map(str, (meant or sorted(tables))[:10]))
        raise UsageError(
            f"received the table {table!r}, expected one of the report's: {len(meant)} are called so",
            hint=f"write all of its name: {some}",
        )
    rules = sorted(
        {row.rule for row in report.results if (row.database, row.schema_, row.table) == _key(meant[0])}
    )
    if rule not in rules:
        alike = difflib.get_close_matches(rule, rules, 5, 0.4) or rules[:10]
        raise UsageError(
            f"{meant[0]}: received the rule {rule!r}, expected one of the report's {len(rules)}",
            hint=f"write it as the report does, as {', '.join(alike)}",
        )
    return meant[0]


def _key(name: TableName) -> tuple[str, str, str]:
    return name.database, name.schema, name.name


def add(file: Path, table: TableName, mute: Mute, today: date) -> None:
    """Add the mute at the end of the file, which is made where it is missing; written whole or not at all.

    Raises UsageError with everything that is wrong with it, ConfigError where the file is none.
    """
    _refuse(mute, today)
    before = file.read_text(encoding="utf-8") if file.exists() else "mutes: []\n"
    held = mutes_in(file.name, before)
    for one in held:
        if one.until >= today and means(one, table, mute.rule):
            raise UsageError(
                f"{table}: {mute.rule} is muted until {one.until} already ({one.reason})",
                hint=f"change that line in {file}",
            )
    after = added(file.name, before, table, mute)
    part = file.with_name(f"{file.name}.part")
    part.write_text(after, encoding="utf-8")
    part.replace(file)


def _refuse(mute: Mute, today: date) -> None:
    last = today + timedelta(days=MOST_DAYS)
    checks = (
        (mute.until < today, "--until", str(mute.until), f"today ({today}) or later"),
        (mute.until > last, "--until", str(mute.until), f"at most {MOST_DAYS} days: {last} or earlier"),
        (len(mute.reason.strip()) < 8, "--reason", repr(mute.reason), "a reason of 8 letters or more"),
        (not mute.by.strip(), "--by", repr(mute.by), "who mutes it"),
    )
    mistakes = tuple(Violation(where, received, expected) for bad, where, received, expected in checks if bad)
    if mistakes:
        raise UsageError("nothing was muted", violations=mistakes)


def added(name: str, before: str, table: TableName, mute: Mute) -> str:
    """The text of a file with the mute in it. Raises ConfigError where its form is none that a line can be added to."""
    after = _with(before, _lines(mute, written(table)))
    wanted = [*mutes_in(name, before), Mute(mute.rule, written(table), mute.reason, mute.until, mute.by)]
    try:
        is_read_back = mutes_in(name, after) == wanted
    except ConfigError:
        is_read_back = False
    if not is_read_back:
        raise ConfigError(
            f"{name}: received a list in a form that no line can be added to, expected one line a key",
            hint="write it as the comments at its head show, or add the mute by hand",
        )
    return after


def mutes_in(name: str, text: str) -> list[Mute]:
    """The mutes of a file's text. Raises ConfigError with every mistake."""
    document = Document(name)
    documents.parse(text, document)
    found = documents.validated(document, MuteFile)
    if found is None:
        raise ConfigError(
            "nothing was muted", violations=tuple(document.mistakes), hint=f"correct {name} first"
        )
    return [line.mute() for line in found.mutes]


def _lines(mute: Mute, table: str) -> list[str]:
    values = {"table": table, "rule": mute.rule, "reason": mute.reason}
    lines = [*(f"{name}: {_yaml(value)}" for name, value in values.items()), f"until: {mute.until}"]
    lines.append(f"by: {_yaml(mute.by)}")
    return [f"- {lines[0]}", *(f"  {line}" for line in lines[1:])]


def _yaml(text: str) -> str:
    """A text as YAML has it: plain where nothing in it can be read as something else."""
    is_plain = re.fullmatch(r"(?!(?i:true|false|null)$)[A-Za-z][\w .,()/$@+-]*(?<! )", text, re.ASCII)
    return text if is_plain else json.dumps(text, ensure_ascii=False)


def _with(text: str, lines: list[str]) -> str:
    if (found := _EMPTY.search(text)) is not None and not re.search(r"(?m)^[ \t]*- ", text[found.end() :]):
        rest = text[found.end() :].removeprefix("\n")
        block = "\n".join(["mutes:", *(f"  {line}" for line in lines)])
        return f"{text[: found.start()]}{block}\n{rest}"
    indent = next(iter(re.findall(r"(?m)^([ \t]*)- ", re.sub(r"(?m)^[ \t]*#.*$", "", text))), "  ")
    return text.rstrip("\n") + "\n" + "\n".join(f"{indent}{line}" for line in lines) + "\n"
