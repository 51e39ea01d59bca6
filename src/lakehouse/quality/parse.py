"""Text to typed values, strictly: what a type does not describe exactly is refused, never rounded or guessed.

Every parser maps null to null, and text it refuses to null as well; a caller tells the two apart by the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as F

_DECIMAL_TYPE = re.compile(r"^decimal\((\d+),\s*(\d+)\)$")
_SCIENTIFIC = r"\A[+-]?[0-9]+(?:\.([0-9]*))?[eE]([+-]?[0-9]{1,3})\z"
_INTEGER = r"\A[+-]?[0-9]{1,19}\z"
_DATE = r"\A(?!0000)[0-9]{4}-[0-9]{2}-[0-9]{2}\z"
# Microseconds are what a TIMESTAMP holds: further digits may only be zeros.
_CLOCK = r"[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6}0*)?"
# Readers know the years 1 to 9999: an offset must not lead out of them.
_YEARS = r"(?!0000|0001-01-01.*\+(?!00:?00)|9999-12-31.*-(?!00:?00)[0-9:]+\z)"
_ZONED = rf"\A{_YEARS}[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T{_CLOCK}(?:Z|[+-][0-9]{{2}}:?[0-9]{{2}})\z"
_LOCAL = rf"\A(?!0000)[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}[ T]{_CLOCK}\z"
_FIRST, _LAST = "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"
_DAY_MICROS = 86_400_000_000
# Text in scientific notation is compared through decimal(38,18): exact only where no digit lies beyond that scale.
_EXACT_SCALE = 18


@dataclass(frozen=True)
class Parsed:
    """``value`` is null where the text is null or refused; ``expected`` says in words what is accepted."""

    value: Column
    expected: str


def parser(dtype: str, text: Column, timezone: str | None = None) -> Parsed:
    """The parser of a Spark SQL type name.

    ``timezone`` names the zone of a timestamp column whose source sends wall-clock time without an offset.
    Raises ValueError for a type that no text describes.
    """
    decimal = _DECIMAL_TYPE.match(dtype)
    if decimal:
        return _decimal(text, int(decimal[1]), int(decimal[2]))
    match dtype:
        case "string":
            return Parsed(text, "text")
        case "int" | "bigint":
            return Parsed(F.when(text.rlike(_INTEGER), text.try_cast(dtype)), f"a whole number ({dtype})")
        case "boolean":
            lower = F.lower(text)
            return Parsed(F.when(lower.isin("true", "false"), lower == "true"), "true or false")
        case "date":
            return Parsed(F.when(text.rlike(_DATE), text.try_cast("date")), "a date as YYYY-MM-DD")
        case "timestamp":
            return _timestamp(text, timezone)
    raise ValueError(f"no text parser for the type {dtype}")


def _decimal(text: Column, precision: int, scale: int) -> Parsed:
    target = f"decimal({precision},{scale})"
    # The cast would round: beyond the scale only zeros may follow.
    plain = (
        rf"\A[+-]?(?:[0-9]+(?:\.[0-9]{{0,{scale}}}0*)?|\.[0-9]{{1,{scale}}}0*)\z"
        if scale
        else r"\A[+-]?[0-9]+(?:\.0*)?\z"
    )
    wide, narrow = text.try_cast(f"decimal(38,{_EXACT_SCALE})"), text.try_cast(target)
    digits = F.length(F.regexp_extract(text, _SCIENTIFIC, 1))
    exponent = F.regexp_extract(text, _SCIENTIFIC, 2).try_cast("int")
    exact = text.rlike(_SCIENTIFIC) & (digits - exponent <= _EXACT_SCALE) & (wide == narrow)
    return Parsed(
        F.when(text.rlike(plain), narrow).when(exact, narrow),
        f"a number of at most {precision - scale} digits before and {scale} after the point",
    )


def _timestamp(text: Column, timezone: str | None) -> Parsed:
    zoned = F.when(text.rlike(_ZONED), text.try_cast("timestamp"))
    if timezone is None:
        return Parsed(zoned, "a time as YYYY-MM-DDTHH:MM:SS(.ffffff) with Z or an offset")
    wall = F.when(text.rlike(_LOCAL), F.concat(text, F.lit("Z")).try_cast("timestamp"))
    if timezone == "UTC":
        return Parsed(F.coalesce(zoned, wall), "a time as YYYY-MM-DD HH:MM:SS(.ffffff) in UTC")
    return Parsed(
        F.coalesce(zoned, _let(wall, lambda bound: _from_local(bound, timezone))),
        f"a time as YYYY-MM-DD HH:MM:SS(.ffffff) that {timezone} had exactly once",
    )


def _from_local(wall: Column, timezone: str) -> Column:
    """The instant of a wall-clock time, null where a change of offset skips or repeats it."""

    def choose(pair: Column) -> Column:
        before_fits, after_fits = _fits(pair, wall, timezone)
        twice = before_fits & after_fits & (pair["before"] != pair["after"])
        return F.when(twice, F.lit(None)).when(before_fits, pair["before"]).when(after_fits, pair["after"])

    first, last = F.lit(_FIRST).cast("timestamp"), F.lit(_LAST).cast("timestamp")
    return _let(_let(_candidates(wall, timezone), choose), lambda at: F.when(at.between(first, last), at))


def clock_fault(text: Column, timezone: str | None) -> Column:
    """Why a wall-clock time of the right form is no instant: the zone's clock showed it twice, or never; else null."""
    if timezone in (None, "UTC"):
        return F.lit(None).cast("string")
    wall = F.when(text.rlike(_LOCAL), F.concat(text, F.lit("Z")).try_cast("timestamp"))

    def told(pair: Column) -> Column:
        before_fits, after_fits = _fits(pair, wall, str(timezone))
        return F.when(
            before_fits & after_fits & (pair["before"] != pair["after"]),
            f"the clock of {timezone} showed it twice, when it was put back",
        ).when(
            ~before_fits & ~after_fits, f"the clock of {timezone} never showed it, when it was put forward"
        )

    return F.when(wall.isNotNull(), _let(_candidates(wall, str(timezone)), told))


def _candidates(wall: Column, timezone: str) -> Column:
    """The two instants that a wall clock can mean: by the zone's offset a day before, and by that a day after.

    Each counts where it leads back to the same wall clock. This holds for a change of any size.
    """

    def candidate(days: int) -> Column:
        near = F.timestamp_micros(F.unix_micros(wall) + F.lit(days * _DAY_MICROS))
        offset = F.unix_micros(F.from_utc_timestamp(near, timezone)) - F.unix_micros(near)
        return F.timestamp_micros(F.unix_micros(wall) - offset)

    return F.struct(candidate(-1).alias("before"), candidate(1).alias("after"))


def _fits(pair: Column, wall: Column, timezone: str) -> tuple[Column, Column]:
    before, after = (F.from_utc_timestamp(pair[name], timezone) == wall for name in ("before", "after"))
    return before, after


def _let(value: Column, body: Callable[[Column], Column]) -> Column:
    """``body`` of a value computed once: repeated in the expression, it would grow without bound."""
    return F.transform(F.array(value), body)[0]
