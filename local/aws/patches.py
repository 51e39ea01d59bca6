"""Small corrections to moto, each with its reason. The large ones are modules of their own (S3, EMR, Athena)."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote


def install() -> None:
    _conditional_denies_are_neutral()
    _budgets_are_complete()
    _ecs_services_remember_what_they_are_given()
    _functions_remember_their_dead_letters()
    _keys_may_have_line_breaks()


def _conditional_denies_are_neutral() -> None:
    """moto ignores the conditions of a bucket policy, so that "deny whatever is not TLS" denies everything.

    Locally nothing is TLS; a condition that cannot be judged must not deny. Whether an object is created or may replace
    another can be judged by the request, and is.
    """
    from moto.iam.access_control import IAMPolicy, PermissionResult
    from moto.s3.models import FakeBucket

    def get_permission(self: Any, action: str, resource: str) -> Any:
        if self.policy is None:
            return PermissionResult.NEUTRAL
        policy = json.loads(self.policy.decode())
        statements = policy["Statement"] if isinstance(policy["Statement"], list) else [policy["Statement"]]
        policy["Statement"] = [
            _unconditional(s)
            for s in statements
            if s.get("Effect") != "Deny" or _applies(s.get("Condition", {}))
        ]
        return IAMPolicy(json.dumps(policy)).is_action_permitted(action, resource)

    FakeBucket.get_permission = get_permission  # type: ignore[method-assign]


def _unconditional(statement: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in statement.items() if key != "Condition"}


def _applies(conditions: dict[str, dict[str, Any]]) -> bool:
    """Whether every condition of a Deny holds, as far as the request says; one that it does not speak of does not."""
    from flask import has_request_context, request

    if not has_request_context():
        return not conditions
    said = {
        ("Null", "s3:if-none-match"): request.headers.get("If-None-Match") is None,
        ("Null", "s3:if-match"): request.headers.get("If-Match") is None,
        ("Bool", "s3:ObjectCreationOperation"): not {"uploads", "partNumber"} & request.args.keys(),
    }
    return all(
        str(said.get((operator, key))).lower() in ([value] if isinstance(value, str) else value)
        for operator, keys in conditions.items()
        for key, value in keys.items()
    )


def _budgets_are_complete() -> None:
    """Terraform reads a budget's tags and a notification's subscribers, and updates it; moto knows none of that."""
    from moto.budgets.responses import BudgetsResponse

    create_budget = BudgetsResponse.create_budget

    def tags(self: Any) -> dict[str, dict[str, str]]:
        kept: dict[str, dict[str, str]] = self.backend.__dict__.setdefault("tags_of_arn", {})
        return kept

    def create(self: Any) -> str:
        answer = create_budget(self)
        arn = f"arn:aws:budgets::{self._get_param('AccountId')}:budget/{self._get_param('Budget')['BudgetName']}"
        tags(self)[arn] = {t["Key"]: t["Value"] for t in self._get_param("ResourceTags") or []}
        return answer

    def list_tags_for_resource(self: Any) -> str:
        found = tags(self).get(self._get_param("ResourceARN"), {})
        return json.dumps({"ResourceTags": [{"Key": k, "Value": v} for k, v in found.items()]})

    def tag_resource(self: Any) -> str:
        given = {t["Key"]: t["Value"] for t in self._get_param("ResourceTags") or []}
        tags(self).setdefault(self._get_param("ResourceARN"), {}).update(given)
        return json.dumps({})

    def untag_resource(self: Any) -> str:
        for key in self._get_param("ResourceTagKeys") or []:
            tags(self).get(self._get_param("ResourceARN"), {}).pop(key, None)
        return json.dumps({})

    def describe_subscribers_for_notification(self: Any) -> str:
        budget = self.backend.budgets[self._get_param("AccountId")][self._get_param("BudgetName")]
        wanted = self._get_param("Notification")
        same = ("NotificationType", "ComparisonOperator", "Threshold")
        found = [
            n.subscribers
            for n in budget.notifications
            if all(n.details.get(k) == wanted.get(k) for k in same)
        ]
        return json.dumps({"Subscribers": found[0] if found else []})

    def update_budget(self: Any) -> str:
        new = self._get_param("NewBudget")
        self.backend.budgets[self._get_param("AccountId")][new["BudgetName"]].budget.update(new)
        return json.dumps({})

    BudgetsResponse.create_budget = create  # type: ignore[method-assign]
    for method in (
        update_budget,
        list_tags_for_resource,
        tag_resource,
        untag_resource,
        describe_subscribers_for_notification,
    ):
        setattr(BudgetsResponse, method.__name__, method)


def _ecs_services_remember_what_they_are_given() -> None:
    """moto drops these of a service's settings, so that a second plan would set them again, for ever."""
    from moto.ecs.models import Service
    from moto.ecs.responses import EC2ContainerServiceResponse

    forgotten = {
        "availabilityZoneRebalancing": "availability_zone_rebalancing",
        "enableECSManagedTags": "enable_ecs_managed_tags",
        "healthCheckGracePeriodSeconds": "health_check_grace_period_seconds",
    }
    create_service = EC2ContainerServiceResponse.create_service
    Service.availability_zone_rebalancing = "DISABLED"  # type: ignore[attr-defined]

    def create(self: Any) -> Any:
        answer: Any = create_service(self)
        for given, attribute in forgotten.items():
            if (value := self._get_param(given)) is not None:
                setattr(answer.result["service"], attribute, value)
        return answer

    EC2ContainerServiceResponse.create_service = create  # type: ignore[method-assign]


def _functions_remember_their_dead_letters() -> None:
    """moto's Lambda drops DeadLetterConfig."""
    from moto.awslambda.models import LambdaFunction

    init, get, update = (
        LambdaFunction.__init__,
        LambdaFunction.get_configuration,
        LambdaFunction.update_configuration,
    )

    def remembering(self: Any, account_id: str, spec: dict[str, Any], *rest: Any, **named: Any) -> None:
        init(self, account_id, spec, *rest, **named)
        self.dead_letters = spec.get("DeadLetterConfig")

    def configuration(self: Any, on_create: bool = False) -> dict[str, Any]:
        found = get(self, on_create)
        return found | {"DeadLetterConfig": self.dead_letters} if self.dead_letters else found

    def updated(self: Any, config_updates: dict[str, Any]) -> dict[str, Any]:
        self.dead_letters = config_updates.get("DeadLetterConfig", self.dead_letters)
        return update(self, config_updates)

    LambdaFunction.__init__ = remembering  # type: ignore[method-assign]
    LambdaFunction.get_configuration = configuration  # type: ignore[method-assign]
    LambdaFunction.update_configuration = updated  # type: ignore[method-assign]


def _keys_may_have_line_breaks() -> None:
    """moto finds no route to a key with a line break, and lists versions without the escapes that clients ask for."""
    from moto.moto_server.utilities import RegexConverter
    from moto.s3.responses import S3Response

    init, list_versions = RegexConverter.__init__, S3Response.list_object_versions

    def any_character(self: Any, url_map: Any, *items: Any) -> None:
        init(self, url_map, *items)
        self.regex = f"(?s:{items[0]})"

    def escaped(self: Any) -> Any:
        if self.querystring.get("encoding-type") != ["url"]:
            return list_versions(self)
        serialized = self.serialized

        def quoted(answer: Any) -> Any:
            for kind, name in (("Versions", "Key"), ("DeleteMarkers", "Key"), ("CommonPrefixes", "Prefix")):
                for item in answer.result.get(kind, []):
                    item[name] = quote(item[name])
            for name in ("Prefix", "Delimiter", "KeyMarker", "NextKeyMarker"):
                if answer.result.get(name):
                    answer.result[name] = quote(answer.result[name])
            answer.result["EncodingType"] = "url"
            return serialized(answer)

        self.serialized = quoted
        return list_versions(self)

    RegexConverter.__init__ = any_character  # type: ignore[method-assign]
    S3Response.list_object_versions = escaped  # type: ignore[method-assign]
