"""The local MWAA, as Terraform meets it: through a proxy, because of the host prefix of its API."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.support import Aws

REQUEST: dict[str, Any] = {
    "Name": "lakehouse",
    "AirflowVersion": "3.0.6",
    "DagS3Path": "dags/",
    "ExecutionRoleArn": "arn:aws:iam::123456789012:role/airflow",
    "SourceBucketArn": "arn:aws:s3:::code",
    "NetworkConfiguration": {"SubnetIds": ["subnet-1", "subnet-2"], "SecurityGroupIds": ["sg-1"]},
    "LoggingConfiguration": {"TaskLogs": {"Enabled": True, "LogLevel": "INFO"}},
    "Tags": {"Project": "lakehouse"},
}


@pytest.fixture
def mwaa(aws: Aws) -> Any:
    return boto3.client(
        "mwaa",
        endpoint_url=aws.endpoint,
        region_name=aws.env["AWS_REGION"],
        aws_access_key_id=aws.env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=aws.env["AWS_SECRET_ACCESS_KEY"],
        config=Config(proxies={"http": aws.endpoint}, retries={"max_attempts": 1}),
    )


def test_an_environment_is_what_it_was_asked_to_be_until_it_is_deleted(mwaa: Any) -> None:
    arn = mwaa.create_environment(**REQUEST)["Arn"]
    found = mwaa.get_environment(Name="lakehouse")["Environment"]
    assert (found["Arn"], found["Status"], found["AirflowVersion"]) == (arn, "AVAILABLE", "3.0.6")
    assert found["LoggingConfiguration"]["TaskLogs"]["CloudWatchLogGroupArn"].endswith(
        "airflow-lakehouse-Task"
    )
    mwaa.update_environment(Name="lakehouse", MaxWorkers=5)
    assert mwaa.get_environment(Name="lakehouse")["Environment"]["MaxWorkers"] == 5
    mwaa.tag_resource(ResourceArn=arn, Tags={"Environment": "dev"})
    mwaa.untag_resource(ResourceArn=arn, tagKeys=["Project"])
    assert mwaa.list_tags_for_resource(ResourceArn=arn)["Tags"] == {"Environment": "dev"}
    mwaa.delete_environment(Name="lakehouse")
    with pytest.raises(ClientError, match="does not exist"):
        mwaa.get_environment(Name="lakehouse")


def test_what_it_does_not_know_it_refuses(aws: Aws) -> None:
    request = urllib.request.Request(
        f"{aws.endpoint}/nonsense", headers={"Host": f"api.{urlsplit(aws.endpoint).netloc}"}
    )
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(request, timeout=30)
