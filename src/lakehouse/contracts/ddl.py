"""Contract to Spark SQL text for tables by location. Needs no Spark: the statements are data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lakehouse.contracts.model import Column, Contract, quote

_WITH_STATISTICS = ("string", "int", "bigint", "double", "date", "timestamp")
VERSION_PROPERTY = "lakehouse.contract_version"
HASH_PROPERTY = "lakehouse.contract_hash"
# Properties that only some contracts give: a table has them where its own does, and else has them not.
SOMETIMES = ("delta.autoOptimize.autoCompact", "delta.dataSkippingStatsColumns")


def text(value: str) -> str:
    """A string literal."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def target(uri: str) -> str:
    """A Delta table by its location, as SQL names it."""
    return f"delta.{quote(uri)}"


def column(definition: Column) -> str:
    """A column of a column list, with its description as the comment that Glue and DESCRIBE show."""
    null = " NOT NULL" if definition.required else ""
    return f"{quote(definition.name)} {definition.type}{null} COMMENT {text(definition.description)}"


def columns(contract: Contract) -> str:
    """The column list of a CREATE TABLE."""
    return ", ".join(column(each) for each in contract.columns)


def properties(contract: Contract) -> dict[str, str]:
    """Table properties that follow from a contract.

    Retention binds VACUUM and log cleanup; auto-compaction merges the small files of a stream as it writes; the
    contract's version and hash say which contract the live table obeys. The log keeps the least and greatest value of
    columns for each file, and keeps them after the rows are gone: not those of personal columns.
    """
    compaction = {"delta.autoOptimize.autoCompact": "true"} if contract.auto_compact else {}
    return (
        compaction
        | _statistics(contract)
        | {
            "delta.deletedFileRetentionDuration": f"interval {contract.retention.deleted_files_days} days",
            "delta.logRetentionDuration": f"interval {contract.retention.log_days} days",
            "delta.enableDeletionVectors": "true" if contract.deletion_vectors else "false",
            "lakehouse.table": contract.name,
            VERSION_PROPERTY: contract.version,
            HASH_PROPERTY: contract.content_hash,
        }
    )


def _statistics(contract: Contract) -> dict[str, str]:
    if not contract.personal_columns:
        return {}
    names = [
        quote(column.name)
        for column in contract.columns
        if not column.is_personal
        and column.name not in contract.partition_by
        and (column.type in _WITH_STATISTICS or column.type.startswith("decimal"))
    ]
    return {"delta.dataSkippingStatsColumns": ",".join(names)}


def create_table(contract: Contract, uri: str) -> str:
    """Create the table where it is not there yet."""
    partitions = ", ".join(quote(name) for name in contract.partition_by)
    return (
        f"CREATE TABLE IF NOT EXISTS {target(uri)} ({columns(contract)}) USING DELTA"
        + (f" PARTITIONED BY ({partitions})" if partitions else "")
        + f" COMMENT {text(contract.description)}"
        + f" TBLPROPERTIES ({_pairs(properties(contract))})"
    )


def add_columns(contract: Contract, uri: str, added: Iterable[Column]) -> str:
    """Add columns where the contract has them, so that system columns stay last."""
    order = contract.column_names
    items = []
    for each in added:
        position = order.index(each.name)
        place = f"AFTER {quote(order[position - 1])}" if position else "FIRST"
        items.append(f"{column(each)} {place}")
    return f"ALTER TABLE {target(uri)} ADD COLUMNS ({', '.join(items)})"


def set_comment(uri: str, definition: Column) -> str:
    """Give a column its description."""
    return f"ALTER TABLE {target(uri)} ALTER COLUMN {quote(definition.name)} COMMENT {text(definition.description)}"


def set_properties(uri: str, wanted: Mapping[str, str]) -> str:
    """Set table properties."""
    return f"ALTER TABLE {target(uri)} SET TBLPROPERTIES ({_pairs(wanted)})"


def unset_properties(uri: str, names: Iterable[str]) -> str:
    """Take table properties away; harmless where they are not set."""
    keys = ", ".join(text(name) for name in names)
    return f"ALTER TABLE {target(uri)} UNSET TBLPROPERTIES IF EXISTS ({keys})"


def _pairs(wanted: Mapping[str, str]) -> str:
    return ", ".join(f"{text(key)} = {text(value)}" for key, value in sorted(wanted.items()))
