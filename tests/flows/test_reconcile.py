"""What reconcile proposes where a source has records that the lake lacks."""

from __future__ import annotations

import argparse
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from lakehouse.cli import Job
from lakehouse.flows import reconcile
from lakehouse.flows.ingest import certification
from lakehouse.observe.outcome import Outcome
from lakehouse.runs import new_run_id, run_time
from lakehouse.session import local_frame
from tests.quality.quarantine_support import ORDERS, Lake, an_order
from tests.quality.support import make_settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NOW = datetime(2026, 1, 4, 9, tzinfo=UTC)


def test_missing_records_propose_their_days_and_not_the_years_between(spark: SparkSession) -> None:
    run_id = new_run_id(NOW)
    job = Job(
        "reconcile",
        make_settings("s3://nowhere"),
        run_id,
        Outcome(job="reconcile", run_id=run_id, started_at=run_time(run_id)),
        argparse.Namespace(),
    )
    times = ["2019-05-01 10:00:00", "2026-01-02 23:59:59", "2026-01-03 00:00:00", "2026-01-03 05:00:00"]
    rows = [(datetime.fromisoformat(f"{each}+00:00"), True, False, True, False, False) for each in times[:2]]
    rows += [(datetime.fromisoformat(f"{each}+00:00"), True, True, False, True, False) for each in times[2:]]
    rows += [(NOW, True, True, False, False, False), (None, False, True, False, False, True)]  # type: ignore[list-item]
    flags = ("is_given", "is_live", "is_missing", "is_outdated", "is_gone")
    compared = local_frame(
        spark, rows, ", ".join(["modified_at timestamp", *(f"{flag} boolean" for flag in flags)])
    )

    found = reconcile._found(job, "silver.hubspot_contacts", "hubspot", compared)

    assert (found.source_rows, found.lake_rows, found.missing, found.outdated, found.gone) == (5, 4, 2, 2, 1)
    assert "2 missing, 2 older than at the source, 1 gone at the source" in str(found)
    assert found.proposal == (
        "scripts/emr_submit.sh backfill --source hubspot --from 2019-05-01 --to 2019-05-01; "
        "scripts/emr_submit.sh backfill --source hubspot --from 2026-01-02 --to 2026-01-03; "
        "scripts/emr_submit.sh reconcile --ids --mark-gone"
    )
    assert found.closing_missing == (
        "scripts/emr_submit.sh backfill --source hubspot --from 2019-05-01 --to 2019-05-01; "
        "scripts/emr_submit.sh backfill --source hubspot --from 2026-01-02 --to 2026-01-03"
    )
    equal = reconcile._found(
        job, "silver.hubspot_contacts", "hubspot", compared.where("modified_at = '2026-01-04 09:00:00'")
    )
    assert (equal.missing, equal.outdated, equal.gone, equal.proposal) == (0, 0, 0, None)


def test_a_record_that_is_newer_in_the_source_is_a_difference(spark: SparkSession) -> None:
    """Beside every other relation of two sides; what was refused is known, and what is not due is the next run's."""
    old, new = NOW - timedelta(days=3), NOW - timedelta(days=1)
    later, just = NOW + timedelta(seconds=1), NOW - timedelta(microseconds=1)
    given = [
        ("equal", False, old),
        ("newer", False, new),
        ("newer by a millisecond", False, old + timedelta(milliseconds=1)),
        ("newer, deleted on both sides", True, new),
        ("newer, refused", False, new),
        ("newer, refused before", False, new),
        ("newer, not due", False, later),
        ("newer, just due", False, just),
        ("older", False, old),
        ("twice", False, new),
        ("twice", False, old),
        ("no time", False, None),
        ("deleted", True, new),
        ("restored", False, new),
        ("missing", False, new),
        ("missing, refused", False, new),
        ("never landed, deleted", True, new),
    ]
    held = [
        ("equal", False, old),
        ("newer", False, old),
        ("newer by a millisecond", False, old),
        ("newer, deleted on both sides", True, old),
        ("newer, refused", False, old),
        ("newer, refused before", False, old),
        ("newer, not due", False, old),
        ("newer, just due", False, old),
        ("older", False, new),
        ("twice", False, new),
        ("no time", False, old),
        ("deleted", False, old),
        ("restored", True, old),
        ("gone", False, old),
        ("gone before", True, old),
    ]
    known = [
        ("newer, refused", new),
        ("newer, refused", old),
        ("newer, refused before", old),
        ("missing, refused", new),
        (None, new),
    ]

    compared = reconcile._compared(
        local_frame(spark, given, "id string, is_in_bin boolean, modified_at timestamp"),
        local_frame(spark, held, "id string, is_deleted boolean, modified_at timestamp"),
        local_frame(spark, known, "id string, changed_at timestamp"),
        NOW,
    ).collect()

    def named(flag: str) -> set[str]:
        return {row["id"] for row in compared if row[flag]}

    assert named("is_missing") == {"deleted", "restored", "missing"}
    assert named("is_outdated") == {
        "newer",
        "newer by a millisecond",
        "newer, deleted on both sides",
        "newer, refused before",
        "newer, just due",
    }
    assert named("is_gone") == {"gone"}
    assert len(compared) == len({row["id"] for row in compared}) == 18


def test_a_record_is_gone_after_its_last_change_whatever_day_the_run_is_of(spark: SparkSession) -> None:
    days = [NOW + timedelta(days=n) for n in range(3)]
    stored = local_frame(
        spark,
        [
            ("1", days[0], days[0], "a", "first"),
            ("1", days[2], days[2], "z", "read first"),
            ("1", days[2], NOW + timedelta(days=9), "z", "read last"),
            ("2", days[0], days[0], "a", "before the run"),
            ("3", days[0], days[0], "a", "still there"),
        ],
        "id string, changed timestamp, _landed_at timestamp, _payload_hash string, name string",
    )
    gone = local_frame(spark, [("1",), ("2",)], "id string")

    states = reconcile._gone_states(stored, gone, "changed", days[1]).orderBy("id").collect()

    assert [(row["id"], row["name"], row["changed"].replace(tzinfo=UTC)) for row in states] == [
        ("1", "read last", days[2]),
        ("2", "before the run", days[1]),
    ]


def test_days_are_compared_by_what_was_loaded_up_to_the_watermark(spark: SparkSession, lake: str) -> None:
    """The source is asked up to there: what a backfill or an earlier day's run brought beyond it is no difference."""
    world = Lake(spark, lake)
    last, later = datetime(2026, 1, 2, 12), datetime(2026, 1, 2, 12, 0, 0, 1)  # noqa: DTZ001  # TIMESTAMP_NTZ
    world.certify(world.orders(an_order(1), an_order(2, LOADED_AT=last)), ORDERS)
    world.certify(
        world.orders(an_order(1, LOADED_AT=later, AMOUNT=Decimal(9)), an_order(3, LOADED_AT=later)), ORDERS
    )
    job = world.job("reconcile")

    [day] = reconcile._lake_days(
        job, certification(job, ORDERS), date(2026, 1, 1), date(2026, 1, 2)
    ).collect()

    assert (day["rows"], day["amount"]) == (2, Decimal("4.00"))
