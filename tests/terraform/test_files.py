"""What can be said of Terraform's files without Terraform: their form, and that they agree with the code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from common import settings
from lakehouse.flows.ingest import SOURCES
from tests.support import REPO

TERRAFORM = REPO / "terraform"
FILES = sorted(path for path in TERRAFORM.rglob("*.tf"))
VARIABLE = re.compile(r'^variable "(\w+)" \{\n(.*?)^\}', re.MULTILINE | re.DOTALL)
ROOT = dict(VARIABLE.findall((TERRAFORM / "variables.tf").read_text()))
# What takes a minute has a job of its own in CI: make terraform-check.
CHECKS = ["fmt", "validate", pytest.param("test", marks=pytest.mark.proof), "checkov", "actionlint"]


@pytest.mark.parametrize("check", CHECKS)
def test_check(check: str) -> None:
    done = subprocess.run(
        [sys.executable, str(REPO / "scripts" / "terraform_check.py"), check], capture_output=True, text=True
    )
    if done.stdout.startswith("SKIPPED"):
        pytest.skip(done.stdout.splitlines()[0])
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_files_that_the_guide_names_are_there() -> None:
    names = {path.name for path in TERRAFORM.glob("*.tf")}
    assert {
        f"{n}.tf"
        for n in (
            *("main", "iam", "s3", "secrets", "cloudwatch", "outputs", "variables", "versions"),
            "lake_formation",
        )
    } == names
    for environment in ("dev", "prod"):
        assert (TERRAFORM / "environments" / f"{environment}.tfvars.example").is_file()


@pytest.mark.parametrize("name", sorted(ROOT))
def test_a_variable_has_type_description_and_bounds(name: str) -> None:
    body = ROOT[name]
    assert re.search(r"^  type\s+= ", body, re.MULTILINE)
    assert re.search(r'^  description\s+= "[A-Za-z0-9].{10,}\."$', body, re.MULTILINE)
    # Of a bool there is nothing to bound; the enable_ variables that need others say so.
    assert "validation {" in body or re.search(r"type\s+= bool", body)


@pytest.mark.parametrize("path", [p for p in FILES if p.name == "variables.tf"], ids=lambda p: p.parent.name)
def test_variables_of_modules_are_typed_and_described(path: Path) -> None:
    for name, body in VARIABLE.findall(path.read_text()):
        assert re.search(r"^  type\s+= ", body, re.MULTILINE), name
        assert re.search(r"^  description\s+= ", body, re.MULTILINE), name


def test_what_costs_and_has_no_code_yet_is_off() -> None:
    enables = {name: body for name, body in ROOT.items() if name.startswith("enable_")}
    assert {"enable_dq_platform", "enable_analytics_platform"} <= set(enables)
    assert all(re.search(r"default\s+= false", body) for body in enables.values())


def test_no_value_of_a_secret_can_get_into_the_state() -> None:
    kinds = {
        kind
        for path in FILES
        for kind in re.findall(r'^(?:resource|data) "(\w+)"', path.read_text(), re.MULTILINE)
    }
    forbidden = {
        "aws_secretsmanager_secret_version", "aws_ssm_parameter", "random_password", "tls_private_key",
        "aws_iam_access_key", "aws_cognito_user_pool_client", "aws_db_instance",
    }  # fmt: skip
    assert kinds & forbidden == set()
    text = "".join(path.read_text() for path in FILES)
    assert not re.search(r"secret_string|client_secret\s*=|(?<!allow_users_to_change_)password\s*=", text)
    for example in (TERRAFORM / "environments").glob("*.example"):
        assert not re.search(r"(?i)password|token|secret_key|client_secret", example.read_text())


def test_wildcard_actions_are_nowhere_but_in_denials_and_the_keys_policy() -> None:
    allowed = {("s3:*", "main.tf"), ("kms:*", "iam.tf")}
    found = {
        (action, path.name)
        for path in FILES
        for action in re.findall(r'"([a-z0-9-]+:[A-Za-z]*\*)"', path.read_text())
    }
    assert found == allowed


def test_landing_is_kept_as_long_as_the_contracts_say() -> None:
    default = int(re.findall(r"default\s+= (\d+)", ROOT["landing_retention_days"])[0])
    promised = {
        int(one["value"])
        for path in (REPO / "schema_definitions" / "bronze").glob("*.yaml")
        for one in yaml.safe_load(path.read_text()).get("slaProperties", [])
        if one["property"] == "landingRetention"
    }
    assert promised == {default}


def test_landing_of_every_source_is_written_and_expires() -> None:
    """Folders below landing/ are named one by one, because the vendor's inbox is not ours to write."""
    lists = {
        path.name: re.findall(r'"([^"]+)"', found)
        for path in TERRAFORM.glob("*.tf")
        for found in re.findall(r'\[([^\]]*"vendor/vendor_shipments"[^\]]*)\]', path.read_text())
    }
    assert "iam.tf" in lists
    for name, folders in lists.items():
        for source, tables in SOURCES.items():
            landed = [
                folder
                for folder in folders
                if any(f"{source}/{each}/".startswith(f"{folder}/") for each in tables)
            ]
            assert landed, (
                f"terraform/{name}: the list with {folders[0]!r} lacks {source!r}, whose jobs may not land"
            )
            folders = [folder for folder in folders if folder not in landed]
        assert not folders, f"terraform/{name} lists {folders}, which no source of flows/ingest.py lands in"


def test_alarms_know_every_table_and_job() -> None:
    text = (TERRAFORM / "cloudwatch.tf").read_text()
    for layer in ("bronze", "silver", "gold"):
        (names,) = re.findall(rf"^    {layer} += \[(.*?)\]", text, re.MULTILINE)
        contracts = {path.stem for path in (REPO / "schema_definitions" / layer).glob("*.yaml")}
        assert set(re.findall(r'"(\w+)"', names)) == contracts
    (jobs,) = re.findall(r"^  jobs = \[(.*?)\]", text, re.MULTILINE | re.DOTALL)
    # What a person runs and waits for (recover) needs no alarm; of the scripts the DAGs run these two.
    scheduled = {"register_glue_tables", "delta_optimize_vacuum"}
    assert (
        set(re.findall(r'"(\w+)"', jobs)) == {path.stem for path in (REPO / "jobs").glob("*.py")} | scheduled
    )


def test_the_deployment_speaks_the_settings_of_the_dags() -> None:
    (block,) = re.findall(
        r'^output "deployment" \{(.*?)^\}', (TERRAFORM / "outputs.tf").read_text(), re.MULTILINE | re.DOTALL
    )
    names = set(re.findall(r"^    ([A-Z_]+)\s+=", block, re.MULTILINE))
    assert names <= settings.KNOWN.keys()
    # What belongs to a release is added by scripts/release.py, limits of the stream have defaults.
    rest = settings.KNOWN.keys() - names
    limits = {"STREAM_MAX_AGE_MINUTES", "STREAM_MAX_LAG"}
    # An account tells roles apart: one for all would be a way around that.
    assert rest == {"LAKEHOUSE_CONFIG", "EMR_PYTHON_ARCHIVE", "EMR_EXECUTION_ROLE_ARN"} | limits
