"""Text becomes a typed value exactly, or not at all. All cases are evaluated in one Spark job."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from lakehouse.quality.parse import clock_fault, parser
from lakehouse.session import local_frame


class Case(NamedTuple):
    """What a text is to become, as text of the typed value; None: it is refused."""

    type: str
    text: str
    value: str | None
    timezone: str | None = None


MONEY, RATE = "decimal(18,2)", "decimal(20,12)"
BERLIN, HOWE, APIA = "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia"

CASES = [
    Case("string", "", ""),
    Case("string", " Zoë \n'; DROP TABLE x --", " Zoë \n'; DROP TABLE x --"),
    # Money: formats of one value
    *[
        Case(MONEY, text, "1.00")
        for text in ("1", "1.0", "1.00", "+1", "01", "1.", "1.0000000000000000000000", "1e0", "100E-2")
    ],
    Case(MONEY, "-0.10", "-0.10"),
    Case(MONEY, ".5", "0.50"),
    Case(MONEY, "1234567890123456.99", "1234567890123456.99"),
    Case(MONEY, "-9999999999999999.99", "-9999999999999999.99"),
    # What Java prints for a double of ten million and more
    Case(MONEY, "1.23456789E7", "12345678.90"),
    Case(MONEY, "1.0E15", "1000000000000000.00"),
    # Never rounded, never cut
    *[
        Case(MONEY, text, None)
        for text in (
            "1.005",
            "0.001",
            "1.555e0",
            "1e-3",
            "1e-30",
            "1.000000000000000000001",
            "1.0000000000000000001e0",
        )
    ],
    *[Case(MONEY, text, None) for text in ("12345678901234567", "1E16", "1E400", "9" * 60)],
    # Not numbers
    *[
        Case(MONEY, text, None)
        for text in (
            "",
            " ",
            " 1",
            "1 ",
            "1\n",
            "\t1",
            "abc",
            "1,5",
            "1_000",
            "--1",
            "1-",
            "0x10",
            "1f",
            "1d",
            "NaN",
            "Infinity",
            "-",
            ".",
            "e5",
            "1e",
            "٣",
            "１",
            "$1",
            "1.2.3",
            "NULL",
            "1\u0000",
            "\u202e1",
        )
    ],
    Case(RATE, "1.123456789012", "1.123456789012"),
    Case(RATE, "1.12345678901200", "1.123456789012"),
    Case(RATE, "1.1234567890123", None),
    Case(RATE, "99999999.999999999999", "99999999.999999999999"),
    Case(RATE, "100000000", None),
    # Whole numbers
    Case("int", "2147483647", "2147483647"),
    Case("int", "-2147483648", "-2147483648"),
    Case("int", "2147483648", None),
    Case("int", "007", "7"),
    *[Case("int", text, None) for text in ("", "1.0", "1e3", " 1", "1\n", "+", "0x1")],
    Case("bigint", "9223372036854775807", "9223372036854775807"),
    Case("bigint", "9223372036854775808", None),
    Case("bigint", "99999999999999999999", None),
    # Truth
    *[Case("boolean", text, "true") for text in ("true", "TRUE", "True")],
    Case("boolean", "false", "false"),
    *[Case("boolean", text, None) for text in ("", "1", "0", "yes", "t", " true", "true\n", "TRUE\u0130")],
    # Days
    Case("date", "2024-02-29", "2024-02-29"),
    Case("date", "0001-01-01", "0001-01-01"),
    Case("date", "9999-12-31", "9999-12-31"),
    *[
        Case("date", text, None)
        for text in (
            "2026-02-29",
            "2026-13-01",
            "2026-00-10",
            "0000-01-01",
            "10000-01-01",
            "-2026-01-01",
            "2026-1-2",
            "2026-01-02T00:00:00",
            "2026-01-02 ",
            "2026-01-02\n",
            "20260102",
            "01/02/2026",
            "today",
            "",
        )
    ],
    # Instants
    Case("timestamp", "2026-01-02T03:04:05Z", "2026-01-02 03:04:05"),
    Case("timestamp", "2026-01-02T03:04:05.123Z", "2026-01-02 03:04:05.123"),
    Case("timestamp", "2026-01-02T03:04:05.000+0000", "2026-01-02 03:04:05"),
    Case("timestamp", "2026-01-02T03:04:05.123456+02:00", "2026-01-02 01:04:05.123456"),
    Case("timestamp", "2026-01-02T03:04:05-0530", "2026-01-02 08:34:05"),
    Case("timestamp", "2026-01-02T03:04:05.1234560000Z", "2026-01-02 03:04:05.123456"),
    Case("timestamp", "2026-01-02T03:04:05.1234561Z", None),
    Case("timestamp", "1582-10-10T00:00:00Z", "1582-10-10 00:00:00"),
    Case("timestamp", "0001-01-01T00:00:00Z", "0001-01-01 00:00:00"),
    Case("timestamp", "9999-12-31T23:59:59.999999Z", "9999-12-31 23:59:59.999999"),
    Case("timestamp", "0001-01-01T00:00:00+01:00", None),
    Case("timestamp", "9999-12-31T23:59:59-01:00", None),
    Case("timestamp", "9999-12-31T23:59:59-0000", "9999-12-31 23:59:59"),
    *[
        Case("timestamp", text, None)
        for text in (
            "",
            "2026-01-02",
            "2026-01-02T03:04Z",
            "2026-01-02T03:04:05",
            "2026-01-02 03:04:05Z",
            "2026-01-02t03:04:05z",
            "2026-01-02T24:00:00Z",
            "2026-01-02T23:60:00Z",
            "2026-01-02T23:59:60Z",
            "2026-02-30T00:00:00Z",
            "2026-01-02T03:04:05.Z",
            "2026-01-02T03:04:05+19:00",
            "2026-01-02T03:04:05+02:60",
            "2026-01-02T03:04:05+2",
            "2026-01-02T03:04:05 Europe/Berlin",
            "2026-01-02T03:04:05Z\n",
            " 2026-01-02T03:04:05Z",
            "0000-12-31T23:59:59Z",
            "1767323045",
            "now",
            "epoch",
        )
    ],
    # Wall clocks in UTC
    Case("timestamp", "2026-01-02 03:04:05", "2026-01-02 03:04:05", "UTC"),
    Case("timestamp", "2026-01-02T03:04:05.5", "2026-01-02 03:04:05.5", "UTC"),
    Case("timestamp", "2026-01-02T03:04:05+01:00", "2026-01-02 02:04:05", "UTC"),
    Case("timestamp", "2026-10-25 02:30:00", "2026-10-25 02:30:00", "UTC"),
    *[
        Case("timestamp", text, None, "UTC")
        for text in ("2026-01-02 3:04:05", "2026-01-02", "2026-01-02  03:04:05", "0000-01-01 00:00:00")
    ],
    # Wall clocks where clocks change
    Case("timestamp", "2026-01-02 03:04:05", "2026-01-02 02:04:05", BERLIN),
    Case("timestamp", "2026-07-02 03:04:05", "2026-07-02 01:04:05", BERLIN),
    Case("timestamp", "2026-10-25 01:59:59.999999", "2026-10-24 23:59:59.999999", BERLIN),
    *[
        Case("timestamp", f"2026-10-25 {clock}", None, BERLIN)
        for clock in ("02:00:00", "02:30:00", "02:59:59.999999")
    ],
    Case("timestamp", "2026-10-25 03:00:00", "2026-10-25 02:00:00", BERLIN),
    Case("timestamp", "2026-10-25T02:30:00+01:00", "2026-10-25 01:30:00", BERLIN),
    Case("timestamp", "2026-03-29 01:59:59", "2026-03-29 00:59:59", BERLIN),
    *[
        Case("timestamp", f"2026-03-29 {clock}", None, BERLIN)
        for clock in ("02:00:00", "02:30:00", "02:59:59")
    ],
    Case("timestamp", "2026-03-29 03:00:00", "2026-03-29 01:00:00", BERLIN),
    Case("timestamp", "0001-01-01 00:00:00", None, BERLIN),
    Case("timestamp", "9999-12-31 23:59:59", "9999-12-31 22:59:59", BERLIN),
    # A change of half an hour, and a day that never was
    Case("timestamp", "2026-04-05 01:45:00", None, HOWE),
    Case("timestamp", "2026-04-05 02:00:00", "2026-04-04 15:30:00", HOWE),
    Case("timestamp", "2026-10-04 02:15:00", None, HOWE),
    Case("timestamp", "2026-10-04 02:30:00", "2026-10-03 15:30:00", HOWE),
    Case("timestamp", "2011-12-29 12:00:00", "2011-12-29 22:00:00", APIA),
    Case("timestamp", "2011-12-30 12:00:00", None, APIA),
    Case("timestamp", "2011-12-31 12:00:00", "2011-12-30 22:00:00", APIA),
]


@pytest.fixture(scope="module")
def parsed(spark: SparkSession) -> dict[Case, str | None]:
    kinds = sorted({(case.type, case.timezone) for case in CASES}, key=str)
    rows = [(index, kinds.index((case.type, case.timezone)), case.text) for index, case in enumerate(CASES)]
    frame = local_frame(spark, rows, "i int, kind int, text string").repartition(1)
    values = [parser(dtype, F.col("text"), zone).value.cast("string") for dtype, zone in kinds]
    # Every parser sees every text: none may fail on what is meant for another.
    found = frame.select("i", F.array(*values)[F.col("kind")].alias("value")).collect()
    return {CASES[row["i"]]: row["value"] for row in found}


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case.type} {case.timezone or ''} {case.text[:40]!r}"
)
def test_text_is_parsed_exactly_or_refused(parsed: dict[Case, str | None], case: Case) -> None:
    assert parsed[case] == case.value


@pytest.mark.parametrize(
    ("timezone", "faults"),
    [
        (BERLIN, {"2026-10-25 02:30:00": "showed it twice", "2026-03-29 02:30:00": "never showed it"}),
        (HOWE, {"2026-04-05 01:45:00": "showed it twice", "2026-10-04 02:15:00": "never showed it"}),
        (APIA, {"2011-12-30 12:00:00": "never showed it"}),
        ("UTC", {}),
        (None, {}),
    ],
)
def test_a_time_that_a_clock_showed_twice_or_never_says_so(
    spark: SparkSession, timezone: str | None, faults: dict[str, str]
) -> None:
    texts = [None, "", "2026-10-25 03:00:00", "2026-10-25T02:30:00+01:00", "2026-10-25 2:30", *faults]
    rows = [(index, text) for index, text in enumerate(texts)]
    frame = local_frame(spark, rows, "i int, text string")
    found = frame.select("i", clock_fault(F.col("text"), timezone).alias("fault")).collect()
    told = {texts[row["i"]]: row["fault"] for row in found if row["fault"] is not None}
    assert told.keys() == faults.keys()
    assert all(
        words in told[text] and f"the clock of {timezone}" in told[text] for text, words in faults.items()
    )


def test_null_stays_null(spark: SparkSession) -> None:
    nothing = F.lit(None).cast("string")
    kinds = [
        ("string", None),
        (MONEY, None),
        ("int", None),
        ("boolean", None),
        ("date", None),
        ("timestamp", None),
    ]
    kinds += [("timestamp", "UTC"), ("timestamp", BERLIN)]
    row = (
        spark.range(1)
        .select(*[parser(dtype, nothing, zone).value.alias(str(i)) for i, (dtype, zone) in enumerate(kinds)])
        .head()
    )
    assert row is not None
    assert set(row) == {None}


def test_a_type_without_a_text_form_is_refused() -> None:
    with pytest.raises(ValueError, match="binary"):
        parser("binary", None)  # type: ignore[arg-type]  # the type is looked at first
