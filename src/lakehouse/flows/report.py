"""Report: what the last run left behind, as one HTML page, kept in the lake.

The story: read outcomes, verdicts, lineage and ops tables of a run, without Spark; draw the page; put it to
``reports/status/<run>.html`` and ``latest.html``. What cannot be read is named on the page; nothing here fails a run.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

from lakehouse import store
from lakehouse.bounded import described
from lakehouse.cli import Job
from lakehouse.delta.rows import rows
from lakehouse.flows.ingest import SOURCES
from lakehouse.flows.watch import ages
from lakehouse.observe import drawing, graph, job_logs
from lakehouse.observe.outcome import read_run
from lakehouse.observe.page import Status, render
from lakehouse.quality import dlq, quarantine
from lakehouse.quality.refused import LIVE
from lakehouse.settings import Settings

_DAYS = 14
# That of Kafka's may be the stream's.
_DAILY = {"dq_check_bronze", *(f"{source}_to_bronze" for source in SOURCES if source != "kafka")}
_Found = TypeVar("_Found")


def page_uri(settings: Settings, name: str) -> str:
    """Where a page lies: ``name`` is a run id, or ``latest``."""
    return f"{settings.lake_uri}/reports/status/{name}.html"


def report(job: Job) -> None:
    """The job status_page, at the end of a DAG run. Whatever goes wrong is a note."""
    try:
        page = render(status(job.settings, job.run_id, datetime.now(UTC), without=job.name)).encode()
        for name in (job.run_id, "latest"):
            store.put(page_uri(job.settings, name), page, content_type="text/html; charset=utf-8")
    except Exception as error:
        job.outcome.notes.append(f"the status page was not written: {described(error)}")
    else:
        job.outcome.notes.append(f"status page: {page_uri(job.settings, job.run_id)}")


def last_run(settings: Settings) -> str | None:
    """The newest run in which a job of a day left an outcome; replays, backfills and the stream are not days."""
    found = (uri.split("/")[-3:] for uri in store.keys(f"{settings.lake_uri}/runs/"))
    return max((run for run, job, name in found if job in _DAILY and name == "outcome.json"), default=None)


def status(settings: Settings, run_id: str, now: datetime, *, without: str = "") -> Status:
    """All that is known of a run, but for the job ``without``. Reads only; a part that fails is named as missing."""
    missing: list[str] = []

    def part(name: str, read: Callable[[], _Found], empty: _Found) -> _Found:
        try:
            return read()
        except Exception as error:
            missing.append(f"{name}: {described(error)}")
            return empty

    outcomes = [each for each in read_run(settings, run_id) if each.job != without]
    uris = [verdict.uri for outcome in outcomes for verdict in outcome.verdicts]
    wrote = {table.table for outcome in outcomes for table in outcome.tables if table.ledger is not None}
    drawn = part("lineage", lambda: graph.graph(graph.events(settings, run_id)), graph.graph([]))
    return Status(
        run_id=run_id,
        environment=settings.environment,
        made_at=now,
        outcomes=outcomes,
        verdicts=part("verdicts", lambda: [json.loads(body) for body in store.get_many(uris)], []),
        trend=part("trend", lambda: _trend(settings), []),
        ages=part("freshness", lambda: ages(settings, now), {}),
        costs=part("cost", lambda: _costs(settings, run_id), {}),
        waiting=part("quarantine", lambda: _waiting(settings), {}),
        logs=part("logs", lambda: job_logs.locations(settings, outcomes), {}),
        graph=drawing.svg(drawn, f"Lineage of run {run_id[:16]}", wrote) if drawn.edges else "",
        missing=missing,
    )


def _trend(settings: Settings) -> list[tuple[str, Counter[str]]]:
    """Verdicts by day and outcome, the newest days last."""
    days: dict[str, Counter[str]] = {}
    for row in rows(settings.table_uri("ops.dq_verdicts"), ["created_at", "outcome"]):
        days.setdefault(row["created_at"].date().isoformat(), Counter())[row["outcome"]] += 1
    return sorted(days.items())[-_DAYS:]


def _costs(settings: Settings, run_id: str) -> dict[str, Decimal | None]:
    found = rows(settings.table_uri("ops.job_runs"), ["job", "cost_usd"], [("run_id", "=", run_id)])
    return {row["job"]: row["cost_usd"] for row in found}


def _waiting(settings: Settings) -> dict[tuple[str, str], int]:
    """Refused rows that are open or fixed, the stream's among them, by table and reason.

    As scripts/quarantine.py counts them: events fold by their steps as in quality.refused, and a row counts under each
    of its reasons.
    """
    identity = ("table_name", "run_id", "position")
    told = rows(settings.table_uri(quarantine.TABLE), [*identity, "event_id", "status", "step", "reasons"])
    streamed = rows(settings.table_uri(dlq.TABLE), ["_run_id", "_position", "reasons"])
    first = {"table_name": dlq.BRONZE, "event_id": "", "status": quarantine.OPEN, "step": 0}
    told += [
        first | {"run_id": row["_run_id"], "position": row["_position"], "reasons": row["reasons"]}
        for row in streamed
    ]
    events: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in told:
        events.setdefault(tuple(row[name] for name in identity), []).append(row)
    waiting: Counter[tuple[str, str]] = Counter()
    for (table, *_), of_row in events.items():
        live = [row for row in of_row if row["status"] in LIVE]
        if len(live) < len(of_row):
            continue  # replayed or discarded, whatever else was said
        newest = max(live, key=lambda row: (row["step"] or 0, row["event_id"] or ""))
        # A reason is "rule: what was received": the received value is nobody's business here.
        waiting.update({(table, str(reason).partition(": ")[0]) for reason in newest["reasons"] or ()})
    return dict(waiting)
