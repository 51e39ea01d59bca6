"""Contract to Spark: the only contract module that needs pyspark."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, StructField, StructType

from lakehouse.contracts.model import Contract


def schema(contract: Contract) -> StructType:
    """The table's schema: names, types, nullability. Descriptions stay out of it, so that schemas compare equal."""
    return StructType(
        [
            StructField(column.name, DataType.fromDDL(column.type), nullable=not column.required)
            for column in contract.columns
        ]
    )


def conform(frame: DataFrame, contract: Contract) -> DataFrame:
    """The contract's columns, in its order; a column that an older version of the table lacks is null."""
    present = set(frame.columns)
    return frame.select(
        *[
            F.col(column.name) if column.name in present else F.lit(None).cast(column.type).alias(column.name)
            for column in contract.columns
        ]
    )
