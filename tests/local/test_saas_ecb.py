"""The ECB's double: the files as the ECB publishes them."""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Iterator
from datetime import date

import pytest
import requests

from local.saas.admin import Admin
from local.saas.server import Doubles, start
from local.samples import fx

CUBE = "{http://www.ecb.int/vocabulary/2002-08-01/eurofxref}Cube"


@pytest.fixture(scope="module")
def doubles() -> Iterator[Doubles]:
    running = start(None)
    yield running
    running.stop()


@pytest.fixture
def admin(doubles: Doubles) -> Admin:
    admin = Admin(doubles.url("ecb"))
    admin.reset()
    admin.load(
        "ecb",
        "rates",
        [
            {"date": "2026-10-30", "quotes": {"USD": "1.1012", "NOK": "N/A", "XAU": "0.0003"}},
            {"date": "2026-10-29", "quotes": {"USD": "1.0999", "NOK": "11.7000"}},
            {"date": "2026-07-01", "quotes": {"USD": "1.0800", "NOK": "11.6000"}},
        ],
    )
    return admin


def get(doubles: Doubles, name: str) -> requests.Response:
    return requests.get(f"{doubles.url('ecb')}/stats/eurofxref/{name}")


def days(answer: requests.Response) -> dict[str, dict[str, str]]:
    root = ET.fromstring(answer.content)
    return {
        day.attrib["time"]: {one.attrib["currency"]: one.attrib["rate"] for one in day}
        for day in root.iter(CUBE)
        if "time" in day.attrib
    }


def test_daily_has_the_newest_day_without_missing_quotes(doubles: Doubles, admin: Admin) -> None:
    answer = get(doubles, "eurofxref-daily.xml")
    assert days(answer) == {"2026-10-30": {"USD": "1.1012", "XAU": "0.0003"}}
    assert b"<Cube time='2026-10-30'>" in answer.content
    assert b"<gesmes:name>European Central Bank</gesmes:name>" in answer.content


def test_histories(doubles: Doubles, admin: Admin) -> None:
    assert list(days(get(doubles, "eurofxref-hist.xml"))) == ["2026-10-30", "2026-10-29", "2026-07-01"]
    assert list(days(get(doubles, "eurofxref-hist-90d.xml"))) == ["2026-10-30", "2026-10-29"]


def test_zipped_history_is_the_table_with_its_trailing_commas(doubles: Doubles, admin: Admin) -> None:
    answer = get(doubles, "eurofxref-hist.zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["eurofxref-hist.csv"]
        text = archive.read("eurofxref-hist.csv").decode()
    assert text.splitlines() == [
        "Date,USD,NOK,XAU,",
        "2026-10-30,1.1012,N/A,0.0003,",
        "2026-10-29,1.0999,11.7000,N/A,",
        "2026-07-01,1.0800,11.6000,N/A,",
    ]


def test_a_day_can_be_corrected_and_published_later(doubles: Doubles, admin: Admin) -> None:
    admin.upsert("ecb", "rates", {"date": "2026-10-30", "quotes": {"NOK": "11.7500"}})
    assert days(get(doubles, "eurofxref-daily.xml"))["2026-10-30"]["NOK"] == "11.7500"
    admin.publish_until("2026-10-29")
    assert list(days(get(doubles, "eurofxref-daily.xml"))) == ["2026-10-29"]


def test_two_rows_of_one_day_both_appear(doubles: Doubles, admin: Admin) -> None:
    rows = [
        {"date": "2026-10-30", "quotes": {"USD": "1.1"}},
        {"date": "2026-10-30", "quotes": {"USD": "1.2"}},
    ]
    admin.reset("ecb")
    admin.load("ecb", "rates", rows)
    lines = list(csv.reader(io.StringIO(get(doubles, "eurofxref-hist.csv").text)))
    assert lines[1:] == [["2026-10-30", "1.1", ""], ["2026-10-30", "1.2", ""]]


def test_weather(doubles: Doubles, admin: Admin) -> None:
    admin.fault("ecb", status=503, retry_after="60")
    answer = get(doubles, "eurofxref-daily.xml")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "60")
    assert get(doubles, "eurofxref-daily.xml").status_code == 200
    assert get(doubles, "nothing.xml").status_code == 404


@pytest.mark.parametrize(
    ("year", "sunday"),
    [
        (2024, date(2024, 3, 31)),
        (2025, date(2025, 4, 20)),
        (2026, date(2026, 4, 5)),
        (2038, date(2038, 4, 25)),
    ],
)
def test_easter(year: int, sunday: date) -> None:
    assert fx.easter_sunday(year) == sunday


def test_target_is_closed_on_six_days_and_weekends() -> None:
    open_days = fx.business_days(date(2026, 4, 1), date(2026, 4, 8))
    assert [day.day for day in open_days] == [1, 2, 7, 8]  # Good Friday, the weekend, Easter Monday
    assert date(2026, 5, 1) not in fx.business_days(date(2026, 4, 30), date(2026, 5, 4))
