"""The day as a user lives it: clean, repeated, incomplete, spoilt, cut off; every job runs through its own shell.

The tests share one lake and follow each other; each leaves it certified and published.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from lakehouse import contracts, store
from lakehouse.observe import graph
from local.days import AFTER, INGESTION, killed_at, run_id
from tests.e2e.computed import assert_gold_is_computed_from_silver, gold, silver_orders
from tests.e2e.conftest import World
from tests.observe.support import problems
from tests.tables import oracle
from tests.tables.rows import ordered

pytestmark = pytest.mark.timeout(900)

# Their rows of the warehouse stay in Bronze and are never promoted.
REFUSED = (run_id(2),)
# What jobs leave beside their tables.
LEFT = ("runs/", "gold/quality/", "ops/_", "reports/")
# What the tests before the last one let jobs print.
said: list[str] = []


@pytest.fixture(autouse=True)
def _heard(world: World, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    yield
    said.extend(capfd.readouterr())


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


def test_the_lineage_of_a_day_is_valid_and_leads_from_the_sources_to_gold(world: World) -> None:
    events = graph.events(world.settings, run_id(1))
    assert [problem for event in events for problem in problems(dict(event))] == []
    assert {event["eventType"] for event in events} >= {"START", "RUNNING", "COMPLETE"}
    found = graph.graph(events)
    made = {source.dataset for source, target, _ in found.edges if target.dataset == "silver.orders"}
    assert made == {"bronze.snowflake_orders", "bronze.kafka_orders"}
    others = [edge for edge in found.edges if edge[0].dataset != edge[1].dataset]
    assert {source.layer for source, target, _ in others if target.layer == "bronze"} == {"landing"}
    assert {target.dataset for _, target, _ in found.edges if target.layer == "gold"} == set(
        contracts.names("gold")
    )
    assert set(found.verdicts.values()) <= {"passed", "warned"}


def test_a_publication_that_is_repeated_tells_the_same(world: World) -> None:
    before, told = gold(world), world.outcome("silver_to_gold", run_id(1)).tables
    assert world.run("silver_to_gold", run_id(1)) == 0
    assert world.outcome("silver_to_gold", run_id(1)).tables == told != []
    assert gold(world) == before


@pytest.mark.proof
def test_a_second_run_of_the_day_adds_nothing(world: World) -> None:
    before = gold(world)
    bronze = world.table("bronze.snowflake_orders").count()
    refused = world.rows("ops.quarantine")
    world.day(run_id(1, hour=7))
    assert gold(world) == before
    assert world.table("bronze.snowflake_orders").count() == bronze
    assert world.outcome("silver_to_gold", run_id(1, hour=7)).tables == []
    # The overlap brought back a row that was written and one that was refused: it is in quarantine once.
    [again] = world.outcome("snowflake_to_bronze", run_id(1, hour=7)).tables
    assert again.ledger is not None
    assert again.ledger.read == again.ledger.duplicates == 2
    assert world.rows("ops.quarantine") == refused


def ask_snowflake(world: World, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    from lakehouse.sources.snowflake import _cursor, _login

    with _cursor(world.settings, _login(world.settings)) as cursor:
        cursor.execute(statement, values)
        found: list[tuple[Any, ...]] = cursor.fetchall()
        return found


def certified(world: World, table: str) -> Any:
    from lakehouse.delta.read import head
    from lakehouse.quality import verdicts

    live = head(world.spark, world.settings.table_uri(table))
    return verdicts.certification(table, verdicts.read_all(world.settings, table), live.table_id)


def test_orders_that_no_window_brought_are_found_and_brought_back(world: World) -> None:
    """Loaded with an old load time: every later window begins after it."""
    ask_snowflake(
        world,
        "INSERT INTO ORDERS (ORDER_ID, EVENT_TS, CUSTOMER_ID, STATUS, AMOUNT, CURRENCY, LOADED_AT) VALUES "
        "('ORD-LATE', '2026-10-20 10:00:00', NULL, 'PLACED', 10.25, 'EUR', '2026-09-01 00:00:00'), "
        "('ORD-LATE', '2026-10-21 10:00:00', NULL, 'PAID', 10.25, 'EUR', '2026-09-01 00:00:00')",
    )
    found = run_id(1, hour=8)
    assert world.run("reconcile", found) == 10
    failure = world.outcome("reconcile", found).error
    assert failure is not None
    assert failure.code == "SOURCE_DIFFERS"
    assert (
        failure.hint == "scripts/emr_submit.sh backfill --source snowflake --from 2026-10-20 --to 2026-10-21"
    )
    said = {
        row["day"].isoformat(): row for row in world.rows("ops.reconciliations") if row["run_id"] == found
    }
    assert len(said) == 35
    assert [day for day, row in said.items() if not row["agrees"]] == ["2026-10-20", "2026-10-21"]
    first = said["2026-10-20"]
    assert first["source_rows"] - first["lake_rows"] == 1
    assert str(first["source_amount"] - first["lake_amount"]) == "10.25"

    watermark = certified(world, "bronze.snowflake_orders").watermark
    run, days = run_id(1, hour=9), ("--source", "snowflake", "--from", "2026-10-20", "--to", "2026-10-21")
    bronze = world.rows("bronze.snowflake_orders")
    assert world.run("backfill", run, *days, "--chunk-days", "1", "--dry-run") == 0
    shown = [note for note in world.outcome("backfill", run).notes if "added" in note]
    assert len([note for note in shown if ": 1 rows added, 0 removed, 0 changed, " in note]) == 2
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
    assert world.run("reconcile", run_id(1, hour=10)) == 0

    # Again, by itself: everything is held already.
    before = world.rows("bronze.snowflake_orders")
    again = run_id(1, hour=11)
    assert world.run("backfill", again, *days) == 0
    [_, note] = world.outcome("backfill", again).notes
    assert ", 0 new, " in note
    assert world.rows("bronze.snowflake_orders") == before


def test_rejected_rows_above_their_share_stop_the_day(world: World) -> None:
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


def test_the_next_run_recovers_though_two_of_its_jobs_are_killed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lakehouse.delta.write import merge
    from lakehouse.flows import promote, publish

    orders = len(world.rows("gold.fact_orders"))
    world.load(world.generate("day2", "--day", "2"))
    run = run_id(2, hour=8)
    assert set(world.ingest(run).values()) == {0}
    assert world.run("dq_check_bronze", run) == 0

    # A head of Silver that nobody certified is taken back before the next merge.
    def merge_and_die(*arguments: Any, **options: Any) -> None:
        merge(*arguments, **options)
        raise RuntimeError("killed here")

    with monkeypatch.context() as patch:
        patch.setattr(promote, "merge", merge_and_die)
        assert world.run("bronze_to_silver", run) == 1
    for job in ("bronze_to_silver", "dq_check_silver"):
        assert world.run(job, run) == 0, world.outcome(job, run).error
    assert silver_orders(world, refused=REFUSED) == world.rows("silver.orders")

    # A publication that was cut off is completed by the next run.
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
    assert_gold_is_computed_from_silver(world, run)
    # What was refused is not among them; what the backfill brought is.
    assert len(half_done["gold.fact_orders"]) > orders
    assert "ORD-LATE" in {row["order_id"] for row in half_done["gold.fact_orders"]}


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
            value.splitlines()[len(value.splitlines()) // 2]  # a key has many lines
            for name, value in fields.items()
            if any(part in name for part in ("token", "password", "secret", "private_key"))
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
