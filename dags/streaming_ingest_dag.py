"""
### Streaming ingest

Keeps exactly one run of the order stream alive (`lakehouse-stream:kafka_orders`, EMR Serverless in STREAMING mode), and
says when it is late. Every 10 minutes:

- `supervise` adopts the live run; starts one where there is none or it died (and tells of the death); of more than one
  it cancels all but the oldest, and alerts. It is red where the stream failed in a way that comes again, or where a
  run does not end.
- `check_freshness` reads `ops/_streams/kafka_orders/progress.json`. It is red where there has been no progress for
  `STREAM_MAX_AGE_MINUTES` (15) or the stream is more than `STREAM_MAX_LAG` (100,000) records behind the topic.

A red task's log ends with `CODE: what happened — what to do`.

**Two supervisors at once** (this DAG and a person, or two deployments) start one run: the token of a start is made
from the run that ended last, which both see, and EMR answers the second with the first one's run.

**By hand**: trigger with `{"action": "...", "reason": "..."}`.

- `ensure` starts the stream where it is down, also after `stop` or a failure for good.
- `stop` writes `ops/_streams/kafka_orders/stopped.json` (who, why, when), then ends the run gracefully: SIGTERM, and
  five minutes for the batch under way. Scheduled runs leave the stream down as long as that object is there; `ensure`,
  `restart` and `recover_checkpoint` lift it. A run cancelled in the console comes back within 10 minutes.
- `restart` ends the live run gracefully and starts another, e.g. after a release.
- `recover_checkpoint` is for a lost or broken checkpoint: it stops the stream, moves `checkpoints/kafka_orders/` to
  `checkpoints/lost/<time>/`, and starts it. The stream finds its place in the tables: nothing is lost or doubled.
  Where this breaks off, the stream stays down: clear the task.

**Nothing happens while `KAFKA_MODE` is `batch`** (the default: the daily run then reads the topic itself). To go back
from stream to batch, `stop` first, then change the setting here and in the jobs' configuration.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.exceptions import AirflowException, AirflowSkipException
from airflow.sdk import DAG, Param, get_current_context, task
from airflow.utils.trigger_rule import TriggerRule

from common import defaults, notices

log = logging.getLogger(__name__)


def _stream() -> Any:
    """The stream, with clients as Airflow's hooks make them. Skips the task where there is none."""
    from airflow.providers.amazon.aws.hooks.emr import EmrServerlessHook
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    from common import settings, stream

    if stream.mode() == "batch":
        raise AirflowSkipException(
            "KAFKA_MODE is batch: the daily run reads the topic, and no stream is started or looked for."
        )
    emr = EmrServerlessHook(aws_conn_id=None, region_name=settings.require("AWS_REGION"))
    s3 = S3Hook(aws_conn_id=None, region_name=settings.require("AWS_REGION"))
    return stream.Stream(emr.conn, s3.conn)


@contextmanager
def _said() -> Iterator[None]:
    """What ends a task is the last line of its log, and reaches the notice."""
    try:
        yield
    except AirflowException as error:
        log.log(logging.INFO if isinstance(error, AirflowSkipException) else logging.ERROR, "%s", error)
        # Airflow 3.0 gives callbacks the exception in a worker, not in `dags test`.
        get_current_context()["exception"] = error
        raise


with DAG(
    dag_id="streaming_ingest",
    description="Keeps one run of the order stream alive and watches its progress",
    doc_md=__doc__,
    schedule=defaults.schedule("*/10 * * * *"),
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=45),
    default_args=defaults.default_args(),
    on_failure_callback=notices.run_timed_out,
    tags=["lakehouse", "streaming"],
    params={
        "action": Param(
            "ensure",
            type="string",
            enum=["ensure", "stop", "restart", "recover_checkpoint"],
            title="What to do",
            description="ensure starts a stopped stream again; see the DAG's documentation.",
        ),
        "reason": Param(None, type=["null", "string"], title="Why", description="Kept with a stop."),
    },
) as dag:

    @task(
        task_id="supervise",
        retries=1,
        execution_timeout=timedelta(minutes=15),
        doc_md="Brings the stream to what is asked: one live run, or none.",
    )
    def supervise(**context: Any) -> str:
        from common import stream
        from common.stream_decisions import Asked

        run = context["dag_run"]
        params = context["params"]
        asked = Asked(
            action=params["action"],
            by_hand=str(getattr(run.run_type, "value", run.run_type)) == "manual",
            who=f"{run.dag_id} {run.run_id}",
            reason=params["reason"] or "",
        )

        def alert(subject: str, message: str) -> None:
            notices.tell(f"{run.dag_id}: {subject}", message, run)

        with _said():
            text = stream.supervise(_stream(), asked, alert)
        log.info("%s", text)
        return text

    @task(
        task_id="check_freshness",
        retries=0,
        trigger_rule=TriggerRule.ALL_DONE,
        execution_timeout=timedelta(minutes=5),
        doc_md="Fails where the stream has made no progress for too long or is too far behind.",
    )
    def check_freshness() -> str:
        from common import stream

        with _said():
            watched = _stream()
            mark = watched.see().mark
            if mark is not None:
                raise AirflowSkipException(f"The stream is down on purpose, {mark}.")
            text = stream.check(watched, datetime.now(UTC))
        log.info("%s", text)
        return text

    supervise() >> check_freshness()
