"""OpenLineage: which job turned which table versions into which, with schema, row counts and the Airflow parent.

Events go to objects below ``ops/_lineage/`` or to an HTTP endpoint (Marquez), by settings. A job never fails
because its lineage could not be sent; it says so in its outcome instead.
"""

from __future__ import annotations

import logging
import uuid
from datetime import UTC, datetime

import requests
from botocore.exceptions import BotoCoreError, ClientError
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    DatasetFacet,
    OutputDatasetFacet,
    RunFacet,
    dataset_version_dataset,
    error_message_run,
    job_type_job,
    nominal_time_run,
    output_statistics_output_dataset,
    parent_run,
    schema_dataset,
)
from openlineage.client.serde import Serde

from lakehouse import contracts, store
from lakehouse.observe.outcome import InputVersion, Outcome, TableOutcome
from lakehouse.runs import run_time
from lakehouse.settings import Settings

log = logging.getLogger("lakehouse.lineage")

PRODUCER = "urn:lakehouse"
_NAMESPACE = uuid.UUID("6f1c9a4e-6c0e-5d6b-9a53-1f0f4f5f9a11")


def run_uuid(run_id: str, job: str, started_at: datetime) -> str:
    """OpenLineage wants a UUID for each execution of a job: a function of run, job and the moment it started."""
    return str(uuid.uuid5(_NAMESPACE, f"{run_id}/{job}/{started_at.isoformat()}"))


def event(settings: Settings, outcome: Outcome, state: RunState) -> RunEvent:
    """The event of a job in its present state."""
    namespace = settings.openlineage.namespace
    facets: dict[str, RunFacet] = {
        "nominalTime": nominal_time_run.NominalTimeRunFacet(
            _time(run_time(outcome.run_id)), producer=PRODUCER
        )
    }
    if outcome.parent is not None:
        facets["parent"] = parent_run.ParentRunFacet(
            run=parent_run.Run(
                str(uuid.uuid5(_NAMESPACE, f"{outcome.parent.dag_id}/{outcome.parent.run_id}"))
            ),
            job=parent_run.Job(namespace, f"{outcome.parent.dag_id}.{outcome.parent.task_id}"),
            producer=PRODUCER,
        )
    if outcome.error is not None:
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(
            f"{outcome.error.code}: {outcome.error.message}", "python", producer=PRODUCER
        )
    tables = outcome.tables if state in (RunState.COMPLETE, RunState.RUNNING) else []
    inputs = {item.table: item for table in tables for item in table.inputs}
    return RunEvent(
        eventTime=_time(_moment(outcome, state)),
        eventType=state,
        producer=PRODUCER,
        run=Run(run_uuid(outcome.run_id, outcome.job, outcome.started_at), facets),
        job=Job(
            namespace,
            outcome.job,
            {"jobType": job_type_job.JobTypeJobFacet(outcome.processing, "SPARK", "JOB", producer=PRODUCER)},
        ),
        inputs=[_input(settings, item) for item in inputs.values()],
        outputs=[_output(settings, table) for table in tables],
    )


def _moment(outcome: Outcome, state: RunState) -> datetime:
    if state is RunState.RUNNING:
        return datetime.now(UTC)
    return outcome.started_at if state is RunState.START else outcome.finished_at or outcome.started_at


def emit(settings: Settings, outcome: Outcome, state: RunState) -> str | None:
    """Send a job's event; returns None, or why it was not sent."""
    if settings.openlineage.transport == "none":
        return None
    body = Serde.to_json(event(settings, outcome, state)).encode()
    try:
        if settings.openlineage.transport == "http":
            assert settings.openlineage.url is not None  # settings refuse http without a url
            # Short: a lineage endpoint that hangs must not hold up the run.
            response = requests.post(
                f"{settings.openlineage.url}/api/v1/lineage",
                data=body,
                headers={"Content-Type": "application/json"},
                timeout=(3, 5),
            )
            response.raise_for_status()
        else:
            run = run_uuid(outcome.run_id, outcome.job, outcome.started_at)
            store.put(
                f"{settings.lake_uri}/ops/_lineage/{outcome.run_id}/{outcome.job}-{run[:8]}-{state.value.lower()}.json",
                body,
            )
    except (requests.RequestException, BotoCoreError, ClientError) as error:
        reason = f"lineage was not sent: {type(error).__name__}: {error}"
        log.warning(reason)
        return reason
    return None


def _input(settings: Settings, item: InputVersion) -> InputDataset:
    return InputDataset(
        settings.lake_uri,
        item.table.replace(".", "/"),
        facets={
            "schema": _schema(item.table),
            "version": dataset_version_dataset.DatasetVersionDatasetFacet(
                str(item.version), producer=PRODUCER
            ),
        },
    )


def _output(settings: Settings, table: TableOutcome) -> OutputDataset:
    facets: dict[str, DatasetFacet] = {"schema": _schema(table.table)}
    if table.version is not None:
        facets["version"] = dataset_version_dataset.DatasetVersionDatasetFacet(
            str(table.version), producer=PRODUCER
        )
    statistics: dict[str, OutputDatasetFacet] = {}
    if table.ledger is not None:
        statistics["outputStatistics"] = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
            rowCount=table.ledger.inserted + table.ledger.updated, producer=PRODUCER
        )
    return OutputDataset(
        settings.lake_uri, table.table.replace(".", "/"), facets=facets, outputFacets=statistics
    )


def _schema(table: str) -> schema_dataset.SchemaDatasetFacet:
    return schema_dataset.SchemaDatasetFacet(
        fields=[
            schema_dataset.SchemaDatasetFacetFields(column.name, column.type, column.description)
            for column in contracts.load(table).columns
        ],
        producer=PRODUCER,
    )


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
