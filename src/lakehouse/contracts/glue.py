"""Contract to Glue: the columns as Athena's engine v3 wants them."""

from __future__ import annotations

from lakehouse.contracts.model import Contract

_MAX_COMMENT = 255


def columns(contract: Contract) -> list[dict[str, str]]:
    """``StorageDescriptor.Columns`` of the table, partition columns included.

    A native Delta table has no PartitionKeys in Glue: Athena takes the partitioning from the Delta log. The types
    that a contract allows are spelt the same in Spark, Hive and Athena's DDL.
    """
    return [
        {"Name": column.name, "Type": column.type, "Comment": column.description[:_MAX_COMMENT]}
        for column in contract.columns
    ]
