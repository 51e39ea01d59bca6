"""Row rules: landed text becomes typed rows, each with all the reasons for which it has to be refused.

``split`` judges every row, ``batch_metrics`` counts what it found in one aggregation, ``refusals`` tells where the
batch as a whole is not what the contract describes. Nothing here writes.

Blank text in a required column (white space of any kind, characters that nobody sees), or spaces in one that is no
string, count as no value. Strings stay as received.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.contracts import Column, Contract, RowRule, payload, quote
from lakehouse.errors import ContractViolation, Violation
from lakehouse.landing import MALFORMED_FIELD, POSITION, SURPLUS_FIELD, Manifest
from lakehouse.quality.parse import clock_fault, parser

FIELDS = "fields"
PAYLOAD = "payload"
PAYLOAD_HASH = "_payload_hash"
REASONS = "_reasons"
BROKEN = "_broken"
# A record that could not be taken apart (MALFORMED_FIELD says why) breaks this rule and no other.
MALFORMED = "malformed"
_MALFORMED_WHY = "__raw__malformed"
# What our own sources say of a record, which quotes nothing of it; older landings say the surplus cells behind it.
_OWN_WORDS = (
    "(received nothing|bytes that are not UTF-8|[0-9]+ cells, expected [0-9]+|"
    "a quote (in a cell without quotes|that is never closed)|text behind a closing quote|"
    "a carriage return outside of quotes|quotes around lines that read as rows by themselves|"
    "the value (is|has|escapes) [A-Za-z0-9_ ()-]+)"
)
_OLD_SURPLUS = "; surplus: "
# Nothing that anybody could see: separators, control and format characters, and the letters that are drawn as nothing.
_BLANK = r"\A[\p{Z}\p{Cc}\p{Cf}\x{034F}\x{115F}\x{1160}\x{2800}\x{3164}\x{FFA0}]*\z"
# Fewer unreadable values than this are single bad rows, not a column of another type.
_THROUGHOUT = 10
_SHOWN_CHARACTERS = 80


@dataclass(frozen=True)
class _Check:
    """A row rule as ``split`` applies it; ``violation`` is never null."""

    name: str
    violation: SparkColumn
    columns: tuple[Column, ...]
    message: str
    # Whether it asks for the form of one column's text.
    is_form: bool = False


@dataclass(frozen=True)
class _Judgement:
    """The expressions of ``split``, by column names alone; each stage reads what the one before it made."""

    typed: tuple[SparkColumn, ...]
    broken: SparkColumn
    payload_hash: SparkColumn
    reasons: SparkColumn


def split(raw: DataFrame, contract: Contract, keep: Sequence[str] = ()) -> DataFrame:
    """Typed rows of a batch, each with the reasons to refuse it (none: an empty array).

    ``raw`` has ``fields`` (source field to text as received), ``payload``, ``_position`` and, under their own names,
    every contract column that does not come from a source field. The result has all contract columns, ``payload``,
    ``_broken`` (names of the quarantine rules that the row breaks) and ``_reasons`` (the same in words; values of
    personal columns masked). Rules that say *stop* are the gate's business.
    Columns of ``raw`` named in ``keep`` come along, unjudged.

    ``_payload_hash`` is that of the business columns that are no provenance (``contracts.payload``).
    """
    judgement = _judgement(contract, frozenset(raw.columns))
    typed = raw.select(*judgement.typed, F.col(PAYLOAD), *keep)
    judged = typed.withColumns({BROKEN: judgement.broken, PAYLOAD_HASH: judgement.payload_hash})
    return judged.select(
        *[quote(name) for name in contract.column_names],
        PAYLOAD,
        BROKEN,
        judgement.reasons.alias(REASONS),
        *keep,
    )


@lru_cache(maxsize=32)
def _judgement(contract: Contract, present: frozenset[str]) -> _Judgement:
    """Some thousand calls into the JVM: made once, not once a batch of the stream."""
    given = [column for column in contract.columns if column.source_field or column.name in present]
    why = F.when(F.col(FIELDS).isNull(), "received nothing").otherwise(F.col(FIELDS)[MALFORMED_FIELD])
    checks = _checks(contract)
    names = F.array_compact(F.array(*[F.when(check.violation, F.lit(check.name)) for check in checks]))
    words = F.array_compact(F.array(_malformed_reason(), *[_reason(check) for check in checks]))
    return _Judgement(
        typed=(
            *[_typed(column).alias(column.name) for column in given],
            *[F.col(FIELDS)[column.source_field].alias(column.raw) for column in _source_columns(contract)],
            why.alias(_MALFORMED_WHY),
        ),
        broken=F.when(F.col(_MALFORMED_WHY).isNotNull(), F.array(F.lit(MALFORMED))).otherwise(names),
        payload_hash=payload_hash(contract, {}),
        reasons=F.when(F.size(BROKEN) == 0, F.array().cast("array<string>")).otherwise(words),
    )


def batch_metrics(frame: DataFrame, contract: Contract) -> list[SparkColumn]:
    """Aggregate expressions over the result of ``split``.

    ``rows``, ``bad``, ``rule:<name>`` (rows that break it), ``values:<column>`` (typed values of each source column).
    """
    names = [MALFORMED, *(check.name for check in _checks(contract))]
    return [
        F.count(F.lit(1)).alias("rows"),
        F.count_if(F.size(BROKEN) > 0).alias("bad"),
        *[F.count_if(F.array_contains(BROKEN, name)).alias(f"rule:{name}") for name in names],
        *[F.count(quote(column.name)).alias(f"values:{column.name}") for column in _source_columns(contract)],
    ]


def refusals(contract: Contract, manifest: Manifest, stats: Mapping[str, Any]) -> tuple[Violation, ...]:
    """Everything by which a batch as a whole differs from its contract; ``stats`` are the ``batch_metrics``.

    A declared field that the source did not give at all (messages of a topic declare no fields: there only values
    count), a required column without one value, a column of which no value could be read.
    """
    violations: list[Violation] = []
    readable = stats["rows"] - stats[f"rule:{MALFORMED}"]
    declared = manifest.fields if manifest.source != "kafka" else {}
    for column in _source_columns(contract):
        where = f"{contract.name}.{column.name}"
        values, unreadable = stats[f"values:{column.name}"], stats.get(f"rule:{column.name}_parses", 0)
        if declared and column.source_field not in declared:
            expected = f"a field {column.source_field} ({column.type})"
            violations.append(Violation(where, f"no field {column.source_field}", expected))
        elif values == 0 and unreadable >= _THROUGHOUT:
            violations.append(Violation(where, f"{unreadable} values, all of another type", column.type))
        elif column.required and values == 0 and unreadable == 0 and readable >= _THROUGHOUT:
            violations.append(Violation(where, f"no value in {readable} rows", "a value in every row"))
    return tuple(violations)


def require_contract(contract: Contract, manifest: Manifest, stats: Mapping[str, Any]) -> None:
    """Raise ContractViolation, naming every difference, where the batch as a whole breaks its contract."""
    violations = refusals(contract, manifest, stats)
    if violations:
        file = f"schema_definitions/{contract.name.replace('.', '/')}.yaml"
        raise ContractViolation(
            f"{contract.name}: the batch of run {manifest.run_id} breaks contract {contract.version}; "
            "nothing was written",
            violations=violations,
            hint=f"correct the source, or change {file} where the source changed on purpose; then start a new run, "
            "which extracts the same window again",
        )


def unknown_fields(contract: Contract, manifest: Manifest) -> tuple[str, ...]:
    """Fields that the source gave and the contract lacks: kept in landing and payload, not in the table."""
    known = {column.source_field for column in _source_columns(contract)}
    return tuple(sorted(set(manifest.fields) - known - {POSITION, MALFORMED_FIELD, SURPLUS_FIELD}))


def samples(
    frame: DataFrame, contract: Contract, violation: SparkColumn, n: int = 3
) -> tuple[dict[str, str], ...]:
    """The first ``n`` rows for which ``violation`` is true, as text without nulls, personal columns masked."""
    known = {
        column.name: column for column in contract.columns if not column.is_system or column.name == POSITION
    }
    order = [quote(name) for name in (*contract.key, POSITION) if name in frame.columns]
    shown = [
        show(as_text(known[name]), known[name].is_personal).alias(name)
        for name in frame.columns
        if name in known
    ]
    rows = frame.where(violation).orderBy(*order).limit(n).select(*shown).collect()
    return tuple({name: value for name, value in row.asDict().items() if value is not None} for row in rows)


def mask(text: SparkColumn) -> SparkColumn:
    """A personal value as it may be shown: its first character, or none where that would be most of it."""
    return F.when(F.length(text) > 2, F.concat(F.left(text, F.lit(1)), F.lit("***"))).when(
        text.isNotNull(), "***"
    )


def show(text: SparkColumn, is_personal: bool) -> SparkColumn:
    """Text as it may be shown on a terminal: masked where personal, cut, without control characters."""
    visible = mask(text) if is_personal else text
    head = F.left(visible, F.lit(_SHOWN_CHARACTERS))
    cut = F.when(F.length(visible) > _SHOWN_CHARACTERS, F.concat(head, F.lit("…"))).otherwise(visible)
    return F.regexp_replace(cut, r"\p{C}", "?")


def show_fields(fields: SparkColumn, contract: Contract) -> SparkColumn:
    """A row's fields as they may be shown; one that the contract does not know may be personal."""
    open_to_all = [c.source_field for c in _source_columns(contract) if not c.is_personal]
    names = [*open_to_all, POSITION]
    return F.transform_values(
        fields,
        lambda name, value: (
            F.when(name.isin(names), show(value, False))
            .when(name == MALFORMED_FIELD, _malformed_words(value))
            .otherwise(show(value, True))
        ),
    )


def as_text(column: Column, value: SparkColumn | None = None) -> SparkColumn:
    """A typed value as text; that of the column's own name unless it is given."""
    value = F.col(quote(column.name)) if value is None else value
    if column.type == "binary":
        return F.concat(F.length(value).cast("string"), F.lit(" bytes"))
    return value.cast("string")


def _source_columns(contract: Contract) -> list[Column]:
    return [column for column in contract.columns if column.source_field is not None]


def _typed(column: Column) -> SparkColumn:
    if column.source_field is None:
        return F.col(quote(column.name)).cast(column.type)
    return parser(column.type, F.col(FIELDS)[column.source_field], column.timezone).value


def _checks(contract: Contract) -> list[_Check]:
    """The rules that send a row into quarantine."""
    checks: list[_Check] = []
    for rule in contract.row_rules:
        if rule.on_failure == "quarantine":
            columns = tuple(contract.column(name) for name in rule.columns)
            checks.append(
                _Check(rule.name, _violation(rule, columns), columns, rule.message, rule.judges_raw_value)
            )
    return checks


def _violation(rule: RowRule, columns: Sequence[Column]) -> SparkColumn:
    if rule.kind == "not_null" and columns[0].source_field is not None:
        # What could not be read has a reason already; that it is null now is our own doing.
        return F.coalesce(F.col(columns[0].raw).rlike(_BLANK), F.lit(True))
    return F.expr(rule.violation)


def _reason(check: _Check) -> SparkColumn:
    received = [F.concat(F.lit(f"{_label(column)} received "), _received(column)) for column in check.columns]
    words = F.concat(F.lit(f"{check.name}: "), F.concat_ws(", ", *received), _expected(check))
    return F.when(F.array_contains(BROKEN, check.name), words)


def _expected(check: _Check) -> SparkColumn:
    """What a rule wants; of a local time of the right form, why it is none all the same."""
    said = F.lit(f"; expected: {check.message}")
    column = check.columns[0]
    if not check.is_form or column.timezone in (None, "UTC"):
        return said
    why = F.concat(
        F.lit("; "),
        clock_fault(F.col(column.raw), column.timezone),
        F.lit("; expected: a time that it showed once, or one with its offset"),
    )
    return F.coalesce(why, said)


def _label(column: Column) -> str:
    is_renamed = column.source_field is not None and column.source_field.lower() != column.name
    return f"{column.name} (field {column.source_field})" if is_renamed else column.name


def _received(column: Column) -> SparkColumn:
    text = as_text(column) if column.source_field is None else F.col(column.raw)
    shown = show(text, column.is_personal)
    return F.coalesce(F.concat(F.lit("'"), shown, F.lit("'")), F.lit("nothing"))


def _malformed_reason() -> SparkColumn:
    words = F.concat(
        F.lit(f"{MALFORMED}: "),
        _malformed_words(F.col(_MALFORMED_WHY)),
        F.lit("; expected: one object of named fields"),
    )
    return F.when(F.array_contains(BROKEN, MALFORMED), words)


def _malformed_words(why: SparkColumn) -> SparkColumn:
    """Why a record is malformed, as it may be shown: in our own words, or masked, for others may quote the record."""
    own = F.substring_index(why, _OLD_SURPLUS, 1)
    return F.when(own.rlike(f"^{_OWN_WORDS}(; {_OWN_WORDS})*$"), own).otherwise(show(why, True))


def payload_hash(contract: Contract, instead: Mapping[str, SparkColumn]) -> SparkColumn:
    """The ``_payload_hash`` of a typed row in which some columns have other values; see ``split``."""
    return payload.payload_hash(
        {
            column.name: (column.type, instead.get(column.name, F.col(quote(column.name))))
            for column in contract.business_columns
            if not column.is_provenance
        }
    )
