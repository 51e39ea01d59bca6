"""What a submission tells Spark, and where the environment's values come from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from airflow.exceptions import AirflowFailException

from common import roles, settings, spark
from lakehouse.submit import SCRIPTS
from tests.support import REPO


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODE_BUCKET", "code")
    monkeypatch.setenv("LAKE_BUCKET", "lake")
    monkeypatch.setenv("LAKEHOUSE_CONFIG", "s3://code/config/prod.yaml")
    monkeypatch.setenv("EMR_APPLICATION_ID", "00app")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("EMR_PYTHON_ARCHIVE", "")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("spark.a b", {"spark.a": "b"}),
        ("spark.a   -Dx=1 -Dy=2", {"spark.a": "-Dx=1 -Dy=2"}),
        ("spark.a=b c", {"spark.a": "b c"}),
        (" spark.a = b ", {"spark.a": "b"}),
        ("# spark.a b", {}),
        ("", {}),
    ],
)
def test_properties_files_are_read_as_spark_reads_them(line: str, expected: dict[str, str]) -> None:
    assert spark.parse_properties(line) == expected


def test_both_property_files_reach_the_job() -> None:
    properties = spark.spark_properties()
    assert properties["spark.sql.session.timeZone"] == "UTC"
    assert properties["spark.delta.logStore.s3.impl"].endswith("S3ConditionalLogStore")
    assert "spark.jars" not in properties, "--jars would replace it: it has to travel there"


# https://docs.aws.amazon.com/emr/latest/EMR-Serverless-UserGuide/log4j2.html
FIXED = (
    "rootLogger.appenderRef.stdout.ref", "appender.console.type", "appender.console.name",
    "appender.console.target", "appender.console.layout.type", "appender.console.layout.pattern",
)  # fmt: skip


def test_the_declared_logging_reaches_both_jvms_and_python() -> None:
    defaults, driver, executor = spark.application_configuration()
    assert defaults == {"classification": "spark-defaults", "properties": spark.spark_properties()}
    declared = yaml.safe_load((REPO / "emr_configs" / "logging.yaml").read_text())
    assert driver == {"classification": "spark-driver-log4j2", "properties": declared["jvm"]}
    assert executor == {"classification": "spark-executor-log4j2", "properties": declared["jvm"]}
    parameters = spark.submit_parameters((), job="a_job", run_id="r1")
    for conf in (
        "spark.emr-serverless.driverEnv.LAKEHOUSE_LOG_LEVELS=root=WARNING,lakehouse=INFO",
        "spark.emr-serverless.driverEnv.LAKEHOUSE_RUN_ID=r1",
        "spark.emr-serverless.driverEnv.LAKEHOUSE_JOB=a_job",
        "spark.executorEnv.LAKEHOUSE_RUN_ID=r1",
    ):
        assert f"--conf {conf}" in parameters
    assert "RUN_ID" not in spark.submit_parameters(), "a job without a run has no empty one"


def test_the_declared_logging_is_what_emr_serverless_takes() -> None:
    properties = spark.logging_declared()["jvm"]
    assert all(isinstance(value, str) for value in properties.values()), "AWS takes text only"
    assert not set(properties) & set(FIXED)
    # A properties file is Latin-1, and whoever writes it may or may not escape a backslash.
    assert all(value.isascii() and "\\" not in value and "\n" not in value for value in properties.values())


def test_too_many_log_properties_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "emr_configs").mkdir()
    many = {"python": {}, "jvm": {f"logger.x{n}.level": "error" for n in range(101)}}
    (tmp_path / "emr_configs" / "logging.yaml").write_text(yaml.safe_dump(many))
    monkeypatch.setattr(spark, "DAGS", tmp_path)
    with pytest.raises(ValueError, match="101 Log4j properties; EMR Serverless takes at most 100"):
        spark.logging_declared.__wrapped__()


def test_the_library_and_every_jar_travel_with_the_job() -> None:
    words = spark.submit_parameters(("kafka",)).split(" ")
    options = dict(zip(words[::2], words[1::2], strict=True))
    assert options["--py-files"] == "s3://code/lib/lakehouse.zip"
    jars = options["--jars"].split(",")
    assert "/usr/share/aws/delta/lib/delta-spark.jar" in jars
    assert "s3://code/jars/spark/lakehouse-jvm.jar" in jars
    kafka = [jar for jar in jars if jar.startswith("s3://code/jars/kafka/")]
    assert len(kafka) == 4
    assert any("spark-sql-kafka-0-10_2.13" in jar for jar in kafka)


def test_what_the_configuration_refers_to_is_in_the_environment_of_the_driver() -> None:
    names = re.findall(r"\$\{([A-Z_]+)\}", (REPO / "config" / "prod.yaml").read_text())
    parameters = spark.submit_parameters()
    for name in set(names):
        assert f"--conf spark.emr-serverless.driverEnv.{name}=" in parameters


def test_a_job_without_kafka_has_no_kafka_jar() -> None:
    assert "kafka" not in spark.submit_parameters()


def test_the_python_archive_is_used_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMR_PYTHON_ARCHIVE", "s3://code/env/pyspark_env.tar.gz")
    parameters = spark.submit_parameters()
    assert "--conf spark.archives=s3://code/env/pyspark_env.tar.gz#environment" in parameters
    assert "spark.emr-serverless.driverEnv.PYSPARK_PYTHON=./environment/bin/python" in parameters


def test_a_deployed_copy_of_the_configuration_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dags" / "emr_configs").mkdir(parents=True)
    (tmp_path / "emr_configs").mkdir()
    monkeypatch.setattr(spark, "DAGS", tmp_path / "dags")
    assert spark.config_dir() == tmp_path / "dags" / "emr_configs"
    (tmp_path / "dags" / "emr_configs").rmdir()
    assert spark.config_dir() == tmp_path / "emr_configs"
    (tmp_path / "emr_configs").rmdir()
    with pytest.raises(FileNotFoundError, match="the deployment copies it"):
        spark.config_dir()


def test_an_unknown_jar_set_is_refused() -> None:
    with pytest.raises(ValueError, match="no jar for the configuration 'nonsense'"):
        spark.manifest_jars("nonsense")


def test_a_setting_comes_from_the_environment_then_from_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_LAKE_BUCKET", "from-variable")
    monkeypatch.delenv("LAKE_BUCKET", raising=False)
    assert settings.require("LAKE_BUCKET") == "from-variable"
    monkeypatch.setenv("LAKE_BUCKET", "from-environment")
    assert settings.require("LAKE_BUCKET") == "from-environment"


def test_a_setting_set_to_nothing_is_known_to_be_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_ALERT_TOPIC_ARN", "arn")
    monkeypatch.setenv("ALERT_TOPIC_ARN", "")
    assert settings.find("ALERT_TOPIC_ARN") is None


def test_a_missing_setting_says_what_it_is_and_where_to_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKE_BUCKET", "")
    with pytest.raises(
        AirflowFailException, match=r"LAKE_BUCKET is missing: the bucket of the lake.*variables set"
    ):
        settings.require("LAKE_BUCKET")


def test_a_misspelt_setting_is_refused() -> None:
    with pytest.raises(
        AirflowFailException, match="No setting is called LAKE_BUKET; there are ALERT_TOPIC_ARN"
    ):
        settings.find("LAKE_BUKET")


def test_logs_go_to_the_lake_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKE_BUCKET", "lake")
    monkeypatch.setenv("EMR_LOG_URI", "")
    assert settings.log_uri() == "s3://lake/logs/emr/"
    monkeypatch.setenv("EMR_LOG_URI", "s3://logs/emr")
    assert settings.log_uri() == "s3://logs/emr/"


def test_what_the_deployment_says_comes_between_environment_and_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = tmp_path / "deployment.json"
    deployment.write_text('{"LAKE_BUCKET": "from-deployment", "ALERT_TOPIC_ARN": ""}')
    monkeypatch.setattr(settings, "DEPLOYMENT", deployment)
    monkeypatch.setenv("AIRFLOW_VAR_LAKE_BUCKET", "from-variable")
    monkeypatch.setenv("AIRFLOW_VAR_ALERT_TOPIC_ARN", "from-variable")
    monkeypatch.setenv("AIRFLOW_VAR_KAFKA_MODE", "stream")
    for name in ("LAKE_BUCKET", "ALERT_TOPIC_ARN"):
        monkeypatch.delenv(name, raising=False)
    assert settings.require("LAKE_BUCKET") == "from-deployment"
    assert settings.find("ALERT_TOPIC_ARN") is None
    assert settings.find("KAFKA_MODE") == "stream", "what it does not say is asked of Airflow"
    monkeypatch.setenv("LAKE_BUCKET", "from-environment")
    assert settings.require("LAKE_BUCKET") == "from-environment"


def test_every_job_and_script_has_one_role() -> None:
    declared = [job for jobs in roles.JOBS.values() for job in jobs]
    assert sorted(declared) == sorted({path.stem for path in (REPO / "jobs").glob("*.py")} | SCRIPTS.keys())
    assert (
        set(roles.OTHERWISE.values()) | {role for role, jobs in roles.JOBS.items() if jobs}
        == roles.JOBS.keys()
    )


def test_a_job_run_has_the_role_of_its_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for role in roles.JOBS:
        monkeypatch.setenv(roles.setting(role), role)
    for role, jobs in roles.JOBS.items():
        assert {settings.execution_role(job) for job in jobs} <= {role}
    monkeypatch.setenv("EMR_EXECUTION_ROLE_ARN", "one for all")
    assert settings.execution_role("a job of somebody") == "one for all"
    monkeypatch.setenv("EMR_GATE_ROLE_ARN", "")
    assert settings.execution_role("dq_check_bronze") == "one for all"


def test_where_no_role_is_told_no_job_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*roles.SETTINGS, "EMR_EXECUTION_ROLE_ARN"):
        monkeypatch.setenv(name, "")
    with pytest.raises(AirflowFailException, match="Setting EMR_GATE_ROLE_ARN is missing"):
        settings.execution_role("dq_check_silver")
    with pytest.raises(AirflowFailException, match="Setting EMR_EXECUTION_ROLE_ARN is missing"):
        settings.execution_role("a job of somebody")


@pytest.mark.parametrize(
    ("arguments", "role"),
    [
        (["status"], "recover"),
        (["erase", "--subject", "hubspot:1"], "erase"),
        (["--config", "erase", "--run-id", "r", "status"], "recover"),
        (["--run-id", "r", "erase", "--status"], "erase"),
        (["--run-id=r", "erase"], "erase"),
        (["discard", "--table", "bronze.fx_rates", "--why", "erase"], "recover"),
        (["from-params", '{"action": "erase", "apply": true}'], "erase"),
        (["from-params", '{"action": "discard", "why": "erase"}'], "recover"),
        (["from-params", "no JSON"], "recover"),
        (["from-params"], "recover"),
        ([], "recover"),
    ],
)
def test_only_an_erasure_runs_as_who_may_replace_a_verdict(arguments: list[str], role: str) -> None:
    assert roles.of("recover", arguments) == role
    assert roles.of("dq_check_bronze", arguments) == "gate"


def test_what_certifies_what_it_brought_runs_as_who_may() -> None:
    assert roles.of("reconcile", ["--ids", "--mark-gone"]) == "recover"
    assert roles.of("reconcile", ["--ids", "--no-mark-gone"]) == "ingest"


def test_the_stream_has_a_role_of_its_own() -> None:
    assert roles.of("kafka_orders_to_bronze", ["--config", "c", "--stream"]) == "stream"
    assert roles.of("kafka_orders_to_bronze", ["--config", "c"]) == "ingest"


def test_no_copy_of_the_logs_is_kept_beside_ours() -> None:
    assert spark.monitoring_configuration("s3://logs/emr/") == {
        "s3MonitoringConfiguration": {"logUri": "s3://logs/emr/"},
        "managedPersistenceMonitoringConfiguration": {"enabled": False},
    }


def test_a_release_in_the_code_bucket_is_named_like_a_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODE_BUCKET", "code/releases/0123456789abcdef")
    parameters = spark.submit_parameters()
    assert "--py-files s3://code/releases/0123456789abcdef/lib/lakehouse.zip" in parameters
