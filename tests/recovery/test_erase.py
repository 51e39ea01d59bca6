"""A person goes from every byte of the lake, what is certified stays certified, and nobody else loses anything."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from delta.tables import DeltaTable
from pyspark.sql import Row, SparkSession

from lakehouse import contracts, store
from lakehouse.contracts.spark import schema
from lakehouse.delta.read import head
from lakehouse.delta.write import append_once
from lakehouse.errors import RecoveryRefused, UsageError
from lakehouse.flows import gate, promote, publish, watch
from lakehouse.flows.emit import job_row
from lakehouse.flows.recovery import base, erase, landed_person, silver, told_person
from lakehouse.flows.recovery.erasures import erasures, returned
from lakehouse.flows.recovery.landed_person import Landed, Person, erase_landed, without
from lakehouse.flows.report import page_uri
from lakehouse.landing import LandingWriter, read_manifest
from lakehouse.observe import outcome as outcomes
from lakehouse.observe.outcome import Failure
from lakehouse.observe.transport import lineage_uri
from lakehouse.quality import verdicts
from lakehouse.quality.insert import insert_new
from lakehouse.quality.verdicts import RuleResult, Verdict
from lakehouse.runs import new_run_id, run_time
from lakehouse.session import local_frame
from lakehouse.tables.silver import hubspot_contacts, orders, salesforce_accounts
from tests.quality.quarantine_support import (
    EVENTS,
    ORDER_FIELDS,
    ORDERS,
    SHIPMENTS,
    a_shipment,
    an_event,
    an_order,
)
from tests.quality.support import NOON, make_settings
from tests.recovery.support import ACTIONS, RECOVERED_AT, Killed, Recoverable, killed_at

ACTIONS["erase"] = erase.erase
CONTACTS, ACCOUNTS = "bronze.hubspot_contacts", "bronze.salesforce_accounts"
ZOE = {
    "id": "9007702551",
    "email": "zoe.wunderlich@example.org",
    "lastname": "Wunderlich",
    "phone": "+49 170 5550199",
}
WORDS = tuple(ZOE.values())
RATES = "silver.fx_rates"
ACME, OTHER = "001000000000ACM", "001000000000OTH"
ACME_PHONE = "+49 30 1115550"


class People(Recoverable):
    """A lake of people: contacts, accounts, their orders, all of it published."""

    def landed(self, run: str, source: str, table: str, *rows: dict[str, Any]) -> None:
        job = self.job(f"{source}_to_bronze", run)
        writer = LandingWriter(self.settings, source, table, run)
        writer.write_rows(rows)
        fields = [c.source_field for c in contracts.load(f"bronze.{table}").columns if c.source_field]
        self._load(job, writer.commit(window_from=None, window_to=run_time(run), fields=fields))

    def placed(self, run: str, *rows: dict[str, Any]) -> None:
        job = self.job("snowflake_to_bronze", run)
        writer = LandingWriter(self.settings, "snowflake", "snowflake_orders", run)
        columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in ORDER_FIELDS.items()}
        writer.write_arrow(pa.table(columns))
        self._load(job, writer.commit(window_from=None, window_to=run_time(run)))

    def bring_up_to_date(self, run: str) -> None:
        """Silver promoted and judged, Gold published, all by one run. Rates are given."""
        known = {}
        for name in (CONTACTS, ACCOUNTS, ORDERS, EVENTS):
            live = head(self.spark, self.settings.table_uri(name))
            found = self.known(name)
            known[name] = (live, found.model_copy(update={"version": found.version or live.version}))
        modules = (salesforce_accounts, hubspot_contacts, orders)
        for module in modules:
            promote._promote(self.job("bronze_to_silver", run), module, known)
        gate.gate(
            self.spark, self.settings, "silver", run, [each.TABLE for each in modules], datetime.now(UTC)
        )
        live = head(self.spark, self.settings.table_uri(RATES))
        rates = Verdict(
            verdict_id="e" * 32, table=RATES, layer="silver", run_id=run, table_id=live.table_id,
            version=live.version, outcome="passed", contract_version="1.0.0", contract_hash="", rules_hash="",
            rules=(), created_at=datetime.now(UTC),
        )  # fmt: skip
        verdicts.write(self.settings, rates)
        publish.publish(self.job("silver_to_gold", run))

    def customers(self) -> dict[str, int]:
        return {row["id"]: row["contacts"] for row in self.table("gold.dim_customers").collect()}


def a_contact(n: int, **changes: Any) -> dict[str, Any]:
    """A contact as HubSpot gives it."""
    row = {
        "id": str(7700 + n), "lastmodifieddate": f"2026-01-01T09:00:{n:02d}Z", "createdate": "2025-01-01T00:00:00Z",
        "email": f"p{n}@example.com", "firstname": "Pat", "lastname": f"Person{n}", "phone": f"+1 555 {n:04d}",
        "company": "Acme", "lifecyclestage": "lead", "country": "DE", "salesforceaccountid": ACME,
        "archived": False, "merged_into": None,
    }  # fmt: skip
    return row | changes


@pytest.fixture(scope="module")
def people(spark: SparkSession, reachable: str) -> People:
    world = People(
        spark, f"{reachable}/people", CONTACTS, ACCOUNTS, *publish.INPUTS, *publish.OUTPUTS,
        "ops.recovery_log", "ops.publications",
    )  # fmt: skip
    account = {
        "Id": ACME, "Name": "Acme", "Type": "Customer", "Industry": "Tools", "BillingCountry": "DE",
        "Phone": ACME_PHONE, "Website": "acme.example", "IsDeleted": False,
        "CreatedDate": "2025-01-01T00:00:00Z", "LastModifiedDate": "2025-01-01T00:00:00Z",
        "SystemModstamp": "2025-01-01T00:00:00Z",
    }  # fmt: skip
    other = account | {"Id": OTHER, "Name": "Other", "Phone": "+49 30 222"}
    first, second = (new_run_id(NOON + timedelta(hours=hours)) for hours in (1, 2))
    world.landed(first, "salesforce", "salesforce_accounts", account, other)
    world.placed(first, *[an_order(n, CUSTOMER_ID=ACME if n == 1 else OTHER) for n in (1, 2)])
    # Zoe in two runs: once as she was, once changed; a record of hers was merged into the other; and refused rows.
    early = [a_contact(1), a_contact(2, **ZOE), a_contact(3), a_contact(9, merged_into=ZOE["id"])]
    world.landed(first, "hubspot", "hubspot_contacts", *early)
    world.certify(first, ACCOUNTS, ORDERS, CONTACTS)
    world.landed(
        second, "hubspot", "hubspot_contacts",
        a_contact(2, **ZOE, company="New", lastmodifieddate="2026-01-02T09:00:00Z"),
        *[a_contact(n, lastmodifieddate="2026-01-01T10:00:00Z") for n in range(100, 220)],
        a_contact(2, **ZOE, lastmodifieddate="soon"),
        a_contact(61, phone=ACME_PHONE, lastmodifieddate="soon"),
        # No id can be read; the name is known by nothing but what stands beside it.
        a_contact(2, **(ZOE | {"id": None, "phone": None, "email": ZOE["email"].upper()})),
        a_contact(2, **(ZOE | {"id": " ", "email": None})),
    )  # fmt: skip
    world.certify(second, CONTACTS)
    world.shipments(a_shipment(1, status="GONE", carrier=f"by {ZOE['email']}"), a_shipment(2), hours=5)
    world.orders(an_order(7, STATUS=f"paid by {ZOE['email']}"), an_order(8, STATUS="GONE"), hours=6)
    world.streamed(an_event(1, amount=ZOE["email"]), an_event(2, amount="x"))
    good = world.judged([an_event(3, customer_id=f" {ACME} ")], new_run_id(NOON), "kafka", ACME.encode())
    telling = an_event(4, customer_id=OTHER, note=f"for {ZOE['email'].upper()}")
    good = good.union(world.judged([telling], new_run_id(NOON), "kafka", ZOE["email"].encode(), offset=4))
    append_once(
        good.select(*contracts.load(EVENTS).column_names), world.settings.table_uri(EVENTS), "test", 0, ""
    )
    world.bring_up_to_date(new_run_id(NOON + timedelta(hours=3)))
    told_of_zoe(world)
    return world


def told_of_zoe(world: People) -> None:
    """A gate refused a run and named Zoe's row, and so did its job."""
    job = world.job("dq_check_bronze", at=NOON + timedelta(hours=4))
    row = {"key": f"{ZOE['id']}|2026-01-01", "reasons": "company: received nothing"}
    rule = RuleResult(
        name="company", severity="critical", passed=False, observed=f"1: {ZOE['id']}", expected="0",
        sample=(row,), hint=f"look at {ZOE['id']}",
    )  # fmt: skip
    verdict = Verdict(
        verdict_id="f" * 32, table=CONTACTS, layer="bronze", run_id=job.run_id, table_id=None, version=None,
        outcome="failed", contract_version="1.0.0", contract_hash="", rules_hash="", rules=(rule,),
        created_at=NOON + timedelta(hours=4),
    )  # fmt: skip
    gate.leave(world.spark, world.settings, [verdict])
    words = "\n".join(gate.describe(CONTACTS, rule))
    job.outcome.error = Failure(
        error_class="terminal", code="GATE_FAILED", message=words, hint=f"see {ZOE['id']}"
    )
    job.outcome.status, job.outcome.finished_at, job.outcome.seconds = "failed", NOON, 1.0
    outcomes.write(world.settings, job.outcome)
    store.put(page_uri(world.settings, "latest"), words.encode(), content_type="text/html")
    event = json.dumps({"run": {"message": words, "rows": int(ZOE["id"])}})
    store.put(f"{lineage_uri(world.settings)}/{job.run_id}/fail.json", event.encode())
    fields = schema(contracts.load("ops.job_runs"))
    frame = local_frame(world.spark, [job_row(world.settings, job.outcome, None)], fields)
    insert_new(frame, world.settings.table_uri("ops.job_runs"), ("run_id", "job"), "test")
    # Another job succeeded in the end; what its first try said is kept where nothing replaces it.
    job = world.job("dq_check_bronze", at=NOON + timedelta(hours=5))
    job.outcome.error = Failure(error_class="transient", code="X", message=words, hint="")
    job.outcome.status, job.outcome.finished_at, job.outcome.seconds = "failed", NOON, 1.0
    frame = local_frame(world.spark, [job_row(world.settings, job.outcome, None)], fields)
    insert_new(frame, world.settings.table_uri("ops.job_runs"), ("run_id", "job"), "test")
    job.outcome.error, job.outcome.status = None, "succeeded"
    outcomes.write(world.settings, job.outcome)
    event = json.dumps({"run": {"message": words, "version": {"datasetVersion": "7"}}})
    store.put(f"{lineage_uri(world.settings)}/{job.run_id}/first.json", event.encode())


def everybody_else(world: People) -> dict[str, list[Row]]:
    """Rows of contacts that are not Zoe's, whole."""
    found = {}
    for name in (CONTACTS, "silver.hubspot_contacts"):
        rows = world.table(name).where("id NOT IN ('9007702551', '7709')")
        found[name] = sorted(rows.collect(), key=str)
    return found


def every_text(uri: str) -> Iterator[tuple[str, str]]:
    """Every object below a location as text, compressed ones unpacked."""
    for each in store.keys(f"{uri}/"):
        body = store.get(each) or b""
        if each.endswith(".gz"):
            body = gzip.decompress(body)
        if each.endswith(".parquet"):
            yield each, str(pq.read_table(io.BytesIO(body)).to_pylist())
        yield each, body.decode("utf-8", "replace")


def holders(uri: str, *words: str) -> list[tuple[str, str]]:
    return [(each, word) for each, text in every_text(uri) for word in words if word in text]


def test_a_contact_is_gone_from_every_byte(
    people: People, monkeypatch: pytest.MonkeyPatch, spark: SparkSession
) -> None:
    lake, subject = people.settings.lake_uri, f"hubspot:{ZOE['id']}"
    assert holders(lake, *WORDS)
    before = everybody_else(people)
    old = people.version("silver.hubspot_contacts")
    published = people.version("gold.dim_customers")
    contacts = len(before["silver.hubspot_contacts"])
    assert people.customers()[ACME] == contacts + 1

    told = people.recover("erase", apply=False, subject=subject)
    assert f"{CONTACTS}: 3 rows deleted; 6 rows in its landing files" in told
    assert f"{EVENTS}: 1 rows value, key emptied" in told
    assert f"{SHIPMENTS}: 1 rows in its landing files, which were refused" in told
    assert f"{ORDERS}: 1 rows in its landing files, which were refused" in told
    assert "6 refused rows emptied" in told
    assert not any(word in told for word in WORDS)

    run = new_run_id(RECOVERED_AT)
    with killed_at(monkeypatch, silver, "_judge"):
        people.recover("erase", run, subject=subject)
    with pytest.raises(UsageError, match="another recovery"):
        people.recover("erase", run, subject="hubspot:1")
    people.recover("erase", run, subject=subject)
    assert people.recover("erase", run, subject=subject).endswith(
        "has been done already; nothing was written."
    )

    # What is certified is what there is, and it has everybody else.
    for name in (CONTACTS, "silver.hubspot_contacts"):
        assert people.known(name).version == people.version(name)
        assert len(before[name]) == people.table(name).count()
    assert everybody_else(people) == before
    assert people.customers()[ACME] == contacts
    logged = people.logged(run)
    assert {row["table_name"] for row in logged} >= {
        CONTACTS,
        "silver.hubspot_contacts",
        "gold.dim_customers",
    }
    assert not any(word in str(logged) for word in WORDS)
    assert {row["table_name"] for row in logged} >= {
        "landing.hubspot_contacts",
        "ops.dq_verdicts",
        "ops.job_runs",
    }
    statuses = [row.status for row in people.rows(table=CONTACTS)]
    assert statuses == ["discarded", "open", "discarded", "discarded"]
    (event,) = people.table(EVENTS).where("order_id = 'K-4'").collect()
    assert (event["customer_id"], event["key"], bytes(event["value"])) == (OTHER, None, b'{"erased":true}')
    (order,) = people.rows(table=ORDERS, statuses=("open",))
    assert "O-8" in order["payload"]
    (record,) = [each for each in erasures(people.settings) if each.run_id == run]
    assert record.due_at == record.done_at + timedelta(days=30)  # type: ignore[operator]
    assert "files of older versions are left" in people.recover("erase", apply=False)
    with pytest.raises(RecoveryRefused, match="a person was erased"):
        people.recover("rollback", apply=False, table="silver.hubspot_contacts", version=old)
    with pytest.raises(RecoveryRefused, match="a person was erased"):
        people.recover("rollback", apply=False, table="gold.dim_customers", version=published)

    # Once retention has run out.
    spark.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
    try:
        for name in record.tables:
            DeltaTable.forPath(spark, people.settings.table_uri(name)).vacuum(0)
    finally:
        spark.conf.unset("spark.databricks.delta.retentionDurationCheck.enabled")
    names = [value for key, value in ZOE.items() if key != "id"]
    assert holders(lake, *names) == []
    # The log knows the least and greatest id of files; and a number is no id.
    left = {each for each, _ in holders(lake, ZOE["id"]) if "/_delta_log/" not in each}
    assert {each.rpartition("/")[2] for each in left} == {"fail.json"}
    assert (
        "complete, no file of an older version is left, nor an old version of an object from before"
        in people.recover("erase", apply=False)
    )
    # The landing that is left can be loaded again, and gives what is there.
    assert "0 rows added, 0 removed, 0 changed" in people.recover(
        "restore-silver", apply=False, table="silver.hubspot_contacts", reload=True
    )

    # A source that still has the person brings them back, and that is told.
    assert returned(spark, people.settings) == {}
    later = new_run_id(datetime.now(UTC))
    people.landed(
        later, "hubspot", "hubspot_contacts", a_contact(2, **ZOE), a_contact(8, email=ZOE["email"].upper())
    )
    back = returned(spark, people.settings)
    assert back == {(run, CONTACTS): 1}
    (finding,) = watch.of_erasures(back)
    assert (finding.severity, finding.table, finding.subject) == ("critical", CONTACTS, run)
    assert f"came back: {CONTACTS} has 1 rows" in people.recover("erase", apply=False)
    told = people.recover("erase", apply=False, subject=subject)
    assert f"{CONTACTS}: 1 rows deleted; 1 rows in its landing files" in told
    assert f"{CONTACTS}: 1 other records have the same e-mail address and stay" in told


@pytest.mark.proof
def test_an_erasure_that_is_killed_again_and_again_comes_to_its_end(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, subject, contacts = new_run_id(RECOVERED_AT), "hubspot:7703", people.customers()[ACME]
    for where, name in ((told_person, "empty"), (silver, "_judge"), (base, "_log")):
        with killed_at(monkeypatch, where, name):
            people.recover("erase", run, subject=subject)
    people.recover("erase", run, subject=subject)
    for name in (CONTACTS, "silver.hubspot_contacts"):
        assert people.known(name).version == people.version(name)
        assert people.table(name).where("id = '7703'").count() == 0
    assert people.customers()[ACME] == contacts - 1
    assert "has been done already" in people.recover("erase", run, subject=subject)


def test_an_account_goes_and_its_orders_stay_without_its_name(people: People) -> None:
    # As 18 characters, where the lake has 15.
    people.recover("erase", subject=f"salesforce:{max(erase._forms(ACME), key=len)}")
    assert ACME not in people.customers()
    facts = {row["order_id"]: row for row in people.table("gold.fact_orders").collect()}
    assert (facts["O-1"]["customer_id"], facts["O-1"]["amount_native"]) == (None, Decimal("1.50"))
    assert facts["O-2"]["customer_id"] == OTHER
    assert people.known("bronze.snowflake_orders").version == people.version("bronze.snowflake_orders")
    (run,) = people.known("bronze.snowflake_orders").run_ids
    manifest = read_manifest(people.settings, "snowflake", "snowflake_orders", run)
    assert manifest is not None
    assert manifest.rows == 2
    (event,) = people.table(EVENTS).where("order_id = 'K-3'").collect()
    assert (event["customer_id"], event["key"], bytes(event["value"])) == (None, None, b'{"erased":true}')
    assert "was erased before" in people.recover("erase", subject=f"salesforce:{ACME}")
    # A contact of that company has its number: it is another person.
    (other,) = people.rows(table=CONTACTS, statuses=("open",))
    assert ACME_PHONE in other["payload"]
    # The warehouse gives the order once more, as it is left there too: nothing new.
    again = people.orders(an_order(1, CUSTOMER_ID=None), hours=3000)
    (told,) = outcomes.read_run(people.settings, again)
    assert told.tables[0].ledger is not None
    assert (told.tables[0].ledger.inserted, told.tables[0].ledger.duplicates) == (0, 1)


def test_a_landing_is_rewritten_wherever_it_was_cut_off(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = make_settings(lake)
    writer = LandingWriter(settings, "hubspot", "hubspot_contacts", new_run_id(NOON))
    writer.write_rows([a_contact(1), a_contact(2, **ZOE)])
    writer.write_rows([a_contact(3)])
    known = writer.commit(window_from=None, window_to=NOON)
    store.put(
        f"{lake}/landing/hubspot/hubspot_contacts/cut-off/part-00000-a.jsonl.gz", gzip.compress(b'{"id":"1"}')
    )
    where = Landed("hubspot", "hubspot_contacts", "id")
    assert erase_landed(settings, where, Person({ZOE["id"]}), apply=False) == 1
    calls = iter([store.put])  # the part is written, its manifest is not

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    for name, call in (("put", lambda *given, **more: next(calls, die)(*given, **more)), ("delete", die)):
        with monkeypatch.context() as patch:
            patch.setattr(landed_person.store, name, call)
            with pytest.raises(Killed):
                erase_landed(settings, where, Person({ZOE["id"]}), apply=True)
    erase_landed(settings, where, Person({ZOE["id"]}), apply=True)
    assert erase_landed(settings, where, Person({ZOE["id"]}), apply=True) == 0
    assert holders(lake, *WORDS) == []
    manifest = read_manifest(settings, "hubspot", "hubspot_contacts", known.run_id)
    assert manifest is not None
    assert (manifest.rows, [file.rows for file in manifest.files]) == (2, [1, 1])
    assert manifest.fields == dict.fromkeys(known.fields, 2)
    for file in manifest.files:
        body = store.get(f"{lake}/landing/hubspot/hubspot_contacts/{known.run_id}/{file.name}") or b""
        assert (len(body), hashlib.sha256(body).hexdigest()) == (file.bytes, file.sha256)


def test_who_is_nowhere_and_what_is_nobody(people: People) -> None:
    assert "Nothing of this subject" in people.recover("erase", apply=False, subject="hubspot:404")
    with pytest.raises(RecoveryRefused, match="nothing is held and whom nobody erased") as refused:
        people.recover("erase", subject="hubspot:404")
    assert "404" not in f"{refused.value.message}{refused.value.hint}"
    with pytest.raises(UsageError, match="hubspot:<contact id>"):
        people.recover("erase", apply=False, subject="404")


def test_lines_and_rows_of_others_stay_as_they_are() -> None:
    where = Landed("hubspot", "hubspot_contacts", "id")
    rows = [
        {"_position": "1", "id": "1"},
        {"_position": "2", "payload": json.dumps({"id": "2"})},
        {"id": "12"},
    ]
    body = gzip.compress(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    part = without("part.jsonl.gz", body, where, Person({"1", "2"}))
    assert (part.hits, part.rows) == (2, 1)
    assert json.loads(gzip.decompress(part.body)) == {"id": "12"}

    event = base64.b64encode(b'{"customer_id":"a","amount":"1.50"}').decode()
    body = gzip.compress(
        json.dumps({"_position": "r/1", "payload": json.dumps({"key": "YQ==", "value": event})}).encode()
    )
    part = without(
        "part.jsonl.gz",
        body,
        Landed("kafka", "kafka_orders", "customer_id", ("customer_id",), stays=True),
        Person({"a"}),
    )
    kept = json.loads(json.loads(gzip.decompress(part.body))["payload"])
    assert json.loads(base64.b64decode(kept["value"])) == {"customer_id": None, "amount": "1.50"}
    assert kept["key"] is None
    assert (part.hits, part.rows) == (1, 1)

    table = pa.table({"CUSTOMER_ID": ["a", None, "b"], "AMOUNT": [1, 2, 3]})
    target = io.BytesIO()
    pq.write_table(table, target)
    named = Landed("snowflake", "snowflake_orders", "CUSTOMER_ID", ("CUSTOMER_ID",), stays=True)
    part = without("part.parquet", target.getvalue(), named, Person({"a"}))
    assert pq.read_table(io.BytesIO(part.body)).to_pydict() == {
        "CUSTOMER_ID": [None, None, "b"],
        "AMOUNT": [1, 2, 3],
    }
    assert (part.hits, part.rows) == (1, 3)


def lines(*rows: dict[str, Any]) -> bytes:
    return gzip.compress(b"".join(json.dumps(row).encode() + b"\n" for row in rows))


def read_lines(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(body).splitlines()]


def test_a_line_without_an_id_is_known_by_its_words() -> None:
    where = Landed("hubspot", "hubspot_contacts", "id")
    known = Person({"77"}, {"zoe@example.org", "+49 170 5550199"})
    theirs: list[dict[str, Any]] = [
        {"id": None, "email": "ZOE@example.org", "lastname": "Wunderlich"},
        {"id": " ", "phone": "+49 170 5550199"},
        {"note": "mail zoe@example.org."},
        {"id": "", "merged_into": 77},
        {"_position": "r/1", "payload": json.dumps({"id": "", "email": "zoe@example.org"})},
        {"_position": "r/2", "payload": '{"id": "1", broken zoe@example.org'},
        {"_position": "4", "id": "1", "email": "refused"},
    ]
    others: list[dict[str, Any]] = [
        {"id": "1", "email": "zoe@example.org"},
        {"id": None, "email": "chloezoe@example.org"},
        {"id": None, "phone": "+49 170 55501999"},
        {"_position": "5", "id": None},
    ]
    known = Person(known.ids, known.words, {"run/4"})
    part = without("part.jsonl.gz", lines(*theirs, *others), where, known, "run")
    assert read_lines(part.body) == others
    assert part.hits == len(theirs)


def test_what_was_refused_of_others_stays_without_the_words() -> None:
    known = Person(set(), {"zoe@example.org"}, {"run/f.csv:1", "run/0:1"})
    vendor = Landed("vendor", "vendor_shipments", None, stays=True)
    rows = [
        {"_position": "f.csv:1", "carrier": "by Zoe@example.org", "line": 1},
        {"_position": "f.csv:2", "carrier": "zoe@example.org", "line": 2},
    ]
    part = without("part.jsonl.gz", lines(*rows), vendor, known, "run")
    assert read_lines(part.body) == [rows[0] | {"carrier": "by erased"}, rows[1]]
    assert (part.hits, part.rows) == (1, 2)
    original = without(
        "original-ab-f.csv", "a,Zoe@example.org,M\u00fcller\n".encode("latin-1"), vendor, known, "run"
    )
    assert original.body == b"a,erased,M\xfcller\n"
    assert without("original-ab-f.csv", b"zoe@example.org", vendor, known, "other").body == b"zoe@example.org"

    table = pa.table({"STATUS": ["zoe@example.org", "x"], "AMOUNT": [1, 2], "_position": ["0:1", "0:2"]})
    target = io.BytesIO()
    pq.write_table(table, target)
    orders = Landed("snowflake", "snowflake_orders", "CUSTOMER_ID", ("CUSTOMER_ID",), stays=True)
    part = without("part.parquet", target.getvalue(), orders, known, "run")
    assert pq.read_table(io.BytesIO(part.body)).to_pydict() == {
        "STATUS": ["erased", "x"], "AMOUNT": [1, 2], "_position": ["0:1", "0:2"],
    }  # fmt: skip
    assert (part.hits, part.rows) == (1, 2)

    value = base64.b64encode(b'{"order_id":"K","note":"zoe@example.org"}').decode()
    record = {"topic": "t", "offset": 1, "key": base64.b64encode(b"zoe@example.org").decode(), "value": value}
    events = Landed("kafka", "kafka_orders", "customer_id", ("customer_id",), stays=True)
    line = {"_position": "r/1", "payload": json.dumps(record)}
    (kept,) = read_lines(without("part.jsonl.gz", lines(line), events, known, "run").body)
    left = json.loads(kept["payload"])
    assert json.loads(base64.b64decode(left["value"])) == {"order_id": "K", "note": "erased"}
    assert base64.b64decode(left["key"]) == b"erased"


def test_a_file_of_the_source_is_rewritten_like_its_rows(lake: str) -> None:
    settings = make_settings(lake)
    run = new_run_id(NOON)
    writer = LandingWriter(settings, "vendor", "vendor_shipments", run)
    writer.write_original("f.csv", b"a,zoe@example.org\n")
    writer.write_rows([{"_position": "f.csv:1", "carrier": "zoe@example.org"}])
    writer.commit(window_from=None, window_to=NOON)
    known = Person(set(), {"zoe@example.org"}, {f"{run}/f.csv:1"})
    where = Landed("vendor", "vendor_shipments", None, stays=True)
    assert erase_landed(settings, where, known, apply=True) == 1
    assert erase_landed(settings, where, known, apply=True) == 0
    assert holders(lake, "zoe@") == []
    manifest = read_manifest(settings, "vendor", "vendor_shipments", run)
    assert manifest is not None
    assert (manifest.rows, [file.rows for file in manifest.files]) == (1, [None, 1])
    for file in manifest.files:
        body = store.get(f"{lake}/landing/vendor/vendor_shipments/{run}/{file.name}") or b""
        assert (len(body), hashlib.sha256(body).hexdigest()) == (file.bytes, file.sha256)


@pytest.mark.parametrize(
    ("short", "check"),
    [("001A0000006Vm9u", "IAC"), ("a0D30000001n7Pi", "EAI"), ("0019000000B98de", "AAB")],
)
def test_a_salesforce_id_is_known_in_both_its_forms(short: str, check: str) -> None:
    wanted = {short, f"{short}{check}"}
    assert erase._forms(short) == wanted
    assert erase._forms(max(wanted, key=len)) == wanted
    assert erase._forms("77") == {"77"}


def test_the_request_is_kept_without_the_person() -> None:
    with pytest.raises(UsageError, match="with the subject in it"):
        base.Request(action="erase", subject="hubspot:77", why="asked for by 77").sealed("run")
    sealed = base.Request(action="erase", subject=f"hubspot:{ZOE['id']}").sealed(
        new_run_id(datetime.now(UTC))
    )
    assert ZOE["id"] not in sealed.model_dump_json()
    assert sealed.subject_hash is not None
