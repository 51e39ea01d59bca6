"""The values that differ from one environment to the next, by name.

A name is looked up as an environment variable first (the local stack), then in deployment.json, which the deployment
puts beside the DAGs (scripts/release.py), and as an Airflow Variable last. Templates ask for them at run time, so a DAG
file needs none of them to be imported.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from airflow.exceptions import AirflowFailException

#: Every name a DAG may ask for, with what it means; a missing one is explained with these words.
KNOWN = {
    "AWS_REGION": "the Region of everything, e.g. eu-central-1",
    "LAKE_BUCKET": "the bucket of the lake (Bronze, Silver, Gold, landing, run outcomes), without s3://",
    "CODE_BUCKET": "where jobs/, lib/lakehouse.zip, jars/ and config/ are, without s3://: a bucket, or a release in it "
    "(<bucket>/releases/<id>)",
    "LAKEHOUSE_CONFIG": "the s3:// address of the jobs' configuration, e.g. s3://<code bucket>/config/prod.yaml",
    "EMR_APPLICATION_ID": "the id of the EMR Serverless application that runs the jobs",
    "EMR_EXECUTION_ROLE_ARN": "the role the jobs run as",
    "EMR_GATE_ROLE_ARN": "the role of the gates, which may not write Gold (default EMR_EXECUTION_ROLE_ARN)",
    "EMR_STREAM_ROLE_ARN": "the role of the order stream (default EMR_EXECUTION_ROLE_ARN)",
    "EMR_LOG_URI": "where EMR writes the jobs' logs (default s3://<LAKE_BUCKET>/logs/emr/)",
    "EMR_PYTHON_ARCHIVE": "the s3:// address of the packed Python environment, when the image lacks the libraries",
    "ALERT_TOPIC_ARN": "the SNS topic that hears of failed tasks and runs",
    "KAFKA_MODE": "batch (default) or stream: how the order topic is read; the jobs' configuration says the same",
    "STREAM_MAX_AGE_MINUTES": "how old the stream's progress may be (default 15)",
    "STREAM_MAX_LAG": "how many records the stream may be behind the topic (default 100000)",
}

#: What the deployment says, where there was one: the same names as above.
DEPLOYMENT = Path(__file__).resolve().parents[1] / "deployment.json"
#: Jobs that judge what others wrote, and run as a role that can write nothing but verdicts.
GATES = ("dq_check_bronze", "dq_check_silver")


def find(name: str) -> str | None:
    """The value of a setting, or None where neither the environment, nor the deployment, nor a Variable has it."""
    if name not in KNOWN:
        raise AirflowFailException(f"No setting is called {name}; there are {', '.join(sorted(KNOWN))}.")
    if name in os.environ:  # set to nothing, it says that there is none
        return os.environ[name] or None
    if DEPLOYMENT.exists():
        deployed = json.loads(DEPLOYMENT.read_text(encoding="utf-8"))
        if name in deployed:
            return str(deployed[name]) or None
    from airflow.sdk import Variable

    value = Variable.get(name, default=None)
    return str(value) if value else None


def require(name: str) -> str:
    """The value of a setting; a missing one fails the task at once, since no retry would bring it."""
    value = find(name)
    if value is None:
        raise AirflowFailException(
            f"Setting {name} is missing: {KNOWN[name]}. Set the Airflow Variable {name} "
            f"(airflow variables set {name} <value>) or the environment variable of that name, then clear this task."
        )
    return value


def execution_role(job: str) -> str:
    """The role of a batch job: the gates' own where there is one."""
    own = find("EMR_GATE_ROLE_ARN") if job in GATES else None
    return own or require("EMR_EXECUTION_ROLE_ARN")


def log_uri() -> str:
    """Where EMR writes job logs, with a trailing slash."""
    return (find("EMR_LOG_URI") or f"s3://{require('LAKE_BUCKET')}/logs/emr").rstrip("/") + "/"
