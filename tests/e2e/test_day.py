"""The day as a user lives it: clean, repeated, spoilt, cut off; every job runs through its own shell.

The tests share one lake and follow each other; each leaves it certified and published.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest

from lakehouse import contracts, store
from lakehouse.observe import graph
from lakehouse.runs import run_time
from local.days import AFTER, INGESTION, killed_at, run_id
from tests.e2e.conftest import World
from tests.observe.support import problems
from tests.tables import oracle
from tests.tables.rows import ordered

pytestmark = pytest.mark.timeout(900)

# Their rows of the warehouse stay in Bronze and are never promoted.
REFUSED = (run_id(2),)
GOLD = ("gold.dim_customers", "gold.dim_fx", "gold.fact_orders")
# What jobs leave beside their tables.
LEFT = ("runs/", "gold/quality/", "ops/_", "reports/")
# What the tests before the last one let jobs print.
said: list[str] = []


@pytest.fixture(autouse=True)
def _heard(world: World, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    yield
    said.extend(capfd.readouterr())


def gold(world: World) -> dict[str, list[dict[str, Any]]]:
    return {name: world.rows(name) for name in GOLD}


def test_every_row_of_the_day_is_accounted_for(world: World) -> None:
    for job in INGESTION:
        for table in world.outcome(job, run_id(1)).tables:
            assert table.ledger is not None
            stored = world.table(table.table).where(f"_run_id = '{run_id(1)}'").count()
            assert stored == table.ledger.inserted
            assert table.ledger.read == stored + table.ledger.quarantined + table.ledger.duplicates


def test_quarantine_holds_each_flaw_of_the_sample_with_its_reasons(world: World) -> None:
    flaws = json.loads((world.data / "day1" / "manifest.json").read_text())["flaws"]
    expected = {
        table: sum(facts["rows"] for facts in kinds.values() if facts.get("effect") == "quarantined")
        for table, kinds in flaws.items()
    }
    found = Counter(row["table_name"] for row in world.rows("ops.quarantine"))
    assert found == {table: count for table, count in expected.items() if count}
    assert all(row["reasons"] and row["payload"] for row in world.rows("ops.quarantine"))


def silver_orders(world: World, refused: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """silver.orders as computed from what Bronze holds, but for refused runs of the warehouse."""
    warehouse = [row for row in world.rows("bronze.snowflake_orders") if row["_run_id"] not in refused]
    rows = oracle.silver_orders(warehouse, world.rows("bronze.kafka_orders"))
    return ordered(oracle.greatest(rows, ("order_id", "event_ts"), "event_ts"), "order_id", "event_ts")


def test_silver_and_gold_equal_an_independent_computation(world: World) -> None:
    orders = silver_orders(world)
    fx = oracle.silver_fx(world.rows("bronze.fx_rates"))
    accounts, contacts = (
        ordered(oracle.greatest(compute(world.rows(f"bronze.{table}")), ("id",), "modified_at"), "id")
        for table, compute in (
            ("salesforce_accounts", oracle.silver_accounts),
            ("hubspot_contacts", oracle.silver_contacts),
        )
    )
    assert orders == world.rows("silver.orders")
    assert ordered(fx, "as_of_date", "ccy") == world.rows("silver.fx_rates")
    assert accounts == world.rows("silver.salesforce_accounts")
    assert contacts == world.rows("silver.hubspot_contacts")

    assert_gold_is_computed_from_silver(world, run_id(1))


def assert_gold_is_computed_from_silver(world: World, run: str) -> None:
    publish_id = world.rows("gold.fact_orders")[0]["_publish_id"]
    assert publish_id.startswith(run)
    accounts, contacts = world.rows("silver.salesforce_accounts"), world.rows("silver.hubspot_contacts")
    customers = oracle.dim_customers(accounts, contacts, publish_id)
    facts = oracle.fact_orders(
        world.rows("silver.orders"),
        customers,
        world.rows("silver.fx_rates"),
        [],
        run_date=run_time(run).date(),
        staleness=world.settings.fx.max_staleness_days,
        restate_days=world.settings.fx.restate_days,
        publish_id=publish_id,
    )
    assert sorted(customers, key=lambda row: row["id"]) == world.rows("gold.dim_customers")
    assert sorted(facts, key=lambda row: row["order_id"]) == world.rows("gold.fact_orders")


def test_the_lineage_of_a_day_is_valid_and_leads_from_the_sources_to_gold(world: World) -> None:
    events = graph.events(world.settings, run_id(1))
    assert [problem for event in events for problem in problems(dict(event))] == []
    assert {event["eventType"] for event in events} >= {"START", "RUNNING", "COMPLETE"}
    found = graph.graph(events)
    made = {source.dataset for source, target, _ in found.edges if target.dataset == "silver.orders"}
    assert made == {"bronze.snowflake_orders", "bronze.kafka_orders"}
    assert {source.layer for source, target, _ in found.edges if target.layer == "bronze"} == {"landing"}
    assert {target.dataset for _, target, _ in found.edges if target.layer == "gold"} == set(
        contracts.names("gold")
    )
    assert set(found.verdicts.values()) <= {"passed", "warned"}


def test_a_second_run_of_the_day_adds_nothing(world: World) -> None:
    before = gold(world)
    bronze = world.table("bronze.snowflake_orders").count()
    refused = world.rows("ops.quarantine")
    told = world.outcome("silver_to_gold", run_id(1)).tables
    world.day(run_id(1))
    assert gold(world) == before
    # The ledger of a run that is repeated has the same lines.
    assert world.outcome("silver_to_gold", run_id(1)).tables == told != []
    world.day(run_id(1, hour=7))
    assert gold(world) == before
    assert world.table("bronze.snowflake_orders").count() == bronze
    assert world.outcome("silver_to_gold", run_id(1, hour=7)).tables == []
    # The overlap brought back a row that was written and one that was refused: it is in quarantine once.
    [again] = world.outcome("snowflake_to_bronze", run_id(1, hour=7)).tables
    assert again.ledger is not None
    assert again.ledger.read == again.ledger.duplicates == 2
    assert world.rows("ops.quarantine") == refused


def test_rejected_rows_above_their_share_stop_the_day_and_the_next_run_recovers(world: World) -> None:
    before = gold(world)
    bad = world.generate("shares", "--day", "2", "--poison", "shares")
    world.load(bad)
    spoilt = run_id(2)
    assert set(world.ingest(spoilt).values()) == {0}
    assert world.run("dq_check_bronze", spoilt) == 11
    failure = world.outcome("dq_check_bronze", spoilt).error
    assert failure is not None
    assert failure.code == "GATE_FAILED"
    assert "bronze.snowflake_orders" in failure.message
    assert "amount_not_negative" in failure.message

    # Nobody gets past a gate by submitting by hand.
    assert world.run("bronze_to_silver", spoilt) == 10
    assert world.run("silver_to_gold", spoilt) == 10
    by_hand = world.outcome("silver_to_gold", spoilt).error
    assert by_hand is not None
    assert by_hand.code == "NOT_CERTIFIED"
    assert "was not touched" in by_hand.message
    assert gold(world) == before

    world.withdraw(bad)
    world.load(world.generate("day2", "--day", "2"))
    world.day(run_id(2, hour=8))
    assert silver_orders(world, refused=(spoilt,)) == world.rows("silver.orders")
    assert len(world.rows("gold.fact_orders")) > len(before["gold.fact_orders"])


def test_a_missing_column_refuses_the_batch_before_anything_is_written(world: World) -> None:
    bad = world.generate("missing", "--day", "3", "--poison", "missing_column")
    world.load(bad)
    version = world.table("bronze.snowflake_orders").count()
    assert world.run("snowflake_to_bronze", run_id(3)) == 10
    failure = world.outcome("snowflake_to_bronze", run_id(3)).error
    assert failure is not None
    assert failure.code == "CONTRACT_VIOLATION"
    assert "amount" in failure.message
    assert world.table("bronze.snowflake_orders").count() == version
    world.withdraw(bad)
    world.load(world.generate("day3", "--day", "3"))


def test_an_uncertified_head_of_silver_is_taken_back_before_the_next_merge(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lakehouse.delta.write import merge
    from lakehouse.flows import promote

    for day in ("4", "5"):
        world.load(world.generate(f"day{day}", "--day", day))
    run = run_id(5)
    assert set(world.ingest(run).values()) == {0}
    assert world.run("dq_check_bronze", run) == 0

    def merge_and_die(*arguments: Any, **options: Any) -> None:
        merge(*arguments, **options)
        raise RuntimeError("killed here")

    with monkeypatch.context() as patch:
        patch.setattr(promote, "merge", merge_and_die)
        assert world.run("bronze_to_silver", run) == 1
    for job in ("bronze_to_silver", "dq_check_silver"):
        assert world.run(job, run) == 0, world.outcome(job, run).error
    assert silver_orders(world, refused=REFUSED) == world.rows("silver.orders")


def test_a_publication_cut_off_is_completed_by_the_next_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lakehouse.flows import publish

    run = run_id(5)
    with monkeypatch.context() as patch:
        patch.setattr(publish, "_mark", lambda *_: (_ for _ in ()).throw(RuntimeError("killed here")))
        assert world.run("silver_to_gold", run) == 1
    half_done = gold(world)
    assert world.run("silver_to_gold", run) == 0
    notes = world.outcome("silver_to_gold", run).notes
    assert any("which had been cut off" in note for note in notes)
    assert [each.table for each in world.outcome("silver_to_gold", run).tables] == [*publish.OUTPUTS]
    assert gold(world) == half_done
    published = {row["publish_id"] for row in world.rows("ops.publications")}
    assert {row["_publish_id"] for row in world.rows("gold.fact_orders")} <= published


def test_jobs_killed_at_random_and_repeated_give_the_same_tables(world: World) -> None:
    world.load(world.generate("day6", "--day", "6"))
    run, chance = run_id(6), Random(20261121)
    kills = {
        "snowflake_to_bronze": 1,
        "kafka_orders_to_bronze": 1,
        "bronze_to_silver": 2,
        "silver_to_gold": 2,
    }
    for job in (*INGESTION, *AFTER):
        for _ in range(kills.get(job, 0)):
            with killed_at(chance.randrange(1, 16)):
                world.run(job, run)
        assert world.run(job, run) == 0, world.outcome(job, run).error

    for table in ("snowflake_orders", "kafka_orders", "hubspot_contacts"):
        job = next(job for job, source in INGESTION.items() if table.startswith(source))
        [reported] = world.outcome(job, run).tables
        assert reported.ledger is not None
        stored = world.table(f"bronze.{table}").where(f"_run_id = '{run}'").count()
        assert reported.ledger.inserted == stored
    assert silver_orders(world, refused=REFUSED) == world.rows("silver.orders")
    assert_gold_is_computed_from_silver(world, run_id(6))
    published = [row for row in world.rows("ops.publications") if row["run_id"] == run]
    assert len({row["publish_id"] for row in published}) * len(GOLD) == len(published)

    before, orders = world.rows("silver.orders"), ("--table", "silver.orders", "--force")
    for _ in range(2):
        with killed_at(chance.randrange(6)):
            world.run("delta_optimize_vacuum", run, *orders)
    assert world.run("delta_optimize_vacuum", run, *orders) == 0, world.outcome(
        "delta_optimize_vacuum", run
    ).error
    assert world.rows("silver.orders") == before


def ask_snowflake(world: World, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    from lakehouse.sources.snowflake import _connection

    with _connection(world.settings) as connection, connection.cursor() as cursor:
        cursor.execute(statement, values)
        found: list[tuple[Any, ...]] = cursor.fetchall()
        return found


def test_orders_that_no_window_brought_are_found_and_brought_back(world: World) -> None:
    """Loaded with an old load time: every later window begins after it."""
    from lakehouse.delta.write import restore

    orders = len(world.rows("gold.fact_orders"))
    late = run_id(6, hour=8)
    assert world.run("reconcile", late) == 0, world.outcome("reconcile", late).error
    ask_snowflake(
        world,
        "INSERT INTO ORDERS (ORDER_ID, EVENT_TS, CUSTOMER_ID, STATUS, AMOUNT, CURRENCY, LOADED_AT) VALUES "
        "('ORD-LATE', '2026-11-03 10:00:00', NULL, 'PLACED', 10.25, 'EUR', '2026-09-01 00:00:00'), "
        "('ORD-LATE', '2026-11-04 10:00:00', NULL, 'PAID', 10.25, 'EUR', '2026-09-01 00:00:00')",
    )
    world.day(run_id(6, hour=9))
    assert not world.table("bronze.snowflake_orders").where("order_id = 'ORD-LATE'").count()

    found = run_id(6, hour=12)
    assert world.run("reconcile", found) == 10
    failure = world.outcome("reconcile", found).error
    assert failure is not None
    assert failure.code == "SOURCE_DIFFERS"
    assert (
        failure.hint == "scripts/emr_submit.sh backfill --source snowflake --from 2026-11-03 --to 2026-11-04"
    )
    said = {
        row["day"].isoformat(): row for row in world.rows("ops.reconciliations") if row["run_id"] == found
    }
    assert len(said) == 35
    assert [day for day, row in said.items() if not row["agrees"]] == ["2026-11-03", "2026-11-04"]
    third = said["2026-11-03"]
    assert third["source_rows"] - third["lake_rows"] == 1
    assert str(third["source_amount"] - third["lake_amount"]) == "10.25"

    watermark = certified(world, "bronze.snowflake_orders").watermark
    run, days = run_id(6, hour=13), ("--source", "snowflake", "--from", "2026-11-03", "--to", "2026-11-04")
    bronze = world.rows("bronze.snowflake_orders")
    assert world.run("backfill", run, *days, "--chunk-days", "1", "--dry-run") == 0
    shown = [note for note in world.outcome("backfill", run).notes if "added" in note]
    assert [note.partition("bronze.")[2] for note in shown if "2026" in note[:30]] == [
        "snowflake_orders: 1 rows added, 0 removed, 0 changed, 0 the same, 0 refused"
    ] * 2
    assert [note for note in shown if "order_id=ORD-LATE" in note]
    assert world.rows("bronze.snowflake_orders") == bronze

    with killed_at(8):
        world.run("backfill", run, *days, "--chunk-days", "1")
    assert world.run("backfill", run, *days, "--chunk-days", "1") == 0, world.outcome("backfill", run).error
    brought = world.table("bronze.snowflake_orders").where("order_id = 'ORD-LATE'").collect()
    assert sorted(row["status"] for row in brought) == ["PAID", "PLACED"]
    chunks = {row["_run_id"] for row in brought}
    assert len(chunks) == 2
    for chunk in chunks:
        events = graph.events(world.settings, chunk)
        assert [problem for event in events for problem in problems(dict(event))] == []
        assert {event["eventType"] for event in events} == {"START", "COMPLETE"}
        assert {target.dataset for _, target, _ in graph.graph(events).edges} == {"bronze.snowflake_orders"}
    assert certified(world, "bronze.snowflake_orders").watermark == watermark
    assert world.run("reconcile", run_id(6, hour=14)) == 0

    # Again, by itself: everything is held already.
    before = world.rows("bronze.snowflake_orders")
    again = run_id(6, hour=15)
    assert world.run("backfill", again, *days) == 0
    [_, note] = world.outcome("backfill", again).notes
    assert ", 0 new, " in note
    assert note.endswith(" 0 refused")
    assert world.rows("bronze.snowflake_orders") == before
    # The next day merges what is new, and brings back what somebody took away by hand.
    for table in ("silver.orders", "gold.fact_orders"):
        restore(world.spark, world.settings.table_uri(table), 1, "by hand")
    assert len(world.rows("gold.fact_orders")) < orders
    world.day(run_id(6, hour=16))
    assert silver_orders(world, refused=REFUSED) == world.rows("silver.orders")
    assert_gold_is_computed_from_silver(world, run_id(6, hour=16))
    assert "ORD-LATE" in {row["order_id"] for row in world.rows("gold.fact_orders")}


def certified(world: World, table: str) -> Any:
    from lakehouse.delta.read import head
    from lakehouse.quality import verdicts

    live = head(world.spark, world.settings.table_uri(table))
    return verdicts.certification(table, verdicts.read_all(world.settings, table), live.table_id)


def test_a_backfill_beside_a_run_that_loads_steps_back_or_makes_it_load_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lakehouse.flows import backfill
    from lakehouse.flows.ingest import Load
    from lakehouse.sources import hubspot

    world.load(world.generate("day8", "--day", "8"))
    daily, beside = run_id(8), run_id(8, hour=7)
    extract, write = hubspot.extract, Load.write

    def certify_beside(first: str, last: str, hour: int) -> None:
        days = ("--source", "hubspot", "--from", first, "--to", last)
        assert world.run("backfill", run_id(8, hour=hour), *days) == 0

    def extract_beside_a_backfill(*arguments: Any) -> Any:
        found = extract(*arguments)
        certify_beside("2026-11-01", "2026-11-07", 4)
        patch.setattr(Load, "write", write_beside_a_backfill)
        return found

    def write_beside_a_backfill(load: Load) -> Any:
        patch.setattr(Load, "write", write)
        certify_beside("2026-11-08", "2026-11-08", 5)
        return write(load)

    with monkeypatch.context() as patch:
        patch.setattr(hubspot, "extract", extract_beside_a_backfill)
        assert world.run("hubspot_to_bronze", daily) == 0
    [contacts] = world.outcome("hubspot_to_bronze", daily).tables
    assert contacts.ledger is not None
    # What was certified while the source was read, or its rows were written, is a repeat.
    assert contacts.ledger.duplicates > 0
    held = [(row["id"], row["_payload_hash"]) for row in world.rows("bronze.hubspot_contacts")]
    assert len(held) == len(set(held))
    assert set(world.ingest(daily).values()) == {0}
    days = ("--source", "snowflake", "--from", "2026-11-07", "--to", "2026-11-08")
    assert world.run("backfill", beside, *days) == 20
    failure = world.outcome("backfill", beside).error
    assert failure is not None
    assert daily in failure.message

    with monkeypatch.context() as patch:
        # As if it had begun before the run had loaded: it did not see it.
        patch.setattr(backfill, "_require_free", lambda *_: None)
        assert world.run("backfill", beside, *days) == 0
    assert world.run("dq_check_bronze", daily) == 11
    failure = world.outcome("dq_check_bronze", daily).error
    assert failure is not None
    assert "loaded_alone" in failure.message
    assert f"repeat the ingest of this run ({daily})" in failure.hint
    assert world.run("snowflake_to_bronze", daily) == 0
    for job in AFTER:
        assert world.run(job, daily) == 0, world.outcome(job, daily).error
    rows = [
        (row["order_id"], row["event_ts"], row["_payload_hash"])
        for row in world.rows("bronze.snowflake_orders")
        if row["_run_id"] not in REFUSED
    ]
    assert len(rows) == len(set(rows))


def test_records_that_a_source_purged_or_never_gave_are_found_by_their_ids(world: World) -> None:
    from local.saas.admin import Admin

    live = [row for row in world.rows("silver.salesforce_accounts") if not row["is_deleted"]]
    changed_at = datetime(2026, 10, 2, 9, tzinfo=UTC)
    contacts = world.rows("silver.hubspot_contacts")
    quiet = next(row for row in contacts if not row["is_deleted"] and row["modified_at"] < changed_at)
    first = run_id(8, hour=8)
    assert world.run("reconcile", first, "--ids") == 0, world.outcome("reconcile", first).error
    admin = Admin(world.stack.exports["LOCAL_SALESFORCE_URL"])
    admin.delete("salesforce", "Account", live[0]["id"], purge=True)
    admin.upsert(
        "hubspot", "contacts", {"id": "990001", "email": "late@example.com"}, at="2026-10-02T08:00:00Z"
    )
    admin.upsert("hubspot", "contacts", {"id": quiet["id"], "phone": "+49 30 7"}, at=changed_at.isoformat())

    found = run_id(8, hour=9)
    assert world.run("reconcile", found, "--ids") == 10
    failure = world.outcome("reconcile", found).error
    assert failure is not None
    assert "silver.salesforce_accounts, 2026-11-08: source" in failure.message
    assert "1 missing, 1 older than at the source, 0 gone at the source" in failure.message
    assert failure.hint == (
        "scripts/emr_submit.sh backfill --source hubspot --from 2026-10-02 --to 2026-10-02; "
        "scripts/emr_submit.sh reconcile --ids --mark-gone"
    )
    days = ("--source", "hubspot", "--from", "2026-10-02", "--to", "2026-10-02")
    assert world.run("backfill", run_id(8, hour=10), *days) == 0
    marked = run_id(8, hour=11)
    assert world.run("reconcile", marked, "--ids", "--mark-gone") == 0, world.outcome(
        "reconcile", marked
    ).error
    notes = world.outcome("reconcile", marked).notes
    assert "silver.hubspot_contacts: certified runs wait for bronze_to_silver: compare after it" in notes
    assert any("1 records that the source has no more" in note for note in notes)
    world.day(run_id(8, hour=12))
    [gone] = [row for row in world.rows("silver.salesforce_accounts") if row["id"] == live[0]["id"]]
    assert gone["is_deleted"]
    assert gone["name"] == live[0]["name"]
    [called] = [row for row in world.rows("silver.hubspot_contacts") if row["id"] == quiet["id"]]
    assert (called["phone"], called["modified_at"]) == ("+49 30 7", changed_at)
    assert world.run("reconcile", run_id(8, hour=13), "--ids") == 0


def test_the_end_of_the_day_records_every_job(world: World) -> None:
    run = run_id(1)
    assert world.run("emit_lineage_and_metrics", run) == 0
    recorded = {row["job"] for row in world.rows("ops.job_runs") if row["run_id"] == run}
    assert recorded == {"apply_contracts", *INGESTION, *AFTER}
    metrics = world.stack.client("cloudwatch").list_metrics(Namespace=world.settings.metrics.namespace)
    assert {"RowsRead", "Seconds"} <= {metric["MetricName"] for metric in metrics["Metrics"]}


def secrets(world: World) -> set[str]:
    """Every value of Secrets Manager that opens something; Kafka's api_key is a name, its api_secret opens."""
    client = world.stack.client("secretsmanager")
    found = set()
    for secret in client.list_secrets()["SecretList"]:
        fields = json.loads(client.get_secret_value(SecretId=secret["Name"])["SecretString"])
        found |= {
            value
            for name, value in fields.items()
            if any(part in name for part in ("token", "password", "secret"))
        }
    return found


def personal(world: World) -> set[str]:
    """Values by which a person is known: those with an @, a space or many digits cannot be words of ours."""
    found = set()
    for contract in contracts.load_all("bronze"):
        if columns := contract.personal_columns:
            rows = world.table(contract.name).select(*columns).distinct().collect()
            values = {value for row in rows for value in row if isinstance(value, str)}
            found |= {
                value
                for value in values
                if len(value) > 7 and ("@" in value or " " in value or sum(map(str.isdigit, value)) > 6)
            }
    return found


def test_nothing_that_days_leave_beside_their_tables_has_a_secret_or_a_person_in_it(world: World) -> None:
    assert world.run("status_page", run_id(1)) == 0, world.outcome("status_page", run_id(1)).error
    hidden, people = secrets(world), personal(world)
    assert len(hidden) > 3
    assert len(people) > 50
    places = {
        "what jobs print": "".join(said),
        "Spark's conf": str(world.spark.sparkContext.getConf().getAll()),
    }
    for prefix in LEFT:
        uris = list(store.keys(f"{world.settings.lake_uri}/{prefix}"))
        assert uris, prefix
        bodies = zip(uris, store.get_many(uris), strict=True)
        places |= {uri: body.decode("utf-8", "replace") for uri, body in bodies}
    everything = "\n".join(places.values())
    told = {canary for canary in hidden | people if canary in everything}
    assert {where for where, text in places.items() if any(canary in text for canary in told)} == set()
