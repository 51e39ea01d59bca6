"""A process that runs Athena queries one after another: a JSON line in, a JSON line out.

A process of its own, because the Delta reader talks to the S3 of the server that wants the answer, because a query may
need a core for itself, and because cancelling a query is then killing it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from local.aws.athena_sql import HIDDEN, Catalog, Result, Table, execute, parse
from local.aws.athena_words import QueryError, translate_error


def storage_options(env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """How delta-rs reaches the S3 of a running stack; ``env``: what that stack exports."""
    return {
        "AWS_ENDPOINT_URL": env["AWS_ENDPOINT_URL"],
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": env.get("AWS_REGION", "eu-central-1"),
        "AWS_ACCESS_KEY_ID": env.get("AWS_ACCESS_KEY_ID", "testing"),
        "AWS_SECRET_ACCESS_KEY": env.get("AWS_SECRET_ACCESS_KEY", "testing"),
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false",
    }


def open_delta(table: Table, hidden: bool = False) -> tuple[Any, int]:
    """What DuckDB scans (with athena_sql.HIDDEN where they are wanted), and the bytes of the live files."""
    from deltalake import DeltaTable, QueryBuilder
    from deltalake.exceptions import DeltaError, TableNotFoundError

    try:
        delta = DeltaTable(table.location.replace("s3a://", "s3://"), storage_options=storage_options())
    except TableNotFoundError as e:
        raise QueryError(
            f"DELTA_LAKE_INVALID_TABLE: No transaction log found in location {table.location} of table "
            f"{table.database}.{table.name}"
        ) from e
    except DeltaError as e:
        raise QueryError(f"DELTA_LAKE_INVALID_SCHEMA: {table.database}.{table.name}: {e}") from e
    actions = delta.get_add_actions(flatten=True)
    size = int(sum(n or 0 for n in actions.column("size_bytes").to_pylist()))
    features = set(delta.protocol().reader_features or ())
    if (
        "deletionVectors" in features
        or "columnMapping" in features
        or delta.protocol().min_reader_version == 2
    ):
        # the pyarrow reader knows neither deletion vectors nor mapped columns, DataFusion's does
        import pyarrow as pa

        if hidden:
            raise QueryError(
                f"NOT_SUPPORTED: {table.database}.{table.name} has deletion vectors or mapped columns; the local "
                "Athena does not know which object a row of it is in"
            )
        return pa.table(QueryBuilder().register("t", delta).execute("SELECT * FROM t").read_all()), size
    return (_with_objects(delta, actions) if hidden else delta.to_pyarrow_dataset()), size


def _with_objects(delta: Any, actions: Any) -> Any:
    """The table's rows with the columns athena_sql.HIDDEN: URI, bytes and time of the object that holds the row."""
    import pyarrow as pa

    paths = [unquote(path) for path in actions.column("path").to_pylist()]  # the log has URIs
    facts = pa.table(
        {
            "path": paths,
            HIDDEN[0]: [f"{delta.table_uri.rstrip('/')}/{path}" for path in paths],
            HIDDEN[1]: pa.array(actions.column("size_bytes").to_pylist(), pa.int64()),
            HIDDEN[2]: pa.array(actions.column("modification_time").to_pylist(), pa.timestamp("ms", "UTC")),
        }
    )
    dataset = delta.to_pyarrow_dataset()
    rows = dataset.to_table(columns=[*dataset.schema.names, "__filename"])
    return rows.join(facts, "__filename", "path").drop_columns("__filename")


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Run one query; rows go to `rows` (JSON lines) and `csv` (Athena's result file) in the request's folder."""
    folder = Path(request["folder"])
    catalog: Catalog = {
        db: {
            name: Table(db, name, t["location"], [tuple(c) for c in t["columns"]], t["delta"])
            for name, t in tables.items()
        }
        for db, tables in request["catalog"].items()
    }
    begun = time.monotonic()
    try:
        result = execute(
            parse(request["sql"], request["parameters"]), catalog, request["database"], open_delta
        )
        count = _write(result, folder)
    except QueryError as e:
        return {"error": str(e)}
    return {
        "columns": [vars(c) for c in result.columns],
        "rows": count,
        "scanned": result.scanned,
        "header": result.header,
        "millis": int((time.monotonic() - begun) * 1000),
    }


def _write(result: Result, folder: Path) -> int:
    count = 0
    with (
        open(folder / "rows.jsonl", "w", encoding="utf-8") as rows,
        open(folder / "result", "w", encoding="utf-8") as out,
    ):
        if result.header:
            out.write(_csv([c.name for c in result.columns]))
        for row in result.rows:
            rows.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
            out.write(_csv(row) if result.header else f"{row[0]}\n")
            count += 1
    return count


def _csv(values: list[str | None]) -> str:
    """Every value quoted, nulls empty, as Athena writes results."""
    return ",".join("" if v is None else '"' + v.replace('"', '""') + '"' for v in values) + "\n"


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = run(request)
        except Exception as e:
            import duckdb

            if isinstance(e, duckdb.Error):
                tree = parse(request["sql"], request["parameters"]).tree
                answer = {"error": str(translate_error(request["sql"], tree, e))}
            else:
                import traceback

                traceback.print_exc()
                answer = {"error": f"GENERIC_INTERNAL_ERROR: {type(e).__name__}: {e}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
