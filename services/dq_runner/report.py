"""The report: one JSON document a run, its version in it. What is written here the dashboard reads.

Where it lies, in the bucket of S3_DQ_REPORTS_BUCKET:

- ``reports/dq_results.json``: the latest run;
- ``reports/history/<date>/<run id>.json``: every run, by the UTC date of its start.

The order of the keys is part of the format: what a reader wants first (run, summary, tables) comes before ``results``,
and these begin with what is broken, so that the head of a huge report is enough for a useful page.
"""

from __future__ import annotations

import json
import sys
from datetime import date
from decimal import Decimal
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

from dq_runner.model import Kind, Origin, Severity, Status

SCHEMA: Literal["dq-results/1"] = "dq-results/1"
LATEST = "reports/dq_results.json"
HISTORY = "reports/history"

#: Database, schema, table and rule: names may have dots in them.
Key = tuple[str, str, str, str]

#: What is broken comes first in a report.
ORDER: tuple[Status, ...] = ("failed", "error", "no_history", "skipped", "passed")


class _Part(BaseModel):
    # A reader of today reads what a later version adds.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Muted(_Part):
    """Why a failure raises no alarm, and until when (the day itself included, UTC)."""

    reason: str
    until: date
    by: str = ""


class ResultRow(_Part):
    """One test. ``column`` has several names with commas between them, and is empty for a rule of the whole table.
    ``sql`` is there for what is broken or could not be checked; of the others, ``query_id`` leads to it.

    ``rule`` is unique in a table. ``share`` is between 0 and 1; ``value`` is what is drawn over time; ``new``: it did
    not fail in the run before; ``samples`` are keys of failing rows and empty unless asked for.
    """

    timestamp: AwareDatetime
    database: str
    schema_: str
    table: str
    column: str
    rule: str
    kind: Kind
    origin: Origin
    status: Status
    severity: Severity
    observed: str
    expected: str
    message: str = ""
    rows: int | None = None
    failed_rows: int | None = None
    share: Decimal | None = None
    value: float | None = None
    query_id: str = ""
    seconds: float = 0.0
    credits: Decimal = Decimal(0)
    sql: str = ""
    owner: str = ""
    fix: str = ""
    new: bool = False
    muted: Muted | None = None
    samples: tuple[dict[str, str], ...] = ()

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        alias_generator=lambda name: "schema" if name == "schema_" else name,
    )

    @property
    def table_name(self) -> str:
        return f"{self.database}.{self.schema_}.{self.table}"

    @property
    def key(self) -> Key:
        """The same test in another run."""
        return self.database, self.schema_, self.table, self.rule

    @property
    def alarms(self) -> bool:
        """Whether somebody has to be told: a critical rule is broken, and nobody has muted it."""
        return self.status == "failed" and self.severity == "critical" and self.muted is None


class Open(_Part):
    """A rule that failed when it was last tried, at ``failed_at``. ``told``: an alarm was raised for it."""

    database: str
    schema_: str
    table: str
    rule: str
    failed_at: AwareDatetime
    told: bool

    model_config = ResultRow.model_config

    @property
    def key(self) -> Key:
        return self.database, self.schema_, self.table, self.rule


class Counts(_Part):
    """Results by status; ``muted`` are those of the failed that are muted, ``critical`` those that alarm."""

    passed: int = 0
    failed: int = 0
    error: int = 0
    skipped: int = 0
    no_history: int = 0
    critical: int = 0
    muted: int = 0


class TableRow(_Part):
    """One table of the run: its results by status, and what it cost. ``rows`` were in the window."""

    database: str
    schema_: str
    table: str
    kind: Literal["table", "view", "transient"]
    window_from: AwareDatetime | None
    window_to: AwareDatetime | None
    date_column: str
    rows: int | None
    counts: Counts
    queries: int
    scans: int
    seconds: float
    credits: Decimal

    model_config = ResultRow.model_config


class Run(_Part):
    """``status``: failed where a critical rule is broken, incomplete where something could not be checked.

    ``account``: Snowflake's identifier of it, by which a query id is found. ``notes``: what somebody has to look at;
    ``remarks``: how the run is to be read.
    """

    run_id: str
    started_at: AwareDatetime
    finished_at: AwareDatetime
    status: Literal["passed", "failed", "incomplete"]
    warehouse: str = ""
    account: str = ""
    queries: int
    scans: int
    seconds: float
    credits: Decimal
    notes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


class Summary(_Part):
    tables: int
    results: int
    counts: Counts
    new_failures: int


class Report(_Part):
    """A whole run; the grain of ``results`` is one test of one rule on one table.

    ``open``: what failed when it was last tried, and gave no answer in this run: not passed, and not new when it fails.
    """

    schema_: Literal["dq-results/1"] = SCHEMA
    run: Run
    summary: Summary
    tables: tuple[TableRow, ...]
    results: tuple[ResultRow, ...]
    open: tuple[Open, ...] = ()

    model_config = ResultRow.model_config

    @property
    def checked_nothing(self) -> bool:
        """Whether there was something to check, and no rule got an answer."""
        counts = self.summary.counts
        return counts.error > 0 and not (counts.passed or counts.failed)

    def to_json(self) -> bytes:
        return self.model_dump_json(by_alias=True).encode()


def json_schema() -> str:
    """The JSON schema of a report, kept in dq_results.schema.json; ``python -m dq_runner.report`` prints it."""
    schema = Report.model_json_schema(mode="serialization")
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA}
    return json.dumps(head | schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(json_schema())
