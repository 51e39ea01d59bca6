"""Terraform's files on the local AWS, unchanged: applied, planned again without a difference, destroyed.

    python -m local.terraform            apply, plan again, evaluate the policies, destroy; then nothing is left
    python -m local.terraform --keep     leave it applied, and the AWS running (make test-local-down ends both)
    python -m local.terraform --down     end what --keep left

Twice applied, as in an account: first the lake and what runs on it, then Airflow and the services. Between the two the
release of this checkout is shipped, and the first jobs of docs/deployment.md run from it alone, where its Python
packages are built (scripts/build_zip.sh --python).
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local import iam_policies
from local.aws import server
from local.query import QueryFailed, ask_athena
from local.stack import REPO, choose_ports
from local.supervisor import ServiceError, Supervisor, base_environment
from scripts import release

ACCOUNT = "123456789012"
BACKEND_BUCKET = "lakehouse-dev-tfstate"
#: Where an offline copy of the provider may lie, as <host>/hashicorp/aws.
PLUGIN_DIRS = (
    Path("/opt/tf-plugins"),
    Path.home() / ".terraform.d" / "plugins",
    Path("/usr/local/share/terraform/plugins"),
    Path("/usr/share/terraform/plugins"),
)
#: Longest a step may take; an apply is about two minutes on an idle machine of two cores.
STEP_SECONDS = 1500
VARIABLES: dict[str, Any] = {
    "account_id": ACCOUNT,
    "region": server.REGION,
    "environment": "dev",
    "force_destroy": True,
    "alert_emails": ["nobody@example.com"],
}
SERVICES: dict[str, Any] = {
    "enable_orchestration": True,
    "enable_dq_platform": True,
    "enable_analytics_platform": True,
    # Of a plan: an apply names the one that was built.
    "dq_runner_package": {
        "key": "lambda/0000000000000000/dq_runner.zip",
        "sha256_base64": base64.b64encode(bytes(32)).decode(),
    },
    "image_tags": {"report-service": "0123456789ab"},
    "web": {
        "certificate_arn": f"arn:aws:acm:{server.REGION}:{ACCOUNT}:certificate/00000000-0000-0000-0000-000000000000",
        "domain": "data.example.com",
        "allowed_cidrs": ["203.0.113.0/24"],
        "user_pool_arn": f"arn:aws:cognito-idp:{server.REGION}:{ACCOUNT}:userpool/{server.REGION}_000000000",
        "user_pool_client_id": "0" * 26,
        "user_pool_domain": "lakehouse",
        "deletion_protection": False,
    },
}


class TerraformFailed(Exception):
    """A step of Terraform that did not end as it has to; the message holds its words."""


def plugin_dir() -> Path | None:
    """The offline copy of the provider, or None where Terraform has to fetch it."""
    return next((path for path in PLUGIN_DIRS if any(path.glob("*/hashicorp/aws"))), None)


@dataclass(frozen=True)
class Terraform:
    """Terraform at work in a copy of terraform/."""

    work: Path
    env: dict[str, str]

    @classmethod
    def copy(cls, work: Path, env: dict[str, str]) -> Terraform:
        """Copy the files: what init and tests write stays out of the clone."""
        shutil.rmtree(work, ignore_errors=True)
        ignore = shutil.ignore_patterns(".terraform*", "*.tfstate*", "*.tfvars")
        shutil.copytree(REPO / "terraform", work, ignore=ignore)
        quiet = {"TF_IN_AUTOMATION": "1", "TF_INPUT": "0", "CHECKPOINT_DISABLE": "1"}
        return cls(work, env | quiet)

    def run(self, *arguments: str, ok: Sequence[int] = (0,)) -> subprocess.CompletedProcess[str]:
        """One command. Raises TerraformFailed where it ends otherwise than ``ok`` says."""
        done = subprocess.run(
            ["terraform", *arguments, "-no-color"],
            cwd=self.work,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=STEP_SECONDS,
        )
        if done.returncode not in ok:
            raise TerraformFailed(
                f"terraform {' '.join(arguments)} ended {done.returncode}:\n{done.stderr or done.stdout[-6000:]}"
            )
        return done

    def init(self, *arguments: str) -> None:
        offline = plugin_dir()
        self.run("init", *([f"-plugin-dir={offline}"] if offline else []), *arguments)

    def variables(self, values: dict[str, Any]) -> None:
        (self.work / "terraform.tfvars.json").write_text(json.dumps(values, indent=1))

    def show(self, *what: str) -> dict[str, Any]:
        """State, or a plan file, as JSON."""
        found: dict[str, Any] = json.loads(self.run("show", "-json", *what).stdout)
        return found


def environment(endpoint: str) -> dict[str, str]:
    """What Terraform and boto3 need to take the local AWS for the real one."""
    return (
        base_environment()
        | server.CREDENTIALS
        # MWAA's API has a host prefix (api.127.0.0.1), which no name server knows: the local AWS is its proxy.
        | {"AWS_ENDPOINT_URL": endpoint, "HTTP_PROXY": endpoint, "NO_PROXY": "127.0.0.1,localhost"}
    )


def resources(state: dict[str, Any]) -> list[dict[str, Any]]:
    """Every resource of a state or plan, the modules' included."""
    values = state.get("planned_values") or state.get("values") or {}
    pending, found = [values.get("root_module", {})], []
    while pending:
        module = pending.pop()
        found += module.get("resources", [])
        pending += module.get("child_modules", [])
    return [resource for resource in found if resource["mode"] == "managed"]


def start(state: Path) -> str:
    """The endpoint of an AWS of its own, empty."""
    supervisor = Supervisor(state)
    if supervisor.running("aws"):
        raise ServiceError(f"a local AWS runs in {state} already: `make test-local-down` ends it")
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir(parents=True)
    ports = choose_ports(state, supervisor)
    spec = server.spec(state, ports, base_environment() | {"LAKEHOUSE_STATE_DIR": str(state)})
    supervisor.start(spec, REPO)
    supervisor.wait_ready(spec)
    return spec.exports["AWS_ENDPOINT_URL"]


def client(endpoint: str, service: str) -> Any:
    import boto3

    return boto3.client(
        service,  # type: ignore[call-overload]
        endpoint_url=endpoint,
        region_name=server.REGION,
        aws_access_key_id=server.CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=server.CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
    )


class Said:
    """Steps on the terminal, each with its seconds."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def __call__(self, text: str) -> None:
        now = time.monotonic()
        print(f"  {now - self._since:6.1f} s  {text}", flush=True)
        self._since = now


def apply(state: Path, endpoint: str, say: Said) -> Terraform:
    """Both applies, and the proof that nothing is left to do."""
    s3 = client(endpoint, "s3")
    s3.create_bucket(Bucket=BACKEND_BUCKET, CreateBucketConfiguration={"LocationConstraint": server.REGION})
    terraform = Terraform.copy(state / "terraform", environment(endpoint))
    terraform.init(
        f"-backend-config=bucket={BACKEND_BUCKET}",
        "-backend-config=key=lakehouse/terraform.tfstate",
        f"-backend-config=region={server.REGION}",
        "-backend-config=use_path_style=true",
    )
    say("init, state in S3")
    terraform.variables(VARIABLES)
    terraform.run("apply", "-auto-approve")
    say(f"applied: {len(resources(terraform.show()))} resources")
    outputs = json.loads(terraform.run("output", "-json").stdout)
    one = release.build("X86_64", with_python=False, allow_dirty=True)
    package = put_runner(s3, outputs["buckets"]["value"]["code"], one)
    run_release(state, outputs, terraform.env, one, say)
    # A listener takes only a certificate that ACM has.
    certificate = client(endpoint, "acm").request_certificate(DomainName="*.data.example.com")[
        "CertificateArn"
    ]
    web = SERVICES["web"] | {"certificate_arn": certificate}
    terraform.variables(VARIABLES | SERVICES | {"web": web, "dq_runner_package": package})
    terraform.run("apply", "-auto-approve")
    say(f"applied with Airflow and services: {len(resources(terraform.show()))} resources")
    again = terraform.run("plan", "-detailed-exitcode", ok=(0, 2))
    if again.returncode == 2:
        raise TerraformFailed(f"planned again, it would still change something:\n{again.stdout[-6000:]}")
    say("planned again: no difference")
    return terraform


def put_runner(s3: Any, code_bucket: str, one: release.Release) -> dict[str, str]:
    """The DQ runner's zip into the code bucket; the variable that names it."""
    body = (release.DIST / one.runner_key).read_bytes()
    digest = hashlib.sha256(body)
    # The bucket takes nothing below this prefix that is not created.
    s3.put_object(
        Bucket=code_bucket,
        Key=f"{one.runner_key}.sha256",
        Body=digest.hexdigest().encode(),
        IfNoneMatch="*",
    )
    s3.put_object(Bucket=code_bucket, Key=one.runner_key, Body=body, IfNoneMatch="*")
    return {"key": one.runner_key, "sha256_base64": base64.b64encode(digest.digest()).decode()}


def run_release(
    state: Path, outputs: dict[str, Any], env: dict[str, str], one: release.Release, say: Said
) -> None:
    """Ship this checkout as to an account, run the first jobs from what was shipped, and ask Athena what they made."""
    if not (release.DIST / one.python_key).exists():
        say("SKIPPED the jobs: their Python packages are not built (scripts/build_zip.sh --python)")
        return
    if shutil.which(f"python{release.PYTHON}") is None:
        say(f"SKIPPED the jobs: there is no python{release.PYTHON}, which runs them on EMR")
        return
    deployment = state / "deployment.json"
    deployment.write_text(json.dumps(outputs))
    shipping = [sys.executable, str(REPO / "scripts" / "release.py"), "--deployment", str(deployment)]
    for command in ("upload", "activate"):
        command_output([*shipping, command], env)
    say(f"release {one.id} shipped: {len(one.files)} files")
    for line in command_output([*shipping, "env"], env).splitlines():
        name, _, value = shlex.split(line)[1].partition("=")
        env = env | {name: value}
    for job in ("apply_contracts", "register_glue_tables"):
        command_output([sys.executable, str(REPO / "scripts" / "emr_submit.py"), job], env)
        say(f"{job} succeeded, from the release alone")
    sql = "SELECT count(*) FROM lakehouse_gold.fact_orders"
    try:
        found = ask_athena(client(env["AWS_ENDPOINT_URL"], "athena"), sql).rows
    except QueryFailed as error:
        raise TerraformFailed(f"Athena, {sql}: {error}") from None
    if found != [["0"]]:
        raise TerraformFailed(f"gold.fact_orders, just created: received {found} rows, expected 0")
    say("Athena reads gold.fact_orders, in the workgroup lakehouse")
    application = outputs["deployment"]["value"]["EMR_APPLICATION_ID"]
    emr = client(env["AWS_ENDPOINT_URL"], "emr-serverless")
    # As `make destroy` does: AWS deletes an application only once it has stopped.
    emr.stop_application(applicationId=application)
    while emr.get_application(applicationId=application)["application"]["state"] != "STOPPED":
        time.sleep(1)


def command_output(command: Sequence[str], env: dict[str, str]) -> str:
    """What a command prints. Raises TerraformFailed with its words where it fails."""
    done = subprocess.run(command, cwd=REPO, env=env, capture_output=True, text=True, timeout=STEP_SECONDS)
    if done.returncode != 0:
        raise TerraformFailed(
            f"{' '.join(command[1:])} ended {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        )
    return done.stdout


def check(state: Path, terraform: Terraform, say: Said) -> None:
    """What was applied keeps the promises of the policies, and the server answered everything."""
    found = resources(terraform.show())
    problems = iam_policies.unlisted(iam_policies.statements(found))
    log = Supervisor(state).log("aws").read_text(errors="replace")
    problems += [line for line in log.splitlines() if line.startswith("500 on ")]
    if problems:
        raise TerraformFailed("\n".join(problems))
    say("no wildcard beyond iam_exceptions.yaml")


def destroy(terraform: Terraform, say: Said) -> None:
    terraform.run("destroy", "-auto-approve")
    left = resources(terraform.show())
    if left:
        raise TerraformFailed(f"destroy left {len(left)} resources")
    say("destroyed")


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", action="store_true", help="leave it applied")
    parser.add_argument("--down", action="store_true", help="end what --keep left")
    arguments = parser.parse_args(argv)
    state = Path(os.environ.get("LAKEHOUSE_STATE_DIR", str(REPO / ".local"))) / "terraform"
    if arguments.down:
        stopped = Supervisor(state).stop("aws")
        shutil.rmtree(state, ignore_errors=True)
        print("the local AWS of Terraform is stopped and gone" if stopped else "nothing was running")
        return 0
    if shutil.which("terraform") is None:
        print("terraform is not on PATH: https://developer.hashicorp.com/terraform/install", file=sys.stderr)
        return 2
    say = Said()
    kept = False
    try:
        endpoint = start(state)
        say(f"local AWS at {endpoint}")
        terraform = apply(state, endpoint, say)
        check(state, terraform, say)
        if arguments.keep:
            kept = True
            print(f"It stays: AWS_ENDPOINT_URL={endpoint}; end it with `make test-local-down`.")
        else:
            destroy(terraform, say)
    except (TerraformFailed, ServiceError, subprocess.TimeoutExpired) as problem:
        print(
            f"terraform on the local AWS: {problem}\nThe AWS's log: {Supervisor(state).log('aws')}",
            file=sys.stderr,
        )
        return 1
    finally:
        if not kept:
            Supervisor(state).stop("aws")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
