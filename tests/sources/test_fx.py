"""ECB rates: both publications, gaps, and documents that are not what they should be."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from lakehouse import store
from lakehouse.errors import SourceError, SourceUnavailable
from lakehouse.landing import Manifest
from lakehouse.sources import fx
from lakehouse.sources.watermark import Watermark
from local.saas.web import Answer, Fault, Request, Service
from tests.sources.support import Server, Setup, a_run, serving

HISTORY = """Date,USD,JPY,TRY,ISK,
2026-11-19,1.0712,162.1,36.5,N/A,
2026-11-18,1.0700,162.0,,N/A,
2026-11-10,1.0650,160.0,N/A,150.1,
"""


def daily(day: str, **rates: str) -> str:
    """The document of one day."""
    return document({day: rates})


def document(days: dict[str, dict[str, str]]) -> str:
    cubes = "".join(
        f"<Cube time='{day}'>"
        + "".join(f"<Cube currency='{ccy}' rate='{rate}'/>" for ccy, rate in rates.items())
        + "</Cube>"
        for day, rates in days.items()
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><gesmes:Envelope '
        'xmlns:gesmes="http://www.gesmes.org/xml/2002-08-01" xmlns="http://www.ecb.int/vocabulary/2002-08-01/eurofxref">'
        f"<gesmes:subject>Reference rates</gesmes:subject><Cube>{cubes}</Cube></gesmes:Envelope>"
    )


def zipped(text: str, name: str = "eurofxref-hist.csv") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, text)
    return buffer.getvalue()


class Bank(Service):
    """Serves the two documents that a test puts in."""

    name = "ecb"

    def __init__(self) -> None:
        self.documents: dict[str, bytes] = {}

    def answer(self, request: Request) -> Answer:
        body = self.documents.get(request.path)
        return Answer(404) if body is None else Answer(200, body, "application/octet-stream")

    def failure(self, fault: Fault) -> Answer:
        return Answer(fault.status, headers={"Retry-After": fault.retry_after} if fault.retry_after else {})


class Ecb:
    def __init__(self, setup: Setup, server: Server, bank: Bank) -> None:
        self.server, self.bank = server, bank
        self.setup = setup.with_source(
            "fx", daily_url=f"{server.url}/daily.xml", history_url=f"{server.url}/hist.zip"
        )
        self.publish(daily("2026-11-20", USD="1.0725", JPY="162.30"), HISTORY)

    def publish(self, day: str | bytes, history: str | bytes) -> None:
        self.bank.documents = {
            "/daily.xml": day.encode() if isinstance(day, str) else day,
            "/hist.zip": zipped(history) if isinstance(history, str) else history,
        }

    def extract(self, since: str | None = None, run_id: str | None = None) -> Manifest:
        time = None if since is None else datetime.fromisoformat(since).replace(tzinfo=UTC)
        (manifest,) = fx.extract(self.setup.settings, run_id or a_run(), {"fx_rates": Watermark(time)})
        return manifest

    def quotes(self, manifest: Manifest) -> list[tuple[str, str, str, str]]:
        return [
            (row["as_of_date"], row["ccy"], row["ccy_per_eur"], row["publication"])
            for row in self.setup.rows(manifest)
        ]

    def paths(self) -> list[str]:
        return [request["path"] for request in self.server.requests]


@pytest.fixture
def ecb(setup: Setup) -> Iterator[Ecb]:
    bank = Bank()
    with serving(bank) as server:
        yield Ecb(setup, server, bank)


def test_the_first_run_reads_the_history_and_the_newest_day(ecb: Ecb) -> None:
    manifest = ecb.extract()

    assert ecb.quotes(manifest) == [
        ("2026-11-19", "USD", "1.0712", "history"),
        ("2026-11-19", "JPY", "162.1", "history"),
        ("2026-11-19", "TRY", "36.5", "history"),
        ("2026-11-18", "USD", "1.0700", "history"),
        ("2026-11-18", "JPY", "162.0", "history"),
        ("2026-11-10", "USD", "1.0650", "history"),
        ("2026-11-10", "JPY", "160.0", "history"),
        ("2026-11-10", "ISK", "150.1", "history"),
        ("2026-11-20", "USD", "1.0725", "daily"),
        ("2026-11-20", "JPY", "162.30", "daily"),
    ]
    assert manifest.window_to == datetime(2026, 11, 20, tzinfo=UTC)
    assert set(manifest.fields) == {"as_of_date", "ccy", "ccy_per_eur", "publication"}


def test_a_quote_in_both_publications_lands_once(ecb: Ecb) -> None:
    ecb.publish(daily("2026-11-19", USD="1.0712", SEK="11.5"), HISTORY)

    quotes = [quote for quote in ecb.quotes(ecb.extract()) if quote[0] == "2026-11-19"]

    assert [quote[1:] for quote in quotes] == [
        ("USD", "1.0712", "history"),
        ("JPY", "162.1", "history"),
        ("TRY", "36.5", "history"),
        ("SEK", "11.5", "daily"),
    ]


def test_a_corrected_quote_lands_beside_the_one_it_corrects(ecb: Ecb) -> None:
    ecb.publish(daily("2026-11-19", USD="1.0799"), HISTORY + "2026-11-19,1.0713,162.1,36.5,N/A,\n")

    landed = ecb.setup.rows(ecb.extract())

    rates = {row["ccy_per_eur"] for row in landed if (row["as_of_date"], row["ccy"]) == ("2026-11-19", "USD")}
    assert rates == {"1.0712", "1.0713", "1.0799"}
    assert len({row["_position"] for row in landed}) == len(landed)


THREE_DAYS = {
    "2026-11-20": {"USD": "1.0725", "JPY": "162.30"},
    "2026-11-19": {"USD": "1.0712"},
    "2026-11-11": {"USD": "1.0650"},
}


def test_the_next_day_needs_the_daily_document_only_and_reads_a_week_of_corrections(ecb: Ecb) -> None:
    ecb.publish(document(THREE_DAYS), HISTORY)

    manifest = ecb.extract(since="2026-11-19")

    assert ecb.paths() == ["/daily.xml"]
    assert [quote[:3] for quote in ecb.quotes(manifest)] == [
        ("2026-11-20", "USD", "1.0725"),
        ("2026-11-20", "JPY", "162.30"),
        ("2026-11-19", "USD", "1.0712"),
    ]
    assert manifest.window_from == datetime(2026, 11, 12, tzinfo=UTC)


def test_a_correction_of_a_day_gone_by_is_read(ecb: Ecb) -> None:
    ecb.publish(document(THREE_DAYS), HISTORY)
    watermark = ecb.extract(since="2026-11-19").window_to
    assert watermark is not None
    ecb.publish(document(THREE_DAYS | {"2026-11-19": {"USD": "1.7112"}}), HISTORY)

    again = ecb.extract(since=f"{watermark:%Y-%m-%d}")

    assert ("2026-11-19", "USD", "1.7112", "daily") in ecb.quotes(again)


@pytest.mark.parametrize(
    "days",
    [{"2026-11-20": {"USD": "1.08"}}, THREE_DAYS | {"2026-11-11": {}}],
    ids=["the document of one day", "runs were missed"],
)
def test_the_history_is_read_where_the_document_does_not_reach_back(
    ecb: Ecb, days: dict[str, dict[str, str]]
) -> None:
    ecb.publish(document(days), HISTORY)

    manifest = ecb.extract(since="2026-11-18")

    assert ecb.paths() == ["/daily.xml", "/hist.zip"]
    assert {quote[0] for quote in ecb.quotes(manifest)} == {"2026-11-18", "2026-11-19", "2026-11-20"}


def test_a_day_read_again_moves_nothing(ecb: Ecb) -> None:
    ecb.publish(document(THREE_DAYS), HISTORY)

    manifest = ecb.extract(since="2026-11-20")

    assert (manifest.rows, manifest.window_to) == (3, datetime(2026, 11, 20, tzinfo=UTC))


def test_a_quote_from_the_future_lands_and_does_not_move_the_watermark_beyond_the_run(ecb: Ecb) -> None:
    ecb.publish(daily("2027-01-04", USD="1.2"), HISTORY)

    manifest = ecb.extract(since="2026-11-19")

    assert manifest.window_to == datetime(2026, 11, 20, 6, tzinfo=UTC)
    assert ("2027-01-04", "USD", "1.2", "daily") in ecb.quotes(manifest)


def test_a_run_that_is_dated_ahead_does_not_follow_a_quote_from_the_future(ecb: Ecb) -> None:
    began = datetime.now(UTC)
    ecb.publish(daily("2999-01-04", USD="1.2"), HISTORY)

    manifest = ecb.extract(since="2026-11-19", run_id=a_run(datetime(2999, 2, 1, tzinfo=UTC)))

    assert manifest.window_to is not None
    assert began <= manifest.window_to <= datetime.now(UTC)


def test_values_are_not_parsed(ecb: Ecb) -> None:
    ecb.publish(daily("2026-11-20", USD="one", JPY="N/A", SEK=""), "Date,USD\nsome day,1.1\n2026-11-19,-\n")

    assert ecb.quotes(ecb.extract()) == [
        ("some day", "USD", "1.1", "history"),
        ("2026-11-19", "USD", "-", "history"),
        ("2026-11-20", "USD", "one", "daily"),
    ]


def test_the_history_may_be_a_plain_csv(ecb: Ecb) -> None:
    ecb.publish(daily("2026-11-20", USD="1.1"), b"\xef\xbb\xbf" + HISTORY.replace("\n", "\r\n").encode())

    assert len(ecb.quotes(ecb.extract())) == 9


def test_originals_are_kept_byte_for_byte(ecb: Ecb) -> None:
    manifest = ecb.extract()

    kept = {uri.rsplit("-", 2)[-1]: store.get(uri) for uri in ecb.setup.landed_keys() if "original-" in uri}
    assert kept == {
        "90d.xml": ecb.bank.documents["/daily.xml"],
        "hist.zip": ecb.bank.documents["/hist.zip"],
    }
    assert [file.rows for file in manifest.files if file.format == "original"] == [None, None]


def test_a_landed_run_asks_nothing(ecb: Ecb) -> None:
    run_id = a_run()
    first = ecb.extract(run_id=run_id)
    asked = len(ecb.paths())

    assert ecb.extract(run_id=run_id) == first
    assert len(ecb.paths()) == asked


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
    "<Cube><Cube time='2026-11-20'><Cube currency='USD' rate='&b;'/></Cube></Cube>"
)


@pytest.mark.parametrize(
    ("day", "history"),
    [
        pytest.param("<Cube><Cube time='2026-11-20'>", HISTORY, id="XML cut off"),
        pytest.param("<html><body>maintenance</body></html>", HISTORY, id="a page in place of the XML"),
        pytest.param("", HISTORY, id="empty XML"),
        pytest.param(BOMB, HISTORY, id="entities"),
        pytest.param(BOMB.encode("utf-16"), HISTORY, id="entities in UTF-16"),
        pytest.param(daily("2026-11-20", USD="1.1"), zipped(HISTORY)[:60], id="ZIP cut off"),
        pytest.param(daily("2026-11-20", USD="1.1"), zipped(HISTORY, "readme.txt"), id="ZIP without a CSV"),
        pytest.param(daily("2026-11-20", USD="1.1"), b"<html>", id="a page in place of the ZIP"),
        pytest.param(daily("2026-11-20", USD="1.1"), b"\xff\xfe\x00", id="no text"),
        pytest.param(daily("2026-11-20", USD="1.1"), b"", id="empty history"),
        *[
            pytest.param(daily("2026-11-20", USD="1.1"), HISTORY.replace(old, new).encode(), id=name)
            for name, old, new in (
                ("a cell less", "1.0700,162.0,", "1.0700,"),
                ("a cell more", "1.0700,162.0,", "1.0700,,162.0,"),
                ("a stray quote", "1.0700,162.0", '1.0700,"162.0'),
                (
                    "quotes that swallow a day",
                    "162.1,36.5,N/A,\n2026-11-18,1.0700",
                    '"162.1,36.5,N/A,\n2026-11-18"',
                ),
                ("a rate under no currency", "36.5,N/A,", "36.5,N/A,9"),
            )
        ],
    ],
)
def test_malformed_documents_are_refused(ecb: Ecb, day: str | bytes, history: str | bytes) -> None:
    ecb.publish(day, history)

    with pytest.raises(SourceError, match="ECB eurofxref"):
        ecb.extract()

    assert not [uri for uri in ecb.setup.landed_keys() if uri.endswith("manifest.json")]


def test_documents_are_read_up_to_a_size(ecb: Ecb) -> None:
    for day, history in (
        (daily("2026-11-20", USD="1.1") + " " * 3000, HISTORY),
        (daily("2026-11-20", USD="1.1"), HISTORY + "\n" * 100_000),  # 300 bytes in its ZIP
    ):
        ecb.publish(day, history)
        ecb.setup = ecb.setup.with_source("fx", max_document_bytes=2000)
        with pytest.raises(
            SourceError, match=r"more than 2000 bytes, expected at most 2000 \(sources.fx.max_doc"
        ):
            ecb.extract()


def test_bad_weather_passes(ecb: Ecb) -> None:
    ecb.server.fault(service="ecb", match="daily", status=503)
    ecb.server.fault(service="ecb", match="daily", kind="drop")
    ecb.server.fault(service="ecb", match="hist", kind="cut")
    ecb.server.fault(service="ecb", match="hist", status=429, retry_after="0")

    assert ecb.extract().rows == 10


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"status": 500, "times": 0}, SourceUnavailable),
        ({"kind": "drop", "times": 0}, SourceUnavailable),
        ({"status": 404}, SourceError),
    ],
    ids=["500", "drop", "404"],
)
def test_weather_that_stays_bad(ecb: Ecb, fault: dict[str, Any], error: type[Exception]) -> None:
    ecb.server.fault(service="ecb", **fault)

    with pytest.raises(error):
        ecb.extract()
