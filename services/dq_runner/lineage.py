"""OpenLineage: one event a run, with the assertions that were made of each table, as the lakehouse's gates make theirs.

It is an object beside the report, ``reports/lineage/<date>/<run id>.json``: the runner needs no way to a lineage server
and no key of one, whoever collects events finds them where the lakehouse leaves its own (objects in a bucket), and
another try of the run writes the same object again.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING

from dq_runner.report import Report, ResultRow
from lakehouse import store
from lakehouse.bounded import described

if TYPE_CHECKING:
    # Imported where an event is made: it takes a third of a second, in which a cold start would check nothing.
    from openlineage.client.event_v2 import InputDataset, RunEvent
    from openlineage.client.facet_v2 import data_quality_assertions_dataset as assertions

log = logging.getLogger("dq_runner.lineage")

FOLDER = "reports/lineage"
JOB = "dq-platform-runner"
#: As the lakehouse's events have them (lakehouse.observe.lineage).
PRODUCER = "urn:lakehouse"
RUNS = uuid.UUID("6f1c9a4e-6c0e-5d6b-9a53-1f0f4f5f9a11")
SEVERITY = {"critical": "error", "warning": "warn"}


def run_uuid(report: Report) -> str:
    """OpenLineage wants a UUID for each execution of a job: a function of run, job and the moment it started."""
    run = report.run
    return str(uuid.uuid5(RUNS, f"{run.run_id}/{JOB}/{run.started_at.isoformat()}"))


def write(report: Report, bucket: str, namespace: str) -> str | None:
    """Write a run's event; returns None, or why it was not written. Raises nothing.

    ``namespace``: of the job, as the lakehouse's jobs have it.
    """
    run = report.run
    uri = f"s3://{bucket}/{FOLDER}/{run.started_at.astimezone(UTC).date()}/{run.run_id}.json"
    try:
        from openlineage.client.serde import Serde

        store.put(uri, Serde.to_json(event(report, namespace)).encode())
    except Exception as error:
        reason = f"lineage was not written: {described(error)}"
        log.warning(reason)
        return reason
    return None


def event(report: Report, namespace: str) -> RunEvent:
    """The event of a run: FAIL where it could check nothing, else COMPLETE, whatever the checks found.

    Results that are neither passed nor failed assert nothing and are left out.
    """
    from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
    from openlineage.client.facet_v2 import job_type_job, nominal_time_run, tags_run

    tags = [tags_run.TagsRunFacetFields("run_id", report.run.run_id, "LAKEHOUSE")]
    return RunEvent(
        eventTime=_time(report.run.finished_at),
        eventType=RunState.FAIL if report.checked_nothing else RunState.COMPLETE,
        producer=PRODUCER,
        run=Run(
            run_uuid(report),
            {
                "nominalTime": nominal_time_run.NominalTimeRunFacet(
                    _time(report.run.started_at), producer=PRODUCER
                ),
                "tags": tags_run.TagsRunFacet(tags, producer=PRODUCER),
            },
        ),
        job=Job(
            namespace,
            JOB,
            {"jobType": job_type_job.JobTypeJobFacet("BATCH", "SNOWFLAKE", "JOB", producer=PRODUCER)},
        ),
        inputs=_judged(report),
        outputs=[],
    )


def _judged(report: Report) -> list[InputDataset]:
    asserted = sorted((row for row in report.results if row.status in ("passed", "failed")), key=_name)
    return [_table(report.run.account, list(rows)) for _, rows in groupby(asserted, key=_name)]


def _name(row: ResultRow) -> tuple[str, str, str]:
    return row.database, row.schema_, row.table


def _table(account: str, rows: Sequence[ResultRow]) -> InputDataset:
    """A table as it was checked. Its namespace and name are Snowflake's, as OpenLineage's naming has them."""
    from openlineage.client.event_v2 import InputDataset
    from openlineage.client.facet_v2 import data_quality_assertions_dataset

    facet = data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(
        list(_assertions(rows)), producer=PRODUCER
    )
    return InputDataset(
        f"snowflake://{account}", ".".join(_name(rows[0])), inputFacets={"dataQualityAssertions": facet}
    )


def _assertions(rows: Iterable[ResultRow]) -> Iterable[assertions.Assertion]:
    from openlineage.client.facet_v2 import data_quality_assertions_dataset

    for row in rows:
        yield data_quality_assertions_dataset.Assertion(
            assertion=row.kind,
            success=row.status == "passed",
            column=row.column if row.column and ", " not in row.column else None,
            severity=SEVERITY[row.severity],
            name=row.rule,
            expected=row.expected,
            actual=row.observed,
        )


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
