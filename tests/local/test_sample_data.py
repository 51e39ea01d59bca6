"""The sample data: the same bytes for the same seed, and exactly the flaws that its manifest declares."""

from __future__ import annotations

import csv
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from local import sample_data
from local.data_files import read
from local.data_layout import LAYOUTS, SNOWFLAKE_ORDERS
from local.samples import fx, words
from local.samples.base import Sizes, Spec

SMALL = Spec(
    sizes=Sizes(orders=4_000, contacts=500, accounts=200, leads=100, kafka=400, shipments=200), flaws="all"
)
KNOWN_STATUS = {"PLACED", "PAID", "SHIPPED", "CANCELLED"}
BERLIN = ZoneInfo("Europe/Berlin")


class Sample:
    """A generated folder with its files as dictionaries."""

    def __init__(self, folder: Path, spec: Spec) -> None:
        self.folder = folder
        self.spec = spec
        self.manifest: dict[str, Any] = sample_data.generate(spec, folder)

    def rows(self, prefix: str) -> list[dict[str, str]]:
        found: list[dict[str, str]] = []
        for path in sorted(self.folder.glob(f"{prefix}*.csv")):
            with path.open(newline="", encoding="utf-8") as file:
                found.extend(csv.DictReader(file))
        return found

    def messages(self) -> list[dict[str, Any]]:
        (path,) = self.folder.glob("kafka_orders*.jsonl")
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def declared(self, table: str) -> dict[str, int]:
        return {kind: facts["rows"] for kind, facts in self.manifest["flaws"][table].items()}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return Sample(tmp_path_factory.mktemp("sample"), SMALL)


@pytest.fixture(scope="module")
def second_day(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return Sample(tmp_path_factory.mktemp("day2"), replace(SMALL, day=2))


def a_number(text: str) -> bool:
    try:
        Decimal(text)
    except InvalidOperation:
        return False
    return True


def a_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


# The command ---------------------------------------------------------------------------------------------------


def test_same_arguments_give_same_bytes(sample: Sample, tmp_path: Path) -> None:
    again = Sample(tmp_path, SMALL)
    assert again.manifest == sample.manifest
    for name in [*sample.manifest["files"], "manifest.json"]:
        assert (tmp_path / name).read_bytes() == (sample.folder / name).read_bytes(), name


def test_another_seed_gives_other_data(sample: Sample, tmp_path: Path) -> None:
    other = Sample(tmp_path, replace(SMALL, seed=1))
    checksums = [{f["sha256"] for f in s.manifest["files"].values()} for s in (sample, other)]
    assert not checksums[0] & checksums[1]


def test_the_command_writes_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--out", str(tmp_path / "out"), "--seed", "20250301", "--orders", "50", "--contacts", "10"]
    arguments += ["--accounts", "5", "--leads", "5", "--kafka", "10", "--shipments", "10", "--flaws", "none"]
    assert sample_data.main(arguments) == 0
    assert "snowflake_orders_50.csv" in capsys.readouterr().out
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["spec"]["until"] == "2025-03-01"
    assert {facts["rows"] for kinds in manifest["flaws"].values() for facts in kinds.values()} == {0}


def test_a_new_sample_replaces_the_files_of_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "my_notes.csv").write_text("mine")
    Sample(tmp_path, SMALL)
    manifest = Sample(tmp_path, replace(SMALL, day=2)).manifest
    assert {p.name for p in tmp_path.iterdir()} == {*manifest["files"], "manifest.json", "my_notes.csv"}


def test_the_default_size_is_quick_and_passes_the_gates(tmp_path: Path) -> None:
    begun = time.process_time()
    manifest = Sample(tmp_path, Spec()).manifest
    assert time.process_time() - begun < 15  # 3 s on an idle machine
    assert manifest["files"]["snowflake_orders_100000.csv"]["rows"] == 100_000
    for table, kinds in manifest["flaws"].items():
        total = sum(f["rows"] for name, f in manifest["files"].items() if name.startswith(table[7:]))
        rejected = sum(facts["rows"] for facts in kinds.values() if facts["effect"] == "reject")
        assert rejected < total * 0.005, f"the clean demo passes: {table}"


def test_every_file_is_recognised_and_loads_whole(sample: Sample) -> None:
    folder = read(sample.folder)
    assert {file.name for file in folder.files} == set(sample.manifest["files"])
    assert {file.layout for file in folder.files} == set(LAYOUTS)
    for file in folder.files:
        rows = len(file.rows) or len(file.messages) or len(file.quotes) or len(file.data.splitlines()) - 1
        assert rows == sample.manifest["files"][file.name]["rows"], file.name


# What is in it -------------------------------------------------------------------------------------------------


def test_warehouse_flaws_are_as_declared(sample: Sample) -> None:
    rows = sample.rows("snowflake_orders")
    accounts = {row["Id"] for row in sample.rows("salesforce_accounts")}
    states: dict[tuple[str, str], Counter[tuple[str, ...]]] = {}
    for row in rows:
        payload = tuple(v for k, v in row.items() if k != "LOADED_AT")
        if row["ORDER_ID"] and row["EVENT_TS"]:
            states.setdefault((row["ORDER_ID"], row["EVENT_TS"]), Counter())[payload] += 1
    timed = [row for row in rows if a_time(row["EVENT_TS"])]
    assert sample.declared("bronze.snowflake_orders") == {
        "negative_amount": sum(row["AMOUNT"].startswith("-") for row in rows),
        "unknown_status": sum(row["STATUS"] not in KNOWN_STATUS for row in rows),
        "unknown_currency": sum(row["CURRENCY"] not in words.CURRENCIES for row in rows),
        "null_order_id": sum(not row["ORDER_ID"] for row in rows),
        "null_event_ts": sum(not row["EVENT_TS"] for row in rows),
        "unparseable_amount": sum(not a_number(row["AMOUNT"]) for row in rows),
        "unparseable_event_ts": sum(bool(row["EVENT_TS"]) and not a_time(row["EVENT_TS"]) for row in rows),
        "unknown_customer": sum(row["CUSTOMER_ID"] not in accounts for row in rows),
        "exact_duplicate": sum(count - 1 for payloads in states.values() for count in payloads.values()),
        "conflict": sum(len(payloads) - 1 for payloads in states.values()),
        "late_event": sum(
            datetime.fromisoformat(row["LOADED_AT"]) - datetime.fromisoformat(row["EVENT_TS"])
            > timedelta(days=30)
            for row in timed
        ),
    }
    assert all(sample.declared("bronze.snowflake_orders").values())


def values(sample: Sample) -> Iterator[tuple[dict[str, Any], Any]]:
    for message in sample.messages():
        try:
            yield message, json.loads(message["value"]) if message["value"] is not None else None
        except ValueError:
            yield message, "invalid"


def test_stream_flaws_are_as_declared(sample: Sample) -> None:
    found = list(values(sample))
    good = [body for _, body in found if isinstance(body, dict)]
    warehouse: dict[tuple[str, datetime], set[Decimal]] = {}
    for row in sample.rows("snowflake_orders"):
        if a_time(row["EVENT_TS"]) and a_number(row["AMOUNT"]):
            key = (row["ORDER_ID"], datetime.fromisoformat(row["EVENT_TS"] + "+00:00"))
            warehouse.setdefault(key, set()).add(Decimal(row["AMOUNT"]))
    same = other = 0
    for body in good:
        if a_time(body["event_ts"]):
            stored = warehouse.get((body["order_id"], datetime.fromisoformat(body["event_ts"])), set())
            same += Decimal(str(body["amount"])) in stored if stored else 0
            other += Decimal(str(body["amount"])) not in stored if stored else 0
    repeated = Counter((m["key"], m["value"]) for m, _ in found if m["value"] is not None)
    declared = sample.declared("bronze.kafka_orders")
    assert declared == {
        "also_in_warehouse": same,
        "conflict": other,
        "invalid_json": sum(body == "invalid" for _, body in found),
        "tombstone": sum(m["value"] is None for m, _ in found),
        "not_an_object": sum(isinstance(body, list) for _, body in found),
        "unparseable_amount": sum(not a_number(str(body["amount"])) for body in good),
        "unparseable_event_ts": sum(not a_time(body["event_ts"]) for body in good),
        "negative_amount": sum(str(body["amount"]).startswith("-") for body in good),
        "unknown_status": sum(body["status"] not in KNOWN_STATUS for body in good),
        "null_order_id": sum(body["order_id"] is None for body in good),
        "null_key": sum(m["key"] is None for m, _ in found),
        "exact_duplicate": sum(count - 1 for count in repeated.values()),
    }
    assert {type(body["amount"]) for body in good} >= {float, str}
    assert {body["event_ts"][-6:-3] for body in good if not body["event_ts"].endswith("Z")} & {"+01", "+02"}


def wall_kind(text: str) -> str:
    """Whether a Berlin wall time happened once, twice or never."""
    wall = datetime.fromisoformat(text).replace(tzinfo=BERLIN)
    early, late = wall.utcoffset(), wall.replace(fold=1).utcoffset()
    assert early is not None
    assert late is not None
    return "once" if early == late else "twice" if early > late else "never"


def test_shipment_flaws_are_as_declared(sample: Sample) -> None:
    rows = sample.rows("vendor_shipments")
    orders = {row["ORDER_ID"] for row in sample.rows("snowflake_orders")}
    walls = [
        wall_kind(row[column])
        for row in rows
        for column in ("shipped_local", "delivered_local")
        if row[column]
    ]
    assert sample.declared("bronze.vendor_shipments") == {
        "ambiguous_local_time": walls.count("twice"),
        "nonexistent_local_time": walls.count("never"),
        "unparseable_weight": sum(not a_number(row["weight_kg"]) for row in rows),
        "unknown_status": sum(
            row["status"] not in {"CREATED", "IN_TRANSIT", "DELIVERED", "RETURNED"} for row in rows
        ),
        "null_key": sum(not row["shipment_id"] for row in rows),
        "unknown_order": sum(row["order_id"] not in orders for row in rows),
    }
    assert len({row["shipment_id"] for row in rows}) < len(rows), (
        "some shipments are told again further on their way"
    )


def test_contact_flaws_are_as_declared(sample: Sample) -> None:
    rows = sample.rows("hubspot_contacts")
    accounts = {row["Id"] for row in sample.rows("salesforce_accounts")}
    assert sample.declared("bronze.hubspot_contacts") == {
        "archived": sum(row["archived"] == "true" for row in rows),
        "merged": sum(bool(row["merged_into"]) for row in rows),
        "unknown_account": sum(row["salesforceaccountid"] not in {*accounts, ""} for row in rows),
    }
    gone = {row["id"] for row in rows if row["archived"] == "true" or row["merged_into"]}
    assert not {row["merged_into"] for row in rows} & gone, "survivors are live"
    assert Counter(row["lastmodifieddate"] for row in rows).most_common(1)[0][1] > len(rows) * 0.05


def test_texts_are_as_real_as_they_come(tmp_path: Path) -> None:
    spec = Spec(sizes=Sizes(orders=100, contacts=5_000, accounts=2_000, leads=10, kafka=10, shipments=10))
    sample = Sample(tmp_path, spec)
    companies = {row["company"] for row in sample.rows("hubspot_contacts")}
    assert companies >= set(words.AWKWARD_COMPANIES)
    names = {row["firstname"] for row in sample.rows("hubspot_contacts")}
    assert {"", "Zoë", "Zoe\u0308", "Дмитрий", "محمد"} <= names


def test_quotes_cover_every_order(sample: Sample) -> None:
    rates = {row["Date"]: row for row in sample.rows("fx_rates")}
    days = sorted(rates)
    assert days == [
        day.isoformat() for day in fx.business_days(date.fromisoformat(days[0]), date(2026, 10, 30))
    ]
    first = min(row["EVENT_TS"] for row in sample.rows("snowflake_orders") if a_time(row["EVENT_TS"]))
    assert days[0] < first[:10]
    gaps = sum(row[ccy] == "N/A" for row in rates.values() for ccy in words.CURRENCIES if ccy != "EUR")
    assert sample.declared("bronze.fx_rates") == {"missing_quote": gaps}
    assert rates["2025-12-31"]["BGN"] == "1.9558"
    assert rates["2026-01-02"]["BGN"] == "N/A", "Bulgaria has the euro"


def test_life_cycles_end_before_the_sample_does(sample: Sample) -> None:
    rows = [row for row in sample.rows("snowflake_orders") if a_time(row["EVENT_TS"])]
    for row in rows:
        assert "2024-11-01" <= row["EVENT_TS"] < row["LOADED_AT"] < "2026-11-01"
    orders = len({row["ORDER_ID"] for row in rows})
    assert 0.5 < orders / len(rows) < 0.7
    assert len({row["CURRENCY"] for row in rows}) >= 12


@pytest.mark.parametrize("day", [1, 2])
@pytest.mark.parametrize("until", [date(2026, 11, 1), date(2026, 10, 27)])
def test_no_shipment_lies_in_the_future(tmp_path: Path, day: int, until: date) -> None:
    """Each file of the vendor tells of its own day and of what was before, in the vendor's local time."""
    Sample(tmp_path, replace(SMALL, day=day, until=until))
    files = sorted(tmp_path.glob("vendor_shipments_*.csv"))
    newest = until + timedelta(days=day - 2)
    assert [file.stem[-10:] for file in files] == [
        str(newest - timedelta(days=before)) for before in reversed(range(5 if day == 1 else 1))
    ]
    for file in files:
        end = datetime.fromisoformat(file.stem[-10:]).replace(tzinfo=UTC) + timedelta(days=1)
        with open(file, encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        assert rows
        walls = [row[name] for row in rows for name in ("shipped_local", "delivered_local") if row[name]]
        assert all(datetime.fromisoformat(wall).replace(tzinfo=BERLIN) < end for wall in walls)
        both = [row for row in rows if row["shipped_local"] and row["delivered_local"]]
        assert all(row["shipped_local"] < row["delivered_local"] for row in both)


# Later days ----------------------------------------------------------------------------------------------------


def test_the_second_day_is_later_and_has_late_and_stale_records(sample: Sample, second_day: Sample) -> None:
    orders = second_day.rows("snowflake_orders")
    assert all("2026-11-01" <= row["LOADED_AT"] < "2026-11-02" for row in orders)
    late = [row for row in orders if row["EVENT_TS"] < "2026-10-01"]
    assert len(late) == second_day.declared("bronze.snowflake_orders")["late_event"] > 0
    assert {row["ORDER_ID"] for row in orders} & {row["ORDER_ID"] for row in sample.rows("snowflake_orders")}

    before = {row["id"]: row for row in sample.rows("hubspot_contacts")}
    contacts = second_day.rows("hubspot_contacts")
    stale = [
        row for row in contacts if row["lastmodifieddate"] < before.get(row["id"], row)["lastmodifieddate"]
    ]
    assert len(stale) == second_day.declared("bronze.hubspot_contacts")["older_than_stored"] > 0
    assert any(row["id"] not in before for row in contacts)
    assert any(row["archived"] == "true" for row in contacts)
    assert any(row["IsDeleted"] == "true" for row in second_day.rows("salesforce_accounts"))


def test_quotes_come_on_working_days_only(second_day: Sample, tmp_path: Path) -> None:
    assert second_day.rows("fx_rates") == []  # a Sunday
    monday = Sample(tmp_path, replace(SMALL, day=3)).rows("fx_rates")
    assert [row["Date"] for row in monday] == ["2026-11-02"]


def poisoned(tmp_path: Path, poison: str) -> tuple[list[dict[str, str]], Sample]:
    sample = Sample(tmp_path, replace(SMALL, day=2, poison=poison))
    return sample.rows("snowflake_orders"), sample


def test_poison_shares(second_day: Sample, tmp_path: Path) -> None:
    rows, sample = poisoned(tmp_path, "shares")
    negative = [row for row in rows if row["AMOUNT"].startswith("-")]
    assert len(negative) == sample.declared("bronze.snowflake_orders")["poison_shares"] == len(rows) / 5
    keys = [(row["ORDER_ID"], row["EVENT_TS"]) for row in rows]
    assert keys == [(row["ORDER_ID"], row["EVENT_TS"]) for row in second_day.rows("snowflake_orders")]


def test_poison_set_rule(second_day: Sample, tmp_path: Path) -> None:
    rows, sample = poisoned(tmp_path, "set_rule")
    keys = Counter((row["ORDER_ID"], row["EVENT_TS"]) for row in rows)
    twice = sum(count - 1 for count in keys.values())
    assert twice == sample.declared("bronze.snowflake_orders")["poison_set_rule"]
    assert twice / len(rows) > 0.3


def test_poison_volume(tmp_path: Path) -> None:
    assert poisoned(tmp_path, "volume")[0] == []


def test_poison_missing_column(tmp_path: Path) -> None:
    rows, sample = poisoned(tmp_path, "missing_column")
    assert "AMOUNT" not in rows[0]
    (file,) = read(sample.folder).of(SNOWFLAKE_ORDERS)  # allowed, because the manifest says so
    assert "AMOUNT" not in file.header


def test_the_first_day_cannot_be_poisoned(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--day 2"):
        Sample(tmp_path, replace(SMALL, poison="shares"))


def test_ids_are_unique() -> None:
    from local.samples.crm import salesforce_id

    ids = {salesforce_id("001", number) for number in range(10_000)}
    assert len(ids) == 10_000
    assert {len(one) for one in ids} == {18}
