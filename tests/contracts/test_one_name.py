"""One dotted name finds everything about a table: contract, transform, tests."""

from __future__ import annotations

import importlib

import pytest

from lakehouse import contracts
from lakehouse.contracts import Contract
from tests.support import REPO

TRANSFORMED = [*contracts.load_all("silver"), *contracts.load_all("gold")]


@pytest.mark.parametrize("contract", TRANSFORMED, ids=lambda each: each.name)
def test_a_contract_has_its_transform_and_its_tests(contract: Contract) -> None:
    layer, table = contract.layer, contract.table
    assert (REPO / "src" / "lakehouse" / "tables" / layer / f"{table}.py").is_file()
    assert (REPO / "tests" / "tables" / layer / f"test_{table}.py").is_file()
    module = importlib.import_module(f"lakehouse.tables.{layer}.{table}")
    assert (contract.name, contract.key) == (module.TABLE, module.KEY)
    assert callable(module.transform)
    assert set(module.INPUTS) <= set(contracts.names())


@pytest.mark.parametrize("layer", ["silver", "gold"])
def test_a_transform_has_its_contract(layer: str) -> None:
    folder = REPO / "src" / "lakehouse" / "tables" / layer
    modules = {file.stem for file in folder.glob("*.py") if not file.stem.startswith("_")}
    assert modules == {contract.table for contract in TRANSFORMED if contract.layer == layer}
