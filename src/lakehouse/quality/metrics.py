"""What a gate measures: everything about a table in one pass, then one number and its limits for each rule.

``measure`` is the only part that runs Spark: one aggregation, and beyond it one small query for each rule of partners
or of jumps, and an exact recount where the hashed one found repeated keys. ``bronze`` and ``silver`` are pure: they
turn the counts into Measures, which Great Expectations then holds against their limits (``quality.gx``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import reduce
from operator import and_
from typing import Any

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lakehouse.contracts import Contract, RowRule, SetRule, quote
from lakehouse.quality.rules import MALFORMED, show
from lakehouse.quality.verdicts import Severity

WRITTEN_ROWS = "written_rows"
ROWS_REVERIFIED = "rows_reverified"
NOT_SHRINKING = "not_shrinking"


@dataclass(frozen=True)
class Measure:
    """One rule's number and the limits (both inclusive, None: open) within which the rule holds.

    ``value`` None: there was nothing to measure, and the rule holds.
    """

    rule: str
    kind: str
    severity: Severity
    value: float | None
    low: float | None
    high: float | None
    observed: str
    expected: str
    message: str


@dataclass(frozen=True)
class RunFacts:
    """What the ingest of a run reported: its ledger, and the rows that broke each row rule.

    ``duplicates`` repeat another row of the batch or of an earlier run (of an overlap). ``repeated``: rows of the
    batch that repeat another one's columns, for each ``duplicates`` rule for which they were counted.
    """

    read: int
    inserted: int
    quarantined: int
    duplicates: int = 0
    rules: Mapping[str, int] = field(default_factory=dict)
    repeated: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Counts:
    """One pass over the rows to judge. ``broken``: rows that break a row rule; ``reverified``: rows that break one
    for which they had to be refused; ``surplus``: rows that repeat another one's columns; ``newest``: greatest
    value; ``whole``: rows with all columns set; ``orphans``: those without a partner; ``jumps``: the greatest change
    from one row to the next, and where, in words."""

    rows: int
    reverified: int
    broken: Mapping[str, int]
    surplus: Mapping[tuple[str, ...], int]
    newest: Mapping[str, datetime | date | None]
    whole: Mapping[tuple[str, ...], int]
    orphans: Mapping[str, int]
    jumps: Mapping[str, tuple[float, str]] = field(default_factory=dict)


def measure(frame: DataFrame, contract: Contract, reference: Callable[[str], DataFrame]) -> Counts:
    """Count everything that the contract's rules ask of stored rows. ``reference`` reads a table by its name."""
    judged = [rule for rule in contract.row_rules if not rule.judges_raw_value]
    refusing = [F.expr(rule.violation) for rule in judged if rule.on_failure == "quarantine"]
    column_sets = {
        rule.columns: None
        for rule in contract.set_rules
        if rule.kind in ("unique", "duplicates", "referential")
    }
    hashed = {rule.columns for rule in contract.set_rules if rule.kind in ("unique", "duplicates")}
    dated = {rule.columns[0]: None for rule in contract.set_rules if rule.kind == "freshness"}
    row = frame.agg(
        F.count(F.lit(1)).alias("rows"),
        F.count_if(reduce(lambda one, other: one | other, refusing, F.lit(False))).alias("reverified"),
        *[F.count_if(F.expr(rule.violation)).alias(f"broken:{rule.name}") for rule in judged],
        *[F.count_if(_is_whole(columns)).alias(f"whole:{columns}") for columns in column_sets],
        *[F.count_distinct(_hash(columns)).alias(f"distinct:{columns}") for columns in sorted(hashed)],
        *[
            _as_integer(F.max(quote(name)), contract.column(name).type).alias(f"newest:{name}")
            for name in dated
        ],
    ).head()
    assert row is not None  # an aggregation without grouping has one row
    found = row.asDict()
    # Two keys can share a hash: what the hashes suspect is counted exactly.
    suspected = {
        columns: found[f"whole:{columns}"] - found[f"distinct:{columns}"] for columns in sorted(hashed)
    }
    return Counts(
        rows=found["rows"],
        reverified=found["reverified"],
        broken={rule.name: found[f"broken:{rule.name}"] for rule in judged},
        surplus={columns: surplus(frame, columns) if more else 0 for columns, more in suspected.items()},
        newest={name: _moment(found[f"newest:{name}"], contract.column(name).type) for name in dated},
        whole={columns: found[f"whole:{columns}"] for columns in column_sets},
        orphans={
            rule.name: orphans(frame, rule, reference).count()
            for rule in contract.set_rules
            if rule.kind == "referential" and found[f"whole:{rule.columns}"]
        },
        jumps={
            rule.name: jump
            for rule in contract.set_rules
            if rule.kind == "jump" and (jump := greatest_jump(frame, contract, rule)) is not None
        },
    )


def _as_integer(moment: SparkColumn, type: str) -> SparkColumn:
    """Microseconds or days since 1970: PySpark cannot hand over a timestamp of the first day of year 1."""
    return F.unix_date(moment) if type == "date" else F.unix_micros(moment)


def _moment(since_1970: int | None, type: str) -> datetime | date | None:
    if since_1970 is None:
        return None
    if type == "date":
        return date(1970, 1, 1) + timedelta(days=since_1970)
    return datetime(1970, 1, 1) + timedelta(microseconds=since_1970)  # noqa: DTZ001  # UTC, as Spark gives it


def repeated(frame: DataFrame, columns: Sequence[str]) -> DataFrame:
    """The values of ``columns`` that more than one row has, with ``rows``, the number of them."""
    counted = frame.where(_is_whole(columns)).groupBy(*[quote(name) for name in columns])
    return counted.agg(F.count(F.lit(1)).alias("rows")).where("rows > 1")


def surplus(frame: DataFrame, columns: Sequence[str]) -> int:
    """The number of rows that repeat another one's ``columns``."""
    row = repeated(frame, columns).agg(F.coalesce(F.sum(F.col("rows") - 1), F.lit(0)).alias("surplus")).head()
    assert row is not None  # an aggregation without grouping has one row
    return int(row["surplus"])


def orphans(frame: DataFrame, rule: SetRule, reference: Callable[[str], DataFrame]) -> DataFrame:
    """Rows with all columns of a referential rule set that have no partner."""
    assert rule.references is not None  # the contract loader demands it of a referential rule
    partners = reference(rule.references).select(
        *[F.col(quote(name)).alias(f"__{index}") for index, name in enumerate(rule.referenced_columns)]
    )
    matches = [F.col(quote(name)) == F.col(f"__{index}") for index, name in enumerate(rule.columns)]
    return frame.where(_is_whole(rule.columns)).join(partners, on=reduce(and_, matches), how="left_anti")


def greatest_jump(frame: DataFrame, contract: Contract, rule: SetRule) -> tuple[float, str] | None:
    """The greatest relative change among a jump rule's newest rows, and where; None where nothing precedes them."""
    assert rule.within_days is not None  # the contract loader demands it of a jump rule
    value, order, *per = (F.col(quote(name)) for name in rule.columns)
    before = F.lag(value).over(Window.partitionBy(*per).orderBy(order))
    rows = frame.where(value.isNotNull() & order.isNotNull())
    newest = rows.agg(F.max(order).alias("__newest"))
    shown = {
        name: show(F.col(quote(name)).cast("string"), contract.column(name).is_personal)
        for name in rule.columns
    }
    is_personal = contract.column(rule.columns[0]).is_personal
    changes = rows.select(
        order.alias("__order"),
        F.abs(value.cast("double") / F.nullif(before.cast("double"), F.lit(0.0)) - 1).alias("change"),
        F.concat_ws(" after ", *[show(each.cast("string"), is_personal) for each in (value, before)]).alias(
            "values"
        ),
        F.concat_ws(", ", *[shown[name] for name in (*rule.columns[2:], rule.columns[1])]).alias("where"),
    )
    row = (
        changes.crossJoin(F.broadcast(newest))
        .where(F.date_diff("__newest", "__order") <= rule.within_days)
        .agg(F.max(F.struct("change", "where", "values")).alias("greatest"))
        .head()
    )
    found = None if row is None else row["greatest"]
    if found is None or found["change"] is None:
        return None
    return float(found["change"]), f"{found['where']}: {found['values']}"


def bronze(contract: Contract, facts: RunFacts, counts: Counts, run_time: datetime) -> tuple[Measure, ...]:
    """Measures of one run in a Bronze table: shares of what it read, and the rows that it wrote."""
    measures: list[Measure] = []
    for rule in contract.row_rules:
        broken = facts.rules.get(rule.name, 0) + counts.broken.get(rule.name, 0)
        # Written rows break no rule for which they had to be refused; where some do, ROWS_REVERIFIED tells.
        measures.append(_share(rule, rule.kind, broken, facts.read, "rows broke it"))
    for each in contract.set_rules:
        match each.kind:
            case "rejected":
                malformed = facts.rules.get(MALFORMED, 0)
                words = f"rows rejected ({malformed} of them malformed)" if malformed else "rows rejected"
                measures.append(_share(each, each.kind, facts.quarantined, facts.read, words))
            case "duplicates":
                bound = repeated_bound(each, facts, counts)
                again = facts.repeated.get(each.name, bound)
                words = (
                    "rows repeat another one"
                    if each.name in facts.repeated
                    else "rows at most repeat another one"
                )
                measures.append(_share(each, each.kind, again, facts.read, words))
            case "volume":
                measures.append(_volume(each, facts.read, "rows read"))
            case _:
                measures.append(_stored(each, counts, run_time))
    difference = counts.rows - facts.inserted
    measures.append(
        Measure(
            WRITTEN_ROWS,
            "ledger",
            "critical",
            difference,
            0,
            0,
            f"{counts.rows} rows of the run",
            f"{facts.inserted}, as its ingest reported",
            "A run's rows in Bronze are those that its ingest counted",
        )
    )
    measures.append(
        Measure(
            ROWS_REVERIFIED,
            "reverified",
            "critical",
            counts.reverified,
            None,
            0,
            f"{counts.reverified} written rows break a row rule",
            "none: they had to be refused",
            "Every row rule holds on the rows as written",
        )
    )
    return tuple(measures)


def repeated_bound(rule: SetRule, facts: RunFacts, counts: Counts) -> int:
    """The most rows of a batch that can repeat another one: those of an overlap with earlier runs included."""
    return facts.duplicates + counts.surplus[rule.columns]


def silver(
    contract: Contract, counts: Counts, run_time: datetime, certified_rows: int | None
) -> tuple[Measure, ...]:
    """Measures of a whole table. ``certified_rows``: rows of its last certified version, if there is one."""
    measures: list[Measure] = []
    for rule in contract.row_rules:
        if not rule.judges_raw_value:
            measures.append(_share(rule, rule.kind, counts.broken[rule.name], counts.rows, "rows break it"))
    for each in contract.set_rules:
        if each.kind == "volume":
            measures.append(_volume(each, counts.rows, "rows"))
        elif each.kind not in ("rejected", "duplicates"):
            measures.append(_stored(each, counts, run_time))
    measures.append(
        Measure(
            NOT_SHRINKING,
            "volume",
            "critical",
            counts.rows,
            certified_rows or 0,
            None,
            f"{counts.rows} rows",
            f"at least the {certified_rows} rows of the certified version"
            if certified_rows
            else "any number",
            "A merge removes no row",
        )
    )
    return tuple(measures)


def _stored(rule: SetRule, counts: Counts, run_time: datetime) -> Measure:
    """The measure of a set rule that the stored rows alone answer."""
    if rule.kind == "unique":
        surplus = counts.surplus[rule.columns]
        observed = f"{surplus} of {counts.rows} rows repeat another one's ({', '.join(rule.columns)})"
        return _measure(rule, rule.kind, surplus, observed, "none")
    if rule.kind == "freshness":
        newest = counts.newest[rule.columns[0]]
        age = None if newest is None else _hours(run_time, newest)
        observed = (
            "no row" if age is None else f"newest {rule.columns[0]} {newest}, {age:.1f} h before the run"
        )
        return _measure(rule, rule.kind, age, observed, f"at most {rule.max_age_hours:g} h")
    if rule.kind == "jump":
        change, where = counts.jumps.get(rule.name, (None, "nothing to compare"))
        observed = where if change is None else f"a change of {change:.1%} ({where})"
        return _measure(rule, rule.kind, change, observed, f"at most {rule.max_share or 0:.1%}")
    lonely = counts.orphans.get(rule.name, 0)
    words = f"rows have no partner in {rule.references}"
    return _share(rule, rule.kind, lonely, counts.whole[rule.columns], words)


def _share(rule: RowRule | SetRule, kind: str, part: int, whole: int, words: str) -> Measure:
    share = part / whole if whole else 0.0
    limit = rule.max_share or 0.0
    observed = f"{part} of {whole} {words}" + (f" ({share:.2%})" if part else "")
    return _measure(rule, kind, share, observed, f"at most {limit:.2%}" if limit else "none")


def _volume(rule: SetRule, rows: int, words: str) -> Measure:
    bounds = [
        f"at least {rule.min_rows}" if rule.min_rows is not None else "",
        f"at most {rule.max_rows}" if rule.max_rows is not None else "",
    ]
    return _measure(
        rule, rule.kind, rows, f"{rows} {words}", " and ".join(bound for bound in bounds if bound)
    )


def _measure(
    rule: RowRule | SetRule, kind: str, value: float | None, observed: str, expected: str
) -> Measure:
    low, high = rule.limits
    return Measure(rule.name, kind, rule.severity, value, low, high, observed, expected, rule.message)


def _is_whole(columns: Sequence[str]) -> SparkColumn:
    return reduce(and_, [F.col(quote(name)).isNotNull() for name in columns])


def _hash(columns: Sequence[str]) -> SparkColumn:
    return F.when(_is_whole(columns), F.xxhash64(*[F.col(quote(name)) for name in columns]))


def _hours(run_time: datetime, newest: datetime | date) -> float:
    """Hours from ``newest`` (UTC, as Spark gives it; a day from its beginning) to the run."""
    if not isinstance(newest, datetime):
        newest = datetime(newest.year, newest.month, newest.day)  # noqa: DTZ001  # made aware below
    return (run_time - newest.replace(tzinfo=UTC)).total_seconds() / 3600


def as_row(measures: Sequence[Measure]) -> dict[str, Any]:
    """The one-row result: each rule's value under its name."""
    return {each.rule: each.value for each in measures}
