"""The page as its readers have it: what it shows first, what each bad report makes of it, links, details."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dq_dashboard import loading, sources, storage
from dq_runner.model import TableName
from dq_runner.patterns import written
from dq_runner.report import LATEST, Report
from lakehouse.errors import CredentialsError, LakehouseError, SourceUnavailable
from tests.services.dq_dashboard.support import (
    LAKE,
    REPORTS,
    Memory,
    Page,
    failed,
    history_key,
    report,
    row,
    rule,
    verdict_object,
)
from tests.services.dq_dashboard.test_rules_of_the_page import HOSTILE

NOW = datetime.now(UTC)
TODAY = NOW - timedelta(minutes=30)
YESTERDAY = TODAY - timedelta(days=1)


def numbers(app: AppTest) -> dict[str, str]:
    return {one.label: one.value for one in app.metric}


def words(app: AppTest) -> str:
    """All that is said outside of tables."""
    kinds = (
        app.title,
        app.header,
        app.subheader,
        app.text,
        app.code,
        app.markdown,
        app.error,
        app.warning,
        app.info,
    )
    return "\n".join(str(one.value) for kind in kinds for one in kind)


def rendered(app: AppTest) -> str:
    """What is given to elements that render markdown."""
    kinds = (
        app.title,
        app.header,
        app.subheader,
        app.markdown,
        app.error,
        app.warning,
        app.info,
        app.caption,
    )
    labels = [
        one.label
        for kind in (app.metric, app.multiselect, app.selectbox, app.radio, app.expander)
        for one in kind
    ]
    return "\n".join([*(str(one.value) for kind in kinds for one in kind), *labels])


def table(app: AppTest, number: int) -> list[dict[str, Any]]:
    return app.dataframe[number].value.to_dict("records")  # type: ignore[no-any-return]


def link(one: str, rule: str = "range(AMOUNT)", source: str = "snowflake") -> str:
    return f"{source} · {one} · {rule}"


@pytest.fixture
def two_days(memory: Memory) -> Memory:
    """Yesterday and today of both sources."""
    memory.add(report([row(1), failed(2), failed(3), row(4)], YESTERDAY), latest=False)
    memory.add(report([failed(1, severity="critical"), failed(2), row(3), row(4)], TODAY))
    memory.judge("silver.orders", YESTERDAY, [rule()])
    memory.judge("silver.orders", TODAY, [rule(passed=False), rule("volume")])
    return memory


def test_both_sources_are_on_the_page_with_what_is_new_first(two_days: Memory, page: Page) -> None:
    app = page()
    assert numbers(app) == {
        "Health": "21 %",  # 3 passed, 3 failed, 2 of them critical: 300 / (3 + 3 + 4 * 2)
        "Critical failures": "2",
        "Failed": "3",
        "Could not be checked": "0",
        "New since the day before": "2",
    }
    assert [(one["Source"], one["Health"]) for one in table(app, 0)] == [
        ("snowflake", "25 %"),
        ("lakehouse", "16 %"),
    ]
    assert {(one["Table"], one["Note"]) for one in table(app, 1)} == {
        ("SHOP.SALES.T1", "new"),
        ("silver.orders", "new"),
    }
    assert [one["Note"] for one in table(app, 2)][:3] == ["new", "new", ""]
    assert "100 × passed ÷" in words(app)
    assert "Runner's report:" in words(app)


def test_a_second_run_of_a_day_does_not_hide_what_broke_in_the_first(memory: Memory, page: Page) -> None:
    memory.add(report([row(1)], YESTERDAY), latest=False)
    first = datetime.combine(TODAY.date(), datetime.min.time(), UTC)
    memory.add(report([failed(1, new=True)], first), latest=False)
    memory.add(report([failed(1, new=False)], first + timedelta(minutes=1)))
    assert numbers(page())["New since the day before"] == "1"


def test_no_report_at_all_says_what_makes_one(memory: Memory, page: Page) -> None:
    app = page()
    assert "no report of the runner" in words(app)
    assert "scripts/dq.py run" in words(app)
    assert "no verdict of a gate" in words(app)


@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b"null", b'{"schema": "dq-results/9"}'], ids=repr)
def test_a_report_that_is_none_gives_way_to_the_last_one_that_is(
    memory: Memory, page: Page, body: bytes
) -> None:
    memory.add(report([failed(1)], YESTERDAY))
    memory.objects[REPORTS, LATEST] = body
    app = page()
    assert numbers(app)["Failed"] == "1"
    assert "latest report cannot be shown" in words(app)
    assert f"s3://{REPORTS}/{LATEST}" in words(app)


def test_a_report_that_is_none_is_said_where_there_is_no_other(memory: Memory, page: Page) -> None:
    memory.objects[REPORTS, LATEST] = b"<html>"
    memory.judge("silver.orders", TODAY, [rule()])
    app = page()
    assert "runner's report cannot be shown" in words(app)
    assert "no JSON" in words(app)
    assert numbers(app)["Health"] == "100 %"


def test_a_report_that_ends_in_the_middle_shows_what_is_whole(memory: Memory, page: Page) -> None:
    of = report([failed(1), *(row(number) for number in range(2, 50))], TODAY)
    memory.objects[REPORTS, LATEST] = of.to_json()[:-3000]
    app = page()
    assert "ends in the middle" in words(app)
    assert table(app, 1)[0]["Table"] == "SHOP.SALES.T1"


@pytest.mark.parametrize(("hours", "loud"), [(1, False), (23, False), (25, True), (24 * 40, True)])
def test_a_report_older_than_a_day_is_said_loudly(memory: Memory, page: Page, hours: int, loud: bool) -> None:
    memory.add(report([row(1)], NOW - timedelta(hours=hours)))
    app = page()
    assert any("report is old" in one.value for one in app.error) == loud
    assert ("dq-platform-runner-errors" in words(app)) == loud


def test_old_verdicts_are_said_loudly(memory: Memory, page: Page) -> None:
    memory.add(report([row(1)], TODAY))
    memory.judge("silver.orders", NOW - timedelta(days=3), [rule()])
    assert any("last verdict is old: 3 days ago" in one.value for one in page().error)


ERRORS = [
    SourceUnavailable("s3://x: received no answer within 2 s", hint="reload it"),
    CredentialsError("s3://x: S3 refused the read (AccessDenied)", hint="let the role read"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.code)
def test_s3_that_fails_is_said_with_what_to_do(memory: Memory, page: Page, error: LakehouseError) -> None:
    memory.error = error
    app = page()
    assert [one.value for one in app.error] == [
        "**The runner's report cannot be shown.**",
        "**The lakehouse's verdicts cannot be shown.**",
    ]
    assert words(app).count(error.message) == 2
    assert error.hint in words(app)


def test_one_source_that_fails_leaves_the_other(two_days: Memory, page: Page) -> None:
    two_days.error, two_days.broken_buckets = ERRORS[0], frozenset({LAKE})
    app = page()
    assert numbers(app)["Failed"] == "2"
    assert [one.value for one in app.error] == ["**The lakehouse's verdicts cannot be shown.**"]


def test_what_was_read_last_is_shown_while_s3_fails(two_days: Memory, page: Page) -> None:
    before = numbers(page())
    for kept in (sources.read, sources._runner, sources._lake):
        kept.clear()  # type: ignore[attr-defined]  # a minute has gone
    two_days.error = ERRORS[0]
    app = page()
    assert numbers(app) == before
    assert "What is shown was read earlier." in words(app)


def test_what_was_read_is_kept_for_all_sessions_and_a_failure_is_not(two_days: Memory, page: Page) -> None:
    page()
    calls = len(two_days.calls)
    page()
    assert len(two_days.calls) == calls
    assert (sources.SECONDS, sources.SECONDS_FAILED <= 5) == (60, True)


def test_s3_that_hangs_is_said_in_time(memory: Memory, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "DEADLINE", 0.1)
    monkeypatch.setattr(storage.in_time, "__defaults__", (0.2,))
    memory.seconds = 1.0
    assert "received no answer within" in words(page())


@pytest.mark.parametrize("variable", ["S3_DQ_REPORTS_BUCKET", "LAKE_BUCKET"])
def test_a_bucket_that_is_not_named_is_said(
    two_days: Memory, page: Page, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv(variable)
    app = page()
    assert f"{variable}: received no value" in words(app)
    assert numbers(app)["Health"]


def test_of_a_huge_report_the_first_results_are_shown(
    memory: Memory, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "HEAD_BYTES", 150_000)
    rows = [failed(1), failed(2), *(row(number) for number in range(3, 1000))]
    memory.add(report(rows, YESTERDAY), latest=False)
    memory.add(report([*rows[1:], failed(1001, new=True)], TODAY))
    app = page()
    assert "of 999 results are shown**" in words(app)
    assert f"aws s3 cp s3://{REPORTS}/{LATEST} ." in words(app)
    assert numbers(app)["Failed"] == "2"
    assert numbers(app)["New since the day before"] == "1"


def test_an_incomplete_run_and_its_notes_are_said(memory: Memory, page: Page) -> None:
    memory.add(report([row(1, status="error")], TODAY, status="incomplete", notes=("no time was left",)))
    app = page()
    assert "run is incomplete" in words(app)
    assert "no time was left" in words(app)


def test_how_a_run_is_to_be_read_stands_below_its_results(memory: Memory, page: Page) -> None:
    memory.add(report([failed(1)], TODAY, notes=("a mute has ended",), remarks=("credits are an estimate",)))
    app = page()
    said = [each.value for each in app.text]
    assert said.index("a mute has ended") < said.index("credits are an estimate")
    [notes] = [each for each in app.expander if each.label == "Notes of the run"]
    assert [each.value for each in notes.text] == ["credits are an estimate"]


def test_a_verdict_that_is_none_is_named_and_hides_no_other(memory: Memory, page: Page) -> None:
    memory.judge("silver.orders", TODAY, [rule(passed=False)])
    key, _ = verdict_object("silver.orders", TODAY + timedelta(minutes=5))
    memory.objects[LAKE, key] = b"{"
    app = page()
    assert key in words(app)
    assert numbers(app)["Failed"] == "1"


def test_a_gate_that_was_not_run_again_after_housekeeping_still_counts(memory: Memory, page: Page) -> None:
    memory.judge("silver.orders", YESTERDAY, [rule(passed=False)])
    memory.judge("silver.orders", TODAY, (), action="optimize")
    assert numbers(page())["Failed"] == "1"


def test_a_run_that_a_person_discarded_raises_no_alarm(memory: Memory, page: Page) -> None:
    memory.judge("bronze.orders", YESTERDAY, [rule(passed=False)], run_id="r1")
    memory.judge(
        "bronze.orders",
        TODAY,
        (),
        action="discard",
        certified_runs=[{"run_id": "r1"}],
        by="ann",
        why="test data",
    )
    app = page(test=link("bronze.orders", "amount_not_negative", "lakehouse"))
    assert (numbers(app)["Failed"], numbers(app)["Critical failures"]) == ("1", "0")
    assert "ann: its run was discarded: test data" in words(app)


def test_a_link_shows_what_its_sender_saw(two_days: Memory, page: Page) -> None:
    app = page(status="failed", source="snowflake", severity="warning", test=link("SHOP.SALES.T2"))
    assert [one["Table"] for one in table(app, 1)] == ["SHOP.SALES.T2"]
    assert app.selectbox(key="test").value == link("SHOP.SALES.T2")
    then = page(day=str(YESTERDAY.date()), status="failed")
    assert {one["Table"] for one in table(then, 1)} == {"SHOP.SALES.T2", "SHOP.SALES.T3"}
    assert numbers(then)["Failed"] == "2"


def test_a_day_without_a_run_is_said(two_days: Memory, page: Page) -> None:
    app = page(day=str((NOW - timedelta(days=20)).date()))
    assert "no report of the runner" in words(app)
    assert not app.metric or numbers(app)["Failed"] == "0"


@pytest.mark.parametrize(
    "values", [HOSTILE, [""], ["0", "-1"], ["9999-99-99"], ["2999-01-01"], ["x" * 5000, "\x00"]], ids=len
)
def test_hostile_values_in_a_link_do_no_harm(two_days: Memory, page: Page, values: list[str]) -> None:
    names = [
        "day",
        "status",
        "table",
        "rule",
        "severity",
        "source",
        "test",
        "view",
        "earlier",
        "later",
        "of",
        "nothing",
    ]
    app = page(**dict.fromkeys(names, values))
    assert numbers(app)["Failed"] == "3"
    assert not [value for value in values if len(value) > 2 and value in rendered(app)]


def test_a_link_to_what_the_report_does_not_have_says_so(two_days: Memory, page: Page) -> None:
    app = page(table=["SHOP.SALES.T2", "SHOP.SALES.GONE"])
    assert any("does not have (Table)" in one.value for one in app.warning)
    assert [one["Table"] for one in table(app, 1)] == ["SHOP.SALES.T2"]


def test_no_text_of_a_report_is_given_to_what_renders_markdown(memory: Memory, page: Page) -> None:
    texts = [
        "schema",
        "table",
        "column",
        "rule",
        "observed",
        "expected",
        "message",
        "owner",
        "fix",
        "sql",
        "query_id",
    ]
    rows = [failed(1, **dict.fromkeys(texts, name), samples=[{name: name}], new=True) for name in HOSTILE]
    memory.add(report(rows, TODAY, notes=tuple(HOSTILE), run_id="r1", warehouse=HOSTILE[0]))
    for name in HOSTILE:
        said = dict.fromkeys(("observed", "expected", "message", "hint"), name)
        bad = rule(name, passed=False, sample=[{name: name}], **said)
        memory.judge(f"silver.{name.replace('/', '')}", TODAY, [bad], why=name, by=name)
    worst = HOSTILE[8]
    links = (
        link(written(TableName("SHOP", worst, worst)), worst),
        link(f"silver.{worst}", worst, "lakehouse"),
    )
    details = [page(test=each) for each in links]
    for app in [*details, *(page(view=view) for view in ("Tables", "Trend", "Compare runs"))]:
        assert numbers(app)["Failed"] == str(2 * len(HOSTILE))
        assert not [name for name in HOSTILE if name in rendered(app)]
    assert all(worst in words(app) for app in details)


def test_the_details_of_a_failing_rule_are_for_who_has_to_act(two_days: Memory, page: Page) -> None:
    app = page(test=link("SHOP.SALES.T1"))
    said = words(app)
    for part in (
        "Owner: sales-data@example.com",
        "Ask the shop's team which import wrote the rows.",
        'SELECT COUNT(CASE WHEN "AMOUNT" < 0 THEN 1 END)',
        "scripts/dq.py mute SHOP.SALES.T1 'range(AMOUNT)' --until",
        "  - table: SHOP.SALES.T1\n    rule: range(AMOUNT)\n    reason: REASON\n",
        "Failed rows: 7 of 100",
        "failed, new since the day before",
    ):
        assert part in said
    past = table(app, 3)
    assert [(one["Status"], one["Failed rows"]) for one in past] == [("passed", 0), ("failed", 7)]


def test_the_details_of_a_gate_s_rule_name_the_runbook_s_way(two_days: Memory, page: Page) -> None:
    app = page(test=link("silver.orders", "amount_not_negative", "lakehouse"))
    assert "recover recertify --table silver.orders" in words(app)
    assert "scripts/dq.py mute" not in words(app)
    assert [one["Status"] for one in table(app, 3)] == ["passed", "failed"]


def test_what_holds_or_is_muted_is_not_offered_to_be_muted(memory: Memory, page: Page) -> None:
    muted = failed(1, muted={"reason": "until the migration", "until": "2999-01-01", "by": "ann"})
    memory.add(report([muted, row(2)], TODAY))
    for one in ("SHOP.SALES.T1", "SHOP.SALES.T2"):
        assert "scripts/dq.py mute" not in words(page(test=link(one)))
    assert "until 2999-01-01, by ann: until the migration" in words(page(test=link("SHOP.SALES.T1")))


def test_two_runs_are_compared(two_days: Memory, page: Page) -> None:
    app = page(view="Compare runs")
    heads = [one.value for one in app.subheader]
    assert heads == ["New: 1", "Still broken: 1", "Fixed: 1", "No longer tested: 0"]
    lake = page(view="Compare runs", of="lakehouse")
    assert lake.subheader[0].value == "New: 1"


def test_the_trend_is_of_both_sources(two_days: Memory, page: Page) -> None:
    app = page(view="Trend")
    found = {(one["Source"], one["Health"]) for one in table(app, 1)}
    assert found == {("snowflake", 50), ("snowflake", 25), ("lakehouse", 100), ("lakehouse", 16)}


def test_tables_are_listed_by_what_is_broken(two_days: Memory, page: Page) -> None:
    app = page(view="Tables")
    assert [one["Table"] for one in table(app, 1)][:2] == [
        "lakehouse · silver.orders",
        "snowflake · SHOP.SALES.T1",
    ]


def test_the_files_are_of_what_is_listed(two_days: Memory, page: Page) -> None:
    app = page(status="failed", source="snowflake")
    buttons = {one.label: one for one in app.get("download_button")}
    assert set(buttons) == {"Download CSV", "Download JSON"}


def test_a_history_of_odd_objects_is_read_all_the_same(two_days: Memory, page: Page) -> None:
    for key in (
        "reports/history/x/y.json",
        "reports/history/2026-99-99/r.json",
        f"reports/history/{TODAY:%Y-%m-%d}/note.txt",
    ):
        two_days.objects[REPORTS, key] = b"?"
    two_days.objects[REPORTS, f"reports/history/{YESTERDAY:%Y-%m-%d}/zz.json"] = b"no report"
    for view in ("Results", "Trend", "Compare runs"):
        assert numbers(page(view=view))["Failed"] == "3"


def test_the_page_reads_what_the_lakehouse_s_own_bucket_holds(lake: str, aws: Any, page: Page) -> None:
    """Through boto3 and the local S3, as it is served."""
    bucket = lake.removeprefix("s3://")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S3_DQ_REPORTS_BUCKET", bucket)
        patch.setenv("LAKE_BUCKET", bucket)
        of: Report = report([failed(1)], TODAY)
        key, body = verdict_object("silver.orders", TODAY, [rule(passed=False)])
        s3 = aws.client("s3")
        for name, content in ((LATEST, of.to_json()), (history_key(of), of.to_json()), (key, body)):
            s3.put_object(Bucket=bucket, Key=name, Body=content)
        app = page()
    assert numbers(app)["Failed"] == "2"
    assert json.loads(body)["table"] == "silver.orders"
