"""The DQ platform as Terraform would make it fits the package, the runner and the dashboard."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from scripts import runner_package
from tests.support import REPO

Planned = list[dict[str, Any]]


def one(planned: Planned, kind: str, address: str = "") -> dict[str, Any]:
    (found,) = [each for each in planned if each["type"] == kind and each["address"].endswith(address)]
    values: dict[str, Any] = found["values"]
    return values


@pytest.fixture
def runner(planned: Planned) -> dict[str, Any]:
    return one(planned, "aws_lambda_function")


def test_the_function_runs_what_the_package_is_built_for(runner: dict[str, Any]) -> None:
    assert runner["function_name"] == "dq-platform-runner"
    assert runner["runtime"] == f"python{runner_package.PYTHON}"
    assert runner["handler"] == f"{runner_package.HANDLER.removesuffix('.py')}.main"
    (architecture,) = runner["architectures"]
    assert all(platform.endswith(architecture) for platform in runner_package.PLATFORMS)
    assert runner["timeout"] == 900


def test_it_is_told_where_reports_secret_and_notices_are_and_no_more(planned: Planned) -> None:
    (function,) = [each for each in planned if each["type"] == "aws_lambda_function"]
    names = {"S3_DQ_REPORTS_BUCKET", "SNOWFLAKE_SECRET_NAME", "ALERT_TOPIC_ARN"}
    # The topic's ARN is known after the apply; a plan leaves such a map out.
    told = (function["values"].get("environment") or [{}])[0].get("variables")
    if told is not None:
        assert told.keys() <= names
    text = (REPO / "terraform" / "main.tf").read_text()
    block = text.split("runner_environment = {")[1].split("}")[0]
    assert {line.split("=")[0].strip() for line in block.splitlines() if "=" in line} == names


def test_its_role_may_send_the_metrics_that_its_settings_name() -> None:
    settings = yaml.safe_load((REPO / "config" / "dq_platform.yaml").read_text())
    policy = (REPO / "terraform" / "iam.tf").read_text()
    assert f'dq_metrics = "{settings["metrics"]["namespace"]}"' in policy


def test_it_runs_once_a_day_at_six_and_somebody_hears_where_it_does_not(planned: Planned) -> None:
    rule = one(planned, "aws_cloudwatch_event_rule", "dq_platform[0].aws_cloudwatch_event_rule.daily")
    assert (rule["name"], rule["schedule_expression"]) == ("dq-platform-daily-schedule", "cron(0 6 * * ? *)")
    errors, silent = (
        one(planned, "aws_cloudwatch_metric_alarm", f"dq_platform[0].aws_cloudwatch_metric_alarm.{name}")
        for name in ("runner", "silent")
    )
    assert (errors["metric_name"], errors["treat_missing_data"]) == ("Errors", "notBreaching")
    assert (silent["metric_name"], silent["treat_missing_data"]) == ("Invocations", "breaching")
    runbook = (REPO / "RUNBOOK_AWS_2025.md").read_text()
    for alarm in (errors, silent):
        section = alarm["alarm_description"].rsplit(", ", 1)[1].rstrip(".")
        assert f"### {section} " in runbook


def test_the_dashboards_task_has_its_port_and_the_load_balancer_its_health(planned: Planned) -> None:
    group = one(planned, "aws_lb_target_group", "dq_platform[0].module.dashboard.aws_lb_target_group.this")
    assert (group["port"], group["health_check"][0]["path"]) == (8080, "/_stcore/health")
    # A page lives in one task.
    assert group["stickiness"][0]["type"] == "lb_cookie"


def test_snowflake_sees_one_address(planned: Planned, runner: dict[str, Any]) -> None:
    """A network policy has to be able to name it: the function is in the private subnets, and speaks HTTPS alone."""
    assert len(runner["vpc_config"]) == 1
    (out,) = [
        each["values"]
        for each in planned
        if each["type"] == "aws_vpc_security_group_egress_rule" and each["name"] == "runner"
    ]
    assert (out["ip_protocol"], out["from_port"], out["to_port"]) == ("tcp", 443, 443)


def test_the_plans_role_may_read_every_kind_of_resource_of_it() -> None:
    """A kind that is new here needs its line in docs/github-roles/plan.json."""
    actions = json.dumps(json.loads((REPO / "docs" / "github-roles" / "plan.json").read_text()))
    for action in (
        "lambda:GetFunction",
        "lambda:GetPolicy",
        "events:DescribeRule",
        "cloudwatch:DescribeAlarms",
    ):
        assert action in actions
