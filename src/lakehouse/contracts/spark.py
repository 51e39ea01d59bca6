"""Contract to Spark: the only contract module that needs pyspark."""

from __future__ import annotations

from pyspark.sql.types import DataType, StructField, StructType

from lakehouse.contracts.model import Contract, quote


def schema(contract: Contract) -> StructType:
    """The table's schema: names, types, nullability. Descriptions stay out of it, so that schemas compare equal."""
    return StructType(
        [
            StructField(column.name, DataType.fromDDL(column.type), nullable=not column.required)
            for column in contract.columns
        ]
    )


def ddl(contract: Contract) -> str:
    """The column list of a CREATE TABLE."""
    return ", ".join(
        f"{quote(column.name)} {column.type}{' NOT NULL' if column.required else ''}"
        for column in contract.columns
    )
