"""What a submission tells Spark, built in one place from the files of emr_configs/.

Static properties travel as configurationOverrides (a value may hold spaces there), what differs from one
environment to the next as sparkSubmitParameters, which are templates.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from common import settings

DAGS = Path(__file__).resolve().parents[1]
#: Later files win. Both are read by every run, production and local.
PROPERTY_FILES = ("spark-defaults.conf", "delta-core.conf")
#: EMR Serverless takes at most this many properties of one classification.
MAX_PROPERTIES = 100
#: Configurations of the jars manifest that jobs need and the image lacks.
JAR_SETS = dict.fromkeys(("kafka_orders_to_bronze", "recover", "backfill"), ("kafka",))
#: The jar built from jvm/: the log store that delta-core.conf names.
OWN_JAR = "lakehouse-jvm.jar"
#: EMR Serverless sets a log4j2.properties file for each, from what a submission gives.
LOG4J_CLASSIFICATIONS = ("spark-driver-log4j2", "spark-executor-log4j2")


def config_dir() -> Path:
    """emr_configs/: shipped inside the DAGs folder by the deployment, beside it in a clone."""
    for folder in (DAGS / "emr_configs", DAGS.parent / "emr_configs"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(
        f"emr_configs/ is neither in {DAGS} nor beside it: the deployment copies it into the DAGs folder, "
        "because DAGs read only what is shipped with them."
    )


def parse_properties(text: str) -> dict[str, str]:
    """A spark-defaults file: `key value` or `key=value` per line, # for comments."""
    properties = {}
    for line in text.splitlines():
        line = line.strip()
        if line and not line.startswith("#"):
            key, _, value = re.sub(r"\s*[=\s]\s*", "=", line, count=1).partition("=")
            properties[key] = value.strip()
    return properties


@cache
def spark_properties() -> dict[str, str]:
    """The properties of every job but spark.jars, which --jars would replace (see `jars`)."""
    properties: dict[str, str] = {}
    for name in PROPERTY_FILES:
        properties |= parse_properties((config_dir() / name).read_text(encoding="utf-8"))
    properties.pop("spark.jars", None)
    if len(properties) > MAX_PROPERTIES:
        raise ValueError(
            f"{len(properties)} Spark properties; EMR Serverless takes at most {MAX_PROPERTIES}."
        )
    return properties


@cache
def logging_declared() -> dict[str, dict[str, str]]:
    """emr_configs/logging.yaml: levels of Python's loggers under `python`, Log4j's properties under `jvm`."""
    declared: dict[str, dict[str, str]] = yaml.safe_load(
        (config_dir() / "logging.yaml").read_text(encoding="utf-8")
    )
    if len(declared["jvm"]) > MAX_PROPERTIES:
        raise ValueError(
            f"{len(declared['jvm'])} Log4j properties; EMR Serverless takes at most {MAX_PROPERTIES}."
        )
    return declared


@cache
def sizes() -> dict[str, dict[str, Any]]:
    """emr_configs/sizes.yaml: Spark's properties of a job run's `workers`, and `max_executors` by job."""
    declared: dict[str, dict[str, Any]] = yaml.safe_load(
        (config_dir() / "sizes.yaml").read_text(encoding="utf-8")
    )
    return declared


def size(job: str) -> dict[str, str]:
    """The properties that say how much of the application's capacity a run of this job takes."""
    most = sizes()["max_executors"]
    workers = {key: str(value).lower() for key, value in sizes()["workers"].items()}
    return workers | {"spark.dynamicAllocation.maxExecutors": str(most.get(job, most["default"]))}


def application_configuration() -> list[dict[str, Any]]:
    """The applicationConfiguration of every submission: Spark's properties, and Log4j's of driver and executors."""
    return [
        {"classification": "spark-defaults", "properties": dict(spark_properties())},
        *(
            {"classification": name, "properties": dict(logging_declared()["jvm"])}
            for name in LOG4J_CLASSIFICATIONS
        ),
    ]


def monitoring_configuration(log_uri: str) -> dict[str, Any]:
    """Where a job run's logs go: our bucket alone, with our key and retention, where an erasure can be followed.

    Without a word about it EMR keeps a copy of its own for 30 days (managedPersistenceMonitoringConfiguration).
    """
    return {
        "s3MonitoringConfiguration": {"logUri": log_uri},
        "managedPersistenceMonitoringConfiguration": {"enabled": False},
    }


@cache
def base_jars() -> tuple[str, ...]:
    """The spark.jars of the property files: what every job needs on its class path."""
    jars = ""
    for name in PROPERTY_FILES:
        text = (config_dir() / name).read_text(encoding="utf-8")
        jars = parse_properties(text).get("spark.jars", jars)
    return tuple(jar for jar in jars.split(",") if jar)


@cache
def manifest_jars(configuration: str) -> tuple[str, ...]:
    """The file names of one configuration of the jars manifest, as they lie in s3://CODE_BUCKET/jars/<it>/."""
    manifest = ET.parse(config_dir() / "jars.xml").getroot()  # nosec B314  # our own file
    jars = tuple(
        f"{dependency.get('name')}-{dependency.get('rev')}.jar"
        for dependency in manifest.iter("dependency")
        if (dependency.get("conf") or "").split("->")[0] == configuration
    )
    if not jars:
        raise ValueError(f"emr_configs/jars.xml has no jar for the configuration {configuration!r}.")
    return jars


def submit_parameters(jar_sets: tuple[str, ...] = (), *, job: str = "", run_id: str = "") -> str:
    """sparkSubmitParameters of a job; called by the template when a task runs.

    ``job`` says how large it is. ``job`` and ``run_id`` go on every line that its JVMs log.
    """
    code = f"s3://{settings.require('CODE_BUCKET')}"
    parameters = ["--py-files", f"{code}/lib/lakehouse.zip"]
    jars = [*base_jars(), f"{code}/jars/spark/{OWN_JAR}"]
    jars += [f"{code}/jars/{name}/{jar}" for name in jar_sets for jar in manifest_jars(name)]
    parameters += ["--jars", ",".join(jars)]
    for key, value in size(job).items():
        parameters += ["--conf", f"{key}={value}"]
    # What the jobs' configuration refers to by name.
    for name in ("LAKEHOUSE_CONFIG", "LAKE_BUCKET", "EMR_APPLICATION_ID", "AWS_REGION"):
        parameters += ["--conf", f"spark.emr-serverless.driverEnv.{name}={settings.require(name)}"]
    levels = ",".join(f"{name}={level}" for name, level in logging_declared()["python"].items())
    parameters += ["--conf", f"spark.emr-serverless.driverEnv.LAKEHOUSE_LOG_LEVELS={levels}"]
    for name, value in (("LAKEHOUSE_JOB", job), ("LAKEHOUSE_RUN_ID", run_id)):
        if value:
            parameters += ["--conf", f"spark.emr-serverless.driverEnv.{name}={value}"]
            parameters += ["--conf", f"spark.executorEnv.{name}={value}"]
    if archive := settings.find("EMR_PYTHON_ARCHIVE"):
        python = "./environment/bin/python"
        for key, value in {
            "spark.archives": f"{archive}#environment",
            "spark.emr-serverless.driverEnv.PYSPARK_DRIVER_PYTHON": python,
            "spark.emr-serverless.driverEnv.PYSPARK_PYTHON": python,
            "spark.executorEnv.PYSPARK_PYTHON": python,
        }.items():
            parameters += ["--conf", f"{key}={value}"]
    return " ".join(parameters)
