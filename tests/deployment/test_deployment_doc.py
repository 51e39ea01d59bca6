"""docs/deployment.md: every command in it exists, as every command of the runbook does."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from typing import Any

import pytest

from local import iam_policies
from local.runbook_check import command_problems, syntax
from local.shell_words import commands
from tests.support import REPO

TEXT = (REPO / "docs" / "deployment.md").read_text()
BLOCKS = re.findall(r"^```bash\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
#: `make deploy`, `scripts/release.py list`, `aws …` between backticks; a line may break inside.
INLINE = [
    " ".join(one.split())
    for one in re.findall(
        r"`((?:make|scripts/|aws |airflow |terraform )[^`]*)`",
        re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL),
    )
]


@pytest.mark.parametrize("script", [*BLOCKS, *INLINE])
def test_a_command_exists(script: str) -> None:
    assert syntax(script) is None
    found = [problem for one in commands(script) for problem in command_problems(one.words)]
    assert found == []


def test_there_are_commands_to_look_at() -> None:
    assert len(BLOCKS) >= 4
    assert len(INLINE) >= 20


FILES = set(re.findall(r"`((?:terraform|dags|emr_configs|requirements|jvm|config)/[\w./-]*)`", TEXT))


# dags/deployment.json is made by the activation of a release.
@pytest.mark.parametrize("path", sorted(FILES - {"dags/deployment.json"}))
def test_a_file_exists(path: str) -> None:
    assert (REPO / path).exists()


# -- Airflow's API ------------------------------------------------------------------------------------------------


def asked_of_airflow() -> list[tuple[str, str, Any]]:
    """Method, path and body of every call of the block, which is run with an aws that notes them."""
    (block,) = [block for block in BLOCKS if "invoke-rest-api" in block]
    noting = (
        'aws() { printf "%s\\0" "$@"; printf "\\n"; }\n'
        + f'python() {{ {shlex.quote(sys.executable)} "$@"; }}\n'
    )
    done = subprocess.run(
        ["bash", "-ec", noting + block], cwd=REPO, capture_output=True, text=True, check=True
    )
    found = []
    for line in done.stdout.splitlines():
        words = line.split("\0")[:-1]
        assert words[:4] == ["mwaa", "invoke-rest-api", "--name", "lakehouse"]
        options = dict(zip(words[4::2], words[5::2], strict=True))
        body = json.loads(options["--body"]) if "--body" in options else None
        found.append((options["--method"], options["--path"], body))
    return found


def test_airflow_takes_what_step_7_sends() -> None:
    from airflow.api_fastapi.core_api.datamodels.dag_run import TriggerDAGRunPostBody
    from airflow.api_fastapi.core_api.datamodels.dags import DAGPatchBody
    from airflow.api_fastapi.core_api.datamodels.pools import PoolBody

    models: dict[tuple[str, str], Any] = {
        ("POST", "/pools"): PoolBody,
        ("PATCH", "/dags/daily_batch_pipeline"): DAGPatchBody,
        ("POST", "/dags/daily_batch_pipeline/dagRuns"): TriggerDAGRunPostBody,
    }
    asked = asked_of_airflow()
    for method, path, body in asked:
        assert len(path) <= 64, "MWAA takes no longer one"
        assert body is None or models[method, path].model_validate(body)
    pools = json.loads((REPO / "dags" / "common" / "pools.json").read_text())
    made = {
        body["name"]: {k: v for k, v in body.items() if k != "name"}
        for _, path, body in asked
        if path == "/pools" and body
    }
    assert made == pools


# -- the roles of the workflows -------------------------------------------------------------------------------

ROLES = REPO / "docs" / "github-roles"
BOUNDARY = "arn:aws:iam::123456789012:policy/lakehouse-boundary"
WORKLOAD = "arn:aws:iam::123456789012:role/lakehouse-dev-emr-batch"


def documents() -> dict[str, str]:
    """What the block of step 9 hands to IAM, by the option's command and the role's or policy's name."""
    (block,) = [block for block in BLOCKS if "create-open-id-connect-provider" in block]
    noting = """aws() {
      case "$*" in *get-caller-identity*) echo 123456789012; return;; esac
      local name= document= command=$2
      while [ $# -gt 0 ]; do
        case $1 in --*-name) name=$name/$2;; --*policy-document) document=$2;; esac
        shift
      done
      [ -z "$document" ] || printf '%s\\0%s\\0' "$command$name" "$document"
    }
    """
    done = subprocess.run(
        ["bash", "-euc", noting + block], cwd=REPO, capture_output=True, text=True, check=True
    )
    parts = done.stdout.split("\0")[:-1]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def may(name: str, action: str, resource: str, **context: str) -> bool:
    found = iam_policies.parse("role", "policy", documents()[name])
    keys = {key.replace("_", ":"): value for key, value in context.items()}
    return iam_policies.may(found, "role", action, resource, keys)


def test_a_role_is_taken_by_one_environment_of_one_repository() -> None:
    found = {name: json.loads(text) for name, text in documents().items() if name.startswith("create-role")}
    assert {name: one["Statement"][0]["Condition"]["StringEquals"] for name, one in found.items()} == {
        f"create-role/github-lakehouse-{environment}": {
            "token.actions.githubusercontent.com:aud": "sts.amazonaws.com",
            "token.actions.githubusercontent.com:sub": f"repo:owner/repository:environment:{environment}",
        }
        for environment in ("dev", "dev-plan")
    }
    assert not re.search("ACCOUNT|REPOSITORY|ENVIRONMENT", "".join(documents().values()))


def test_a_deployment_grants_nothing_beyond_the_boundary() -> None:
    name = "put-role-policy/github-lakehouse-dev/workload-roles"
    assert may(name, "iam:CreateRole", WORKLOAD, iam_PermissionsBoundary=BOUNDARY)
    assert may(name, "iam:PutRolePolicy", WORKLOAD, iam_PermissionsBoundary=BOUNDARY)
    assert not may(name, "iam:CreateRole", WORKLOAD)
    assert not may(name, "iam:PutRolePolicy", WORKLOAD, iam_PermissionsBoundary=BOUNDARY + "-other")
    # Neither its own role, nor the boundary, nor that there is one.
    own = "arn:aws:iam::123456789012:role/github-lakehouse-dev"
    assert not may(name, "iam:PutRolePolicy", own, iam_PermissionsBoundary=BOUNDARY)
    assert not may(name, "iam:CreatePolicyVersion", BOUNDARY)
    assert not may(name, "iam:DeleteRolePermissionsBoundary", WORKLOAD, iam_PermissionsBoundary=BOUNDARY)
    assert not may(name, "iam:PassRole", WORKLOAD, iam_PassedToService="ec2.amazonaws.com")


def test_every_service_that_takes_a_role_is_handed_one() -> None:
    text = (REPO / "terraform" / "iam.tf").read_text()
    trusted = {who for line in re.findall(r"who = \[(.*?)\]", text) for who in re.findall(r'"([^"]+)"', line)}
    assert "emr-serverless.amazonaws.com" in trusted
    name = "put-role-policy/github-lakehouse-dev/workload-roles"
    for service in trusted:
        assert may(name, "iam:PassRole", WORKLOAD, iam_PassedToService=service), service


def test_below_the_boundary_nobody_changes_permissions() -> None:
    name = "create-policy/lakehouse-boundary"
    assert may(name, "s3:GetObject", "arn:aws:s3:::lakehouse-dev-lake-123456789012/gold/x")
    assert may(name, "iam:PassRole", WORKLOAD), "Airflow hands the jobs their role"
    for action in (
        "iam:PutRolePolicy",
        "iam:CreateUser",
        "iam:DeleteRolePermissionsBoundary",
        "sts:AssumeRole",
    ):
        assert not may(name, action, WORKLOAD), action


def test_who_plans_denies_itself_data_and_reads_the_state() -> None:
    name = "put-role-policy/github-lakehouse-dev-plan/no-data"
    denied = iam_policies.parse("role", "policy", documents()[name])
    assert not [one for one in denied if one.allow]
    for bucket in ("lake", "logs", "reports", "dq-reports"):
        place = f"arn:aws:s3:::lakehouse-dev-{bucket}-123456789012/x"
        assert any(one.applies("s3:GetObject", place, {}) for one in denied), bucket
    state = "arn:aws:s3:::lakehouse-dev-tfstate-123456789012/lakehouse/terraform.tfstate"
    assert not any(one.applies("s3:GetObject", state, {}) for one in denied)
    assert any(one.applies("secretsmanager:GetSecretValue", "x", {}) for one in denied)


def test_every_secret_is_named() -> None:
    names = re.findall(r'name = "([^"]+credentials)"', (REPO / "terraform" / "secrets.tf").read_text())
    assert len(names) >= 6
    for name in names:
        assert f"`{name.replace('${var.project}', 'lakehouse')}`" in TEXT
