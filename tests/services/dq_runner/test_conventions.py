"""What the names of columns stand for, and how it is switched off."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from functools import cache
from typing import Any

import pytest

from dq_runner.config import Config, read_config
from dq_runner.documents import Document, validated
from dq_runner.model import Mute, Result, Rule, Table
from dq_runner.rules.codes import COUNTRIES, CURRENCIES
from dq_runner.rules.conventions import EMAIL, conventions, singular, words
from dq_runner.rules.declared import RuleFile
from dq_runner.rules.mutes import muted
from dq_runner.rules.of_table import idle, rules_for, unmatched
from tests.services.dq_runner import rows as local
from tests.support import REPO

CUSTOMERS = local.table("DIM_CUSTOMERS", {"ID": "TEXT", "NAME": "TEXT"})


def titles(table: Table, *others: Table) -> list[str]:
    known = {each.name: each for each in (table, *others)}
    return [rule.title for rule in conventions(table, known, "warning", 50)]


@pytest.mark.parametrize(
    ("column", "kind", "found"),
    [
        ("ID", "TEXT", ["not_null(ID)", "unique(ID)"]),
        ("ORDER_ID", "INTEGER", ["not_null(ORDER_ID)", "unique(ORDER_ID)"]),
        ("orderId", "TEXT", ["not_null(orderId)", "unique(orderId)"]),
        ("CUSTOMER_ID", "TEXT", ["referential(CUSTOMER_ID)"]),
        ("CUSTOMER_ID", "INTEGER", []),
        ("PRODUCT_ID", "TEXT", []),
        ("CUSTOMER_EMAIL", "TEXT", ["regex(CUSTOMER_EMAIL)"]),
        ("E_MAIL", "TEXT", ["regex(E_MAIL)"]),
        ("EMAIL_SENT", "BOOLEAN", []),
        ("EMAIL_OPT_IN", "TEXT", []),
        ("CURRENCY", "TEXT", ["accepted_values(CURRENCY)"]),
        ("BILLING_CURRENCY_CODE", "TEXT", ["accepted_values(BILLING_CURRENCY_CODE)"]),
        ("COUNTRY_CODE", "TEXT", ["accepted_values(COUNTRY_CODE)"]),
        ("COUNTRY", "TEXT", []),
        ("STATUS", "TEXT", ["few_values(STATUS)"]),
        ("ORDER_STATUS", "TEXT", ["few_values(ORDER_STATUS)"]),
        ("STATUS_TEXT", "TEXT", []),
        ("AMOUNT", "NUMBER", ["range(AMOUNT)"]),
        ("TOTAL_AMOUNT", "FLOAT", ["range(TOTAL_AMOUNT)"]),
        ("FX_RATE", "NUMBER", ["range(FX_RATE)"]),
        ("TOTAL_FEES", "NUMBER", ["range(TOTAL_FEES)"]),
        ("TAXES", "NUMBER", ["range(TAXES)"]),
        ("REFUND_AMOUNT", "NUMBER", []),
        ("TOTAL_CREDITS", "NUMBER", []),
        ("COST_ADJUSTMENTS", "NUMBER", []),
        ("DISCOUNT", "NUMBER", []),
        ("TAX_ID", "NUMBER", []),
        ("NET_AMOUNT", "NUMBER", []),
        ("AMOUNT", "TEXT", []),
        ("SHIPPED_AT", "TIMESTAMP_NTZ", ["not_in_future(SHIPPED_AT)"]),
        ("BIRTH_DATE", "DATE", ["not_in_future(BIRTH_DATE)"]),
        ("DUE_DATE", "DATE", []),
        ("VALID_TO", "TIMESTAMP_TZ", []),
        ("EXPIRES_AT", "TIMESTAMP_LTZ", []),
        ("ID", "VARIANT", []),
        ("***", "TEXT", []),
    ],
)
def test_a_name_stands_for_rules(column: str, kind: str, found: list[str]) -> None:
    assert titles(local.table("ORDERS", {column: kind}), CUSTOMERS) == found


def test_a_key_refers_to_the_one_table_of_its_name_in_its_schema() -> None:
    orders = local.table("ORDERS", {"CUSTOMER_ID": "TEXT"})
    elsewhere = local.table("CUSTOMERS", {"ID": "TEXT"}, schema="CRM")
    two_keys = local.table("CUSTOMER", {"ID": "TEXT", "CUSTOMER_ID": "TEXT"})
    assert titles(orders, elsewhere) == []
    assert titles(orders, two_keys) == []
    assert titles(orders, CUSTOMERS, local.table("CUSTOMERS", {"ID": "TEXT"})) == []
    (rule,) = conventions(orders, {CUSTOMERS.name: CUSTOMERS}, "critical", 50)
    assert (rule.params["to"], rule.params["to_columns"], rule.severity) == (
        CUSTOMERS.name,
        ("ID",),
        "critical",
    )


@pytest.mark.parametrize(
    ("word", "one"),
    [
        ("ORDERS", "ORDER"),
        ("CURRENCIES", "CURRENCY"),
        ("ADDRESSES", "ADDRESS"),
        ("ADDRESS", "ADDRESS"),
        ("BOXES", "BOX"),
        ("BATCHES", "BATCH"),
        ("CUSTOMER", "CUSTOMER"),
        ("S", "S"),
    ],
)
def test_a_word_in_the_singular(word: str, one: str) -> None:
    assert singular(word) == one


def test_words_of_a_name() -> None:
    assert words("Order Line-id") == ("ORDER", "LINE", "ID")
    assert words("orderLineId") == ("ORDER", "LINE", "ID")
    assert words("ORDER_LINE_ID") == ("ORDER", "LINE", "ID")


def test_codes_are_of_their_form_and_once() -> None:
    assert len(set(CURRENCIES)) == len(CURRENCIES) == 187
    assert {len(code) for code in CURRENCIES} == {3}
    assert len(set(COUNTRIES)) == len(COUNTRIES) == 2 * 249
    assert {"EUR", "USD", "NOK"} < set(CURRENCIES)
    assert {"NO", "DE", "GBR"} < set(COUNTRIES)
    assert "XXX" not in CURRENCIES


# With what is declared ---------------------------------------------------------------------------------------------

ORDERS = local.table("ORDERS", {"ID": "TEXT", "AMOUNT": "NUMBER", "STATUS": "TEXT"})


@cache
def own() -> Config:
    return read_config(REPO / "config")


def settings(*tables: Mapping[str, Any], **more: Any) -> Config:
    document = Document("a.yaml", {"tables": list(tables)})
    read = validated(document, RuleFile)
    assert read is not None, document.mistakes
    return own().model_copy(update={"declared": read.tables} | more)


def of(config: Config) -> dict[str, str]:
    return {rule.title: rule.origin for rule in rules_for(ORDERS, config, {ORDERS.name: ORDERS})}


def test_conventions_hold_where_nothing_is_declared() -> None:
    assert of(settings()) == dict.fromkeys(
        ["not_null(ID)", "unique(ID)", "range(AMOUNT)", "few_values(STATUS)"], "convention"
    )


def test_conventions_are_switched_off_as_a_whole() -> None:
    conventions_off = own().conventions.model_copy(update={"on": False})
    assert of(settings(conventions=conventions_off)) == {}


@pytest.mark.parametrize(
    ("table", "rule", "column", "gone"),
    [
        ("DB.PUBLIC.ORDERS", "range", "AMOUNT", {"range(AMOUNT)"}),
        ("*.*.*", "range", "amount", {"range(AMOUNT)"}),
        ("DB.*.ORD*", "*", "ID", {"not_null(ID)", "unique(ID)"}),
        ("DB.PUBLIC.ORDERS", "unique", "*", {"unique(ID)"}),
        ("DB.PUBLIC.OTHERS", "*", "*", set()),
        ("DB.PUBLIC.ORDERS", "regex", "AMOUNT", set()),
    ],
)
def test_a_convention_is_switched_off_in_one_line(table: str, rule: str, column: str, gone: set[str]) -> None:
    line = {"rule": rule, "column": column, "reason": "refunds are negative"}
    assert set(of(settings())) - set(of(settings({"table": table, "off": [line]}))) == gone


def test_a_declared_rule_replaces_the_convention_of_its_kind_and_columns() -> None:
    declared = {"kind": "range", "columns": ["amount"], "min": -100}
    assert of(settings({"table": "DB.PUBLIC.ORDERS", "rules": [declared]})) == {
        "range(amount)": "declared",
        "not_null(ID)": "convention",
        "unique(ID)": "convention",
        "few_values(STATUS)": "convention",
    }


def test_a_declared_rule_of_some_rows_leaves_the_convention() -> None:
    declared = {"kind": "range", "columns": ["AMOUNT"], "min": 1, "where": "STATUS = 'PAID'"}
    found = of(settings({"table": "DB.PUBLIC.ORDERS", "rules": [declared]}))
    assert (found["range(AMOUNT)"], found["range(AMOUNT) by convention"]) == ("declared", "convention")


def test_the_tables_own_rule_holds_before_that_of_a_pattern() -> None:
    own = {"kind": "not_null", "columns": ["AMOUNT"], "severity": "critical"}
    pattern = {"kind": "not_null", "columns": ["AMOUNT"], "max_share": Decimal("0.5")}
    config = settings({"table": "DB.PUBLIC.ORDERS", "rules": [own]}, {"table": "*.*.*", "rules": [pattern]})
    (rule,) = [rule for rule in rules_for(ORDERS, config, {}) if rule.origin == "declared"]
    assert (rule.severity, rule.max_share) == ("critical", 0)


def test_titles_are_one_of_a_kind_whatever_is_declared() -> None:
    entry = {"table": "*.*.ORDERS", "rules": [{"kind": "range", "columns": ["AMOUNT"], "min": 1}]}
    found = rules_for(ORDERS, settings(entry, entry), {})
    titles = [rule.title for rule in found]
    assert len(set(titles)) == len(titles)


def test_a_rule_of_no_table_is_an_error_of_its_own() -> None:
    rules = [{"kind": "row_count", "min": 1}, {"kind": "not_null", "columns": ["A", "B"]}]
    off = {"table": "A.B.*", "off": [{"rule": "range", "column": "X", "reason": "refunds are negative"}]}
    wrong = {"table": "DB.PUBLIC.ORDRES", "owner": "me", "rules": rules}
    config = settings(wrong, wrong, {"table": "*.*.ORDERS", "rules": rules}, off)
    found = unmatched(config, [ORDERS.name])
    assert [result.rule.title for result in found] == ["row_count()", "not_null(A)", "not_null(B)"]
    assert {(result.status, str(result.table), result.rule.owner) for result in found} == {
        ("error", "DB.PUBLIC.ORDRES", "me")
    }
    assert "means none of the tables that are looked at (1)" in found[0].message


# Mutes -------------------------------------------------------------------------------------------------------------

FAILED = Result(ORDERS.name, Rule("range", ("AMOUNT",), "critical"), "failed")


@pytest.mark.parametrize(
    ("table", "rule", "until", "holds"),
    [
        ("DB.PUBLIC.ORDERS", "range(AMOUNT)", date(2026, 11, 29), True),
        ("DB.PUBLIC.ORDERS", "range(AMOUNT)", date(2026, 11, 28), False),
        ("DB.*.*", "range(AMOUNT)", date(2026, 12, 31), True),
        ("DB.PUBLIC.ORDERS", "range(AMOUNT_USD)", date(2026, 12, 31), False),
        ("DB.CRM.ORDERS", "range(AMOUNT)", date(2026, 12, 31), False),
    ],
)
def test_a_mute_holds_for_its_rule_through_its_last_day(
    table: str, rule: str, until: date, holds: bool
) -> None:
    (result,) = muted([FAILED], [Mute(rule, table, "known since long", until)], date(2026, 11, 29))
    assert result.alarms is not holds
    assert (result.muted is not None) is holds
    assert result.status == "failed"


def test_lines_that_do_nothing_are_told() -> None:
    reason = "refunds are negative"
    own = [
        {"rule": "range", "column": "AMOUNT", "reason": reason},
        {"rule": "range", "column": "AMUONT", "reason": reason},
    ]
    gone = [{"rule": "*", "column": "*", "reason": reason}]
    mutes = [
        Mute("range(AMOUNT)", "*.*.ORDERS", reason, date(2026, 12, 31)),
        Mute("range(AMUONT)", "DB.PUBLIC.ORDERS", reason, date(2026, 12, 31)),
        Mute("range(TOTAL)", "DB.PUBLIC.ORDERS", reason, date(2026, 11, 1)),
    ]
    config = settings(
        {"table": "DB.PUBLIC.ORDERS", "off": own},
        {"table": "DB.PUBLIC.ORDRES", "off": gone},
        {"table": "DB.*.*_HISTORY", "off": gone},
        mutes=tuple(mutes),
    )
    assert idle(config, {ORDERS.name: ORDERS}, [FAILED], date(2026, 11, 29)) == [
        "config/dq_rules/: off range of AMUONT of DB.PUBLIC.ORDERS switches off no convention",
        "config/dq_rules/: off * of * of DB.PUBLIC.ORDRES switches off no convention",
        "config/dq_mutes.yaml: the mute of range(AMUONT) of DB.PUBLIC.ORDERS is of no rule that was tested",
    ]


def test_what_passed_is_not_muted() -> None:
    passed = Result(ORDERS.name, FAILED.rule, "passed")
    assert muted(
        [passed], [Mute("range(AMOUNT)", "*.*.*", "known", date(2027, 1, 1))], date(2026, 11, 29)
    ) == [passed]


def test_the_form_of_an_address() -> None:
    check = Rule("regex", ("E",), params={"pattern": EMAIL})
    table = local.table("T", {"E": "TEXT"})
    good = ["a@b.de", "ä.b+c@sub.ö.org", "O'Brien@x.ie"]
    bad = ["", "a", "a@b", "a@b.", "a b@c.de", "a@@b.de", "@b.de", "a@b.de\n", " a@b.de"]
    assert local.failed(check, table, [{"E": text} for text in good], local.WHOLE) == 0
    assert local.failed(check, table, [{"E": text} for text in bad], local.WHOLE) == len(bad)


def test_rules_of_the_sales_tables_hold_for_the_local_orders() -> None:
    """The rules that come with the repository fit SALES.PUBLIC.ORDERS as the local Snowflake makes it."""
    from dq_runner.scan import plan
    from local.snowflake.orders import COLUMNS

    kinds = {name: kind.split("(")[0].replace("VARCHAR", "TEXT") for name, kind in COLUMNS.items()}
    made = local.table("ORDERS", kinds, "LOADED_AT")
    orders = Table(made.name.__class__("SALES", "PUBLIC", "ORDERS"), "table", made.columns, made.date_column)
    config = own()
    planned = plan(orders, rules_for(orders, config, {}), local.YESTERDAY, local.AT)
    assert [check.refused for check in planned.checks if check.refused] == []
    assert "unique(ORDER_ID)" not in {check.rule.title for check in planned.checks}
