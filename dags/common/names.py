"""The values that differ from one environment to the next, by name.

It imports no Airflow: scripts/release.py reads it, too.
"""

from __future__ import annotations

from common import roles

#: Every name a DAG may ask for, with what it means; a missing one is explained with these words.
KNOWN = {
    "AWS_REGION": "the Region of everything, e.g. eu-central-1",
    "LAKE_BUCKET": "the bucket of the lake (Bronze, Silver, Gold, landing, run outcomes), without s3://",
    "CODE_BUCKET": "where jobs/, lib/lakehouse.zip, jars/ and config/ are, without s3://: a bucket, or a release in it "
    "(<bucket>/releases/<id>)",
    "LAKEHOUSE_CONFIG": "the s3:// address of the jobs' configuration, e.g. s3://<code bucket>/config/prod.yaml",
    "EMR_APPLICATION_ID": "the id of the EMR Serverless application that runs the jobs",
    **{
        roles.setting(
            role
        ): f"the role of job runs of the kind {role} (common/roles.py; default EMR_EXECUTION_ROLE_ARN)"
        for role in roles.JOBS
    },
    "EMR_EXECUTION_ROLE_ARN": "the role of every job run where nobody tells roles apart, as on a laptop",
    "EMR_LOG_URI": "where EMR writes the jobs' logs (default s3://<LAKE_BUCKET>/logs/emr/)",
    "EMR_PYTHON_ARCHIVE": "the s3:// address of the packed Python environment, when the image lacks the libraries",
    "ALERT_TOPIC_ARN": "the SNS topic that hears of failed tasks and runs",
    "KAFKA_MODE": "batch (default) or stream: how the order topic is read; the jobs' configuration says the same",
    "STREAM_MAX_AGE_MINUTES": "how old the stream's progress may be (default 15)",
    "STREAM_MAX_LAG": "how many records the stream may be behind the topic (default 100000)",
}
