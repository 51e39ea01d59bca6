"""Words and files that the page makes of findings: rows to read, CSV, JSON, how to mute. Nothing here is markdown."""

from __future__ import annotations

import csv
import io
import json
import shlex
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import date, datetime, timedelta
from typing import Any

import yaml

from dq_dashboard.findings import Finding
from dq_runner.report import Muted

#: A mute is for as long as a repair takes; the reader changes it.
MUTE_DAYS = 14
#: What a spreadsheet takes for a formula at the beginning of a cell (OWASP, CSV injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def row(one: Finding) -> dict[str, Any]:
    """A finding as a row of a table on the page. What a colour would say, words say.

    A phone shows the first columns only.
    """
    return {
        "Status": one.status,
        "Rule": one.rule,
        "Table": one.table,
        "Severity": one.severity,
        "Observed": one.observed or one.message,
        "Expected": one.expected,
        "Failed rows": one.failed_rows,
        "Share": None if one.share is None else 100 * one.share,
        "Note": note(one),
        "Source": one.source,
        "Checked at (UTC)": one.at.replace(tzinfo=None),
    }


def facts(one: Finding) -> dict[str, str]:
    """All that is known of a test, but for its SQL; what is empty is left out."""
    share = "" if one.share is None else f"{100 * one.share:.4g} %"
    muted = "" if one.muted is None else _muted(one.muted)
    found = {
        "Table": one.table,
        "Column": one.column,
        "Rule": one.rule,
        "Status": one.status + (", new since the day before" if one.new else ""),
        "Severity": one.severity,
        "Observed": one.observed,
        "Expected": one.expected,
        "Message": one.message,
        "Failed rows": _of_rows(one),
        "Share": share,
        "Muted": muted,
        "Owner": one.owner or "not named" if one.source == "snowflake" else "on call for the lakehouse",
        "Origin of the rule": one.origin,
        "Run": one.run_id,
        "Query id": one.query_id,
    }
    return {name: said for name, said in found.items() if said}


def _muted(mute: Muted) -> str:
    return f"until {mute.until}, by {mute.by or 'nobody named'}: {mute.reason}"


def _of_rows(one: Finding) -> str:
    of = "" if one.rows is None else f" of {one.rows:,}"
    return "" if one.failed_rows is None else f"{one.failed_rows:,}{of}"


def note(one: Finding) -> str:
    """Whether it is new, and whether it is muted."""
    muted = f"muted until {one.muted.until}" if one.muted else ""
    return ", ".join(filter(None, ("new" if one.new else "", muted)))


def csv_file(findings: Iterable[Finding]) -> bytes:
    """UTF-8 with a byte order mark, which spreadsheets need to see it; no cell begins as a formula."""
    out = io.StringIO()
    names = [field.name for field in fields(Finding)]
    writer = csv.writer(out)
    writer.writerow(names)
    writer.writerows([cell(_plain(getattr(one, name))) for name in names] for one in findings)
    return b"\xef\xbb\xbf" + out.getvalue().encode("utf-8", "backslashreplace")


def cell(content: Any) -> Any:
    """A text that a spreadsheet would run stands behind an apostrophe; numbers are left alone."""
    return f"'{content}" if isinstance(content, str) and content.startswith(_FORMULA) else content


def json_file(findings: Iterable[Finding], about: Mapping[str, Any]) -> bytes:
    """What is shown, and beside it what it is of: runs, filters, how much of the report was read."""
    rows = [{field.name: getattr(one, field.name) for field in fields(Finding)} for one in findings]
    return json.dumps({**about, "results": rows}, default=_json, ensure_ascii=False).encode(
        "utf-8", "backslashreplace"
    )


def _plain(content: Any) -> Any:
    if content is None or isinstance(content, str | int | float):
        return content
    return content.isoformat() if isinstance(content, datetime) else _compact(content)


def _compact(content: Any) -> str:
    return "" if content == () else json.dumps(content, default=_json, ensure_ascii=False).strip('"')


def _json(content: Any) -> Any:
    if isinstance(content, date):
        return content.isoformat()
    return content.model_dump(mode="json") if hasattr(content, "model_dump") else str(content)


def mute_command(one: Finding, today: date) -> str:
    """What to type; REASON is the reader's."""
    until = today + timedelta(days=MUTE_DAYS)
    return shlex.join(
        ["scripts/dq.py", "mute", one.table, one.rule, "--until", str(until), "--reason", "REASON"]
    )


def mute_lines(one: Finding, today: date) -> str:
    """What that adds to config/dq_mutes.yaml, below ``mutes:``."""
    until = today + timedelta(days=MUTE_DAYS)
    entry = {"table": one.table, "rule": one.rule, "reason": "REASON", "until": until, "by": "NAME"}
    # By letters beyond ASCII an editor could show another name than the one that is meant.
    return textwrap.indent(yaml.safe_dump([entry], sort_keys=False, width=1000), "  ")


def accept_command(one: Finding) -> str:
    """How a person takes a refused run of the lakehouse in as it is (runbook 8.18)."""
    return shlex.join(
        ["scripts/emr_submit.sh", "recover", "recertify", "--table", one.table, "--run", one.run_id]
        + (["--accept", one.rule] if one.severity == "critical" else [])
    )


def age(at: datetime, now: datetime) -> str:
    """How long ago, in the largest unit that says enough."""
    hours = max(0, int((now - at).total_seconds() // 3600))
    if hours < 1:
        return "less than an hour ago"
    return f"{hours} h ago" if hours < 48 else f"{hours // 24} days ago"
