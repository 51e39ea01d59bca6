"""config/dq_platform.yaml and what lies beside it, as one frozen Config.

``read_config`` says everything that is wrong in all files at once; nothing runs with half of its settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from dq_runner import documents
from dq_runner.documents import Day, Document, Exact, Many, Part, Reason
from dq_runner.model import Column, Mute, Severity, TableName
from dq_runner.patterns import (
    FullPattern,
    NamePattern,
    SchemaPattern,
    TablePattern,
    matches,
    matches_table,
    parts,
)
from dq_runner.rules.declared import RuleFile, TableRules
from dq_runner.rules.mutes import MuteFile
from lakehouse.errors import ConfigError, Violation

PLATFORM = "dq_platform.yaml"
RULES = "dq_rules"
MUTES = "dq_mutes.yaml"

DateType = Literal["DATE", "TIMESTAMP_NTZ", "TIMESTAMP_LTZ", "TIMESTAMP_TZ"]


class Selection(Part):
    """Patterns of databases, schemas and tables. A table is meant where all three lists have a pattern for it."""

    databases: Many[NamePattern] = ()
    schemas: Many[SchemaPattern] = ()
    tables: Many[TablePattern] = ()


class DateOverride(Part):
    """The date column of a table or of a pattern of tables; None: they have none, and are read whole."""

    table: FullPattern
    column: Annotated[str, StringConstraints(min_length=1)] | None


class DateColumn(Part):
    """How a table's date column is found: the first of ``names`` (patterns) that it has with one of ``types``."""

    names: Many[NamePattern]
    types: Many[DateType] = ("TIMESTAMP_NTZ", "TIMESTAMP_LTZ", "TIMESTAMP_TZ", "DATE")
    overrides: Many[DateOverride] = ()

    def of(self, table: TableName, columns: Sequence[Column]) -> Column | None:
        """A table's date column, None where it has none. An override names it exactly or but for case.

        Raises LookupError where an override names a column that the table lacks, or that is no date.
        """
        for override in self.overrides:
            if matches_table(override.table, table):
                return self._overridden(override, columns)
        dated = [column for column in columns if column.type in self.types]
        return next((column for name in self.names for column in dated if matches(name, column.name)), None)

    def _overridden(self, override: DateOverride, columns: Sequence[Column]) -> Column | None:
        if override.column is None:
            return None
        wanted = override.column
        found = next((column for column in columns if column.name == wanted), None) or next(
            (column for column in columns if column.name.upper() == wanted.upper()), None
        )
        if found is None or found.family not in ("date", "timestamp"):
            received = "no such column" if found is None else f"a column of type {found.type}"
            dated = ", ".join(column.name for column in columns if column.family in ("date", "timestamp"))
            raise LookupError(
                f"date_column.overrides names {wanted}: received {received}, expected one of "
                f"{dated or 'none: it has no dates'}"
            )
        return found


class WindowSettings(Part):
    """Which rows are looked at: those of ``yesterday`` (UTC) by the table's date column, or the ``whole`` table.

    ``whole``: tables that are read whole whatever the default is.
    """

    default: Literal["yesterday", "whole"] = "yesterday"
    whole: Many[FullPattern] = ()

    def is_whole(self, table: TableName) -> bool:
        return self.default == "whole" or any(matches_table(pattern, table) for pattern in self.whole)


class Limits(Part):
    """``workers``: connections side by side. ``statement_seconds``: after which Snowflake cancels a query.

    ``seconds`` and ``credits``: what a run may use; the tables that are left are then reported as skipped.
    ``credits_per_hour``: of the warehouse, from which credits are estimated (X-Small: 1).
    """

    workers: Annotated[int, Field(ge=1, le=64)] = 4
    statement_seconds: Annotated[int, Field(ge=1, le=86_400)] = 300
    seconds: Annotated[int, Field(ge=1)] | None = 780
    credits: Annotated[Exact, Field(gt=0)] | None = None
    credits_per_hour: Annotated[Exact, Field(gt=0)] = Decimal(1)


class Conventions(Part):
    """Rules that a column's name stands for: on or off, how severe, and how many values are few for a status."""

    on: bool = True
    severity: Severity = "warning"
    few: Annotated[int, Field(ge=1)] = 50


class Incident(Part):
    """Days of a table or a pattern that say nothing of its normal state: they are left out of its history."""

    table: FullPattern
    first: Day
    last: Day
    reason: Reason

    @model_validator(mode="after")
    def _is_span(self) -> Incident:
        if self.first > self.last:
            raise ValueError(f"first at most last, which is {self.last}")
        return self


class Anomalies(Part):
    """Tables against their own history.

    A day differs where it is ``threshold`` robust deviations away, and by ``floor`` (a share) at least; ``least``
    earlier days of the same kind have to be there. ``distinct``: shares of different values are judged as well.
    """

    on: bool = True
    weeks: Annotated[int, Field(ge=2, le=52)] = 8
    threshold: Annotated[Exact, Field(gt=0)] = Decimal("3.5")
    floor: Annotated[Exact, Field(gt=0, lt=1)] = Decimal("0.05")
    least: Annotated[int, Field(ge=2)] = 4
    severity: Severity = "warning"
    distinct: bool = True
    incidents: Many[Incident] = ()


class Notifications(Part):
    """Where an alarm goes: a topic of SNS, None for nowhere. ``dashboard_url`` is put into the message."""

    topic_arn: (
        Annotated[str, StringConstraints(pattern=r"^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[\w.-]+$")] | None
    ) = None
    dashboard_url: Annotated[str, StringConstraints(pattern=r"^https?://[^/\s]+")] | None = None


class Metrics(Part):
    namespace: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_./#-]+$", max_length=255)] = (
        "Lakehouse/DataQuality"
    )
    on: bool = True


class Lineage(Part):
    """OpenLineage: an event a run, beside its report. ``namespace``: of the job, as the lakehouse's jobs have it."""

    on: bool = True
    namespace: Annotated[str, StringConstraints(min_length=1)] = "lakehouse"


class Platform(Part):
    """config/dq_platform.yaml.

    ``active_days``: a table without rows in so many days is not active. ``samples``: keys of failing rows that a result
    may show, 0 for none: values of rows leave Snowflake with them.
    """

    include: Selection
    exclude: Selection = Selection()
    views: bool = False
    transient: bool = True
    active_days: Annotated[int, Field(ge=1, le=3_650)] = 30
    date_column: DateColumn
    window: WindowSettings = WindowSettings()
    limits: Limits = Limits()
    conventions: Conventions = Conventions()
    samples: Annotated[int, Field(ge=0, le=100)] = 0
    anomalies: Anomalies = Anomalies()
    notifications: Notifications = Notifications()
    metrics: Metrics = Metrics()
    lineage: Lineage = Lineage()

    def means_database(self, name: str) -> bool:
        return _any(self.include.databases, name) and not _any(self.exclude.databases, name)

    def means_schema(self, database: str, name: str) -> bool:
        """Whether tables of this schema may be meant; its database is."""
        return _schema(self.include.schemas, database, name) and not _schema(
            self.exclude.schemas, database, name
        )

    def means(self, table: TableName) -> bool:
        """Whether a table is one to look at, by its names."""
        return (
            self.means_database(table.database)
            and self.means_schema(table.database, table.schema)
            and any(matches_table(pattern, table) for pattern in self.include.tables)
            and not any(matches_table(pattern, table) for pattern in self.exclude.tables)
        )


class Config(Platform):
    """The platform's settings, with what is declared of tables and what is muted."""

    declared: Many[TableRules] = ()
    mutes: Many[Mute] = ()


def read_config(folder: Path) -> Config:
    """The settings in a folder: dq_platform.yaml, dq_rules/*.yaml and, where it is there, dq_mutes.yaml.

    Raises ConfigError with every mistake of every file: file, line, path, what was received and what was expected.
    """
    documents_read: list[Document] = []

    def read(file: Path) -> Document:
        document = documents.read(file, str(file.relative_to(folder.parent)))
        documents_read.append(document)
        return document

    platform = documents.validated(read(folder / PLATFORM), Platform)
    rule_files = [documents.validated(read(file), RuleFile) for file in _rule_files(folder)]
    mutes = documents.validated(read(folder / MUTES), MuteFile) if (folder / MUTES).exists() else MuteFile()
    mistakes = tuple(mistake for document in documents_read for mistake in document.mistakes)
    mistakes += _misplaced(folder)
    if mistakes or platform is None or mutes is None:
        raise ConfigError(
            f"the data-quality settings in {folder} are not valid: nothing was checked",
            violations=mistakes,
            hint="correct what is listed, then try it with: scripts/dq.py rules check",
        )
    return Config(
        **dict(platform),
        declared=tuple(table for file in rule_files if file is not None for table in file.tables),
        mutes=tuple(line.mute() for line in mutes.mutes),
    )


def _rule_files(folder: Path) -> list[Path]:
    return sorted((folder / RULES).glob("*.yaml"))


def _misplaced(folder: Path) -> tuple[Violation, ...]:
    """Files among the rules that nobody would read."""
    others = (
        file
        for file in sorted((folder / RULES).glob("*"))
        if file.suffix != ".yaml" and file.name != ".gitkeep"
    )
    return tuple(
        Violation(
            str(file.relative_to(folder.parent)), "a file that is not read", "a name that ends in .yaml"
        )
        for file in others
    )


def _any(patterns: Sequence[str], name: str) -> bool:
    return any(matches(pattern, name) for pattern in patterns)


def _schema(patterns: Sequence[str], database: str, name: str) -> bool:
    found = (parts(pattern) for pattern in patterns)
    return any(matches(one[-1], name) and (len(one) == 1 or matches(one[0], database)) for one in found)
