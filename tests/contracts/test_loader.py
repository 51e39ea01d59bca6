"""Reading contracts: all faults at once, from a zip as from a clone, and without Spark."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lakehouse import contracts
from lakehouse.contracts import loader, overrides
from lakehouse.contracts.model import RowRule, SetRule
from lakehouse.errors import ContractError
from tests.support import REPO

GOOD = """
apiVersion: v3.1.0
kind: DataContract
id: silver.things
name: silver.things
version: 1.0.0
status: active
domain: test
description: {purpose: Things to test with}
schema:
  - name: things
    physicalName: silver.things
    logicalType: object
    physicalType: table
    dataGranularityDescription: One thing (id)
    properties:
      - {name: id, description: Its id, logicalType: string, physicalType: string, required: true, primaryKey: true,
         primaryKeyPosition: 1, classification: internal}
      - {name: offset, description: A number, logicalType: integer, physicalType: bigint, classification: internal}
    quality:
      - name: offset_not_negative
        description: A number is zero or more
        type: custom
        engine: lakehouse
        severity: critical
        implementation: {rule: row, predicate: '`offset` >= 0', onFailure: stop}
      - name: unique_key
        description: A thing has one row
        metric: duplicateValues
        arguments: {properties: [id]}
        mustBe: 0
        severity: critical
slaProperties:
  - {property: deletedFilesRetention, value: 30, unit: d}
  - {property: logRetention, value: 60, unit: d}
"""


def faults(text: str) -> dict[str, tuple[str, str]]:
    """Violations of a text by their place in the file."""
    with pytest.raises(ContractError) as refused:
        loader.parse("silver.things", text, {})
    return {
        violation.where.removeprefix("schema_definitions/silver/things.yaml").removeprefix(": "): (
            violation.received,
            violation.expected,
        )
        for violation in refused.value.violations
    }


def test_a_good_file_is_read() -> None:
    contract = loader.parse("silver.things", GOOD, {})
    assert (contract.key, contract.column_names, contract.version) == (("id",), ("id", "offset"), "1.0.0")
    assert [rule.name for rule in contract.rules] == ["id_not_null", "offset_not_negative", "unique_key"]
    assert contract.row_rules[1].columns == ("offset",)
    assert contract.row_rules[1].violation == "NOT coalesce((`offset` >= 0), TRUE)"


def test_everything_wrong_is_said_at_once() -> None:
    text = (
        GOOD.replace("version: 1.0.0", "version: one")
        .replace("physicalType: bigint", "physicalType: float")
        .replace("onFailure: stop", "onFailure: ignore, maxShare: 2")
        .replace("properties: [id]", "properties: [idd]")
        .replace("value: 60", "value: 20")
        .replace("required: true, ", "")
    )
    assert faults(text) == {
        "version": ("'one'", "major.minor.patch"),
        "schema[things].properties[id].required": ("false", "true for a column of the key"),
        "schema[things].properties[offset].physicalType": (
            "float",
            "one of string, binary, int, bigint, double, boolean, date, timestamp, array<string>, "
            "array<struct<key:string,value:binary>>, decimal(p,s)",
        ),
        "schema[things].quality[offset_not_negative].implementation.onFailure": (
            "'ignore'",
            "one of quarantine, stop",
        ),
        "schema[things].quality[offset_not_negative].implementation.maxShare": (
            "2",
            "a share between 0 and 1",
        ),
        "schema[things].quality[unique_key].arguments.properties": (
            "idd",
            "columns of the table: id, offset",
        ),
        "slaProperties.logRetention": ("20 days", "at least as long as deletedFilesRetention"),
    }


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        pytest.param("onFailure: stop", "onFailure: stop, maxshare: 0.1",
                     "schema[things].quality[offset_not_negative].implementation.maxshare", id="misspelt in a rule"),
        pytest.param("physicalType: bigint", "physicalType: bigint, clasification: x",
                     "schema[things].properties[offset].clasification", id="misspelt in a column"),
        pytest.param("domain: test", "domain: test\nowner: me", "owner", id="unknown key of the file"),
        pytest.param("logicalType: integer", "logicalType: number",
                     "schema[things].properties[offset].logicalType", id="logical type of another physical type"),
        pytest.param("name: offset,", "name: id,", "schema[things].properties[id].name", id="a column twice"),
        pytest.param("- name: offset_not_negative", "- name: id_not_null",
                     "schema[things].quality[id_not_null].name", id="a rule twice"),
        pytest.param("primaryKey: true,\n         primaryKeyPosition: 1, ", "", "schema[things].properties",
                     id="no key"),
        pytest.param("primaryKeyPosition: 1", "primaryKeyPosition: 2",
                     "schema[things].properties[].primaryKeyPosition", id="key positions with a gap"),
        pytest.param("predicate: '`offset` >= 0'", "predicate: 1 = 1",
                     "schema[things].quality[offset_not_negative].implementation.predicate", id="rule about no column"),
        pytest.param("predicate: '`offset` >= 0'", "column: id, oneOf: colours",
                     "schema[things].quality[offset_not_negative].implementation.oneOf", id="unknown vocabulary"),
        pytest.param("mustBe: 0", "mustBe: 5", "schema[things].quality[unique_key].mustBe", id="almost unique"),
        pytest.param("id: silver.things", "id: silver.other", "id", id="another name than the file's"),
    ],
)  # fmt: skip
def test_a_single_fault_is_named_by_its_place(old: str, new: str, where: str) -> None:
    assert old in GOOD
    assert where in faults(GOOD.replace(old, new, 1))


@pytest.mark.parametrize("name", ["_position", "_Malformed", "INGEST_DATE"])
def test_no_source_field_is_called_as_one_of_ours(name: str) -> None:
    text = GOOD.replace("silver.things", "bronze.things").replace(
        "name: offset,", f"name: offset, customProperties: [{{property: sourceField, value: {name}}}],"
    )
    with pytest.raises(ContractError) as refused:
        loader.parse("bronze.things", text, {})
    found = {violation.where.rpartition(".")[2]: violation for violation in refused.value.violations}
    assert found["sourceField"].expected == f"'source:{name}', as it is landed"


def test_a_key_given_twice_is_refused() -> None:
    received, expected = faults(GOOD.replace("domain: test", "domain: test\ndomain: other"))[""]
    assert "the key 'domain' is given twice" in received
    assert expected == "YAML"


@pytest.mark.parametrize("text", ["", "- a list", "a: [", "schema: 5"])
def test_what_is_no_contract_at_all_is_refused(text: str) -> None:
    assert faults(text)


def test_an_unknown_table_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ContractError, match=r"no contract for silver\.order") as refused:
        contracts.load("silver.order")
    assert "silver.orders" in refused.value.hint


def test_faults_of_all_files_come_together(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> contracts.Contract:
        return loader.parse(name, GOOD.replace("silver.things", name).replace("domain: test", ""), {})

    monkeypatch.setattr(loader, "_load", broken)
    with pytest.raises(ContractError) as refused:
        contracts.load_all("gold")
    text = refused.value.message
    assert all(f"schema_definitions/gold/{name}.yaml: domain" in text for name in ("dim_customers", "dim_fx"))


def test_hashes_follow_content_and_rules() -> None:
    contract = loader.parse("silver.things", GOOD, {})
    reworded = loader.parse("silver.things", GOOD.replace("A number,", "Some number,"), {})
    assert reworded.content_hash != contract.content_hash
    assert reworded.rules_hash == contract.rules_hash
    stricter = loader.parse("silver.things", GOOD.replace(">= 0", "> 0"), {})
    assert stricter.rules_hash != contract.rules_hash
    with_list = GOOD.replace("predicate: '`offset` >= 0'", "column: id, oneOf: colours")
    red = loader.parse("silver.things", with_list, {"colours": ("red",)})
    blue = loader.parse("silver.things", with_list, {"colours": ("blue",)})
    assert red.content_hash != blue.content_hash


CHECK = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("pyspark", "delta", "great_expectations", "boto3"):
            raise ImportError(f"blocked: {name}")

sys.meta_path.insert(0, Blocked())
import lakehouse.contracts as contracts
import lakehouse.contracts.ddl, lakehouse.contracts.diff, lakehouse.contracts.dictionary
import lakehouse.contracts.glue, lakehouse.contracts.migrations, lakehouse.contracts.overrides
assert sys.argv[1] in contracts.__file__, contracts.__file__
lakehouse.contracts.migrations.load_registry()
print(len(contracts.load_all()), contracts.load("silver.orders").content_hash)
"""


def loaded_in_a_process_of_its_own(where: str, path: list[str], cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", CHECK, where],
        env={"PYTHONPATH": ":".join(path)},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_zip_on_the_path_and_a_clone_say_the_same_without_spark(tmp_path: Path) -> None:
    archive = tmp_path / "lakehouse.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for root, package in ((REPO / "src", "lakehouse"), (REPO, "schema_definitions")):
            for file in sorted((root / package).rglob("*")):
                if file.suffix in (".py", ".yaml"):
                    target.write(file, file.relative_to(root))
    expected = f"{len(contracts.names())} {contracts.load('silver.orders').content_hash}"
    assert loaded_in_a_process_of_its_own("lakehouse.zip", [str(archive)], tmp_path) == expected
    clone = [str(REPO / "src"), str(REPO)]
    assert loaded_in_a_process_of_its_own(str(REPO / "src"), clone, tmp_path) == expected


class TestOverrides:
    """Thresholds of an environment."""

    def test_they_replace_what_they_name_and_nothing_else(self) -> None:
        contract = contracts.load("bronze.snowflake_orders")
        changed = contract.with_overrides(
            {
                "bronze.snowflake_orders": {
                    "amount_not_negative": {"max_share": 0.2, "severity": "warning"},
                    "volume": {"min": 10, "max": 20},
                    "rejected_rows": {"max_share": 0.5},
                },
                "silver.orders": {"freshness": {"max": 72}},
            }
        )
        rule, volume, rejected = (
            changed.rule(name) for name in ("amount_not_negative", "volume", "rejected_rows")
        )
        assert isinstance(rule, RowRule)
        assert isinstance(volume, SetRule)
        assert (rule.max_share, rule.severity) == (0.2, "warning")
        assert (volume.limits, rejected.limits) == ((10, 20), (None, 0.5))
        same = {each.name for each in contract.rules} - {"amount_not_negative", "volume", "rejected_rows"}
        assert all(changed.rule(name) == contract.rule(name) for name in same)
        assert changed.rules_hash != contract.rules_hash
        assert changed.content_hash == contract.content_hash

    def test_how_far_a_value_may_jump(self) -> None:
        contract = contracts.load("silver.fx_rates")
        changed = contract.with_overrides({"silver.fx_rates": {"rate_jumps": {"max_share": 0.3}}})
        rules = [each.rule("rate_jumps") for each in (contract, changed)]
        assert [rule.limits for rule in rules] == [(None, 0.1), (None, 0.3)]
        assert all(isinstance(rule, SetRule) and rule.within_days == 7 for rule in rules)

    def test_none_change_nothing(self) -> None:
        contract = contracts.load("silver.orders")
        assert contract.with_overrides({}) == contract

    def test_all_that_is_unknown_is_refused_at_once(self) -> None:
        wrong = {
            "silver.order": {"volume": {"min": 1}},
            "silver.orders": {
                "volum": {"min": 1},
                "volume": {"max_share": 0.1, "min": -1},
                "freshness": {"max": "soon"},
                "status_known": {"max_share": 2, "severity": "fatal"},
                "unique_key": {"max_share": 0.1},
            },
        }
        with pytest.raises(ContractError) as refused:
            contracts.load("silver.orders").with_overrides(wrong)
        assert [violation.where for violation in refused.value.violations] == [
            "dq_thresholds: silver.order",
            "dq_thresholds: silver.orders.volum",
            "dq_thresholds: silver.orders.volume.max_share",
            "dq_thresholds: silver.orders.volume.min",
            "dq_thresholds: silver.orders.freshness.max",
            "dq_thresholds: silver.orders.status_known.max_share",
            "dq_thresholds: silver.orders.status_known.severity",
            "dq_thresholds: silver.orders.unique_key.max_share",
        ]

    def test_a_check_covers_every_table(self) -> None:
        with pytest.raises(ContractError) as refused:
            overrides.check({"gold.dim_fx": {"a": {}}, "silver.orders": {"b": {}}})
        assert len(refused.value.violations) == 2

    def test_the_shipped_file_fits(self) -> None:
        import yaml

        overrides.check(yaml.safe_load((REPO / "config" / "dq_thresholds.yaml").read_text()) or {})


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        ("tags: [2026-01-01]", "texts, numbers, true and false, in lists and mappings"),
        ("tags: [2026-99-99]", "YAML"),
        ("[a, b]: 1", "YAML"),
        ("tags: [", "YAML"),
    ],
    ids=["a date", "a date that is none", "a list as key", "no end"],
)
def test_what_yaml_allows_and_a_contract_does_not_is_refused_by_name(added: str, expected: str) -> None:
    text = (REPO / "schema_definitions" / "gold" / "dim_fx.yaml").read_text(encoding="utf-8")
    with pytest.raises(ContractError) as refused:
        loader.parse("gold.dim_fx", f"{text}\n{added}\n", {})
    assert ("schema_definitions/gold/dim_fx.yaml", expected) in [
        (violation.where, violation.expected) for violation in refused.value.violations
    ]


def test_a_file_of_another_encoding_is_a_contract_error_and_terminal(tmp_path: Path) -> None:
    (tmp_path / "gold").mkdir()
    (tmp_path / "gold" / "dim_fx.yaml").write_text("kind: DataContract", encoding="utf-16")
    with pytest.raises(ContractError) as refused:
        loader.load_directory(tmp_path)
    (violation,) = refused.value.violations
    assert (violation.where, violation.expected) == ("schema_definitions/gold/dim_fx.yaml", "text in UTF-8")
    assert refused.value.error_class == "terminal"
