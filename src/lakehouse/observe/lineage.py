"""OpenLineage: which job turned which table versions into which, by which columns, and what the gates said of them.

START when a job begins, RUNNING when it has its Spark session (a stream: about every ten minutes, with its counts),
COMPLETE or FAIL at its end. Events of one execution share a run; the DAG run is its parent.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    DatasetFacet,
    InputDatasetFacet,
    OutputDatasetFacet,
    RunFacet,
    column_lineage_dataset,
    data_quality_assertions_dataset,
    dataset_version_dataset,
    error_message_run,
    job_type_job,
    nominal_time_run,
    output_statistics_output_dataset,
    parent_run,
    processing_engine_run,
    schema_dataset,
    tags_run,
)
from openlineage.client.serde import Serde

from lakehouse import contracts, store
from lakehouse.bounded import described
from lakehouse.contracts.lineage import column_lineage
from lakehouse.observe import transport
from lakehouse.observe.outcome import InputVersion, Outcome, Parent, TableOutcome
from lakehouse.runs import run_time
from lakehouse.settings import Settings

log = logging.getLogger("lakehouse.lineage")

PRODUCER = "urn:lakehouse"
_NAMESPACE = uuid.UUID("6f1c9a4e-6c0e-5d6b-9a53-1f0f4f5f9a11")
_SEVERITY = {"critical": "error", "warning": "warn"}

#: A verdict as it lies in the lake.
Verdict = Mapping[str, Any]


def run_uuid(run_id: str, job: str, started_at: datetime) -> str:
    """OpenLineage wants a UUID for each execution of a job: a function of run, job and the moment it started."""
    return str(uuid.uuid5(_NAMESPACE, f"{run_id}/{job}/{started_at.isoformat()}"))


def emit(
    settings: Settings, outcome: Outcome, state: RunState, *, spark_version: str | None = None
) -> str | None:
    """Send a job's event; returns None, or why it was not sent: nothing here ever fails a job."""
    if settings.openlineage.transport == "none":
        return None
    try:
        found = event(settings, outcome, state, _verdicts(outcome), spark_version)
        run = run_uuid(outcome.run_id, outcome.job, outcome.started_at)
        name = f"{outcome.run_id}/{outcome.job}-{run[:8]}-{state.value.lower()}.json"
        problem = transport.send(settings, name, outcome.job, Serde.to_json(found).encode())
    except Exception as error:
        problem = described(error)
    if problem is None:
        return None
    reason = f"lineage was not sent ({state.value}, {settings.openlineage.transport}): {problem}"
    log.warning(reason)
    return reason


def _verdicts(outcome: Outcome) -> list[Verdict]:
    return [json.loads(body) for body in store.get_many([verdict.uri for verdict in outcome.verdicts])]


def event(
    settings: Settings,
    outcome: Outcome,
    state: RunState,
    verdicts: Sequence[Verdict] = (),
    spark_version: str | None = None,
) -> RunEvent:
    """The event of a job in its present state. What a failed job had written by then is there, and part of it."""
    namespace = settings.openlineage.namespace
    facets: dict[str, RunFacet] = {
        "nominalTime": nominal_time_run.NominalTimeRunFacet(
            _time(run_time(outcome.run_id)), producer=PRODUCER
        ),
        "tags": _tags(outcome),
    }
    if outcome.parent is not None:
        facets["parent"] = _parent(namespace, outcome.parent)
    if outcome.error is not None:
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(
            f"{outcome.error.code}: {outcome.error.message}", "python", producer=PRODUCER
        )
    if spark_version is not None:
        facets["processing_engine"] = processing_engine_run.ProcessingEngineRunFacet(
            spark_version, "spark", producer=PRODUCER
        )
    tables = [] if state is RunState.START else list({each.table: each for each in outcome.tables}.values())
    read = {item.table: item for table in tables for item in table.inputs}
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
        inputs=[
            *[_input(settings, item) for item in read.values()],
            *[_landing(settings, outcome, table.landed) for table in tables if table.landed],
            *[_judged(settings, verdict) for verdict in verdicts],
        ],
        outputs=[_output(settings, table) for table in tables],
    )


def _moment(outcome: Outcome, state: RunState) -> datetime:
    if state is RunState.RUNNING:
        return datetime.now(UTC)
    return outcome.started_at if state is RunState.START else outcome.finished_at or outcome.started_at


def _tags(outcome: Outcome) -> tags_run.TagsRunFacet:
    """By which names people know the run: the lake's run id, and Airflow's task and try."""
    tags = {"run_id": outcome.run_id}
    if (parent := outcome.parent) is not None:
        tags |= {
            "airflow_run_id": parent.run_id,
            "airflow_task_id": parent.task_id,
            "airflow_try": str(parent.try_number),
        }
    return tags_run.TagsRunFacet(
        [tags_run.TagsRunFacetFields(name, value, "LAKEHOUSE") for name, value in tags.items()],
        producer=PRODUCER,
    )


def _parent(namespace: str, parent: Parent) -> parent_run.ParentRunFacet:
    run = str(uuid.uuid5(_NAMESPACE, f"{parent.dag_id}/{parent.run_id}"))
    return parent_run.ParentRunFacet(
        run=parent_run.Run(run),
        job=parent_run.Job(namespace, parent.dag_id),
        root=parent_run.Root(parent_run.RootRun(run), parent_run.RootJob(namespace, parent.dag_id)),
        producer=PRODUCER,
    )


def _name(settings: Settings, path: str) -> tuple[str, str]:
    """Namespace and name of a dataset on S3, as OpenLineage's naming has them: the bucket, and the key."""
    bucket, prefix = store.split(settings.lake_uri)
    return f"s3://{bucket}", f"{prefix}/{path}".lstrip("/")


def _table_name(settings: Settings, table: str) -> tuple[str, str]:
    return _name(settings, table.replace(".", "/"))


def _input(settings: Settings, item: InputVersion) -> InputDataset:
    namespace, name = _table_name(settings, item.table)
    return InputDataset(
        namespace, name, facets={"schema": _schema(item.table), "version": _version(item.version)}
    )


def _landing(settings: Settings, outcome: Outcome, landed: str) -> InputDataset:
    """What a source gave: immutable, so that the run which landed it is its version."""
    namespace, name = _name(settings, f"landing/{landed.rpartition('/')[0]}")
    return InputDataset(namespace, name, facets={"version": _version(landed.rpartition("/")[2])})


def _judged(settings: Settings, verdict: Verdict) -> InputDataset:
    """A table as a gate read it, with what each rule said."""
    table = verdict["table"]
    namespace, name = _table_name(settings, table)
    facets: dict[str, DatasetFacet] = {"schema": _schema(table)}
    if verdict["version"] is not None:
        facets["version"] = _version(verdict["version"])
    known = {rule.name: rule for rule in contracts.load(table).rules}
    assertions = []
    for result in verdict["rules"]:
        rule = known.get(result["name"])
        assertions.append(
            data_quality_assertions_dataset.Assertion(
                assertion=rule.kind if rule else result["name"],
                success=result["passed"],
                column=rule.columns[0] if rule and len(rule.columns) == 1 else None,
                severity=_SEVERITY[result["severity"]],
                name=result["name"],
                description=rule.message if rule else None,
                expected=result["expected"],
                actual=result["observed"],
            )
        )
    quality: dict[str, InputDatasetFacet] = {
        "dataQualityAssertions": data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(
            assertions, producer=PRODUCER
        )
    }
    return InputDataset(namespace, name, facets=facets, inputFacets=quality)


def _output(settings: Settings, table: TableOutcome) -> OutputDataset:
    namespace, name = _table_name(settings, table.table)
    facets: dict[str, DatasetFacet] = {"schema": _schema(table.table)}
    if table.version is not None:
        facets["version"] = _version(table.version)
    if table.table.startswith(("silver.", "gold.")):
        facets["columnLineage"] = _columns(settings, table.table)
    statistics: dict[str, OutputDatasetFacet] = {}
    if table.ledger is not None:
        statistics["outputStatistics"] = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
            rowCount=table.ledger.inserted + table.ledger.updated, producer=PRODUCER
        )
    return OutputDataset(namespace, name, facets=facets, outputFacets=statistics)


def _columns(settings: Settings, table: str) -> column_lineage_dataset.ColumnLineageDatasetFacet:
    return column_lineage_dataset.ColumnLineageDatasetFacet(
        fields={
            column: column_lineage_dataset.Fields(
                [
                    column_lineage_dataset.InputField(*_table_name(settings, source), field)
                    for source, field in sources
                ]
            )
            for column, sources in column_lineage(table).items()
        },
        producer=PRODUCER,
    )


def _version(version: int | str) -> dataset_version_dataset.DatasetVersionDatasetFacet:
    return dataset_version_dataset.DatasetVersionDatasetFacet(str(version), producer=PRODUCER)


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
