"""As whom each job runs: the one declaration of the roles of job runs.

Read by the DAGs, by scripts/emr_submit.py, by scripts/release.py and by the tests of Terraform, which makes a role of
each name (terraform/iam.tf, emr_roles). It imports nothing: who ships a release has no Airflow.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

#: Role → its jobs and scripts. What the roles may do is what their jobs do, and nothing else:
#: - ingest asks sources and writes landing and Bronze; no verdict.
#: - transform makes Silver, Gold and what is told of them from certified data; no verdict, no secret.
#: - gate creates verdicts, and writes no data.
#: - maintain keeps the tables of all layers in form, and certifies that a rewritten file is the same rows.
#: - recover is for what a person asks for, and judges what it brought: all of the above, but no verdict is replaced.
#: - erase takes a person out of everything, of verdicts that quote them as well: it alone may replace one.
#: - stream has its own Bronze table.
JOBS: dict[str, tuple[str, ...]] = {
    "ingest": (
        *("hubspot_to_bronze", "salesforce_to_bronze", "snowflake_to_bronze", "vendor_to_bronze"),
        *("fx_to_bronze", "kafka_orders_to_bronze", "reconcile"),
    ),
    "transform": (
        *("bronze_to_silver", "silver_to_gold", "register_glue_tables", "emit_lineage_and_metrics"),
        *("status_page", "dq_watchdog", "dq_recheck", "run_ge_checks"),
    ),
    "gate": ("dq_check_bronze", "dq_check_silver"),
    "maintain": ("apply_contracts", "delta_optimize_vacuum"),
    "recover": ("recover", "backfill", "quarantine"),
    "erase": (),
    "stream": (),
}
#: What makes a job run of another role of it: the subcommand or option among its arguments. What marks purged records
#: loads them as a run of its own, and judges that.
OTHERWISE = {
    ("recover", "erase"): "erase",
    ("reconcile", "--mark-gone"): "recover",
    ("kafka_orders_to_bronze", "--stream"): "stream",
}
#: Options that stand before a subcommand with a value of their own.
_WITH_VALUE = (
    *("--config", "--run-id", "--airflow-dag-id", "--airflow-run-id", "--airflow-task-id", "--airflow-try"),
    *("--airflow-job-name", "--submitted-by"),
)


def setting(role: str) -> str:
    """The setting that holds a role's ARN."""
    return f"EMR_{role.upper()}_ROLE_ARN"


#: Settings of all roles.
SETTINGS = tuple(map(setting, JOBS))


def of(job: str, arguments: Sequence[str] = ()) -> str | None:
    """The role of a run of a job with these arguments; None for a job that is not declared."""
    asked = {_subcommand(arguments), *(one for one in arguments if one.startswith("--"))}
    for (name, word), role in OTHERWISE.items():
        if name == job and word in asked:
            return role
    return next((role for role, jobs in JOBS.items() if job in jobs), None)


def _subcommand(arguments: Sequence[str]) -> str | None:
    """The first word that is no option and no option's value; of parameters as JSON, their action."""
    words = iter(arguments)
    for word in words:
        if word in _WITH_VALUE:
            next(words, None)
        elif word == "from-params":
            return _action(next(words, ""))
        elif not word.startswith("-"):
            return word
    return None


def _action(params: str) -> str | None:
    try:
        found = json.loads(params)
    except ValueError:
        return None
    return str(found.get("action")) if isinstance(found, dict) else None
