"""The settings' files: every mistake of every file at once, and nothing that YAML takes for something else."""

from __future__ import annotations

import re
import shutil
import time
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dq_runner import documents
from dq_runner.checks import _CHECKS
from dq_runner.config import Config, Platform, read_config
from dq_runner.model import Column, TableName
from lakehouse.errors import ConfigError
from tests.support import REPO

ORDERS = TableName("SALES", "PUBLIC", "ORDERS")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the repository's own settings."""
    made = tmp_path / "config"
    (made / "dq_rules").mkdir(parents=True)
    for name in ("dq_platform.yaml", "dq_mutes.yaml"):
        shutil.copy(REPO / "config" / name, made / name)
    return made


def mistakes(folder: Path) -> dict[str, tuple[str, str]]:
    with pytest.raises(ConfigError) as raised:
        read_config(folder)
    assert raised.value.exit_code == 2
    return {each.where: (each.received, each.expected) for each in raised.value.violations}


def rules(folder: Path, text: str | bytes, name: str = "a.yaml") -> Path:
    (folder / "dq_rules" / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def with_settings(folder: Path, **changed: Any) -> Config:
    values = yaml.safe_load((folder / "dq_platform.yaml").read_text().replace("  on:", "  'on':"))
    for name, value in changed.items():
        values[name] = values.get(name, {}) | value if isinstance(value, dict) else value
    (folder / "dq_platform.yaml").write_text(yaml.safe_dump(values))
    return read_config(folder)


def test_the_repositorys_own_settings_are_valid() -> None:
    config = read_config(REPO / "config")
    assert any(entry.table == "SALES.PUBLIC.ORDERS" for entry in config.declared)
    assert any("*" in entry.table for entry in config.declared)
    assert config.samples == 0
    assert config.active_days == 30
    assert config.window.default == "yesterday"
    assert config.mutes == ()
    assert isinstance(config.limits.credits, Decimal)


def test_all_mistakes_of_all_files_are_said_at_once(folder: Path) -> None:
    platform = folder / "dq_platform.yaml"
    platform.write_text(
        platform.read_text().replace("active_days: 30", "active_days: -1").replace("workers: 4", "worker: 4")
    )
    rules(
        folder, "tables:\n  - table: A.B.C\n    rules:\n      - {kind: range, columns: [X], min: 5, max: 3}\n"
    )
    rules(folder, "tables:\n  - table: A.B\n    rules:\n      - {kind: uniqe, columns: [X]}\n", "b.yaml")
    (folder / "dq_mutes.yaml").write_text(
        "mutes:\n  - {table: A.B.C, rule: x, reason: no, until: 31.12.2026}\n"
    )
    found = mistakes(folder)
    assert found == {
        "config/dq_platform.yaml:16 active_days": ("-1", "greater than or equal to 1"),
        "config/dq_platform.yaml:28 limits.worker": (
            "a key that nothing reads",
            "one of the keys that docs/dq-rules.md lists",
        ),
        "config/dq_rules/a.yaml:4 tables[0].rules[0]": ("a mapping of 4", "min at most max, which is 3"),
        "config/dq_rules/b.yaml:2 tables[0].table": ("'A.B'", "DATABASE.SCHEMA.TABLE"),
        "config/dq_rules/b.yaml:4 tables[0].rules[0]": (
            "the kind uniqe",
            found["config/dq_rules/b.yaml:4 tables[0].rules[0]"][1],
        ),
        "config/dq_mutes.yaml:2 mutes[0].reason": ("'no'", "at least 8 characters"),
        "config/dq_mutes.yaml:2 mutes[0].until": ("'31.12.2026'", "a day, as 2026-01-31"),
    }
    assert "'unique'" in found["config/dq_rules/b.yaml:4 tables[0].rules[0]"][1]


HOSTILE: dict[str, tuple[bytes, str]] = {
    "repeated key": (b"tables: []\ntables: []\n", "the key a second time"),
    "alias": (b"tables: &a []\nb: *a\n", "the anchor or alias a"),
    "bomb": (b"a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n", "the anchor or alias a"),
    "tag": (
        b"tables: !!python/object/apply:os.system [ls]\n",
        "the tag tag:yaml.org,2002:python/object/apply:os.system",
    ),
    "tab": (b"tables:\n\t- table: A.B.C\n", "found character"),
    "latin-1": ("tables: # ä\n".encode("latin-1"), "the byte 0xe4"),
    "utf-16": ("tables: []".encode("utf-16"), "the byte 0xff"),
    "control character": (b'tables: "\x01"\n', "a control character"),
    "list": (b"- a\n", "a list of 1"),
    "word": (b"tables\n", "'tables'"),
    "key that is a list": (b"? [a]\n: 1\n", "a list or mapping as a key"),
    "two documents": (b"---\ntables: []\n---\ntables: []\n", "but found another document"),
    "deep": (b"tables: " + b"[" * 50_000, "41 levels"),
    "deep and closed": (b"tables: " + b"[" * 5_000 + b"]" * 5_000, "41 levels"),
    "deep mappings": (b"tables: " + b"{a: " * 5_000, "41 levels"),
    "huge": (b"#" * 300_000, "300000 bytes"),
    "not closed": (b"tables: [", "expected the node content"),
    "merge key": (b"tables:\n  - <<: {table: A.B.C}\n", "a key that nothing reads"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_one_mistake_with_its_line(folder: Path, name: str) -> None:
    body, received = HOSTILE[name]
    begun = time.process_time()
    found = mistakes(rules(folder, body))
    assert time.process_time() - begun < 5
    ours = {where: said for where, said in found.items() if "a.yaml" in where}
    assert any(said[0].startswith(received) for said in ours.values())
    assert name == "huge" or all(where.startswith("config/dq_rules/a.yaml:") for where in ours)


@given(
    body=st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
def test_no_file_gives_a_stack_trace(tmp_path: Path, body: bytes) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(body)
    document = documents.read(file, "a.yaml")
    assert document.mistakes or not isinstance(document.values, float)


RULES: dict[str, tuple[str, str]] = {
    "a boolean for a name": ("{kind: not_null, columns: [true]}", "columns[0]"),
    "a number for a name": ("{kind: not_null, columns: [12]}", "columns[0]"),
    "a word for a list": ("{kind: not_null, columns: A}", "columns"),
    "no columns": ("{kind: not_null, columns: []}", "columns"),
    "a column twice": ("{kind: unique, columns: [A, A]}", "columns"),
    "no kind": ("{columns: [A]}", ""),
    "no mapping": ("not_null", ""),
    "unknown key": ("{kind: not_null, columns: [A], severty: critical}", "severty"),
    "unknown severity": ("{kind: not_null, columns: [A], severity: high}", "severity"),
    "share above 1": ("{kind: not_null, columns: [A], max_share: 2}", "max_share"),
    "share below 0": ("{kind: not_null, columns: [A], max_share: -0.1}", "max_share"),
    "share as text": ('{kind: not_null, columns: [A], max_share: "0.1"}', "max_share"),
    "no bounds": ("{kind: range, columns: [A]}", ""),
    "min above max": ("{kind: range, columns: [A], min: 2026-02-01, max: 2026-01-01}", ""),
    "min of another kind": ("{kind: range, columns: [A], min: 1, max: 2026-01-01}", ""),
    "a boolean as min": ("{kind: range, columns: [A], min: true}", "min"),
    "a word as min": ("{kind: range, columns: [A], min: tomorrow}", "min"),
    "a day that is none": ("{kind: range, columns: [A], max: 2026-02-30}", "max"),
    "no values": ("{kind: accepted_values, columns: [A], values: []}", "values"),
    "a mapping as value": ("{kind: accepted_values, columns: [A], values: [{a: 1}]}", "values[0]"),
    "no expression": ('{kind: regex, columns: [A], pattern: "(["}', "pattern"),
    "lookahead": ('{kind: regex, columns: [A], pattern: "(?=a)"}', "pattern"),
    "back reference": (r"{kind: regex, columns: [A], pattern: '(a)\1'}", "pattern"),
    "lazy repeat": ("{kind: regex, columns: [A], pattern: 'a+?'}", "pattern"),
    "too many repeats": ("{kind: regex, columns: [A], pattern: 'a{1,2000}'}", "pattern"),
    "unknown escape": (r"{kind: regex, columns: [A], pattern: '\p{L}'}", "pattern"),
    "keys of other length": ("{kind: referential, columns: [A, B], to: C.D.E, to_columns: [A]}", ""),
    "name that is none": ("{kind: referential, columns: [A], to: a..b}", "to"),
    "no rows": ("{kind: row_count}", ""),
    "part of a row": ("{kind: row_count, min: 1.5}", "min"),
    "no hours": ("{kind: freshness, max_hours: 0}", "max_hours"),
    "two dates": ("{kind: freshness, max_hours: 1, columns: [A, B]}", "columns"),
    "no SELECT": ("{kind: custom_sql, name: a, sql: DELETE FROM x}", "sql"),
    "SQL without a name": ("{kind: custom_sql, sql: SELECT 1}", "name"),
    "share of nothing": ("{kind: custom_sql, name: a, sql: SELECT 1, max_share: 0.1}", ""),
    "where that is none": ("{kind: not_null, columns: [A], where: a = (}", "where"),
    "where with a query": ("{kind: not_null, columns: [A], where: a IN (SELECT 1)}", "where"),
}


@pytest.mark.parametrize("name", RULES)
def test_a_rule_that_cannot_be_is_refused_at_its_place(folder: Path, name: str) -> None:
    line, place = RULES[name]
    found = mistakes(rules(folder, f"tables:\n  - table: A.B.C\n    rules:\n      - {line}\n"))
    assert list(found) == [f"config/dq_rules/a.yaml:4 tables[0].rules[0]{f'.{place}' if place else ''}"]


def test_two_rules_of_one_title_have_to_be_told_apart(folder: Path) -> None:
    line = "      - {kind: range, columns: [A], min: 1}\n"
    found = mistakes(rules(folder, f"tables:\n  - table: A.B.C\n    rules:\n{line}{line}"))
    assert found["config/dq_rules/a.yaml:2 tables[0]"][1].endswith("give a name to the second range(A)")


def test_words_of_yaml_are_what_they_look_like(folder: Path) -> None:
    rules(
        folder,
        "tables:\n  - table: A.B.C\n    rules:\n"
        "      - {kind: accepted_values, columns: [NO, on, 007],\n"
        "         values: [NO, yes, 010, 1_000, 12:30:00, 2026-01-31, 1.10, 3]}\n",
    )
    (rule, *others) = read_config(folder).declared[0].made()
    assert [one.columns for one in (rule, *others)] == [("NO",), ("on",), ("007",)]
    expected = ("NO", "yes", "010", "1_000", "12:30:00", "2026-01-31", Decimal("1.10"), 3)
    assert rule.params["values"] == expected
    assert [type(value) for value in rule.params["values"]] == [type(value) for value in expected]


def test_not_null_makes_a_rule_of_each_column_and_unique_one_of_all(folder: Path) -> None:
    rules(
        folder,
        "tables:\n  - table: A.B.C\n    owner: me\n    rules:\n"
        "      - {kind: not_null, columns: [X, Y], severity: critical, max_share: 0.01}\n"
        "      - {kind: unique, columns: [X, Y], owner: you, name: the key}\n",
    )
    made = read_config(folder).declared[0].made()
    assert [(rule.title, rule.owner, rule.severity, rule.max_share) for rule in made] == [
        ("not_null(X)", "me", "critical", Decimal("0.01")),
        ("not_null(Y)", "me", "critical", Decimal("0.01")),
        ("the key", "you", "warning", Decimal(0)),
    ]


def test_a_file_among_the_rules_that_nobody_reads_is_a_mistake(folder: Path) -> None:
    rules(folder, "tables: []", "orders.yml")
    assert mistakes(folder)["config/dq_rules/orders.yml"][0] == "a file that is not read"


def test_settings_that_are_missing_are_said_as_such(folder: Path) -> None:
    (folder / "dq_platform.yaml").unlink()
    assert mistakes(folder) == {"config/dq_platform.yaml": ("No such file or directory", "a readable file")}


def test_mutes_may_be_missing_and_rules_too(folder: Path) -> None:
    (folder / "dq_mutes.yaml").unlink()
    (folder / "dq_rules").rmdir()
    assert read_config(folder).mutes == ()


@pytest.mark.parametrize(
    ("table", "include", "exclude", "meant"),
    [
        (ORDERS, {}, {}, True),
        (ORDERS, {"databases": ["sales"]}, {}, True),
        (ORDERS, {"databases": ['"sales"']}, {}, False),
        (ORDERS, {"schemas": ["CRM.*"]}, {}, False),
        (ORDERS, {"schemas": ["SALES.PUBLIC"]}, {}, True),
        (ORDERS, {}, {"schemas": ["PUBLIC"]}, False),
        (ORDERS, {"tables": ["SALES.PUBLIC.ORD*"]}, {}, True),
        (ORDERS, {"tables": ["*.ORDERS", "X"]}, {"tables": ["CRM.PUBLIC.ORDERS"]}, True),
        (ORDERS, {}, {"tables": ["orders"]}, False),
        (ORDERS, {"tables": []}, {}, False),
        (TableName("SALES", "PUBLIC", "odd.name"), {"tables": ['"odd.name"']}, {}, True),
        (TableName("SALES", "PUBLIC", "odd.name"), {"tables": ["SALES.*.*"]}, {}, True),
        (TableName("SALES", "PUBLIC", "a\nb"), {"tables": ["a*"]}, {}, True),
        (TableName("SALES", "PUBLIC", "T[1]"), {"tables": ["T[1]"]}, {}, True),
        (TableName("SNOWFLAKE", "ACCOUNT_USAGE", "X"), {}, {}, False),
    ],
)
def test_tables_are_meant_by_patterns(
    folder: Path, table: TableName, include: dict[str, Any], exclude: dict[str, Any], meant: bool
) -> None:
    assert with_settings(folder, include=include, exclude=exclude).means(table) is meant


def columns(**types: str) -> list[Column]:
    family = {"DATE": "date", "TIMESTAMP_NTZ": "timestamp", "TEXT": "text"}
    return [Column(name, kind, family[kind]) for name, kind in types.items()]  # type: ignore[arg-type]


def test_the_date_column_is_the_first_name_with_a_type_of_dates(folder: Path) -> None:
    dates = with_settings(folder).date_column
    found = dates.of(ORDERS, columns(EVENT_TS="TIMESTAMP_NTZ", LOADED_AT="TEXT", created_at="DATE"))
    assert found is not None
    assert found.name == "created_at"
    assert dates.of(ORDERS, columns(X="DATE")) is None


def test_a_date_column_is_overridden_by_table(folder: Path) -> None:
    overrides = [
        {"table": "SALES.PUBLIC.ORDERS", "column": "x"},
        {"table": "SALES.*.*", "column": None},
    ]
    dates = with_settings(folder, date_column={"overrides": overrides}).date_column
    made = columns(LOADED_AT="DATE", X="DATE")
    found = dates.of(ORDERS, made)
    assert found is not None
    assert found.name == "X"
    assert dates.of(TableName("SALES", "CRM", "A"), made) is None
    with pytest.raises(LookupError, match="names x: received no such column, expected one of LOADED_AT"):
        dates.of(ORDERS, made[:1])


def test_days_and_money_are_exact(folder: Path) -> None:
    line = {"table": "A.B.*", "first": "2026-11-03", "last": "2026-11-04", "reason": "the loader stood still"}
    config = with_settings(folder, anomalies={"incidents": [line]}, limits={"credits": 2})
    assert config.anomalies.incidents[0].last == date(2026, 11, 4)
    assert config.limits.credits == Decimal(2)
    assert isinstance(config.limits.credits, Decimal)


def test_the_documentation_has_every_key_and_its_examples_are_valid(folder: Path) -> None:
    text = (REPO / "docs" / "dq-rules.md").read_text(encoding="utf-8")
    examples = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    for number, example in enumerate(examples):
        rules(folder, example, f"{number}.yaml")
    declared = read_config(folder).declared
    kinds = {rule.kind for entry in declared for rule in entry.made()}
    assert len(examples) == 2
    assert kinds == set(_CHECKS) - {"not_in_future", "few_values"}
    named = set(re.findall(r"`([a-z_]+)`", text))
    parts = [field.annotation for field in Platform.model_fields.values()]
    keys = {key for part in (Platform, *parts) for key in getattr(part, "model_fields", {})}
    assert keys | set(_CHECKS) <= named
