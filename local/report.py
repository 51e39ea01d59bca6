"""What the demo prints of a run, read from what the run left behind: outcomes, verdicts, Gold."""

from __future__ import annotations

import json
from typing import Any

from lakehouse.observe.outcome import REPEAT
from lakehouse.runs import counted
from local.airflow_run import RunResult
from local.query import as_table, ask
from local.stack import Stack

QUESTIONS = (
    (
        "Revenue by month (USD), the last six months",
        """
        SELECT date_format(order_date, '%Y-%m') AS month, count(*) AS orders,
               sum(amount_usd) AS revenue_usd, count(*) - count(amount_usd) AS unpriced
        FROM fact_orders WHERE status <> 'CANCELLED'
        GROUP BY 1 ORDER BY 1 DESC LIMIT 6
        """,
    ),
    (
        "The five best customers",
        """
        SELECT c.id, c.name, c.country, count(*) AS orders, sum(f.amount_usd) AS revenue_usd
        FROM fact_orders f JOIN dim_customers c ON f.customer_id = c.id
        WHERE f.status <> 'CANCELLED'
        GROUP BY 1, 2, 3 ORDER BY revenue_usd DESC NULLS LAST LIMIT 5
        """,
    ),
    (
        "Currencies, at the rate of the order's day; one publication?",
        """
        SELECT f.currency, count(*) AS orders, sum(f.amount_native) AS amount,
               min(d.rate_to_base) AS lowest_rate, max(d.rate_to_base) AS highest_rate,
               min(f._publish_id) = max(d._publish_id) AS one_publication
        FROM fact_orders f LEFT JOIN dim_fx d ON f.order_date = d.as_of_date AND f.currency = d.ccy
        GROUP BY 1 ORDER BY orders DESC LIMIT 5
        """,
    ),
)
_NOTES_OF_A_JOB = 20
_HOPS = (
    "read",
    "generated",
    "inserted",
    "updated",
    "unchanged",
    "quarantined",
    "duplicates",
    "superseded",
    "conflicts",
)


def outcomes(stack: Stack, run_id: str | None) -> list[dict[str, Any]]:
    """The outcomes of a run's jobs, in the order they started."""
    if run_id is None:
        return []
    s3, bucket = stack.client("s3"), stack.exports["LAKE_BUCKET"]
    found = []
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"runs/{run_id}/"):
        for item in page.get("Contents", []):
            if item["Key"].endswith("/outcome.json"):
                found.append(json.loads(s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()))
    return sorted(found, key=lambda outcome: str(outcome["started_at"]))


def ledger(found: list[dict[str, Any]]) -> str:
    """Rows per hop: every row read or generated, and where it went."""
    lines = [["table", *_HOPS]]
    for outcome in found:
        for table in outcome["tables"]:
            if table["ledger"] is not None:
                lines.append(
                    [
                        table["table"],
                        *(f"{table['ledger'][name]:,}" if table["ledger"][name] else "-" for name in _HOPS),
                    ]
                )
    return "\nRows per hop (read + generated = all that follows)\n" + _columns(lines)


def verdicts(stack: Stack, found: list[dict[str, Any]]) -> str:
    """What each gate said and what it certifies."""
    s3, bucket = stack.client("s3"), stack.exports["LAKE_BUCKET"]
    lines = [["table", "verdict", "certifies", "rules"]]
    for outcome in found:
        for reference in outcome["verdicts"]:
            key = reference["uri"].split(f"{bucket}/", 1)[1]
            verdict = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
            passed = sum(rule["passed"] for rule in verdict["rules"])
            certified = (
                f"version {verdict['version']}, {counted(len(verdict['certified_runs']))}"
                if verdict["outcome"] != "failed"
                else "nothing"
            )
            lines.append(
                [verdict["table"], verdict["outcome"], certified, f"{passed} of {len(verdict['rules'])} hold"]
            )
    return "\n".join(["\nVerdicts", _columns(lines)])


def notes(found: list[dict[str, Any]]) -> str:
    """What the jobs have to say beyond numbers: files that were left out, fields that nobody knows, what waits."""
    lines = []
    for outcome in found:
        # How to repeat a job is for when it failed; that a new lake has tables now is no news.
        told = [
            note
            for note in outcome["notes"]
            if not note.startswith(REPEAT) and not note.endswith(": created")
        ]
        lines += [f"  {outcome['job']}: {note}" for note in told[:_NOTES_OF_A_JOB]]
        if len(told) > _NOTES_OF_A_JOB:
            lines.append(f"  {outcome['job']}: and {len(told) - _NOTES_OF_A_JOB} more, in its outcome.json")
    return "\n".join(["\nNotes of the jobs", *(lines or ["  none"])])


def answers(stack: Stack) -> str:
    """Three business questions and their answers."""
    parts = []
    for title, sql in QUESTIONS:
        parts.append(
            f"\n  {title}\n" + "\n".join(f"    {line}" for line in as_table(ask(stack, sql)).splitlines())
        )
    return "\n".join(parts)


def look_around(stack: Stack, result: RunResult) -> str:
    """Where to look next."""
    return f"""
Look around
  make query SQL="SELECT * FROM fact_orders LIMIT 5"     any question, in Athena's dialect
  make table T=gold.fact_orders                          contract, rules, files, last verdict
  make airflow                                           the DAG in Airflow's own UI
  make local-status                                      services, ports, logs
  make demo-poisoned                                     the same day with bad data
  logs of this run: {result.logs}
  run id: {result.run_id}"""


def failure(result: RunResult) -> str:
    """What stopped the run and what to do."""
    lines = [f"\n{result.dag_id} stopped."]
    for task in result.failed:
        if task.failure is not None:
            lines += [
                f"{task.task_id}: {task.failure.code}: {task.failure.message}",
                f"What to do: {task.failure.hint}",
            ]
        lines.append(f"Log: {task.log}")
    unrun = [task.task_id for task in result.tasks if not task.ran]
    if unrun:
        lines.append(f"Not run: {', '.join(unrun)}")
    return "\n".join(lines)


def _columns(lines: list[list[str]]) -> str:
    widths = [max(len(line[index]) for line in lines) for index in range(len(lines[0]))]
    text = [lines[0], ["-" * width for width in widths], *lines[1:]]
    return "\n".join(
        "  "
        + "  ".join(
            cell.ljust(width) if index == 0 or not _is_number(cell) else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in text
    )


def _is_number(cell: str) -> bool:
    return cell == "-" or cell.replace(",", "").isdigit()
