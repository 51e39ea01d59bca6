"""No deployment into an environment of GitHub that lets anybody in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from scripts import github_environment
from scripts.github_environment import NotAnswered, problems
from tests.support import REPO

REVIEWED = {"type": "required_reviewers", "reviewers": [{"type": "User", "reviewer": {"login": "somebody"}}]}
CUSTOM = {"protected_branches": False, "custom_branch_policies": True}
MAIN = [{"name": "main", "type": "branch"}]


def github(
    policy: Mapping[str, Any] | None = CUSTOM, branches: Any = MAIN, rules: Any = (REVIEWED,)
) -> dict[str, Mapping[str, Any]]:
    base = "/repos/o/r/environments/prod"
    return {
        base: {"name": "prod", "protection_rules": list(rules), "deployment_branch_policy": policy},
        f"{base}/deployment-branch-policies?per_page=100": {"branch_policies": branches},
    }


def asked(answers: Mapping[str, Mapping[str, Any]], *, reviewed: bool = True) -> list[str]:
    return problems("o/r", "prod", reviewed, answers.get)


def test_an_environment_that_is_closed_and_reviewed_passes() -> None:
    assert asked(github()) == []


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({}, "received no environment prod of o/r"),
        (github(policy=None), "received every branch and tag"),
        (github(policy={"protected_branches": True, "custom_branch_policies": False}), "protected branch"),
        (github(branches=[]), "received every branch and tag"),
        (github(branches=[*MAIN, {"name": "release/*", "type": "branch"}]), "branch release/*"),
        (github(branches=[{"name": "main", "type": "tag"}]), "received tag main"),
        (github(branches=[{"name": "ma*", "type": "branch"}]), "received branch ma*"),
        (github(rules=()), "received no reviewers"),
        (github(rules=[{"type": "required_reviewers", "reviewers": []}]), "received no reviewers"),
        (github(rules=[{"type": "wait_timer", "wait_timer": 30}]), "received no reviewers"),
    ],
)
def test_one_that_is_open_is_refused(answers: dict[str, Mapping[str, Any]], said: str) -> None:
    (problem,) = asked(answers)
    assert said in problem


def test_dev_needs_no_reviewers_and_all_is_said_at_once() -> None:
    assert asked(github(rules=()), reviewed=False) == []
    assert len(asked(github(policy=None, rules=()))) == 2


def test_where_github_does_not_answer_nothing_is_deployed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(github_environment, "API", "127.0.0.1:9")
    monkeypatch.setenv("GITHUB_TOKEN", "of-this-test-only")
    with pytest.raises(NotAnswered):
        github_environment.ask("/repos/o/r/environments/prod")
    assert github_environment.main(["--reviewed", "prod"]) == 1
    said = capsys.readouterr().out
    assert said.startswith("::error::")
    assert "of-this-test-only" not in said


# -- the workflows ------------------------------------------------------------------------------------------------

WORKFLOWS = {
    path.name: yaml.safe_load(path.read_text()) for path in (REPO / ".github" / "workflows").glob("*.yml")
}
JOBS = {(name, job): body for name, flow in WORKFLOWS.items() for job, body in flow["jobs"].items()}


def permissions(job: tuple[str, str]) -> dict[str, str]:
    return dict(JOBS[job].get("permissions", {}))


def steps(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps of a job; one that calls another workflow has none of its own."""
    return [] if "uses" in body else list(body["steps"])


def test_what_builds_has_no_credentials_and_what_has_them_builds_nothing() -> None:
    for job, body in JOBS.items():
        runs = " ".join(step.get("run", "") for step in steps(body))
        if "id-token" in permissions(job):
            assert "make setup" not in runs, job
            assert "build_zip" not in runs, job
            assert "pip install" not in runs.replace(
                "pip install --quiet --disable-pip-version-check --no-deps", ""
            ), job
    assert "id-token" not in permissions(("deploy.yml", "build"))
    assert all(flow["permissions"] == {} for flow in WORKFLOWS.values())


@pytest.mark.parametrize("environment", ["dev", "prod"])
def test_a_deployment_compares_what_was_built_before_it_has_credentials(environment: str) -> None:
    steps = JOBS["deploy.yml", environment]["steps"]
    text = [f"{step.get('uses', '')} {step.get('run', '')}" for step in steps]
    at = {
        what: next(i for i, one in enumerate(text) if what in one)
        for what in (
            "sha256sum --check",
            "attestation verify",
            "configure-aws",
            "release.py",
            "aws.sh deploy",
            "activate",
        )
    }
    assert at["sha256sum --check"] <= at["attestation verify"] < at["configure-aws"]
    assert " check" in text[at["release.py"]]
    assert at["release.py"] < at["aws.sh deploy"] < at["activate"]
    assert {"build", "attest"} <= set(JOBS["deploy.yml", environment]["needs"])


def test_every_environment_is_looked_at_before_a_job_of_it_runs() -> None:
    needs = {job: body.get("needs", []) for (name, job), body in JOBS.items() if name == "deploy.yml"}

    def before(job: str) -> set[str]:
        direct = [needs[job]] if isinstance(needs[job], str) else needs[job]
        return set(direct).union(*map(before, direct))

    assert "dev-environment" in before("dev")
    assert "prod-environment" in before("prod-plan")
    assert "prod-environment" in before("prod")
    looked = " ".join(step.get("run", "") for step in JOBS["deploy.yml", "prod-environment"]["steps"])
    assert "--reviewed prod" in looked
    assert "prod-plan" in looked


def test_every_action_is_pinned_by_its_commit() -> None:
    called = [body["uses"] for body in JOBS.values() if "uses" in body]
    assert [one for one in called if not one.startswith("./.github/workflows/")] == []
    used = [step["uses"] for body in JOBS.values() for step in steps(body) if "uses" in step]
    assert [one for one in used if len(one.partition("@")[2]) != 40] == []
