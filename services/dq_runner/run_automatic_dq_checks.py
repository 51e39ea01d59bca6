"""The Lambda function dq-platform-runner: its handler is ``run_automatic_dq_checks.main``.

The schedule calls it without waiting (asynchronously). Lambda calls twice more what raises, after one and two minutes,
with the same event (AWS, Lambda: error handling of asynchronous invocation): so it raises only what another try can
mend, and each try of an event is the same run.
"""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from dq_runner.config import read_config
from dq_runner.notify import notify_not_ended
from dq_runner.report import Report
from dq_runner.runner import Asked, read_settings, run
from dq_runner.session import quiet_connector
from lakehouse.errors import LakehouseError, UsageError, Violation
from lakehouse.masks import without_secrets

log = logging.getLogger("dq_runner")
#: Seconds that are kept for the report, after the last query.
RESERVE = 45.0


def main(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Check yesterday's rows, or what the event asks for: ``{"date": "2026-11-28", "whole": false, "tables": []}``.

    Returns a summary. Raises what another try can help; of all else the topic ALERT_TOPIC_ARN is told.
    """
    logging.getLogger().setLevel(logging.INFO)
    quiet_connector()
    at, run_id = moment(event, datetime.now(UTC)), ""
    topic = os.environ.get("ALERT_TOPIC_ARN") or None
    try:
        run_id = run_id_of(event, at, str(getattr(context, "aws_request_id", "")))
        settings = read_settings(os.environ)
        config = read_config(config_folder())
        topic = topic or config.notifications.topic_arn
        report = run(
            config,
            settings,
            at=at,
            run_id=run_id,
            asked=asked(event),
            seconds=max(1.0, context.get_remaining_time_in_millis() / 1000 - RESERVE),
        )
    except LakehouseError as error:
        told = without_secrets(f"{error.code}: {error.message}\nWhat to do: {error.hint}")
        log.error("run %s: %s", run_id, told)
        if error.error_class == "transient":
            raise
        notify_not_ended(told, run_id, at, topic)
        return {"run_id": run_id, "status": "not_checked", "code": error.code, "message": told}
    found = summary(report)
    log.info(json.dumps(found))
    return found


def summary(report: Report) -> dict[str, Any]:
    """What the caller and the log are told of a run."""
    run_, counts = report.run, report.summary.counts
    return {
        "run_id": run_.run_id,
        "status": run_.status,
        "tables": report.summary.tables,
        "results": report.summary.results,
        **counts.model_dump(),
        "new_failures": report.summary.new_failures,
        "queries": run_.queries,
        "scans": run_.scans,
        "seconds": run_.seconds,
        "credits": str(run_.credits),
    }


def moment(event: Mapping[str, Any], now: datetime) -> datetime:
    """The time that the event was scheduled for, else now: each try of a scheduled event has the same window."""
    try:
        return datetime.fromisoformat(str(event.get("time", ""))).astimezone(UTC)
    except ValueError:
        return now


def run_id_of(event: Mapping[str, Any], at: datetime, request_id: str) -> str:
    """The same for each try of an event: by the id of the schedule's event, else that of the request, which Lambda
    keeps when it calls again. The time of a request is not kept: its day has to do.
    """
    stamp = at.strftime("%Y%m%dT%H%M%SZ") if event.get("time") else at.strftime("%Y%m%dT000000Z")
    name = str(event.get("id") or request_id or uuid.uuid4())
    try:
        return f"{stamp}-{uuid.UUID(name)}"
    except ValueError:
        return f"{stamp}-{uuid.uuid5(uuid.NAMESPACE_URL, name)}"


def asked(event: Mapping[str, Any]) -> Asked:
    """What a person's own event asks for. Raises UsageError with everything that is wrong with it."""
    day, whole, tables = event.get("date"), event.get("whole", False), event.get("tables", [])
    mistakes = []
    try:
        parsed = None if day is None else date.fromisoformat(day)
    except (TypeError, ValueError):
        parsed = None
        mistakes.append(Violation("event.date", repr(day), "a day, as 2026-01-31"))
    if not isinstance(whole, bool):
        mistakes.append(Violation("event.whole", repr(whole), "true or false"))
    if not isinstance(tables, list) or not all(isinstance(one, str) for one in tables):
        mistakes.append(Violation("event.tables", repr(tables), "a list of names or patterns"))
        tables = []
    if mistakes:
        raise UsageError("the event asks for what cannot be done", violations=tuple(mistakes))
    return Asked(parsed, bool(whole), tuple(tables))


def config_folder() -> Path:
    """config/ beside the handler in the function's zip, at the root of a clone."""
    here = Path(__file__).resolve()
    places = (
        [here.parent / "config", here.parents[2] / "config"]
        if len(here.parents) > 2
        else [here.parent / "config"]
    )
    return next((place for place in places if (place / "dq_platform.yaml").exists()), places[0])
