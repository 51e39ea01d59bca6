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


def test_a_service_remembers_what_it_was_given(aws: Aws) -> None:
    ecs = aws.client("ecs")
    ecs.create_cluster(clusterName="services")
    ecs.register_task_definition(
        family="app", containerDefinitions=[{"name": "app", "image": "app:1", "memory": 128}]
    )
    ecs.create_service(
        cluster="services",
        serviceName="app",
        taskDefinition="app",
        desiredCount=0,
        enableECSManagedTags=True,
        healthCheckGracePeriodSeconds=60,
    )

    def settings() -> tuple[bool, int, str]:
        (one,) = ecs.describe_services(cluster="services", services=["app"])["services"]
        return (
            one["enableECSManagedTags"],
            one["healthCheckGracePeriodSeconds"],
            one["availabilityZoneRebalancing"],
        )

    assert settings() == (True, 60, "DISABLED")
    ecs.update_service(cluster="services", service="app", healthCheckGracePeriodSeconds=90)
    assert settings() == (True, 90, "DISABLED")


def test_a_function_remembers_where_its_dead_letters_go(aws: Aws) -> None:
    trust = {
        "Effect": "Allow",
        "Principal": {"Service": "lambda.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    role = aws.client("iam").create_role(
        RoleName="runner",
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
    )["Role"]["Arn"]
    functions = aws.client("lambda")
    first, second = (
        {"TargetArn": f"arn:aws:sns:eu-central-1:{ACCOUNT}:{name}"} for name in ("alerts", "others")
    )
    functions.create_function(
        FunctionName="runner",
        Role=role,
        Runtime="python3.12",
        Handler="handler.handler",
        Code={"ZipFile": b"PK\x05\x06" + bytes(18)},
        DeadLetterConfig=first,
    )
    assert functions.get_function(FunctionName="runner")["Configuration"]["DeadLetterConfig"] == first
    functions.update_function_configuration(FunctionName="runner", DeadLetterConfig=second)
    assert functions.get_function_configuration(FunctionName="runner")["DeadLetterConfig"] == second
