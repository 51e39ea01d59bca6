"""What the pipeline expects to find in the account: buckets, catalog, secrets, the EMR application, the artefacts.

Idempotent: run by every `up` and `seed`; what exists is left alone, an artefact is uploaded when its bytes differ.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from local.stack import Stack

REPO = Path(__file__).resolve().parents[1]
ACCOUNT = "123456789012"
LAKE_BUCKET = "lakehouse-local"
CODE_BUCKET = "lakehouse-local-code"
DQ_REPORTS_BUCKET = "lakehouse-local-dq-reports"
DQ_SECRET = "snowflake/dq-platform-credentials"  # nosec B105: the name of one
APPLICATION = "lakehouse-local"
RELEASE_LABEL = "emr-spark-8.2.0"
ROLE = "lakehouse-emr-execution"
DATABASES = ("lakehouse_bronze", "lakehouse_silver", "lakehouse_gold", "lakehouse_ops")
WORKGROUP = "lakehouse"
TOPIC = "lakehouse-alerts"
# The fewest that terraform/variables.tf takes: a laptop's disk is small.
NONCURRENT_DAYS = 7
ZIP_TIME = (1980, 1, 1, 0, 0, 0)
#: What lies beside the library's zip in the code bucket.
FOLDERS = (("config", "*.yaml"), ("jobs", "*.py"), ("scripts", "*.py"), ("emr_configs", "*"))


def run(stack: Stack, say: Callable[[str], None]) -> dict[str, str]:
    """Create what is missing; returns what the stack exports about it."""
    _buckets(stack)
    _catalog(stack)
    topic = stack.client("sns").create_topic(Name=TOPIC)["TopicArn"]
    _secrets(stack)
    role = _role(stack)
    application = _application(stack)
    uploaded = upload_artefacts(stack)
    if uploaded:
        say(f"uploaded to s3://{CODE_BUCKET}: {_summary(uploaded)}")
    return {
        "LAKE_BUCKET": LAKE_BUCKET,
        "CODE_BUCKET": CODE_BUCKET,
        "S3_DQ_REPORTS_BUCKET": DQ_REPORTS_BUCKET,
        "LAKEHOUSE_CONFIG": f"s3://{CODE_BUCKET}/config/local.yaml",
        "EMR_APPLICATION_ID": application,
        "EMR_EXECUTION_ROLE_ARN": role,
        "ALERT_TOPIC_ARN": topic,
    }


def _summary(keys: list[str]) -> str:
    return ", ".join(keys) if len(keys) <= 4 else f"{len(keys)} files"


def _buckets(stack: Stack) -> None:
    s3 = stack.client("s3")
    there = {b["Name"] for b in s3.list_buckets()["Buckets"]}
    for name in (LAKE_BUCKET, CODE_BUCKET, DQ_REPORTS_BUCKET):
        if name not in there:
            s3.create_bucket(
                Bucket=name,
                CreateBucketConfiguration={"LocationConstraint": stack.exports["AWS_REGION"]},
            )
        keep_versions(s3, name)


def keep_versions(s3: Any, bucket: str) -> None:
    """As terraform/modules/bucket has it: what is overwritten or deleted can be brought back for some days."""
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    rule = {
        "ID": "what-was-overwritten-or-deleted",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "NoncurrentVersionExpiration": {"NoncurrentDays": NONCURRENT_DAYS},
        "Expiration": {"ExpiredObjectDeleteMarker": True},
    }
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})


def _catalog(stack: Stack) -> None:
    glue = stack.client("glue")
    there = {
        d["Name"] for page in glue.get_paginator("get_databases").paginate() for d in page["DatabaseList"]
    }
    for name in DATABASES:
        if name not in there:
            layer = name.removeprefix("lakehouse_")
            glue.create_database(DatabaseInput={"Name": name, "LocationUri": f"s3://{LAKE_BUCKET}/{layer}/"})
    athena = stack.client("athena")
    if WORKGROUP not in {w["Name"] for w in athena.list_work_groups()["WorkGroups"]}:
        athena.create_work_group(
            Name=WORKGROUP,
            Configuration={
                "ResultConfiguration": {"OutputLocation": f"s3://{LAKE_BUCKET}/athena-results/"},
                "EnforceWorkGroupConfiguration": True,
            },
        )


def _secrets(stack: Stack) -> None:
    client = stack.client("secretsmanager")
    for name, value in secrets(stack).items():
        text = json.dumps(value, sort_keys=True)
        try:
            if client.get_secret_value(SecretId=name)["SecretString"] != text:
                client.put_secret_value(SecretId=name, SecretString=text)
        except ClientError as e:
            if e.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
            client.create_secret(Name=name, SecretString=text)


def secrets(stack: Stack) -> dict[str, dict[str, str]]:
    """The credentials of the doubles, under the names and with the fields of production."""
    from local import kafka
    from local.saas import credentials
    from local.snowflake import keys

    exports = stack.exports
    return {
        "lakehouse/salesforce/credentials": credentials.SALESFORCE
        | {"instance_url": exports.get("LOCAL_SALESFORCE_URL", "")},
        "lakehouse/hubspot/credentials": dict(credentials.HUBSPOT),
        "lakehouse/snowflake/credentials": {
            **{name: value for name, value in credentials.SNOWFLAKE.items() if name != "password"},
            "private_key": keys.private_key(stack.state),
        },
        DQ_SECRET: {
            **{
                name: value
                for name, value in credentials.SNOWFLAKE_DQ.items()
                if name not in ("password", "username")
            },
            "user": credentials.SNOWFLAKE_DQ["username"],
            "private_key": keys.private_key(stack.state, keys.DQ),
        },
        "lakehouse/kafka/credentials": {
            "bootstrap_servers": exports.get("LOCAL_KAFKA_BOOTSTRAP", ""),
            "api_key": kafka.API_KEY,
            "api_secret": kafka.API_SECRET,
            "group_id": "lakehouse-local",
        },
    }


def dq_environment(exports: Mapping[str, str]) -> dict[str, str]:
    """What the data-quality runner and its page find in their environment on AWS, and where the double is."""
    return {
        "S3_DQ_REPORTS_BUCKET": DQ_REPORTS_BUCKET,
        **exports,
        "SNOWFLAKE_SECRET_NAME": DQ_SECRET,
        "SNOWFLAKE_HOST": exports["LOCAL_SNOWFLAKE_HOST"],
        "SNOWFLAKE_PORT": exports["LOCAL_SNOWFLAKE_PORT"],
        "SNOWFLAKE_PROTOCOL": "http",
    }


def _role(stack: Stack) -> str:
    iam = stack.client("iam")
    try:
        return str(iam.get_role(RoleName=ROLE)["Role"]["Arn"])
    except ClientError as e:
        if e.response["Error"]["Code"] != "NoSuchEntity":
            raise
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "emr-serverless.amazonaws.com"},
                "Action": "sts:AssumeRole",
            }
        ],
    }
    return str(iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"])


def _application(stack: Stack) -> str:
    emr = stack.client("emr-serverless")
    for page in emr.get_paginator("list_applications").paginate(states=["CREATED", "STARTED", "STOPPED"]):
        for app in page["applications"]:
            if app["name"] == APPLICATION:
                return str(app["id"])
    created = emr.create_application(
        name=APPLICATION,
        releaseLabel=RELEASE_LABEL,
        type="SPARK",
        clientToken=APPLICATION,
        architecture="X86_64",
    )
    return str(created["applicationId"])


# -- artefacts -----------------------------------------------------------------------------------------------


def artefacts() -> Iterator[tuple[str, bytes]]:
    """Key and bytes of everything a job is submitted with."""
    for folder, pattern in FOLDERS:
        for path in sorted((REPO / folder).glob(pattern)):
            if path.is_file():
                yield f"{folder}/{path.name}", path.read_bytes()
    yield "lib/lakehouse.zip", library_zip()


def library_zip() -> bytes:
    """src/lakehouse and schema_definitions as one zip whose bytes depend on the files' contents only."""
    files = [
        (f"lakehouse/{p.relative_to(REPO / 'src' / 'lakehouse')}", p)
        for p in _tree(REPO / "src" / "lakehouse")
    ]
    files += [
        (f"schema_definitions/{p.relative_to(REPO / 'schema_definitions')}", p)
        for p in _tree(REPO / "schema_definitions")
    ]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in sorted(files):
            info = zipfile.ZipInfo(name, ZIP_TIME)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, path.read_bytes())
    return buffer.getvalue()


def _tree(folder: Path) -> list[Path]:
    return [
        p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts and p.suffix != ".pyc"
    ]


def ship(stack: Stack) -> list[str]:
    """Upload what differs from the tree, where a file of it has changed since the last time; returns the keys.

    Asked before every submission, so that a job runs what is in the tree: names, times and sizes are looked at, and
    bytes only where one of them is another.
    """
    mark = stack.state / "shipped"
    seen = _seen()
    if mark.exists() and mark.read_text() == seen:
        return []
    uploaded = upload_artefacts(stack)
    mark.write_text(seen)
    return uploaded


def _seen() -> str:
    """The names, times and sizes of all files that are shipped."""
    digest = hashlib.sha256()
    for path in sorted(_sources()):
        status = path.stat()
        digest.update(f"{path.relative_to(REPO)} {status.st_mtime_ns} {status.st_size}\n".encode())
    return digest.hexdigest()


def _sources() -> Iterator[Path]:
    for folder, pattern in FOLDERS:
        yield from (path for path in (REPO / folder).glob(pattern) if path.is_file())
    for folder in ("src/lakehouse", "schema_definitions"):
        yield from _tree(REPO / folder)


def upload_artefacts(stack: Stack) -> list[str]:
    """Upload what differs; returns the keys."""
    s3: Any = stack.client("s3")
    there: dict[str, str] = {}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=CODE_BUCKET):
        there |= {o["Key"]: o["ETag"].strip('"') for o in page.get("Contents", [])}
    uploaded = []
    for key, data in artefacts():
        if there.get(key) != hashlib.md5(data, usedforsecurity=False).hexdigest():
            s3.put_object(Bucket=CODE_BUCKET, Key=key, Body=data)
            uploaded.append(key)
    return uploaded
