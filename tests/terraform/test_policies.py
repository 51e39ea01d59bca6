"""What each role may and may not do, by evaluation of the policies that Terraform would write."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from common import roles, spark
from local import iam_policies
from local.iam_policies import Statement, Unknown, is_open, like, may, parse
from scripts import release

ACCOUNT = "123456789012"
LAKE = f"arn:aws:s3:::lakehouse-dev-lake-{ACCOUNT}"
CODE = f"arn:aws:s3:::lakehouse-dev-code-{ACCOUNT}"
LOGS = f"arn:aws:s3:::lakehouse-dev-logs-{ACCOUNT}"
DQ = f"arn:aws:s3:::lakehouse-dev-dq-reports-{ACCOUNT}"
REPORTS = f"arn:aws:s3:::lakehouse-dev-reports-{ACCOUNT}"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/lakehouse-dev-"
SECRET = f"arn:aws:secretsmanager:eu-central-1:{ACCOUNT}:secret:"
GLUE = f"arn:aws:glue:eu-central-1:{ACCOUNT}:"
WORKGROUP = f"arn:aws:athena:eu-central-1:{ACCOUNT}:workgroup/"
TABLE = f"arn:aws:dynamodb:eu-central-1:{ACCOUNT}:table/"
GET, PUT, DELETE, LIST = "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket"
VERDICT = f"{LAKE}/gold/quality/silver.orders/20261120T060000Z-1.json"
CREATED = {"s3:if-none-match": "*"}
#: As services/dq_runner/report.py and what stands beside it name them.
DQ_KEYS = (
    "reports/dq_results.json", "reports/history/2026-11-20/r.json", "reports/measures/2026-11-20/r.json",
    "reports/lineage/2026-11-20/r.json",
)  # fmt: skip
RUNNER_LOG = "/aws/lambda/dq-platform-runner"
RUNNER_ARN = f"arn:aws:lambda:eu-central-1:{ACCOUNT}:function:dq-platform-runner"
EMR = tuple(f"emr_{role}" for role in roles.JOBS)
COMMIT = "_delta_log/00000000000000000001.json"

ALLOWED = [
    ("emr_ingest", GET, f"{LAKE}/landing/vendor/inbox/2026-11-20.csv", {}),
    ("emr_ingest", PUT, f"{LAKE}/landing/hubspot/hubspot_contacts/r/part-0.parquet", {}),
    ("emr_transform", PUT, f"{LAKE}/gold/fact_orders/{COMMIT}", {}),
    ("emr_maintain", DELETE, f"{LAKE}/silver/orders/part-0.parquet", {}),
    ("emr_recover", GET, f"{CODE}/releases/0123456789abcdef/lib/lakehouse.zip", {}),
    ("emr_erase", PUT, f"{LOGS}/emr/applications/a/jobs/j/SPARK_DRIVER/stderr.gz", {}),
    ("emr_ingest", LIST, LAKE, {"s3:prefix": "bronze/"}),
    ("emr_transform", "s3:ListBucketVersions", LAKE, {"s3:prefix": "silver/orders/_delta_log/0"}),
    ("emr_recover", "s3:GetObjectVersion", f"{LAKE}/silver/orders/{COMMIT}", {}),
    ("emr_ingest", "secretsmanager:GetSecretValue", f"{SECRET}lakehouse/hubspot/credentials-a1B2c3", {}),
    ("emr_transform", "glue:UpdateTable", f"{GLUE}table/lakehouse_gold/fact_orders", {}),
    ("emr_transform", "lakeformation:AddLFTagsToResource", "*", {}),
    ("emr_ingest", "cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": "Lakehouse"}),
    ("emr_transform", PUT, f"{LAKE}/reports/status/latest.html", {}),
    ("emr_transform", "athena:ListQueryExecutions", f"{WORKGROUP}lakehouse", {}),
    ("emr_gate", GET, f"{LAKE}/silver/orders/{COMMIT}", {}),
    ("emr_gate", PUT, f"{LAKE}/gold/quality/silver.orders/20261120T060000Z-1.json", {"s3:if-none-match": "*"}),
    # Erasing a person replaces the verdicts that quote them.
    ("emr_erase", PUT, f"{LAKE}/gold/quality/silver.orders/20261120T060000Z-1.json", {}),
    ("emr_gate", PUT, f"{LAKE}/ops/dq_verdicts/{COMMIT}", {}),
    ("emr_gate", PUT, f"{LAKE}/runs/r/dq_check_silver/outcome.json", {}),
    # Who repairs or rewrites certifies what it did, and creates a verdict like a gate.
    *((role, PUT, VERDICT, {"s3:if-none-match": "*"}) for role in ("emr_gate", "emr_maintain", "emr_recover")),
    *((role, GET, VERDICT, {}) for role in ("emr_ingest", "emr_transform", "emr_maintain", "emr_recover", "emr_erase")),
    ("emr_maintain", DELETE, f"{LAKE}/landing/hubspot/hubspot_contacts/r/part-0.parquet", {}),
    ("emr_maintain", DELETE, f"{LAKE}/checkpoints/kafka_orders/former/offsets/1", {}),
    ("emr_maintain", PUT, f"{LAKE}/bronze/hubspot_contacts/{COMMIT}", {}),
    ("emr_recover", PUT, f"{LAKE}/gold/dim_fx/{COMMIT}", {}),
    ("emr_recover", "secretsmanager:GetSecretValue", f"{SECRET}lakehouse/snowflake/credentials-a1B2c3", {}),
    ("emr_erase", PUT, f"{LAKE}/landing/hubspot/hubspot_contacts/r/part-0.jsonl.gz", {}),
    ("emr_erase", PUT, f"{LAKE}/ops/_lineage/r/1.json", {}),
    ("emr_erase", "s3:GetLifecycleConfiguration", LAKE, {}),
    ("events", "sns:Publish", f"arn:aws:sns:eu-central-1:{ACCOUNT}:lakehouse-dev-alerts", {}),
    ("emr_stream", PUT, f"{LAKE}/bronze/kafka_orders/{COMMIT}", {}),
    ("emr_stream", PUT, f"{LAKE}/checkpoints/kafka_orders/orders_events/offsets/1", {}),
    ("emr_stream", PUT, f"{LAKE}/ops/_streams/kafka_orders/progress.json", {}),
    ("emr_stream", "secretsmanager:GetSecretValue", f"{SECRET}lakehouse/kafka/credentials-a1B2c3", {}),
    ("airflow", GET, f"{CODE}/dags/daily_batch_pipeline_dag.py", {}),
    ("airflow", GET, f"{LAKE}/runs/r/bronze_to_silver/outcome.json", {}),
    ("airflow", "iam:PassRole", f"{ROLE}emr-gate", {"iam:PassedToService": "emr-serverless.amazonaws.com"}),
    ("airflow", "sns:Publish", f"arn:aws:sns:eu-central-1:{ACCOUNT}:lakehouse-dev-alerts", {}),
    *(("dq_runner", do, f"{DQ}/{key}", {}) for do in (GET, PUT) for key in DQ_KEYS),
    ("dq_runner", LIST, DQ, {"s3:prefix": "reports/history/2026-11-"}),
    # Without a prefix: S3 asks for it before it says that a report is not there.
    ("dq_runner", LIST, DQ, {}),
    ("dq_runner", "secretsmanager:GetSecretValue", f"{SECRET}snowflake/dq-platform-credentials-a1B2c3", {}),
    ("dq_runner", "sns:Publish", f"arn:aws:sns:eu-central-1:{ACCOUNT}:lakehouse-dev-alerts", {}),
    ("dq_runner", "cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": "Lakehouse/DataQuality"}),
    ("dq_runner", "logs:PutLogEvents", f"arn:aws:logs:eu-central-1:{ACCOUNT}:log-group:{RUNNER_LOG}:log-stream:1", {}),
    ("dq_runner", "ec2:CreateNetworkInterface", "*", {}),
    *(("dq_dashboard", GET, f"{DQ}/{key}", {}) for key in DQ_KEYS),
    ("dq_dashboard", LIST, DQ, {"s3:prefix": "reports/history/"}),
    ("dq_dashboard", GET, f"{LAKE}/gold/quality/silver.orders/1.json", {}),
    ("dq_dashboard", LIST, LAKE, {"s3:prefix": "gold/quality/silver.orders/"}),
    ("report_service", PUT, f"{REPORTS}/reports/2026-11.pdf", {}),
    ("report_service", GET, f"{LAKE}/gold/fact_orders/part-0.parquet", {}),
    ("report_service", "glue:GetDatabase", f"{GLUE}database/default", {}),
    ("report_service", GET, f"{LAKE}/athena-results/lakehouse-gold/1.csv", {}),
    ("analytics_app", "athena:StartQueryExecution", f"{WORKGROUP}lakehouse-gold", {}),
    ("analytics_app", LIST, LAKE, {"s3:prefix": "athena-results/lakehouse-gold/1"}),
    ("flow_logs", "logs:DescribeLogGroups", f"arn:aws:logs:eu-central-1:{ACCOUNT}:log-group:any", {}),
]  # fmt: skip

DENIED = [
    # Who brings or makes data writes no verdict, whatever it says with it; who creates one replaces none.
    *((role, PUT, VERDICT, CREATED) for role in ("emr_ingest", "emr_transform", "emr_stream", "airflow")),
    *((role, PUT, VERDICT, {}) for role in ("emr_ingest", "emr_transform", "emr_stream", "airflow")),
    *((role, PUT, VERDICT, {}) for role in ("emr_gate", "emr_maintain", "emr_recover")),
    *((role, DELETE, VERDICT, {}) for role in EMR),
    *((role, "s3:DeleteObjectVersion", VERDICT, {}) for role in EMR),
    ("emr_ingest", PUT, f"{LAKE}/silver/orders/{COMMIT}", {}),
    ("emr_ingest", PUT, f"{LAKE}/gold/fact_orders/{COMMIT}", {}),
    ("emr_ingest", PUT, f"{LAKE}/landing/vendor/inbox/2026-11-20.csv", {}),
    ("emr_ingest", "glue:UpdateTable", f"{GLUE}table/lakehouse_gold/fact_orders", {}),
    ("emr_transform", PUT, f"{LAKE}/bronze/fx_rates/{COMMIT}", {}),
    ("emr_transform", PUT, f"{LAKE}/landing/fx/fx_rates/r/manifest.json", {}),
    ("emr_transform", "secretsmanager:GetSecretValue", f"{SECRET}lakehouse/hubspot/credentials-a1B2c3", {}),
    ("emr_maintain", "secretsmanager:GetSecretValue", f"{SECRET}lakehouse/hubspot/credentials-a1B2c3", {}),
    ("emr_maintain", DELETE, f"{LAKE}/landing/vendor/inbox/2026-11-20.csv", {}),
    ("emr_erase", "secretsmanager:GetSecretValue", f"{SECRET}lakehouse/hubspot/credentials-a1B2c3", {}),
    ("emr_erase", PUT, f"{LAKE}/landing/vendor/inbox/2026-11-20.csv", {}),
    ("emr_recover", "secretsmanager:GetSecretValue", f"{SECRET}snowflake/dq-platform-credentials-a1B2c3", {}),
    # Another prefix of the lake, another bucket, another account's bucket.
    ("emr_ingest", GET, f"{LAKE}/athena-results/1.csv", {}),
    ("emr_ingest", GET, f"{LAKE}/private/payroll.csv", {}),
    ("emr_ingest", GET, f"{LAKE}/goldmine/x", {}),
    ("emr_ingest", GET, f"{REPORTS}/reports/2026-11.pdf", {}),
    ("emr_ingest", GET, "arn:aws:s3:::somebody-elses/bronze/x", {}),
    ("emr_ingest", LIST, LAKE, {"s3:prefix": "athena-results/"}),
    ("emr_ingest", LIST, LAKE, {}),
    ("emr_ingest", "s3:ListBucketVersions", LAKE, {"s3:prefix": "athena-results/"}),
    ("emr_ingest", "s3:GetObjectVersion", f"{LAKE}/silver/orders/{COMMIT}", {}),
    ("emr_recover", "s3:GetObjectVersion", f"{LAKE}/landing/fx/fx_rates/r/manifest.json", {}),
    # The vendor's files and the code are read, not changed; verdicts are never taken back.
    ("emr_recover", DELETE, f"{LAKE}/landing/vendor/inbox/2026-11-20.csv", {}),
    ("emr_ingest", PUT, f"{CODE}/releases/0123456789abcdef/lib/lakehouse.zip", {}),
    ("emr_ingest", "secretsmanager:GetSecretValue", f"{SECRET}snowflake/dq-platform-credentials-a1B2c3", {}),
    ("emr_ingest", "secretsmanager:GetSecretValue", f"{SECRET}lakehouse/hubspot/credentials-and-more-a1B2c3", {}),
    ("emr_ingest", "secretsmanager:PutSecretValue", f"{SECRET}lakehouse/hubspot/credentials-a1B2c3", {}),
    ("emr_transform", "lakeformation:GrantPermissions", "*", {}),
    ("emr_transform", "lakeformation:RemoveLFTagsFromResource", "*", {}),
    ("emr_transform", "glue:DeleteTable", f"{GLUE}table/lakehouse_gold/fact_orders", {}),
    ("emr_transform", "glue:UpdateTable", f"{GLUE}table/finance/ledger", {}),
    ("emr_ingest", "cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": "AWS/EC2"}),
    ("emr_ingest", "iam:PassRole", f"{ROLE}emr-ingest", {"iam:PassedToService": "emr-serverless.amazonaws.com"}),
    # The gate creates verdicts and replaces none; it writes neither Gold nor what it judges.
    ("emr_gate", PUT, f"{LAKE}/gold/fact_orders/{COMMIT}", {}),
    ("emr_gate", DELETE, f"{LAKE}/gold/fact_orders/part-0.parquet", {}),
    ("emr_gate", PUT, f"{LAKE}/silver/orders/{COMMIT}", {}),
    ("emr_gate", PUT, f"{LAKE}/bronze/fx_rates/{COMMIT}", {}),
    ("emr_gate", PUT, f"{LAKE}/landing/fx/fx_rates/r/manifest.json", {}),
    ("emr_gate", "secretsmanager:GetSecretValue", f"{SECRET}lakehouse/hubspot/credentials-a1B2c3", {}),
    # The stream has its own table alone.
    ("emr_stream", PUT, f"{LAKE}/bronze/snowflake_orders/{COMMIT}", {}),
    ("emr_stream", GET, f"{LAKE}/silver/orders/{COMMIT}", {}),
    ("emr_stream", PUT, f"{LAKE}/gold/quality/bronze.kafka_orders/1.json", {}),
    ("emr_stream", "secretsmanager:GetSecretValue", f"{SECRET}lakehouse/salesforce/credentials-a1B2c3", {}),
    # Airflow submits and looks on: it has neither data nor secrets, and gives roles to EMR Serverless only.
    ("airflow", GET, f"{LAKE}/silver/orders/part-0.parquet", {}),
    ("airflow", PUT, f"{LAKE}/gold/fact_orders/{COMMIT}", {}),
    ("airflow", "iam:PassRole", f"{ROLE}emr-ingest", {"iam:PassedToService": "lambda.amazonaws.com"}),
    ("airflow", "iam:PassRole", f"{ROLE}emr-ingest", {}),
    ("airflow", "iam:PassRole", f"{ROLE}dq-runner", {"iam:PassedToService": "emr-serverless.amazonaws.com"}),
    ("airflow", "secretsmanager:GetSecretValue", f"{SECRET}lakehouse/hubspot/credentials-a1B2c3", {}),
    ("airflow", PUT, f"{CODE}/dags/daily_batch_pipeline_dag.py", {}),
    # The dashboard cannot write.
    *(("dq_dashboard", do, f"{DQ}/{key}", {}) for do in (PUT, DELETE) for key in DQ_KEYS),
    ("dq_dashboard", GET, f"{DQ}/private/x.json", {}),
    ("dq_dashboard", GET, f"{LAKE}/gold/fact_orders/part-0.parquet", {}),
    ("dq_dashboard", LIST, LAKE, {"s3:prefix": "gold/fact_orders/"}),
    ("dq_dashboard", "secretsmanager:GetSecretValue", f"{SECRET}snowflake/dq-platform-credentials-a1B2c3", {}),
    ("dq_dashboard", PUT, f"{LAKE}/gold/quality/silver.orders/1.json", {}),
    ("dq_dashboard", GET, f"{LAKE}/silver/orders/part-0.parquet", {}),
    # The runner reads Snowflake alone: nothing of the lake, no other source's secret, no report taken back.
    ("dq_runner", PUT, f"{LAKE}/gold/fact_orders/{COMMIT}", {}),
    *(("dq_runner", GET, f"{LAKE}/{layer}/x", {}) for layer in ("bronze", "silver", "gold", "ops", "gold/quality")),
    ("dq_runner", LIST, LAKE, {"s3:prefix": "gold/quality/"}),
    ("dq_runner", "athena:StartQueryExecution", f"{WORKGROUP}lakehouse", {}),
    ("dq_runner", "glue:GetTable", f"{GLUE}table/lakehouse_gold/fact_orders", {}),
    ("dq_runner", "secretsmanager:GetSecretValue", f"{SECRET}lakehouse/snowflake/credentials-a1B2c3", {}),
    ("dq_runner", "cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": "Lakehouse"}),
    ("dq_runner", DELETE, f"{DQ}/reports/dq_results.json", {}),
    ("dq_runner", PUT, f"{DQ}/elsewhere.json", {}),
    ("dq_runner", "ec2:CreateNetworkInterface", "*", {"lambda:SourceFunctionArn": RUNNER_ARN}),
    ("report_service", GET, f"{LAKE}/bronze/hubspot_contacts/part-0.parquet", {}),
    ("analytics_app", PUT, f"{REPORTS}/reports/2026-11.pdf", {}),
    ("analytics_app", GET, f"{LAKE}/silver/hubspot_contacts/part-0.parquet", {}),
    # What somebody else's query of Bronze has shown.
    ("report_service", GET, f"{LAKE}/athena-results/lakehouse/1.csv", {}),
    ("report_service", LIST, LAKE, {"s3:prefix": "athena-results/lakehouse/"}),
    ("report_service", "athena:GetQueryResults", f"{WORKGROUP}lakehouse", {}),
    ("analytics_app", GET, f"{LAKE}/athena-results/lakehouse/1.csv", {}),
    ("analytics_app", GET, f"{LAKE}/athena-results/1.csv", {}),
    ("analytics_app", "athena:StartQueryExecution", f"{WORKGROUP}lakehouse", {}),
    ("analytics_app", "glue:GetTable", f"{GLUE}table/default/anything", {}),
    ("services", GET, f"{LAKE}/gold/fact_orders/part-0.parquet", {}),
]  # fmt: skip

Case = tuple[str, str, str, dict[str, str]]


@pytest.fixture(scope="session")
def found(planned: list[dict[str, Any]]) -> list[Statement]:
    return iam_policies.statements(planned)


def name(case: Case) -> str:
    role, action, resource, context = case
    return f"{role}-{action}-{resource.rsplit(':', 1)[-1]}-{'-'.join(context.values())}"


@pytest.mark.parametrize("case", ALLOWED, ids=name)
def test_a_role_may_do_its_work(found: list[Statement], case: Case) -> None:
    assert may(found, *case)


@pytest.mark.parametrize("case", DENIED, ids=name)
def test_a_role_may_do_no_more(found: list[Statement], case: Case) -> None:
    assert not may(found, *case)


@pytest.mark.parametrize("role", EMR)
def test_a_job_run_may_read_all_that_its_submission_names(
    found: list[Statement], role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    terraforms = {
        "AWS_REGION": "eu-central-1",
        "ENVIRONMENT": "dev",
        "CODE_BUCKET": CODE.rpartition(":")[2],
        "LAKE_BUCKET": "lake",
    }
    shipped = release.settings_of("0123456789abcdef", "fedcba9876543210", terraforms)
    for setting, value in ({"EMR_APPLICATION_ID": "00app"} | shipped).items():
        monkeypatch.setenv(setting, value)
    parameters = spark.submit_parameters(("kafka",), job="kafka_orders_to_bronze")
    named = {*re.findall(r"s3://[^\s,#]+", parameters), f"s3://{shipped['CODE_BUCKET']}/jobs/a_job.py"}
    assert {"python", "releases"} == {uri.split("/")[3] for uri in named}
    assert [uri for uri in named if not may(found, role, GET, uri.replace("s3://", "arn:aws:s3:::"))] == []


@pytest.mark.parametrize("role", EMR)
def test_every_job_run_may_use_the_log_store_of_the_fallback(found: list[Statement], role: str) -> None:
    for action in ("GetItem", "PutItem", "UpdateItem", "Query"):
        assert may(found, role, f"dynamodb:{action}", f"{TABLE}lakehouse_delta_log")
        assert not may(found, role, f"dynamodb:{action}", f"{TABLE}another")


@pytest.mark.parametrize("role", ["dq_dashboard", "analytics_app"])
def test_who_only_shows_has_no_action_that_changes_the_data(found: list[Statement], role: str) -> None:
    writes = ("Put", "Delete", "Create", "Update", "Write", "Restore", "Abort")
    changing = {
        (action, resource)
        for one in found
        if one.of == role and one.policy == "access"
        for action in one.actions
        for resource in one.resources
        if action.split(":")[1].startswith(writes) and resource != f"{LAKE}/athena-results/lakehouse-gold/*"
    }
    assert changing == set()


def test_airflow_gives_each_role_of_job_runs_to_emr_and_no_other(found: list[Statement]) -> None:
    (passing,) = [one for one in found if one.of == "airflow" and "iam:PassRole" in one.actions]
    assert sorted(passing.resources) == sorted(f"{ROLE}{role.replace('_', '-')}" for role in EMR)


def test_only_who_judges_or_erases_is_let_near_verdicts(found: list[Statement]) -> None:
    roles_of_all = {one.of for one in found if one.policy == "access"}
    assert {role for role in roles_of_all if may(found, role, PUT, VERDICT, CREATED)} == {
        "emr_gate", "emr_maintain", "emr_recover", "emr_erase",
    }  # fmt: skip
    assert {role for role in roles_of_all if may(found, role, PUT, VERDICT)} == {"emr_erase"}


def test_nobody_reads_the_secret_of_a_source_that_has_none(planned: list[dict[str, Any]]) -> None:
    names = {one["values"]["name"] for one in planned if one["type"] == "aws_secretsmanager_secret"}
    sources = {"hubspot", "kafka", "salesforce", "snowflake"}
    assert names == {f"lakehouse/{one}/credentials" for one in sources} | {
        "snowflake/dq-platform-credentials"
    }


def test_a_release_is_created_and_never_changed(found: list[Statement]) -> None:
    """By the bucket's own policy, which holds for everybody, the deployer and an administrator included."""
    denied = [one for one in found if one.of == "bucket code" and not one.allow]
    tls = {"aws:SecureTransport": "true"}

    def refused(action: str, key: str, **context: str) -> bool:
        said = tls | {name.replace("_", ":", 1).replace("_", "-"): value for name, value in context.items()}
        return any(one.applies(action, f"{CODE}/{key}", said) for one in denied)

    for key in (
        "releases/0123456789abcdef/lib/lakehouse.zip",
        "python/0123456789abcdef.tar.gz",
        "lambda/0123456789abcdef/dq_runner.zip",
    ):
        # As S3 says it: an upload in parts is decided when it is completed.
        whole = {"s3_ObjectCreationOperation": "true"}
        assert refused(PUT, key, **whole)
        assert not refused(PUT, key, **whole, s3_if_none_match="*")
        assert not refused(PUT, key, s3_ObjectCreationOperation="false")
        assert refused(DELETE, key)
        assert refused("s3:DeleteObjectVersion", key)
    for key in ("dags/daily_batch_pipeline_dag.py", "active.json"):
        assert not refused(PUT, key, s3_ObjectCreationOperation="true")
        assert not refused(DELETE, key)


def test_every_wildcard_is_on_the_list_with_its_reason(found: list[Statement]) -> None:
    assert iam_policies.unlisted(found) == []
    assert all(one["why"] for one in iam_policies.exceptions())


def test_the_list_holds_nothing_that_is_not_needed(found: list[Statement]) -> None:
    assert iam_policies.unused(found) == []


def test_a_role_is_taken_by_its_service_for_this_account_only(found: list[Statement]) -> None:
    trusts = {one.of: one for one in found if one.policy == "trust"}
    assert len(trusts) == 15
    for role, trust in trusts.items():
        (kind,) = trust.principals
        assert kind == "Service"
        # Lambda sends neither account nor function with the call that takes the role.
        if role != "dq_runner":
            assert trust.conditions["StringEquals"]["aws:SourceAccount"] == (ACCOUNT,)
            assert "aws:SourceArn" in trust.conditions["ArnLike"]


def test_buckets_refuse_what_is_not_tls(planned: list[dict[str, Any]], found: list[Statement]) -> None:
    buckets = {one.of for one in found if one.of.startswith("bucket ")}
    assert buckets == {
        "bucket lake",
        "bucket code",
        "bucket logs",
        "bucket dq-reports",
        "bucket reports",
        "bucket account_baseline",
    }
    for bucket in buckets:
        (deny,) = [one for one in found if one.of == bucket and one.sid == "TlsOnly"]
        assert deny.applies(
            "s3:GetObject", f"{deny.resources[0].rstrip('/*')}/x", {"aws:SecureTransport": "false"}
        )


# -- the evaluation itself ------------------------------------------------------------------------------------


def policy(*statements: dict[str, Any]) -> list[Statement]:
    return parse("role", "access", json.dumps({"Version": "2012-10-17", "Statement": list(statements)}))


ALLOW = {"Effect": "Allow", "Action": "s3:Get*", "Resource": "arn:aws:s3:::b/x/*"}


def test_what_nothing_allows_is_denied() -> None:
    assert not may(policy(ALLOW), "role", "s3:PutObject", "arn:aws:s3:::b/x/1")
    assert not may(policy(ALLOW), "role", "s3:GetObject", "arn:aws:s3:::b/y/1")
    assert may(policy(ALLOW), "role", "s3:getobject", "arn:aws:s3:::b/x/1")


def test_a_deny_wins_wherever_it_stands() -> None:
    deny = {"Effect": "Deny", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/x/secret"}
    for order in ((ALLOW, deny), (deny, ALLOW)):
        assert not may(policy(*order), "role", "s3:GetObject", "arn:aws:s3:::b/x/secret")
        assert may(policy(*order), "role", "s3:GetObject", "arn:aws:s3:::b/x/1")


def test_a_condition_on_what_the_request_does_not_say_does_not_match() -> None:
    found = policy(ALLOW | {"Condition": {"StringEquals": {"k": ["v"]}}})
    assert may(found, "role", "s3:GetObject", "arn:aws:s3:::b/x/1", {"k": "v"})
    assert not may(found, "role", "s3:GetObject", "arn:aws:s3:::b/x/1")


def test_a_condition_on_what_the_request_says_at_all() -> None:
    found = policy(ALLOW | {"Condition": {"Null": {"k": ["false"]}}})
    assert may(found, "role", "s3:GetObject", "arn:aws:s3:::b/x/1", {"k": "anything"})
    assert not may(found, "role", "s3:GetObject", "arn:aws:s3:::b/x/1")
    absent = policy(ALLOW | {"Condition": {"Null": {"k": ["true"]}}})
    assert may(absent, "role", "s3:GetObject", "arn:aws:s3:::b/x/1")
    assert not may(absent, "role", "s3:GetObject", "arn:aws:s3:::b/x/1", {"k": "anything"})


@pytest.mark.parametrize(
    "statement",
    [
        {"Effect": "Allow", "NotAction": "s3:*", "Resource": "*"},
        {"Effect": "Allow", "Action": "s3:*", "NotResource": "arn:aws:s3:::b"},
        {"Effect": "Deny", "NotAction": "s3:*", "Resource": "*"},
    ],
    ids=["NotAction", "NotResource", "NotAction of a Deny"],
)
def test_forms_that_are_not_evaluated_are_refused(statement: dict[str, Any]) -> None:
    with pytest.raises(Unknown):
        policy(statement)


def test_a_deny_of_everything_but_something() -> None:
    deny = {"Effect": "Deny", "Action": "s3:*", "NotResource": "arn:aws:s3:::b/x/*"}
    found = policy(ALLOW | {"Resource": "*"}, deny)
    assert may(found, "role", "s3:GetObject", "arn:aws:s3:::b/x/1")
    assert not may(found, "role", "s3:GetObject", "arn:aws:s3:::b/y/1")


def test_an_operator_that_is_not_known_is_refused() -> None:
    found = policy(ALLOW | {"Condition": {"StringNotEquals": {"k": ["v"]}}})
    with pytest.raises(Unknown, match="StringNotEquals"):
        may(found, "role", "s3:GetObject", "arn:aws:s3:::b/x/1", {"k": "w"})


def test_a_role_that_is_not_there_is_no_role_that_may_nothing() -> None:
    with pytest.raises(Unknown, match="no role other"):
        may(policy(ALLOW), "other", "s3:GetObject", "arn:aws:s3:::b/x/1")


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        ("*", True),
        ("arn:aws:s3:::*", True),
        ("arn:aws:s3:::bucket/*", True),
        ("arn:aws:s3:::bucket*/x", True),
        ("arn:aws:s3:::bucket/prefix/*", False),
        ("arn:aws:s3:::bucket", False),
        ("arn:aws:sqs:eu-central-1:*:q", True),
        ("arn:aws:glue:eu-central-1:1:table/db/*", False),
        ("arn:aws:glue:eu-central-1:1:table/*", True),
        ("arn:aws:logs:eu-central-1:1:log-group:*", True),
        ("arn:aws:emr-serverless:eu-central-1:1:/applications/*", True),
        ("arn:aws:emr-serverless:eu-central-1:1:/applications/00a/jobruns/*", False),
    ],
)
def test_what_counts_as_open(resource: str, expected: bool) -> None:
    assert is_open(resource) is expected


def test_brackets_in_a_pattern_are_only_brackets() -> None:
    assert like("a[1]", "a[1]")
    assert not like("a1", "a[1]")
