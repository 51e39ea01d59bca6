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
    from airflow.api_fastapi.core_api.datamodels.dags import DAGPatchBody
    from airflow.api_fastapi.core_api.datamodels.pools import PoolBody

    models: dict[tuple[str, str], Any] = {
        ("POST", "/pools"): PoolBody,
        ("PATCH", "/dags/daily_batch_pipeline"): DAGPatchBody,
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
OTHERS = "arn:aws:iam::123456789012:role/OrganizationAccountAccessRole"
WORKLOAD = "arn:aws:iam::123456789012:role/lakehouse-dev-emr-ingest"


def documents() -> dict[str, str]:
    """What the block of step 9 hands to IAM, in both accounts, by the command and the role's or policy's name."""
    (block,) = [block for block in BLOCKS if "create-open-id-connect-provider" in block]
    return handed(block.replace("ENV=dev", "ENV=prod")) | handed(block)


def handed(block: str) -> dict[str, str]:
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


def test_a_role_is_taken_by_one_environment_of_one_repository_and_by_one_workflow() -> None:
    found = {
        name.rpartition("/")[2]: json.loads(text)["Statement"][0]["Condition"]
        for name, text in documents().items()
        if name.startswith("create-role")
    }
    claim = "token.actions.githubusercontent.com:"
    workflow = "owner/repository/.github/workflows/"
    main = {"ref": "refs/heads/main", "job_workflow_ref": f"{workflow}deploy.yml@refs/heads/main"}
    for environment, more in (("dev", main), ("dev-plan", {}), ("prod", main), ("prod-plan", main)):
        assert found[f"github-lakehouse-{environment}"]["StringEquals"] == {
            f"{claim}{name}": value
            for name, value in {
                "aud": "sts.amazonaws.com",
                "sub": f"repo:owner/repository:environment:{environment}",
                **more,
            }.items()
        }
    # A pull request has no branch of ours: it may plan dev, by the one workflow that does.
    assert found["github-lakehouse-dev-plan"]["StringLike"] == {
        f"{claim}job_workflow_ref": f"{workflow}plan.yml@*"
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
    assert not may(name, "iam:PassRole", OTHERS)
    for action in (
        "iam:PutRolePolicy",
        "iam:CreateUser",
        "iam:DeleteRolePermissionsBoundary",
        "iam:ResetServiceSpecificCredential",
        "iam:DeactivateMFADevice",
        "iam:TagRole",
        "sts:AssumeRole",
        "sts:AssumeRoot",
    ):
        assert not may(name, action, WORKLOAD), action


def test_a_deployment_takes_and_hands_on_no_role_of_others() -> None:
    """Beside PowerUserAccess, which allows to assume whatever trusts the account."""
    name = "put-role-policy/github-lakehouse-dev/workload-roles"
    power = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    own = iam_policies.parse("role", "policy", documents()[name])
    found = own + iam_policies.parse("role", "power", json.dumps({"Statement": [power]}))
    assert not iam_policies.may(found, "role", "sts:AssumeRole", OTHERS)
    assert not iam_policies.may(found, "role", "sts:AssumeRoot", "arn:aws:iam::210987654321:root")
    assert not iam_policies.may(found, "role", "iam:PassRole", OTHERS)
    assert not iam_policies.may(found, "role", "iam:PassRole", WORKLOAD.replace("-dev-", "-prod-"))
    assert iam_policies.may(found, "role", "sts:AssumeRole", WORKLOAD)


def test_who_plans_has_a_list_of_what_it_may_read_and_no_more() -> None:
    name = "put-role-policy/github-lakehouse-dev-plan/settings"
    found = iam_policies.parse("role", "policy", documents()[name])
    assert not any("*" in action for one in found for action in one.actions)
    reads = re.compile(r"[a-z0-9-]+:(Get|List|Describe|View)[A-Za-z]*|s3:GetObject")
    assert [
        action for one in found if one.allow for action in one.actions if not reads.fullmatch(action)
    ] == []
    state = "arn:aws:s3:::lakehouse-dev-tfstate-123456789012"
    assert may(name, "s3:GetObject", f"{state}/lakehouse/terraform.tfstate")
    assert may(name, "iam:GetRolePolicy", WORKLOAD)
    assert may(name, "secretsmanager:DescribeSecret", "x", aws_ResourceAccount="123456789012")
    for bucket in ("lake", "code", "logs", "reports", "dq-reports", "trail"):
        assert not may(name, "s3:GetObject", f"arn:aws:s3:::lakehouse-dev-{bucket}-123456789012/x"), bucket
    for action in (
        *(
            "secretsmanager:GetSecretValue",
            "s3:PutObject",
            "sts:AssumeRole",
            "kms:Decrypt",
            "logs:GetLogEvents",
        ),
        *(
            "athena:GetQueryResults",
            "dynamodb:GetItem",
            "lambda:InvokeFunction",
            "iam:PassRole",
            "ec2:RunInstances",
        ),
    ):
        assert not may(name, action, "x", aws_ResourceAccount="123456789012"), action
    attached = [block for block in BLOCKS if "attach-role-policy" in block and "ReadOnlyAccess" in block]
    assert attached == []


def test_every_secret_is_named() -> None:
    names = re.findall(r'name = "([^"]+credentials)"', (REPO / "terraform" / "secrets.tf").read_text())
    assert len(names) == 5
    for name in names:
        assert f"`{name.replace('${var.project}', 'lakehouse')}`" in TEXT
