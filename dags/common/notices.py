"""Failure notices to SNS. A notice that cannot be sent is logged and changes nothing else."""

from __future__ import annotations

import logging
from typing import Any

from common import settings

log = logging.getLogger(__name__)
#: What SNS accepts as a subject: printable ASCII, one line.
MAX_SUBJECT = 100


def task_failed(context: dict[str, Any]) -> None:
    """Airflow calls this when a task has failed for good (not when it is about to be retried)."""
    try:
        ti = context["ti"]
        reason = str(context.get("exception") or "See the task's log.")
        _publish(
            f"{ti.dag_id}: {ti.task_id} failed",
            f"DAG   {ti.dag_id}\nRun   {ti.run_id}\nTask  {ti.task_id}, try {ti.try_number}\n\n{reason}\n",
            {"dag_id": ti.dag_id, "task_id": ti.task_id},
        )
    except Exception:
        log.exception("The failure notice could not be sent; the task's own failure stands as logged above.")


def run_timed_out(context: dict[str, Any]) -> None:
    """Airflow calls this when a DAG run has failed. Failed tasks have sent theirs, so only a timeout is news here."""
    if context.get("reason") != "timed_out":
        return
    try:
        dag_id, run_id = context["dag"].dag_id, context["run_id"]
        _publish(
            f"{dag_id}: the run exceeded its time",
            f"DAG   {dag_id}\nRun   {run_id}\n\nThe run reached dagrun_timeout; tasks not yet finished were stopped.\n",
            {"dag_id": dag_id},
        )
    except Exception:
        log.exception("The notice of a timed-out run could not be sent.")


def tell(subject: str, message: str, dag_run: Any) -> None:
    """News that fails no task, e.g. that something was mended."""
    try:
        _publish(
            subject,
            f"DAG   {dag_run.dag_id}\nRun   {dag_run.run_id}\n\n{message}\n",
            {"dag_id": dag_run.dag_id},
        )
    except Exception:
        log.exception("The notice %r could not be sent: %s", subject, message)


def _publish(subject: str, message: str, attributes: dict[str, str]) -> None:
    topic = settings.find("ALERT_TOPIC_ARN")
    if topic is None:
        log.warning("ALERT_TOPIC_ARN is not set: nobody is told of this. (%s)", subject)
        return
    from airflow.providers.amazon.aws.hooks.sns import SnsHook

    plain = subject.encode("ascii", "replace").decode()[:MAX_SUBJECT]
    SnsHook(aws_conn_id=None, region_name=settings.require("AWS_REGION")).publish_to_target(
        target_arn=topic, message=message, subject=plain, message_attributes=dict(attributes)
    )
    log.info("Notice sent to %s", topic)
