"""moto's small mistakes that the local AWS corrects."""

from __future__ import annotations

import json

from tests.local.aws_server import bucket
from tests.support import Aws

ACCOUNT = "123456789012"


def test_a_policy_that_denies_plain_http_does_not_lock_the_bucket(aws: Aws) -> None:
    s3 = bucket(aws, "tls-only")
    deny = {
        "Effect": "Deny",
        "Principal": {"AWS": "*"},
        "Action": "s3:*",
        "Resource": ["arn:aws:s3:::tls-only", "arn:aws:s3:::tls-only/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    s3.put_bucket_policy(Bucket="tls-only", Policy=json.dumps({"Version": "2012-10-17", "Statement": [deny]}))
    s3.put_object(Bucket="tls-only", Key="k", Body=b"1")
    assert s3.get_object(Bucket="tls-only", Key="k")["Body"].read() == b"1"
    s3.delete_objects(Bucket="tls-only", Delete={"Objects": [{"Key": "k"}]})
    assert "Contents" not in s3.list_objects_v2(Bucket="tls-only")


def test_an_unconditional_deny_denies(aws: Aws) -> None:
    s3 = bucket(aws, "write-once")
    s3.put_object(Bucket="write-once", Key="k", Body=b"1")
    deny = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:DeleteObject",
        "Resource": "arn:aws:s3:::write-once/*",
    }
    s3.put_bucket_policy(
        Bucket="write-once", Policy=json.dumps({"Version": "2012-10-17", "Statement": [deny]})
    )
    answer = s3.delete_objects(Bucket="write-once", Delete={"Objects": [{"Key": "k"}]})
    assert answer["Errors"][0]["Code"] == "AccessDenied"
    assert s3.get_object(Bucket="write-once", Key="k")["Body"].read() == b"1"


def test_a_versioned_bucket_can_be_emptied(aws: Aws) -> None:
    s3 = bucket(aws, "versioned")
    s3.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket="versioned", Key="k", Body=b"1")
    s3.delete_object(Bucket="versioned", Key="k")
    listed = s3.list_object_versions(Bucket="versioned")
    for version in listed["Versions"] + listed["DeleteMarkers"]:
        s3.delete_object(Bucket="versioned", Key=version["Key"], VersionId=version["VersionId"])
    s3.delete_bucket(Bucket="versioned")


def test_a_budget_has_tags_subscribers_and_updates(aws: Aws) -> None:
    budgets = aws.client("budgets")
    budget = {
        "BudgetName": "monthly",
        "BudgetType": "COST",
        "TimeUnit": "MONTHLY",
        "BudgetLimit": {"Amount": "100", "Unit": "USD"},
    }
    notification = {"NotificationType": "ACTUAL", "ComparisonOperator": "GREATER_THAN", "Threshold": 80.0}
    subscribers = [{"SubscriptionType": "EMAIL", "Address": "team@example.com"}]
    budgets.create_budget(
        AccountId=ACCOUNT,
        Budget=budget,
        NotificationsWithSubscribers=[{"Notification": notification, "Subscribers": subscribers}],
        ResourceTags=[{"Key": "project", "Value": "lakehouse"}],
    )
    arn = f"arn:aws:budgets::{ACCOUNT}:budget/monthly"
    assert budgets.list_tags_for_resource(ResourceARN=arn)["ResourceTags"][0]["Value"] == "lakehouse"
    found = budgets.describe_subscribers_for_notification(
        AccountId=ACCOUNT, BudgetName="monthly", Notification=notification
    )
    assert found["Subscribers"] == subscribers
    budgets.update_budget(
        AccountId=ACCOUNT, NewBudget=budget | {"BudgetLimit": {"Amount": "7", "Unit": "USD"}}
    )
    limit = budgets.describe_budget(AccountId=ACCOUNT, BudgetName="monthly")["Budget"]["BudgetLimit"]
    assert float(limit["Amount"]) == 7
