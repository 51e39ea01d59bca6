"""Fix: what a reviewed file would make of refused rows, and what the contract would say of them then.

``plan`` shows it and writes nothing; ``apply`` adds a ``fixed`` event with the new payload for every row that the file
changes. Whether a row passes is said by a replay: the contract may change in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel

from lakehouse.errors import UsageError, Violation
from lakehouse.flows.landed import unpacked
from lakehouse.flows.replay import judged
from lakehouse.landing import MALFORMED_FIELD
from lakehouse.quality import dlq, refused, rules
from lakehouse.quality.expressions import refusal
from lakehouse.quality.fixes import HINT, Fix, Patch, is_object, source_fields
from lakehouse.quality.quarantine import OPEN
from lakehouse.quality.refused import FIXED, LIVE
from lakehouse.session import local_frame
from lakehouse.settings import Settings

_MAP = "map<string,string>"
# What a row's state has in addition while a file is worked out.
_OF_FILE = ("__before", "fixed_payload", "is_patched", "of_expressions", "set", "value")
# Beyond these, rows of one table have no common fields to speak of.
_MAX_FIELDS = 500


@dataclass(frozen=True)
class Plan:
    """What a fix file comes to. ``rows``: the rows that it changes, kept until ``release``; columns as ``plan`` says.

    ``unchanged`` rows are meant by the file, and it leaves them as they are.
    """

    fix: Fix
    rows: DataFrame
    changed: int
    passing: int
    unchanged: int

    def release(self) -> None:
        self.rows.unpersist()


def plan(spark: SparkSession, settings: Settings, fix: Fix) -> Plan:
    """Work out a fix. Raises UsageError with everything that is wrong with it at once.

    Columns of the rows: ``state``, ``before`` and ``after`` (fields), ``payload`` (the fixed one) and ``_reasons``,
    those for which the fixed row would be refused.
    """
    states = refused.rows(spark, settings).where(F.col("table_name") == fix.table)
    patched = states.join(_patches(spark, fix), on=["run_id", "position"], how="left")
    meant = patched.withColumn("of_expressions", _of_expressions(fix))
    is_wanted = F.col("of_expressions") | F.col("is_patched").isNotNull()
    rows = meant.where(F.col("status").isin(*LIVE) & is_wanted)
    taken_apart = unpacked(
        rows.select(F.struct("*").alias("state"), F.col("received").alias("payload")),
        fix.source,
        settings.sources.kafka.max_value_bytes,
    ).persist(StorageLevel.MEMORY_AND_DISK)
    try:
        fields = _field_names(fix, taken_apart)
        violations = [*_row_violations(fix, states, taken_apart), *_sql_violations(spark, fix, fields)]
        if violations:
            raise UsageError("the fix cannot be worked out", violations=tuple(violations), hint=HINT)
        return _worked_out(settings, fix, taken_apart, fields)
    except PySparkException as error:
        condition = error.getCondition() or type(error).__name__
        raise UsageError(
            f"{fix.table}: an expression fails on a row ({condition})",
            hint="use TRY_CAST and the try_ functions, or a CASE that leaves such rows out; nothing was written",
        ) from None
    finally:
        taken_apart.unpersist()


def apply(settings: Settings, planned: Plan, *, by: str, at: datetime) -> None:
    """Add a ``fixed`` event for every row of the plan. Applied twice, it is one event."""
    if not planned.changed:
        return
    found = planned.rows.select("state.*", F.col("payload").alias("fixed"))
    new = refused.later(
        found,
        FIXED,
        ((F.col("step") + 1).cast("string"), F.sha2("fixed", 256)),
        payload=F.col("fixed"),
        reasons=F.col("reasons"),
        contract_version=F.col("contract_version"),
        actor=by,
        note=planned.fix.why,
        at=at,
    )
    refused.append(settings, new, f"quarantine/fix/{planned.fix.table}")


def _worked_out(settings: Settings, fix: Fix, rows: DataFrame, fields: Sequence[str]) -> Plan:
    before = F.coalesce(F.col(rules.FIELDS), F.create_map().cast(_MAP))
    own = [name for name in rows.columns if name not in ("state", "payload", rules.FIELDS)]
    base = rows.select(
        F.col("state").alias("__state"),
        F.col("payload").alias("__received"),
        F.struct(F.lit(1), *own).alias("__own"),
        before.alias("__before"),
        *[before[name].alias(name) for name in fields],
    )
    expressions = [
        (reason, name, sql) for reason, found in fix.expressions.items() for name, sql in found.items()
    ]
    # Within a CASE: an expression sees no row but those that it is meant for.
    values = [
        F.when(_is_meant(reason), F.expr(sql).cast("string")).alias(f"__value_{n}")
        for n, (reason, _, sql) in enumerate(expressions)
    ]
    valued = base.select("*", *values)
    changes = valued.withColumn("__changes", _changes([(reason, name) for reason, name, _ in expressions]))
    after = changes.withColumn("__after", _changed(F.col("__before"), F.col("__changes")))
    payload = _payload(fix)
    fixed = after.select("__state.*", "__before", payload.alias("fixed_payload"))
    planned = judged(settings, fixed, fix.table, "fixed_payload").select(
        F.col("state").dropFields(*_OF_FILE).alias("state"),
        F.col("state.__before").alias("before"),
        F.col(rules.FIELDS).alias("after"),
        "payload",
        rules.REASONS,
    )
    is_same = F.col("payload").eqNullSafe(F.col("state.received")) | (
        (F.col("state.status") == FIXED) & (F.col("payload") == F.col("state.payload"))
    )
    whole = planned.withColumn("is_same", is_same).persist(StorageLevel.MEMORY_AND_DISK)
    counts = whole.agg(
        F.count_if(~F.col("is_same")).alias("changed"),
        F.count_if(~F.col("is_same") & (F.size(rules.REASONS) == 0)).alias("passing"),
        F.count_if("is_same").alias("unchanged"),
    ).head()
    assert counts is not None  # an aggregation without grouping has one row
    kept = whole.where(~F.col("is_same")).drop("is_same").persist(StorageLevel.MEMORY_AND_DISK)
    kept.count()
    whole.unpersist()
    return Plan(fix, kept, counts["changed"], counts["passing"], counts["unchanged"])


def _changes(expressions: Sequence[tuple[str, str]]) -> Column:
    """Field to new text: what expressions say, where a row breaks their rule, then what its own ``set`` says.

    Where a row breaks several rules that change one field, the file's first counts.
    """
    names = dict.fromkeys(name for _, name in expressions)
    entries = []
    for name in names:
        value, holds = F.lit(None).cast("string"), F.lit(False)
        for n, (reason, field) in reversed(list(enumerate(expressions))):
            if field == name:
                value = F.when(_is_meant(reason), F.col(f"__value_{n}")).otherwise(value)
                holds = holds | _is_meant(reason)
        entries.append(F.when(holds, F.struct(F.lit(name).alias("key"), value.alias("value"))))
    empty = F.create_map().cast(_MAP)
    patch = F.coalesce(F.col("__state.set"), empty)
    if not entries:
        return patch
    said = F.map_from_entries(F.array_compact(F.array(*entries)))
    return F.map_concat(F.map_filter(said, lambda name, _: ~F.map_contains_key(patch, name)), patch)


def _is_meant(rule: str) -> Column:
    """Whether a rule's expressions hold for a row."""
    return F.col("__state.of_expressions") & F.exists(
        "__state.reasons", lambda reason: F.substring_index(reason, ": ", 1) == rule
    )


def _changed(fields: Column, changes: Column) -> Column:
    """The fields with the changes in their places, new ones behind."""
    present = F.transform_values(
        fields, lambda name, value: F.when(F.map_contains_key(changes, name), changes[name]).otherwise(value)
    )
    whole = F.map_concat(present, F.map_filter(changes, lambda name, _: ~F.map_contains_key(fields, name)))
    return F.map_filter(whole, lambda name, value: (name != MALFORMED_FIELD) | value.isNotNull())


def _payload(fix: Fix) -> Column:
    """The fixed row as its landing would have given it; as received where nothing is changed."""
    text = F.to_json("__after")
    is_changed = text != F.to_json("__before")
    whole = F.col("__state.value")
    if fix.source != "kafka":
        return F.coalesce(whole, F.when(is_changed, text), F.col("__received"))
    value = F.encode(F.coalesce(whole, text), "UTF-8")
    record = dlq.payload(lambda name: value if name == "value" else F.col(f"__own.{name}"))
    return F.when(whole.isNotNull() | is_changed, record).otherwise(F.col("__received"))


def _patches(spark: SparkSession, fix: Fix) -> DataFrame:
    rows = [(row.run_id, row.position, dict(row.set) or None, row.value, True) for row in fix.rows]
    return local_frame(
        spark, rows, f"run_id string, position string, `set` {_MAP}, value string, is_patched boolean"
    )


def _of_expressions(fix: Fix) -> Column:
    meant = F.lit(False)
    for reason in fix.expressions:
        meant = meant | refused.breaks(reason)
    if fix.runs:
        meant = meant & F.col("run_id").isin(*fix.runs)
    return meant & (F.col("status") == OPEN)


def _field_names(fix: Fix, rows: DataFrame) -> tuple[str, ...]:
    """The fields that expressions may speak of: the contract's, and what else the rows have."""
    found = rows.select(F.explode(F.map_keys(rules.FIELDS)).alias("name")).distinct().limit(_MAX_FIELDS)
    names: dict[str, str] = {}
    for name in (*source_fields(fix.contract), *sorted(row["name"] for row in found.collect())):
        # SQL does not tell names by their case.
        if name and not name.startswith("_"):
            names.setdefault(name.lower(), name)
    return tuple(names.values())


def _row_violations(fix: Fix, states: DataFrame, rows: DataFrame) -> list[Violation]:
    """Rows of the file that nobody refused or that are done with, and fields that they do not have."""
    if not fix.rows:
        return []
    known = {
        (row["run_id"], row["position"]): row["status"]
        for row in states.where(F.col("position").isin([row.position for row in fix.rows]))
        .select("run_id", "position", "status")
        .collect()
    }
    of_row: dict[tuple[str, str], list[str]] = {
        (row["run_id"], row["position"]): row["names"] or []
        for row in rows.where("state.is_patched")
        .select("state.run_id", "state.position", F.map_keys(rules.FIELDS).alias("names"))
        .collect()
    }
    violations: list[Violation] = []
    for patch in fix.rows:
        where = f"{fix.table}, run {patch.run_id}, position {patch.position}"
        status = known.get((patch.run_id, patch.position))
        if status is None:
            violations.append(Violation(where, "no such row", "a row that was refused"))
        elif status not in LIVE:
            violations.append(Violation(where, f"a row that is {status}", f"one that is {' or '.join(LIVE)}"))
        else:
            violations.extend(_patch_violations(fix, patch, where, of_row[(patch.run_id, patch.position)]))
    return violations


def _patch_violations(fix: Fix, patch: Patch, where: str, names: Sequence[str]) -> list[Violation]:
    is_kafka = fix.source == "kafka"
    if patch.value is not None:
        fits = is_kafka or is_object(patch.value)
        return [] if fits else [Violation(f"{where}, value", "no JSON object", "the whole row as one")]
    if is_kafka and MALFORMED_FIELD in names:
        return [
            Violation(
                where, "set for an event that is no JSON object", "the whole event as it should be, in value"
            )
        ]
    allowed = {*source_fields(fix.contract), *names} - {"_position"}
    if MALFORMED_FIELD not in names:
        allowed -= {MALFORMED_FIELD}
    return [
        Violation(f"{where}, field {name}", "an unknown field", f"one of {', '.join(sorted(allowed))}")
        for name in patch.set
        if name not in allowed
    ]


def _sql_violations(spark: SparkSession, fix: Fix, fields: Sequence[str]) -> list[Violation]:
    violations = []
    for reason, found in fix.expressions.items():
        for name, sql in found.items():
            where = f"expressions.{reason}.{name}"
            if name not in fields:
                violations.append(Violation(where, "an unknown field", f"one of {', '.join(sorted(fields))}"))
            refused_for = refusal(spark, sql, fields)
            if refused_for is not None:
                violations.append(Violation(where, *refused_for))
    return violations
