"""Vendor files: each content once, whole files only, bad rows kept with their reasons."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from lakehouse import store
from lakehouse.errors import ContractViolation
from lakehouse.landing import Manifest
from lakehouse.sources import vendor
from lakehouse.sources.watermark import Watermark
from tests.sources.support import NOW, Setup, a_run

HEADER = "shipment_id,order_id,carrier,tracking_number,status,shipped_local,delivered_local,weight_kg,cost,currency\n"


def line(number: int, **changes: str) -> str:
    cells = {
        "shipment_id": f"S{number}",
        "order_id": f"O{number}",
        "carrier": "DHL",
        "tracking_number": "T1",
        "status": "CREATED",
        "shipped_local": "2026-11-19 10:00:00",
        "delivered_local": "",
        "weight_kg": "1.500",
        "cost": "4.90",
        "currency": "EUR",
    } | changes
    return ",".join(cells.values()) + "\n"


class Inbox:
    """The vendor's inbox of a fresh lake."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.uri = setup.settings.sources.vendor.inbox_uri

    def put(self, name: str, content: str | bytes) -> bytes:
        body = content.encode() if isinstance(content, str) else content
        store.put(f"{self.uri}/{name}", body)
        return body

    def extract(self, *before: Manifest, run_id: str | None = None) -> Manifest:
        watermark = Watermark(None, tuple(manifest.state for manifest in before))
        (manifest,) = vendor.extract(self.setup.settings, run_id or a_run(), {"vendor_shipments": watermark})
        return manifest

    def rows(self, manifest: Manifest) -> list[dict[str, Any]]:
        return self.setup.rows(manifest)


@pytest.fixture
def inbox(setup: Setup) -> Inbox:
    return Inbox(setup)


def test_files_land_in_the_order_of_their_names_with_file_and_line(inbox: Inbox) -> None:
    inbox.put("shipments_2.csv", HEADER + line(3))
    body = inbox.put("shipments_1.csv", HEADER + line(1, carrier='"Müller, ""Söhne"""') + line(2))

    manifest = inbox.extract()

    rows = inbox.rows(manifest)
    assert [(row["file"], row["line"], row["shipment_id"]) for row in rows] == [
        ("shipments_1.csv", 2, "S1"),
        ("shipments_1.csv", 3, "S2"),
        ("shipments_2.csv", 2, "S3"),
    ]
    assert rows[0] == {
        "_position": "shipments_1.csv:000000002",
        "file": "shipments_1.csv",
        "line": 2,
        "shipment_id": "S1",
        "order_id": "O1",
        "carrier": 'Müller, "Söhne"',
        "tracking_number": "T1",
        "status": "CREATED",
        "shipped_local": "2026-11-19 10:00:00",
        "delivered_local": "",
        "weight_kg": "1.500",
        "cost": "4.90",
        "currency": "EUR",
    }
    assert manifest.window_to == NOW
    assert manifest.state["files"][hashlib.sha256(body).hexdigest()] == "shipments_1.csv"
    originals = [store.get(uri) for uri in inbox.setup.landed_keys() if "original-" in uri]
    assert body in originals


def test_a_file_is_taken_once(inbox: Inbox) -> None:
    inbox.put("a.csv", HEADER + line(1))
    first = inbox.extract()
    inbox.put("b.csv", HEADER + line(2))

    second = inbox.extract(first)
    third = inbox.extract(first, second)

    assert [row["file"] for row in inbox.rows(second)] == ["b.csv"]
    assert (third.rows, third.notes) == (0, ())


def test_a_file_of_a_refused_run_is_taken_again(inbox: Inbox) -> None:
    inbox.put("a.csv", HEADER + line(1))
    inbox.extract()

    assert inbox.extract().rows == 1


def test_the_same_content_under_another_name_is_noted(inbox: Inbox) -> None:
    inbox.put("a.csv", HEADER + line(1))
    inbox.put("copy of a.csv", HEADER + line(1))

    first = inbox.extract()
    inbox.put("z.csv", HEADER + line(1))
    second = inbox.extract(first)

    assert first.rows == 1
    assert first.notes == ("vendor: copy of a.csv was not taken: it has the content of a.csv",)
    assert second.rows == 0
    assert len(second.notes) == 2


def test_another_content_under_the_same_name_is_taken(inbox: Inbox) -> None:
    inbox.put("a.csv", HEADER + line(1))
    first = inbox.extract()
    inbox.put("a.csv", HEADER + line(1, status="DELIVERED"))

    assert [row["status"] for row in inbox.rows(inbox.extract(first))] == ["DELIVERED"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param("", "does not end", id="nothing yet"),
        pytest.param(HEADER[:30], "does not end", id="within the header"),
        pytest.param(HEADER + line(1) + line(2)[:20], "does not end", id="within a row"),
        pytest.param(HEADER + line(1) + line(2)[:-1], "does not end", id="before the last newline"),
        pytest.param(HEADER + line(1) + "S2,O2,DHL\n", "3 cells of 10", id="after a cell"),
        pytest.param(HEADER + line(1) + 'S2,O2,"DHL\n', "within quotes", id="within quotes"),
        pytest.param(
            HEADER + line(1) + 'S2,O2,"' + "DHL\n" * 50_000, "within quotes", id="within long quotes"
        ),
        pytest.param("\n", "is empty", id="a blank line"),
    ],
)
def test_a_half_written_file_waits_with_a_note_until_it_is_whole(
    inbox: Inbox, content: str, reason: str
) -> None:
    inbox.put("half.csv", content)
    inbox.put("whole.csv", HEADER + line(3))

    first = inbox.extract()
    inbox.put("half.csv", HEADER + line(1) + line(2))
    second = inbox.extract(first)

    assert [row["file"] for row in inbox.rows(first)] == ["whole.csv"]
    assert len(first.notes) == 1
    assert first.notes[0].startswith("vendor: half.csv was left for the next run:")
    assert reason in first.notes[0]
    assert [row["shipment_id"] for row in inbox.rows(second)] == ["S1", "S2"]


def test_a_sidecar_decides(inbox: Inbox) -> None:
    whole = HEADER + line(1) + line(2)[:-1]  # no newline at the end, and still whole
    inbox.put("a.csv", whole)
    inbox.put("a.csv.sha256", hashlib.sha256(whole.encode()).hexdigest().upper() + "  a.csv\n")
    inbox.put("b.csv", HEADER + line(3))
    inbox.put("b.csv.sha256", "0" * 64)
    inbox.put("c.csv", HEADER + line(4))
    inbox.put("c.csv.sha256", "")

    manifest = inbox.extract()

    assert {row["file"] for row in inbox.rows(manifest)} == {"a.csv"}
    assert manifest.rows == 2
    assert [note.split(" was left")[0] for note in manifest.notes] == ["vendor: b.csv", "vendor: c.csv"]


def test_bad_rows_land_with_their_reason(inbox: Inbox) -> None:
    content = HEADER + "S1,O1,DHL\n" + line(2)[:-1] + ",more,'x'\n" + "\n" + line(4)
    inbox.put("a.csv", content)

    short, long, good = inbox.rows(inbox.extract())

    assert short["_malformed"] == "3 cells, expected 10"
    assert set(short) == {"_position", "file", "line", "shipment_id", "order_id", "carrier", "_malformed"}
    assert long["_malformed"] == "12 cells, expected 10"
    assert long["_surplus"] == "'more', \"'x'\""
    assert long["currency"] == "EUR"
    assert (good["line"], good["shipment_id"], "_malformed" in good) == (5, "S4", False)


def test_cells_may_hold_newlines(inbox: Inbox) -> None:
    inbox.put("a.csv", HEADER + line(1, carrier='"two\nlines\r\nand more"') + line(2))

    first, second = inbox.rows(inbox.extract())

    assert first["carrier"] == "two\nlines\r\nand more"
    assert (first["line"], second["line"]) == (2, 5)


def test_bytes_that_are_not_utf8_spoil_their_row_only(inbox: Inbox) -> None:
    bad = line(2, carrier="Müller").encode("latin-1")
    body = inbox.put("a.csv", HEADER.encode() + line(1, carrier="Müller").encode() + bad)

    good, spoilt = inbox.rows(inbox.extract())

    assert (good["carrier"], "_malformed" in good) == ("Müller", False)
    assert (spoilt["carrier"], spoilt["_malformed"]) == ("M\\xfcller", "bytes that are not UTF-8")
    assert body in [store.get(uri) for uri in inbox.setup.landed_keys() if "original-" in uri]


@pytest.mark.parametrize("form", ["utf-8-sig", "crlf", "quoted header", "spaces in the header"])
def test_forms_of_csv(inbox: Inbox, form: str) -> None:
    content = HEADER + line(1)
    if form == "crlf":
        content = content.replace("\n", "\r\n")
    if form == "quoted header":
        content = content.replace("shipment_id", '"shipment_id"')
    if form == "spaces in the header":
        content = content.replace("order_id,carrier", "order_id, carrier")
    inbox.put("a.csv", content.encode("utf-8-sig" if form == "utf-8-sig" else "utf-8"))

    (row,) = inbox.rows(inbox.extract())

    assert (row["shipment_id"], row["carrier"], row["currency"]) == ("S1", "DHL", "EUR")


def test_more_columns_land_too(inbox: Inbox) -> None:
    inbox.put("a.csv", HEADER[:-1] + ",insured\n" + line(1)[:-1] + ",yes\n")

    manifest = inbox.extract()

    assert inbox.rows(manifest)[0]["insured"] == "yes"
    assert "insured" in manifest.fields


def test_missing_and_repeated_columns_of_all_files_are_one_error(inbox: Inbox) -> None:
    inbox.put("a.csv", HEADER.replace(",carrier", "") + line(1).replace(",DHL", ""))
    inbox.put("b.csv", (HEADER + line(2)).replace(",", ";"))
    inbox.put("c.csv", HEADER[:-1] + ",cost\n" + line(3)[:-1] + ",1\n")
    inbox.put("d.csv", HEADER + line(4))

    with pytest.raises(ContractViolation) as refused:
        inbox.extract()

    where = [violation.where for violation in refused.value.violations]
    assert where.count("a.csv.carrier") == 1
    assert sum(name.startswith("b.csv.") for name in where) == 10
    assert where[-1] == "c.csv.cost"
    assert not [uri for uri in inbox.setup.landed_keys() if "/vendor_shipments/" in uri]


def test_a_cell_beyond_all_measure_lands_for_the_contract_to_judge(inbox: Inbox) -> None:
    inbox.put("a.csv", HEADER + line(1) + line(2, carrier="x" * 200_000) + line(3))

    assert [len(row["carrier"]) for row in inbox.rows(inbox.extract())] == [3, 200_000, 3]


def test_an_empty_inbox_and_files_of_other_kinds(inbox: Inbox) -> None:
    assert inbox.extract().rows == 0

    inbox.put("readme.txt", "hello")
    inbox.put("SHIPMENTS.CSV", HEADER)
    manifest = inbox.extract()

    assert manifest.rows == 0
    assert manifest.notes == ("vendor: readme.txt was left in the inbox: not a .csv file",)
    assert list(manifest.state["files"].values()) == ["SHIPMENTS.CSV"]


def test_a_landed_run_looks_at_no_file(inbox: Inbox) -> None:
    run_id = a_run()
    inbox.put("a.csv", HEADER + line(1))
    first = inbox.extract(run_id=run_id)
    inbox.put("b.csv", HEADER + line(2))

    assert inbox.extract(run_id=run_id) == first


def test_files_in_folders(inbox: Inbox) -> None:
    inbox.put("2026/11/a.csv", HEADER + line(1))
    inbox.put("2026/12/a.csv", HEADER + line(2))

    manifest = inbox.extract()

    assert [row["file"] for row in inbox.rows(manifest)] == ["2026/11/a.csv", "2026/12/a.csv"]
    assert len({uri for uri in inbox.setup.landed_keys() if "original-" in uri}) == 2


@pytest.mark.parametrize(
    "name",
    [
        "shipments #3.csv",
        "a?b.csv",
        "tab\t.csv",
        "line\nbreak.csv",
        "100%2F.csv",
        "a+b.csv",
        "日本" * 60 + ".csv",
    ],
)
def test_a_file_is_taken_whatever_its_name(inbox: Inbox, name: str) -> None:
    inbox.put(name, HEADER + line(1))

    manifest = inbox.extract()

    assert [row["file"] for row in inbox.rows(manifest)] == [name]
    assert manifest.notes == ()
    assert any("original-" in uri for uri in inbox.setup.landed_keys())
