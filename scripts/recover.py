#!/usr/bin/env python3
"""Put things right after a failure: see what needs attention, and do it by one command each. How to: docs/recovery.md.

Without --apply a command shows what it would do and writes nothing. Applied, it names who and why, leaves a row in
ops.recovery_log, and can be repeated with the same --run-id wherever it was killed. On a laptop it finds the running
local stack by itself; elsewhere it is submitted like a job (DAG recovery).
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

REPO = Path(__file__).resolve().parents[1]
if (REPO / "src" / "lakehouse").is_dir():
    sys.path[:0] = [str(REPO / "src"), str(REPO)]

from lakehouse import cli  # noqa: E402  # the path to what follows is set just above
from lakehouse.bounded import described  # noqa: E402
from lakehouse.cli import Job  # noqa: E402
from lakehouse.errors import EXIT_UNEXPECTED, LakehouseError, UsageError  # noqa: E402
from lakehouse.observe.outcome import Outcome  # noqa: E402
from lakehouse.runs import new_run_id, run_time  # noqa: E402
from lakehouse.settings import load_settings, settings_location  # noqa: E402

if TYPE_CHECKING:
    from lakehouse.flows.recovery.base import Action, Request

JOB = "recover"
# Parameters of the DAG, and the options of those that are called otherwise here.
_PARAMS = frozenset(
    {
        *("apply", "by", "why", "table", "run", "accept", "version", "time", "job", "topic", "subject"),
        *("reload", "with_dependents"),
    }
)
_OPTIONS = {"version": "--to-version", "time": "--to-time"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. 0, or the exit code of lakehouse.errors with one message and the next step on stderr."""
    try:
        arguments = _arguments(argv)
    except UsageError as error:
        print(error.told(JOB), file=sys.stderr)
        return error.exit_code
    if arguments.config is None and (REPO / "local").is_dir():
        from local.laptop import use_stack

        use_stack(JOB, "kafka")
    try:
        arguments.config = settings_location(arguments.config)
        request = _request(arguments)
        applies = getattr(arguments, "apply", False)
        if applies and not (request.by.strip() and request.why.strip()):
            raise UsageError(
                "received --apply without --by and --why, expected who does it and why",
                hint='add --by "$USER" --why "what others will understand in a year"',
            )
        return _run(arguments, request, applies)
    except LakehouseError as error:
        print(error.told(JOB), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        told = cli.recognised(error, arguments.config)
        if isinstance(told, LakehouseError):
            print(told.told(JOB), file=sys.stderr)
            return told.exit_code
        print(f"{JOB}: UNEXPECTED: {described(error)}", file=sys.stderr)
        print(
            "What to do: look whether the lake can be reached (`make local-status`), and try again",
            file=sys.stderr,
        )
        return EXIT_UNEXPECTED


def _run(arguments: argparse.Namespace, request: Request, applies: bool) -> int:
    """As a job, with outcome and lineage, where it writes or Airflow waits for it; else just look."""
    from lakehouse.flows.recovery import base

    action = _action(request.action)

    def story(job: Job) -> None:
        logging.getLogger("lakehouse").setLevel(logging.WARNING)
        base.recover(job, action, request, apply=applies, tell=print)

    if applies or arguments.airflow_dag_id is not None:
        arguments.run_id = arguments.run_id or new_run_id(datetime.now(UTC))
        print(f"Recovery {arguments.run_id}")
        return cli.run(JOB, story, arguments)
    run_id = arguments.run_id or new_run_id(datetime.now(UTC))
    outcome = Outcome(job=JOB, run_id=run_id, started_at=run_time(run_id))
    story(Job(JOB, load_settings(arguments.config), run_id, outcome, arguments))
    if hasattr(arguments, "apply") and not getattr(arguments, "status", False):
        print('Nothing was written. To do it, add: --apply --by "$USER" --why "your reason"')
    return 0


def _action(name: str) -> Action:
    from lakehouse.flows.recovery import erase, gold, repair, rerun, runs, silver, status, stream, versions

    actions: dict[str, Action] = {
        "status": status.print_status,
        "rerun": rerun.rerun,
        "recertify": runs.recertify,
        "discard": runs.discard,
        "restore-silver": silver.restore_silver,
        "rebuild-gold": gold.rebuild_gold,
        "repair": repair.repair,
        "rollback": versions.rollback,
        "complete-publication": gold.complete_publication,
        "recover-checkpoint": stream.recover_checkpoint,
        "erase": erase.erase,
    }
    return actions[name]


def _request(arguments: argparse.Namespace) -> Request:
    from lakehouse.flows.recovery.base import Request
    from lakehouse.flows.recovery.versions import parse_time

    given = vars(arguments)
    table = given.get("table")
    if table is not None and "." not in table:
        table = f"{'silver' if arguments.action == 'restore-silver' else 'bronze'}.{table}"
    time = given.get("to_time")
    return Request(
        action=arguments.action,
        table=table,
        runs=tuple(given.get("run") or ()),
        accept=tuple(given.get("accept") or ()),
        version=given.get("to_version"),
        time=None if time is None else parse_time(time),
        reload=given.get("reload", False),
        with_dependents=given.get("with_dependents", False),
        job=given.get("job"),
        topic=given.get("topic"),
        subject=_subject(arguments) if arguments.action == "erase" else None,
        by=given.get("by") or "",
        why=given.get("why") or "",
        identity=given.get("submitted_by") or "",
    )


def _subject(arguments: argparse.Namespace) -> str | None:
    if (arguments.subject is None) == (not arguments.status):
        raise UsageError("expected one of --subject SOURCE:ID and --status")
    subject: str | None = arguments.subject
    return subject


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line; where it says ``from-params``, the command that a DAG run's parameters come to."""
    parser = _parser()
    found = parser.parse_args(argv)
    if found.action != "from-params":
        return found
    given = list(sys.argv[1:] if argv is None else argv)
    return parser.parse_args([*given[: given.index("from-params")], *command_of(found.params)])


def command_of(params: str) -> list[str]:
    """The arguments that parameters of the DAG (JSON) stand for; those that are not given are left out.

    Raises UsageError for any other: who triggers a DAG names neither the settings nor whom AWS takes them for.
    """
    try:
        given = json.loads(params)
        command = [str(given.pop("action"))]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise UsageError(
            f"received the parameters {params!r}, expected a JSON object with an action"
        ) from None
    given.pop("run_id", None)
    if unknown := sorted(given.keys() - _PARAMS):
        raise UsageError(
            f"received the parameters {', '.join(unknown)}, expected none but {', '.join(sorted(_PARAMS))}"
        )
    for name, value in given.items():
        option = _OPTIONS.get(name, f"--{name.replace('_', '-')}")
        if value is True:
            command.append(option)
        elif name in ("run", "accept"):
            command += [f"{option}={each}" for each in (value or "").split()]
        elif value is not None and value is not False and value != "":
            command.append(f"{option}={value}")
    return command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/recover.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    cli.job_options(parser, needs_config=False)
    commands = parser.add_subparsers(dest="action", required=True, metavar="command")

    def add(name: str, help: str, *, writes: bool = True) -> Any:
        sub = commands.add_parser(name, help=help, description=help, allow_abbrev=False)
        # Before or behind the command, as one types.
        sub.add_argument("--config", default=argparse.SUPPRESS, help="settings file, a path or s3:// URI")
        sub.add_argument(
            "--run-id", default=argparse.SUPPRESS, help="repeat this recovery where it was killed"
        )
        if writes:
            sub.add_argument("--apply", action="store_true", help="do it (default: show what would be done)")
            sub.add_argument("--by", help="who does it")
            # Given by scripts/emr_submit.py: the job itself runs as its role.
            sub.add_argument("--submitted-by", default="", help=argparse.SUPPRESS)
            sub.add_argument("--why", help="kept in ops.recovery_log")
        return sub

    def runs(sub: Any, help: str, **more: Any) -> None:
        sub.add_argument("--run", action="append", help=help, **more)

    add("status", "what needs attention, with the command to type next", writes=False)
    rerun = add("rerun", "a job of an earlier run again, under that run's id")
    rerun.add_argument("--job", required=True, help="e.g. snowflake_to_bronze")
    runs(rerun, "the run", required=True)
    recertify = add("recertify", "judge a refused run again, and take it in as it is")
    recertify.add_argument("--table", required=True, help="Bronze or Silver table")
    runs(recertify, "the run that was refused", required=True)
    recertify.add_argument(
        "--accept", action="append", metavar="RULE", help="a critical rule that does not hold"
    )
    discard = add("discard", "runs count no longer, and their window is extracted again")
    discard.add_argument("--table", required=True, help="Bronze table")
    runs(discard, "a run; repeat it for several", required=True)
    discard.add_argument("--with-dependents", action="store_true", help="make Silver anew without them")
    restore = add("restore-silver", "make Silver anew from certified Bronze")
    restore.add_argument("--table", help="Silver table (default: all)")
    restore.add_argument("--reload", action="store_true", help="first load Bronze again from its landing")
    runs(restore, "with --reload: a Bronze run (default: all certified)")
    repair = add("repair", "a table of which objects are missing or broken, readable again")
    repair.add_argument("--table", required=True, help="any table, dotted")
    add("rebuild-gold", "publish certified Silver anew")
    rollback = add("rollback", "a Silver table, or all of Gold, back to a certified version")
    rollback.add_argument("--table", required=True, help="Silver or Gold table, dotted")
    rollback.add_argument("--to-version", type=int, help="version that was certified or published")
    rollback.add_argument("--to-time", help="what was certified or published then, ISO 8601 (UTC)")
    rollback.add_argument(
        "--with-dependents", action="store_true", help="of Silver: publish Gold anew from it"
    )
    add("complete-publication", "finish a publication that was cut off")
    checkpoint = add("recover-checkpoint", "put a lost or broken checkpoint of the stream aside")
    checkpoint.add_argument("--topic", required=True, help="sources.kafka.topic")
    erase = add("erase", "a person out of landing, quarantine, Bronze, Silver and Gold")
    erase.add_argument("--subject", help="hubspot:<contact id> or salesforce:<account or lead id>")
    erase.add_argument("--status", action="store_true", help="how far erasures are")
    params = add("from-params", "what a run of the DAG recovery was asked, as JSON", writes=False)
    params.add_argument("params")
    return parser


if __name__ == "__main__":
    sys.exit(main())
