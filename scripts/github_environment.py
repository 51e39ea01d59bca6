#!/usr/bin/env python3
"""Refuse to deploy into a GitHub environment that would let anybody in: GitHub is asked, with the workflow's token.

    scripts/github_environment.py dev prod-plan      they are open to the branch main alone
    scripts/github_environment.py --reviewed prod    and a reviewer has to approve

GITHUB_REPOSITORY and GITHUB_TOKEN (which may read `actions`) come from the workflow. GitHub makes an environment that a
workflow names and that is not there, without a rule of any kind: what is refused here would otherwise run.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

API = "api.github.com"
BRANCH = "main"
HOW = "docs/deployment.md, 9, has the commands that set it"


class NotAnswered(Exception):
    """GitHub's API did not say how an environment is set up."""


def ask(path: str) -> Mapping[str, Any] | None:
    """An answer of the API; None for what is not there. Raises NotAnswered."""
    connection = http.client.HTTPSConnection(API, timeout=30)
    headers = {
        "Accept": "application/vnd.github+json",
        "Authorization": f"Bearer {os.environ.get('GITHUB_TOKEN', '')}",
        "User-Agent": "lakehouse",
        "X-GitHub-Api-Version": "2022-11-28",
    }
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise NotAnswered(f"{API}{path} answered {answer.status}, expected 200")
        found: dict[str, Any] = json.loads(text)
        return found
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NotAnswered(f"{API}{path}: {type(error).__name__}: {error}") from None
    finally:
        connection.close()


def problems(
    repository: str,
    environment: str,
    reviewed: bool,
    asking: Callable[[str], Mapping[str, Any] | None] = ask,
) -> list[str]:
    """What is open about an environment, in words; nothing where it is closed as it has to be."""
    path = f"/repos/{repository}/environments/{quote(environment, safe='')}"
    found = asking(path)
    if found is None:
        return [f"received no environment {environment} of {repository}, expected one with rules"]
    words = []
    branches = _branches(found, lambda: asking(f"{path}/deployment-branch-policies?per_page=100"))
    if branches != {("branch", BRANCH)}:
        named = ", ".join(f"{kind} {name}" for kind, name in sorted(branches)) or "every branch and tag"
        words.append(
            f"{environment}: received {named}, expected that only the branch {BRANCH} may deploy to it"
        )
    if reviewed and not _reviewers(found):
        words.append(
            f"{environment}: received no reviewers, expected a reviewer who approves each deployment"
        )
    return words


def _branches(
    found: Mapping[str, Any], policies: Callable[[], Mapping[str, Any] | None]
) -> set[tuple[str, str]]:
    """Kind and pattern of what may deploy; empty where everything may."""
    policy = found.get("deployment_branch_policy")
    if not policy:
        return set()
    if not policy.get("custom_branch_policies"):
        return {("every", "protected branch")}
    listed = (policies() or {}).get("branch_policies", [])
    return {(one.get("type", "branch"), one["name"]) for one in listed}


def _reviewers(found: Mapping[str, Any]) -> list[Any]:
    return [
        who
        for rule in found.get("protection_rules", [])
        if rule.get("type") == "required_reviewers"
        for who in rule.get("reviewers", [])
    ]


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reviewed", action="store_true", help="a reviewer has to approve as well")
    parser.add_argument("environment", nargs="+")
    arguments = parser.parse_args(argv)
    repository = os.environ.get("GITHUB_REPOSITORY", "")
    try:
        found = [
            one
            for environment in arguments.environment
            for one in problems(repository, environment, arguments.reviewed)
        ]
    except NotAnswered as problem:
        found = [str(problem)]
    for one in found:
        print(f"::error::{one}. Nothing is deployed; {HOW}")
    if not found:
        print(
            f"{', '.join(arguments.environment)}: closed to all but {BRANCH}{', reviewed' * arguments.reviewed}"
        )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
