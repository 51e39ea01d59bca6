"""Contracts that no change of the product's touches, for tests of what contracts are made to do."""

from __future__ import annotations

from pathlib import Path

from lakehouse.contracts import Contract, loader

DEFINITIONS = Path(__file__).with_name("definitions")


def load(name: str) -> Contract:
    """One of them by its dotted name."""
    (found,) = (contract for contract in loader.load_directory(DEFINITIONS) if contract.name == name)
    return found
