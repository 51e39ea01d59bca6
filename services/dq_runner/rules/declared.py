"""The files in config/dq_rules/: what people declare of tables, by name or by pattern."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from dq_runner.documents import Exact, Many, Part, Reason, Text, Word
from dq_runner.model import Rule, Severity
from dq_runner.patterns import FullPattern, TablePattern
from dq_runner.rules import custom_sql, regexes


def _bound(value: Any) -> Any:
    if isinstance(value, bool) or not (isinstance(value, int | Decimal) or _is_time(value)):
        raise ValueError("a number, or a day or time in UTC, as 2026-01-31 or 2026-01-31T09:30:00")
    return value


def _is_time(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(datetime.fromisoformat(value))
    except ValueError:
        return False


def _scalar(value: Any) -> Any:
    if not isinstance(value, str | int | Decimal | bool):
        raise ValueError("text, a number, true or false")
    return value


Bound = Annotated[Any, AfterValidator(_bound)]
Value = Annotated[Any, AfterValidator(_scalar)]
Share = Annotated[Exact, Field(ge=0, le=1)]


class _Rule(Part):
    """What every declared rule may say.

    ``where``: only the rows for which this condition holds; ``window: whole``: all rows, however the table is read.
    """

    name: Annotated[str, StringConstraints(max_length=200)] = ""
    severity: Severity = "warning"
    max_share: Share = Decimal(0)
    owner: Text = ""
    fix: Text = ""
    where: Text = ""
    window: Literal["default", "whole"] = "default"

    @field_validator("where")
    @classmethod
    def _is_condition(cls, value: str) -> str:
        if value:
            custom_sql.condition(value)
        return value

    def keys(self) -> tuple[tuple[str, ...], ...]:
        """The columns of each rule that this line makes."""
        columns: tuple[str, ...] = getattr(self, "columns", ())
        return tuple((column,) for column in columns)

    def params(self) -> dict[str, Any]:
        return {}

    def rules(self, owner: str) -> Iterator[Rule]:
        also = {"where": self.where} if self.where else {}
        also |= {"window": self.window} if self.window == "whole" else {}
        keys = self.keys()
        for key in keys:
            name = f"{self.name}({key[0]})" if self.name and len(keys) > 1 else self.name
            yield Rule(
                kind=self.kind,  # type: ignore[attr-defined]
                columns=key,
                severity=self.severity,
                origin="declared",
                name=name,
                params=self.params() | also,
                max_share=self.max_share,
                owner=self.owner or owner,
                fix=self.fix,
            )


Columns = Annotated[Many[Word], Field(min_length=1, max_length=1_000)]


class _OfColumns(_Rule):
    """One rule for each of the columns."""

    columns: Columns

    @field_validator("columns")
    @classmethod
    def _differ(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("each column once")
        return value


class _OfKey(_OfColumns):
    """One rule for all of the columns together."""

    def keys(self) -> tuple[tuple[str, ...], ...]:
        return (self.columns,)


class NotNull(_OfColumns):
    kind: Literal["not_null"]


class Unique(_OfKey):
    """No two rows have the same key. Rows with a NULL in it are not compared."""

    kind: Literal["unique"]


class AcceptedValues(_OfColumns):
    kind: Literal["accepted_values"]
    values: Annotated[Many[Value], Field(min_length=1, max_length=10_000)]

    def params(self) -> dict[str, Any]:
        return {"values": self.values}


def _ordered(least: Bound | None, most: Bound | None) -> None:
    if least is None and most is None:
        raise ValueError("min, max or both")
    if least is None or most is None:
        return
    if isinstance(least, str) != isinstance(most, str):
        raise ValueError("min and max that are both numbers or both dates")
    if least > most:
        raise ValueError(f"min at most max, which is {most}")


class Range(_OfColumns):
    """``min`` and ``max`` are part of the range: numbers, or ISO dates and times (UTC) in quotes or without."""

    kind: Literal["range"]
    min: Bound | None = None
    max: Bound | None = None

    @model_validator(mode="after")
    def _is_range(self) -> Range:
        _ordered(self.min, self.max)
        return self

    def params(self) -> dict[str, Any]:
        return {name: value for name, value in (("min", self.min), ("max", self.max)) if value is not None}


class Regex(_OfColumns):
    """``pattern`` describes the whole value."""

    kind: Literal["regex"]
    pattern: Word

    @field_validator("pattern")
    @classmethod
    def _is_portable(cls, value: str) -> str:
        regexes.check(value)
        return value

    def params(self) -> dict[str, Any]:
        return {"pattern": self.pattern}


class NotInFuture(_OfColumns):
    kind: Literal["not_in_future"]


class FewValues(_OfColumns):
    kind: Literal["few_values"]
    max: Annotated[int, Field(ge=1)]

    def params(self) -> dict[str, Any]:
        return {"max": self.max}


class Referential(_OfKey):
    """``to`` is the table that has the keys: its full name, or what differs from this table's."""

    kind: Literal["referential"]
    to: TablePattern
    to_columns: Columns | None = None

    @model_validator(mode="after")
    def _has_pairs(self) -> Referential:
        if self.to_columns is not None and len(self.to_columns) != len(self.columns):
            raise ValueError(f"as many to_columns as columns, {len(self.columns)}")
        return self

    def params(self) -> dict[str, Any]:
        return {"to": self.to, "to_columns": self.to_columns or self.columns}


class RowCount(_Rule):
    kind: Literal["row_count"]
    min: Annotated[int, Field(ge=0)] | None = None
    max: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _is_range(self) -> RowCount:
        _ordered(self.min, self.max)
        return self

    def keys(self) -> tuple[tuple[str, ...], ...]:
        return ((),)

    def params(self) -> dict[str, Any]:
        return {name: value for name, value in (("min", self.min), ("max", self.max)) if value is not None}


class Freshness(_Rule):
    """The newest row is at most ``max_hours`` old, by ``columns`` (one), or by the table's date column."""

    kind: Literal["freshness"]
    max_hours: Annotated[Exact, Field(gt=0, le=87_600)]
    columns: Annotated[Many[Word], Field(max_length=1)] = ()

    def keys(self) -> tuple[tuple[str, ...], ...]:
        return (self.columns,)

    def params(self) -> dict[str, Any]:
        return {"max_hours": self.max_hours}


class CustomSql(_Rule):
    """One SELECT that lists the rows that break the rule, or counts them.

    ``{table}`` stands for the table, ``{rows}`` for its rows in the window. A share is of the rows in the window.
    """

    kind: Literal["custom_sql"]
    name: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    sql: Annotated[str, StringConstraints(min_length=1, max_length=100_000)]

    @field_validator("sql")
    @classmethod
    def _is_one_select(cls, value: str) -> str:
        custom_sql.parsed(value)
        return value

    @model_validator(mode="after")
    def _has_rows(self) -> CustomSql:
        if self.where:
            raise ValueError("a condition in the statement itself, not where")
        if self.max_share and "{rows}" not in self.sql:
            raise ValueError("{rows} in a statement with max_share, which is of the rows in the window")
        return self

    def keys(self) -> tuple[tuple[str, ...], ...]:
        return ((),)

    def params(self) -> dict[str, Any]:
        return {"sql": self.sql}


AnyRule = Annotated[
    NotNull
    | Unique
    | AcceptedValues
    | Range
    | Regex
    | NotInFuture
    | FewValues
    | Referential
    | RowCount
    | Freshness
    | CustomSql,
    Field(discriminator="kind"),
]


class Off(Part):
    """A convention that is wrong here: its kind, a column or a pattern of columns, and why."""

    rule: Literal[
        "not_null",
        "unique",
        "accepted_values",
        "range",
        "regex",
        "not_in_future",
        "few_values",
        "referential",
        "*",
    ]
    column: Word
    reason: Reason


class TableRules(Part):
    """What is declared of one table, or of all that a pattern means. ``owner`` is that of rules without one."""

    table: FullPattern
    owner: Text = ""
    off: Many[Off] = ()
    rules: Many[AnyRule] = ()

    @model_validator(mode="after")
    def _titles_differ(self) -> TableRules:
        titles = [rule.title for rule in self.made()]
        twice = sorted({title for title in titles if titles.count(title) > 1})
        if twice:
            raise ValueError(f"rules that can be told apart: give a name to the second {', '.join(twice)}")
        return self

    def made(self) -> tuple[Rule, ...]:
        """Its rules in the runner's own model."""
        return tuple(rule for line in self.rules for rule in line.rules(self.owner))


class RuleFile(Part):
    tables: Many[TableRules] = ()
