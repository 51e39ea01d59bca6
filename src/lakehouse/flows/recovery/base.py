"""What every recovery does: says what it would do; applied, it first writes down what it is about to do.

An intent, ``ops/_recoveries/<run id>.json``, names the request and, before the first write, what is going to change.
A recovery that was killed is repeated under its run id: the request must be the same, what was found the first time
stands, and each step that has left its mark is passed over.
"""

from __future__ import annotations

import shlex
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pyspark.sql import DataFrame

from lakehouse import contracts, store
from lakehouse.cli import Job
from lakehouse.contracts import Contract
from lakehouse.contracts.spark import schema
from lakehouse.delta import damage
from lakehouse.delta.read import TableHead
from lakehouse.errors import RecoveryRefused, TableUnreadable, TerminalError, UsageError
from lakehouse.flows import gate
from lakehouse.flows.recovery.erasures import hashed
from lakehouse.quality import verdicts
from lakehouse.quality.difference import Difference, difference
from lakehouse.quality.insert import insert_new
from lakehouse.quality.verdicts import Verdict
from lakehouse.session import local_frame
from lakehouse.settings import Settings
from lakehouse.submit import RECOVER

JOB = "recover"
LOG = "ops.recovery_log"
# Names of these are shown; beyond, only how many there are.
_NAMED = 10
_SHORT = Config(connect_timeout=3, read_timeout=10, retries={"mode": "standard", "max_attempts": 2})


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Request(_Frozen):
    """What somebody asks for. ``table`` is dotted, None means all that the action knows; ``runs`` are run ids.

    ``subject`` is a person and is never written down; ``subject_hash`` stands for it. ``by`` is what somebody typed,
    ``identity`` whom AWS took them for.
    """

    action: str
    table: str | None = None
    runs: tuple[str, ...] = ()
    accept: tuple[str, ...] = ()
    version: int | None = None
    time: AwareDatetime | None = None
    reload: bool = False
    with_dependents: bool = False
    job: str | None = None
    topic: str | None = None
    subject: str | None = Field(default=None, exclude=True)
    subject_hash: str | None = None
    by: str = ""
    why: str = ""
    identity: str = ""

    @property
    def asked(self) -> Request:
        """The request without who asks and why: what a repeated one has to agree in."""
        return self.model_copy(update={"by": "", "why": "", "identity": "", "subject": None})

    def sealed(self, run_id: str) -> Request:
        """The request with its subject's hash, which the run id makes another one in every erasure.

        Raises UsageError where ``by`` or ``why``, which are kept, name the subject.
        """
        if self.subject is None:
            return self
        name = self.subject.partition(":")[2].strip()
        if name and name in f"{self.by} {self.why}":
            raise UsageError(
                "received --by or --why with the subject in it, expected words that can be kept for ever"
            )
        (digest,) = hashed(run_id, [self.subject])
        return self.model_copy(update={"subject_hash": digest})


class Change(_Frozen):
    """What a recovery changes of one table; versions are those that readers may rely on (certified, published)."""

    table: str
    target: str
    before: int | None = None
    after: int | None = None
    added: int | None = None
    removed: int | None = None
    changed: int | None = None

    def by(self, found: Difference | None) -> Change:
        """The change with the rows of a difference; as it is where that is not known."""
        if found is None:
            return self
        rows = {"added": found.added, "removed": found.removed, "changed": found.changed}
        return self.model_copy(update=rows)


class Intent(_Frozen):
    """A recovery that was begun, and how it ended."""

    run_id: str
    request: Request
    begun_at: AwareDatetime
    planned: tuple[Change, ...] = ()
    status: Literal["begun", "done", "refused"] = "begun"


@dataclass
class Recovery:
    """One recovery under way. Unless it ``applies``, nothing may be written.

    Unless it ``names_rows``, it tells how many rows differ and not which: keys of rows are kept in outcomes and logs.
    """

    job: Job
    request: Request
    applies: bool
    tell: Callable[[str], None]
    intent: Intent | None = None
    done: list[Change] = field(default_factory=list)
    names_rows: bool = True

    @property
    def settings(self) -> Settings:
        return self.job.settings

    def say(self, *lines: str) -> None:
        """Words for the person who waits, kept with the outcome."""
        for line in lines:
            self.tell(line)
            self.job.outcome.notes.append(line.strip())

    def plan(self, change: Change) -> Change:
        """Write down what is going to change; what an earlier try wrote down of the table stands."""
        assert self.intent is not None  # nothing is planned in a dry run
        for known in self.intent.planned:
            if known.table == change.table:
                return known
        self.intent = self.intent.model_copy(update={"planned": (*self.intent.planned, change)})
        _put(self.settings, self.intent)
        return change

    def record(self, change: Change, after: int | None) -> None:
        """The change has come true; of a table that is changed in several steps the last one counts."""
        others = [each for each in self.done if each.table != change.table]
        self.done = [*others, change.model_copy(update={"after": after})]

    def verdict_id(self, table: str, action: str) -> str:
        """The id of the verdict that this recovery leaves: the same for every try."""
        return uuid.uuid5(uuid.NAMESPACE_URL, f"{self.job.run_id}/{table}/{action}").hex

    def left(self, table: str, action: str) -> Verdict | None:
        """The verdict that an earlier try of this recovery left."""
        wanted = self.verdict_id(table, action)
        found = [each for each in verdicts.read_all(self.settings, table) if each.verdict_id == wanted]
        return found[0] if found else None

    def leave(self, verdict: Verdict) -> Verdict:
        """Write a verdict and load it into ops."""
        gate.leave(self.job.spark, self.settings, [verdict])
        return verdict

    def verdict(
        self,
        contract: Contract,
        action: Literal["recertify", "discard", "erase"],
        live: TableHead,
        version: int,
    ) -> Verdict:
        """A passing verdict of this recovery, without runs."""
        return Verdict(
            verdict_id=self.verdict_id(contract.name, action),
            table=contract.name,
            layer="bronze" if contract.layer == "bronze" else "silver",
            run_id=self.job.run_id,
            table_id=live.table_id,
            version=version,
            outcome="passed",
            action=action,
            contract_version=contract.version,
            contract_hash=contract.content_hash,
            rules_hash=contract.rules_hash,
            rules=(),
            created_at=datetime.now(UTC),
            by=self.request.by,
            why=self.request.why,
        )


Action = Callable[[Recovery], None]


def recover(job: Job, action: Action, request: Request, *, apply: bool, tell: Callable[[str], None]) -> None:
    """Show what an action would do or, with ``apply``, do it. Raises RecoveryRefused where it must not be done."""
    request = request.sealed(job.run_id)
    recovery = Recovery(job, request, apply, tell)
    if not apply:
        action(recovery)
        return
    request = request.model_copy(update={"identity": _identity(job, request.identity)})
    recovery.request = request
    recovery.intent = _begin(job, request)
    if recovery.intent.status == "done":
        recovery.say(f"Recovery {job.run_id} has been done already; nothing was written.")
        return
    try:
        action(recovery)
    except TerminalError:
        _end(recovery, "refused")
        raise
    _log(recovery)
    _end(recovery, "done")


def _identity(job: Job, submitted_by: str) -> str:
    """Whom AWS takes this process for; where it was submitted, the submitter as well, by their own word.

    Nobody is kept from repairing because STS does not answer: then it says so.
    """
    try:
        sts = boto3.client("sts", region_name=job.settings.region, config=_SHORT)
        own = sts.get_caller_identity()["Arn"]
    except (BotoCoreError, ClientError) as error:
        own = f"unknown: {type(error).__name__}"
        job.outcome.notes.append(f"STS does not say who this is ({type(error).__name__}); --by stands alone")
    return f"{submitted_by} as {own}" if submitted_by else own


def unfinished(settings: Settings) -> tuple[Intent, ...]:
    """Recoveries that were begun and have not come to an end: killed, or still running."""
    intents = store.parsed_each(Intent, list(store.keys(f"{_intents_uri(settings)}/")))
    return tuple(intent for intent in intents if intent.status == "begun")


def command(intent: Intent) -> str:
    """The command that goes on with a recovery: as it was given, under its run id. A subject is not written down."""
    asked = intent.request
    values: dict[str, object] = {
        "--table": asked.table,
        "--to-version": asked.version,
        "--to-time": asked.time and asked.time.isoformat(),
        "--job": asked.job,
        "--topic": asked.topic,
    }
    words = [RECOVER, asked.action]
    words += [f"{name} {shlex.quote(str(value))}" for name, value in values.items() if value is not None]
    words += [f"--run {run}" for run in asked.runs] + [f"--accept {rule}" for rule in asked.accept]
    words += ['--subject "$SUBJECT"'] if asked.subject_hash is not None else []
    words += ["--reload"] * asked.reload + ["--with-dependents"] * asked.with_dependents
    words += [f"--run-id {intent.run_id} --apply --by {shlex.quote(asked.by)} --why {shlex.quote(asked.why)}"]
    return " ".join(words)


def contract_of(settings: Settings, name: str) -> Contract:
    """A table's contract with the thresholds of this environment."""
    return contracts.load(name).with_overrides(settings.dq_thresholds)


def require_table(name: str | None, known: Iterable[str], why: str) -> str:
    """The table asked for. Raises UsageError unless it is one of those that the action knows."""
    names = sorted(known)
    if name not in names:
        raise UsageError(f"received --table {name or '(none)'}, expected one of {', '.join(names)}: {why}")
    assert name is not None
    return name


def refuse(problems: Sequence[str], hint: str) -> None:
    """Raise RecoveryRefused with every problem at once, where there is one."""
    if problems:
        lines = [
            "this would lose rows or not help; nothing was written",
            *(f"  - {each}" for each in problems),
        ]
        raise RecoveryRefused("\n".join(lines), hint=hint)


def difference_or_none(
    recovery: Recovery, name: str, new: DataFrame, old: Callable[[], DataFrame], where: str
) -> Difference | None:
    """What differs between a table as it becomes and as it is; None, and said, where the table cannot be read.

    ``where`` says which version ``old`` is. What else cannot be read is raised.
    """
    try:
        return difference(new, old(), contracts.load(name))
    except damage.ENGINE as error:
        told = damage.recognised(error)
        # An error that names no table speaks of a version that its log does not have any more.
        if not isinstance(told, TableUnreadable) or (told.tables and name not in told.tables):
            raise told from error
        recovery.say(f"  {where} cannot be compared: {told.message}")
        return None


def named(items: Iterable[str]) -> str:
    """Names in a sentence, the first few of many."""
    every = sorted(items)
    more = f" and {len(every) - _NAMED} more" if len(every) > _NAMED else ""
    return ", ".join(every[:_NAMED]) + more


def _begin(job: Job, request: Request) -> Intent:
    intent = Intent(run_id=job.run_id, request=request, begun_at=datetime.now(UTC))
    if store.put_if_absent(_intent_uri(job.settings, job.run_id), intent.model_dump_json(indent=1).encode()):
        return intent
    known = Intent.model_validate_json(store.get(_intent_uri(job.settings, job.run_id)) or b"")
    if known.request.asked != request.asked:
        raise UsageError(
            f"received the run id {job.run_id}, which is that of another recovery ({known.request.action})",
            hint="leave --run-id out, or repeat that recovery as it was given",
        )
    if known.status == "refused":
        # What was in its way may have been removed since.
        known = known.model_copy(update={"status": "begun"})
        _put(job.settings, known)
    return known


def _end(recovery: Recovery, status: Literal["done", "refused"]) -> None:
    assert recovery.intent is not None
    _put(recovery.settings, recovery.intent.model_copy(update={"status": status}))


def _log(recovery: Recovery) -> None:
    """One row for each table that was changed, once."""
    if not recovery.done:
        return
    job, request, now = recovery.job, recovery.request, datetime.now(UTC)
    rows = [
        {
            "run_id": job.run_id,
            "action": request.action,
            "table_name": each.table,
            "target": each.target,
            "requested_by": request.by,
            "identity": request.identity,
            "reason": request.why,
            "before_version": each.before,
            "after_version": each.after,
            "rows_added": each.added,
            "rows_removed": each.removed,
            "rows_changed": each.changed,
            "recorded_at": now,
        }
        for each in recovery.done
    ]
    frame = local_frame(job.spark, rows, schema(contracts.load(LOG)))
    insert_new(frame, recovery.settings.table_uri(LOG), ("run_id", "table_name"), f"{job.run_id}/{JOB}/{LOG}")


def _intents_uri(settings: Settings) -> str:
    return f"{settings.lake_uri}/ops/_recoveries"


def _intent_uri(settings: Settings, run_id: str) -> str:
    return f"{_intents_uri(settings)}/{run_id}.json"


def _put(settings: Settings, intent: Intent) -> None:
    store.put(_intent_uri(settings, intent.run_id), intent.model_dump_json(indent=1).encode())
