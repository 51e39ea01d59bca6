"""The targets for an account, by what they would do: nothing of it is done."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support import REPO

TARGETS = {
    "check-prerequisites": "aws sts get-caller-identity",
    "first-time-setup": "aws s3api create-bucket --bucket lakehouse-dev-tfstate-111111111111",
    "init": "terraform -chdir=terraform init",
    "plan": "-var-file=environments/dev.tfvars -out=dev.tfplan",
    "deploy": "terraform -chdir=terraform apply -input=false dev.tfplan",
    "destroy": "terraform -chdir=terraform plan -destroy",
    "build-all": "scripts/release.py --environment dev activate",
    "rollback": "scripts/release.py --environment dev rollback",
    "deploy-services": "docker push 111111111111.dkr.ecr.eu-central-1.amazonaws.com/report-service:",
    "start-services": "--service analytics-app --desired-count 1",
    "stop-services": "--service analytics-app --desired-count 0",
    "restart-services": "--service dq-platform-dashboard --force-new-deployment",
    "status": "aws emr-serverless list-applications",
    "get-urls": "terraform -chdir=terraform output services",
    "logs-report": "aws logs tail /ecs/report-service",
    "logs-streamlit": "aws logs tail /ecs/analytics-app",
}
GUIDE = {*TARGETS, "up", "down", "test-local", "test-local-down"}
MAKEFILE = (REPO / "Makefile").read_text()


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """Stand-ins for aws, docker and terraform, which say that they were called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("aws", "docker", "terraform"):
        (folder / name).write_text(f"#!/bin/sh\necho called >> {tmp_path}/called\nexit 1\n")
        (folder / name).chmod(0o755)
    return folder


def run(tools: Path, target: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(REPO / "scripts" / "aws.sh"), target],
        env={"PATH": f"{tools}:{os.environ['PATH']}"} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("target", TARGETS)
def test_a_dry_run_says_what_it_would_do_and_calls_nothing(target: str, tools: Path) -> None:
    done = run(tools, target, DRY_RUN="1")
    assert done.returncode == 0, done.stderr
    assert TARGETS[target] in done.stdout
    assert not (tools.parent / "called").exists()


@pytest.mark.parametrize("target", sorted(GUIDE))
def test_the_guides_targets_are_in_the_makefile_with_a_word_about_each(target: str) -> None:
    assert re.search(rf"^{target}:.*## \S", MAKEFILE, re.MULTILINE)


def test_prod_is_chosen_by_name_and_another_environment_refused(tools: Path) -> None:
    assert "lakehouse-prod-tfstate-222222222222" in run(tools, "init", DRY_RUN="1", ENV="prod").stdout
    done = run(tools, "init", DRY_RUN="1", ENV="staging")
    assert (done.returncode, done.stderr.strip()) == (1, "received ENV=staging, expected dev or prod")


def test_nothing_is_destroyed_without_its_name(tools: Path) -> None:
    done = run(tools, "destroy")
    assert done.returncode == 1
    assert "make destroy ENV=dev CONFIRM=dev" in done.stderr
    assert not (tools.parent / "called").exists()


def test_the_application_is_stopped_before_it_is_destroyed(tools: Path) -> None:
    lines = run(tools, "destroy", DRY_RUN="1").stdout.splitlines()
    assert "emr-serverless stop-application" in lines[0]
    assert "plan -destroy" in lines[1]


def test_one_service_alone(tools: Path) -> None:
    done = run(tools, "stop-services", DRY_RUN="1", SERVICE="report-service")
    assert done.stdout.count("update-service") == 1


def test_the_states_bucket_takes_no_request_without_tls(tools: Path) -> None:
    done = run(tools, "first-time-setup", DRY_RUN="1")
    (line,) = [line for line in done.stdout.splitlines() if "put-bucket-policy" in line]
    policy = json.loads(shlex.split(line)[-1])
    assert [one["Effect"] for one in policy["Statement"]] == ["Deny"]
    assert policy["Statement"][0]["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert policy["Statement"][0]["Resource"][1] == "arn:aws:s3:::lakehouse-dev-tfstate-111111111111/*"


# -- beside an account that answers ---------------------------------------------------------------------------

OUTPUT = {"repositories": {"dq-platform-dashboard": "url"}, "desired_count": 2}
AWS = """#!/bin/bash
echo "aws $* in $AWS_REGION $AWS_DEFAULT_REGION" >> "$CALLED"
case "$*" in
--version) echo "aws-cli/$AWS_VERSION Python/3.12" ;;
*get-caller-identity*) echo "$CALLER" ;;
esac
"""
TERRAFORM = """#!/bin/bash
echo "terraform $*" >> "$CALLED"
case "$*" in
version) printf 'Terraform v%s\non linux_amd64\n' "$TERRAFORM_VERSION" ;;
*"output -json services") printf '%s' "$OUTPUT" ;;
*show*) echo "a plan" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """aws.sh in a checkout of its own, initialised for dev, with an aws and a terraform that note what they hear."""
    for folder in ("scripts", "terraform/environments", "terraform/.terraform", "bin"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(REPO / "scripts" / "aws.sh", tmp_path / "scripts")
    example = (REPO / "terraform" / "environments" / "dev.tfvars.example").read_text()
    (tmp_path / "terraform/environments/dev.tfvars").write_text(example.replace("eu-central-1", "eu-west-1"))
    backend = {"backend": {"type": "s3", "config": {"bucket": "lakehouse-dev-tfstate-111111111111"}}}
    (tmp_path / "terraform/.terraform/terraform.tfstate").write_text(json.dumps(backend, indent=2))
    for name, text in {"aws": AWS, "terraform": TERRAFORM, "docker": "#!/bin/sh\n"}.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def real(
    checkout: Path, target: str, **environment: str
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """What a target says, and what it called."""
    known = {
        "PATH": f"{checkout / 'bin'}:{os.environ['PATH']}",
        "CALLED": str(checkout / "called"),
        "OUTPUT": json.dumps(OUTPUT),
        "CALLER": "111111111111",
        "AWS_VERSION": "2.31.0",
        "TERRAFORM_VERSION": "1.11.4",
    }
    command = [str(checkout / "scripts" / "aws.sh"), target]
    done = subprocess.run(command, env=known | environment, capture_output=True, text=True, timeout=120)
    called = checkout / "called"
    return done, called.read_text().splitlines() if called.exists() else []


def test_only_services_that_are_enabled_are_started_with_the_tasks_that_terraform_says(
    checkout: Path,
) -> None:
    done, called = real(checkout, "start-services")
    assert done.returncode == 0, done.stderr
    scaled = [line for line in called if "update-service" in line]
    assert len(scaled) == 1
    assert "--service dq-platform-dashboard --desired-count 2" in scaled[0]
    assert (
        "ecs wait services-stable --cluster lakehouse-dev --services dq-platform-dashboard in" in called[-2]
    )
    assert "describe-services" in called[-1]


@pytest.mark.parametrize(("output", "asked"), [(OUTPUT, 1), ({"repositories": {}}, 0)], ids=["on", "off"])
def test_the_status_tells_of_the_dq_runner_where_it_is(
    checkout: Path, output: dict[str, object], asked: int
) -> None:
    (checkout / "scripts" / "release.py").write_text("")
    done, called = real(checkout, "status", OUTPUT=json.dumps(output))
    assert done.returncode == 0, done.stderr
    assert len([line for line in called if "--function-name dq-platform-runner" in line]) == asked


@pytest.mark.parametrize("target", ["start-services", "stop-services", "restart-services", "deploy-services"])
def test_where_no_service_is_enabled_none_is_asked_for(target: str, checkout: Path) -> None:
    done, called = real(checkout, target, OUTPUT='{"repositories": {}}')
    assert done.returncode == 1
    assert "no service is enabled in terraform/environments/dev.tfvars" in done.stderr
    assert [line for line in called if line.startswith("aws")] == []


def test_every_command_asks_the_region_of_the_environment(checkout: Path) -> None:
    _, called = real(checkout, "stop-services", AWS_REGION="us-east-1", AWS_DEFAULT_REGION="us-east-1")
    assert [
        line for line in called if line.startswith("aws") and not line.endswith("in eu-west-1 eu-west-1")
    ] == []


@pytest.mark.parametrize(
    "target",
    ["plan", "deploy", "build-all", "rollback", "status", "get-urls", "start-services", "deploy-services"],
)
def test_another_environments_state_is_not_touched(target: str, checkout: Path) -> None:
    state = checkout / "terraform/.terraform/terraform.tfstate"
    state.write_text(state.read_text().replace("dev-tfstate-111111111111", "prod-tfstate-222222222222"))
    done, called = real(checkout, target)
    assert (done.returncode, called) == (1, [])
    assert (
        "terraform/ is initialised for lakehouse-prod-tfstate-222222222222, "
        "expected the state in lakehouse-dev-tfstate-111111111111: make init ENV=dev" in done.stderr
    )
    state.unlink()
    done, called = real(checkout, target)
    assert (done.returncode, called) == (1, [])
    assert "initialised for nothing" in done.stderr


def test_nothing_but_the_plan_that_was_approved_is_applied(checkout: Path) -> None:
    done, called = real(checkout, "deploy", APPROVED_PLAN="0" * 64)
    assert done.returncode == 1
    assert "the plan is another than the one that was approved" in done.stderr
    assert [line for line in called if " apply " in line] == []
    approved = hashlib.sha256(b"a plan\n").hexdigest()
    done, called = real(checkout, "deploy", APPROVED_PLAN=approved)
    assert done.returncode == 0, done.stderr
    assert called[-1] == "terraform -chdir=terraform apply -input=false dev.tfplan"


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "ok       credentials of account 111111111111"),
        ({"TERRAFORM_VERSION": "1.10.5"}, "too old  terraform 1.10.5, expected 1.11 or newer"),
        ({"TERRAFORM_VERSION": "1.12.0"}, "ok       terraform 1.12.0"),
        ({"AWS_VERSION": "1.45.11"}, "too old  aws 1.45.11, expected 2.0 or newer"),
        ({"CALLER": "222222222222"}, "wrong    credentials are 222222222222, account_id of terraform/"),
    ],
)  # fmt: skip
def test_versions_and_account_are_checked(environment: dict[str, str], said: str, checkout: Path) -> None:
    done, _ = real(checkout, "check-prerequisites", **environment)
    assert said in done.stdout
    assert done.returncode == (0 if said.startswith("ok") else 1)


def test_the_default_region_is_terraforms() -> None:
    variables = (REPO / "terraform" / "variables.tf").read_text()
    (default,) = re.findall(r'variable "region" \{.*?default += "([^"]+)"', variables, re.DOTALL)
    assert f"${{found:-{default}}}" in (REPO / "scripts" / "aws.sh").read_text()


# -- workflows ------------------------------------------------------------------------------------------------

WORKFLOWS = sorted((REPO / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_actions_are_pinned_by_commit_and_may_do_nothing_by_default(path: Path) -> None:
    text = path.read_text()
    uses = re.findall(r"uses: (?!\./)(\S+)(.*)", text)
    assert uses
    assert [name for name, _ in uses if not re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", name)] == []
    assert [name for name, comment in uses if not re.fullmatch(r" # v\d+\.\d+\.\d+", comment)] == []
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {}
    for name, job in workflow["jobs"].items():
        if "uses" in job:  # a workflow of this repository, which is looked at by itself
            assert job["permissions"] == {"contents": "read"}
            continue
        # A deployment waits for MWAA, on credentials of 120 minutes; nothing else may take so long.
        assert job["timeout-minutes"] <= (150 if job.get("environment") in ("dev", "prod") else 90)
        assert set(job["permissions"]) <= {"actions", "attestations", "contents", "id-token"}
        assert job["permissions"]["contents"] == "read"
        # Only who talks to the account gets a token for it, in an environment that the role's trust names; and who has
        # GitHub sign what was built, which no role of the account trusts. Nobody else writes anything.
        writes = {right for right, how in job["permissions"].items() if how == "write"}
        assert writes == (
            {"id-token", "attestations"}
            if name == "attest"
            else {"id-token"}
            if "environment" in job
            else set()
        )
    assert not re.search(r"\$\{\{ *secrets\.|AWS_SECRET|aws-secret-access-key", text)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_no_step_pastes_what_others_wrote_into_a_shell(path: Path) -> None:
    for job in yaml.safe_load(path.read_text())["jobs"].values():
        for step in job.get("steps", []):
            assert "${{" not in step.get("run", "")


DEPLOY = yaml.safe_load((REPO / ".github" / "workflows" / "deploy.yml").read_text())["jobs"]


@pytest.mark.parametrize("name", ["dev", "prod"])
def test_credentials_last_as_long_as_a_deployment_may(name: str) -> None:
    (credentials,) = [
        step["with"] for step in DEPLOY[name]["steps"] if "configure-aws" in step.get("uses", "")
    ]
    assert credentials["role-duration-seconds"] == 7200
    steps = [step.get("run", "") for step in DEPLOY[name]["steps"]]
    shipping = [step for step in steps if "release.py" in step]
    assert [step.split()[-1] for step in shipping] == ["check", "upload", "activate"]
    assert all('--environment "$ENV"' in step for step in shipping)


def test_who_waits_for_an_approval_keeps_nobody_from_dev() -> None:
    workflow = yaml.safe_load((REPO / ".github" / "workflows" / "deploy.yml").read_text())
    assert "concurrency" not in workflow
    inside = [job["concurrency"]["group"] for job in DEPLOY.values() if "environment" in job]
    assert len(set(inside)) == len(inside) == 3
    assert not DEPLOY["dev"]["concurrency"]["cancel-in-progress"]
    assert not DEPLOY["prod"]["concurrency"]["cancel-in-progress"]


def test_prod_gets_the_plan_that_its_reviewers_have_seen() -> None:
    assert DEPLOY["prod-plan"]["environment"] == "prod-plan"
    assert "prod-plan" in DEPLOY["prod"]["needs"]
    assert DEPLOY["prod"]["env"]["APPROVED_PLAN"] == "${{ needs.prod-plan.outputs.sha256 }}"
    assert "APPROVED_PLAN" not in DEPLOY["dev"]["env"]
    (plan,) = [step["run"] for step in DEPLOY["prod-plan"]["steps"] if step.get("id") == "plan"]
    assert 'show -no-color "$ENV.tfplan" > plan.txt' in plan
    assert "GITHUB_STEP_SUMMARY" in plan


def test_prod_gets_what_was_proved() -> None:
    """Each proof is a target of the Makefile, run on the commit that is deployed, and on main every night."""
    proofs = yaml.safe_load((REPO / ".github" / "workflows" / "proofs.yml").read_text())
    assert DEPLOY["proofs"]["uses"] == "./.github/workflows/proofs.yml"
    assert "proofs" in DEPLOY["prod"]["needs"]
    assert {"schedule", "workflow_call"} <= set(proofs[True])  # YAML 1.1 reads the key `on` as true
    (job,) = proofs["jobs"].values()
    checkout = job["steps"][0]["with"]
    assert checkout["ref"] == "${{ github.event.workflow_run.head_sha || github.sha }}"
    targets = {proof.split()[0] for proof in job["strategy"]["matrix"]["proof"]}
    assert "proofs" in targets
    assert [target for target in targets if not re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)] == []


def test_one_version_of_the_provider_is_deployed_and_another_tested() -> None:
    root = (REPO / "terraform" / "versions.tf").read_text()
    (deployed,) = re.findall(r'source  = "hashicorp/aws"\n +version = "([^"]+)"', root)
    assert re.fullmatch(r"\d+\.\d+\.\d+", deployed)
    ci = yaml.safe_load((REPO / ".github" / "workflows" / "ci.yml").read_text())["jobs"]["provider"]
    versions = ci["strategy"]["matrix"]["provider"]
    assert deployed in versions
    assert {version.partition(".")[0] for version in versions} == {"5", "6"}


def test_the_same_action_is_the_same_commit_everywhere() -> None:
    pins = {use for path in WORKFLOWS for use in re.findall(r"uses: (?!\./)(\S+)", path.read_text())}
    assert len(pins) == len({pin.partition("@")[0] for pin in pins})


def test_everything_that_is_shipped_is_audited() -> None:
    """Packages of the jobs, of the runner's zip, of the dashboard's image; code of all of them."""
    script = (REPO / "scripts" / "security_check.sh").read_text()
    (shipped,) = re.findall(r"^for shipped in (.*); do$", script, re.MULTILINE)
    locks = {path.stem for path in (REPO / "requirements").glob("*.txt")}
    # What stays on a developer's machine or in CI.
    assert set(shipped.split()) == locks - {"dev", "lock", "clients", "deploy"}
    (folders,) = re.findall(r"--confidence-level medium (.*)$", script, re.MULTILINE)
    assert set(folders.split()) == {"src", "jobs", "dags", "scripts", "services"}
