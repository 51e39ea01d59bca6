"""All SQL that rules can become is Snowflake's, means the same on the local one, and holds names and values whole."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import exp

from dq_runner.checks import _CHECKS
from dq_runner.draft import COMPARED
from dq_runner.model import Column, Rule, Table, TableName
from dq_runner.scan import Plan, plan
from tests.services.dq_runner.rows import AT, FAMILIES, WHOLE, YESTERDAY

NAMES = st.one_of(
    st.sampled_from(
        [
            "ID",
            "id",
            "a b",
            'q"t',
            "it's",
            "x;DROP TABLE y",
            "SELECT",
            "dot.ted",
            "日本",
            "tail ",
            "--c",
            "/*",
            "n\nl",
        ]
    ),
    st.sampled_from(
        ["ROWS", "FAILED", "K0", "P0", "T", "{alias}", "$1", "@s", "back\\slash", '""', "'", "%s", "?"]
    ),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6),
)
TEXTS = st.text(max_size=6) | st.sampled_from(["'", "\\", "\\'", "''; DROP TABLE x --", "{alias}", "\n", '"'])
NUMBERS = st.integers(-(10**18), 10**18) | st.decimals(
    allow_nan=False, allow_infinity=False, places=3, max_value=10**9
)


#: Types of the column that a rule of each kind is for.
FITTING = {
    "not_null": sorted(FAMILIES),
    "accepted_values": [kind for kind, family in FAMILIES.items() if family != "other"],
    "range": ["INTEGER", "NUMBER", "FLOAT", "DATE", "TIMESTAMP_NTZ", "TIMESTAMP_LTZ", "TIMESTAMP_TZ"],
    "regex": ["TEXT"],
    "not_in_future": ["DATE", "TIMESTAMP_NTZ", "TIMESTAMP_LTZ", "TIMESTAMP_TZ"],
    "row_count": sorted(FAMILIES),
    "custom_sql": sorted(FAMILIES),
}
FITTING |= {"unique": FITTING["accepted_values"], "few_values": FITTING["accepted_values"]}
FITTING |= {"referential": FITTING["accepted_values"], "freshness": FITTING["not_in_future"]}


@st.composite
def tables(draw: st.DrawFn, kind: str) -> Table:
    """A table whose first column a rule of this kind is for, and whose last is a date."""
    names = draw(st.lists(NAMES, min_size=2, max_size=5, unique_by=str.upper))
    others = [draw(st.sampled_from(sorted(FAMILIES))) for _ in names[2:]]
    kinds = [draw(st.sampled_from(FITTING[kind])), *others, draw(st.sampled_from(FITTING["not_in_future"]))]
    columns = tuple(Column(name, of, FAMILIES[of]) for name, of in zip(names, kinds, strict=True))
    return Table(TableName(draw(NAMES), draw(NAMES), draw(NAMES)), "table", columns, columns[-1])


def values(column: Column) -> st.SearchStrategy[Any]:
    return {
        "text": TEXTS,
        "boolean": st.booleans(),
        "date": st.dates().map(str),
        "timestamp": st.datetimes().map(str),
    }.get(column.family, NUMBERS)


@st.composite
def rules(draw: st.DrawFn, kind: Any, table: Table) -> Rule:
    column = table.columns[0]
    own = ["SELECT * FROM {rows} AS r JOIN {table} AS t ON TRUE", "SELECT COUNT(*) FROM {rows}"]
    params: dict[str, st.SearchStrategy[dict[str, Any]]] = {
        "accepted_values": st.lists(values(column), min_size=1, max_size=3).map(
            lambda found: {"values": tuple(found)}
        ),
        "range": st.fixed_dictionaries({"min": values(column)}, optional={"max": values(column)}),
        "regex": TEXTS.map(lambda pattern: {"pattern": pattern}),
        "few_values": st.just({"max": 3}),
        "referential": st.just({"to": table.name, "to_columns": (column.name,)}),
        "row_count": st.just({"min": 1}),
        "freshness": st.just({"max_hours": Decimal(2)}),
        "custom_sql": st.sampled_from(own).map(lambda text: {"sql": text}),
    }
    found = draw(params.get(kind, st.just({})))
    if draw(st.booleans()):
        found = found | {"window": "whole"}
    if draw(st.booleans()) and kind != "custom_sql":
        quoted = column.name.replace('"', '""')
        found = found | {"where": f'"{quoted}" IS NOT NULL OR FALSE'}
    columns = () if kind in ("row_count", "custom_sql") else (column.name,)
    return Rule(kind, columns, origin=draw(st.sampled_from(["convention", "declared"])), params=found)


def statements(made: Plan) -> list[str]:
    samples = [f"{check.sample}\nLIMIT 5" for check in made.checks if check.sample]
    return [*(query.sql for query in made.queries), *samples]


@pytest.mark.parametrize("kind", sorted(_CHECKS))
def test_every_statement_passes_the_lint(kind: str) -> None:
    @settings(max_examples=12)
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        table = data.draw(tables(kind))
        key = Rule("unique", (table.columns[-1].name,))  # that there are samples
        made = plan(
            table,
            [key, data.draw(rules(kind, table)), data.draw(rules(kind, table))],
            data.draw(st.sampled_from([YESTERDAY, WHOLE])),
            AT,
            {table.name: table},
            apart=data.draw(st.booleans()),
        )
        assert [check.refused for check in made.checks if check.refused] == []
        for statement in statements(made):
            assert lint(statement, table) == []

    holds()


def lint(statement: str, table: Table) -> list[str]:
    """What is wrong with a statement of ours."""
    parsed = sqlglot.parse(statement, read="snowflake")
    if len(parsed) != 1 or not isinstance(parsed[0], exp.Select):
        return [f"{len(parsed)} statements"]
    (root,) = parsed
    return [
        *(f"{node.sql_name()} is not the same everywhere" for node in root.find_all(exp.CountIf)),
        *(f"{node.key} has no fixed type" for node in root.find_all(exp.Sum, exp.Avg) if not is_cast(node)),
        *(
            f"{node.key} makes a timestamp of a date"
            for node in root.find_all(exp.DateTrunc, exp.TimestampTrunc, exp.DateAdd)
        ),
        *(f"{node.key} divides by what may be 0" for node in root.find_all(exp.Div)),
        *(
            f"{node.key} is another one each time"
            for node in root.find_all(exp.CurrentTimestamp, exp.CurrentDate, exp.Rand)
        ),
        *(
            f"{node.name} has no type or no zone"
            for node in root.find_all(exp.Literal)
            if is_loose_time(node)
        ),
        *(f"{node.sql()} is unknown" for node in root.find_all(exp.Table) if not is_known(node, table)),
        *(f"{node.sql()} is unknown" for node in root.find_all(exp.Column) if not is_ours(node, table)),
    ]


def is_cast(node: exp.Expr) -> bool:
    return node.find_ancestor(exp.Cast) is not None


def is_loose_time(node: exp.Literal) -> bool:
    if not isinstance(node.parent, exp.Cast):
        return False
    kind = node.parent.to.sql(dialect="snowflake")
    return kind in ("TIMESTAMPTZ", "TIMESTAMPLTZ") and not node.name.endswith(" +00:00")


def is_known(node: exp.Table, table: Table) -> bool:
    names = [part.name for part in (node.args["catalog"], node.args["db"], node.this)]
    quoted = all(part.args.get("quoted") for part in (node.args["catalog"], node.args["db"], node.this))
    return quoted and names == [table.name.database, table.name.schema, table.name.name]


def is_ours(node: exp.Column, table: Table) -> bool:
    if not node.this.args.get("quoted"):
        return node.name.startswith("K") or node.name == "FAILED"
    return node.table in ("T", "P") and node.name in {column.name for column in table.columns}


ONE = Table(TableName("D", "S", "T"), "table", (Column("A", "TEXT", "text"),))


@pytest.mark.parametrize(
    "select",
    [
        "COUNT_IF(T.A)",
        "SUM(T.A)",
        "AVG(T.A)",
        "DATE_TRUNC('day', T.\"A\")",
        'DATEADD(day, 1, T."A")',
        "1 / COUNT(*)",
        "CURRENT_TIMESTAMP()",
        "'2026-01-01'::TIMESTAMP_TZ",
        'T."B"',
        "1; SELECT 2",
    ],
)
def test_the_lint_finds(select: str) -> None:
    assert lint(f'SELECT {select} FROM "D"."S"."T" AS T', ONE) != []


def test_every_family_that_can_be_compared_has_a_test() -> None:
    assert set(COMPARED) - set(FAMILIES.values()) == {"time"}
