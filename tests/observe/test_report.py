"""The status page: whole in itself, escaped, readable on a phone, and no reason for a run to fail."""

from __future__ import annotations

import argparse
import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakehouse import store
from lakehouse.cli import Job
from lakehouse.flows import report
from lakehouse.observe import outcome
from lakehouse.observe.outcome import Failure
from lakehouse.observe.page import Status, render
from scripts import report as script
from tests.observe.support import RUN, START, an_outcome, config_file
from tests.quality.support import make_settings
from tests.support import new_delta

_VOID = {"meta", "br", "path", "rect"}
VERDICT = {
    "table": "silver.orders",
    "outcome": "failed",
    "version": 4,
    "rules": [
        {
            "name": "amount_not_negative",
            "severity": "critical",
            "passed": False,
            "observed": "3",
            "expected": "0",
        },
        {"name": "other", "severity": "critical", "passed": True, "observed": "0", "expected": "0"},
    ],
}


class Page(HTMLParser):
    """What is checked of a page: tags close, tables are in what scrolls, nothing is fetched."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[tuple[str, str]] = []
        self.fetched: list[str] = []
        self.tables_that_scroll: list[bool] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.fetched += [value for name in ("src", "href") if (value := given.get(name))]
        if tag in {"table", "svg"}:
            self.tables_that_scroll.append(any("wide" in kind for _, kind in self.open))
        if tag not in _VOID:
            self.open.append((tag, given.get("class") or ""))

    def handle_endtag(self, tag: str) -> None:
        if tag in {"td", "th"}:
            self.text += " "
        if tag not in _VOID:
            opened = self.open.pop()
            assert opened[0] == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def a_status(**changes: Any) -> Status:
    values: dict[str, Any] = {
        "run_id": RUN,
        "environment": "local",
        "made_at": START + timedelta(minutes=1),
        "outcomes": [an_outcome("apply_contracts", tables=[]), an_outcome()],
        "verdicts": [VERDICT],
        "trend": [("2026-01-01", {"passed": 8}), ("2026-01-02", {"passed": 6, "failed": 2})],
        "ages": {"silver.orders": 600.0, "gold.dim_fx": 200_000.0},
        "costs": {"bronze_to_silver": Decimal("0.0125"), "a_gate": None},
        "waiting": {("bronze.snowflake_orders", "amount_not_negative"): 12},
        "graph": '<svg xmlns="http://www.w3.org/2000/svg"></svg>',
    }
    return Status(**(values | changes))


def test_the_page_shows_the_run() -> None:
    text = " ".join(Page(render(a_status())).text.split())
    for words in (
        "Succeeded · local", RUN, "bronze_to_silver", "amount_not_negative: 3, expected 0",
        "6 passed, 0 warned, 2 failed", "silver.orders 10 minutes ago", "gold.dim_fx 2 days ago",
        "0.0125 USD", "not billed yet",
        "bronze.snowflake_orders",
    ):  # fmt: skip
        assert words in text, words


def test_jobs_lead_to_their_logs_and_tables_and_say_their_notes() -> None:
    told = an_outcome(
        notes=["late.csv was left out"],
        verdicts=[{"table": "silver.orders", "outcome": "failed", "uri": "u"}],
    )
    drawn = render(a_status(outcomes=[told], logs={"bronze_to_silver": "s3://logs/jobs/1/SPARK_DRIVER/"}))
    page = Page(drawn)
    assert "late.csv was left out" in page.text
    assert "log s3://logs/jobs/1/SPARK_DRIVER/" in page.text
    assert page.fetched == ["#rows-silver.orders", "#verdict-silver.orders", "#verdict-silver.orders"]
    assert all(f'id="{link[1:]}"' in drawn for link in page.fetched)
    on_aws = a_status(
        environment="prod", outcomes=[told], logs={"bronze_to_silver": "s3://logs/emr/1/SPARK_DRIVER/"}
    )
    link = "https://console.aws.amazon.com/s3/buckets/logs?prefix=emr/1/SPARK_DRIVER/"
    assert link in Page(render(on_aws)).fetched
    assert "1 job in 12 s" in " ".join(page.text.split())


def test_counts_that_no_table_has_are_no_columns() -> None:
    ledger = Page(render(a_status())).text
    assert "superseded" in ledger
    assert "conflicts" not in ledger


def test_a_failure_is_the_first_thing_one_reads() -> None:
    text = Page(render(a_status(outcomes=[an_outcome("dq_check_silver", "failed")]))).text
    assert text.index("Failed") < text.index("Jobs")
    assert "GATE_FAILED: no" in text
    assert "What to do: look" in text


def test_a_phone_can_read_it_and_it_needs_nothing_else() -> None:
    drawn = render(a_status())
    page = Page(drawn)
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in drawn
    assert [link for link in page.fetched if not link.startswith("#")] == []
    assert "@import" not in drawn
    assert "url(" not in drawn
    assert "<script" not in drawn
    assert page.tables_that_scroll == [True] * len(page.tables_that_scroll)
    assert not re.search(r"(?<!max-)width:\s*\d+px", drawn)


def test_values_are_escaped() -> None:
    evil = "<script>alert(1)</script>"
    error = Failure(error_class="terminal", code="X", message=evil, hint=evil)
    drawn = render(a_status(outcomes=[an_outcome("a_job", "failed", error=error)], missing=[evil]))
    assert evil not in drawn
    assert Page(drawn).text.count(evil) == 3


def test_a_run_of_which_nothing_is_known() -> None:
    nothing = a_status(outcomes=[], verdicts=[], trend=[], ages={}, costs={}, waiting={}, graph="")
    text = Page(render(nothing)).text
    assert "No job has ended" in text
    assert "No gate has judged in this run." in text


def a_lake(lake: str) -> None:
    settings = make_settings(lake)
    outcome.write(settings, an_outcome("snowflake_to_bronze"))
    options = {"allow_http": "true"}

    def event(
        position: str, status: str, step: int | None, table: str = "bronze.orders", why: str = ""
    ) -> dict[str, Any]:
        why = why or "amount_not_negative: received -5 of jane@example.com"
        return {
            "table_name": table, "run_id": RUN, "position": position, "status": status, "step": step,
            "event_id": f"{position}-{status}", "reasons": [why, why, "currency_known: received XXX"],
        }  # fmt: skip

    kafka = "bronze.kafka_orders"
    events = [
        event("1", "open", None), event("2", "open", None), event("2", "replayed", 1),
        event("3", "open", None), event("3", "fixed", 1), event("5", "open", None), event("5", "discarded", 1),
        # What the stream refused has its first event in the DLQ: one was given up, one is refused for another reason.
        event("0-8", "discarded", 1, kafka),
        event("0-9", "open", 1, kafka, "status_known: received LOST"),
    ]  # fmt: skip
    new_delta(f"{lake}/ops/quarantine", pa.Table.from_pylist(events), options)
    streamed = [
        {"_run_id": RUN, "_position": position, "reasons": ["json: received jane@example.com"]}
        for position in ("0-7", "0-8", "0-9", "1-1")
    ]
    new_delta(f"{lake}/ops/kafka_orders_dlq", pa.Table.from_pylist(streamed), options)
    runs = [{"run_id": RUN, "job": "snowflake_to_bronze", "cost_usd": Decimal("0.250000")}]
    new_delta(f"{lake}/ops/job_runs", pa.Table.from_pylist(runs), options)
    said = [{"created_at": datetime(2026, 1, 2, tzinfo=UTC), "outcome": "warned"}]
    new_delta(f"{lake}/ops/dq_verdicts", pa.Table.from_pylist(said), options)


def test_make_report(lake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, out = config_file(tmp_path, make_settings(lake)), tmp_path / "status.html"
    assert script.main(["--config", config, "--out", str(out)]) == 2
    a_lake(lake)
    assert script.main(["--config", config, "--out", str(out)]) == 0
    drawn = out.read_text()
    text = " ".join(Page(drawn).text.split())
    assert "bronze.orders amount_not_negative 2 bronze.orders currency_known 2" in text
    kafka = ("currency_known 1", "json 2", "status_known 1")
    assert " ".join(f"bronze.kafka_orders {words}" for words in kafka) in text
    assert "0.2500 USD" in text
    assert "2026-01-02 0 passed, 1 warned, 0 failed" in text
    assert "Not shown" not in text
    assert "jane@example.com" not in drawn


def a_job(lake: str) -> Job:
    settings = make_settings(lake)
    told = an_outcome("status_page", tables=[], status="running")
    return Job("status_page", settings, RUN, told, argparse.Namespace())


def test_the_job_keeps_the_page_in_the_lake(lake: str) -> None:
    a_lake(lake)
    report.report(a_job(lake))
    pages = [store.get(f"{lake}/reports/status/{name}.html") for name in (RUN, "latest")]
    assert pages[0] is not None
    assert pages[0] == pages[1]
    assert "Succeeded" in pages[0].decode()


def test_the_last_run_is_a_day(lake: str) -> None:
    settings = make_settings(lake)
    assert report.last_run(settings) is None
    day, later = RUN, RUN.replace("20260102", "20260103")
    for run, job in (
        (day, "fx_to_bronze"),
        (later, "replay_to_bronze"),
        (later, "backfill_fx_to_bronze"),
        (later, "kafka_orders_to_bronze"),
    ):
        store.put(f"{lake}/runs/{run}/{job}/outcome.json", b"{}")
    assert report.last_run(settings) == day
    store.put(f"{lake}/runs/{later}/dq_check_bronze/outcome.json", b"{}")
    assert report.last_run(settings) == later


def test_a_part_that_cannot_be_read_is_named(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "_trend", lambda _: 1 / 0)
    found = report.status(make_settings(lake), RUN, START)
    assert found.missing == ["trend: ZeroDivisionError: division by zero"]


def test_a_page_that_cannot_be_made_is_a_note(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "render", lambda _: 1 / 0)
    job = a_job(lake)
    report.report(job)
    assert job.outcome.notes == ["the status page was not written: ZeroDivisionError: division by zero"]
    assert json.dumps(job.outcome.notes)
