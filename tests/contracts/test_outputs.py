"""What contracts turn into where no Spark is needed: Glue columns and the data dictionary."""

from __future__ import annotations

import subprocess
import sys

from lakehouse import contracts
from lakehouse.contracts import glue
from lakehouse.contracts.dictionary import markdown
from tests.support import REPO


def test_glue_gets_every_column_with_athena_s_types() -> None:
    columns = {column["Name"]: column for column in glue.columns(contracts.load("ops.dq_verdicts"))}
    assert columns["certified_run_ids"]["Type"] == "array<string>"
    assert columns["window_to"] == {
        "Name": "window_to", "Type": "timestamp", "Comment": "Newest window end among the certified runs (UTC)",
    }  # fmt: skip
    assert [column["Name"] for column in glue.columns(contracts.load("silver.orders"))] == list(
        contracts.load("silver.orders").column_names
    )
    assert all(
        len(column["Comment"]) <= 255 for each in contracts.load_all() for column in glue.columns(each)
    )


def test_the_dictionary_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/data_dictionary.py", "--check"],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_dictionary_covers_every_table_and_column() -> None:
    page = markdown(contracts.load_all())
    for contract in contracts.load_all():
        section = page.split(f"### {contract.name}\n")[1].split("\n### ")[0]
        for column in contract.columns:
            assert f"| `{column.name}` | {column.type} |" in section
        for rule in contract.rules:
            derived = rule.kind in ("not_null", "parses", "max_length")
            assert (f"| {rule.name} |" in section) != derived


def test_cells_keep_their_bars() -> None:
    rows = [line for line in markdown(contracts.load_all()).splitlines() if line.startswith("| `")]
    assert rows
    assert {line.replace("\\|", "").count("|") for line in rows} == {6, 7, 8}


def test_the_dictionary_shows_what_columns_are_made_of() -> None:
    page = markdown(contracts.load_all())
    facts = page.split("### gold.fact_orders\n")[1].split("\n### ")[0]
    [amount] = [line for line in facts.splitlines() if line.startswith("| `amount_usd`")]
    assert "`silver.orders.amount`, `gold.dim_fx.usd_per_eur`, `gold.dim_fx.ccy_per_eur`" in amount
    assert (
        "`bronze.fx_rates.ccy_per_eur`, `bronze.kafka_orders.amount`, `bronze.snowflake_orders.amount`"
        in amount
    )
    orders = page.split("### silver.orders\n")[1].split("\n### ")[0]
    assert "snowflake or kafka, by the Bronze table that held the winning row" in orders
