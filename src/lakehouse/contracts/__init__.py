"""Contracts: one ODCS file per table in, everything that depends on a table's shape out.

``load("silver.orders")`` gives the frozen Contract; ``spark``, ``gx``, ``glue`` and ``dictionary`` turn it into
what each tool wants, ``migrations`` compares it with a live table, ``diff`` with its last release.
"""

from lakehouse.contracts.loader import load, load_all, names
from lakehouse.contracts.model import (
    Column,
    Contract,
    Layer,
    Retention,
    RowRule,
    SetRule,
    Sla,
    quote,
    raw_name,
)

__all__ = [
    "Column",
    "Contract",
    "Layer",
    "Retention",
    "RowRule",
    "SetRule",
    "Sla",
    "load",
    "load_all",
    "names",
    "quote",
    "raw_name",
]
