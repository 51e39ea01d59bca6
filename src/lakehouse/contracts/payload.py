"""The hash of what a row says: one algorithm for Bronze and Silver, and for every version of a contract."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import Column
from pyspark.sql import functions as F


def payload_hash(values: Mapping[str, tuple[str, Column]]) -> Column:
    """SHA-256 (hex) of a JSON object of columns, given as name to Spark SQL type and value.

    The values that are not null, by name, each as text: microseconds since 1970 for a timestamp, Base64 for bytes, else
    what a cast to string gives. So 1.0 and 1.00 in a decimal column are one payload, and a nullable column that a later
    contract adds changes no hash of a row that has nothing there.
    """
    texts = [_text(*values[name]).alias(name) for name in sorted(values)]
    return F.sha2(F.to_json(F.struct(*texts), {"ignoreNullFields": "true"}), 256)


def _text(type: str, value: Column) -> Column:
    match type:
        case "binary":
            return F.base64(value)
        case "timestamp":
            return F.unix_micros(value).cast("string")
        case _:
            return value.cast("string")
