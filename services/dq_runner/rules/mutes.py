"""config/dq_mutes.yaml: failures that people know of. They stay in the report and raise no alarm until a day."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from typing import Annotated

from pydantic import StringConstraints

from dq_runner.documents import Day, Many, Part, Reason, Word
from dq_runner.model import Mute, Result, TableName
from dq_runner.patterns import FullPattern, matches_table


class MuteLine(Part):
    """One mute: ``rule`` is the rule's title as the report has it, ``until`` the last day (UTC) on which it holds."""

    table: FullPattern
    rule: Word
    reason: Reason
    until: Day
    by: Annotated[str, StringConstraints(max_length=255)] = ""

    def mute(self) -> Mute:
        return Mute(self.rule, self.table, self.reason, self.until, self.by)


class MuteFile(Part):
    mutes: Many[MuteLine] = ()


def muted(results: Iterable[Result], mutes: Iterable[Mute], day: date) -> list[Result]:
    """The results, with the mute that holds on this day (UTC) at each failure that has one."""
    holding = [mute for mute in mutes if mute.until >= day]
    return [_muted(result, holding) for result in results]


def _muted(result: Result, holding: list[Mute]) -> Result:
    if result.status != "failed":
        return result
    found = next((mute for mute in holding if means(mute, result.table, result.rule.title)), None)
    return result if found is None else replace(result, muted=found)


def means(mute: Mute, table: TableName, title: str) -> bool:
    """Whether a mute is for this rule of this table."""
    return mute.rule == title and matches_table(mute.table, table)


def ended(results: Iterable[Result], mutes: Iterable[Mute], day: date) -> tuple[str, ...]:
    """A note of each mute that holds no more on this day (UTC): whether its failure alarms again."""
    found = list(results)
    return tuple(_ended(mute, found) for mute in mutes if mute.until < day)


def _ended(mute: Mute, results: list[Result]) -> str:
    statuses = {result.status for result in results if means(mute, result.table, result.rule.title)}
    now = "its rule was not tested in this run"
    if "failed" in statuses:
        now = "it fails and is not muted"
    elif statuses == {"passed"}:
        now = "it does not fail; its line can go"
    return f"the mute of {mute.rule} on {mute.table} ended with {mute.until}: {now}"
