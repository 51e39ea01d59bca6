"""Every command that the runbook prints exists; one that does not is named with its line."""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Iterator

import pytest

from lakehouse import submit
from lakehouse.submit import by_hand
from local import runbook_check
from local.runbook import RUNBOOK
from local.runbook_check import check, command_problems
from local.runbook_faults import FAULTS
from local.shell_words import commands
from local.stack import REPO


def problems(command: str) -> list[str]:
    return [said for found in commands(command) for said in command_problems(found.words)]


@pytest.mark.parametrize(
    "command",
    [
        "aws sts get-caller-identity",
        "aws --region eu-central-1 s3api get-bucket-policy --bucket b --query 'Policy' --output text",
        "aws s3 cp --recursive s3://a/ $OUT",
        "aws s3 ls",
        "aws emr-serverless start-job-run --cli-input-json file://run.json",
        "aws emr-serverless start-job-run --application-id a --execution-role-arn r",
        "aws emr-serverless list-job-runs --application-id a --states RUNNING $STATE",
        "aws secretsmanager put-secret-value --secret-id=a --secret-string file://x | cat",
        "aws secretsmanager delete-secret --secret-id a --no-force-delete-without-recovery",
        "aws s3api wait bucket-exists --bucket b",
        "aws configure list",
        "make query SQL='SELECT 1'",
        "scripts/emr_submit.sh snowflake_to_bronze --run-id $RUN",
        "scripts/emr_submit.sh $JOB --run-id $RUN",
        "scripts/emr_submit.sh recover rollback --table $TABLE --to-version $VERSION",
        "python3 scripts/recover.py status",
        "python -m local up",
        'airflow dags trigger recovery --conf \'{"action": "rerun", "run": "\'"$RUN"\'"}\'',
        "grep -n x y",
        "aws lambda invoke --function-name f --payload '{}' answer.json",
        "aws logs tail /aws/lambda/f --since 1h --follow --format short",
    ],
)
def test_commands_that_exist(command: str) -> None:
    assert problems(command) == []


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("aws emr-serverles list-job-runs", "emr-serverless"),
        ("aws emr-serverless list-job-run --application-id a", "list-job-runs"),
        ("aws emr-serverless list-job-runs", "needs --application-id"),
        ("aws emr-serverless list-job-runs --application a", "--application-id"),
        ("aws emr-serverless list-job-runs --application-id", "needs a value"),
        ("aws emr-serverless list-job-runs --application-id a --states RUNING", "expected one of"),
        ("aws s3api get-bucket-policy --bucket a b", "takes one value"),
        ("aws lambda invoke --function-name f --payload", "a file for what it answers"),
        ("aws lambda invoke --function f answer.json", "--function-name"),
        ("aws logs tail --since 1h", "received 0 log groups"),
        ("aws logs tail /aws/lambda/f --from 1h", "--format"),
        ("aws s3 copy a s3://b", "cp"),
        ("aws s3 cp a b", "no s3:// place"),
        ("aws s3 sync s3://a", "received 1 places"),
        ("aws s3api wait bucket-there --bucket b", "bucket-exists"),
        ("aws sts get-caller-identity --output yml", "expected one of"),
        ("echo $(aws sts whoami)", "get-caller-identity"),
        ("make querry", "no target querry"),
        ("make query SLQ=x", "nothing reads SLQ"),
        ("scripts/gone.sh", "there is no scripts/gone.sh"),
        ("scripts/emr_submit.sh snowflake_to_broze", "expected a file of jobs/ or one of"),
        ("scripts/emr_submit.sh cost --runs 3", "expected a file of jobs/ or one of"),
        ("scripts/emr_submit.sh backfill --source fx --since 2026-01-01", "arguments are required"),
        ("scripts/emr_submit.sh recover restore-silver --tabel silver.orders", "unrecognized arguments"),
        ("scripts/recover.py rollback --table silver.orders --to-version twelve", "invalid int"),
        ("jobs/snowflake_to_bronze.py --all", "unrecognized arguments"),
        ("python -m local.gone", "no module local.gone"),
        ("airflow dags trigger daily", "no DAG daily"),
        ("airflow dags trigger recovery --conf '{\"do\": 1}'", "no param do"),
        ("airflow dags trigger recovery --conf '{do: 1}'", "expected JSON"),
    ],
)
def test_commands_that_do_not_exist(command: str, said: str) -> None:
    found = problems(command)
    assert any(said in problem for problem in found), found


def test_trying_arguments_runs_nothing_and_leaves_the_process_as_it_was() -> None:
    before = list(sys.argv), dict(os.environ), list(sys.path)
    assert problems("scripts/emr_submit.sh apply_contracts") == []
    assert (list(sys.argv), dict(os.environ), list(sys.path)) == before


#: What stands for a value where the library puts one into a command that it prints.
VALUES = {
    "layer": "silver",
    "contract.layer": "silver",
    "table": "silver.orders",
    "source": "fx",
    "first": "2026-01-01",
    "last": "2026-01-02",
    "action": "status",
    "recovery.request.action": "status",
    "named_runs": "--run 1 --run 2",
    "flag": " --with-dependents",
}


PRINTED = re.compile(r"(?:(?:scripts|jobs)/\w+\.(?:py|sh)|(?<=`)make|^make) [^`;<…]*?(?=[`;<…]|   |$)")


def printed_commands() -> Iterator[str]:
    """Every command of ours in the strings of the library, from its program to the end, a backtick or a semicolon."""
    for path in sorted((REPO / "src" / "lakehouse").rglob("*.py")):
        if path.name == "submit.py":
            continue
        tree = ast.parse(path.read_text())
        documents = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        inner = {
            id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                text = "".join(map(_said, node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = "" if id(node) in inner | documents else node.value
            else:
                continue
            yield from PRINTED.findall(text)


def _said(part: ast.expr) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    assert isinstance(part, ast.FormattedValue)
    code = ast.unparse(part.value)
    if isinstance(part.value, ast.Call) and code.startswith("by_hand("):
        named = part.value.args[0]
        return by_hand(str(named.value) if isinstance(named, ast.Constant) else "dq_watchdog")
    return str(getattr(submit, code, VALUES.get(code, "1")))


def test_every_command_that_the_library_prints_exists() -> None:
    found = sorted(set(printed_commands()))
    assert len(found) > 20
    assert {command: said for command in found if (said := problems(command.strip()))} == {}
    loose = [
        each
        for each in found
        if each.startswith(("jobs/", "scripts/r", "scripts/q")) and "--help" not in each
    ]
    assert loose == [], "they would look for the local stack: lakehouse.submit.by_hand"


def test_a_script_that_bash_cannot_read_is_named() -> None:
    [problem] = check("<!-- by hand: a test -->\n```bash\nif true\n```\n")
    assert problem.line == 3
    assert "bash -n" in problem.message


def test_a_procedure_that_is_executed_needs_a_fault() -> None:
    document = (
        "### 1 A {#a}\n\n**Symptoms** s **Cause** c **Do** d\n\n<!-- run -->\n```bash\ntrue\n```\n\n"
        "**It worked when** w\n"
    )
    assert check(document, {"a"}) == []
    assert [p.message for p in check(document, {"b"})] == [
        "a has a run block and no fault: add one to local/runbook_faults.py",
        "there is a fault b and no procedure of that name",
    ]


def test_dags_are_read_from_their_source() -> None:
    found = runbook_check.dag_params()
    assert {"daily_batch_pipeline", "recovery", "streaming_ingest"} <= found.keys()
    assert {"action", "table", "run"} <= found["recovery"]


def test_the_runbook() -> None:
    assert [str(problem) for problem in check(RUNBOOK.read_text(encoding="utf-8"))] == []


def test_every_procedure_of_the_runbook_that_runs_has_a_fault() -> None:
    assert check(RUNBOOK.read_text(encoding="utf-8"), FAULTS) == []
