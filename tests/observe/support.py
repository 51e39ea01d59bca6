"""Outcomes to speak of, the official schemas, and servers that misbehave."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal

from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource

from lakehouse.observe.outcome import (
    Failure,
    InputVersion,
    LedgerCounts,
    Outcome,
    Parent,
    TableOutcome,
)
from lakehouse.settings import Settings

RUN = "20260102T060000Z-00000000-0000-0000-0000-000000000001"
START = datetime(2026, 1, 2, 6, 0, 1, 500_000, tzinfo=UTC)
SCHEMAS = Path(__file__).parent / "schemas"
_EVENT = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"


@cache
def _registry() -> Registry[Any]:
    resources = [Resource.from_contents(json.loads(file.read_text())) for file in SCHEMAS.glob("*.json")]
    return Registry().with_resources([(each.id() or "", each) for each in resources])


def problems(event: dict[str, Any]) -> list[str]:
    """What the official schemas say against an event: as a whole, and against each facet by the one it names."""
    found = _against(_EVENT, event)
    for facet in _facets(event):
        found += _against(facet["_schemaURL"], facet)
    return found


def _against(url: str, value: Any) -> list[str]:
    validator = Draft202012Validator({"$ref": url}, registry=_registry(), format_checker=FormatChecker())
    return [f"{url}: {error.json_path}: {error.message}" for error in validator.iter_errors(value)]


def _facets(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "_schemaURL" in value:
            yield value
        for each in value.values():
            yield from _facets(each)
    elif isinstance(value, list):
        for each in value:
            yield from _facets(each)


def an_outcome(
    job: str = "bronze_to_silver", status: Literal["succeeded", "failed"] = "succeeded", **changes: Any
) -> Outcome:
    """A promotion of one table, by Airflow."""
    values: dict[str, Any] = {
        "job": job,
        "run_id": RUN,
        "status": status,
        "started_at": START,
        "finished_at": START + timedelta(seconds=12),
        "seconds": 12.0,
        "tables": [
            TableOutcome(
                table="silver.orders",
                ledger=LedgerCounts(read=10, inserted=7, updated=2, quarantined=0, superseded=1),
                version=4,
                table_id="t",
                inputs=(InputVersion(table="bronze.snowflake_orders", table_id="b", version=3),),
            )
        ],
        "parent": Parent(
            dag_id="daily_batch_pipeline",
            run_id="scheduled__2026-01-02T06:00:00+00:00",
            task_id=job,
            try_number=2,
            job_name="name",
        ),
    }
    if status == "failed":
        values["error"] = Failure(error_class="terminal", code="GATE_FAILED", message="no", hint="look")
    return Outcome(**(values | changes))


def config_file(folder: Path, settings: Settings) -> str:
    """The settings as a file that a job reads."""
    path = folder / "local.yaml"
    path.write_text(settings.model_dump_json())
    return str(path)


@contextmanager
def a_server(behaviour: Literal["hangs", "drips", "breaks", "redirects", "answers"]) -> Iterator[str]:
    """An HTTP server that takes requests and then misbehaves; yields its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection:
            connection.recv(65536)
            if behaviour == "hangs":
                over.wait()
            elif behaviour == "drips":
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                while not over.is_set():
                    try:
                        connection.sendall(b"x")
                    except OSError:
                        return
                    time.sleep(0.5)
            else:
                status = {"breaks": "500 Broken", "redirects": "302 Found", "answers": "201 Created"}
                head = f"HTTP/1.1 {status[behaviour]}\r\nLocation: http://127.0.0.1:9/\r\n"
                connection.sendall(f"{head}Content-Length: 0\r\n\r\n".encode())

    def accept() -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        over.set()
        listener.close()
