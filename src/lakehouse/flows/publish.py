"""Publish: the certified versions of Silver → Gold, all tables of one publication.

The story: finish a publication that was cut off; demand a passing verdict of this run for every Silver table;
write the intent (input versions); commit dimensions, then facts, then the marker. Transforms are deterministic
functions of the intent, so replaying it after a crash gives what an uninterrupted run would have given.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import date

from pydantic import BaseModel, ConfigDict
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel

from lakehouse import contracts, store
from lakehouse.cli import Job
from lakehouse.contracts.spark import schema
from lakehouse.delta.read import TableHead, commit_tagged, head, read
from lakehouse.delta.write import overwrite, replace_where
from lakehouse.errors import LedgerImbalance, NotCertified
from lakehouse.observe.ledger import Ledger
from lakehouse.observe.outcome import InputVersion, LedgerCounts, TableOutcome
from lakehouse.quality import verdicts
from lakehouse.runs import run_time
from lakehouse.settings import Settings
from lakehouse.tables.gold import dim_customers, dim_fx, fact_orders

log = logging.getLogger("lakehouse.flows.publish")

INPUTS = ("silver.orders", "silver.fx_rates", "silver.salesforce_accounts", "silver.hubspot_contacts")
DIMENSIONS = ("gold.dim_customers", "gold.dim_fx")
FACTS = "gold.fact_orders"
OUTPUTS = (*DIMENSIONS, FACTS)


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


def publish(job: Job) -> None:
    """Publish what this run certified; nothing where Gold already shows it. Raises NotCertified otherwise."""
    pending = _pending(job.settings)
    if pending is not None:
        job.outcome.notes.append(f"completed publication {pending.publish_id}, which had been cut off")
        _replay(job, pending)
    inputs = certified_inputs(job)
    last = latest_marker(job.settings)
    hashes = {name: contracts.load(name).content_hash for name in OUTPUTS}
    if last is not None and (last.inputs, last.contracts) == (inputs, hashes) and _is_intact(job, last):
        job.outcome.notes.append(
            f"Gold already shows these versions of Silver (publication {last.publish_id})"
        )
        return
    _replay(job, _declare(job, inputs, hashes))


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
    names = [uri for uri in store.keys(_uri(settings, "")) if uri.endswith(".marker.json")]
    return None if not names else Marker.model_validate_json(store.get(names[-1]) or b"")


def _uri(settings: Settings, name: str) -> str:
    return f"{settings.lake_uri}/ops/_publications/{name}"


def _pending(settings: Settings) -> Intent | None:
    names = [uri.removeprefix(_uri(settings, "")) for uri in store.keys(_uri(settings, ""))]
    done = {name.removesuffix(".marker.json") for name in names if name.endswith(".marker.json")}
    open_ids = sorted(
        {name.removesuffix(".intent.json") for name in names if name.endswith(".intent.json")} - done
    )
    if not open_ids:
        return None
    return Intent.model_validate_json(store.get(_uri(settings, f"{open_ids[-1]}.intent.json")) or b"")


def _is_intact(job: Job, marker: Marker) -> bool:
    """Whether Gold is still what the marker says (nobody restored or wrote it since)."""
    return all(
        _version(head(job.spark, job.settings.table_uri(table))) == version
        for table, version in marker.outputs.items()
    )


def _declare(job: Job, inputs: dict[str, TableVersion], hashes: dict[str, str]) -> Intent:
    previous = {table: _version(head(job.spark, job.settings.table_uri(table))) for table in OUTPUTS}
    content = json.dumps(
        [{table: version.model_dump() for table, version in part.items()} for part in (inputs, previous)],
        sort_keys=True,
    )
    intent = Intent(
        publish_id=f"{job.run_id}.{hashlib.sha256(content.encode()).hexdigest()[:8]}",
        run_id=job.run_id,
        run_date=run_time(job.run_id).date(),
        inputs=inputs,
        previous=previous,
        contracts=hashes,
        max_staleness_days=job.settings.fx.max_staleness_days,
        restate_days=job.settings.fx.restate_days,
    )
    store.put_if_absent(
        _uri(job.settings, f"{intent.publish_id}.intent.json"), intent.model_dump_json(indent=1).encode()
    )
    return intent


def _replay(job: Job, intent: Intent) -> None:
    """Commit every table of an intent that is not committed yet, dimensions before facts, then its marker."""
    with ThreadPoolExecutor(len(DIMENSIONS)) as pool:
        tables = list(pool.map(lambda table: _publish_table(job.beside(), intent, table), DIMENSIONS))
    tables.append(_publish_table(job, intent, FACTS))
    job.outcome.tables.extend(tables)
    _mark(job, intent, tables)


def _publish_table(job: Job, intent: Intent, table: str) -> TableOutcome:
    """Compare one table with what Gold shows, then commit it. Raises LedgerImbalance before the commit."""
    silver = {
        name: read(job.spark, job.settings.table_uri(name), version.version)
        for name, version in intent.inputs.items()
    }
    rows = _gold(job, intent, silver)[table].select(
        *[F.col(field.name) for field in schema(contracts.load(table))]
    )
    rows = rows.persist(StorageLevel.MEMORY_AND_DISK)
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


def _gold(job: Job, intent: Intent, silver: Mapping[str, DataFrame]) -> dict[str, DataFrame]:
    """The Gold tables of an intent, dimensions first. Lazily evaluated."""
    previous = intent.previous[FACTS]
    customers = dim_customers.transform(
        silver["silver.salesforce_accounts"], silver["silver.hubspot_contacts"], publish_id=intent.publish_id
    )
    rates = dim_fx.transform(
        silver["silver.fx_rates"], max_staleness_days=intent.max_staleness_days, publish_id=intent.publish_id
    )
    facts = fact_orders.transform(
        silver["silver.orders"],
        customers,
        rates,
        read(job.spark, job.settings.table_uri(FACTS), previous.version),
        run_date=intent.run_date,
        restate_days=intent.restate_days,
        publish_id=intent.publish_id,
    )
    return {"gold.dim_customers": customers, "gold.dim_fx": rates, FACTS: facts}


def _ledger(
    job: Job, intent: Intent, table: str, rows: DataFrame, silver: Mapping[str, DataFrame]
) -> tuple[Ledger, dict[str, int]]:
    """Compare with Gold as it was, and with the driving input. Raises LedgerImbalance."""
    contract = contracts.load(table)
    business = [column.name for column in contract.columns if column.name != "_publish_id"]
    before = read(job.spark, job.settings.table_uri(table), intent.previous[table].version).select(
        *business, F.lit(True).alias("_was_there")
    )
    key_matches = [F.col(f"n.{name}").eqNullSafe(F.col(f"o.{name}")) for name in contract.key]
    is_new = F.col("o._was_there").isNull()
    is_gone = F.col("n._is_there").isNull()
    is_same = F.lit(True)
    for name in business:
        is_same = is_same & F.col(f"n.{name}").eqNullSafe(F.col(f"o.{name}"))
    compared = (
        rows.withColumn("_is_there", F.lit(True))
        .alias("n")
        .join(before.alias("o"), on=key_matches, how="full")
    )
    extra = (
        [
            F.count_if(~is_gone & F.col("n.amount_usd").isNull()).alias("unpriced"),
            F.count_if(~is_gone & ~F.col("n.is_known_customer")).alias("unknown_customers"),
        ]
        if table == FACTS
        else []
    )
    counts = compared.agg(
        F.count_if(is_new).alias("inserted"),
        F.count_if(~is_new & ~is_gone & ~is_same).alias("updated"),
        F.count_if(~is_new & ~is_gone & is_same).alias("unchanged"),
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
    tag = f"publish:{intent.publish_id}"
    done = commit_tagged(job.spark, uri, tag, after=intent.previous[table].version)
    commit = done or overwrite(rows, uri, tag)
    live = head(job.spark, uri)
    return TableVersion(table_id=live.table_id, version=live.version if commit is None else commit.version)


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
            (
                intent.publish_id, intent.run_id, each.table, each.table_id, each.version, inputs, written,
                each.facts.get("unpriced"), each.facts.get("unknown_customers"), run_time(intent.run_id),
            )
        )  # fmt: skip
    table = "ops.publications"
    replace_where(
        job.spark.createDataFrame(records, schema(contracts.load(table))),
        job.settings.table_uri(table),
        f"publish_id = '{intent.publish_id}'",
        f"publish:{intent.publish_id}",
    )
    marker = Marker(
        publish_id=intent.publish_id, inputs=intent.inputs, outputs=outputs, contracts=intent.contracts
    )
    store.put_if_absent(
        _uri(job.settings, f"{intent.publish_id}.marker.json"), marker.model_dump_json(indent=1).encode()
    )


def _version(live: TableHead) -> TableVersion:
    return TableVersion(table_id=live.table_id, version=live.version)
