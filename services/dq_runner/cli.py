"""The commands of scripts/dq.py: run, discover, explore, rules check, mute."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, TextIO

from dq_runner import explore, muting
from dq_runner.aws import told
from dq_runner.config import MUTES, Config, read_config
from dq_runner.discovery import Found, discover
from dq_runner.execute import Checked
from dq_runner.model import Mute, Result, Table
from dq_runner.patterns import parts, written
from dq_runner.report import LATEST, Report
from dq_runner.rules.of_table import rules_for
from dq_runner.runner import Asked, read_settings, run
from dq_runner.session import Session, Sessions, quiet_connector, read_place
from dq_runner.words import counted
from lakehouse import store
from lakehouse.errors import EXIT_UNEXPECTED, ConfigError, LakehouseError, UsageError
from lakehouse.masks import masked, short, without_secrets
from lakehouse.observe.terminal import say
from lakehouse.runs import new_run_id

HELD, BROKEN, NOT_CHECKED, USAGE = 0, 11, 20, 2
_EXITS = {"passed": HELD, "failed": BROKEN, "incomplete": NOT_CHECKED}

_ABOUT = """\
Data quality of tables in Snowflake: finds the tables by itself, checks them by rules of convention and of
config/dq_rules/, and reports what is broken.

  scripts/dq.py discover                            what would be checked, and what not, and why
  scripts/dq.py explore SALES.PUBLIC.ORDERS         one table: columns, rules, and a rule file to begin with
  scripts/dq.py rules check                         whether config/ is right; asks nobody
  scripts/dq.py run                                 yesterday's rows of every active table
  scripts/dq.py run --table 'SALES.*.ORDERS*'       a part of them, not published
  scripts/dq.py run --date 2026-11-03               the rows of another day (UTC)
  scripts/dq.py mute SALES.PUBLIC.ORDERS 'range(AMOUNT)' --until 2026-12-31 --reason 'refunds of the old shop'
"""
_GATE = """\
exit codes, for use as a gate:
  0   every critical rule holds (what is muted, or too young to be judged, does not count)
  11  a critical rule is broken
  20  something could not be checked: credentials, network, a table that failed, no time left
  2   the command or a file of config/ is wrong; nothing was checked

environment:
  SNOWFLAKE_SECRET_NAME   secret in AWS Secrets Manager: user, account, role, warehouse and a private_key or token
  S3_DQ_REPORTS_BUCKET    where reports are published and history is kept; without it nothing is
  ALERT_TOPIC_ARN         SNS topic that is told of new critical failures
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. An error is told in words on stderr, with what to do."""
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.command
    quiet_connector()
    try:
        return command(arguments)
    except LakehouseError as error:
        say(error.told("dq"), file=sys.stderr)
        if arguments.json:
            _print_json({"error": _error_json(error)})
        return USAGE if isinstance(error, ConfigError | UsageError) else NOT_CHECKED
    except KeyboardInterrupt:
        say("\ndq: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        say(f"dq: UNEXPECTED: {type(error).__name__}: {masked(short(str(error), 300))}", file=sys.stderr)
        say("What to do: report it with the command that you typed", file=sys.stderr)
        return EXIT_UNEXPECTED


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="scripts/dq.py", description=_ABOUT, epilog=_GATE, formatter_class=raw
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--config", type=Path, default=_default_config(), metavar="DIR", help="folder of dq_platform.yaml"
    )
    common.add_argument("--json", action="store_true", help="JSON on stdout, words on stderr")

    def add(place: Any, name: str, command: Callable[[argparse.Namespace], int], text: str) -> Any:
        sub = place.add_parser(
            name, help=text, description=text, parents=[common], epilog=_GATE, formatter_class=raw
        )
        sub.set_defaults(command=command)
        return sub

    checks = add(commands, "run", _run, "check tables, and publish the report")
    checks.add_argument(
        "--table", action="append", type=_pattern, default=[], metavar="PATTERN", help=_PATTERN
    )
    checks.add_argument("--out", type=Path, metavar="FILE", help="write the report to a file, too")
    finds = add(commands, "discover", _discover, "what would be checked, and what not, and why")
    finds.add_argument(
        "--table", action="append", type=_pattern, default=[], metavar="PATTERN", help=_PATTERN
    )
    looks = add(
        commands,
        "explore",
        _explore,
        "a table: columns, what they hold, its rules, a rule file to begin with",
    )
    looks.add_argument(
        "table", type=_pattern, metavar="TABLE", help="DATABASE.SCHEMA.TABLE, or its last parts"
    )
    for one in (checks, looks):
        one.add_argument(
            "--date", type=_day, help="the day (UTC) whose rows are looked at; default: yesterday"
        )
        one.add_argument("--whole", action="store_true", help="all rows, whatever their date")
    rules = commands.add_parser("rules", help="the files in config/dq_rules/").add_subparsers(
        required=True, metavar="command"
    )
    add(
        rules,
        "check",
        _rules_check,
        "whether the files of config/ are right: every mistake at once, asking nobody",
    )
    mutes = add(
        commands,
        "mute",
        _mute,
        "no alarm for a failure that people know of, until a day: adds to dq_mutes.yaml",
    )
    mutes.add_argument("table", metavar="TABLE", help="DATABASE.SCHEMA.TABLE, as the report has it")
    mutes.add_argument("rule", metavar="RULE", help="the rule, as the report has it: 'range(AMOUNT)'")
    mutes.add_argument("--reason", required=True, help="why, for whoever reviews it")
    mutes.add_argument(
        "--until", required=True, type=_day, help="the last day (UTC), at most 90 days from now"
    )
    mutes.add_argument("--by", default=os.environ.get("USER", ""), help="who mutes it; default: $USER")
    mutes.add_argument(
        "--report", metavar="FILE", help="report that knows the rule; default: the latest published"
    )
    return parser


_PATTERN = "only tables of this name or pattern; may be repeated"


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"received {text!r}, expected a day, as 2026-01-31") from None


def _default_config() -> Path:
    return Path(__file__).resolve().parents[2] / "config"


def _run(arguments: argparse.Namespace) -> int:
    config, settings = read_config(arguments.config), read_settings(os.environ)
    if arguments.out is not None and not arguments.out.parent.is_dir():
        raise UsageError(
            f"{arguments.out}: received no folder {arguments.out.parent}, expected one that is there",
            hint="give another file by --out",
        )
    now = datetime.now(UTC)
    words = sys.stderr if arguments.json else sys.stdout
    asked = Asked(arguments.date, arguments.whole, tuple(arguments.table))
    report = run(
        config, settings, at=now, run_id=new_run_id(now), asked=asked, tell=lambda one: tell(one, words)
    )
    body = report.to_json()
    if arguments.out is not None:
        _write(arguments.out, body)
    if arguments.json:
        print(body.decode())
    for line in closing(report):
        say(line, file=words)
    for place in _places(asked.unpublished(now), settings.bucket, arguments.out):
        say(place, file=words)
    return _EXITS[report.run.status]


def tell(checked: Checked, file: TextIO | None = None) -> None:
    """A line for a table that is done, and one for each rule that is broken or could not be checked."""
    statuses = [result.status for result in checked.results]
    counts = ", ".join(
        f"{statuses.count(status)} {word}" for status, word in _STATUSES.items() if status in statuses
    )
    rows = "" if checked.measures is None else f"{checked.measures.rows:>10,} rows"
    took = f"{checked.count.seconds:>6.1f} s"
    say(f"{checked.table.name!s:<44} {rows:>15} {took}  {counts or 'no rows of late'}", file=file)
    for result in checked.results:
        if result.status in ("failed", "error"):
            say(f"    {line(result)}", file=file)
    (file or sys.stdout).flush()


_STATUSES: Mapping[str, str] = {
    "failed": "failed",
    "error": "error",
    "skipped": "skipped",
    "no_history": "without history",
    "passed": "passed",
}


def line(result: Result) -> str:
    """A result in a line."""
    muted = f" (muted until {result.muted.until})" if result.muted else ""
    seen = f"{result.observed}, expected {result.expected}" if result.observed else ""
    words = "; ".join(filter(None, (seen, result.message)))
    return f"{result.status:<7} {result.rule.severity:<9} {result.rule.title}: {words}{muted}"


def closing(report: Report) -> list[str]:
    """The end of a run: what is wrong and of no table, the notes, the sums, the verdict."""
    counts, run_ = report.summary.counts, report.run
    tables = {(row.database, row.schema_, row.table) for row in report.tables}
    return [
        *(
            f"{row.table_name}\n    {row.status:<7} {row.severity:<9} {row.rule}: {row.message}"
            for row in report.results
            if (row.database, row.schema_, row.table) not in tables
        ),
        "",
        *(f"note: {note}" for note in (*run_.notes, *run_.remarks)),
        f"{counted(report.summary.results, 'result')} of {counted(report.summary.tables, 'table')}: "
        f"{counts.passed} passed, {counts.failed} failed ({counts.critical} critical, {counts.muted} muted), "
        f"{counts.error} not checked, {counts.skipped} skipped, {counts.no_history} without history",
        f"{_queries(run_.queries)}, of which {counted(run_.scans, 'scan')}; {run_.seconds:.1f} s; "
        f"about {run_.credits} credits",
        {
            "passed": "every critical rule holds",
            "failed": "a critical rule is broken",
            "incomplete": "something could not be checked",
        }[run_.status],
    ]


def _queries(count: int) -> str:
    return counted(count, "query", "queries")


def _places(unpublished: str, bucket: str | None, file: Path | None) -> list[str]:
    published = []
    if unpublished:
        published = [f"not published: {unpublished}"]
    elif bucket is not None:
        published = [f"report: s3://{bucket}/{LATEST}"]
    return [*published, *([f"report: {file}"] if file else [])]


def _write(path: Path, body: bytes) -> None:
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_bytes(body)
        part.replace(path)
    except OSError as error:
        raise UsageError(
            f"{path}: received {error.strerror}, expected a file that can be written",
            hint="give another file by --out",
        ) from None


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def _error_json(error: LakehouseError) -> dict[str, Any]:
    return {
        "code": error.code,
        "message": without_secrets(error.message),
        "hint": without_secrets(error.hint),
        "violations": [vars(one) for one in error.violations],
    }


@contextmanager
def _session(statement_seconds: int) -> Iterator[Session]:
    sessions = Sessions(read_place(os.environ), new_run_id(datetime.now(UTC)), statement_seconds)
    with sessions.open() as session:
        yield session


def _discover(arguments: argparse.Namespace) -> int:
    config = read_config(arguments.config)
    now = datetime.now(UTC)
    with _session(config.limits.statement_seconds) as session:
        found = discover(session, config, now, arguments.table)
    lines = [_found(table, config, found) for table in sorted(found.tables, key=lambda one: one.name)]
    lines += [
        {"state": "quiet", "table": str(table.name), "why": f"no rows in {config.active_days} days"}
        for table in found.quiet
    ]
    lines += [
        {"state": result.status, "table": str(result.table), "why": result.message}
        for result in found.findings
    ]
    if arguments.json:
        _print_json(lines)
    else:
        for each in lines:
            say(f"{each['state']:<8} {each['table']:<44} {each['why']}")
        tables = counted(len(found.known), "table")
        say(f"to be checked: {len(found.tables)} of {tables}; {_queries(session.count.queries)}")
    return NOT_CHECKED if any(result.status == "error" for result in found.findings) else HELD


def _found(table: Table, config: Config, found: Found) -> dict[str, str]:
    rules = counted(len(rules_for(table, config, found.known)), "rule")
    by = f"by {table.date_column.name}" if table.date_column else "whole"
    return {"state": "checked", "table": str(table.name), "why": f"{table.kind}, {by}, {rules}"}


def _explore(arguments: argparse.Namespace) -> int:
    config = read_config(arguments.config)
    now = datetime.now(UTC)
    with _session(config.limits.statement_seconds) as session:
        found = discover(session, config, now, [arguments.table], whole=True)
        if len(found.tables) != 1:
            some = ", ".join(str(table.name) for table in found.tables[:10])
            raise UsageError(
                f"received {arguments.table!r}, expected one table: {some or 'none'} are called so"
            )
        [table] = found.tables
        whole = arguments.whole or table.date_column is None
        window = Asked(arguments.date, whole).window(now)
        explored = explore.explore(session, config, found, table, window, now)
    if arguments.json:
        _print_json(explore.as_json(explored))
    else:
        for each in explore.words(explored):
            say(each)
    return HELD


def _rules_check(arguments: argparse.Namespace) -> int:
    config = read_config(arguments.config)
    today = datetime.now(UTC).date()
    expired = [mute for mute in config.mutes if mute.until < today]
    sums = {
        "entries": len(config.declared),
        "rules": sum(len(entry.made()) for entry in config.declared),
        "mutes": len(config.mutes),
        "expired_mutes": len(expired),
    }
    if arguments.json:
        _print_json({"valid": True, **sums})
        return HELD
    entries = counted(sums["entries"], "entry", "entries")
    told = f"{counted(sums['rules'], 'rule')} in {entries}, {counted(sums['mutes'], 'mute')}"
    say(f"{arguments.config} is right: {told}")
    for mute in expired:
        say(f"  expired on {mute.until}, take it out: {mute.table} {mute.rule} ({mute.reason})")
    return HELD


def _mute(arguments: argparse.Namespace) -> int:
    read_config(arguments.config)
    report = _known_report(arguments.report)
    table = muting.known_rule(report, arguments.table, arguments.rule)
    mute = Mute(arguments.rule, written(table), arguments.reason, arguments.until, arguments.by)
    file = arguments.config / MUTES
    muting.add(file, table, mute, datetime.now(UTC).date())
    if arguments.json:
        _print_json({"file": str(file), "table": mute.table, "rule": mute.rule, "until": mute.until})
    else:
        say(f"{file}: {table} {mute.rule} is muted until {mute.until}. Have it reviewed: git diff {file}")
    return HELD


def _known_report(place: str | None) -> Report:
    """The report that knows which rules there are: a file, or the latest that was published."""
    bucket = os.environ.get("S3_DQ_REPORTS_BUCKET")
    if place is None and not bucket:
        raise UsageError(
            "received neither --report nor S3_DQ_REPORTS_BUCKET, expected a report that knows the rule",
            hint="set S3_DQ_REPORTS_BUCKET, or give the file of scripts/dq.py run --out report.json by --report",
        )
    uri = place or f"s3://{bucket}/{LATEST}"
    body = Path(uri).read_bytes() if place and Path(uri).exists() else None
    if place is None:
        with told(uri, hint="read it with rights on the bucket, or give a file by --report"):
            body = store.get(uri)
    if body is None:
        raise UsageError(f"{uri}: received nothing, expected a report", hint="scripts/dq.py run makes one")
    return store.parsed(Report, uri, body)


def _pattern(text: str) -> str:
    """A name or pattern of one to three parts."""
    try:
        if len(parts(text)) <= 3:
            return text
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"received {text!r}, expected DATABASE.SCHEMA.TABLE, or its last parts")
