#!/usr/bin/env python3
"""Refused rows of every source: see them, correct them, replay them, give them up. How to: docs/quarantine.md.

What writes does so with --apply only; without it each command shows what it would do. Nothing is ever deleted: every
step adds events to ops.quarantine. On a laptop it finds the running local stack by itself; elsewhere it is submitted
like a job.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

REPO = Path(__file__).resolve().parents[1]
if (REPO / "src" / "lakehouse").is_dir():
    sys.path[:0] = [str(REPO / "src"), str(REPO)]

import yaml  # noqa: E402  # the path to what follows is set just above

from lakehouse import cli, contracts  # noqa: E402
from lakehouse.bounded import described  # noqa: E402
from lakehouse.errors import EXIT_UNEXPECTED, LakehouseError, LedgerImbalance, UsageError  # noqa: E402
from lakehouse.observe.terminal import say  # noqa: E402
from lakehouse.runs import new_run_id  # noqa: E402
from lakehouse.settings import Settings, load_settings, settings_location  # noqa: E402
from lakehouse.submit import QUARANTINE  # noqa: E402

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, Row, SparkSession

    from lakehouse.cli import Job
    from lakehouse.flows.replay import Request
    from lakehouse.quality.refused import Selection

STATUSES = ("open", "fixed", "replayed", "discarded")
_DRY = 'Nothing was written. To do it, add: --apply --by "$USER"'


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. 0, or the exit code of lakehouse.errors with one message and the next step on stderr."""
    arguments = _parser().parse_args(argv)
    # Spark's Python logs every refused expression with its stack trace; the refusal is an answer, not a fault.
    logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL + 1)
    if arguments.config is None and (REPO / "local").is_dir():
        from local.laptop import use_stack

        use_stack("quarantine")
    command: Callable[[argparse.Namespace, Settings], int] = arguments.command
    try:
        if getattr(arguments, "apply", False) and not (arguments.by or "").strip():
            raise UsageError("received --apply without --by, expected who does it", hint='add --by "$USER"')
        return command(arguments, load_settings(settings_location(arguments.config)))
    except LakehouseError as error:
        say(error.told("quarantine"), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        told = cli.recognised(error, arguments.config)
        if isinstance(told, LakehouseError):
            say(told.told("quarantine"), file=sys.stderr)
            return told.exit_code
        say(f"quarantine: UNEXPECTED: {described(error)}", file=sys.stderr)
        say(
            "What to do: look whether the lake can be reached (`make local-status`), and try again",
            file=sys.stderr,
        )
        return EXIT_UNEXPECTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/quarantine.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    def add(
        name: str, command: Callable[[argparse.Namespace, Settings], int], help: str, *, rows: bool
    ) -> Any:
        sub = commands.add_parser(name, help=help, description=help)
        sub.set_defaults(command=command)
        sub.add_argument("--config", help="settings file, a path or s3:// URI (default: $LAKEHOUSE_CONFIG)")
        if rows:
            sub.add_argument("--table", help="Bronze table, dotted or bare")
            sub.add_argument("--reason", help="rule that the rows break, e.g. amount_not_negative")
            sub.add_argument("--run", help="run that refused the rows")
            sub.add_argument("--date", help="day on which they were refused, YYYY-MM-DD (UTC)")
        return sub

    def writes(sub: Any) -> None:
        sub.add_argument("--apply", action="store_true", help="do it (default: show what would be done)")
        sub.add_argument("--by", help="who does it")

    listing = add("list", _list, "how many rows, why and in which state; whether they add up", rows=True)
    showing = add("show", _show, "rows with all reasons and what became of them", rows=True)
    export = add("export", _export, "rows as received, as the beginning of a fix file", rows=True)
    for sub, default in ((listing, None), (showing, None), (export, ["open"])):
        sub.add_argument("--status", action="append", choices=STATUSES, default=default)
    showing.add_argument("--limit", type=int, default=20, help="rows to show (default: 20)")
    export.add_argument("--out", required=True, help="file to write; it must not exist")
    fix = add("fix", _fix, "what a fix file makes of the rows it names", rows=False)
    fix.add_argument("--file", required=True, help="fix file (YAML), a path or s3:// URI")
    fix.add_argument("--limit", type=int, default=20, help="rows to show (default: 20)")
    writes(fix)
    replay = add("replay", _replay, "fixed rows through contract and gate into Bronze", rows=True)
    replay.add_argument("--as-received", action="store_true", help="open rows, too: the contract has changed")
    replay.add_argument("--why", default="", help="kept with the rows")
    writes(replay)
    discard = add("discard", _discard, "give rows up: nothing replays them any more", rows=True)
    discard.add_argument("--why", required=True, help="kept with the rows")
    writes(discard)
    return parser


def _list(arguments: argparse.Namespace, settings: Settings) -> int:
    from pyspark.sql import functions as F

    from lakehouse.quality import refused, rules

    selection = _selection(arguments, arguments.status or STATUSES)
    spark = _spark(settings)
    log = refused.events(spark, settings)
    found = selection.of(refused.states(log)).persist()
    named = F.array_distinct(F.transform("reasons", lambda reason: F.substring_index(reason, ": ", 1)))
    counted = (
        found.select("table_name", "status", F.explode(named).alias("reason"))
        .groupBy("table_name", "reason")
        .pivot("status", list(STATUSES))
        .count()
        .fillna(0)
    )
    lines = [
        [row["table_name"], row["reason"], *(str(row[status]) for status in STATUSES)]
        for row in counted.orderBy("table_name", "reason").collect()
    ]
    if lines:
        say("Refused rows by reason (a row counts under each of its reasons)")
        say(_columns([["table", "reason", *STATUSES], *lines]))
        shown = found.select(
            "table_name",
            "position",
            rules.show(F.col("record_key"), False).alias("key"),
            F.concat_ws("; ", "reasons").alias("reasons"),
            F.expr("row_number() OVER (PARTITION BY table_name ORDER BY run_id, position)").alias("n"),
        )
        say("\nThe first of each table")
        for row in shown.where("n <= 3").orderBy("table_name", "n").collect():
            say(f"  {row['table_name']}  {row['position']}  key {row['key'] or '-'}: {row['reasons']}")
    else:
        say("No refused rows" + (" of this kind" if _is_narrow(arguments) or arguments.status else ""))
    return _balance(spark, settings, log)


def _balance(spark: SparkSession, settings: Settings, log: DataFrame) -> int:
    """Print that every refused row is in one state. Raises LedgerImbalance where it is not."""
    from lakehouse.quality import refused

    found = refused.balances(log)
    say("\nBalance of all tables: quarantined = open + fixed + replayed + discarded (fixed rows still wait)")
    heads = ["table", "quarantined", *STATUSES, "balance"]
    numbers = [
        [
            each.table,
            *map(str, (each.quarantined, each.open, each.fixed, each.replayed, each.discarded)),
            "holds" if each.holds else "BROKEN",
        ]
        for each in found
    ]
    say(_columns([heads, *numbers]))
    compared, differences = refused.ledger_differences(spark, settings, log)
    say(f"{refused.LEDGER}: {compared - len(differences)} of {compared} lines agree with it")
    broken = [each for each in found if not each.holds]
    if broken or differences:
        names = ", ".join(each.table for each in broken)
        raise LedgerImbalance(
            f"refused rows do not add up{': ' + names if names else ''}",
            violations=differences,
            hint="a table was changed by hand, or a run's ingest was repeated under another contract: compare "
            "ops.quarantine, ops.kafka_orders_dlq and the run's landing",
        )
    return 0


def _show(arguments: argparse.Namespace, settings: Settings) -> int:
    from pyspark.sql import functions as F

    from lakehouse.flows.replay import judged
    from lakehouse.quality import refused, rules

    selection = _selection(arguments, arguments.status or STATUSES)
    log = refused.events(_spark(settings), settings)
    found = selection.of(refused.states(log)).persist()
    rows = found.orderBy("table_name", "run_id", "position").limit(arguments.limit).persist()
    fields: dict[tuple[str, ...], dict[str, str | None]] = {}
    for table in sorted(row["table_name"] for row in rows.select("table_name").distinct().collect()):
        seen = judged(settings, rows.where(F.col("table_name") == table), table, "received").select(
            *[F.col(f"state.{name}") for name in refused.IDENTITY],
            rules.show_fields(F.col(rules.FIELDS), contracts.load(table)).alias("fields"),
        )
        fields |= {_identity(row): row["fields"] or {} for row in seen.collect()}
    history: dict[tuple[str, ...], list[Row]] = {}
    for event in (
        log.join(rows.select(*refused.IDENTITY), on=list(refused.IDENTITY))
        .orderBy(F.coalesce("step", F.lit(0)), "occurred_at")
        .collect()
    ):
        history.setdefault(_identity(event), []).append(event)
    for row in rows.collect():
        say(f"{row['table_name']}  run {row['run_id']}  position {row['position']}  {row['status']}")
        for reason in row["reasons"]:
            say(f"  {reason}")
        say(f"  received: {_pairs(fields[_identity(row)])}")
        for event in history[_identity(row)]:
            who = f" by {event['actor']}" if event["actor"] else ""
            why = f": {event['note']}" if event["note"] else ""
            run = f" (run {event['replay_run_id']})" if event["replay_run_id"] else ""
            say(f"  {event['occurred_at']:%Y-%m-%d %H:%M:%S}  {event['status']}{who}{why}{run}")
        say()
    say(_of(min(arguments.limit, found.count()), found.count(), "shown"))
    return 0


def _export(arguments: argparse.Namespace, settings: Settings) -> int:
    from pyspark.sql import functions as F

    from lakehouse.flows.replay import judged
    from lakehouse.quality import refused, rules
    from lakehouse.quality.dlq import PAYLOAD_TYPE

    selection = _selection(arguments, arguments.status)
    if selection.table is None:
        raise UsageError("received no --table, expected one: a fix file is about one table")
    path = Path(arguments.out)
    states = selection.of(refused.rows(_spark(settings), settings))
    rows = judged(settings, states, selection.table, "received").select(
        "state.run_id", "state.position", "state.reasons", rules.FIELDS, "payload",
        F.from_json("payload", PAYLOAD_TYPE).alias("record"),
    )  # fmt: skip
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise UsageError(
            f"--out {path}: cannot be created: {error.strerror}", hint="name a file that does not exist yet"
        ) from None
    count = 0
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(_HEADER.format(table=selection.table, path=path))
        for row in rows.orderBy("run_id", "position").toLocalIterator():
            count += 1
            file.write(_yaml([_exported(row, is_event=selection.table == "bronze.kafka_orders")]))
        if not count:
            file.write("  []\n")
    say(f"{_of(count, count, 'written')} to {path} (PERSONAL DATA; only you may read it)")
    return 0


_HEADER = """\
# Rows that {table} refused, as received: PERSONAL DATA. Keep it to yourself and delete it when it has served.
# Say why, give rows their new fields in `set` (or the whole row in `value`), let somebody review it, then
#   scripts/quarantine.py fix --file {path}
# `reasons` and `received` are for the reader. All keys: docs/quarantine.md
table: {table}
why:
rows:
"""


def _exported(row: Row, *, is_event: bool) -> dict[str, Any]:
    received: Any = row["fields"]
    if is_event:
        import base64

        record = row["record"].asDict()
        for name in ("key", "value"):
            raw = None if record[name] is None else base64.b64decode(record[name])
            try:
                record[name] = None if raw is None else raw.decode()
            except UnicodeDecodeError:
                record[f"{name}_base64"] = record.pop(name)
        received = record | {"broker_ts": f"{record['broker_ts'].isoformat()}Z"}
    elif received is None:
        received = row["payload"]
    return {
        "run_id": row["run_id"],
        "position": row["position"],
        "reasons": list(row["reasons"]),
        "received": received,
        "set": {},
    }


def _yaml(rows: list[dict[str, Any]]) -> str:
    text = yaml.safe_dump(rows, allow_unicode=True, sort_keys=False, width=10_000)
    return "".join(f"  {line}\n" if line else "\n" for line in text.split("\n")[:-1])


def _fix(arguments: argparse.Namespace, settings: Settings) -> int:
    from pyspark.sql import functions as F

    from lakehouse.flows import fix as fixing
    from lakehouse.quality import rules
    from lakehouse.quality.fixes import read_fix

    fix = read_fix(arguments.file)
    planned = fixing.plan(_spark(settings), settings, fix)
    try:
        shown = planned.rows.select(
            "state.run_id", "state.position", rules.REASONS,
            *[rules.show_fields(F.col(name), fix.contract).alias(name) for name in ("before", "after")],
            F.transform_values("before", lambda name, value: ~value.eqNullSafe(F.col("after")[name])).alias("differs"),
        )  # fmt: skip
        for row in shown.orderBy("run_id", "position").limit(arguments.limit).collect():
            verdict = "would pass" if not row[rules.REASONS] else "would still be refused"
            say(f"{fix.table}  run {row['run_id']}  position {row['position']}  {verdict}")
            before, after = row["before"], row["after"] or {}
            for name in dict.fromkeys((*before, *after)):
                if name not in before or name not in after or row["differs"][name]:
                    say(f"  {name}: {_value(before, name)} -> {_value(after, name)}")
            for reason in row[rules.REASONS]:
                say(f"  {reason}")
        say(_of(min(arguments.limit, planned.changed), planned.changed, "shown"))
        failing = planned.changed - planned.passing
        say(
            f"{planned.changed} changed by the file: {planned.passing} would now pass, {failing} would still be refused"
            + (f"; {planned.unchanged} it leaves as they are" if planned.unchanged else "")
        )
        if not arguments.apply:
            say(_DRY)
            return 0
        fixing.apply(settings, planned, by=arguments.by, at=datetime.now(UTC))
        say(f"{planned.changed} rows are fixed. Next: {QUARANTINE} replay --table {fix.table}")
    finally:
        planned.release()
    return 0


def _replay(arguments: argparse.Namespace, settings: Settings) -> int:
    from lakehouse.flows import replay as replaying
    from lakehouse.flows.replay import Request

    selection = _selection(arguments, ())
    request = Request(
        by=arguments.by or "",
        why=arguments.why,
        table=selection.table,
        reason=selection.reason,
        run_id=selection.run_id,
        day=selection.day,
        as_received=arguments.as_received,
    )
    pending = replaying.unfinished(settings)
    for intent in pending:
        when = f"{intent.begun_at:%Y-%m-%d %H:%M:%S} UTC"
        say(f"Replay {intent.run_id}, begun {when} by {intent.request.by}, has not come to an end.")
        if not arguments.apply:
            say("--apply finishes it first.")
        elif exit_code := _run_replay(arguments, intent.request, intent.run_id):
            return exit_code
    found = replaying.preview(_spark(settings), settings, request)
    lines = [
        [
            each.table,
            str(each.passing),
            str(each.failing),
            ", ".join(f"{k} {n}" for k, n in each.reasons.items()) or "-",
        ]
        for each in found
    ]
    if lines:
        say(_columns([["table", "pass", "refused again", "reasons"], *lines]))
    else:
        what = "fixed or open" if arguments.as_received else "fixed"
        say(f"No rows to replay: none of those asked for is {what}.")
        return 0
    if not arguments.apply:
        say(_DRY)
        return 0
    return _run_replay(arguments, request, new_run_id(datetime.now(UTC)))


def _run_replay(arguments: argparse.Namespace, request: Request, run_id: str) -> int:
    """One replay as a job: with outcome, lineage and exit code of its own."""
    from lakehouse.flows import replay as replaying

    def story(job: Job) -> None:
        logging.getLogger("lakehouse").setLevel(logging.WARNING)
        results = replaying.replay(job, request)
        for each in results:
            held = f", {each.duplicates} of them were there already" if each.duplicates else ""
            say(f"{each.table}: {each.inserted + each.duplicates} replayed as run {run_id}{held}")
        if results:
            say("The next bronze_to_silver takes them to Silver; the daily run does so by itself.")
        else:
            say("No row passed; those that were fixed are open again, with their new reasons.")

    job_arguments = cli.parser(replaying.JOB, "replay").parse_args(
        ["--config", settings_location(arguments.config), "--run-id", run_id]
    )
    return cli.run(replaying.JOB, story, job_arguments)


def _discard(arguments: argparse.Namespace, settings: Settings) -> int:
    from lakehouse.quality import refused

    selection = _selection(arguments, refused.LIVE)
    if not _is_narrow(arguments):
        raise UsageError("received no filter, expected --table, --reason, --run or --date")
    if not arguments.why.strip():
        raise UsageError("received an empty --why, expected a reason that others understand in a year")
    found = selection.of(refused.rows(_spark(settings), settings)).persist()
    counted = found.groupBy("table_name", "status").count().orderBy("table_name", "status").collect()
    if not counted:
        say("No rows to discard: none of those asked for is open or fixed.")
        return 0
    say(_columns([["table", "status", "rows"], *([str(value) for value in row] for row in counted)]))
    if not arguments.apply:
        say(_DRY)
        return 0
    refused.discard(settings, found, by=arguments.by, why=arguments.why, at=datetime.now(UTC))
    say(f"{sum(row['count'] for row in counted)} rows are discarded.")
    return 0


def _selection(arguments: argparse.Namespace, statuses: Iterable[str]) -> Selection:
    """The filters. Raises UsageError with the names that there are, for one that is not."""
    from lakehouse.quality.fixes import reasons_of
    from lakehouse.quality.refused import Selection

    known = contracts.names("bronze")
    table = arguments.table
    if table is not None:
        table = table if "." in table else f"bronze.{table}"
        if table not in known:
            raise UsageError(f"received --table {arguments.table}, expected one of {', '.join(known)}")
    reasons = sorted(
        {name for each in ([table] if table else known) for name in reasons_of(contracts.load(each))}
    )
    if arguments.reason is not None and arguments.reason not in reasons:
        raise UsageError(f"received --reason {arguments.reason}, expected one of {', '.join(reasons)}")
    try:
        day = None if arguments.date is None else date.fromisoformat(arguments.date)
    except ValueError:
        raise UsageError(f"received --date {arguments.date}, expected YYYY-MM-DD") from None
    return Selection(table, arguments.reason, arguments.run, day, tuple(statuses))


def _is_narrow(arguments: argparse.Namespace) -> bool:
    return any((arguments.table, arguments.reason, arguments.run, arguments.date))


def _spark(settings: Settings) -> SparkSession:
    from lakehouse.session import spark_session

    return spark_session("quarantine", settings.lake_uri)


def _identity(row: Row) -> tuple[str, ...]:
    return row["table_name"], row["run_id"], row["position"]


def _value(fields: dict[str, str | None], name: str) -> str:
    if name not in fields:
        return "not there"
    return "nothing" if fields[name] is None else f"'{fields[name]}'"


def _pairs(fields: dict[str, str | None]) -> str:
    return ", ".join(f"{name}={_value(fields, name)}" for name in fields) or "nothing that can be read"


def _of(shown: int, all: int, what: str) -> str:
    rows = "row" if all == 1 else "rows"
    return f"{all} {rows} {what}" if shown == all else f"{shown} of {all} {rows} {what}"


def _columns(lines: list[list[str]]) -> str:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  "
        + "  ".join(
            text.rjust(width) if text.isdigit() else text.ljust(width)
            for text, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


if __name__ == "__main__":
    sys.exit(main())
