"""The page that people open every morning: what broke since yesterday, and all that was tested.

    streamlit run services/dq_dashboard/dq_dashboard.py

Environment: S3_DQ_REPORTS_BUCKET (the runner's reports), LAKE_BUCKET (the lakehouse's verdicts, gold/quality/).
No text that was read from there is ever given to what renders markdown: it goes to st.text, st.code and tables.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

# Streamlit puts this file's folder first, in which the package's name would mean this file.
REPO = Path(__file__).resolve().parents[2]
if str(REPO / "services") != sys.path[0]:
    sys.path[:0] = [str(REPO / "services"), str(REPO / "src")]

import streamlit as st  # noqa: E402  # the path to ours is set just above

from dq_dashboard import filters, show, sources  # noqa: E402
from dq_dashboard.findings import in_order  # noqa: E402

TABS = ("Results", "Tables", "Trend", "Compare runs")


def main() -> None:
    """The page, top to bottom."""
    now = datetime.now(UTC)
    st.set_page_config(page_title="Data quality", layout="wide", menu_items={"About": show.ABOUT})
    st.title("Data quality")
    day = show.chosen_day(now.date())
    found = sources.read(day)
    runner, lake = found.runner.part, found.lake.part
    show.problems(found)
    if runner is None and lake is None:
        return
    show.freshness(runner, lake, day, now)
    show.overview(runner, lake)
    findings = in_order([one for part in (runner, lake) if part for one in part.findings])
    chosen = filters.matching(findings, show.chosen_filters(findings))
    runs = runner.runs if runner else ()
    views: list[Callable[[], None]] = [
        lambda: show.results(chosen, findings, runner, runs, now),
        lambda: show.tables(chosen, runner),
        lambda: show.trend(*sources.trend(runs)),
        lambda: show.comparison(runs, now.date()),
    ]
    for tab, view in zip(st.tabs(TABS, key="view", bind="query-params"), views, strict=True):
        with tab:
            if tab.open:
                view()


main()
