"""Bytes of reports and verdicts: whole, cut off anywhere, of another version, or none at all."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dq_dashboard import reading
from dq_dashboard.findings import in_order
from dq_dashboard.reading import earlier, report
from dq_runner.model import TableName
from lakehouse.errors import StateUnreadable
from lakehouse.quality.verdicts import CertifiedRun, RuleResult, Verdict
from tests.services.dq_dashboard import support
from tests.services.dq_dashboard.support import failed, row

AT = datetime(2026, 11, 29, 6, tzinfo=UTC)
WHOLE = support.report(
    [failed(1, muted={"reason": "known", "until": "2026-12-01"}), failed(2), *(row(n) for n in range(3, 9))],
    AT,
)
BODY = WHOLE.to_json()


def changed(**parts: Any) -> bytes:
    return json.dumps(json.loads(BODY) | parts).encode()


def test_a_report_is_read_as_the_runner_wrote_it() -> None:
    found = report(BODY, whole=True, where="x")
    assert (found.run, found.summary, found.tables) == (WHOLE.run, WHOLE.summary, WHOLE.tables)
    assert (found.total, found.bad, found.cut, found.partial) == (8, 0, False, False)
    first, wanted = found.findings[0], WHOLE.results[0]
    assert (first.table, first.rule, first.sql, first.owner, first.fix, first.muted, first.share) == (
        "SHOP.SALES.T1",
        wanted.rule,
        wanted.sql,
        wanted.owner,
        wanted.fix,
        wanted.muted,
        0.07,
    )


@given(st.integers(0, len(BODY) - 1))
def test_the_head_of_a_report_is_its_first_results_or_no_report(size: int) -> None:
    every = report(BODY, whole=True, where="x")
    try:
        found = report(BODY[:size], whole=False, where="x")
    except StateUnreadable:
        assert size < BODY.index(b'"tables":[')
        return
    assert found.findings == every.findings[: len(found.findings)]
    assert found.tables == every.tables[: len(found.tables)]
    assert found.total == 8
    assert found.partial == (len(found.findings) < 8)
    assert not found.cut


def test_an_object_that_ends_in_the_middle_is_told_from_a_head() -> None:
    assert report(BODY[:-700], whole=True, where="x").cut
    assert not report(BODY[:-700], whole=False, where="x").cut


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "0 bytes without content"),
        (b" \n", "2 bytes without content"),
        (b"<html>not found</html>", "no JSON"),
        (b"\xff\xfe\x00", "no JSON"),
        (b"\x1f\x8b\x08 gzip", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"null", "another form"),
        (b"[1, 2]", "another form"),
        (b"{}", "the schema"),
        (changed(schema="dq-results/2"), "dq-results/2"),
        (changed(run=None), "run"),
        (changed(run={"run_id": "x"}), "run: received something else (started_at"),
        (changed(summary=[]), "summary"),
        (BODY.replace(b'"results":[', b'"results":[}'), "no JSON"),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_what_is_no_report_is_said_with_what_to_do(body: bytes, told: str) -> None:
    for whole in (True, False):
        with pytest.raises(StateUnreadable, match=r"^s3://b/k") as caught:
            report(body, whole=whole, where="s3://b/k")
        assert told in caught.value.message
        assert "scripts/dq.py run" in caught.value.hint


def test_rows_of_a_later_version_are_counted_and_left_out() -> None:
    rows = json.loads(BODY)["results"]
    later = [rows[0] | {"status": "postponed"}, rows[1] | {"since": "2026"}, *rows[2:], 7, {}]
    found = report(changed(results=later), whole=True, where="x")
    assert (len(found.findings), found.bad) == (7, 3)
    assert not found.partial


NAMES = st.builds(TableName, *[st.text(min_size=1)] * 3)


@given(NAMES, NAMES)
def test_two_tables_never_share_a_name(one: TableName, other: TableName) -> None:
    names = [{"database": each.database, "schema": each.schema, "table": each.name} for each in (one, other)]
    rows = [reading.of_runner(row(**name), "r") for name in names]
    assert (rows[0].key == rows[1].key) == (one == other)


def test_a_dot_in_a_name_parts_nothing() -> None:
    rows = [
        reading.of_runner(row(schema=schema, table=table), "r")
        for schema, table in (("A.B", "C"), ("A", "B.C"))
    ]
    assert [one.table for one in rows] == ['SHOP."A.B".C', 'SHOP.A."B.C"']


def test_an_earlier_run_says_what_was_broken_and_what_is_open() -> None:
    still_open = [
        {
            "database": "SHOP",
            "schema": "SALES",
            "table": "T9",
            "rule": "r",
            "failed_at": "2026-11-01T00:00:00Z",
            "alarmed": True,
        }
    ]
    found = earlier(changed(open=still_open), whole=True, where="x")
    assert found.broken == {
        ("SHOP.SALES.T1", "range(AMOUNT)", "failed"),
        ("SHOP.SALES.T2", "range(AMOUNT)", "failed"),
        ("SHOP.SALES.T9", "r", "failed"),
    }
    assert found.all_broken
    assert found.by_rule["SHOP.SALES.T2", "range(AMOUNT)"].failed_rows == 7


def test_of_a_head_within_the_broken_rows_not_all_that_was_broken_is_known() -> None:
    start = BODY.index(b'"results"')
    assert not earlier(BODY[: start + 1500], whole=False, where="x").all_broken
    assert earlier(BODY[:-20], whole=False, where="x").all_broken


def test_findings_are_ordered_by_how_soon_somebody_has_to_look() -> None:
    rows = [
        row(1),
        row(2, status="skipped"),
        failed(3, muted={"reason": "known", "until": "2026-12-01"}, severity="critical"),
        failed(4),
        row(5, status="error"),
        failed(6, severity="critical"),
        failed(7, new=True),
    ]
    found = in_order([reading.of_runner(one, "r") for one in rows])
    assert [one.table[-1] for one in found] == ["7", "6", "4", "5", "2", "1", "3"]


def gate(**changes: Any) -> Verdict:
    broken = RuleResult(
        name="amount_not_negative",
        severity="critical",
        passed=False,
        observed="3 of 9 rows",
        expected="none",
        message="amount -1",
        sample=({"order_id": "1"},),
        hint="ask the source",
    )
    values: dict[str, Any] = {
        "verdict_id": "v1",
        "table": "bronze.orders",
        "layer": "bronze",
        "run_id": "r1",
        "table_id": "T",
        "version": 3,
        "outcome": "failed",
        "certified_runs": (CertifiedRun(run_id="r1", window_to=AT),),
        "contract_version": "1.0.0",
        "contract_hash": "c",
        "rules_hash": "r",
        "rows": 9,
        "rules": (broken, broken.model_copy(update={"name": "volume", "passed": True})),
        "created_at": AT,
    }
    return Verdict(**(values | changes))


def as_read(verdict: Verdict) -> reading.Verdict:
    return reading.verdict(verdict.model_dump_json(indent=1).encode(), "s3://lake/v.json")


def test_a_verdict_is_read_as_the_lakehouse_wrote_it() -> None:
    broken, held = reading.of_gate(as_read(gate()))
    assert (broken.source, broken.table, broken.rule, broken.status) == (
        "lakehouse",
        "bronze.orders",
        "amount_not_negative",
        "failed",
    )
    assert (broken.critical, broken.rows, broken.observed, broken.fix) == (
        True,
        9,
        "3 of 9 rows",
        "ask the source",
    )
    assert (broken.at, broken.run_id, broken.message) == (AT, "r1", "amount -1")
    assert held.status == "passed"


def test_what_a_person_accepted_raises_no_alarm_and_names_the_person() -> None:
    taken = gate(action="recertify", accepted=("amount_not_negative",), by="ann", why="it is so today")
    broken, _ = reading.of_gate(as_read(taken))
    assert broken.muted is not None
    assert (broken.critical, broken.muted.by, "it is so today" in broken.muted.reason) == (False, "ann", True)


def test_a_discarded_run_raises_no_alarm_either() -> None:
    gone = gate(
        action="discard",
        rules=(),
        outcome="passed",
        by="bob",
        why="test data",
        created_at=AT + timedelta(hours=1),
    )
    broken, held = reading.of_gate(as_read(gate()), as_read(gone))
    assert broken.muted is not None
    assert (broken.muted.by, "discarded" in broken.muted.reason, held.muted) == ("bob", True, None)


@pytest.mark.parametrize("action", ["optimize", "erase", "discard"])
def test_what_judged_nothing_is_no_news(action: Any) -> None:
    assert not as_read(gate(action=action)).judges


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"\xff", b'{"table": 1}'])
def test_what_is_no_verdict_is_said(body: bytes) -> None:
    with pytest.raises(StateUnreadable, match="no verdict"):
        reading.verdict(body, "s3://lake/v.json")
