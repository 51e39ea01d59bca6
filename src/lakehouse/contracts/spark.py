"""Contract to Spark: the only contract module that needs pyspark."""

from __future__ import annotations

from pyspark.sql.types import DataType, StructField, StructType

from lakehouse.contracts.model import Contract, quote


def schema(contract: Contract) -> StructType:
    """The table's schema: types, nullability, and each column's description as its comment."""
    return StructType(
        [
            StructField(
                column.name,
                DataType.fromDDL(column.type),
                nullable=not column.required,
                metadata={"comment": column.description},
            )
            for column in contract.columns
        ]
    )


def ddl(contract: Contract) -> str:
    """The column list of a CREATE TABLE."""
    return ", ".join(
        f"{quote(column.name)} {column.type.upper()}"
        f"{' NOT NULL' if column.required else ''} COMMENT {sql_text(column.description)}"
        for column in contract.columns
    )


def sql_text(value: str) -> str:
    """A Spark SQL string literal."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
