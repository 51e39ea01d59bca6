"""The values that differ from one environment to the next, by name.

A name is looked up as an environment variable first (the local stack), then in deployment.json, which the deployment
puts beside the DAGs (scripts/release.py), and as an Airflow Variable last. Templates ask for them at run time, so a DAG
file needs none of them to be imported.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from airflow.exceptions import AirflowFailException

from common import roles
from common.names import KNOWN

__all__ = ["KNOWN", "execution_role", "find", "log_uri", "require"]

#: What the deployment says, where there was one: the same names as above.
DEPLOYMENT = Path(__file__).resolve().parents[1] / "deployment.json"


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


def execution_role(job: str, arguments: Sequence[str] = ()) -> str:
    """The role of a job run, as common.roles declares it. One for all only where no deployment names roles."""
    role = roles.of(job, arguments)
    own = "EMR_EXECUTION_ROLE_ARN" if role is None else roles.setting(role)
    return find(own) or find("EMR_EXECUTION_ROLE_ARN") or require(own)


def log_uri() -> str:
    """Where EMR writes job logs, with a trailing slash."""
    return (find("EMR_LOG_URI") or f"s3://{require('LAKE_BUCKET')}/logs/emr").rstrip("/") + "/"
