"""Measures: each kind of rule fails on data that breaks it, and Great Expectations is who says so."""

from __future__ import annotations

import random
import socket
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse import contracts
from lakehouse.contracts import Contract
from lakehouse.contracts.spark import schema
from lakehouse.quality import gx, metrics
from lakehouse.quality.metrics import Counts, RunFacts
from lakehouse.quality.verdicts import RuleResult, outcome_of
from lakehouse.session import local_frame
from tests.quality.support import NOON

RATES = contracts.load("bronze.fx_rates")
ORDERS = contracts.load("silver.orders")
SHIPMENTS = contracts.load("silver.vendor_shipments")


def clean(contract: Contract, rows: int = 100, **changes: Any) -> Counts:
    """Counts of a table in which nothing is wrong, but for what is changed."""
    sets = [rule for rule in contract.set_rules if rule.columns]
    found = Counts(
        rows=rows,
        reverified=0,
        broken={rule.name: 0 for rule in contract.row_rules if not rule.judges_raw_value},
        surplus={rule.columns: 0 for rule in sets if rule.kind in ("unique", "duplicates")},
        newest={rule.columns[0]: NOON for rule in sets if rule.kind == "freshness"},
        whole={rule.columns: rows for rule in sets},
        orphans={rule.name: 0 for rule in sets if rule.kind == "referential"},
    )
    for name, value in changes.items():
        old = getattr(found, name)
        changed: Any = {**old, **value} if isinstance(old, Mapping) else value
        found = replace(found, **{name: changed})
    return found


def facts(**changes: Any) -> RunFacts:
    """A run that read 110 rows, refused none, and wrote all but ten duplicates."""
    return replace(RunFacts(read=110, inserted=100, quarantined=0, duplicates=10), **changes)


def bronze(found: Counts, run: RunFacts, contract: Contract = RATES) -> tuple[RuleResult, ...]:
    return gx.decide(contract, metrics.bronze(contract, run, found, NOON))


def silver(
    found: Counts, contract: Contract = ORDERS, certified: int | None = None
) -> tuple[RuleResult, ...]:
    return gx.decide(contract, metrics.silver(contract, found, NOON, certified))


def broken(results: tuple[RuleResult, ...]) -> dict[str, str]:
    return {rule.name: rule.observed for rule in results if not rule.passed}


def test_clean_data_passes() -> None:
    assert broken(bronze(clean(RATES), facts())) == {}
    assert broken(silver(clean(ORDERS))) == {}
    assert outcome_of(silver(clean(ORDERS))) == "passed"


def test_a_run_that_read_nothing_rejects_nothing() -> None:
    run = RunFacts(read=0, inserted=0, quarantined=0)
    assert broken(bronze(clean(RATES, rows=0), run)) == {"volume": "0 rows read"}
    orders = contracts.load("bronze.snowflake_orders")
    results = bronze(clean(orders, rows=0), run, orders)
    assert outcome_of(results) == "warned"


@pytest.mark.parametrize(
    ("found", "run", "expected"),
    [
        pytest.param(
            {},
            {"quarantined": 6, "rules": {"rate_positive": 6}},
            {"rate_positive", "rejected_rows"},
            id="row rule over its share",
        ),
        pytest.param(
            {}, {"quarantined": 5, "rules": {"rate_positive": 5}}, set(), id="row rule within its share"
        ),
        pytest.param(
            {},
            {"quarantined": 6, "rules": {"rate_positive": 3, "ccy_is_iso": 3}},
            {"rejected_rows"},
            id="many rules, each within its share",
        ),
        pytest.param(
            {},
            {"quarantined": 6, "rules": {"ccy_per_eur_parses": 6}},
            {"ccy_per_eur_parses", "rejected_rows"},
            id="unreadable values",
        ),
        pytest.param(
            {}, {"quarantined": 6, "rules": {"malformed": 6}}, {"rejected_rows"}, id="malformed records"
        ),
        pytest.param({}, {"repeated": {"repeated_keys": 23}}, {"repeated_keys"}, id="repeated rows"),
        pytest.param(
            {"surplus": {("as_of_date", "ccy", "publication"): 3}},
            {},
            {"unique_quote"},
            id="a key twice",
        ),
        pytest.param({"broken": {"publication_known": 1}}, {}, {"publication_known"}, id="rule that stops"),
        pytest.param({"reverified": 1}, {}, {"rows_reverified"}, id="tripwire"),
        pytest.param({"rows": 99}, {}, {"written_rows"}, id="rows lost"),
        pytest.param({"rows": 101}, {}, {"written_rows"}, id="rows too many"),
    ],
)
def test_bronze_rules(found: dict[str, Any], run: dict[str, Any], expected: set[str]) -> None:
    results = bronze(clean(RATES, **found), facts(**run) if "rules" not in run else facts(read=100, **run))
    assert set(broken(results)) == expected
    assert outcome_of(results) == ("failed" if expected else "passed")


@pytest.mark.parametrize(
    ("found", "expected", "outcome"),
    [
        pytest.param({"broken": {"amount_not_negative": 1}}, "amount_not_negative", "failed", id="row rule"),
        pytest.param({"broken": {"order_id_not_null": 1}}, "order_id_not_null", "failed", id="null key"),
        pytest.param({"surplus": {("order_id", "event_ts"): 1}}, "unique_key", "failed", id="key twice"),
        pytest.param(
            {"newest": {"event_ts": datetime(2025, 12, 31, 11, tzinfo=UTC)}},
            "freshness",
            "warned",
            id="old data",
        ),
        pytest.param({"rows": 0}, "volume", "warned", id="no rows"),
    ],
)
def test_silver_rules(found: dict[str, Any], expected: str, outcome: str) -> None:
    results = silver(clean(ORDERS, **found))
    assert set(broken(results)) == {expected}
    assert outcome_of(results) == outcome


def test_an_empty_table_is_not_stale() -> None:
    assert "freshness" not in broken(silver(clean(ORDERS, rows=0, newest={"event_ts": None})))


def test_a_day_is_stale_from_its_beginning() -> None:
    rates = contracts.load("silver.fx_rates")
    results = silver(clean(rates, newest={"as_of_date": date(2025, 12, 28)}), rates)
    assert broken(results) == {"freshness": "newest as_of_date 2025-12-28, 132.0 h before the run"}


def test_silver_does_not_shrink() -> None:
    assert broken(silver(clean(ORDERS), certified=100)) == {}
    assert broken(silver(clean(ORDERS), certified=101)) == {"not_shrinking": "100 rows"}


def test_orphans_warn_above_their_share() -> None:
    assert broken(silver(clean(SHIPMENTS, orphans={"known_order": 5}), SHIPMENTS)) == {}
    results = silver(clean(SHIPMENTS, orphans={"known_order": 6}), SHIPMENTS)
    assert broken(results) == {"known_order": "6 of 100 rows have no partner in silver.orders (6.00%)"}
    assert outcome_of(results) == "warned"


def test_thresholds_of_the_environment_decide() -> None:
    changed = RATES.with_overrides(
        {"bronze.fx_rates": {"rate_positive": {"max_share": 0.5}, "rejected_rows": {"severity": "warning"}}}
    )
    run = facts(read=100, quarantined=6, rules={"rate_positive": 6})
    results = bronze(clean(RATES), run, changed)
    assert set(broken(results)) == {"rejected_rows"}
    assert outcome_of(results) == "warned"


def test_it_asks_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    gx._context.cache_clear()
    assert broken(bronze(clean(RATES), facts())) == {}


def shipments(spark: SparkSession, rows: list[dict[str, Any]]) -> DataFrame:
    """Stored shipments, good but for what is given."""
    good = {
        "id": "s",
        "order_id": "o",
        "status": "CREATED",
        "weight_kg": Decimal(1),
        "cost": Decimal(1),
        "currency": "EUR",
        "is_deleted": False,
        "file": "f",
        "line": 1,
        "_source_rank": 0,
        "_source_position": "",
        "_payload_hash": "h",
        "_run_id": "r",
    }
    types = schema(SHIPMENTS)
    return local_frame(
        spark,
        [tuple((good | row).get(field.name) for field in types) for row in rows],
        ", ".join(f"`{field.name}` {field.dataType.simpleString()}" for field in types),
    )


def test_one_pass_counts_everything(spark: SparkSession) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "1"},
        {"id": "2", "cost": Decimal("-1")},
        {"id": "2", "order_id": "unknown"},
        {"id": "2", "status": "LOST", "order_id": None},
        {"id": None, "status": None},
        {"id": None},
    ]
    orders = local_frame(spark, [("o",), ("o",), (None,)], "order_id string")
    found = metrics.measure(shipments(spark, rows), SHIPMENTS, {"silver.orders": orders}.__getitem__)
    assert found.rows == 6
    assert {name: count for name, count in found.broken.items() if count} == {
        "amounts_not_negative": 1,
        "status_known": 1,
        "id_not_null": 2,
        "status_not_null": 1,
        "order_id_not_null": 1,
    }
    assert found.surplus == {("id",): 2}  # rows without a key repeat nothing
    assert found.whole[("order_id",)] == 5
    assert found.orphans == {"known_order": 1}


def test_rows_that_had_to_be_refused_are_found_again(spark: SparkSession) -> None:
    good = {
        "as_of_date": date(2026, 1, 2),
        "ccy": "USD",
        "ccy_per_eur": Decimal("1.1"),
        "publication": "daily",
    }
    changes: list[dict[str, Any]] = [
        {},
        {"ccy": "GBP", "ccy_per_eur": Decimal(0)},
        {"ccy": "usd", "ccy_per_eur": Decimal(-1)},
        {"ccy": "CHF", "publication": "weekly"},
    ]
    names = ["as_of_date", "ccy", "ccy_per_eur", "publication"]
    frame = local_frame(
        spark,
        [tuple((good | row)[name] for name in names) for row in changes],
        "as_of_date date, ccy string, ccy_per_eur decimal(20,12), publication string",
    ).withColumns({name: F.lit("x") for name in RATES.column_names if name not in names})
    found = metrics.measure(frame, RATES, lambda _: frame)
    assert found.reverified == 2
    assert found.broken["publication_known"] == 1


RATE_TABLE = contracts.load("silver.fx_rates")
[JUMP] = (rule for rule in RATE_TABLE.set_rules if rule.kind == "jump")


def test_a_rate_that_jumps_is_a_warning(spark: SparkSession) -> None:
    def jump(*rates: tuple[str, int, str | None]) -> tuple[float, str] | None:
        """Of rates as (currency, day of March, units for one euro)."""
        rows = [
            (ccy, date(2026, 3, day), None if rate is None else Decimal(rate)) for ccy, day, rate in rates
        ]
        frame = local_frame(spark, rows, "ccy string, as_of_date date, ccy_per_eur decimal(20,12)")
        return metrics.greatest_jump(frame, RATE_TABLE, JUMP)

    misprint = jump(("JPY", 18, "162"), ("USD", 18, "1.0700"), ("USD", 19, "1.7112"), ("JPY", 19, "163"))
    assert misprint is not None
    assert round(misprint[0], 5) == 0.59925
    assert misprint[1] == "USD, 2026-03-19: 1.711200000000 after 1.070000000000"
    results = silver(clean(RATE_TABLE, jumps={JUMP.name: misprint}), RATE_TABLE)
    assert set(broken(results)) == {JUMP.name}
    assert outcome_of(results) == "warned"

    # Beyond a gap, the quote before it counts; a quote that is missing is none; other currencies are others.
    gap = jump(("ISK", 2, "150"), ("ISK", 19, "140"), ("ISK", 18, None), ("USD", 18, "1"))
    assert gap is not None
    assert (round(gap[0], 6), gap[1][:15]) == (round(1 - 140 / 150, 6), "ISK, 2026-03-19")
    assert not broken(silver(clean(RATE_TABLE, jumps={JUMP.name: gap}), RATE_TABLE))
    # What leapt long ago is history, and what nothing precedes has not leapt.
    calm = jump(("TRY", 1, "10"), ("TRY", 2, "20"), ("TRY", 19, "20.1"))
    assert calm is not None
    assert (round(calm[0], 6), calm[1]) == (0.005, "TRY, 2026-03-19: 20.100000000000 after 20.000000000000")
    assert jump(("USD", 19, "1.07"), ("JPY", 19, "162")) is None
    assert not broken(silver(clean(RATE_TABLE), RATE_TABLE))


def test_keys_that_share_a_hash_are_told_apart(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_hash", lambda columns: F.lit(1).cast("bigint"))
    orders = local_frame(spark, [("o",)], "order_id string")
    found = metrics.measure(shipments(spark, [{"id": "1"}, {"id": "2"}]), SHIPMENTS, lambda _: orders)
    assert found.surplus == {("id",): 0}


@pytest.mark.parametrize("seed", range(2))
def test_the_gate_and_the_native_suite_agree(spark: SparkSession, seed: int) -> None:
    """On random rows, each broken or not in each rule, both find the same rules broken."""
    generator = random.Random(seed)
    choices: dict[str, list[Any]] = {
        "id": ["1", "2", "3", "4", "5", "6", "7", "8", None],
        "order_id": ["o", "o", "o", None],
        "status": ["CREATED", "DELIVERED", "DELIVERED", "LOST", None],
        "weight_kg": [Decimal(0), Decimal(1), None, Decimal(-1)],
        "cost": [Decimal(0), Decimal(1), None, Decimal(-1)],
        "is_deleted": [False, False, False, None],
        "file": ["f", "f", "f", None],
    }
    # Some columns stay good, so that rules pass as well as fail.
    flawed = generator.sample(sorted(choices), generator.randint(1, len(choices)))
    rows = [
        {"id": f"{index}"} | {name: generator.choice(choices[name]) for name in flawed}
        for index in range(generator.randint(0, 8))
    ]
    frame = shipments(spark, rows)
    orders = local_frame(spark, [("o",)], "order_id string")
    counts = metrics.measure(frame, SHIPMENTS, lambda _: orders)
    ours = gx.decide(SHIPMENTS, metrics.silver(SHIPMENTS, counts, NOON, None))
    theirs = gx.audit(frame, SHIPMENTS, NOON + timedelta(days=1))
    assert theirs
    judged_by_us = {rule.name: rule.passed for rule in ours}
    assert {rule.name: rule.passed for rule in theirs} == {
        rule.name: judged_by_us[rule.name] for rule in theirs
    }
