"""The script that shows how the rules find a table: readable, read-only, with exit codes that say what happened."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from pyspark.sql import SparkSession

from lakehouse import contracts
from lakehouse.contracts.spark import schema
from lakehouse.delta.write import overwrite
from lakehouse.quality import verdicts
from lakehouse.session import local_frame
from tests.quality.support import NOON, make_settings
from tests.quality.test_gate import FX, Lake, quotes, refused
from tests.support import load_script, make_tables

RATES = "silver.fx_rates"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("run_ge_checks")


@pytest.fixture
def config(lake: str, tmp_path: Path) -> str:
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(make_settings(lake).model_dump(mode="json", exclude_none=True)))
    return str(path)


def write_rates(spark: SparkSession, lake: str, *rates: tuple[str, str]) -> None:
    """Silver rates of one day: currency and units for a euro."""
    settings = make_settings(lake)
    contract = contracts.load(RATES)
    make_tables(spark, settings, [contract.name])
    rows: list[tuple[Any, ...]] = [
        (date(2026, 1, 2), ccy, Decimal(rate), Decimal("1.1"), Decimal(1), "daily", NOON, 1, "", "h", "r")
        for ccy, rate in rates
    ]
    overwrite(local_frame(spark, rows, schema(contract)), settings.table_uri(RATES), "test")


def test_it_prints_every_rule_and_what_is_broken(
    spark: SparkSession, lake: str, config: str, script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rates(spark, lake, ("USD", "1.1"), ("GBP", "0.8"))
    base = ["--config", config, "--layer", "silver", "--table"]
    assert script.main([*base, "fx_rates"]) == 0
    shown = capsys.readouterr().out
    assert "silver.fx_rates (contract 1." in shown
    for rule in contracts.load(RATES).rules:
        assert rule.name in shown

    write_rates(spark, lake, ("USD", "1.1"), ("GBP", "-0.8"), ("GBP", "0.9"))
    # That a value leaps from one day to the next is measured; no expectation of the native suite looks at two rows.
    for native, measured in ([], ["rate_jumps"]), (["--native"], []):
        assert script.main([*base, RATES, *native]) == 11
        broken = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.endswith("BROKEN")]
        assert sorted(broken) == sorted(["freshness", "rate_positive", "unique_key", *measured])
    script.main([*base, RATES])
    assert "ccy=GBP, rows=2" in capsys.readouterr().out
    assert verdicts.read_all(make_settings(lake), RATES) == []


def test_of_bronze_it_shows_the_run_that_was_judged_last(
    spark: SparkSession, lake: str, config: str, script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    fx = Lake(spark, lake, [FX])
    arguments = ["--config", config, "--layer", "bronze", "--table", "fx_rates"]
    fx.gate(fx.ingest(quotes(20)))
    assert script.main(arguments) == 0
    capsys.readouterr()
    bad = fx.ingest(quotes(9) + quotes(11, ccy_per_eur="-1"), hours=24)
    refused(fx, bad)
    assert script.main(arguments) == 11
    shown = capsys.readouterr().out
    assert f"run {bad}" in shown
    assert "rate_positive" in shown


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--layer", "silver", "--table", "nothing"], 2, "silver.fx_rates"),
        (["--layer", "gold", "--table", "dim_fx", "--run-id", "x"], 2, "no gate of its own"),
        (["--layer", "silver", "--table", "orders", "--run-id", "x"], 2, "YYYYMMDDTHHMMSSZ"),
        (["--layer", "bronze", "--table", "fx_rates"], 10, "no run has been judged"),
        (["--layer", "silver", "--table", "orders"], 10, "no Delta table"),
    ],
    ids=["unknown table", "run of Gold", "no run id", "nothing judged", "no table"],
)
def test_expected_failures_are_one_message(
    spark: SparkSession,
    config: str,
    script: ModuleType,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    assert script.main(["--config", config, *arguments]) == code
    told = capsys.readouterr().err
    assert words in told
    assert "Traceback" not in told


def test_settings_that_are_not_there(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["--config", "nowhere.yaml", "--layer", "silver", "--table", "orders"]) == 2
    assert "nowhere.yaml" in capsys.readouterr().err
