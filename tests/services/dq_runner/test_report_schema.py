"""The JSON schema of the report: current, and what is written holds to it."""

from __future__ import annotations

import json
from datetime import date

import jsonschema
import pytest

from dq_runner.before import Before, with_new
from dq_runner.report import Muted, Open, Report, json_schema
from tests.services.dq_runner.reports import AT, report, row
from tests.support import REPO

FILE = REPO / "services" / "dq_runner" / "dq_results.schema.json"
OPEN = Open(database="D", schema_="S", table="T", rule="unique(größe)", failed_at=AT, told=True)


def full() -> Report:
    rows = [
        row("a", muted=Muted(reason="known", until=date(2026, 12, 1)), samples=({"ID": "1"},), value=0.5),
        row("b", "error", severity="warning", rows=None, failed_rows=None, share=None),
    ]
    return with_new(report("run-1", rows), Before({OPEN.key: OPEN}))


def test_the_file_is_what_the_model_says() -> None:
    assert FILE.read_text() == json_schema(), (
        "cd services && PYTHONPATH=../src:. python -m dq_runner.report > dq_runner/dq_results.schema.json"
    )


@pytest.mark.parametrize("written", [report("run-1"), full()], ids=["empty", "full"])
def test_what_is_written_holds_to_it(written: Report) -> None:
    schema = json.loads(FILE.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(written.to_json()), schema, jsonschema.Draft202012Validator)


@pytest.mark.parametrize(
    ("key", "value"), [("schema", "dq-results/2"), ("results", [{"rule": "a"}]), ("summary", None)]
)
def test_what_is_no_report_does_not(key: str, value: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(full().to_json()) | {key: value}, json.loads(FILE.read_text()))


def test_what_a_reader_wants_first_comes_first() -> None:
    assert list(json.loads(full().to_json())) == ["schema", "run", "summary", "tables", "results", "open"]
