"""Loading a data folder: what is refused, what goes where, and that a file counts once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from local import data_files, sample_data, sources_seed
from local.data_files import DataError, Message
from local.saas.admin import Admin
from local.saas.server import Doubles, start
from local.samples.base import Sizes, Spec
from local.stack import Stack
from tests.conftest import Aws

CONTACTS = (
    "id,createdate,lastmodifieddate,email,firstname,lastname,phone,company,lifecyclestage,country,"
    "salesforceaccountid"
)
ORDERS = "ORDER_ID,EVENT_TS,CUSTOMER_ID,STATUS,AMOUNT,CURRENCY"
TINY = Spec(sizes=Sizes(orders=60, contacts=30, accounts=10, leads=10, kafka=20, shipments=10), flaws="all")


def folder(path: Path, **files: str | bytes) -> Path:
    for name, content in files.items():
        stem, _, suffix = name.rpartition("_")
        data = content.encode("utf-8") if isinstance(content, str) else content
        (path / f"{stem}.{suffix}").write_bytes(data)
    return path


def problems(path: Path) -> str:
    with pytest.raises(DataError) as failure:
        data_files.read(path)
    return str(failure.value)


# Reading -------------------------------------------------------------------------------------------------------


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    folder(
        tmp_path,
        hubspot_contacts_1_csv=CONTACTS.replace(",phone", "") + "\n",
        salesforce_accounts_1_csv="Id,Name\n001,\xff\n".encode("latin-1"),
        snowflake_orders_1_csv=f"{ORDERS}\nA,2026-01-01,1,PAID,1.00,EUR\n\nB,2026-01-01\n",
        snowflake_orders_2_csv=f'{ORDERS}\nA,"2026-01-01,1,PAID,1.00,EUR\n',
        snowflake_orders_3_csv=f"{ORDERS},amount\n",
        snowflake_orders_4_csv="",
        fx_rates_1_csv="day,rate\n",
    )
    told = problems(tmp_path)
    assert "hubspot_contacts_1.csv:1: received no column phone" in told
    assert "salesforce_accounts_1.csv:2: received the byte 0xff, expected UTF-8" in told
    assert "snowflake_orders_1.csv:4: received 2 cells, expected 6, as in the header" in told
    assert "snowflake_orders_2.csv:2: received a quote that is never closed" in told
    assert "snowflake_orders_3.csv:1: received the column 'AMOUNT' twice" in told
    assert "snowflake_orders_4.csv:1: received an empty file" in told
    assert "fx_rates_1.csv:1: received the header day,rate, expected as_of_date,ccy,ccy_per_eur" in told


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        pytest.param(
            'O0,t,"C,PAID,1.00,EUR\nO9,t,C",PAID,1.00,EUR\n', "2: received quotes around", id="swallowed"
        ),
        pytest.param(
            'O2,t,"ACME" Corp,PAID,1.00,EUR\n', "2: received text behind a closing quote", id="behind"
        ),
        pytest.param(
            'O2,t,5" pipe,PAID,1.00,EUR\n', "2: received a quote in a cell without quotes", id="within"
        ),
        pytest.param("O2,t,C\rD,PAID,1.00,EUR\n", "2: received a carriage return", id="carriage return"),
    ],
)
def test_what_no_reader_takes_alike_is_refused(tmp_path: Path, rows: str, told: str) -> None:
    folder(tmp_path, snowflake_orders_1_csv=f"{ORDERS}\n{rows}O3,t,C,PAID,1.00,EUR\n")
    assert f"snowflake_orders_1.csv:{told}" in problems(tmp_path)


def test_many_problems_of_a_file_are_counted(tmp_path: Path) -> None:
    folder(tmp_path, snowflake_orders_1_csv=ORDERS + "\n" + "short\n" * 50)
    assert "40 more such problems" in problems(tmp_path)


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    folder(tmp_path, snowflake_orders_1_csv=f"{ORDERS}\n", readme_txt="x")
    (tmp_path / "snowflake_orders_2025.csv").mkdir()
    (tmp_path / "archive").mkdir()
    (tmp_path / "snowflake_orders_2.csv").symlink_to(tmp_path / "gone.csv")
    os.mkfifo(tmp_path / "kafka_orders_1.jsonl")

    assert data_files.read(tmp_path).left_out == [
        "archive is a folder and was not loaded",
        "kafka_orders_1.jsonl is a pipe, a socket or a device, not a file, and was not loaded",
        "readme.txt was not recognised and was not loaded",
        f"snowflake_orders_2.csv is a link to {tmp_path / 'gone.csv'}, which is not there, and was not loaded",
        "snowflake_orders_2025.csv is a folder and was not loaded",
    ]


def test_a_file_name_that_is_no_text_is_a_problem(tmp_path: Path) -> None:
    folder(tmp_path, snowflake_orders_1_csv=f"{ORDERS}\n")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/vendor_shipments_Gr\xf6\xdfe.csv")).write_bytes(b"")
    assert "vendor_shipments_Gr\\udcf6\\udcdfe.csv: received a file name that is no UTF-8" in problems(
        tmp_path
    )


def test_a_file_that_cannot_be_read_is_a_problem_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(tmp_path, snowflake_orders_1_csv="x\n", snowflake_orders_2_csv=f"{ORDERS}\n")

    def refused(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refused)
    assert "snowflake_orders_2.csv: received Permission denied, expected a file that can be" in problems(
        tmp_path
    )


def test_a_folder_without_data_files_is_refused(tmp_path: Path) -> None:
    folder(tmp_path, notes_txt="hello")
    assert "no data file: received notes.txt was not recognised" in problems(tmp_path)


def test_headers_may_be_spelt_otherwise_and_have_a_byte_order_mark(tmp_path: Path) -> None:
    text = (
        "\ufeff"
        + ORDERS.lower().replace(",", " , ")
        + ",colour\r\n"
        + 'A,2026-01-01,"x\ny",PAID,1,EUR,red\r\n'
    )
    (file,) = data_files.read(folder(tmp_path, snowflake_orders_1_csv=text)).files
    assert file.header == (*ORDERS.split(","), "COLOUR")
    assert file.rows == [["A", "2026-01-01", "x\ny", "PAID", "1", "EUR", "red"]]


def test_wide_and_long_rates_say_the_same(tmp_path: Path) -> None:
    folder(
        tmp_path,
        fx_rates_wide_csv="Date,USD,NOK,\n2026-10-30,1.1,N/A,\n2026-10-29,1.2,11.7,\n",
        fx_rates_long_csv="ccy,as_of_date,ccy_per_eur\nUSD,2026-10-30,1.1\nUSD,2026-10-29,1.2\nNOK,2026-10-29,11.7\n",
    )
    long, wide = data_files.read(tmp_path).files
    assert long.quotes == [
        {"date": "2026-10-30", "quotes": {"USD": "1.1"}},
        {"date": "2026-10-29", "quotes": {"USD": "1.2", "NOK": "11.7"}},
    ]
    assert wide.quotes[0]["quotes"] == {"USD": "1.1", "NOK": "N/A"}
    assert wide.quotes[1] == long.quotes[1]


def test_a_quote_that_comes_twice_stays_twice(tmp_path: Path) -> None:
    text = "as_of_date,ccy,ccy_per_eur\n2026-10-30,USD,1.1\n2026-10-30,USD,1.2\n2026-10-30,NOK,11\n"
    (file,) = data_files.read(folder(tmp_path, fx_rates_1_csv=text)).files
    assert [row["quotes"] for row in file.quotes] == [{"USD": "1.1", "NOK": "11"}, {"USD": "1.2"}]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param('{"key": "k", "value": "text"}', Message(b"k", b"text"), id="envelope"),
        pytest.param('{"key": "k", "value": null}', Message(b"k", None), id="tombstone"),
        pytest.param('{"key": null, "value": "{\\"a\\": 1"}', Message(None, b'{"a": 1'), id="no JSON inside"),
        pytest.param('{"key": "k", "value": {"a": 1}}', Message(b"k", b'{"a": 1}'), id="object inside"),
        pytest.param('{"value_base64": "/w=="}', Message(None, b"\xff"), id="bytes"),
        pytest.param(
            '{"value": "x", "headers": {"h": "v"}, "timestamp_ms": 5, "partition": 1}',
            Message(None, b"x", (("h", b"v"),), 5, 1),
            id="all of it",
        ),
        pytest.param(
            '{"order_id": "A", "amount": 1}', Message(b"A", b'{"order_id": "A", "amount": 1}'), id="plain"
        ),
        pytest.param('{"order_id": "A"', Message(None, b'{"order_id": "A"'), id="plain, broken"),
    ],
)
def test_kafka_lines(tmp_path: Path, line: str, expected: Message) -> None:
    (file,) = data_files.read(folder(tmp_path, kafka_orders_1_jsonl=f"\n{line}\r\n")).files
    assert file.messages == [expected]


def test_a_misspelt_envelope_is_told(tmp_path: Path) -> None:
    folder(tmp_path, kafka_orders_1_jsonl='{"value": "x", "header": {}}\n{"value_base64": "?"}\n')
    told = problems(tmp_path)
    assert "kafka_orders_1.jsonl:1: received an envelope with ['header']" in told
    assert "kafka_orders_1.jsonl:2" in told


# Loading -------------------------------------------------------------------------------------------------------


@dataclass
class FakeProducer:
    """Takes messages in place of a broker; the broker itself is tested with the pipeline's Kafka source."""

    sent: list[dict[str, Any]] = field(default_factory=list)

    def produce(self, topic: str, on_delivery: Any, **message: Any) -> None:
        self.sent.append({"topic": topic} | message)
        on_delivery(None, message)

    def poll(self, timeout: float) -> int:
        return 0

    def flush(self, timeout: float) -> int:
        return 0


@dataclass
class FakeSnowflake:
    """Notes loads in place of the double, which has tests of its own."""

    loads: list[dict[str, Any]] = field(default_factory=list)

    def loaded(self) -> dict[str, str]:
        return {load["sha256"]: load["name"] for load in self.loads}

    def load(self, parquet: Path, **facts: Any) -> dict[str, Any]:
        self.loads.append(facts)
        return {"rows": facts["rows"]}

    def withdraw(self, checksums: list[str]) -> int:
        gone = [load for load in self.loads if load["sha256"] in checksums]
        self.loads = [load for load in self.loads if load not in gone]
        return sum(load["rows"] for load in gone)


@pytest.fixture
def doubles(tmp_path: Path) -> Iterator[Doubles]:
    running = start(tmp_path / "state")
    yield running
    running.stop()


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> FakeProducer:
    producer = FakeProducer()
    monkeypatch.setattr(sources_seed, "_producer", lambda stack: producer)
    return producer


@pytest.fixture
def warehouse(monkeypatch: pytest.MonkeyPatch) -> FakeSnowflake:
    fake = FakeSnowflake()
    monkeypatch.setattr(sources_seed, "_snowflake", lambda stack: fake)
    return fake


@pytest.fixture
def stack(
    doubles: Doubles, tmp_path: Path, aws: Aws, lake: str, kafka: FakeProducer, warehouse: FakeSnowflake
) -> Stack:
    urls = {f"LOCAL_{name.upper()}_URL": doubles.url(name) for name in ("hubspot", "salesforce", "ecb")}
    exports = (
        aws.env | urls | {"LAKE_BUCKET": lake.removeprefix("s3://"), "LOCAL_KAFKA_BOOTSTRAP": "127.0.0.1:9"}
    )
    return Stack(tmp_path / "state", {}, exports)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def inbox(stack: Stack) -> dict[str, bytes]:
    s3, bucket = stack.client("s3"), stack.exports["LAKE_BUCKET"]
    keys = [o["Key"] for o in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]
    return {key: s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def test_a_sample_reaches_every_source_once(
    stack: Stack, data: Path, kafka: FakeProducer, warehouse: FakeSnowflake
) -> None:
    manifest: dict[str, Any] = sample_data.generate(TINY, data)
    report = sources_seed.load(data, stack)
    assert {entry.source: entry.rows for entry in report.loaded} == {
        layout: sum(facts["rows"] for name, facts in manifest["files"].items() if name.startswith(layout))
        for layout in (entry.source for entry in report.loaded)
    }
    assert len(report.loaded) == 7
    assert "hubspot_contacts" in str(report)
    state = Admin(stack.exports["LOCAL_ECB_URL"]).state()
    assert (state["hubspot.contacts"], state["salesforce.Account"], state["salesforce.Lead"]) == (30, 10, 10)
    assert [m["topic"] for m in kafka.sent] == ["orders_events"] * 20
    files = {p.name: p.read_bytes() for p in data.glob("vendor_shipments*.csv")}
    assert inbox(stack) == {f"landing/vendor/inbox/{name}": content for name, content in files.items()}

    (data / "hubspot_contacts_30.csv").rename(data / "hubspot_contacts_again.csv")
    again = sources_seed.load(data, stack)
    assert again.rows == 0
    assert [len(entry.already) for entry in again.loaded] == [1, 1, 1, 1, 1, len(files), 1]
    assert Admin(stack.exports["LOCAL_ECB_URL"]).state() == state
    assert len(kafka.sent) == 20
    assert len(warehouse.loads) == 1


def test_loading_the_first_day_again_does_not_undo_the_second(
    stack: Stack, data: Path, tmp_path: Path
) -> None:
    sample_data.generate(TINY, data)
    (tmp_path / "day2").mkdir()
    sample_data.generate(Spec(sizes=TINY.sizes, day=2), tmp_path / "day2")
    admin = Admin(stack.exports["LOCAL_HUBSPOT_URL"])
    for path in (data, tmp_path / "day2"):
        sources_seed.load(path, stack)
    state = admin.state()
    assert sources_seed.load(data, stack).rows == 0
    assert admin.state() == state


def test_what_is_wrong_with_a_file_stops_the_load_before_it_begins(stack: Stack, data: Path) -> None:
    sample_data.generate(TINY, data)
    (data / "salesforce_leads_10.csv").write_text("Id\n")
    with pytest.raises(DataError, match="no column LastName"):
        sources_seed.load(data, stack)
    assert set(Admin(stack.exports["LOCAL_ECB_URL"]).state().values()) == {0}
    assert inbox(stack) == {}


def test_sources_without_files_stay_empty_but_rates_there_must_be(
    stack: Stack, data: Path, warehouse: FakeSnowflake
) -> None:
    folder(data, snowflake_orders_1_csv=f"{ORDERS}\nA,2026-01-01,1,PAID,1.00,EUR\n", readme_txt="x")
    with pytest.raises(DataError, match=r"received no fx_rates\*\.csv"):
        sources_seed.load(data, stack)
    assert not sources_seed.has_rates(stack.state)
    folder(data, fx_rates_1_csv="Date,USD\n2026-01-02,1.1\n")
    report = sources_seed.load(data, stack)
    assert [entry.source for entry in report.loaded] == ["snowflake_orders", "fx_rates"]
    assert "readme.txt was not recognised and was not loaded" in report.notes
    assert "no kafka_orders*.jsonl: that source is empty" in report.notes
    assert warehouse.loads[0]["columns"] == ORDERS.split(",")


def test_one_id_in_two_files_stays_two_rows(stack: Stack, data: Path) -> None:
    row = "1,2026-01-01T00:00:00Z,2026-01-01T00:00:00Z,a@example.com,,,,one,,,"
    folder(
        data, hubspot_contacts_a_csv=f"{CONTACTS}\n{row}\n", hubspot_contacts_b_csv=f"{CONTACTS}\n{row}x\n"
    )
    sources_seed.load(data, stack, sources=["hubspot_contacts"])
    assert Admin(stack.exports["LOCAL_HUBSPOT_URL"]).state()["hubspot.contacts"] == 2


def test_a_merge_into_nobody_is_noted(stack: Stack, data: Path) -> None:
    row = "1,2026-01-01T00:00:00Z,2026-01-01T00:00:00Z,a@example.com,,,,one,,,,99"
    folder(data, hubspot_contacts_a_csv=f"{CONTACTS},merged_into\n{row}\n")
    report = sources_seed.load(data, stack, sources=["hubspot_contacts"])
    assert any("merged_into a contact that is not in the files" in note for note in report.notes)


def test_half_a_vendor_file_goes_through_as_it_is(stack: Stack, data: Path) -> None:
    content = b'shipment_id,order_id\nSHP-1,\xff"half'
    folder(data, vendor_shipments_1_csv=content)
    sources_seed.load(data, stack, sources=["vendor_shipments"])
    assert inbox(stack) == {"landing/vendor/inbox/vendor_shipments_1.csv": content}


def test_a_bad_load_can_be_withdrawn(stack: Stack, data: Path, warehouse: FakeSnowflake) -> None:
    sample_data.generate(TINY, data)
    sources_seed.load(data, stack)
    report = sources_seed.withdraw(data, stack)
    assert "withdrew 60 rows from snowflake_orders" in report.notes
    assert warehouse.loads == []
    assert sources_seed.load(data, stack).rows == 60  # and loaded again


def test_the_ledger_of_kafka_files_names_them(stack: Stack, data: Path, kafka: FakeProducer) -> None:
    folder(data, kafka_orders_1_jsonl='{"order_id": "A"}\n')
    sources_seed.load(data, stack, sources=["kafka_orders"])
    ledger = json.loads((stack.state / "saas" / "kafka_loaded.json").read_text())
    assert list(ledger.values()) == ["kafka_orders_1.jsonl"]


def test_a_file_that_was_edited_says_what_becomes_of_what_it_had(
    stack: Stack, data: Path, kafka: FakeProducer, warehouse: FakeSnowflake
) -> None:
    def contents(amount: str) -> None:
        folder(
            data,
            snowflake_orders_1_csv=f"{ORDERS}\nA,2026-01-01,1,PAID,{amount},EUR\n",
            kafka_orders_1_jsonl=f'{{"order_id": "A", "amount": {amount}}}\n',
            fx_rates_1_csv=f"Date,USD\n2026-01-02,{amount}\n",
        )

    contents("1.1")
    assert not [note for note in sources_seed.load(data, stack).notes if "_1" in note]
    contents("1.2")
    notes = sources_seed.load(data, stack).notes
    assert "fx_rates_1.csv was loaded before with other content: what it says of an id or a day" in str(notes)
    assert "kafka_orders_1.jsonl was loaded before with other content: a topic takes nothing back" in str(
        notes
    )
    assert warehouse.loads[-1]["path"] == str((data / "snowflake_orders_1.csv").resolve())
