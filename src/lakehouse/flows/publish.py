"""Publish: the certified versions of Silver → Gold, all tables of one publication.

The story: finish a publication that was cut off; demand a passing verdict of this run for every Silver table;
write the intent (input versions); commit dimensions, then facts, then the marker. Transforms are deterministic
functions of the intent, so replaying it after a crash gives what an uninterrupted run would have given.

One publication at a time: each follows certain complete ones, and its intent is the one object of the name that these
give, created only if absent. Of two that would follow the same, S3 takes one; the other has written nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import date, datetime

from pydantic import BaseModel, ConfigDict
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel

from lakehouse import contracts, store
from lakehouse.cli import Job
from lakehouse.contracts.spark import schema
from lakehouse.delta.read import Commit, TableHead, commit_tagged, head, read
from lakehouse.delta.write import overwrite, replace_where
from lakehouse.errors import CommitConflict, LedgerImbalance, NotCertified
from lakehouse.flows.known import require_known
from lakehouse.observe.ledger import Ledger
from lakehouse.observe.outcome import InputVersion, LedgerCounts, TableOutcome
from lakehouse.quality import verdicts
from lakehouse.quality.difference import ADDED, CHANGE, CHANGED, REMOVED, SAME, compared
from lakehouse.runs import run_time
from lakehouse.session import local_frame
from lakehouse.settings import Settings
from lakehouse.tables.gold import dim_customers, dim_fx, fact_orders

log = logging.getLogger("lakehouse.flows.publish")

INPUTS = ("silver.orders", "silver.fx_rates", "silver.salesforce_accounts", "silver.hubspot_contacts")
DIMENSIONS = ("gold.dim_customers", "gold.dim_fx")
FACTS = "gold.fact_orders"
OUTPUTS = (*DIMENSIONS, FACTS)
_INTENT, _MARKER = ".intent.json", ".marker.json"


class TableVersion(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    table_id: str
    version: int


class Intent(BaseModel):
    """What a publication reads, written before its first commit. ``previous`` is Gold as it was, for frozen rates."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    publish_id: str
    run_id: str
    run_date: date
    inputs: dict[str, TableVersion]
    previous: dict[str, TableVersion]
    contracts: dict[str, str]
    max_staleness_days: int
    restate_days: int


class Marker(BaseModel):
    """A publication that is complete: the versions of Gold it made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    publish_id: str
    inputs: dict[str, TableVersion]
    outputs: dict[str, TableVersion]
    contracts: dict[str, str]


@dataclass(frozen=True)
class Turn:
    """Whose turn it is: ``name`` is that of the intent that follows the complete publications, ``intent`` what has it.

    ``intent`` is None where nobody has begun. It is what has to be completed before anything else is published.
    """

    name: str
    intent: Intent | None


def publish(job: Job) -> None:
    """Publish what this run certified; nothing where Gold already shows it.

    Raises UnknownRun for a run that nothing is known of, NotCertified where a verdict is missing, CommitConflict where
    another publication began meanwhile.
    """
    require_known(job.settings, job.run_id)
    now = turn(job.settings)
    while now.intent is not None:
        declare(job.settings, now.intent, now)
        complete(job, now.intent)
        job.outcome.notes.append(f"completed publication {now.intent.publish_id}, which had been cut off")
        now = turn(job.settings)
    inputs = certified_inputs(job)
    last = latest_marker(job.settings)
    hashes = {name: contracts.load(name).content_hash for name in OUTPUTS}
    if (
        last is not None
        and last.contracts == hashes
        and optimized(job.settings, last.inputs) == inputs
        and is_intact(job, last)
    ):
        job.outcome.notes.append(
            f"Gold already shows these versions of Silver (publication {last.publish_id})"
        )
        if not job.outcome.tables:  # else this try has just completed it
            job.outcome.tables.extend(_told_again(job, last))
        return
    previous = {table: version_of(job, table) for table in OUTPUTS}
    intent = intent_of(job, inputs, previous, now)
    declare(job.settings, intent, now)
    complete(job, intent)


def certified_inputs(job: Job) -> dict[str, TableVersion]:
    """The certified version of each Silver table. Raises NotCertified unless this run's verdicts all pass."""
    versions: dict[str, TableVersion] = {}
    refusals: list[NotCertified] = []
    for table in INPUTS:
        live = head(job.spark, job.settings.table_uri(table))
        known = verdicts.certification(table, verdicts.read_all(job.settings, table), live.table_id)
        try:
            known.require(job.run_id)
        except NotCertified as refusal:
            refusals.append(refusal)
            continue
        assert known.version is not None  # a passing verdict names the version it certifies
        versions[table] = TableVersion(table_id=live.table_id, version=known.version)
    if refusals:
        raise NotCertified(
            "Gold was not touched: " + "; ".join(refusal.message for refusal in refusals),
            hint=refusals[0].hint,
        )
    return versions


def latest_marker(settings: Settings) -> Marker | None:
    """The newest complete publication."""
    names = [uri for uri in store.keys(_uri(settings, "")) if uri.endswith(_MARKER)]
    return None if not names else store.parsed(Marker, names[-1], store.get(names[-1]) or b"")


def published_at(settings: Settings) -> datetime | None:
    """When the newest publication was complete: the time of its marker."""
    found = [each for each in store.objects(_uri(settings, "")) if each.uri.endswith(_MARKER)]
    return found[-1].modified if found else None


def _uri(settings: Settings, name: str) -> str:
    return f"{settings.lake_uri}/ops/_publications/{name}"


def _turn_uri(settings: Settings, name: str) -> str:
    return _uri(settings, f"turns/{name}.json")


def turn(settings: Settings) -> Turn:
    """Who may publish. To be asked before Gold and Silver are looked at: what begins afterwards gets in the way."""
    names = [uri.removeprefix(_uri(settings, "")) for uri in store.keys(_uri(settings, ""))]
    done = {name.removesuffix(_MARKER) for name in names if name.endswith(_MARKER)}
    # A rollback is no publication: one beside a publication must not give the turn away that is taken.
    published = sorted(name for name in done if not name.endswith(".rollback"))
    name = _turn_after(published)
    taken = store.get(_turn_uri(settings, name))
    if taken is not None:
        return Turn(name, store.parsed(Intent, _turn_uri(settings, name), taken))
    # Earlier releases wrote intents under their own names, several perhaps; the oldest is completed first.
    left = sorted({each.removesuffix(_INTENT) for each in names if each.endswith(_INTENT)} - done)
    body = store.get(_uri(settings, f"{left[0]}{_INTENT}")) if left else None
    return Turn(name, None if body is None else Intent.model_validate_json(body))


def _turn_after(published: Sequence[str]) -> str:
    """The name of the turn that follows these complete publications, in the order of their ids."""
    return hashlib.sha256("\n".join(published).encode()).hexdigest()[:16]


def pending(settings: Settings) -> Intent | None:
    """The publication that has begun and is not complete: cut off, or under way."""
    return turn(settings).intent


def is_intact(job: Job, marker: Marker) -> bool:
    """Whether Gold still has the rows that the marker says (nobody restored or wrote it since)."""
    return all(
        version_of(job, table) == version
        for table, version in optimized(job.settings, marker.outputs).items()
    )


def optimized(settings: Settings, known: Mapping[str, TableVersion]) -> dict[str, TableVersion]:
    """The versions that have the rows of these, after what housekeeping made of them."""
    return {
        table: item.model_copy(
            update={
                "version": verdicts.optimized(verdicts.read_all(settings, table), item.table_id, item.version)
            }
        )
        for table, item in known.items()
    }


def intent_of(
    job: Job, inputs: dict[str, TableVersion], previous: dict[str, TableVersion], now: Turn
) -> Intent:
    """What this run would publish from these inputs, over what Gold was. Nothing is written."""
    # With the turn, the id is none that a complete publication has: its marker would end this one before it began.
    parts = [{table: version.model_dump() for table, version in part.items()} for part in (inputs, previous)]
    content = json.dumps([*parts, now.name], sort_keys=True)
    return Intent(
        publish_id=f"{job.run_id}.{hashlib.sha256(content.encode()).hexdigest()[:8]}",
        run_id=job.run_id,
        run_date=run_time(job.run_id).date(),
        inputs=inputs,
        previous=previous,
        contracts={name: contracts.load(name).content_hash for name in OUTPUTS},
        max_staleness_days=job.settings.fx.max_staleness_days,
        restate_days=job.settings.fx.restate_days,
    )


def declare(settings: Settings, intent: Intent, now: Turn) -> None:
    """Say what is going to be published, before the first commit, as what follows the publications of a turn.

    Idempotent. Raises CommitConflict where the turn is another publication's.
    """
    uri = _turn_uri(settings, now.name)
    if store.put_if_absent(uri, intent.model_dump_json(indent=1).encode()):
        return
    taken = store.get(uri)
    other = None if taken is None else Intent.model_validate_json(taken)
    if other is None or other.publish_id != intent.publish_id:
        who = "another one" if other is None else f"publication {other.publish_id} of run {other.run_id}"
        raise CommitConflict(
            f"publication {intent.publish_id}: {who} began first; nothing of this one is written",
            hint="retry: what the other one leaves undone is completed first",
        )


def complete(job: Job, intent: Intent) -> None:
    """Commit every table of an intent that is not committed yet, dimensions before facts, then its marker."""
    tables = _publish_tables(job, intent)
    job.outcome.tables.extend(tables)
    _mark(job, intent, tables)


def _told_again(job: Job, last: Marker) -> list[TableOutcome]:
    """What this run's own publication did, for a try that was killed after its end, or is repeated. Nothing is written.

    Empty where the publication is another run's, or was followed by others.
    """
    if not last.publish_id.startswith(f"{job.run_id}."):
        return []
    names = (name for name, _ in markers(job.settings) if not name.endswith(".rollback"))
    before = sorted(name for name in names if name != last.publish_id)
    taken = store.get(_turn_uri(job.settings, _turn_after(before)))
    intent = None if taken is None else Intent.model_validate_json(taken)
    if intent is None or intent.publish_id != last.publish_id:
        return []
    return _publish_tables(job, intent) if all(committed(job, intent, table) for table in OUTPUTS) else []


def _publish_tables(job: Job, intent: Intent) -> list[TableOutcome]:
    with ThreadPoolExecutor(len(DIMENSIONS)) as pool:
        tables = list(pool.map(lambda table: _publish_table(job.beside(), intent, table), DIMENSIONS))
    return [*tables, _publish_table(job, intent, FACTS)]


def _publish_table(job: Job, intent: Intent, table: str) -> TableOutcome:
    """Compare one table with what Gold shows, then commit it. Raises LedgerImbalance before the commit."""
    silver = _silver(job, intent)
    rows = _gold(job, intent, silver, table).persist(StorageLevel.MEMORY_AND_DISK)
    try:
        ledger, facts = _ledger(job, intent, table, rows, silver)
        version = _commit(job, intent, table, rows)
    finally:
        rows.unpersist()
    return TableOutcome(
        table=table,
        ledger=LedgerCounts(**asdict(ledger)),
        version=version.version,
        table_id=version.table_id,
        inputs=tuple(
            InputVersion(table=name, table_id=item.table_id, version=item.version)
            for name, item in intent.inputs.items()
        ),
        facts=facts,
    )


def tables_of(job: Job, intent: Intent) -> dict[str, DataFrame]:
    """The Gold tables that an intent gives, dimensions first. Lazily evaluated; nothing is written."""
    silver = _silver(job, intent)
    return {table: _gold(job, intent, silver, table) for table in OUTPUTS}


def _silver(job: Job, intent: Intent) -> dict[str, DataFrame]:
    return {
        name: read(job.spark, job.settings.table_uri(name), version.version)
        for name, version in intent.inputs.items()
    }


def _gold(job: Job, intent: Intent, silver: Mapping[str, DataFrame], table: str) -> DataFrame:
    """A Gold table of an intent, and no other: to plan one takes a second. Lazily evaluated."""

    def customers() -> DataFrame:
        accounts, contacts = silver["silver.salesforce_accounts"], silver["silver.hubspot_contacts"]
        return dim_customers.transform(accounts, contacts, publish_id=intent.publish_id)

    def rates() -> DataFrame:
        return dim_fx.transform(
            silver["silver.fx_rates"],
            max_staleness_days=intent.max_staleness_days,
            publish_id=intent.publish_id,
        )

    def facts() -> DataFrame:
        return fact_orders.transform(
            silver["silver.orders"],
            customers(),
            rates(),
            read(job.spark, job.settings.table_uri(FACTS), intent.previous[FACTS].version),
            run_date=intent.run_date,
            restate_days=intent.restate_days,
            publish_id=intent.publish_id,
        )

    frame = {"gold.dim_customers": customers, "gold.dim_fx": rates, FACTS: facts}[table]()
    return frame.select(*[F.col(field.name) for field in schema(contracts.load(table))])


def _ledger(
    job: Job, intent: Intent, table: str, rows: DataFrame, silver: Mapping[str, DataFrame]
) -> tuple[Ledger, dict[str, int]]:
    """Compare with Gold as it was, and with the driving input. Raises LedgerImbalance."""
    contract = contracts.load(table)
    business = [column.name for column in contract.columns if column.name != "_publish_id"]
    before = read(job.spark, job.settings.table_uri(table), intent.previous[table].version)
    rows_of_both = compared(rows, before, contract.key, business)
    is_gone = F.col(CHANGE) == REMOVED
    extra = (
        [
            F.count_if(~is_gone & F.col("n.amount_usd").isNull()).alias("unpriced"),
            F.count_if(~is_gone & ~F.col("n.is_known_customer")).alias("unknown_customers"),
        ]
        if table == FACTS
        else []
    )
    counts = rows_of_both.agg(
        F.count_if(F.col(CHANGE) == ADDED).alias("inserted"),
        F.count_if(F.col(CHANGE) == CHANGED).alias("updated"),
        F.count_if(F.col(CHANGE) == SAME).alias("unchanged"),
        F.count_if(is_gone).alias("removed"),
        F.count_if(~is_gone).alias("rows"),
        F.count_distinct(F.when(~is_gone, F.struct(*[F.col(f"n.{name}") for name in contract.key]))).alias(
            "keys"
        ),
        *extra,
    ).head()
    assert counts is not None  # an aggregation without grouping has one row
    found: dict[str, int] = counts.asDict()
    if found["rows"] != found["keys"]:
        raise LedgerImbalance(
            f"{table}: received {found['rows']} rows with {found['keys']} keys, expected each key once",
            hint="Gold was not touched; check that the Silver tables are unique by key (dq_check_silver)",
        )
    read_rows, generated, superseded = _driving(table, found["rows"], silver)
    ledger = Ledger(
        read=read_rows,
        generated=generated,
        inserted=found["inserted"],
        updated=found["updated"],
        unchanged=found["unchanged"],
        superseded=superseded,
    ).require_balance(table)
    log.info("%s: %s", table, json.dumps({**asdict(ledger), "removed": found["removed"]}))
    return ledger, {
        name: found[name] for name in ("removed", "unpriced", "unknown_customers") if name in found
    }


def _driving(table: str, rows_found: int, silver: Mapping[str, DataFrame]) -> tuple[int, int, int]:
    """Rows read from the driving input, rows generated, and rows that a later state of the same order supersedes."""
    if table == FACTS:
        events = silver["silver.orders"].agg(F.count("*"), F.count_distinct("order_id")).head()
        assert events is not None
        return events[0], 0, events[0] - events[1]
    if table == "gold.dim_fx":
        # A quote has a day of the calendar of its own, so the other days were generated.
        quotes = silver["silver.fx_rates"].count()
        return quotes, rows_found - quotes, 0
    return silver["silver.salesforce_accounts"].count(), 0, 0


def _commit(job: Job, intent: Intent, table: str, rows: DataFrame) -> TableVersion:
    """Replace the table, once: a replay finds the commit of the try that was cut off."""
    uri = job.settings.table_uri(table)
    commit = committed(job, intent, table) or overwrite(rows, uri, _tag(intent))
    live = head(job.spark, uri)
    return TableVersion(table_id=live.table_id, version=live.version if commit is None else commit.version)


def committed(job: Job, intent: Intent, table: str) -> Commit | None:
    """The commit of a table by an intent, or None where there is none yet."""
    uri = job.settings.table_uri(table)
    return commit_tagged(job.spark, uri, _tag(intent), after=intent.previous[table].version)


def _tag(intent: Intent) -> str:
    return f"publish:{intent.publish_id}"


def _mark(job: Job, intent: Intent, tables: list[TableOutcome]) -> None:
    """Say that the publication is complete: in ops.publications for readers, then as the object that ends it."""
    inputs = json.dumps({name: item.model_dump() for name, item in intent.inputs.items()}, sort_keys=True)
    records = []
    outputs: dict[str, TableVersion] = {}
    for each in tables:
        assert each.ledger is not None
        assert each.table_id is not None
        assert each.version is not None
        written = each.ledger.inserted + each.ledger.updated + each.ledger.unchanged
        outputs[each.table] = TableVersion(table_id=each.table_id, version=each.version)
        records.append(
            {
                "publish_id": intent.publish_id,
                "run_id": intent.run_id,
                "table_name": each.table,
                "table_id": each.table_id,
                "version": each.version,
                "inputs": inputs,
                "rows": written,
                "unpriced": each.facts.get("unpriced"),
                "unknown_customers": each.facts.get("unknown_customers"),
                "published_at": run_time(intent.run_id),
            }
        )
    table = "ops.publications"
    replace_where(
        local_frame(job.spark, records, schema(contracts.load(table))),
        job.settings.table_uri(table),
        f"publish_id = '{intent.publish_id}'",
        _tag(intent),
    )
    marker = Marker(
        publish_id=intent.publish_id, inputs=intent.inputs, outputs=outputs, contracts=intent.contracts
    )
    write_marker(job.settings, marker, intent.publish_id)


def close(settings: Settings, intent: Intent) -> None:
    """End a publication that cannot be completed: what Gold has to show is what the one before it published."""
    last = latest_marker(settings)
    nothing = Marker(publish_id=intent.publish_id, inputs={}, outputs=intent.previous, contracts={})
    write_marker(settings, nothing if last is None else last, intent.publish_id)


def write_marker(settings: Settings, marker: Marker, name: str) -> None:
    """End a publication, or the return to one, with its marker; names sort by time."""
    uri = _uri(settings, f"{name}{_MARKER}")
    store.put_if_absent(uri, marker.model_dump_json(indent=1).encode())


def markers(settings: Settings) -> list[tuple[str, Marker]]:
    """All complete publications with the names of their markers, the oldest first."""
    base = _uri(settings, "")
    uris = [uri for uri in store.keys(base) if uri.endswith(_MARKER)]
    names = [uri.removeprefix(base).removesuffix(_MARKER) for uri in uris]
    return list(zip(names, store.parsed_each(Marker, uris), strict=True))


def version_of(job: Job, table: str) -> TableVersion:
    """A table as it is now."""
    return _version(head(job.spark, job.settings.table_uri(table)))


def _version(live: TableHead) -> TableVersion:
    return TableVersion(table_id=live.table_id, version=live.version)
