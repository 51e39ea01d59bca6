"""outcome.json: what a job leaves behind for the operator, the gates, the ledger and the person on call."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from lakehouse import store
from lakehouse.errors import ErrorClass, StateUnreadable, writable
from lakehouse.masks import without_registered, without_secrets
from lakehouse.settings import Settings

# What the note with the command that repeats a job begins with.
REPEAT = "to repeat: "


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LedgerCounts(_Model):
    """The fields of observe.ledger.Ledger."""

    read: int
    generated: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    quarantined: int = 0
    duplicates: int = 0
    superseded: int = 0
    conflicts: int = 0


class InputVersion(_Model):
    """A version of an input table, and which of its runs were read."""

    table: str
    table_id: str
    version: int
    run_ids: tuple[str, ...] = ()


class TableOutcome(_Model):
    """What happened to one table. ``rules`` counts the rows that broke each row rule.

    ``landed``: where its rows came from, ``<source>/<table>/<run_id>`` below the landing folder.
    """

    table: str
    ledger: LedgerCounts | None = None
    version: int | None = None
    table_id: str | None = None
    inputs: tuple[InputVersion, ...] = ()
    landed: str | None = None
    rules: dict[str, int] = {}
    facts: dict[str, int] = {}


class VerdictReference(_Model):
    table: str
    outcome: Literal["passed", "warned", "failed"]
    uri: str


class Failure(_Model):
    error_class: ErrorClass
    code: str
    message: str
    hint: str


class Parent(_Model):
    """The Airflow task try that started the job. ``job_name`` is what EMR knows all tries of the task by."""

    dag_id: str
    run_id: str
    task_id: str
    try_number: int
    job_name: str | None = None


class Outcome(_Model):
    """Filled while a job runs, written last. A later try of the same run replaces it.

    ``processing``, in OpenLineage's words: whether the job ends by itself.
    """

    job: str
    run_id: str
    processing: Literal["BATCH", "STREAMING"] = "BATCH"
    status: Literal["running", "succeeded", "failed"] = "running"
    started_at: datetime
    finished_at: datetime | None = None
    seconds: float | None = None
    error: Failure | None = None
    tables: list[TableOutcome] = []
    verdicts: list[VerdictReference] = []
    notes: list[str] = []
    parent: Parent | None = None

    def repeated_by(self, command: str) -> None:
        """Note the command that repeats the job; ``--run-id``, where that goes on with this run, comes last."""
        self.notes.append(f"{REPEAT}{command}")

    @property
    def repeat(self) -> str | None:
        """The command that repeats the job, as it noted it."""
        return next((each.removeprefix(REPEAT) for each in self.notes if each.startswith(REPEAT)), None)

    @property
    def anew(self) -> str | None:
        """The command that does the same in a new run."""
        return None if self.repeat is None else self.repeat.partition(" --run-id ")[0]


def outcome_uri(settings: Settings, run_id: str, job: str) -> str:
    return f"{settings.lake_uri}/runs/{run_id}/{job}/outcome.json"


def write(settings: Settings, outcome: Outcome) -> str:
    """Write an outcome; returns where. No note of it holds a secret, whoever made it."""
    uri = outcome_uri(settings, outcome.run_id, outcome.job)
    told = outcome.model_copy(update={"notes": [without_secrets(writable(note)) for note in outcome.notes]})
    store.put(uri, without_registered(told.model_dump_json(indent=1)).encode())
    return uri


def read(settings: Settings, run_id: str, job: str) -> Outcome | None:
    """The last outcome of a job in a run, or None where it left none."""
    uri = outcome_uri(settings, run_id, job)
    body = store.get(uri)
    return None if body is None else store.parsed(Outcome, uri, body)


def read_all(
    settings: Settings, since: datetime | None = None, unreadable: list[StateUnreadable] | None = None
) -> list[Outcome]:
    """The outcomes of all runs, or of those since a time (UTC): run ids begin with theirs.

    Raises StateUnreadable for the first that is none; with ``unreadable`` they are put there, and left out.
    """
    first = "" if since is None else f"{since:%Y%m%dT%H%M%SZ}"
    prefix = f"{settings.lake_uri}/runs/"
    uris = [
        uri
        for uri in store.keys(prefix)
        if uri.endswith("/outcome.json") and uri.removeprefix(prefix) >= first
    ]
    found: list[Outcome] = []
    for uri, body in store.get_each(uris):
        try:
            found.append(store.parsed(Outcome, uri, body))
        except StateUnreadable as error:
            if unreadable is None:
                raise
            unreadable.append(error)
    return found


def read_run(settings: Settings, run_id: str) -> list[Outcome]:
    """All outcomes of a run, in the order they started."""
    uris = [uri for uri in store.keys(f"{settings.lake_uri}/runs/{run_id}/") if uri.endswith("/outcome.json")]
    return sorted(store.parsed_each(Outcome, uris), key=lambda outcome: outcome.started_at)
