"""Contract to Glue: the columns as Athena's engine v3 wants them."""

from __future__ import annotations

import re

from lakehouse.contracts.model import Contract

#: Bytes of a column's comment: AWS Glue API, "Column structure": not more than 255 bytes, single-line string pattern.
MAX_COMMENT = 255
#: Bytes of a table's description: "Table structure": not more than 2048 bytes, multi-line string pattern.
MAX_DESCRIPTION = 2048
# What neither pattern takes: control characters but tab and line ends, halves of surrogate pairs, U+FFFE and U+FFFF.
_REFUSED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def columns(contract: Contract) -> list[dict[str, str]]:
    """``StorageDescriptor.Columns`` of the table, partition columns included.

    A native Delta table has no PartitionKeys in Glue: Athena takes the partitioning from the Delta log. The types
    that a contract allows are spelt the same in Spark, Hive and Athena's DDL.
    """
    return [
        {"Name": column.name, "Type": column.type, "Comment": comment(column.description)}
        for column in contract.columns
    ]


def comment(text: str) -> str:
    """A column's comment as Glue takes it: one line, every run of white space a space, cut between characters."""
    return _cut(" ".join(_REFUSED.sub(" ", text).split()), MAX_COMMENT)


def description(text: str) -> str:
    """A table's description as Glue takes it: lines stay."""
    return _cut(_REFUSED.sub(" ", text), MAX_DESCRIPTION)


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore")
