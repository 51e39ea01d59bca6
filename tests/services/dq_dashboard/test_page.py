"""The page as its readers have it: what it shows first, what each bad report makes of it, links, details."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from streamlit.testing.v1 import AppTest

from tests.services.dq_dashboard.support import Memory, Page, failed, report, row, rule

NOW = datetime.now(UTC)
TODAY = NOW - timedelta(minutes=30)
YESTERDAY = TODAY - timedelta(days=1)


def numbers(app: AppTest) -> dict[str, str]:
    return {one.label: one.value for one in app.metric}


def words(app: AppTest) -> str:
    """All that is said outside of tables."""
    kinds = (app.text, app.markdown, app.error, app.warning, app.info, app.caption, app.code)
    return "\n".join(str(one.value) for kind in kinds for one in kind)


def table(app: AppTest, number: int) -> list[dict[str, Any]]:
    return app.dataframe[number].value.to_dict("records")  # type: ignore[no-any-return]


def test_both_sources_are_on_the_page_with_what_is_new_first(memory: Memory, page: Page) -> None:
    memory.add(report([row(1), failed(2), row(3)], YESTERDAY), latest=False)
    memory.add(report([failed(1, severity="critical"), failed(2), row(3)], TODAY))
    memory.judge("silver.orders", YESTERDAY, [rule()])
    memory.judge("silver.orders", TODAY, [rule(passed=False), rule("volume")])
    app = page()
    assert numbers(app) == {
        "Health": "15 %",  # 2 passed, 3 failed, 2 of them critical: 200 / (2 + 3 + 4 * 2)
        "Critical failures": "2",
        "Failed": "3",
        "Could not be checked": "0",
        "New since the day before": "2",
    }
    new = table(app, 1)
    assert {(one["Table"], one["Note"]) for one in new} == {
        ("SHOP.SALES.T1", "new"),
        ("silver.orders", "new"),
    }
    assert [one["Note"] for one in table(app, 2)][:3] == ["new", "new", ""]
