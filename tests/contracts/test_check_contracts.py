"""A change of a contract passes with the version and the migration it needs, and with nothing less."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.contracts import own
from tests.support import REPO, load_script

ORDERS = "silver/orders.yaml"
AMOUNT = "- name: amount\n        description: Order value in its own currency\n        logicalType: number\n"
MIGRATION = """table: silver.orders
from_version: 1.0.0
to_version: 2.0.0
reason: amounts as text
columns: [amount]
statements: ['ALTER TABLE {table} ALTER COLUMN amount TYPE string']
"""


SCRIPT = load_script("check_contracts")


@pytest.fixture
def definitions(tmp_path: Path) -> Path:
    """A copy of contracts of the tests' own, released as they are."""
    target = tmp_path / "schema_definitions"
    shutil.copytree(own.DEFINITIONS, target, ignore=shutil.ignore_patterns("README.md"))
    SCRIPT.take_release(target)
    return target  # fmt: skip


def edit(definitions: Path, file: str, *changes: tuple[str, str]) -> None:
    path = definitions / file
    text = path.read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    path.write_text(text)


def check(definitions: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = SCRIPT.main(list(arguments), definitions)
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_the_contracts_of_this_clone_are_ready_for_release(capsys: pytest.CaptureFixture[str]) -> None:
    code, words = check(REPO / "schema_definitions", capsys)
    assert code == 0, words


def test_nothing_changed(definitions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, words = check(definitions, capsys)
    assert code == 0
    assert words == (
        f"{len(list(definitions.glob('[bgos]*/*.yaml')))} contracts are valid; 0 changed since the release in "
        "schema_definitions/released, no problems\n"
        "git knows no earlier release here: compared with schema_definitions/released alone\n"
    )


def test_a_breaking_change_names_what_it_breaks_and_what_to_write(
    definitions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(definitions, ORDERS, (AMOUNT + "        physicalType: decimal(18,2)",
                               AMOUNT.replace("number", "string") + "        physicalType: string"))  # fmt: skip
    code, words = check(definitions, capsys)
    assert code == 1
    assert "breaking: silver.orders.amount: type decimal(18,2) became string" in words
    assert "gold.fact_orders.amount_native, gold.fact_orders.amount_usd" in words
    assert "gold.fact_orders amount_not_negative" in words
    assert "write version: 2.0.0 in schema_definitions/silver/orders.yaml" in words
    assert "columns: [amount]" in words

    edit(definitions, ORDERS, ("version: 1.0.0", "version: 1.1.0"))
    assert check(definitions, capsys)[0] == 1
    edit(definitions, ORDERS, ("version: 1.1.0", "version: 2.0.0"))
    code, words = check(definitions, capsys)
    assert (code, "needs a migration" in words, "major" in words) == (1, True, False)

    (definitions / "migrations").mkdir()
    migration = definitions / "migrations" / "amounts_as_text.yaml"
    migration.write_text(MIGRATION.replace("[amount]", "[status]"))
    code, words = check(definitions, capsys)
    assert (code, "does not name the columns that change: amount" in words) == (1, True)
    migration.write_text(MIGRATION)
    assert check(definitions, capsys)[0] == 0


NEW_COLUMN = """      - name: channel
        description: Sales channel
        logicalType: string
        physicalType: string
        classification: internal
        transformSourceObjects: [bronze.kafka_orders.value]
"""


@pytest.mark.parametrize(
    ("file", "old", "new", "wanted"),
    [
        pytest.param(ORDERS, "      - name: event_month\n", NEW_COLUMN + "      - name: event_month\n", "1.1.0",
                     id="nullable column"),
        pytest.param(ORDERS, "description: Order number", "description: Number of the order", "1.0.1", id="words"),
        pytest.param("vocabularies.yaml", "EUR, USD,", "USD, EUR,", None, id="another list of currencies"),
        pytest.param(ORDERS, "domain: sales", "domain: orders", "1.1.0", id="domain"),
        pytest.param("bronze/kafka_orders.yaml", "      - name: topic\n", """      - name: quoted_at
        description: Time of the quote
        logicalType: timestamp
        physicalType: timestamp
        classification: public
        customProperties:
          - {property: sourceField, value: quoted_at}
      - name: topic
""", "1.1.0", id="nullable column that is parsed"),
    ],
)  # fmt: skip
def test_every_change_needs_a_version(
    definitions: Path, capsys: pytest.CaptureFixture[str], file: str, old: str, new: str, wanted: str | None
) -> None:
    edit(definitions, file, (old, new))
    code, words = check(definitions, capsys)
    assert code == 1
    if wanted is not None:
        assert f"write version: {wanted} in schema_definitions/{file}" in words
        path = definitions / file
        path.write_text(re.sub(r"(?m)^version: .*", f"version: {wanted}", path.read_text()))
        assert check(definitions, capsys)[0] == 0


def test_a_version_does_not_go_back(definitions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(definitions, ORDERS, ("version: 1.0.0", "version: 0.9.0"))
    code, words = check(definitions, capsys)
    assert (code, "lower than the released 1.0.0" in words) == (1, True)


def test_a_table_that_goes_is_breaking_and_one_that_comes_is_not(
    definitions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (definitions / "released" / "ops" / "watch_findings.yaml").unlink()
    code, words = check(definitions, capsys)
    assert (code, "ops.watch_findings: table added" in words) == (0, True)
    (definitions / "ops" / "row_ledger.yaml").unlink()
    code, words = check(definitions, capsys)
    assert (code, "breaking: ops.row_ledger: table removed" in words) == (1, True)


def test_all_that_is_wrong_is_said_at_once(definitions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(definitions, ORDERS, ("version: 1.0.0", "version: one"), ("kind: DataContract", "kind: Contract"))
    edit(definitions, "gold/dim_fx.yaml", ("classification: public", "classification: secret"))
    code, words = check(definitions, capsys)
    assert code == 10
    assert "schema_definitions/silver/orders.yaml: version: received 'one'" in words
    assert "schema_definitions/silver/orders.yaml: kind: received Contract, expected as ODCS" in words
    assert "classification" in words


def test_a_source_that_is_not_there_is_found(definitions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(definitions, ORDERS, ("bronze.kafka_orders.order_id", "bronze.kafka_orders.number"))
    code, words = check(definitions, capsys)
    assert (
        code,
        "received bronze.kafka_orders.number, expected a column of bronze.kafka_orders" in words,
    ) == (
        10,
        True,
    )


def test_a_release_is_taken_only_where_all_is_well(
    definitions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(definitions, ORDERS, ("description: Order number", "description: Number of the order"))
    released = definitions / "released" / ORDERS
    before = released.read_text()
    assert check(definitions, capsys, "--release")[0] == 1
    assert released.read_text() == before
    edit(definitions, ORDERS, ("version: 1.0.0", "version: 1.0.1"))
    assert check(definitions, capsys, "--release")[0] == 0
    assert released.read_text() == (definitions / ORDERS).read_text()


REPARTITIONED = """table: silver.orders
from_version: 1.0.0
to_version: 2.0.0
reason: months are many small files
columns: []
statements: []
"""
EVENT_MONTH = """        partitioned: true
        partitionKeyPosition: 1
"""


def test_a_migration_passes_only_where_apply_contracts_would_run_it(
    definitions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(definitions, ORDERS, (EVENT_MONTH, ""), ("version: 1.0.0", "version: 2.0.0"))
    (definitions / "migrations").mkdir()
    migration = definitions / "migrations" / "orders_whole.yaml"
    migration.write_text(REPARTITIONED)
    code, words = check(definitions, capsys)
    assert (code, "orders_whole does not name the columns that change: event_month" in words) == (1, True)
    migration.write_text(REPARTITIONED.replace("columns: []", "columns: [event_month]").replace(
        "statements: []", "statements: ['CREATE OR REPLACE TABLE {table} AS SELECT * FROM {table}']"))  # fmt: skip
    assert check(definitions, capsys)[0] == 0


def test_a_breaking_change_of_rules_alone_needs_a_reason_and_no_statement(
    definitions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(
        definitions,
        ORDERS,
        ("predicate: amount >= 0", "predicate: amount > 0"),
        ("version: 1.0.0", "version: 2.0.0"),
    )
    code, words = check(definitions, capsys)
    assert (code, "columns: [], a reason and statements: []" in words) == (1, True)
    (definitions / "migrations").mkdir()
    (definitions / "migrations" / "no_free_orders.yaml").write_text(REPARTITIONED)
    assert check(definitions, capsys)[0] == 0


def test_a_migration_of_what_no_contract_has_is_refused(
    definitions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (definitions / "migrations").mkdir()
    (definitions / "migrations" / "a.yaml").write_text(MIGRATION.replace("silver.orders", "silver.oders"))
    (definitions / "migrations" / "b.yaml").write_text(MIGRATION.replace("[amount]", "[amount, amont]"))
    code, words = check(definitions, capsys)
    assert code == 10
    assert "migrations/a.yaml: table: received silver.oders, expected a table that has a contract" in words
    assert "migrations/b.yaml: columns: received amont, expected columns of silver.orders: order_id," in words


def test_files_that_cannot_be_read_are_named(definitions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = definitions / ORDERS
    path.write_text(path.read_text(), encoding="utf-16")
    edit(definitions, "gold/dim_fx.yaml", ("domain: ", "domain: 2026-99-99 #"))
    (definitions / "vocabularies.yaml").write_text("currencies:")
    code, words = check(definitions, capsys)
    assert code == 10
    assert (
        "schema_definitions/vocabularies.yaml: currencies: received nothing, expected a list of texts"
        in words
    )
    (definitions / "vocabularies.yaml").write_bytes(
        (definitions / "released" / "vocabularies.yaml").read_bytes()
    )
    code, words = check(definitions, capsys)
    assert code == 10
    assert (
        "silver/orders.yaml: received bytes that are no UTF-8 (invalid start byte at byte 0), expected text"
        in words
    )
    assert "gold/dim_fx.yaml: received month must be in 1..12, expected YAML" in words


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=n", "-c", "user.email=n@example.org", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *who, "-C", str(folder), *arguments], check=True, capture_output=True)


@pytest.fixture
def branch(definitions: Path) -> Path:
    """The contracts on a branch of a repository whose main has released them."""
    clone = definitions.parent
    git(clone, "init")
    git(clone, "add", ".")
    git(clone, "commit", "-m", "released")
    git(clone, "checkout", "-b", "change")
    return definitions


def test_the_released_contracts_cannot_be_left_out(branch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    released = branch / "released"
    (released / ORDERS).unlink()
    edit(branch, ORDERS, (AMOUNT, AMOUNT.replace("own currency", "own coin")))
    code, words = check(branch, capsys)
    assert (code, "FAILED: schema_definitions/released lacks silver.orders, which commit" in words) == (
        1,
        True,
    )
    shutil.rmtree(released)
    git(branch.parent, "add", ".")
    git(branch.parent, "commit", "-m", "nothing is released")
    code, words = check(branch, capsys)
    assert (code, "FAILED: schema_definitions/released holds no contract" in words) == (1, True)


def test_released_contracts_that_are_edited_alike_are_compared_with_the_base(
    branch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in (ORDERS, f"released/{ORDERS}"):
        edit(branch, file, ("predicate: amount >= 0", "predicate: amount > 0"))
    git(branch.parent, "commit", "-am", "both")
    for arguments in ((), ("--base", "main")):
        code, words = check(branch, capsys, *arguments)
        assert code == 1
        assert "0 changed since the release in schema_definitions/released, no problems" in words
        assert "breaking: silver.orders amount_not_negative: rule changed" in words
        assert "1 changed since the release in commit" in words


def test_a_release_made_on_the_branch_passes(branch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(
        branch,
        ORDERS,
        (AMOUNT, AMOUNT.replace("own currency", "own coin")),
        ("version: 1.0.0", "version: 1.0.1"),
    )
    assert check(branch, capsys, "--release")[0] == 0
    git(branch.parent, "commit", "-am", "released anew")
    assert check(branch, capsys)[0] == 0


def test_a_base_that_git_does_not_know_is_no_base(branch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, words = check(branch, capsys, "--base", "0" * 40)
    assert (code, f"--base: received {'0' * 40}, expected a commit that git knows here" in words) == (2, True)


def test_wrong_arguments_are_a_matter_of_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        SCRIPT.main(["--live", "--release"])
    assert stopped.value.code == 2
