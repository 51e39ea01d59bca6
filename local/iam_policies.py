"""IAM's policies as Terraform shows them: which wildcards they hold, and what they allow.

The evaluation is AWS's: a statement applies where action, resource and every condition match; a Deny that applies wins
over any Allow; what nothing allows is denied. A condition on a key that a request does not carry does not match, as in
AWS for all operators but Null, ...IfExists and the negated ones; of the latter two none is used (`Unknown` where one
appears).
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

EXCEPTIONS = Path(__file__).resolve().parents[1] / "terraform" / "iam_exceptions.yaml"
#: What grants something, and the attribute that says what. (A VPC endpoint's policy only narrows.)
POLICY_OF = {
    "aws_iam_role": "assume_role_policy",
    "aws_iam_role_policy": "policy",
    "aws_kms_key": "policy",
    "aws_s3_bucket_policy": "policy",
    "aws_sns_topic_policy": "policy",
}


class Unknown(Exception):
    """A form of policy that is not evaluated here; better said than guessed."""


@dataclass(frozen=True)
class Statement:
    """One statement of a policy. ``of``: the role, bucket, key or topic it belongs to."""

    of: str
    policy: str
    sid: str
    allow: bool
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: Mapping[str, Mapping[str, tuple[str, ...]]]
    principals: Mapping[str, tuple[str, ...]]
    #: NotResource, of a Deny: everything but these.
    but: tuple[str, ...] = ()

    @property
    def wildcards(self) -> tuple[str, ...]:
        """What names no single thing: actions with a star, resources whose name is one, open principals."""
        found = [action for action in self.actions if "*" in action]
        found += [resource for resource in self.resources if is_open(resource)]
        found += [name for names in self.principals.values() for name in names if name == "*"]
        return tuple(found)

    def applies(self, action: str, resource: str, context: Mapping[str, str]) -> bool:
        return (
            any(like(action.lower(), pattern.lower()) for pattern in self.actions)
            and (
                not any(like(resource, pattern) for pattern in self.but)
                if self.but
                else any(like(resource, pattern) for pattern in self.resources)
            )
            and all(
                matches(operator, context.get(key), values)
                for operator, keys in self.conditions.items()
                for key, values in keys.items()
            )
        )


def is_open(resource: str) -> bool:
    """Whether a resource leaves open what it is: "*", an account or Region that is a star, a name that begins with one.

    ``bucket/prefix/*`` is named; ``bucket/*`` (everything in a bucket) and ``log-group:*`` are not.
    """
    if resource == "*":
        return True
    parts = resource.split(":", 5)
    if len(parts) < 6 or "*" in "".join(parts[:5]):
        return True
    name = parts[5]
    if parts[2] == "s3":
        return name.partition("/")[2] == "*" or "*" in name.partition("/")[0]
    return bool(re.fullmatch(r"/?([a-z-]+[:/])?\*", name)) or name.startswith("*")


def like(text: str, pattern: str) -> bool:
    """IAM's patterns: * and ?, nothing else is special, case counts."""
    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]"))


def matches(operator: str, value: str | None, wanted: Sequence[str]) -> bool:
    if operator not in ("StringEquals", "StringLike", "ArnLike", "ArnEquals", "Bool", "Null"):
        raise Unknown(f"the condition operator {operator}")
    if operator == "Null":
        return ("true" if value is None else "false") in wanted
    if value is None:
        return False
    if operator == "StringEquals":
        return value in wanted
    if operator == "Bool":
        return value.lower() in (one.lower() for one in wanted)
    return any(like(value, pattern) for pattern in wanted)


def statements(resources: Iterable[Mapping[str, Any]]) -> list[Statement]:
    """Every statement of every policy among Terraform's resources; what a plan does not know yet is left out."""
    found: list[Statement] = []
    for resource in resources:
        attribute = POLICY_OF.get(resource["type"])
        text = resource["values"].get(attribute) if attribute else None
        if text:
            name = (
                "trust" if attribute == "assume_role_policy" else resource["values"].get("name", "resource")
            )
            found += parse(_owner(resource), name, text)
    return found


def _owner(resource: Mapping[str, Any]) -> str:
    """A role by the key of its workload, another resource by its address without the module."""
    kind = resource["type"]
    if kind in ("aws_iam_role", "aws_iam_role_policy"):
        return str(resource["index"])
    if kind == "aws_s3_bucket_policy":
        named = re.match(r'module\.(?:bucket\["([\w-]+)"\]|(\w+))(?:\[0\])?\.', resource["address"])
        return f"bucket {named and (named[1] or named[2])}"
    return f"{kind} {resource['name']}"


def parse(owner: str, policy: str, text: str) -> list[Statement]:
    document = json.loads(text)
    listed = document["Statement"] if isinstance(document["Statement"], list) else [document["Statement"]]
    found = []
    for statement in listed:
        unknown = {"NotAction", "NotResource", "NotPrincipal"} & statement.keys()
        if statement["Effect"] == "Deny":
            unknown -= {"NotResource"}
        if unknown:
            raise Unknown(f"{owner}, {policy}: {', '.join(sorted(unknown))}")
        principal = statement.get("Principal", {})
        found.append(
            Statement(
                owner,
                policy,
                statement.get("Sid", ""),
                statement["Effect"] == "Allow",
                _tuple(statement["Action"]),
                _tuple(statement.get("Resource", [])),
                {
                    operator: {key: _tuple(values) for key, values in keys.items()}
                    for operator, keys in statement.get("Condition", {}).items()
                },
                {"AWS": ("*",)}
                if principal == "*"
                else {kind: _tuple(names) for kind, names in principal.items()},
                _tuple(statement.get("NotResource", [])),
            )
        )
    return found


def _tuple(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def may(
    found: Iterable[Statement],
    role: str,
    action: str,
    resource: str,
    context: Mapping[str, str] | None = None,
) -> bool:
    """Whether a role's own policies allow an action on a resource."""
    own = [one for one in found if one.of == role and one.policy != "trust"]
    if not own:
        raise Unknown(f"there is no role {role}")
    applying = [one for one in own if one.applies(action, resource, context or {})]
    return bool(applying) and all(one.allow for one in applying)


def exceptions() -> list[dict[str, str]]:
    """The list of wildcards that are meant: of, sid, what, why."""
    listed: list[dict[str, str]] = yaml.safe_load(EXCEPTIONS.read_text(encoding="utf-8"))
    return listed


def unlisted(found: Iterable[Statement]) -> list[str]:
    """Wildcards of Allow statements that iam_exceptions.yaml does not name, in words."""
    listed = {(one["of"], one["sid"], one["what"]) for one in exceptions()}
    return [
        f"{one.of}, {one.sid}: {wildcard!r} is not in {EXCEPTIONS.name}"
        for one in found
        if one.allow
        for wildcard in one.wildcards
        if (one.of, one.sid, wildcard) not in listed
    ]


def unused(found: Iterable[Statement]) -> list[str]:
    """Lines of iam_exceptions.yaml that no policy needs any more."""
    used = {(one.of, one.sid, wildcard) for one in found if one.allow for wildcard in one.wildcards}
    return [
        f"{one['of']}, {one['sid']}: {one['what']}"
        for one in exceptions()
        if (one["of"], one["sid"], one["what"]) not in used
    ]
