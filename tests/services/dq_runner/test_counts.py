"""What the scan counts, on the local Snowflake, is what plain Python counts of the same rows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from dq_runner.model import Rule, Window
from dq_runner.rules.conventions import EMAIL
from dq_runner.scan import plan
from tests.services.dq_runner import rows as local
from tests.services.dq_runner.rows import AT, WHOLE, YESTERDAY

COLUMNS = {
    "ID": "TEXT",
    "PART": "INTEGER",
    "PARENT_ID": "TEXT",
    "STATUS": "TEXT",
    "EMAIL": "TEXT",
    "AMOUNT": "NUMBER",
    "F": "FLOAT",
    "FLAG": "BOOLEAN",
    "D": "DATE",
    "N": "TIMESTAMP_NTZ",
    "Z": "TIMESTAMP_TZ",
    "L": "TIMESTAMP_LTZ",
}
PARENT = local.table("PARENT", {"ID": "TEXT"})

TEXTS = st.one_of(
    st.sampled_from(
        ["", " ", "A", "a", "A ", "ä", "O'Brien", "back\\slash", "\\", "%", "{alias}", "x\ny", "日本", "NULL"]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4),
)
KEYS = st.sampled_from(["1", "2", "3", "O'Brien", "\\"])
MOMENTS = st.sampled_from(
    [
        YESTERDAY.start,
        YESTERDAY.start - timedelta(microseconds=1),
        YESTERDAY.end,
        YESTERDAY.end - timedelta(microseconds=1),
        AT,
        AT + timedelta(hours=1),
        AT + timedelta(hours=1, microseconds=1),
        AT + timedelta(days=2),
        datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=UTC),
    ]
)
ZONES = st.sampled_from([timezone(timedelta(hours=hours)) for hours in (-11, -5, 0, 13)])
FLOATS = st.sampled_from([0.0, -0.0, 0.1, -1.5, 1e300, float("nan"), float("inf"), float("-inf")])
AMOUNTS = st.sampled_from(
    [Decimal(text) for text in ("0.00", "-0.01", "0.01", "9999999999999999.99", "12.30")]
)

ROWS = st.fixed_dictionaries(
    {
        "ID": st.none() | KEYS,
        "PART": st.none() | st.integers(1, 2) | st.just(10**18),
        "PARENT_ID": st.none() | KEYS,
        "STATUS": st.none() | TEXTS,
        "EMAIL": st.none()
        | TEXTS
        | st.sampled_from(["a@b.de", "a b@c.de", "a@b", "ä@ö.de", "a@b.de\n", "@b.de"]),
        "AMOUNT": st.none() | AMOUNTS,
        "F": st.none() | FLOATS,
        "FLAG": st.none() | st.booleans(),
        "D": st.none() | MOMENTS.map(datetime.date),
        "N": st.none() | MOMENTS.map(lambda moment: moment.replace(tzinfo=None)),
        "Z": st.none() | st.builds(lambda moment, zone: moment.astimezone(zone), MOMENTS, ZONES),
        "L": st.none() | st.builds(lambda moment, zone: moment.astimezone(zone), MOMENTS, ZONES),
    }
)
RULES = [
    *(Rule("not_null", (name,)) for name in COLUMNS),
    Rule("unique", ("ID",), origin="convention"),
    Rule("unique", ("ID",), origin="declared"),
    Rule("unique", ("ID", "PART"), origin="declared"),
    Rule("unique", ("F",), origin="declared"),
    Rule("unique", ("Z", "STATUS"), origin="declared"),
    Rule("referential", ("PARENT_ID",), params={"to": PARENT.name, "to_columns": ("ID",)}),
    Rule("referential", ("PARENT_ID",), origin="declared", params={"to": "PARENT", "to_columns": ("id",)}),
    Rule(
        "accepted_values",
        ("STATUS",),
        params={"values": ("A", "O'Brien", "back\\slash", "\\", "x\ny", "日本")},
    ),
    Rule("accepted_values", ("PART",), params={"values": (1,)}),
    Rule("accepted_values", ("AMOUNT",), params={"values": (0, Decimal("12.3"))}),
    Rule("accepted_values", ("FLAG",), params={"values": (True,)}),
    Rule("range", ("AMOUNT",), params={"min": 0}),
    Rule("range", ("AMOUNT",), params={"min": Decimal("-0.005"), "max": Decimal("12.30")}),
    Rule("range", ("PART",), params={"max": 10**17}),
    Rule("range", ("F",), params={"min": 0}),
    Rule("range", ("F",), params={"min": Decimal("-1.5"), "max": Decimal("0.1")}),
    Rule("range", ("D",), params={"min": "2026-11-28", "max": "2026-11-29"}),
    Rule("range", ("N",), params={"min": "2026-11-28", "max": "2026-11-29T05:59:59.999999"}),
    Rule("range", ("Z",), params={"min": "2026-11-28T00:00:00+00:00", "max": "2026-11-29"}),
    Rule("range", ("L",), params={"min": "2026-11-28"}),
    Rule("regex", ("EMAIL",), params={"pattern": EMAIL}),
    Rule("regex", ("STATUS",), params={"pattern": r"a|[^a]\\*|.\'.*|\d"}),
    *(Rule("not_in_future", (name,)) for name in "DNZL"),
    Rule("not_null", ("N",), params={"where": "flag"}),
    Rule("not_null", ("N",), params={"where": "flag", "window": "whole"}),
    Rule("unique", ("ID",), origin="declared", params={"where": "NOT flag OR AMOUNT > 0"}),
    Rule("unique", ("ID",), origin="declared", params={"window": "whole", "where": "flag"}),
    Rule("unique", ("ID", "FLAG"), origin="declared", params={"window": "whole"}),
    Rule("range", ("F",), params={"max": 0, "where": "NOT flag OR AMOUNT > 0"}),
    Rule(
        "referential",
        ("PARENT_ID",),
        origin="declared",
        params={"to": "PARENT", "to_columns": ("ID",), "where": "flag", "window": "whole"},
    ),
]


@pytest.fixture(scope="module")
def cursor() -> Iterator[Any]:
    with local.snowflake() as found:
        local.create(found, PARENT, [{"ID": "1"}, {"ID": "2"}, {"ID": "2"}, {"ID": "\\"}, {"ID": None}])
        yield found


PARENT_KEYS = {("1",), ("2",), ("\\",)}


@pytest.mark.parametrize("window", [YESTERDAY, WHOLE], ids=["yesterday", "whole"])
@pytest.mark.parametrize("dated_by", ["D", "N", "Z", "L"])
def test_counts_are_those_of_plain_python(cursor: Any, dated_by: str, window: Window) -> None:
    # Few examples of many rows: the local Snowflake translates each statement anew.
    @settings(max_examples=2, phases=[Phase.explicit, Phase.reuse, Phase.generate])
    @given(st.lists(ROWS, max_size=40))
    def holds(rows: list[dict[str, Any]]) -> None:
        made = local.table("T", COLUMNS, dated_by)
        known = {made.name: made, PARENT.name: PARENT}
        local.create(cursor, made, rows)
        planned = plan(made, RULES, window, AT, known)
        results = planned.judge(local.ask(cursor, planned))
        assert [result.message for result in results if result.message] == []
        for rule, result in zip(RULES, results, strict=True):
            assert (result.failed_rows, rule) == (local.failed(rule, made, rows, window, PARENT_KEYS), rule)
        assert all((result.status == "failed") == bool(result.failed_rows) for result in results)

    holds()
