"""What a submission tells Spark, and where the environment's values come from."""

from __future__ import annotations

from pathlib import Path

import pytest
from airflow.exceptions import AirflowFailException

from common import settings, spark


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODE_BUCKET", "code")
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
