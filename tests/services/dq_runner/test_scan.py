"""A table's rules as queries, and their answers as results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import sqlglot

from dq_runner.model import Result, Rule, Table, TableName, Window
from dq_runner.rules.conventions import conventions
from dq_runner.scan import MOST_AGGREGATES, Answer, Plan, plan, sampled
from local.snowflake.results import take_any_name
from tests.services.dq_runner import rows as local
from tests.services.dq_runner.rows import AT, WHOLE, YESTERDAY

COLUMNS = {
    "ID": "TEXT",
    "STATUS": "TEXT",
    "AMOUNT": "NUMBER",
    "F": "FLOAT",
    "V": "VARIANT",
    "BORN": "DATE",
    "LOADED_AT": "TIMESTAMP_NTZ",
}
ORDERS = local.table("ORDERS", COLUMNS, "LOADED_AT")


@pytest.fixture(scope="module")
def cursor() -> Iterator[Any]:
    take_any_name()
    with local.snowflake() as found:
        yield found


def order(number: int = 1, days: float = 1, **values: Any) -> dict[str, Any]:
    return {
        "ID": str(number),
        "STATUS": "PAID",
        "AMOUNT": Decimal(1),
        "LOADED_AT": local.days_ago(days),
    } | values


def judged(
    cursor: Any, rows: list[dict[str, Any]], *rules: Rule, window: Window = YESTERDAY, table: Table = ORDERS
) -> list[Result]:
    local.create(cursor, table, rows)
    made = plan(table, rules, window, AT, {table.name: table})
    return made.judge(local.ask(cursor, made))


def declared(kind: Any, *columns: str, **params: Any) -> Rule:
    named = {name: params.pop(name) for name in ("name", "max_share", "severity") if name in params}
    return Rule(kind, columns, origin="declared", params=params, **named)


# On the local Snowflake --------------------------------------------------------------------------------------------


def test_a_window_without_rows_passes_what_counts_rows_and_says_so(cursor: Any) -> None:
    not_null, unique, key, few, volume, fresh = judged(
        cursor,
        [],
        declared("not_null", "ID"),
        declared("unique", "ID"),
        declared("unique", "ID", "STATUS"),
        declared("few_values", "STATUS", max=2),
        declared("row_count", min=1),
        declared("freshness", max_hours=Decimal(24)),
    )
    for result in (not_null, unique, key):
        assert (result.status, result.rows, result.failed_rows, result.share) == ("passed", 0, 0, 0)
        assert result.observed == "no rows to look at"
    assert (few.status, few.value) == ("passed", 0)
    assert (volume.status, volume.observed, volume.expected) == ("failed", "0 rows", "at least 1 row")
    assert (fresh.status, fresh.observed) == ("failed", "no row since 2026-10-24")


def test_a_divided_scan_says_what_the_scan_says(cursor: Any) -> None:
    rows = [
        order(1, AMOUNT=Decimal(-1)),
        order(1, STATUS=None),
        order(2, LOADED_AT=local.days_ago(-1)),
        order(3, LOADED_AT=None),
    ]
    rules = [
        declared("not_null", "LOADED_AT"),
        declared("not_in_future", "LOADED_AT"),
        declared("unique", "ID", window="whole"),
        declared("unique", "ID", "STATUS"),
        declared("range", "AMOUNT", min=0),
        declared("freshness", max_hours=Decimal(1)),
        declared("regex", "STATUS", pattern="P.*"),
        declared("not_null", "STATUS", where="AMOUNT > 0"),
        declared("custom_sql", name="own", max_share=Decimal("0.1"), sql="SELECT 1 FROM {rows}"),
    ]
    local.create(cursor, ORDERS, rows)
    together = plan(ORDERS, rules, YESTERDAY, AT, {ORDERS.name: ORDERS})
    apart = together.divided()
    found, again = (each.judge(local.ask(cursor, each)) for each in (together, apart))
    assert [one.failed_rows for one in found[:2]] == [1, 1]
    assert [replace(one, sql="") for one in again] == [replace(one, sql="") for one in found]
    # The window, the whole table, a key of two columns, SQL, and the two rules that may fail.
    assert len(apart.queries) == 6
    assert apart.measures(local.ask(cursor, apart)) == replace(
        together.measures(local.ask(cursor, together)), sql=apart.queries[0].sql
    )
    # What the report shows of a rule can be run.
    assert all(len(local.answer(cursor, one.sql).rows) == 1 for one in found)


def test_columns_of_nulls_break_not_null_alone(cursor: Any) -> None:
    rows = [
        order(LOADED_AT=local.days_ago(1)) | dict.fromkeys(["ID", "STATUS", "AMOUNT", "F", "V", "BORN"])
    ] * 3
    rules = [
        declared("not_null", "V"),
        declared("unique", "ID"),
        declared("unique", "ID", "STATUS"),
        declared("accepted_values", "STATUS", values=("A",)),
        declared("range", "F", min=0, max=1),
        declared("regex", "STATUS", pattern="x"),
        declared("not_in_future", "BORN"),
        declared("referential", "ID", to="ORDERS", to_columns=("STATUS",)),
        declared("few_values", "STATUS", max=1),
    ]
    found = judged(cursor, rows, *rules)
    assert [result.failed_rows for result in found] == [3, 0, 0, 0, 0, 0, 0, 0, None]
    assert found[-1].value == 0


def test_a_share_is_exact_and_may_be_allowed(cursor: Any) -> None:
    rows = [order(number, AMOUNT=Decimal(-1 if number < 1 else 1)) for number in range(3)]
    third = Decimal(1) / 3
    none, below, at = judged(
        cursor,
        rows,
        declared("range", "AMOUNT", min=0, name="none"),
        declared("range", "AMOUNT", min=0, name="below", max_share=Decimal("0.33")),
        declared("range", "AMOUNT", min=0, name="at", max_share=Decimal("0.34")),
    )
    assert (none.status, none.failed_rows, none.rows, none.share) == ("failed", 1, 3, third)
    assert (none.observed, none.expected) == ("1 of 3 rows", "at least 0")
    assert (below.status, at.status) == ("failed", "passed")
    assert at.expected == "at least 0, but for a share of 0.34 at most"


def test_a_rule_of_some_rows_counts_those(cursor: Any) -> None:
    rows = [order(number, STATUS="PAID" if number % 2 else None, AMOUNT=None) for number in range(5)]
    rule = declared("not_null", "AMOUNT", where="status = 'PAID'")
    count = declared("row_count", where="STATUS IS NULL", max=2)
    few = declared("few_values", "ID", where="STATUS IS NULL", max=2)
    unique = declared("unique", "STATUS", where="ID <> '1'")
    found = judged(cursor, rows, rule, count, few, unique)
    assert [result.rows for result in found] == [2, 3, 3, 4]
    assert [result.failed_rows for result in found] == [2, None, None, 0]
    assert [result.status for result in found] == ["failed", "failed", "failed", "passed"]


def test_a_rule_of_the_whole_table_is_a_second_scan(cursor: Any) -> None:
    rows = [order(1), order(1, days=9), order(None, days=9)]
    rules = [
        declared("not_null", "ID"),
        declared("not_null", "ID", window="whole", name="whole"),
        declared("unique", "ID", window="whole", name="unique whole"),
        declared("row_count", window="whole", min=4, name="rows"),
    ]
    local.create(cursor, ORDERS, [row | {"ID": None} if row["ID"] == "None" else row for row in rows])
    made = plan(ORDERS, rules, YESTERDAY, AT, {})
    found = made.judge(local.ask(cursor, made))
    assert (len(made.scans), len(made.extra)) == (2, 0)
    assert [(result.failed_rows, result.rows) for result in found] == [(0, 1), (1, 3), (1, 3), (None, 3)]


def test_a_declared_key_is_looked_for_outside_of_the_window(cursor: Any) -> None:
    rows = [order(1), order(1, days=9), order(2), order(2), order(3), order(4, days=9), order(4, days=9)]
    by_name, whole, by_convention = judged(
        cursor,
        rows,
        declared("unique", "ID"),
        declared("unique", "ID", window="whole", name="whole"),
        Rule("unique", ("ID",)),
    )
    assert (by_name.failed_rows, by_name.rows) == (2, 4)
    assert (whole.failed_rows, whole.rows) == (3, 7)
    assert (by_convention.failed_rows, by_convention.expected) == (1, "no value twice within the window")


def test_freshness_does_not_believe_the_future(cursor: Any) -> None:
    rows = [order(days=-400), order(days=2), order(days=3, STATUS="SHIPPED")]
    newest, shipped, born = judged(
        cursor,
        rows,
        declared("freshness", max_hours=Decimal(48)),
        declared("freshness", max_hours=Decimal("71.5"), where="STATUS = 'SHIPPED'", name="shipped"),
        declared("freshness", "BORN", max_hours=Decimal(1)),
    )
    assert (newest.status, newest.value) == ("passed", 48)
    assert (shipped.status, shipped.observed) == (
        "failed",
        "72.0 hours: the newest row is of 2026-11-26 06:00 UTC",
    )
    assert born.status == "failed"


def test_sql_of_ones_own_lists_or_counts(cursor: Any) -> None:
    rows = [order(1), order(2, STATUS="SHIPPED"), order(3, days=9, STATUS="SHIPPED")]
    lists = "SELECT * FROM {rows} WHERE STATUS = 'SHIPPED'"
    found = judged(
        cursor,
        rows,
        declared("custom_sql", name="lists", sql=lists),
        declared("custom_sql", name="counts", sql="SELECT COUNT(*) FROM {table} WHERE STATUS = 'SHIPPED'"),
        declared("custom_sql", name="sums", sql="SELECT SUM(AMOUNT) FROM {rows} WHERE FALSE -- nothing"),
        declared("custom_sql", name="share", sql=lists, max_share=Decimal("0.5")),
        declared("custom_sql", name="half", sql="SELECT SUM(AMOUNT / 4) FROM {rows}"),
    )
    assert [result.failed_rows for result in found] == [1, 2, 0, 1, None]
    assert [result.status for result in found] == ["failed", "failed", "passed", "passed", "error"]
    assert found[3].share == Decimal("0.5")
    assert "as a number of rows" in found[4].message


def test_a_referred_table_is_joined_once_however_often_its_keys_are_there(cursor: Any) -> None:
    customers = local.table("CUSTOMERS", {"ID": "TEXT"})
    orders = local.table("SALES", {"ID": "TEXT", "CUSTOMER_ID": "TEXT", "AMOUNT": "NUMBER"})
    known = {customers.name: customers, orders.name: orders}
    local.create(cursor, customers, [{"ID": "1"}, {"ID": "1"}, {"ID": None}])
    local.create(
        cursor, orders, [{"ID": str(n), "CUSTOMER_ID": key} for n, key in enumerate(["1", "2", "2", None])]
    )
    rules = list(conventions(orders, known, "warning", 5))
    together, apart = (plan(orders, rules, WHOLE, AT, known, apart=each) for each in (False, True))
    assert (len(together.queries), len(apart.queries)) == (1, 2)
    for made in (together, apart):
        found = {result.rule.title: result for result in made.judge(local.ask(cursor, made))}
        assert (found["referential(CUSTOMER_ID)"].failed_rows, found["referential(CUSTOMER_ID)"].rows) == (
            2,
            4,
        )
        assert found["unique(ID)"].rows == 4


def test_measures_are_of_the_window(cursor: Any) -> None:
    rows = [order(1), order(1, STATUS=None, days=1.1), order(2, days=9)]
    local.create(cursor, ORDERS, rows)
    made = plan(ORDERS, (), YESTERDAY, AT)
    measures = made.measures(local.ask(cursor, made))
    assert measures is not None
    assert (measures.rows, measures.newest) == (2, AT - timedelta(days=1))
    assert measures.columns["STATUS"] == (1, 1)
    assert measures.columns["ID"] == (0, 1)
    assert measures.columns["V"] == (2, None)
    assert measures.columns["AMOUNT"].distinct is None


def test_different_values_are_counted_for_history_or_for_rules_alone() -> None:
    made = plan(ORDERS, [declared("few_values", "STATUS", max=2)], YESTERDAY, AT, distinct=False)
    assert sql_of(made).count("COUNT(DISTINCT ") == 1
    measures = made.measures({0: answer_of(made.queries[0].sql)})
    assert measures is not None
    assert {column.distinct for column in measures.columns.values()} == {None}


HOSTILE = [
    *('a"b', "it's", "';DROP TABLE X;--", "semi;colon", "dot.ted", "日本", "tail ", "--c", "/*c", "{alias}"),
    *("new\nline", "back\\slash", "FAILED", "K0", "T", "lower", " ", "$1", "@x", "?", ":x", "%s", "select"),
]


def test_hostile_names_are_names(cursor: Any) -> None:
    # An apostrophe in the name of a table is too much for the local Snowflake's CREATE TABLE.
    table = local.table(
        'a"b.c; DROP\n--{alias}', dict.fromkeys(HOSTILE, "TEXT") | {"D '\"": "TIMESTAMP_NTZ"}, "D '\""
    )
    local.create(
        cursor,
        table,
        [dict.fromkeys(HOSTILE, value) | {"D '\"": local.days_ago(1)} for value in ("'", "'", None)],
    )
    rules = [
        rule
        for name in HOSTILE
        for rule in (
            declared("not_null", name),
            Rule("unique", (name,)),
            declared("accepted_values", name, values=(name,)),
            Rule("referential", (name,), params={"to": table.name, "to_columns": (HOSTILE[0],)}),
        )
    ]
    rules += [
        declared("unique", *HOSTILE),
        declared("referential", *HOSTILE, to=table.name, to_columns=tuple(HOSTILE)),
    ]
    made = plan(table, rules, YESTERDAY, AT, {table.name: table})
    found = made.judge(local.ask(cursor, made))
    assert [result.message for result in found if result.message] == []
    assert [result.failed_rows for result in found] == [1, 1, 2, 0] * len(HOSTILE) + [1, 0]
    key = sampled(found[-2], local.answer(cursor, made.sample(found[-2], 3))).samples
    assert key == (dict.fromkeys(HOSTILE, "'"),)


def test_samples_are_keys_of_what_is_broken(cursor: Any) -> None:
    rows = [order(n, AMOUNT=Decimal(n - 2)) for n in range(5)] + [order(0, days=9, AMOUNT=Decimal(-9))]
    rules = [
        declared("unique", "ID"),
        declared("range", "AMOUNT", min=0),
        declared("few_values", "ID", max=1),
    ]
    local.create(cursor, ORDERS, rows)
    made = plan(ORDERS, rules, YESTERDAY, AT)
    unique, negative, few = made.judge(local.ask(cursor, made))
    assert sampled(negative, local.answer(cursor, made.sample(negative, 1))).samples == ({"ID": "0"},)
    assert sampled(unique, local.answer(cursor, made.sample(unique, 9))).samples == ({"ID": "0"},)
    assert made.sample(few, 9) == ""
    without_key = plan(ORDERS, rules[1:], YESTERDAY, AT)
    assert without_key.sample(without_key.judge(local.ask(cursor, without_key))[0], 9) == ""


# Without a Snowflake -----------------------------------------------------------------------------------------------


def refused(rule: Rule, table: Table = ORDERS, known: Mapping[TableName, Table] | None = None) -> Result:
    (result,) = plan(table, [rule], YESTERDAY, AT, known).judge({0: Answer()})
    return result


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (declared("not_null", "AMUONT"), "received the column AMUONT, expected one of the columns of DB.PUBLIC.OR"),
        (declared("range", "STATUS", min=0), "received STATUS of type TEXT, expected one of integer, decimal"),
        (declared("unique", "V"), "received V of type VARIANT, expected one of text"),
        (declared("range", "AMOUNT", min="low"), "received 'low', expected a number, for AMOUNT is NUMBER"),
        (declared("range", "BORN", min=1), "received 1, expected a day, as 2026-01-31, for BORN is DATE"),
        (declared("range", "BORN", min="2026-02-30"), "received '2026-02-30', expected a day"),
        (declared("accepted_values", "AMOUNT", values=(1, True)), "received True, expected a number"),
        (declared("accepted_values", "STATUS", values=(True,)), "received True, expected text"),
        (declared("regex", "AMOUNT", pattern="a"), "received AMOUNT of type NUMBER, expected one of text"),
        (declared("not_in_future", "ID"), "received ID of type TEXT, expected one of date, timestamp"),
        (declared("referential", "ID", to="NOWHERE", to_columns=("ID",)), "received NOWHERE as the table"),
        (declared("not_null", "ID", where="STATE = 1"), "where: received the column STATE"),
        (declared("freshness", "STATUS", max_hours=Decimal(1)), "received STATUS of type TEXT"),
    ],
)  # fmt: skip
def test_a_rule_that_the_columns_do_not_allow_is_one_clear_error(rule: Rule, message: str) -> None:
    result = refused(rule)
    assert result.status == "error"
    assert message in result.message


def test_keys_of_types_that_cannot_be_compared_are_refused() -> None:
    parent = local.table("CUSTOMERS", {"ID": "INTEGER"})
    rule = declared("referential", "ID", to="PUBLIC.CUSTOMERS", to_columns=("ID",))
    assert "received ID of type TEXT, expected INTEGER" in refused(rule, known={parent.name: parent}).message


def test_of_names_that_differ_in_case_a_declared_one_means_that_in_capitals() -> None:
    both = [local.table("CUSTOMERS", {"ID": "TEXT"}), local.table("customers", {"ID": "TEXT"})]
    known = {each.name: each for each in both}
    made = plan(ORDERS, [declared("referential", "ID", to="Customers", to_columns=("ID",))], WHOLE, AT, known)
    assert '"DB"."PUBLIC"."CUSTOMERS"' in made.extra[0].sql
    made = plan(
        ORDERS, [declared("referential", "ID", to='"customers"', to_columns=("ID",))], WHOLE, AT, known
    )
    assert '"DB"."PUBLIC"."customers"' in made.extra[0].sql


def test_a_table_without_a_date_has_no_yesterday() -> None:
    table = local.table("T", {"ID": "TEXT"})
    result = refused(declared("not_null", "ID"), table)
    assert result.status == "skipped"
    assert "no date column" in result.message
    assert plan(table, [declared("not_null", "ID")], YESTERDAY, AT).measures({}) is None
    assert len(plan(table, [declared("not_null", "ID", window="whole")], YESTERDAY, AT).scans) == 1


@pytest.mark.parametrize(
    ("answer", "status", "message"),
    [
        (None, "error", "its query has no answer"),
        (Answer(failure="000604: statement timeout"), "error", "000604: statement timeout"),
        (Answer(failure="no time left", skipped=True), "skipped", "no time left"),
        (Answer(rows=[]), "error", "received 0 rows, expected one with M1"),
        (Answer(rows=[{"ROWS": 1}]), "error", "received 1 row, expected one with M1"),
        (Answer(rows=[{"ROWS": 1, "M1": 2}]), "error", "an answer that cannot be: 2 failed rows of 1"),
        (Answer(rows=[{"ROWS": 1, "M1": None}]), "error", "an answer that cannot be: "),
        (Answer(rows=[{"ROWS": 1, "M1": float("nan")}]), "error", "an answer that cannot be: "),
        (Answer(rows=[{"ROWS": 1, "M1": 1}], query_id="q", seconds=2.5), "failed", ""),
        (Answer(rows=[{"ROWS": 1, "M1": 0}]), "passed", ""),
    ],
)
def test_what_is_no_answer_is_no_pass(answer: Answer | None, status: str, message: str) -> None:
    made = plan(local.table("T", {"V": "VARIANT"}), [declared("not_null", "V")], WHOLE, AT)
    (result,) = made.judge({} if answer is None else {0: answer})
    assert result.status == status
    assert result.message.startswith(message)
    assert (result.message == "") == (message == "")
    if status == "failed":
        assert (result.query_id, result.seconds) == ("q", 2.5)


def test_a_result_has_the_sql_of_its_own_rule_which_answers_as_the_scan_does() -> None:
    table = local.table("T", {"A": "NUMBER", "B": "TEXT", "AT": "TIMESTAMP_NTZ"}, "AT")
    made = plan(table, [declared("not_null", "A"), declared("not_null", "B")], YESTERDAY, AT)
    scan = sqlglot.parse_one(made.queries[0].sql, read="snowflake")
    for result, check in zip(made.judge({}), made.checks, strict=True):
        alone = sqlglot.parse_one(result.sql, read="snowflake")
        assert {one.alias for one in alone.expressions} == set(check.needs)
        assert set(alone.expressions) < set(scan.expressions)
        assert (alone.args["from_"], alone.args["where"]) == (scan.args["from_"], scan.args["where"])


def test_a_day_of_dates_begins_with_its_own_midnight() -> None:
    table = local.table("T", {"D": "DATE"}, "D")
    assert "T.\"D\" >= '2026-11-28'::DATE AND T.\"D\" < '2026-11-29'::DATE" in sql_of(
        plan(table, (), YESTERDAY, AT)
    )
    noon = Window(datetime(2026, 11, 28, 12, tzinfo=UTC), datetime(2026, 11, 29, 12, tzinfo=UTC))
    assert "T.\"D\" >= '2026-11-29'::DATE AND T.\"D\" < '2026-11-30'::DATE" in sql_of(
        plan(table, (), noon, AT)
    )


def test_times_with_a_zone_are_compared_with_utc() -> None:
    for kind in ("TIMESTAMP_TZ", "TIMESTAMP_LTZ"):
        made = plan(local.table("T", {"D": kind}, "D"), (), YESTERDAY, AT)
        assert f"'2026-11-28 00:00:00.000000 +00:00'::{kind}" in sql_of(made)


def sql_of(made: Plan) -> str:
    return "\n".join(query.sql for query in made.queries)


# How many queries --------------------------------------------------------------------------------------------------


def wide(number: int, columns: int = 30) -> Table:
    """A table as one meets it: an id, keys of two other tables, dates, amounts, codes, texts."""
    kinds = {f"T{number}_ID": "TEXT", "LOADED_AT": "TIMESTAMP_NTZ"}
    kinds |= {f"T{(number + step) % 300}_ID": "TEXT" for step in (1, 2)}
    forms = [
        *(
            ("AMOUNT_{}", "NUMBER"),
            ("SENT_{}_AT", "TIMESTAMP_NTZ"),
            ("KIND_{}_STATUS", "TEXT"),
            ("NOTE_{}", "TEXT"),
        ),
        *(("P{}_EMAIL", "TEXT"), ("C{}_CURRENCY", "TEXT"), ("TOTAL_{}", "FLOAT"), ("X{}_DATE", "DATE")),
    ]
    while len(kinds) < columns:
        form, kind = forms[len(kinds) % len(forms)]
        kinds[form.format(len(kinds))] = kind
    return local.table(f"T{number}", kinds, "LOADED_AT")


def test_three_hundred_tables_take_a_twentieth_of_the_queries() -> None:
    tables = [wide(number) for number in range(300)]
    known = {table.name: table for table in tables}
    plans = [
        plan(table, list(conventions(table, known, "warning", 50)), YESTERDAY, AT, known) for table in tables
    ]
    rules = sum(len(made.checks) for made in plans)
    queries = sum(len(made.queries) for made in plans)
    assert sum("referential" in check.rule.title for made in plans for check in made.checks) == 600
    assert rules > 7_000
    assert queries == 300
    assert queries * 20 <= rules


def test_declared_keys_and_sql_are_the_only_queries_besides() -> None:
    rules = [
        declared("not_null", "ID"),
        declared("unique", "ID"),
        declared("unique", "ID", "STATUS"),
        declared("referential", "ID", to=ORDERS.name, to_columns=("ID",)),
        declared("custom_sql", name="own", sql="SELECT 1 FROM {rows}"),
        declared("range", "AMOUNT", min=0),
        declared("freshness", max_hours=Decimal(1)),
        declared("row_count", min=1),
    ]
    made = plan(ORDERS, rules, YESTERDAY, AT, {ORDERS.name: ORDERS})
    assert len(made.scans) == 1
    assert [query.rules[0].kind for query in made.extra] == ["unique", "unique", "referential", "custom_sql"]
    assert {rule.title for rule in made.scans[0].rules} == {rule.title for rule in rules} - {"own"}


def test_what_several_rules_need_is_asked_once() -> None:
    rules = [declared("range", "AMOUNT", min=0, name=str(number)) for number in range(50)]
    (scan,) = plan(ORDERS, rules, YESTERDAY, AT).queries
    assert scan.sql.count('T."AMOUNT" < 0') == 1


def test_a_scan_of_thousands_of_columns_is_several_statements() -> None:
    table = local.table("WIDE", {f"COLUMN_{number}": "TEXT" for number in range(2_000)} | {"D": "DATE"}, "D")
    rules = [declared("not_null", column.name) for column in table.columns]
    made = plan(table, rules, YESTERDAY, AT)
    assert len(made.scans) == len(made.queries) == -(-4_004 // MOST_AGGREGATES)
    assert all(len(query.sql) < 1_000_000 for query in made.queries)
    assert len(sqlglot.parse_one(made.queries[-1].sql, read="snowflake").expressions) <= MOST_AGGREGATES
    answers = {n: answer_of(query.sql) for n, query in enumerate(made.queries)}
    assert {result.status for result in made.judge(answers)} == {"passed"}
    lost = made.judge({n: answer for n, answer in answers.items() if n != 3})
    assert {result.status for result in lost} == {"passed", "error"}
    assert made.measures({}) is None


def test_long_rules_are_several_statements_too() -> None:
    values = tuple(f"{'x' * 90}{number}" for number in range(3_000))
    rules = [declared("accepted_values", name, values=values) for name in ("ID", "STATUS")]
    made = plan(ORDERS, rules, YESTERDAY, AT)
    assert len(made.scans) == 2
    assert all(len(query.sql) < 1_000_000 for query in made.queries)


def answer_of(statement: str) -> Answer:
    """Zero for each value of a scan."""
    names = [
        line.rsplit(' AS "', 1)[1].rstrip(",").rstrip('"')
        for line in statement.split("\n")
        if ' AS "' in line
    ]
    return Answer([dict.fromkeys(names, 0) | {"NEWEST": date(2026, 11, 28)}])
