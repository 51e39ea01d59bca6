"""The parts of the page. Text that was read goes to st.text, st.code and tables, which render no markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any

import streamlit as st

from dq_dashboard import charts, sources, text
from dq_dashboard.compare import compare
from dq_dashboard.filters import LABELS, Filters, options, unknown
from dq_dashboard.findings import SOURCES, Finding
from dq_dashboard.loading import TREND_DAYS, Lake, Point, Runner, day_of, run_id_of
from dq_dashboard.reading import Past, Reading
from dq_dashboard.score import FORMULA, count, health, together
from dq_dashboard.storage import Stored
from dq_runner.report import Counts
from lakehouse.errors import LakehouseError

ABOUT = "Reports of the DQ platform's runner, and verdicts of the lakehouse's gates. Read again every minute."
#: A report older than this is said loudly: the runner runs every day at 06:00 UTC.
OLD = timedelta(days=1)
#: Tests that the list of details offers, what is broken first; filters show others.
DETAILS = 200
NOTHING = "No test fits the filters."

COLUMNS = {
    "Share": st.column_config.NumberColumn(format="%.2f %%"),
    "Failed rows": st.column_config.NumberColumn(format="localized"),
    "Checked at (UTC)": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm"),
}


# --- what was read, and how old it is ---------------------------------------------------------------------------------


def chosen_day(today: date) -> date | None:
    """The day whose last report is shown; None: the latest."""
    return st.date_input(
        "Day (empty: the latest)",
        value=None,
        max_value=today,
        format="YYYY-MM-DD",
        key="day",
        bind="query-params",
        width=220,
    )


def problems(found: sources.Read) -> None:
    """What could not be read, and what to do; the rest of the page goes on without it."""
    for name, outcome in (("runner's report", found.runner), ("lakehouse's verdicts", found.lake)):
        if outcome.error is None:
            continue
        if outcome.part is None:
            st.error(f"**The {name} cannot be shown.**")
        else:
            st.error(f"**The {name} cannot be read now.** What is shown was read earlier.")
        st.text(f"{outcome.error.message}\n{outcome.error.hint}")
    if found.runner == sources.Outcome(None):
        st.warning(
            "**There is no report of the runner** for this day, or at all. It writes one every day at 06:00 UTC; "
            "`scripts/dq.py run` writes one now."
        )


def freshness(runner: Runner | None, lake: Lake | None, day: date | None, now: datetime) -> None:
    """How old what is shown is, and what of it is missing."""
    if runner:
        _of_report(runner, day, now)
    if lake:
        _of_verdicts(lake, day, now)
    times = {
        "Runner's report": runner and runner.reading.run.finished_at,
        "Lakehouse's last verdict": lake and lake.newest,
    }
    said = [f"{name}: {_minute(at)} UTC, {text.age(at, now)}" for name, at in times.items() if at]
    st.text("\n".join(said))


def _of_report(runner: Runner, day: date | None, now: datetime) -> None:
    run, found = runner.reading.run, runner.reading
    if day is None and now - run.finished_at > OLD:
        st.error(
            f"**The runner's report is old: {text.age(run.finished_at, now)}.** What is below was true then. The "
            "runner runs every day at 06:00 UTC; look at the log of dq-platform-runner (alarm "
            "dq-platform-runner-errors), then run it: `scripts/dq.py run`."
        )
    if found.cut:
        st.error(
            "**The report ends in the middle**: what wrote it did not come to its end. What is whole in it is shown; "
            "run the checks again."
        )
    if run.status == "incomplete":
        st.warning(
            "**The run is incomplete**: something could not be checked. The status *error* tells what."
        )
    if found.partial:
        st.info(
            f"**The first {len(found.findings):,} of {found.total:,} results are shown**, what is broken first. "
            "Health and counts are of all of them. The whole report:"
        )
        st.code(f"aws s3 cp s3://{sources.bucket('S3_DQ_REPORTS_BUCKET')}/{runner.key} .", language="bash")
    if found.bad:
        st.warning(f"{found.bad:,} results are of a form that this page does not know; they are left out.")
    if runner.note:
        st.warning("**The latest report cannot be shown**; this is the newest of the history that can.")
        st.text(runner.note)
    if run.notes:
        st.text("\n".join(run.notes))


def _of_verdicts(lake: Lake, day: date | None, now: datetime) -> None:
    if lake.newest is None:
        st.info("The lakehouse has no verdict of a gate in the last weeks.")
    elif day is None and now - lake.newest > OLD:
        st.error(
            f"**The lakehouse's last verdict is old: {text.age(lake.newest, now)}.** Look at the DAG "
            "daily_batch_pipeline, and at `scripts/emr_submit.sh recover status`."
        )
    if lake.unreadable:
        st.warning(f"**{len(lake.unreadable)} verdicts could not be read.**")
        st.text("\n".join(lake.unreadable[:5]))


# --- the state in numbers ---------------------------------------------------------------------------------------------


def counts_of(runner: Runner | None, lake: Lake | None) -> dict[str, Counts]:
    """By source. Of the runner, what it counted itself: the page may have read a part of the results only."""
    found = {}
    if runner:
        found["snowflake"] = runner.reading.summary.counts
    if lake and lake.findings:
        found["lakehouse"] = count(lake.findings)
    return found


def overview(runner: Runner | None, lake: Lake | None) -> None:
    by_source = counts_of(runner, lake)
    all_of = together(by_source.values())
    new = sum(one.new for part in (runner, lake) if part for one in part.findings)
    with st.container(horizontal=True):
        _number("Health", _percent(health(all_of)))
        _number("Critical failures", f"{all_of.critical:,}")
        _number("Failed", f"{all_of.failed:,}")
        _number("Could not be checked", f"{all_of.error:,}")
        _number("New since the day before", f"{new:,}")
    at = {
        "snowflake": runner.reading.run.finished_at if runner else None,
        "lakehouse": lake.newest if lake else None,
    }
    rows = [
        _counted("Source", name, counts) | {"As of (UTC)": _minute(at[name])}
        for name, counts in by_source.items()
    ]
    listed(rows, "Health by source", key="by_source")
    with st.expander("How health is computed"):
        st.markdown(FORMULA)


def _number(label: str, value: str) -> None:
    st.metric(label, value, width=150)


def _percent(value: int | None) -> str:
    return "none yet" if value is None else f"{value} %"


def _minute(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M}" if at else ""


def _counted(label: str, name: str, counts: Counts) -> dict[str, Any]:
    return {
        label: name,
        "Health": _percent(health(counts)),
        "Critical": counts.critical,
        "Failed": counts.failed,
        "Error": counts.error,
        "Muted": counts.muted,
        "Passed": counts.passed,
        "Too little history": counts.no_history,
        "Skipped": counts.skipped,
    }


# --- filters ----------------------------------------------------------------------------------------------------------


def chosen_filters(findings: Sequence[Finding]) -> Filters:
    """Filters as the URL has them; each change goes into the URL."""
    known = {field: options(findings, field) for field in LABELS}
    missing = unknown({name: st.query_params.get_all(name) for name in st.query_params}, known)
    asked = any(name in LABELS for name in st.query_params)
    with st.expander("Filters", expanded=asked):
        places = zip(LABELS.items(), st.columns(len(LABELS)), strict=True)
        chosen = {
            field: tuple(place.multiselect(label, known[field], key=field, bind="query-params"))
            for (field, label), place in places
        }
    if missing:
        names = ", ".join(LABELS[field] for field in missing)
        st.warning(f"The link asks for values that this report does not have ({names}). They are left out.")
    return Filters(**chosen)


# --- results ----------------------------------------------------------------------------------------------------------


def results(
    chosen: Sequence[Finding],
    everything: Sequence[Finding],
    runner: Runner | None,
    runs: tuple[Stored, ...],
    now: datetime,
) -> None:
    new = [one for one in chosen if one.new]
    st.header("New since the day before")
    if new:
        findings_table(new, "Tests that broke since the day before", key="new")
    else:
        st.markdown("Nothing broke that was not broken the day before.")
    st.header("All results")
    st.markdown(f"{len(chosen):,} of {len(everything):,} results. Select a row to see all about it below.")
    findings_table(chosen, "All results, what is broken first", key="all")
    downloads(chosen, runner)
    if runner and runner.reading.run.remarks:
        with st.expander("Notes of the run"):
            st.text("\n".join(runner.reading.run.remarks))
    st.header("One test in detail")
    one = chosen_test(chosen, everything)
    if one is not None:
        detail(one, runs, now)


def listed(rows: Sequence[Mapping[str, Any]], alt: str, *, key: str) -> None:
    """A table to read."""
    if rows:
        st.dataframe(
            rows, hide_index=True, placeholder="", column_config=COLUMNS, alt=alt, key=f"table_{key}"
        )


def findings_table(findings: Sequence[Finding], alt: str, *, key: str) -> None:
    """A table whose selected row is the test of the details."""
    rows = [text.row(one) for one in findings]
    if not rows:
        st.markdown(NOTHING)
        return

    def select() -> None:
        found = st.session_state[f"table_{key}"].selection.rows
        if found and found[0] < len(findings):
            st.session_state["test"] = name_of(findings[found[0]])

    st.dataframe(
        rows,
        hide_index=True,
        placeholder="",
        column_config=COLUMNS,
        key=f"table_{key}",
        on_select=select,
        selection_mode="single-row",
        lazy=False,
        alt=alt,
    )


def name_of(one: Finding) -> str:
    """The test in the URL and in the list of details."""
    return f"{one.source} · {one.table} · {one.rule}"


def chosen_test(chosen: Sequence[Finding], everything: Sequence[Finding]) -> Finding | None:
    """The test of the details, which a link, a row or the list asks for."""
    named = {name_of(one): one for one in chosen[:DETAILS]}
    asked = st.session_state.get("test") or st.query_params.get("test")
    if asked and asked not in named:
        named.update((asked, one) for one in everything if name_of(one) == asked)
    if not named:
        return None
    picked = st.selectbox(
        "Test",
        list(named),
        index=None,
        placeholder="Select a row above, or choose here",
        key="test",
        bind="query-params",
    )
    if len(chosen) > DETAILS:
        st.markdown(f"The first {DETAILS} are listed; select a row above, or filter, for the others.")
    return named[picked] if picked else None


def detail(one: Finding, runs: tuple[Stored, ...], now: datetime) -> None:
    """What is wrong, since when, who acts, and how."""
    st.text("\n".join(f"{name}: {said}" for name, said in text.facts(one).items()))
    if one.fix:
        st.subheader("How to fix it")
        st.text(one.fix)
    if one.sql:
        st.subheader("Its SQL")
        st.code(one.sql, language="sql", wrap_lines=True)
    if one.samples:
        st.subheader("Keys of failing rows")
        listed(one.samples, "Keys of failing rows", key="samples")
    st.subheader("History")
    history(sources.past(one, runs))
    if one.broken and one.muted is None:
        st.subheader("How to mute it")
        mute(one, now.date())


def history(past: list[Past] | LakehouseError) -> None:
    if isinstance(past, LakehouseError):
        st.warning("**The history cannot be shown.**")
        st.text(past.message)
        return
    if not past:
        st.markdown("No earlier run has this test among the results that the page reads.")
        return
    rows = [
        {
            "Run at (UTC)": one.at.replace(tzinfo=None),
            "Status": one.status,
            "Failed rows": one.failed_rows,
            "Value": one.value,
            "Observed": one.observed,
        }
        for one in past
    ]
    drawn = "Value" if any(one.value is not None for one in past) else "Failed rows"
    if any(one[drawn] is not None for one in rows):
        charts.over_time(rows, drawn, f"{drawn} of this test, run by run")
    listed(rows, "This test in earlier runs", key="past")


def mute(one: Finding, today: date) -> None:
    """Nothing is written from here: a mute is a change of a file that somebody reviews."""
    if one.source == "lakehouse":
        st.markdown(
            "A gate's rule is not muted. Where the run is right as it is, a person takes it in, with name and reason "
            "(runbook 8.18). The first command shows what would happen; `--apply --by NAME --why REASON` does it."
        )
        st.code(text.accept_command(one), language="bash", wrap_lines=True)
        return
    st.markdown(
        "A muted failure is reported as ever and raises no alarm until its day. This writes it into the file:"
    )
    st.code(text.mute_command(one, today), language="bash", wrap_lines=True)
    st.markdown(
        "The same by hand, below `mutes:` in `config/dq_mutes.yaml` (in place of its `[]`, where nothing is muted "
        "yet). Either way open a pull request with it:"
    )
    st.code(text.mute_lines(one, today), language="yaml", wrap_lines=True)


def downloads(findings: Sequence[Finding], runner: Runner | None) -> None:
    """What is listed, as files; made when somebody asks for them."""
    about = {
        "run": runner.reading.run.model_dump(mode="json") if runner else None,
        "results_in_report": runner.reading.total if runner else 0,
        "results_here": len(findings),
    }
    with st.container(horizontal=True):
        st.download_button(
            "Download CSV", lambda: text.csv_file(findings), "dq_results.csv", "text/csv", on_click="ignore"
        )
        st.download_button(
            "Download JSON",
            lambda: text.json_file(findings, about),
            "dq_results.json",
            "application/json",
            on_click="ignore",
        )


# --- the other views --------------------------------------------------------------------------------------------------


def tables(chosen: Sequence[Finding], runner: Runner | None) -> None:
    """Each table with its health, the worst first."""
    st.header("Tables")
    if not chosen:
        st.markdown(NOTHING)
    found: dict[str, list[Finding]] = {}
    for one in chosen:
        found.setdefault(f"{one.source} · {one.table}", []).append(one)
    rows = [_counted("Table", name, count(parts)) for name, parts in found.items()]
    rows.sort(key=lambda row: (-row["Critical"], -row["Failed"] - row["Error"], row["Table"]))
    listed(rows, "Tables, the worst first", key="tables")
    if runner and runner.reading.tables:
        st.header("What the runner's scans took")
        listed([_cost(one) for one in runner.reading.tables], "Scans by table", key="costs")


def _cost(row: Any) -> dict[str, Any]:
    return {
        "Table": f"{row.database}.{row.schema_}.{row.table}",
        "Rows in the window": row.rows,
        "Date column": row.date_column,
        "Queries": row.queries,
        "Scans": row.scans,
        "Seconds": row.seconds,
        "Credits (estimated)": float(row.credits),
    }


def trend(points: Sequence[Point], problems: Sequence[str]) -> None:
    st.header("Health over time")
    for line in problems:
        st.warning("A part of the trend cannot be shown.")
        st.text(line)
    if not points:
        st.markdown("There are no earlier runs yet.")
        return
    rows = [
        {
            "Run at (UTC)": one.at.replace(tzinfo=None),
            "Source": one.source,
            "Health": one.health,
            "Critical": one.counts.critical,
            "Failed": one.counts.failed,
            "Error": one.counts.error,
            "Passed": one.counts.passed,
        }
        for one in points
    ]
    charts.over_time(rows, "Health", "Health by source, run by run", by="Source", scale=(0, 100))
    listed(rows[::-1], "Health over time, the newest first", key="trend")


def comparison(runs: tuple[Stored, ...], today: date) -> None:
    """Two runs of the runner, or two days of the lakehouse: what broke, what was fixed, what is broken still."""
    st.header("Compare two runs")
    source = st.radio("Of", SOURCES, horizontal=True, key="of", bind="query-params")
    choices = _runs(runs) if source == "snowflake" else _days(today)
    if len(choices) < 2:
        st.markdown("There are fewer than two runs of the last weeks to compare.")
        return
    names = list(choices)
    usual = next((place for place, name in enumerate(names) if name[:10] < names[0][:10]), 1)
    later = st.selectbox("Later", names, key="later", bind="query-params")
    earlier = st.selectbox("Earlier", names, index=usual, key="earlier", bind="query-params")
    found = [choices[name]() for name in (earlier, later)]
    for each in found:
        if isinstance(each, LakehouseError):
            st.error("**A run cannot be shown.**")
            st.text(f"{each.message}\n{each.hint}")
    read = [each for each in found if isinstance(each, Reading | Lake)]
    if len(read) < 2:
        return
    if any(isinstance(each, Reading) and each.partial for each in read):
        st.info("Of a report this large the first results are compared, what is broken first.")
    parts = compare(*(each.findings for each in read))
    for title, what in (
        ("New", parts.new),
        ("Still broken", parts.still),
        ("Fixed", parts.fixed),
        ("No longer tested", parts.gone),
    ):
        st.subheader(f"{title}: {len(what):,}")
        listed([text.row(one) for one in what], title, key=title)


def _runs(runs: Sequence[Stored]) -> dict[str, Callable[[], Any]]:
    """What there is to compare, the newest first: each begins with its day."""
    return {f"{day_of(run)} · {run_id_of(run)}": partial(sources.run, run) for run in reversed(runs)}


def _days(today: date) -> dict[str, Callable[[], Any]]:
    days = (today - timedelta(days=back) for back in range(TREND_DAYS))
    return {str(day): partial(sources.lake_of, day) for day in days}
