#!/usr/bin/env python3
"""Show how every rule finds a table, without writing anything: a verdict is what the gates leave, not this.

With --run-id as that run's gate would (Bronze: the run's rows; Silver: the head, as the run promoted it); without it
a Silver or Gold table as it is now, and of a Bronze table the run that was judged last. With --native Great
Expectations looks at the stored rows itself, rule by rule, in place of the gate's single pass.

On a laptop it finds the running local stack by itself; elsewhere it is submitted like a job.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

REPO = Path(__file__).resolve().parents[1]
if (REPO / "src" / "lakehouse").is_dir():
    sys.path[:0] = [str(REPO / "src"), str(REPO)]

from lakehouse import cli, contracts  # noqa: E402  # the path to it is set just above
from lakehouse.contracts import Contract  # noqa: E402
from lakehouse.errors import EXIT_GATE, LakehouseError, NotCertified, UsageError  # noqa: E402
from lakehouse.landing import read_manifest  # noqa: E402
from lakehouse.quality import verdicts  # noqa: E402
from lakehouse.quality.verdicts import RuleResult, outcome_of  # noqa: E402
from lakehouse.runs import run_time  # noqa: E402
from lakehouse.settings import Settings, load_settings, settings_location  # noqa: E402

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_LAYERS = ("bronze", "silver", "gold")
_WIDEST = 60


def main(argv: Sequence[str] | None = None) -> int:
    """Print the rules of one table; 0 where none that stops is broken, 11 where one is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layer", required=True, choices=_LAYERS)
    parser.add_argument("--table", required=True, help="bare or dotted name, e.g. orders")
    parser.add_argument(
        "--native", action="store_true", help="let Great Expectations look at the rows itself"
    )
    parser.add_argument("--run-id", help="judge what this run wrote or promoted")
    parser.add_argument("--config", help="settings file, a path or s3:// URI (default: $LAKEHOUSE_CONFIG)")
    arguments = parser.parse_args(argv)
    if arguments.config is None and (REPO / "local").is_dir():
        from local.laptop import use_stack

        use_stack("run_ge_checks")
    try:
        settings = load_settings(settings_location(arguments.config))
        contract = _contract(settings, arguments.layer, arguments.table)
        results, about = _results(settings, contract, arguments.run_id, arguments.native)
    except LakehouseError as error:
        print(error.told("run_ge_checks"), file=sys.stderr)
        return error.exit_code
    except Exception as error:
        told = cli.recognised(error, arguments.config)
        if not isinstance(told, LakehouseError):
            raise
        print(told.told("run_ge_checks"), file=sys.stderr)
        return told.exit_code
    print(_report(contract, about, results))
    return EXIT_GATE if outcome_of(results) == "failed" else 0


def _contract(settings: Settings, layer: str, table: str) -> Contract:
    name = table if "." in table else f"{layer}.{table}"
    known = [each for each in contracts.names() if each.startswith(f"{layer}.")]
    if name not in known:
        raise UsageError(f"received --table {table}, expected one of {', '.join(known)}")
    return contracts.load(name).with_overrides(settings.dq_thresholds)


def _results(
    settings: Settings, contract: Contract, run_id: str | None, native: bool
) -> tuple[tuple[RuleResult, ...], str]:
    """What the rules find, and what they looked at, in words."""
    from lakehouse.delta.read import head, read
    from lakehouse.flows import gate
    from lakehouse.flows.known import require_known
    from lakehouse.quality import gx
    from lakehouse.session import spark_session

    if run_id is None and contract.layer == "bronze" and not native:
        run_id = _last_judged(settings, contract)
    if contract.layer == "gold" and run_id is not None:
        raise UsageError("received --run-id for a Gold table, expected none: Gold has no gate of its own")
    if run_id is not None:
        require_known(settings, run_id)
    at = datetime.now(UTC) if run_id is None else run_time(run_id)
    spark: SparkSession = spark_session("run_ge_checks", settings.lake_uri)
    live = head(spark, settings.table_uri(contract.name))
    if native:
        frame = read(spark, settings.table_uri(contract.name), live.version)
        about = f"version {live.version}, stored rows"
        if run_id is not None and contract.layer == "bronze":
            frame = frame.where(_rows_of(settings, contract, run_id))
            about += f" of run {run_id}"
        return gx.audit(frame, contract, at), about
    if contract.layer == "bronze" and run_id is not None:
        return gate.preview(spark, settings, "bronze", contract.name, run_id), f"run {run_id}"
    if contract.layer == "silver" and run_id is not None:
        return gate.preview(spark, settings, "silver", contract.name, run_id), f"as run {run_id} promoted it"
    return gate.judge_head(spark, settings, contract, live, at)[1], f"version {live.version}"


def _rows_of(settings: Settings, contract: Contract, run_id: str) -> str:
    """A run's rows in Bronze, as a predicate; its manifest tells where they do not carry its id."""
    manifest = read_manifest(settings, contract.table.split("_")[0], contract.table, run_id)
    state = manifest.state if manifest else {}
    return verdicts.rows_of([verdicts.CertifiedRun(run_id=run_id, state=state)])


def _last_judged(settings: Settings, contract: Contract) -> str:
    found = [each for each in verdicts.read_all(settings, contract.name) if each.judges]
    if not found:
        raise NotCertified(f"{contract.name}: no run has been judged yet", hint="name one: --run-id <run id>")
    return found[-1].run_id


def _report(contract: Contract, about: str, results: Sequence[RuleResult]) -> str:
    """The rules as a table, then what is broken, with sample rows."""
    from lakehouse.flows.gate import describe

    def cut(text: str) -> str:
        return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"

    rows = [("rule", "severity", "observed", "expected", "verdict")]
    rows += [
        (
            each.name,
            each.severity,
            cut(each.observed),
            cut(each.expected),
            "passed" if each.passed else "BROKEN",
        )
        for each in results
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [f"{contract.name} (contract {contract.version}), {about}", ""]
    lines += [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    lines += [
        "",
        f"{outcome_of(results)}: {sum(each.passed for each in results)} of {len(results)} rules hold",
    ]
    for each in results:
        if not each.passed:
            lines += describe(contract.name, each)
    hints = dict.fromkeys(each.hint for each in results if not each.passed and each.hint)
    lines += [f"What to do: {hint}" for hint in hints]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
