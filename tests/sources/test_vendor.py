"""Vendor files: each content once, whole files only, bad rows kept with their reasons."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from datetime import datetime
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


def test_a_name_that_gets_back_an_earlier_content_is_taken_again(inbox: Inbox) -> None:
    before, after = HEADER + line(1), HEADER + line(1, status="DELIVERED")
    landed: list[Manifest] = []
    for content in (before, after, before, before, after):
        inbox.put("a.csv", content)
        landed.append(inbox.extract(*landed[::-1]))

    states = [[row["status"] for row in inbox.rows(manifest)] for manifest in landed]
    assert states == [["CREATED"], ["DELIVERED"], ["CREATED"], [], ["DELIVERED"]]


def test_what_was_taken_is_not_downloaded_again(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    inbox.put("a.csv", HEADER + line(1))
    inbox.put("copy.csv", HEADER + line(1))
    first = inbox.extract()
    inbox.put("b.csv", HEADER + line(2))
    read: list[str] = []
    get = store.get
    monkeypatch.setattr(store, "get", lambda uri: read.append(uri.removeprefix(inbox.uri)) or get(uri))

    second = inbox.extract(first)

    assert [name for name in read if name.endswith(".csv")] == ["/b.csv"]
    assert second.notes == ("vendor: copy.csv was not taken: it has the content of a.csv",)


@pytest.mark.parametrize(
    ("end", "rows", "reasons"),
    [
        pytest.param(line(2)[:-1], 2, [], id="no line break at the end"),
        pytest.param(line(2)[:-1] + "\r", 2, [], id="half of a line break at the end"),
        pytest.param(line(2)[:20], 2, ["5 cells, expected 10"], id="cut within a row"),
        pytest.param("S2,O2,DHL\n", 2, ["3 cells, expected 10"], id="cut after a cell"),
        pytest.param('S2,O2,"DHL\n', 2, ["a quote that is never closed"], id="cut within quotes"),
        pytest.param(
            'S2,O2,"' + "DHL\n" * 3,
            4,
            ["a quote that is never closed", *["1 cells, expected 10"] * 2],
            id="long",
        ),
        pytest.param("2 rows\n", 2, ["1 cells, expected 10"], id="a footer"),
        pytest.param("\n\n", 1, [], id="blank lines"),
    ],
)
def test_an_object_is_whole_once_it_is_listed(inbox: Inbox, end: str, rows: int, reasons: list[str]) -> None:
    inbox.put("a.csv", HEADER + line(1) + end)

    manifest = inbox.extract()

    landed = inbox.rows(manifest)
    assert (manifest.rows, len(landed), manifest.notes) == (rows, rows, ())
    assert [row["_malformed"] for row in landed if "_malformed" in row] == reasons


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "it is empty"),
        (b"\n \r\n", "it is empty"),
        (b"\xef\xbb\xbf", "it is empty"),
        ((HEADER + line(1)).encode("utf-16"), "it is UTF-16"),
        ((HEADER + line(1)).encode("utf-16-be"), "NUL bytes"),
        ((HEADER + line(1)).encode("utf-32"), "it is UTF-32"),
        ((HEADER + line(1)).replace("\n", "\r").encode(), "end in CR alone"),
        (gzip.compress((HEADER + line(1)).encode()), "compressed by gzip"),
        (b"PK\x03\x04rest", "ZIP"),
    ],
)
def test_what_is_no_csv_in_utf8_stays_in_the_inbox_and_says_why(
    inbox: Inbox, body: bytes, reason: str
) -> None:
    inbox.put("other.csv", body)
    inbox.put("other.csv.sha256", hashlib.sha256(body).hexdigest())
    inbox.put("whole.csv", HEADER + line(3))

    manifest = inbox.extract()

    assert [row["file"] for row in inbox.rows(manifest)] == ["whole.csv"]
    (note,) = manifest.notes
    assert note.startswith("vendor: other.csv was left in the inbox: it")
    assert reason in note
    ((name, (since, why, *_)),) = manifest.state["left"].items()
    assert (name, datetime.fromisoformat(since).tzinfo is not None, why in note) == ("other.csv", True, True)


def test_what_was_left_is_downloaded_again_once_it_or_its_sidecar_is_another(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox.put("zipped.csv", gzip.compress(b"shipments"))
    inbox.put("late.csv", HEADER + line(1))
    inbox.put("late.csv.sha256", "0" * 64)
    read: list[str] = []
    get = store.get
    monkeypatch.setattr(store, "get", lambda uri: read.append(uri.removeprefix(inbox.uri)) or get(uri))
    first = inbox.extract()
    read.clear()

    second = inbox.extract(first)

    assert not [name for name in read if name.endswith((".csv", ".sha256"))]
    assert (second.notes, second.state["left"]) == (first.notes, first.state["left"])
    inbox.put("late.csv.sha256", hashlib.sha256((HEADER + line(1)).encode()).hexdigest())
    inbox.put("zipped.csv", HEADER + line(2))
    assert [row["file"] for row in inbox.rows(inbox.extract(first, second))] == ["late.csv", "zipped.csv"]


def test_sizes_are_bounded(inbox: Inbox) -> None:
    for name in ("a.csv", "b.csv", "c.csv"):
        inbox.put(name, HEADER + line(ord(name[0])))
    size = len(HEADER + line(97))
    inbox.setup = inbox.setup.with_source("vendor", max_run_bytes=2 * size)
    first = inbox.extract()
    second = inbox.extract(first)
    assert [row["file"] for row in inbox.rows(first)] == ["a.csv", "b.csv"]
    assert "c.csv was left for the next run" in first.notes[0]
    assert [row["file"] for row in inbox.rows(second)] == ["c.csv"]

    inbox.setup = inbox.setup.with_source("vendor", max_file_bytes=size - 1)
    assert inbox.extract(first, second).rows == 0
    with pytest.raises(ContractViolation, match=f"a.csv: received {size} bytes, expected at most {size - 1}"):
        inbox.extract()


def test_a_sidecar_decides(inbox: Inbox) -> None:
    whole = HEADER + line(1) + line(2)[:-1]
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


OURS = [
    "file",
    "line",
    "_position",
    "_malformed",
    "_surplus",
    "_run_id",
    "_source",
    "_landed_at",
    "ingest_date",
]


@pytest.mark.parametrize("spelt", [str.lower, str.upper])
def test_columns_called_like_ours_replace_nothing(inbox: Inbox, spelt: Callable[[str], str]) -> None:
    names = [spelt(name) for name in [*OURS, "source:file", "source:source:file"]]
    more = [f"v{n}" for n in range(len(names))]
    inbox.put("a.csv", ",".join([HEADER[:-1], *names]) + "\n" + ",".join([line(1)[:-1], *more]) + "\n")

    manifest = inbox.extract()

    (row,) = inbox.rows(manifest)
    assert (row["_position"], row["file"], row["line"]) == ("a.csv:000000002", "a.csv", 2)
    assert not {"_malformed", "_surplus", "_run_id", "_source", "_landed_at", "ingest_date"} & row.keys()
    assert [row[f"source:{name}"] for name in names] == more
    assert {f"source:{name}" for name in names} <= manifest.fields.keys()


def test_missing_and_repeated_columns_of_all_files_are_one_error(inbox: Inbox) -> None:
    inbox.put("a.csv", HEADER.replace(",carrier", "") + line(1).replace(",DHL", ""))
    inbox.put("b.csv", (HEADER + line(2)).replace(",", ";"))
    inbox.put("c.csv", HEADER[:-1] + ",cost\n" + line(3)[:-1] + ",1\n")
    inbox.put("d.csv", HEADER + line(4))

    with pytest.raises(ContractViolation) as refused:
        inbox.extract()

    assert [str(violation) for violation in refused.value.violations] == [
        f"a.csv:1: received the header {HEADER[:-1].replace(',carrier', '')}, expected a column carrier in it",
        f"b.csv:1: received the header {HEADER[:-1].replace(',', ';')}, expected columns "
        f"{HEADER[:-1].replace(',', ', ')} in it, separated by commas",
        "c.csv:1, column cost: received it twice, expected each column once",
    ]
    assert not [uri for uri in inbox.setup.landed_keys() if "/vendor_shipments/" in uri]


@pytest.mark.parametrize(
    ("header", "received"),
    [
        (
            HEADER[:-1].encode() + b",Gr\xf6\xdfe\n",
            r"a header with the byte 0xf6 \(.*Gr\\xf6\\xdfe\), expected UTF-8",
        ),
        (b'"shipment_id,' + HEADER[12:].encode(), "a quote that is never closed"),
        (b'"shipment_id"x,' + HEADER[12:].encode(), "text behind a closing quote"),
    ],
)
def test_a_header_that_cannot_be_read_is_refused(inbox: Inbox, header: bytes, received: str) -> None:
    inbox.put("a.csv", header + line(1).encode())

    with pytest.raises(ContractViolation, match=f"a.csv:1: received .*{received}") as refused:
        inbox.extract()
    assert refused.value.message.encode()


def test_quotes_in_the_wrong_place_swallow_no_row(inbox: Inbox) -> None:
    swallowing = line(8, carrier='"DHL') + line(9, carrier='DHL"')
    stray = line(3, carrier='"DHL') + line(4, carrier='D"HL') + line(5, carrier='"ACME" Corp')
    inbox.put("a.csv", HEADER + line(1) + stray + line(6) + swallowing + line(10, carrier='"two\nlines"'))

    rows = inbox.rows(inbox.extract())

    assert [(row["line"], row["shipment_id"], row.get("_malformed")) for row in rows] == [
        (2, "S1", None),
        (3, "S3", "text behind a closing quote"),
        (4, "S4", "a quote in a cell without quotes"),
        (5, "S5", "text behind a closing quote"),
        (6, "S6", None),
        (7, "S8", "quotes around lines that read as rows by themselves"),
        (8, "S9", "quotes around lines that read as rows by themselves"),
        (9, "S10", None),
    ]
    assert [row["carrier"] for row in rows[1:4]] == ['"DHL', 'D"HL', '"ACME" Corp']


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
