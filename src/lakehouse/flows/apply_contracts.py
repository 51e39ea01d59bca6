"""Apply contracts: bring every live table to its contract, before anything else of the day runs.

The story: read each table's log once, plan for all of them, refuse them all together before the first is touched;
then create what is missing, run the migrations that are due, add columns, and record which contract the table obeys.
A table that was dropped is not made anew: the bucket's versions bring it back, and a new log in its place would be
mixed with its own.
A table that already obeys its contract costs one look at its log. Killed anywhere, the job does the rest when it is
run again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, Protocol

from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession

from lakehouse import contracts
from lakehouse.cli import Job
from lakehouse.contracts import Contract, ddl
from lakehouse.contracts.migrations import (
    TABLE_PLACEHOLDER,
    LiveTable,
    Migration,
    Plan,
    live_columns,
    load_registry,
    plan,
    refuse,
)
from lakehouse.delta.conflicts import CONFLICTS
from lakehouse.delta.log import LogHead, is_dropped, log_head, way_back
from lakehouse.errors import CommitConflict, ContractError, TableUnreadable, Violation
from lakehouse.observe.outcome import TableOutcome

log = logging.getLogger("lakehouse.flows.apply_contracts")

# Creating a table is mostly waiting for storage and for one commit; more threads than this only queue in the driver.
_THREADS = 4


class Lake(Protocol):
    """What is needed of the settings."""

    def table_uri(self, name: str) -> str: ...


@dataclass(frozen=True)
class TableChange:
    """What was done to one table. ``steps`` says it in words; ``version`` is the table's newest afterwards."""

    table: str
    action: Literal["created", "changed", "unchanged"]
    steps: tuple[str, ...]
    table_id: str
    version: int


def apply(job: Job) -> None:
    """Bring every table to its contract and note what was done."""
    changes = apply_contracts(job.spark, job.settings)
    for change in changes:
        job.outcome.tables.append(
            TableOutcome(table=change.table, version=change.version, table_id=change.table_id)
        )
    created = [change.table for change in changes if change.action == "created"]
    if created:
        job.outcome.notes.append(f"created {created[0] if len(created) == 1 else f'{len(created)} tables'}")
    job.outcome.notes.extend(
        f"{change.table}: {step}" for change in changes if change.action != "created" for step in change.steps
    )


def apply_contracts(
    spark: SparkSession,
    settings: Lake,
    tables: Sequence[Contract] | None = None,
    registry: Iterable[Migration] | None = None,
    *,
    anew: bool = False,
) -> list[TableChange]:
    """Bring tables (all that have a contract, or those given) to their contracts. Idempotent.

    ``anew``: tables whose objects somebody put aside are created, although versions of these are left.

    Before anything is changed, raises TableUnreadable with every table that was dropped, ContractError with every
    difference of every table. Raises CommitConflict where another writer was faster.
    """
    targets = tuple(tables) if tables is not None else contracts.load_all()
    migrations = tuple(registry) if registry is not None else load_registry()
    with ThreadPoolExecutor(_THREADS) as pool:
        heads = list(pool.map(lambda contract: log_head(spark, settings.table_uri(contract.name)), targets))
        missing = [contract.name for contract, head in zip(targets, heads, strict=True) if head is None]
        if not anew:
            _refuse_dropped(spark, settings, missing, pool)
        plans = [
            None if head is None else plan(contract, _live(head), migrations)
            for contract, head in zip(targets, heads, strict=True)
        ]
        refuse(each for each in plans if each is not None)

        def bring(item: tuple[Contract, LogHead | None, Plan | None]) -> TableChange:
            contract, head, planned = item
            return _bring(spark, settings.table_uri(contract.name), contract, head, planned, migrations)

        return list(pool.map(bring, zip(targets, heads, plans, strict=True)))


def _refuse_dropped(
    spark: SparkSession, settings: Lake, missing: Sequence[str], pool: ThreadPoolExecutor
) -> None:
    """Raise TableUnreadable where a table is missing because its objects were deleted."""
    uris = {name: settings.table_uri(name) for name in missing}
    answers = pool.map(lambda uri: is_dropped(spark, uri), uris.values())
    dropped = [name for name, is_gone in zip(uris, answers, strict=True) if is_gone]
    if dropped:
        raise TableUnreadable(
            "nothing was created: tables were deleted whose objects the bucket's versions still hold",
            hint="bring each back, then run this again: "
            + "; ".join(way_back(uris[name]) for name in dropped),
            violations=tuple(
                Violation(name, "no table, and versions of its log", "the table, or nothing of it")
                for name in dropped
            ),
        )


def _bring(
    spark: SparkSession,
    uri: str,
    contract: Contract,
    head: LogHead | None,
    planned: Plan | None,
    registry: tuple[Migration, ...],
) -> TableChange:
    action: Literal["created", "changed"] = "changed"
    try:
        if head is None or planned is None:
            action, steps = "created", ["created"]
            _create(spark, uri, contract)
        elif planned.is_empty:
            return TableChange(contract.name, "unchanged", (), head.table_id, head.version)
        else:
            steps = _change(spark, uri, contract, planned, registry)
    except CONFLICTS as error:
        raise CommitConflict(
            f"{contract.name}: another writer committed while its contract was applied ({type(error).__name__})",
            hint="retry; what was already done is not repeated",
        ) from error
    after = log_head(spark, uri)
    assert after is not None  # it was created or was there
    log.info("%s: %s", contract.name, "; ".join(steps))
    return TableChange(contract.name, action, tuple(steps), after.table_id, after.version)


def _create(spark: SparkSession, uri: str, contract: Contract) -> None:
    try:
        spark.sql(ddl.create_table(contract, uri))
    except AnalysisException as error:
        # What a writer sees that looks between another one's first file and its commit.
        if error.getCondition() != "DELTA_CREATE_TABLE_WITH_NON_EMPTY_LOCATION":
            raise
        if log_head(spark, uri) is not None:
            raise CommitConflict(
                f"{contract.name}: another writer created the table meanwhile", hint="retry"
            ) from error
    if log_head(spark, uri) is None:
        # IF NOT EXISTS is content with any files in the table's place.
        raise ContractError(
            f"{contract.name}: {uri} holds files but no Delta table",
            hint="move these files away; they were not written by this project",
        )


def _change(
    spark: SparkSession, uri: str, contract: Contract, planned: Plan, registry: tuple[Migration, ...]
) -> list[str]:
    steps: list[str] = []
    if planned.migrations:
        for migration in planned.migrations:
            for statement in migration.statements:
                spark.sql(statement.replace(TABLE_PLACEHOLDER, ddl.target(uri)))
            steps.append(f"migrated by {migration.name}: {migration.reason}")
        planned = _after_migrations(spark, uri, contract, planned, registry)
    if planned.add_columns:
        spark.sql(ddl.add_columns(contract, uri, planned.add_columns))
        steps += [f"added column {column.name} {column.type}" for column in planned.add_columns]
    for column in planned.comments:
        spark.sql(ddl.set_comment(uri, column))
        steps.append(f"described column {column.name}")
    if planned.unset:
        spark.sql(ddl.unset_properties(uri, planned.unset))
        steps.append(f"took away {', '.join(planned.unset)}")
    if planned.properties:
        # Last: a table that says it obeys a contract does.
        spark.sql(ddl.set_properties(uri, planned.properties))
        steps.append(f"set {', '.join(sorted(planned.properties))}")
    return steps


def _after_migrations(
    spark: SparkSession, uri: str, contract: Contract, done: Plan, registry: tuple[Migration, ...]
) -> Plan:
    """Plan what is left, with what the migrations promised no longer excused. Raises ContractError."""
    head = log_head(spark, uri)
    assert head is not None  # a migration changes a table, it does not remove it
    ran = {migration.name for migration in done.migrations}
    left = plan(contract, _live(head), [migration for migration in registry if migration.name not in ran])
    if left.refusals:
        raise ContractError(
            f"{contract.name}: after {', '.join(sorted(ran))} the table still differs from its contract",
            hint="correct the statements of the migration; they run again, so each must allow for having run before",
            violations=left.refusals,
        )
    return left


def _live(head: LogHead) -> LiveTable:
    return LiveTable(
        columns=live_columns(head.schema_json), partition_by=head.partition_by, properties=head.properties
    )
