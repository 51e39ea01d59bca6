"""A run's report on S3: whole or not at all, once, and the latest is of the newest run, whoever dies or overtakes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dq_runner import before as before_module
from dq_runner import history
from dq_runner.aws import AwsRefused, AwsUnavailable
from dq_runner.before import Before, read_before, with_new
from dq_runner.model import ColumnMeasure, Measures, TableName, Window
from dq_runner.notify import notify
from dq_runner.publish import Published, history_uri, publish, published
from dq_runner.report import LATEST, Muted, Report
from lakehouse import store
from lakehouse.errors import StateUnreadable, TransientError
from tests.services.dq_runner.reports import AT, report, row
from tests.support import met_key

DAY = date(2026, 11, 28)
WINDOW = Window(datetime(2026, 11, 28, tzinfo=UTC), datetime(2026, 11, 29, tzinfo=UTC))
MEASURES = [Measures(TableName("SALES", "PUBLIC", "ORDERS"), WINDOW, 5, None, {"ID": ColumnMeasure(1, 4)})]


@pytest.fixture
def bucket(lake: str) -> str:
    return lake.removeprefix("s3://")


def latest(bucket: str) -> Report:
    body = store.get(f"s3://{bucket}/{LATEST}")
    assert body is not None
    return Report.model_validate_json(body)


def test_a_report_is_in_the_history_and_the_latest(bucket: str) -> None:
    done = publish(report("run-1", [row()]), MEASURES, bucket)

    assert (done.first, done.latest) == (True, True)
    assert done.uri == f"s3://{bucket}/reports/history/2026-11-29/run-1.json"
    body = store.get(done.uri)
    assert body == store.get(f"s3://{bucket}/{LATEST}") == done.report.to_json()
    assert list(history.past(bucket, date(2026, 11, 29)).of(MEASURES[0].table, 86_400)) == [DAY]


def test_the_same_report_is_the_same_bytes(bucket: str) -> None:
    one = report("run-1", [row(), row("b", "passed")])
    assert one.to_json() == Report.model_validate_json(one.to_json()).to_json()
    assert b'"credits":"0.003472"' in one.to_json(), "decimals are exact"


def test_of_two_tries_the_first_stays(bucket: str) -> None:
    publish(report("run-1", [row("a")]), MEASURES, bucket)
    again = publish(report("run-1", [row("b"), row("c")]), [], bucket)

    assert (again.first, again.latest) == (False, True)
    assert [each.rule for each in again.report.results] == ["a"]
    assert [each.rule for each in again.alarms] == ["a"]
    assert latest(bucket) == again.report
    assert history.past(bucket, date(2026, 11, 29)).days, "what the first measured stays, too"


def test_a_run_that_was_not_published_is_not_there(bucket: str) -> None:
    assert published(bucket, "run-1", AT) is None


class Died(Exception):
    pass


def dies(monkeypatch: pytest.MonkeyPatch, name: str) -> Callable[[], None]:
    """The process ends where it would call this function of the store; returns what brings it back."""

    def die(*_: Any, **__: Any) -> Any:
        raise Died

    patch = pytest.MonkeyPatch()
    patch.setattr(store, name, die)
    return patch.undo


@pytest.mark.parametrize("point", ["put", "put_if_absent", "replace"])
def test_a_try_that_died_is_made_complete_by_the_next(
    bucket: str, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(report("run-0", [], AT - timedelta(days=1)), [], bucket)
    revive = dies(monkeypatch, point)
    with pytest.raises(Died):
        publish(report("run-1", [row("a")]), MEASURES, bucket)
    revive()
    assert latest(bucket).run.run_id == "run-0", "half of a run is nothing"

    done = published(bucket, "run-1", AT) or publish(report("run-1", [row("a")]), MEASURES, bucket)
    assert latest(bucket) == done.report
    assert [each.rule for each in done.alarms] == ["a"]
    assert history.past(bucket, date(2026, 11, 29)).days


def test_an_older_run_that_ends_later_is_in_the_history_alone(bucket: str) -> None:
    notify(publish(report("new", [row()], AT), [], bucket), None)
    late = publish(report("old", [row()], AT - timedelta(minutes=5)), [], bucket)

    assert (late.first, late.latest) == (True, False)
    assert latest(bucket).run.run_id == "new"
    assert store.get(late.uri) is not None
    assert late.alarms == (), "the newer run has told of it"


def test_many_runners_at_once_leave_the_newest_as_the_latest(bucket: str) -> None:
    runs = [report(f"run-{number}", [row()], AT + timedelta(seconds=number)) for number in range(8)]
    with ThreadPoolExecutor(len(runs)) as pool:
        results = list(pool.map(lambda one: publish(one, [], bucket), runs))

    assert len(results) == 8
    assert latest(bucket).run.run_id == "run-7"
    assert all(each.first for each in results)


def test_two_tries_at_once_have_one_report(bucket: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda rule: publish(report("run-1", [row(rule)]), [], bucket), "abcd"))

    assert sum(each.first for each in results) == 1
    assert len({each.report.to_json() for each in results}) == 1
    assert latest(bucket) == results[0].report


def test_a_latest_that_is_no_report_is_replaced(bucket: str) -> None:
    store.put(f"s3://{bucket}/{LATEST}", b"{garbage")
    assert publish(report("run-1"), [], bucket).latest
    assert latest(bucket).run.run_id == "run-1"


def test_a_history_object_that_is_no_report_is_said(bucket: str) -> None:
    store.put(history_uri(bucket, "run-1", AT.date()), b"[]")
    with pytest.raises(StateUnreadable, match=r"run-1\.json"):
        publish(report("run-1"), [], bucket)


def test_conflicts_with_other_requests_are_repeated(bucket: str) -> None:
    key = met_key(f"s3://{bucket}", "reports/history/2026-11-29/run-{}.json")
    run_id = key.rpartition("/")[2].removesuffix(".json")
    assert publish(report(run_id), [], bucket).first


# What is new ------------------------------------------------------------------------------------------------


def days(bucket: str, *runs: list[Any]) -> Iterator[Published]:
    """One run a day, to its end."""
    for number, results in enumerate(runs):
        done = publish(report(f"run-{number}", results, AT + timedelta(days=number)), [], bucket)
        notify(done, None)
        yield done


def new_in(done: Published) -> list[str]:
    return [each.rule for each in done.new_failures]


def alarms_in(done: Published) -> list[str]:
    return [each.rule for each in done.alarms]


def test_a_failure_is_new_once(bucket: str) -> None:
    first, second, third = days(bucket, [row("a")], [row("a"), row("b")], [row("b"), row("a")])
    assert (new_in(first), new_in(second), new_in(third)) == (["a"], ["b"], [])
    assert (alarms_in(first), alarms_in(second), alarms_in(third)) == (["a"], ["b"], [])
    assert second.report.summary.new_failures == 1
    assert [(each.rule, each.new) for each in second.report.results] == [("a", False), ("b", True)]


def test_a_failure_that_was_mended_is_new_when_it_comes_back(bucket: str) -> None:
    runs = list(days(bucket, [row("a")], [row("a", "passed")], [row("a")]))
    assert [new_in(each) for each in runs] == [["a"], [], ["a"]]


@pytest.mark.parametrize("without_answer", [[row("a", "error")], [row("a", "skipped")], []])
def test_a_failure_is_not_new_again_after_runs_without_an_answer(
    bucket: str, without_answer: list[Any]
) -> None:
    runs = list(days(bucket, [row("a")], without_answer, without_answer, [row("a")]))
    assert [new_in(each) for each in runs] == [["a"], [], [], []]
    assert [alarms_in(each) for each in runs] == [["a"], [], [], []]
    assert [each.rule for each in runs[2].report.open] == ["a"]
    assert runs[2].report.open[0].failed_at == AT


statuses = st.sampled_from(["passed", "failed", "muted", "error", "skipped", "absent"])


@given(st.lists(st.fixed_dictionaries(dict.fromkeys("abc", statuses)), max_size=8))
@settings(max_examples=60)
def test_a_failure_is_new_and_told_by_its_last_answer(runs: list[dict[str, str]]) -> None:
    """Against a model that remembers of each rule its last answer, and whether it was told since."""
    failing: set[str] = set()
    told: set[str] = set()
    before = Before()
    for number, answers in enumerate(runs):
        mute = Muted(reason="known", until=date(2027, 1, 1))
        rows = [
            row(rule, "failed", muted=mute) if status == "muted" else row(rule, status)
            for rule, status in answers.items()
            if status != "absent"
        ]
        made = with_new(report(f"run-{number}", rows, AT + timedelta(days=number)), before)
        new = {each.rule for each in made.results if each.new}
        alarms = {each.rule for each in made.results if each.alarms and each.key not in before.told}

        broken = {rule for rule, status in answers.items() if status in ("failed", "muted")}
        assert new == broken - failing
        assert alarms == {rule for rule, status in answers.items() if status == "failed"} - told
        failing = failing - {rule for rule, status in answers.items() if status == "passed"} | broken
        told = told - {rule for rule, status in answers.items() if status in ("passed", "muted")} | alarms
        assert {each.rule for each in made.open} == failing - broken
        with pytest.MonkeyPatch.context() as patch:
            body = made.to_json()
            patch.setattr(store, "get", lambda uri, body=body: b"settled" if "notices" in uri else body)
            patch.setattr(before_module, "_published_before", lambda *_: ["s3://b/reports/history/d/r.json"])
            before = read_before("b", "s3://b/reports/history/d/next.json", DAY)


def test_a_failure_without_an_answer_for_long_is_forgotten(bucket: str) -> None:
    publish(report("run-0", [row("a")]), [], bucket)
    later = publish(report("run-1", [], AT + before_module.FORGOTTEN), [], bucket)
    assert later.report.open == ()


def test_the_same_rule_of_another_table_is_another(bucket: str) -> None:
    first, second = days(bucket, [row("a", table="X.Y", schema="S")], [row("a", table="Y", schema="S.X")])
    assert (new_in(first), new_in(second)) == (["a"], ["a"])


def test_muted_failures_raise_no_alarm_until_the_mute_ends(bucket: str) -> None:
    mute = Muted(reason="known", until=date(2026, 11, 29))
    first, second, third = days(bucket, [row("a", muted=mute)], [row("a")], [row("a")])
    assert (new_in(first), alarms_in(first)) == (["a"], [])
    assert (new_in(second), alarms_in(second)) == ([], ["a"])
    assert (new_in(third), alarms_in(third)) == ([], [])


def test_a_warning_that_becomes_critical_is_told(bucket: str) -> None:
    first, second = days(bucket, [row("a", severity="warning")], [row("a")])
    assert (alarms_in(first), alarms_in(second)) == ([], ["a"])


def test_a_try_that_comes_after_another_run_still_knows_what_was_new(bucket: str) -> None:
    """The first died before it told; the next day's run does not tell of what the first had found."""
    publish(report("run-0", [row("a")]), [], bucket)
    assert publish(report("run-1", [row("a"), row("b")], AT + timedelta(days=1)), [], bucket).new_failures
    again = published(bucket, "run-0", AT)
    assert again is not None
    assert alarms_in(again) == ["a"]


def test_what_a_run_could_not_tell_is_told_by_the_next(bucket: str) -> None:
    """Its tries all died after its report and before its notice."""
    first, _ = days(bucket, [row("a")], [row("a"), row("b", "error")])
    publish(report("run-2", [row("a"), row("b"), row("c")], AT + timedelta(days=2)), [], bucket)
    last = publish(
        report("run-3", [row("a"), row("b"), row("c", "error")], AT + timedelta(days=3)), [], bucket
    )
    assert alarms_in(first) == ["a"]
    assert (new_in(last), alarms_in(last)) == ([], ["b"])
    assert [(each.rule, each.told) for each in last.report.open] == [("c", False)]
    again = publish(report("run-4", [row("c")], AT + timedelta(days=4)), [], bucket)
    assert (new_in(again), alarms_in(again)) == ([], ["c"]), "nobody was told of it yet"


def test_after_many_runs_that_told_nobody_all_is_told_again(bucket: str) -> None:
    runs = [
        publish(report(f"run-{number}", [row("a")], AT + timedelta(days=number)), [], bucket)
        for number in range(9)
    ]
    assert all(alarms_in(each) == ["a"] for each in runs)
    assert [new_in(each) for each in runs] == [["a"], *[[]] * 8]


def test_a_run_before_that_is_no_report_is_left_out_and_said(bucket: str) -> None:
    publish(report("run-0", [row("a")]), [], bucket)
    store.put(f"s3://{bucket}/reports/history/2026-11-29/run-x.json", b"\x00")
    done = publish(report("run-1", [row("a")], AT + timedelta(days=1)), [], bucket)
    assert new_in(done) == []
    assert any("run-x.json is no report (1 bytes)" in note for note in done.report.run.notes)


def test_what_a_later_version_writes_can_be_the_run_before(bucket: str) -> None:
    body = report("run-0", [row("a")]).to_json().replace(b'"kind":"not_null"', b'"kind":"of_2030","more":[1]')
    store.put(f"s3://{bucket}/reports/history/2026-11-29/run-0.json", body)
    assert new_in(publish(report("run-1", [row("a")], AT + timedelta(days=1)), [], bucket)) == []


def test_the_run_before_is_found_in_the_month_before(bucket: str) -> None:
    at = datetime(2026, 12, 31, 6, tzinfo=UTC)
    publish(report("run-0", [row("a")], at), [], bucket)
    done = publish(report("run-1", [row("a")], at + timedelta(days=1)), [], bucket)
    assert new_in(done) == []
    assert read_before(bucket, done.uri, date(2027, 1, 1)).failing


# What S3 may answer -----------------------------------------------------------------------------------------


class Fault:
    """One call of S3 fails, counted from 0: before it reaches S3, or after S3 has done it and the answer is lost."""

    def __init__(
        self, place: int, code: str = "InternalError", status: int = 500, *, is_lost: bool = False
    ) -> None:
        self._place, self._error, self._status, self._is_lost = place, {"Code": code}, status, is_lost
        self.calls = 0

    def __enter__(self) -> Fault:
        events = store.client().meta.events
        events.register("before-call.s3", self._before)
        events.register("after-call.s3", self._after)
        return self

    def __exit__(self, *_: object) -> None:
        events = store.client().meta.events
        events.unregister("before-call.s3", self._before)
        events.unregister("after-call.s3", self._after)

    def _before(self, **_: Any) -> Any:
        self.calls += 1
        if self.calls - 1 == self._place and not self._is_lost:
            parsed = {"Error": self._error, "ResponseMetadata": {"HTTPStatusCode": self._status}}
            return SimpleNamespace(status_code=self._status), parsed
        return None

    def _after(self, http_response: Any, parsed: dict[str, Any], **_: Any) -> None:
        if self.calls - 1 == self._place and self._is_lost:
            http_response.status_code = self._status
            parsed |= {"Error": self._error, "ResponseMetadata": {"HTTPStatusCode": self._status}}


def calls_of_a_publication(bucket: str) -> int:
    with Fault(-1) as watched:
        done = publish(report("watched", [row("a")], AT - timedelta(days=2)), MEASURES, bucket)
    notify(done, None)
    return watched.calls


@pytest.mark.parametrize("is_lost", [False, True], ids=["call", "answer"])
def test_a_publication_that_failed_anywhere_is_made_complete_by_the_next_call(
    bucket: str, is_lost: bool
) -> None:
    calls = calls_of_a_publication(bucket)
    assert calls >= 8
    for place in range(calls):
        made = report(f"run-{place:02}", [row("a"), row(f"b{place}")], AT + timedelta(minutes=place))
        with Fault(place, is_lost=is_lost), pytest.raises(AwsUnavailable, match="received InternalError"):
            publish(made, MEASURES, bucket)
        newest = latest(bucket)
        assert store.get(history_uri(bucket, newest.run.run_id, AT.date())) == newest.to_json() or place == 0
        done = publish(made, MEASURES, bucket)
        notify(done, None)
        assert latest(bucket) == done.report
        assert store.get(done.uri) == done.report.to_json()
        assert (new_in(done), alarms_in(done)) == ([f"b{place}"], [f"b{place}"])


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("AccessDenied", 403, AwsRefused),
        ("NoSuchBucket", 404, AwsRefused),
        ("InvalidAccessKeyId", 403, AwsRefused),
        ("KMS.DisabledException", 400, AwsRefused),
        ("PermanentRedirect", 301, AwsRefused),
        ("SlowDown", 503, AwsUnavailable),
        ("InternalError", 500, AwsUnavailable),
        ("RequestTimeout", 400, AwsUnavailable),
        ("ExpiredToken", 400, AwsUnavailable),
    ],
)
def test_each_answer_passes_or_lasts(bucket: str, code: str, status: int, kind: Any) -> None:
    calls = calls_of_a_publication(bucket)
    for place in (0, calls // 2, calls - 1):
        made = report(f"run-{place}", [], AT + timedelta(minutes=place))
        with (
            Fault(place, code, status),
            pytest.raises(kind, match=rf"reports in s3://{bucket}/reports/: received {code}") as caught,
        ):
            publish(made, MEASURES, bucket)
        assert caught.value.error_class == ("terminal" if kind is AwsRefused else "transient")
        assert caught.value.hint


def test_conflicts_that_do_not_end_are_transient(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_CONFLICT_WAITS", (0.0,) * 3)
    publish(report("run-1"), [], bucket)

    def refuse(model: Any, **_: Any) -> Any:
        if model.name != "PutObject":
            return None
        parsed = {
            "Error": {"Code": "ConditionalRequestConflict"},
            "ResponseMetadata": {"HTTPStatusCode": 409},
        }
        return SimpleNamespace(status_code=409), parsed

    store.client().meta.events.register("before-call.s3", refuse)
    with pytest.raises(TransientError, match="received a conflict with another request for this key 3 times"):
        publish(report("run-2", at=AT + timedelta(days=1)), [], bucket)
    store.client().meta.events.unregister("before-call.s3", refuse)
    assert latest(bucket).run.run_id == "run-1"
