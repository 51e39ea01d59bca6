"""`make query SQL="…"` or `Q=name`: ask the local Athena through its API, as any client would, and print the answer."""

from __future__ import annotations

import argparse
import csv
import io
import json
import re
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from lakehouse.observe.terminal import harmless, say
from local import sample_queries
from local.sample_queries import UnknownQuery
from local.stack import Stack, lake_name, running
from local.supervisor import ServiceError

NUMBERS = {"tinyint", "smallint", "integer", "bigint", "float", "real", "double", "decimal"}


class QueryFailed(Exception):
    """Athena's own words about a query that did not succeed."""


@dataclass(frozen=True)
class Answer:
    """Columns and rows as text (None for NULL), and what the query cost."""

    columns: list[str]
    rows: list[list[str | None]]
    scanned_bytes: int
    milliseconds: int
    types: list[str] = field(default_factory=list)  # Athena's, of the columns


def ask(stack: Stack, sql: str, database: str = "lakehouse_gold") -> Answer:
    """Run a statement to its end. Raises QueryFailed with Athena's reason."""
    return ask_athena(stack.client("athena"), sql, database)


def ask_athena(athena: Any, sql: str, database: str = "lakehouse_gold", timeout: float = 120.0) -> Answer:
    """`ask` by a client of Athena."""
    try:
        started = athena.start_query_execution(
            QueryString=sql, QueryExecutionContext={"Database": database}, WorkGroup="lakehouse"
        )["QueryExecutionId"]
    except ClientError as error:
        raise QueryFailed(error.response["Error"]["Message"]) from None
    deadline = time.monotonic() + timeout
    while True:
        execution = athena.get_query_execution(QueryExecutionId=started)["QueryExecution"]
        state = execution["Status"]["State"]
        if state == "SUCCEEDED":
            break
        if state in {"FAILED", "CANCELLED"}:
            raise QueryFailed(execution["Status"].get("StateChangeReason", state))
        if time.monotonic() > deadline:
            athena.stop_query_execution(QueryExecutionId=started)
            raise QueryFailed(f"no answer within {timeout:.0f} s; the query was stopped")
        time.sleep(0.05)
    columns: list[str] = []
    types: list[str] = []
    rows: list[list[str | None]] = []
    for page in athena.get_paginator("get_query_results").paginate(QueryExecutionId=started):
        described = page["ResultSet"]["ResultSetMetadata"]["ColumnInfo"]
        columns, types = [column["Name"] for column in described], [column["Type"] for column in described]
        rows += [_cells(row["Data"], len(columns)) for row in page["ResultSet"]["Rows"]]
    statistics = execution["Statistics"]
    return Answer(
        columns,
        # Only the answer to a SELECT has a first row of column names.
        rows[1:] if execution.get("StatementType") == "DML" else rows,
        statistics.get("DataScannedInBytes", 0),
        statistics.get("TotalExecutionTimeInMillis", 0),
        types,
    )


def _cells(data: list[dict[str, str]], width: int) -> list[str | None]:
    """A row's cells. Of statements like DESCRIBE Athena gives a whole line in the first cell, tabs between."""
    cells = [cell.get("VarCharValue") for cell in data]
    if len(cells) < width and cells and cells[0] is not None:
        cells = [cell.strip() or None for cell in cells[0].split("\t")]
    return [*cells, *[None] * (width - len(cells))]


def as_table(answer: Answer) -> str:
    """Columns side by side, numbers as they came; NULL is an empty cell, and a line break within one is \\n."""
    rows: list[list[str | None]] = [list(answer.columns), *answer.rows]
    lines = [[harmless(cell or "") for cell in row] for row in rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(answer.columns))]
    printed = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    printed.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(printed)


def as_csv(answer: Answer) -> str:
    """RFC 4180 but for the line ends, which are \\n: a cell that holds either of the two is quoted; NULL is empty."""
    text = io.StringIO()
    # The writer quotes the characters of its own line end: by \r\n it quotes both.
    writer = csv.writer(text, lineterminator="\r\n")
    lines = []
    rows: list[list[str | None]] = [list(answer.columns), *answer.rows]
    for row in rows:
        writer.writerow(row)
        lines.append(text.getvalue().removesuffix("\r\n") + "\n")
        text.seek(0)
        text.truncate()
    return "".join(lines)


def as_json(answer: Answer) -> str:
    """A list of objects. Numbers are numbers, with all their digits; what JSON has no number for (NaN) stays a text."""
    kinds = answer.types or ["varchar"] * len(answer.columns)
    objects = [
        ", ".join(
            f"{_quoted(name)}: {_token(cell, kind)}"
            for name, cell, kind in zip(answer.columns, row, kinds, strict=True)
        )
        for row in answer.rows
    ]
    return "[\n " + ",\n ".join(f"{{{each}}}" for each in objects) + "\n]" if objects else "[]"


def _token(cell: str | None, kind: str) -> str:
    if cell is None:
        return "null"
    number = kind in NUMBERS and re.fullmatch(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", cell)
    return cell if number or (kind == "boolean" and cell in ("true", "false")) else _quoted(cell)


def _quoted(text: str) -> str:
    """A JSON string that a terminal can show: letters of any script as they are, what nobody sees as \\u…."""
    shown = json.dumps(text, ensure_ascii=False)
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in shown)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m local.query", description=__doc__)
    parser.add_argument("sql", nargs="?", help="a statement in Athena's dialect")
    parser.add_argument("--name", help="a query of athena_queries/sample_queries.sql; `list` lists them")
    parser.add_argument("--database", default="lakehouse_gold", help="default: lakehouse_gold")
    parser.add_argument("--format", choices=["table", "csv", "json"], default="table")
    arguments = parser.parse_args()
    if bool(arguments.sql) == bool(arguments.name):
        parser.error(
            "received " + ("both" if arguments.sql else "nothing") + ", expected a statement or --name"
        )
    if arguments.name == "list":
        print(sample_queries.listing(sample_queries.load()))
        return 0
    try:
        sql = sample_queries.named(arguments.name).sql if arguments.name else arguments.sql
        stack = running()
        answer = ask(stack, sql, arguments.database)
    except (QueryFailed, ServiceError, UnknownQuery) as error:
        say(str(error), file=sys.stderr)
        return 1
    cost = (
        f"({len(answer.rows)} rows, {answer.milliseconds / 1000:.2f} s, {answer.scanned_bytes:,} bytes scanned, "
        f"lake {lake_name(stack.state)})"
    )
    if arguments.format == "table":
        print(f"{as_table(answer)}\n{cost}")
        return 0
    print(as_json(answer) + "\n" if arguments.format == "json" else as_csv(answer), end="")
    print(cost, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
