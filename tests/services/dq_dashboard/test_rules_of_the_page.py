"""Score, comparison, filters and files: what the page computes without reading or showing anything."""

from __future__ import annotations

import csv
import io
import json
import shlex
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dq_dashboard import text
from dq_dashboard.compare import compare
from dq_dashboard.filters import Filters, matching, options, unknown
from dq_dashboard.findings import Finding, of_runner
from dq_dashboard.score import FORMULA, count, health, together
from dq_runner.model import TableName
from dq_runner.patterns import matches_table
from dq_runner.report import Counts
from dq_runner.rules.mutes import MuteFile, means
from tests.services.dq_dashboard import support
from tests.services.dq_dashboard.support import failed, row

NUMBERS = st.integers(0, 1_000_000)
COUNTS = st.builds(
    lambda passed, failed, error, critical: Counts(
        passed=passed, failed=failed, error=error, critical=min(critical, failed), skipped=9, no_history=9
    ),
    NUMBERS,
    NUMBERS,
    NUMBERS,
    NUMBERS,
)
#: What a name may have in it to do harm somewhere.
HOSTILE = [
    '=HYPERLINK("http://x","y")',
    "+1",
    "-1+cmd|' /C calc'!A0",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "<script>alert(1)</script>",
    "[link](javascript:alert(1))",
    "**bold** :red[x] $x$ :skull:",
    'quote" and, comma; and\nline',
    "no: {yaml: [here]} # or &here *there !!python/object",
    "name'; rm -rf / #$(id)`id`",
    "\u202egnp.exe",
    "Ünïcode 表",
]


@given(COUNTS)
def test_health_is_between_0_and_100_and_100_only_where_everything_held(counts: Counts) -> None:
    found = health(counts)
    assert found is None if counts.passed + counts.failed + counts.error == 0 else found in range(101)
    assert (found == 100) == (counts.passed > 0 and counts.failed + counts.error == 0)


@given(COUNTS)
def test_each_further_failure_lowers_health_or_leaves_it(counts: Counts) -> None:
    more = counts.model_copy(update={"failed": counts.failed + 1})
    worse = more.model_copy(update={"critical": counts.critical + 1})
    assert (health(counts) or 0) >= (health(more) or 0) >= (health(worse) or 0)


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [
        (Counts(), None),
        (Counts(skipped=3, no_history=2), None),
        (Counts(passed=9, failed=1), 90),
        (Counts(passed=9, error=1), 90),
        (Counts(passed=5, failed=1, critical=1), 50),
        (Counts(passed=5, failed=1, muted=1), 83),
        (Counts(passed=999, failed=1), 99),
        (Counts(failed=1), 0),
    ],
)
def test_health_is_what_the_formula_on_the_page_says(counts: Counts, wanted: int | None) -> None:
    assert health(counts) == wanted
    assert "passed ÷ (passed + failed + could not be checked + 4 × critical failures)" in FORMULA


def findings(*rows: object) -> list[Finding]:
    return [of_runner(one, "r") for one in rows]  # type: ignore[arg-type]


def test_the_page_counts_as_the_runner_does() -> None:
    rows = [
        row(1),
        failed(2, severity="critical"),
        failed(3, severity="critical", muted={"reason": "known", "until": "2026-12-01"}),
        failed(4),
        row(5, status="error"),
        row(6, status="skipped"),
        row(7, status="no_history"),
    ]
    at = datetime(2026, 11, 29, tzinfo=UTC)
    counted = count(findings(*rows))
    assert counted == support.report(rows, at).summary.counts
    assert together([counted, counted]).failed == 2 * counted.failed


def test_two_runs_are_compared_test_by_test() -> None:
    earlier = findings(failed(1), failed(2), row(3), failed(4), failed(5), row(6, status="error"))
    later = findings(row(1), failed(2), failed(3), row(5, status="skipped"), failed(6), row(7))
    found = compare(earlier, later)
    tables = {
        name: [one.table[-1] for one in getattr(found, name)] for name in ("new", "still", "fixed", "gone")
    }
    assert tables == {"new": ["3"], "still": ["2", "6"], "fixed": ["1"], "gone": ["4", "5"]}


@given(st.lists(st.sampled_from(["passed", "failed", "error", "skipped", None]), min_size=8, max_size=8))
def test_every_broken_test_of_two_runs_is_in_one_list_of_their_comparison(statuses: list[str | None]) -> None:
    before, after = (
        findings(*(row(number, status=status) for number, status in enumerate(half) if status is not None))
        for half in (statuses[:4], statuses[4:])
    )
    found = compare(before, after)
    listed = [one.key for part in (found.new, found.still, found.fixed, found.gone) for one in part]
    assert sorted(listed) == sorted({one.key for one in (*before, *after) if one.broken})


def test_filters_take_what_fits_all_of_them() -> None:
    every = findings(failed(1), failed(2, kind="not_null"), row(1, rule="other"))
    chosen = Filters(status=("failed",), table=("SHOP.SALES.T1", "SHOP.SALES.T2"), rule=("range",))
    assert matching(every, chosen) == every[:1]
    assert matching(every, Filters()) == every
    assert options(every, "rule") == ["not_null", "range"]


def test_a_link_to_what_is_not_there_is_told_from_one_without_filters() -> None:
    known = {"table": ["A", "B"], "status": ["failed"]}
    assert unknown({"table": ["A", "Z"], "status": ["failed"], "view": ["Trend"]}, known) == ["table"]
    assert unknown({"table": ["A"], "status": [""]}, known) == []


def hostile(name: str) -> Finding:
    made = failed(
        1, table=name, rule=name, observed=name, message=name, owner=name, fix=name, sql=name, column=name
    )
    return findings(made)[0]


def cells(body: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(body.decode("utf-8-sig"), newline="")))


@pytest.mark.parametrize("name", HOSTILE)
def test_no_cell_of_the_csv_begins_as_a_formula(name: str) -> None:
    (found,) = cells(text.csv_file([hostile(name)]))
    assert all(not said.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) for said in found.values())
    assert found["observed"].removeprefix("'") == name
    assert found["failed_rows"] == "7"


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_a_text_survives_the_csv_but_for_its_apostrophe(said: str) -> None:
    (found,) = cells(text.csv_file(findings(failed(1, observed=said))))
    assert found["observed"] in (said, f"'{said}")


def test_numbers_below_zero_stay_numbers() -> None:
    (found,) = cells(text.csv_file(findings(failed(1, value=-1.5))))
    assert found["value"] == "-1.5"


@pytest.mark.parametrize("name", HOSTILE)
def test_the_json_has_every_finding_and_what_it_is_of(name: str) -> None:
    one = hostile(name)
    found = json.loads(text.json_file([one], {"results_here": 1}))
    assert found["results_here"] == 1
    (said,) = found["results"]
    assert (said["observed"], said["table"], said["at"]) == (name, one.table, one.at.isoformat())


def test_a_surrogate_that_a_report_quotes_breaks_no_file() -> None:
    one = hostile("\udc80")
    assert b"\\udc80" in text.csv_file([one])
    assert b"\\udc80" in text.json_file([one], {})


TODAY = date(2026, 11, 29)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_mute_means_the_very_rule_of_the_very_table(name: str) -> None:
    one, table = hostile(name), TableName("SHOP", "SALES", name)
    lines = yaml.safe_load("mutes:\n" + text.mute_lines(one, TODAY).replace("REASON", "known since May"))
    for line in lines["mutes"]:
        line["until"] = line["until"].isoformat()
    (mute,) = MuteFile.model_validate(lines).mutes
    assert means(mute.mute(), table, name)
    assert mute.until == TODAY + timedelta(days=text.MUTE_DAYS)
    words = shlex.split(text.mute_command(one, TODAY))
    assert words[:4] == ["scripts/dq.py", "mute", one.table, name]
    assert matches_table(words[2], table)


def test_a_refused_run_of_the_lakehouse_is_accepted_by_the_runbook_s_command() -> None:
    key, body = support.verdict_object(
        "silver.orders", datetime(2026, 11, 29, tzinfo=UTC), [support.rule(passed=False)]
    )
    from dq_dashboard import reading

    (one,) = reading.of_gate(reading.verdict(body, key))
    assert text.accept_command(one) == (
        "scripts/emr_submit.sh recover recertify --table silver.orders --run 20261129T000000Z-gate "
        "--accept amount_not_negative"
    )
    assert "recover recertify" in Path("RUNBOOK_AWS_2025.md").read_text()


@pytest.mark.parametrize(
    ("hours", "told"),
    [(0.5, "less than an hour ago"), (25, "25 h ago"), (49, "2 days ago"), (-3, "less than an hour ago")],
)
def test_ages_are_said_as_people_say_them(hours: float, told: str) -> None:
    now = datetime(2026, 11, 29, tzinfo=UTC)
    assert text.age(now - timedelta(hours=hours), now) == told
