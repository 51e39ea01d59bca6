"""Which fields a source is asked for: those that the Bronze contract names, so that a new column is one edit."""

from __future__ import annotations

from lakehouse import contracts


def source_fields(table: str) -> tuple[str, ...]:
    """Source fields of a Bronze table in the contract's order, as the source spells them."""
    columns = contracts.load(f"bronze.{table}").columns
    return tuple(column.source_field for column in columns if column.source_field)
