"""Erase: take a person out of landing, quarantine, Bronze, Silver and Gold; what is certified stays certified.

The story: find the person's ids and what holds them; empty what was refused of them; rewrite landing; delete from
Bronze and say by verdicts what is left of each run; make Silver anew from it, judged by its gate; publish. What must
be known later is written down, without the person, before the first write, so that it can be cut off anywhere.

Orders stay, for they are money: where they name the person as a customer they lose that name. The files of older
versions go when VACUUM may take them (``erasures``), and nobody can go back to those versions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import ModuleType

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse import contracts, store
from lakehouse.contracts import ddl
from lakehouse.delta.read import head, is_empty, read
from lakehouse.delta.write import delete_where, update_where
from lakehouse.errors import RecoveryRefused, TerminalError, UsageError
from lakehouse.flows import publish
from lakehouse.flows.ingest import certification
from lakehouse.flows.promote import TABLES
from lakehouse.flows.recovery import gold, refused_person, silver, told_person
from lakehouse.flows.recovery.base import JOB, Change, Recovery, contract_of
from lakehouse.flows.recovery.erasures import (
    Erasure,
    erasures,
    hashed,
    is_one_of,
    read_erasure,
    returned,
    versions_left,
    write_erasure,
)
from lakehouse.flows.recovery.landed_person import Landed, Person, erase_landed
from lakehouse.flows.recovery.told_person import Told
from lakehouse.quality import dlq, quarantine, rules, verdicts
from lakehouse.quality.verdicts import Verdict
from lakehouse.session import local_frame
from lakehouse.submit import RECOVER


@dataclass(frozen=True)
class Place:
    """Where Bronze holds a person: rows whose ``column`` is one of their ids, landed as ``landed`` says.

    The rows go or, where ``nulls`` names columns, stay without what these held. ``told`` are raw columns in which a row
    of somebody else may tell of the person: with their address or number in the first of them, it loses these alone.
    Unless it ``is_named``, the table has no ids of this source, and only such rows count.
    """

    table: str
    column: str
    landed: Landed
    nulls: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    is_named: bool = True


_CONTACTS = Place("bronze.hubspot_contacts", "id", Landed("hubspot", "hubspot_contacts", "id"))
_ACCOUNTS = Place("bronze.salesforce_accounts", "id", Landed("salesforce", "salesforce_accounts", "Id"))
_LEADS = Place("bronze.salesforce_leads", "id", Landed("salesforce", "salesforce_leads", "Id"))
_ORDERS = Place(
    "bronze.snowflake_orders",
    "customer_id",
    Landed("snowflake", "snowflake_orders", "CUSTOMER_ID", ("CUSTOMER_ID",), stays=True),
    ("customer_id",),
)
# The topic is its own landing; a replay of refused events is landed.
_EVENTS = Place(
    "bronze.kafka_orders",
    "customer_id",
    Landed("kafka", "kafka_orders", "customer_id", ("customer_id",), stays=True),
    ("customer_id", "key", "value"),
    ("value", "key"),
)
_LANDING = "landing."
# Letters of the last three characters of a Salesforce id.
_CHECK = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
# By these a person is looked for where no id can be read.
_WORDS = ("email", "phone")
# Events first: by what the rows of persons hold they are found, which go after them.
SUBJECTS: dict[str, tuple[Place, ...]] = {
    "hubspot": (replace(_EVENTS, is_named=False), _CONTACTS),
    "salesforce": (_EVENTS, _ORDERS, _ACCOUNTS, _LEADS),
}
_ALL = (_CONTACTS, *SUBJECTS["salesforce"])
# What the raw value of an event becomes, which may not be null.
_RAW = "cast('{\"erased\":true}' AS binary)"


@dataclass(frozen=True)
class _Found:
    """What holds the person. ``runs``: rows of each Bronze run; ``landed``: rows of each table's landing.

    ``words``: addresses and numbers that they are looked for by; ``telling``: the condition of events that have one;
    ``same_address``: of each Bronze table, how many other records have their e-mail address.
    """

    ids: frozenset[str]
    words: frozenset[str]
    telling: str
    runs: Mapping[str, Mapping[str, int]]
    landed: Mapping[str, int]
    refused: tuple[refused_person.Row, ...]
    dead_letters: int
    told: Told
    same_address: Mapping[str, int]

    @property
    def is_nothing(self) -> bool:
        return not (
            any(self.runs.values()) or any(self.landed.values()) or self.refused or not self.told.is_nothing
        )


def erase(recovery: Recovery) -> None:
    """The action erase; without a subject, how far erasures are."""
    if recovery.request.subject is None:
        _status(recovery)
        return
    recovery.names_rows = False
    job = recovery.job
    places, subject = _subject(recovery, recovery.request.subject)
    gold.own_turn(recovery)
    found = _look(recovery, places, subject)
    record = read_erasure(job.settings, job.run_id) if recovery.applies else None
    if record is None:
        _describe(recovery, places, found)
        if not recovery.applies:
            return
        if found.is_nothing:
            _require_erased_before(recovery, found)
            return
        record = _begin(recovery, places, found)
    # Refused rows say which parts of other landings tell of the person: they are emptied after these.
    for table, where in _landings(places, found.refused).items():
        _landing(recovery, table, where, _person(places, table, found), found)
    _empty_refused(recovery, found)
    for place in places:
        if place.table in record.runs:
            _bronze(recovery, place, record, found)
    modules = _silver_of(recovery, _named(places, record.runs))
    if modules:
        silver.restore(recovery, modules)
    if any(module.TABLE in publish.INPUTS for module in modules):
        gold.republish(recovery)
    _require_gone(recovery, record, modules)
    _end(recovery, record)


def _require_erased_before(recovery: Recovery, found: _Found) -> None:
    """Raise RecoveryRefused where nothing is held of a subject that nobody erased either: it may be mistyped."""
    for each in erasures(recovery.settings):
        if each.done_at is not None and set(hashed(each.run_id, found.ids)) & set(each.ids):
            recovery.say(f"This subject was erased before, by {each.run_id}; nothing was written.")
            return
    raise RecoveryRefused(
        "received a subject of which nothing is held and whom nobody erased before, expected one that the lake knows; "
        "nothing was erased",
        hint="compare the id with the source: hubspot:<contact id>, or salesforce:<account or lead id> in its exact "
        "case",
    )


def _end(recovery: Recovery, record: Erasure) -> None:
    assert recovery.intent is not None
    known = {change.table for change in recovery.done}
    for change in recovery.intent.planned:
        if change.table not in known:  # an earlier try did it
            recovery.record(change, None)
    written = {change.table for change in recovery.done if not change.table.startswith(_LANDING)}
    tables = {*record.tables, *written}
    record = record.model_copy(update={"tables": tuple(sorted(tables)), "done_at": datetime.now(UTC)})
    write_erasure(recovery.settings, record)
    recovery.say(
        f"Erased from {', '.join(record.tables) or 'landing'}.",
        f"Files of older versions go once retention is over, after {record.due_at:%Y-%m-%d %H:%M} UTC, by the weekly "
        f"housekeeping; `{RECOVER} erase --status` says when none is left.",
        _kept(recovery, record),
    )


def _kept(recovery: Recovery, record: Erasure) -> str:
    """How long the bucket keeps what was overwritten or deleted, in words."""
    days = store.kept_days(recovery.settings.lake_uri)
    if days is None:
        return (
            "No lifecycle rule of the bucket removes old versions of objects: they hold the person until somebody "
            "deletes them"
        )
    if days == 0:
        return "The bucket keeps no old versions of objects."
    return (
        f"The bucket keeps what was overwritten or deleted for {days} more days: the last old version is gone by "
        f"{record.gone_at(days):%Y-%m-%d} (UTC)."
    )


def _versions(recovery: Recovery, record: Erasure) -> str:
    """Whether old versions from before the erasure are left in the bucket, and when the last of them goes."""
    count, superseded = versions_left(recovery.settings, record)
    if superseded is None:
        return "nor an old version of an object from before"
    days = store.kept_days(recovery.settings.lake_uri)
    gone = (
        "never: no lifecycle rule removes it"
        if days is None
        else f"{superseded + timedelta(days=days + 2):%Y-%m-%d}"
    )
    return f"but {count} old versions of objects from before are left in the bucket, the last until {gone}"


def _subject(recovery: Recovery, text: str) -> tuple[tuple[Place, ...], str]:
    """Where the subject may be, as far as there are tables, and its id."""
    source, _, subject = text.partition(":")
    if source not in SUBJECTS or not subject.strip():
        raise UsageError(
            "received a --subject of another form, expected hubspot:<contact id> or "
            "salesforce:<account or lead id>"
        )
    places = tuple(place for place in SUBJECTS[source] if _has_table(recovery, place.table))
    return places, subject.strip()


# Looking -----------------------------------------------------------------------------------------------------------


def _look(recovery: Recovery, places: Sequence[Place], subject: str) -> _Found:
    spark, settings = recovery.job.spark, recovery.settings
    ids = frozenset(_ids(recovery, places, subject))
    run_id = recovery.job.run_id
    hashes = hashed(run_id, ids)
    runs: dict[str, dict[str, int]] = {}
    words: set[str] = set()
    for place in places:
        if not place.nulls:
            frame = _rows(recovery, place.table).where(is_one_of(place.column, run_id, hashes))
            names = [name for name in _WORDS if name in contracts.load(place.table).personal_columns]
            for row in frame.select(*names).distinct().collect():
                words.update(value.strip() for value in row if value)
    long = frozenset(word for word in words if len(word) >= refused_person.LEAST)
    telling = _telling(recovery, places, long)
    for place in places:
        theirs = is_one_of(place.column, run_id, hashes) if place.is_named else "FALSE"
        frame = _rows(recovery, place.table).where(f"({theirs}) OR ({telling})" if place.told else theirs)
        counted = frame.groupBy("_run_id").count().collect()
        if counted:
            runs[place.table] = {row["_run_id"]: row["count"] for row in counted}
    rows: tuple[refused_person.Row, ...] = ()
    if _has_table(recovery, quarantine.TABLE) and _has_table(recovery, dlq.TABLE):
        known = refused_person.Known(
            ids=ids,
            words=frozenset(words),
            tables=frozenset(place.table for place in places if place.is_named),
            fields={place.table: place.landed.field for place in _ALL if place.landed.field},
            own=frozenset(place.table for place in _ALL if not place.nulls),
        )
        rows = refused_person.find(spark, settings, known)
    tables = [place.table for place in places]
    tables += [module.TABLE for module in TABLES if set(module.INPUTS) & set(tables)]
    found = _Found(
        ids=ids,
        words=long,
        telling=telling,
        runs=runs,
        landed={},
        refused=rows,
        dead_letters=refused_person.dead_letters(spark, settings, rows) if rows else 0,
        told=told_person.find(spark, settings, tables, ids),
        same_address=_same_address(recovery, words, hashes),
    )
    landed = {
        table: erase_landed(settings, where, _person(places, table, found), apply=False)
        for table, where in _landings(places, rows).items()
    }
    return replace(found, landed=landed)


def _telling(recovery: Recovery, places: Sequence[Place], words: Iterable[str]) -> str:
    """The condition of good events whose raw value has one of the words; it names their offsets and no word."""
    place = next((each for each in places if each.told), None)
    if place is None or not words:
        return "FALSE"
    text = F.lower(F.expr(f"cast({place.told[0]} AS string)")).alias("text")
    events = _rows(recovery, place.table).select("topic", "partition", "offset", text)
    offsets: dict[tuple[str, int], list[int]] = {}
    for row in refused_person.telling(recovery.job.spark, events, words).collect():
        offsets.setdefault((row["topic"], row["partition"]), []).append(row["offset"])
    return (
        " OR ".join(
            f"(topic = {ddl.text(topic)} AND `partition` = {partition} "
            f"AND `offset` IN ({', '.join(map(str, sorted(found)))}))"
            for (topic, partition), found in sorted(offsets.items())
        )
        or "FALSE"
    )


def _landings(places: Sequence[Place], rows: Iterable[refused_person.Row]) -> dict[str, Landed]:
    """Of each Bronze table whose landing holds the person how it does: by ids, or by refused rows that tell of them."""
    known = {place.table: place.landed for place in _ALL}
    found = {place.table: place.landed for place in places}
    for row in rows:
        name = row.table.split(".")[1]
        other = Landed(name.split("_")[0], name, None, stays=True)
        found.setdefault(row.table, known.get(row.table, other))
    return found


def _person(places: Sequence[Place], table: str, found: _Found) -> Person:
    """What the landing of a table is searched for; ids only where they are of the table's own source."""
    return Person(
        ids=found.ids if table in _named(places, [table]) else frozenset(),
        words=found.words,
        refused=frozenset(f"{row.run_id}/{row.position}" for row in found.refused if row.table == table),
    )


def _named(places: Iterable[Place], tables: Iterable[str]) -> list[str]:
    """Those of the tables that have ids of the subject's source."""
    by_id = {place.table for place in places if place.is_named}
    return [table for table in tables if table in by_id]


def _ids(recovery: Recovery, places: Sequence[Place], subject: str) -> set[str]:
    """The subject's id in all its forms and, of contacts, those that were merged with it: one person, many records."""
    ids = {subject}
    if _LEADS in places or _ACCOUNTS in places:
        ids = _forms(subject)
    if _CONTACTS not in places:
        return ids
    merged = _rows(recovery, _CONTACTS.table).where("merged_into IS NOT NULL")
    pairs = [(row[0], row[1]) for row in merged.select("id", "merged_into").distinct().collect()]
    while more := {each for pair in pairs if ids & set(pair) for each in pair} - ids:
        ids |= more
    return ids


def _forms(salesforce_id: str) -> set[str]:
    """A Salesforce id as it has 15 characters, and as it has 18.

    The three more tell which of the 15, case-sensitive ones are capitals, so that no two ids differ by case alone:
    one for each five, of which each capital sets a bit, the first the lowest, written as one of A to Z and 0 to 5
    (as Salesforce's CASESAFEID does; https://gammone.com/en/programming/how-to-convert-salesforce-id-from-15-to-18-chars).
    """
    short = salesforce_id[:15]
    if not (re.fullmatch("[A-Za-z0-9]{15}", short) and len(salesforce_id) in (15, 18)):
        return {salesforce_id}
    fives = (short[start : start + 5] for start in (0, 5, 10))
    check = (sum(1 << place for place, letter in enumerate(five) if letter.isupper()) for five in fives)
    return {salesforce_id, short, short + "".join(_CHECK[bits] for bits in check)}


def _same_address(recovery: Recovery, words: Iterable[str], hashes: Sequence[str]) -> dict[str, int]:
    given = [(word.lower(),) for word in sorted(words)]
    address = F.broadcast(local_frame(recovery.job.spark, given, "address string"))
    found = {}
    for place in (_CONTACTS, _LEADS):
        if given and _has_table(recovery, place.table):
            others = _rows(recovery, place.table).where(
                f"NOT {is_one_of(place.column, recovery.job.run_id, hashes)}"
            )
            same = others.join(address, F.lower(F.trim("email")) == F.col("address"), "left_semi")
            if count := same.select(place.column).distinct().count():
                found[place.table] = count
    return found


def _describe(recovery: Recovery, places: Sequence[Place], found: _Found) -> None:
    if found.is_nothing:
        recovery.say("Nothing of this subject is held: not in landing, Bronze or quarantine.")
        return
    for place in places:
        rows = sum(found.runs.get(place.table, {}).values())
        nulls = place.nulls if place.is_named else place.told
        what = f"{', '.join(nulls)} emptied" if nulls else "deleted"
        recovery.say(
            f"{place.table}: {rows} rows {what}; {found.landed[place.table]} rows in its landing files"
        )
    for table in sorted(found.landed.keys() - {place.table for place in places}):
        recovery.say(f"{table}: {found.landed[table]} rows in its landing files, which were refused")
    recovery.say(
        f"{quarantine.TABLE}: {len(found.refused)} refused rows emptied and given up; "
        f"{dlq.TABLE}: {found.dead_letters} events emptied",
        f"Verdicts and outcomes with samples of theirs: {len(found.told.verdicts)} and {len(found.told.outcomes)}",
    )
    for table, count in found.same_address.items():
        recovery.say(
            f"{table}: {count} other records have the same e-mail address and stay: subjects of their own"
        )
    modules = _silver_of(recovery, _named(places, found.runs))
    if modules:
        recovery.say(
            f"Made anew and judged: {', '.join(module.TABLE for module in modules)}; Gold published anew"
        )


# Writing -----------------------------------------------------------------------------------------------------------


def _begin(recovery: Recovery, places: Sequence[Place], found: _Found) -> Erasure:
    """Write down what must be known once the rows are gone."""
    digest = recovery.request.subject_hash
    assert digest is not None  # the request was sealed
    record = Erasure(
        run_id=recovery.job.run_id,
        subject_hash=digest,
        begun_at=datetime.now(UTC),
        runs={table: dict(runs) for table, runs in found.runs.items()},
        tables=tuple(sorted(found.runs)),
        ids=hashed(recovery.job.run_id, found.ids),
        columns={place.table: place.column for place in places},
    )
    write_erasure(recovery.settings, record)
    return record


def _empty_refused(recovery: Recovery, found: _Found) -> None:
    """Refused rows and what was told of them. Their versions are not certified, and none is named."""
    job, rows = recovery.job, found.refused
    changes = {
        quarantine.TABLE: len(rows),
        dlq.TABLE: found.dead_letters,
        told_person.VERDICTS: len(found.told.verdicts),
        told_person.RUNS: len(found.told.messages),
    }
    for table, count in changes.items():
        if count:
            recovery.plan(Change(table=table, target=_target(recovery), changed=count))
    tag = f"{job.run_id}/{JOB}"
    if rows:
        refused_person.empty(
            job.spark, job.settings, rows, by=recovery.request.by, tag=f"{tag}/{quarantine.TABLE}"
        )
    if found.dead_letters:
        refused_person.empty_dead_letters(job.spark, job.settings, rows, f"{tag}/{dlq.TABLE}")
    told_person.empty(job.spark, job.settings, found.told, tag)


def _landing(recovery: Recovery, table: str, where: Landed, person: Person, found: _Found) -> None:
    if rows := found.landed[table]:
        counted = {"changed": rows} if where.stays else {"removed": rows}
        recovery.plan(Change(table=f"{_LANDING}{where.table}", target=_target(recovery), **counted))
    # Also where no row is left: a try that was cut off may have left files behind.
    erase_landed(recovery.settings, where, person, apply=True)


def _bronze(recovery: Recovery, place: Place, record: Erasure, found: _Found) -> None:
    job, name = recovery.job, place.table
    uri, tag = job.settings.table_uri(name), f"{job.run_id}/{JOB}/{name}"
    known, rows = certification(job, name), sum(record.runs[name].values())
    counted = {"changed": rows} if place.nulls else {"removed": rows}
    change = recovery.plan(Change(table=name, target=_target(recovery), before=known.version, **counted))
    theirs = record.is_theirs(place.column) if place.is_named else "FALSE"
    if place.nulls:
        which = f"({theirs}) OR ({found.telling})" if place.told else theirs
        update_where(job.spark, uri, which, _nulled(place, theirs), tag)
    else:
        delete_where(job.spark, uri, theirs, tag)
    live = head(job.spark, uri)
    if known.version is not None:
        said: list[Verdict] = []
        base = recovery.verdict(contract_of(job.settings, name), "erase", live, live.version)
        if place.nulls:
            said.append(base)
        else:
            stored = _rows(recovery, name).groupBy("_run_id").count().collect()
            left = {row["_run_id"]: row["count"] for row in stored}
            for run_id in sorted(set(record.runs[name]) & known.run_ids):
                changes = {
                    "verdict_id": recovery.verdict_id(name, f"erase/{run_id}"),
                    "certified_runs": (known.runs[run_id],),
                    "rows": left.get(run_id, 0),
                    "created_at": datetime.now(UTC),
                }
                said.append(base.model_copy(update=changes))
            # Of runs that nobody certified nothing is said; the version is what counts for the others.
            said = said or [base]
        said_before = {each.verdict_id for each in verdicts.read_all(job.settings, name)}
        for verdict in said:
            if verdict.verdict_id not in said_before:
                recovery.leave(verdict)
    recovery.record(change, live.version)
    recovery.say(f"{name}: version {live.version} is without the subject")


def _silver_of(recovery: Recovery, tables: Iterable[str]) -> list[ModuleType]:
    """Silver tables made of these, unless nothing has ever been promoted into them."""
    return [
        module
        for module in TABLES
        if set(module.INPUTS) & set(tables)
        and all(_has_table(recovery, name) for name in (module.TABLE, *module.INPUTS))
        and not (
            certification(recovery.job, module.TABLE).version is None
            and is_empty(recovery.job.spark, recovery.settings.table_uri(module.TABLE))
        )
    ]


def _require_gone(recovery: Recovery, record: Erasure, modules: Iterable[ModuleType]) -> None:
    """Raise where a newest version still has the person: somebody wrote meanwhile."""
    names = {table: record.columns[table] for table in record.runs}
    for module in modules:
        names[module.TABLE] = next(names[table] for table in module.INPUTS if table in names)
    held = [
        table
        for table, column in names.items()
        if not _rows(recovery, table).where(record.is_theirs(column)).isEmpty()
    ]
    if held:
        raise TerminalError(
            f"{', '.join(held)}: still holds the subject",
            hint="a load ran meanwhile, or the source still has the person: erase there first, then repeat this",
        )


def _nulled(place: Place, theirs: str) -> dict[str, str | Column]:
    """The columns of a row that stays without the person, with the hash of what is left.

    A row of somebody else, which only tells of the person, keeps its id.
    """
    contract = contracts.load(place.table)
    empty: dict[str, Column] = {}
    for name in place.nulls:
        column = contract.column(name)
        nothing = F.expr(_RAW) if column.required else F.lit(None).cast(column.type)
        empty[name] = (
            nothing if name in place.told else F.when(F.expr(theirs), nothing).otherwise(F.col(name))
        )
    return {**empty, rules.PAYLOAD_HASH: rules.payload_hash(contract, empty)}


def _rows(recovery: Recovery, table: str) -> DataFrame:
    return read(recovery.job.spark, recovery.settings.table_uri(table))


def _has_table(recovery: Recovery, table: str) -> bool:
    log = f"{recovery.settings.table_uri(table)}/_delta_log/"
    return next(iter(store.keys(log)), None) is not None


def _target(recovery: Recovery) -> str:
    return f"subject {recovery.request.subject_hash}"


# Status ------------------------------------------------------------------------------------------------------------


def _status(recovery: Recovery) -> None:
    """How far each erasure is: which tables still have files of older versions."""
    found = erasures(recovery.settings)
    if not found:
        recovery.say("Nobody was erased.")
        return
    back = returned(recovery.job.spark, recovery.settings)
    for each in found:
        what = f"Erasure {each.run_id} (subject {each.subject_hash[:12]})"
        if each.done_at is None:
            recovery.say(f"{what} has not ended: repeat it with --run-id {each.run_id}")
            continue
        left = {table: _old_files(recovery, table, each.done_at) for table in each.tables}
        held = ", ".join(f"{table} {count}" for table, count in left.items() if count)
        if held:
            recovery.say(
                f"{what}: done; files of older versions are left: {held}. Due after {each.due_at:%Y-%m-%d %H:%M} UTC: "
                "the weekly housekeeping deletes them, or delta_optimize_vacuum --vacuum-only"
            )
        else:
            recovery.say(
                f"{what}: complete, no file of an older version is left, {_versions(recovery, each)}"
            )
        for table in each.columns:
            if rows := back.get((each.run_id, table)):
                recovery.say(
                    f"  came back: {table} has {rows} rows. Erase at the source, then here once more"
                )


def _old_files(recovery: Recovery, table: str, done_at: datetime) -> int:
    base = recovery.settings.table_uri(table)
    used = {path.rpartition("/")[2] for path in _rows(recovery, table).inputFiles()}
    return sum(
        1
        for item in store.objects(f"{base}/")
        if item.uri.endswith(".parquet")
        and "/_delta_log/" not in item.uri
        and item.modified <= done_at
        and item.uri.rpartition("/")[2] not in used
    )
