"""HubSpot contacts against the double, by the real client."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lakehouse import store as objects
from lakehouse.errors import CredentialsError, SourceError, SourceUnavailable
from lakehouse.landing import Manifest
from lakehouse.sources import hubspot
from lakehouse.sources.fields import source_fields
from lakehouse.sources.watermark import Watermark
from local.saas import times
from local.saas.hubspot import CONTACTS, HubSpot, archive, merge, rows_of_load, upsert
from local.saas.store import Store
from local.saas.web import Answer
from tests.sources.support import NOW, Server, Setup, a_run, serving

TOKEN = "pat-test"


def at(minutes_ago: float) -> str:
    return times.hubspot(NOW - timedelta(minutes=minutes_ago))


class Double:
    """HubSpot with contacts, and the settings that lead there."""

    service: HubSpot

    def __init__(self, setup: Setup, server: Server, contacts: Store) -> None:
        self.server, self.contacts = server, contacts
        self.setup = setup.with_source("hubspot", endpoint=server.url)
        self.setup.put_secret("hubspot", {"token": TOKEN})

    def load(self, *rows: dict[str, Any]) -> None:
        full = [
            {"createdate": "2020-01-01T00:00:00.000Z", "email": f"{row['id']}@example.com"} | row
            for row in rows
        ]
        self.contacts.load(CONTACTS, rows_of_load(full))

    def extract(self, run_id: str | None = None, since: datetime | None = None) -> Manifest:
        (manifest,) = hubspot.extract(
            self.setup.settings, run_id or a_run(), {"hubspot_contacts": Watermark(since)}
        )
        return manifest

    def ids(self, manifest: Manifest) -> list[str]:
        return [row["id"] for row in self.setup.rows(manifest)]

    def searches(self) -> int:
        return sum(request["path"].endswith("/search") for request in self.server.requests)


@pytest.fixture
def double(setup: Setup) -> Iterator[Double]:
    contacts = Store(None)
    service = HubSpot(contacts, lambda: TOKEN)
    with serving(service) as server:
        double = Double(setup, server, contacts)
        double.service = service
        yield double
    contacts.close()


def test_rows_land_as_received(double: Double) -> None:
    double.load(
        {"id": "1", "lastmodifieddate": at(5), "firstname": "Zoë \u2028", "phone": "", "company": "ACME\n"}
    )

    manifest = double.extract()

    (row,) = double.setup.rows(manifest)
    assert row.pop("_position")
    assert row == {
        "id": "1",
        "createdate": "2020-01-01T00:00:00.000Z",
        "lastmodifieddate": at(5),
        "email": "1@example.com",
        "firstname": "Zoë \u2028",
        "lastname": None,
        "phone": "",
        "company": "ACME\n",
        "lifecyclestage": None,
        "country": None,
        "salesforceaccountid": None,
        "archived": False,
        "merged_into": None,
    }
    assert manifest.window_from is None
    assert manifest.window_to == NOW - timedelta(minutes=5)
    assert manifest.fields == dict.fromkeys(source_fields("hubspot_contacts"), 1)


def test_half_a_surrogate_pair_lands_as_received(double: Double) -> None:
    double.load(
        {"id": "1", "lastmodifieddate": at(5), "firstname": "Zo\ud83d", "company": "\U0001f600\\ud83d"}
    )

    (row,) = double.setup.rows(double.extract())

    assert (row["firstname"], row["company"]) == ("Zo\ud83d", "\U0001f600\\ud83d")


def test_an_empty_source_lands_its_fields_and_moves_nothing(double: Double) -> None:
    since = NOW - timedelta(days=1)

    manifest = double.extract(since=since)

    assert (manifest.rows, manifest.window_to) == (0, since)
    assert manifest.fields == dict.fromkeys(source_fields("hubspot_contacts"), 0)


def test_a_window_reads_the_overlap_again(double: Double) -> None:
    since = NOW - timedelta(hours=1)
    double.load(
        {"id": "old", "lastmodifieddate": at(121)},
        {"id": "edge", "lastmodifieddate": at(120)},
        {"id": "new", "lastmodifieddate": at(1)},
    )

    manifest = double.extract(since=since)

    assert double.ids(manifest) == ["edge", "new"]
    assert manifest.window_from == since - timedelta(minutes=60)


def test_a_contact_from_the_future_lands_each_time_and_moves_the_watermark_to_the_run_at_most(
    double: Double,
) -> None:
    double.load(
        {"id": "1", "lastmodifieddate": at(5)}, {"id": "2", "lastmodifieddate": "2099-01-01T00:00:00.000Z"}
    )

    first = double.extract()
    second = double.extract(since=first.window_to)

    assert first.window_to == NOW
    assert double.ids(first) == ["1", "2"]
    assert double.ids(second) == ["1", "2"]  # 1 by the overlap


def test_the_watermark_never_goes_back(double: Double) -> None:
    double.load({"id": "1", "lastmodifieddate": at(61)})

    assert double.extract(since=NOW - timedelta(hours=1)).window_to == NOW - timedelta(hours=1)


def test_more_contacts_than_a_search_may_return(double: Double) -> None:
    double.setup = double.setup.with_source("hubspot", page_size=200)
    rows = [{"id": str(n), "lastmodifieddate": at(20_000 - n)} for n in range(10_450)]
    double.load(*rows)

    manifest = double.extract()

    assert double.ids(manifest) == [str(n) for n in range(10_450)]


@pytest.mark.parametrize("before", [0, 1, 5, 9, 10])
@pytest.mark.parametrize("together", [9, 10, 11, 20, 37])
def test_an_instant_shared_by_more_contacts_than_a_page(double: Double, before: int, together: int) -> None:
    double.setup = double.setup.with_source("hubspot", page_size=10)
    rows = [{"id": str(n), "lastmodifieddate": at(100 - n)} for n in range(before)]
    rows += [{"id": str(1000 - n), "lastmodifieddate": at(50)} for n in range(together)]
    rows += [{"id": str(2000 + n), "lastmodifieddate": at(49)} for n in range(3)]
    double.load(*rows)

    assert Counter(double.ids(double.extract())) == Counter(row["id"] for row in rows)


@pytest.mark.parametrize("copies", [2, 3])
@pytest.mark.parametrize("instants", [1, 4, 40])
def test_ids_that_a_double_holds_more_than_once_all_land(double: Double, copies: int, instants: int) -> None:
    double.setup = double.setup.with_source("hubspot", page_size=10)
    rows = [{"id": str(n), "lastmodifieddate": at(100 - n % instants)} for n in range(40)] * copies
    double.load(*rows)

    assert Counter(double.ids(double.extract())) == Counter(row["id"] for row in rows)


@pytest.mark.parametrize("edited", [1, 9, 10, 11, 30])
def test_a_contact_that_is_newer_than_its_place_in_the_index_hides_no_other(
    double: Double, edited: int
) -> None:
    """Wherever it stands in its page: the border of a page is an id, and no time."""
    double.setup = double.setup.with_source("hubspot", page_size=10)
    double.load(*[{"id": str(n), "lastmodifieddate": at(2000 - n)} for n in range(1, 31)])
    double.service.hold_index()
    upsert(double.contacts, {"id": str(edited), "email": "new@example.com"}, at(0.01))

    first = double.extract()

    rows = {row["id"]: row for row in double.setup.rows(first)}
    assert len(rows) == first.rows == 30
    assert rows[str(edited)]["email"] == "new@example.com"


def test_changes_that_are_indexed_late_are_read_by_the_next_run(double: Double) -> None:
    """An edit of before the run, of which the index learns after it: neither seen nor stepped over."""
    double.load({"id": "1", "lastmodifieddate": at(3000)}, {"id": "2", "lastmodifieddate": at(1)})
    double.service.hold_index()
    upsert(double.contacts, {"id": "1", "email": "new@example.com"}, at(50))
    upsert(double.contacts, {"id": "3", "email": "3@example.com"}, at(50))
    first = double.extract(since=NOW - timedelta(hours=2))
    assert double.ids(first) == ["2"]
    double.service.catch_up()

    assert double.ids(double.extract(since=first.window_to)) == ["1", "2", "3"]


def test_contacts_that_are_gone_leave_pages_short_and_end_nothing(double: Double) -> None:
    """Whole pages of them as well: the index may be wrong for a while, the run is repeated then."""
    double.setup = double.setup.with_source("hubspot", page_size=10)
    double.load(*[{"id": str(n), "lastmodifieddate": at(2000 - n)} for n in range(1, 51)])
    double.service.hold_index()
    archive(double.contacts, "10", at(1))
    for gone in (*range(3, 8), *range(20, 29)):
        double.contacts.remove(CONTACTS, str(gone))

    manifest = double.extract()

    live = {row["id"] for row in double.setup.rows(manifest) if not row["archived"]}
    assert live == {str(n) for n in range(1, 51)} - {"10", *map(str, range(3, 8)), *map(str, range(20, 29))}

    for gone in range(8, 20):
        double.contacts.remove(CONTACTS, str(gone))
    with pytest.raises(SourceUnavailable, match="expected ids further on"):
        double.extract()


def test_pages_out_of_order_and_contacts_named_again_pass(
    double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    double.setup = double.setup.with_source("hubspot", page_size=10)
    double.load(*[{"id": str(n), "lastmodifieddate": at(2000 - n)} for n in range(1, 41)])
    search = double.service._search

    def shuffled(body: dict[str, Any]) -> Answer:
        answer = json.loads(search(body).body)
        found = answer["results"]
        answer["results"] = [*found[1::2], *found[:1], *found[::2]]
        return Answer.of(answer)

    monkeypatch.setattr(double.service, "_search", shuffled)

    assert set(double.ids(double.extract())) == {str(n) for n in range(1, 41)}


def test_a_contact_that_changes_while_pages_are_read_hides_no_other(double: Double) -> None:
    double.setup = double.setup.with_source("hubspot", page_size=10)
    double.load(*[{"id": str(n), "lastmodifieddate": at(100 - n)} for n in range(30)])
    double.server.fault(service="hubspot", kind="slow", match="/search", skip=1, delay_s=0.5)
    change = threading.Timer(0.2, lambda: upsert(double.contacts, {"id": "20"}, at(1)))
    change.start()

    found = Counter(double.ids(double.extract()))
    change.join()

    assert set(found) == {str(n) for n in range(30)}


def test_a_run_dated_ahead_sets_no_watermark_beyond_the_reading(double: Double) -> None:
    """Else what changes between the two would be stepped over."""
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    double.load({"id": "1", "lastmodifieddate": "2099-01-01T00:00:00.000Z"})

    manifest = double.extract(a_run(tomorrow))

    assert manifest.window_to is not None
    assert manifest.window_to <= datetime.now(UTC)


@pytest.mark.parametrize("page_size", [2, 3, 100])
def test_an_id_is_any_text(double: Double, page_size: int) -> None:
    double.setup = double.setup.with_source("hubspot", page_size=page_size)
    ids = [
        "⁰⁴⁵",
        "٤٥",
        "45",
        "045",
        "-1",
        "1e3",
        "9" * 5000,
        "",
        " ",
        "a;b",
        "Ⅷ",
        "\U0001f600",
        "a\n\tb",
        "%",
        "½",
    ]
    double.load(*[{"id": each, "lastmodifieddate": at(5)} for each in ids])

    assert sorted(double.ids(double.extract())) == sorted(ids)


def test_a_backfill_reads_the_data_and_not_the_index(double: Double) -> None:
    since, until = NOW - timedelta(days=2), NOW - timedelta(days=1)
    double.load({"id": "1", "lastmodifieddate": at(9000)}, {"id": "2", "lastmodifieddate": at(10)})
    double.service.hold_index()
    upsert(double.contacts, {"id": "1", "email": "new@example.com"}, times.hubspot(since))
    upsert(double.contacts, {"id": "3"}, times.hubspot(until))
    archive(double.contacts, "2", times.hubspot(until - timedelta(milliseconds=1)))
    double.load({"id": "4", "lastmodifieddate": "yesterday"})

    (manifest,) = hubspot.backfill(double.setup.settings, a_run(), since, until)

    assert double.ids(manifest) == ["1", "4"]
    assert manifest.window_to is None


def test_no_modification_time_is_too_old(double: Double) -> None:
    double.setup = double.setup.with_source("hubspot", page_size=2)
    times_of = ("0001-01-01T00:00:00.000Z", "1969-07-20T20:17:40.000Z", "1969-07-20T20:17:40.000Z", at(5))
    double.load(*[{"id": str(n), "lastmodifieddate": time} for n, time in enumerate(times_of)])

    assert double.ids(double.extract()) == ["0", "1", "2", "3"]


def test_unreadable_modification_times_land_as_they_are(double: Double) -> None:
    double.setup = double.setup.with_source("hubspot", page_size=2)
    rows = [{"id": str(n), "lastmodifieddate": at(9 - n)} for n in range(5)]
    double.load(*rows, {"id": "bad", "lastmodifieddate": "yesterday"}, {"id": "none", "lastmodifieddate": ""})

    landed = {row["id"]: row["lastmodifieddate"] for row in double.setup.rows(double.extract())}

    assert landed == {row["id"]: row["lastmodifieddate"] for row in rows} | {"bad": "yesterday", "none": ""}


def test_archived_contacts_are_swept_and_dated_by_their_archiving(double: Double) -> None:
    double.load(
        {"id": "live", "lastmodifieddate": at(3)},
        *[{"id": str(n), "lastmodifieddate": at(30), "archived": "true"} for n in range(150)],
        {"id": "long gone", "lastmodifieddate": at(300), "archived": "true"},
    )

    manifest = double.extract(since=NOW - timedelta(hours=1))

    rows = double.setup.rows(manifest)
    assert [row["archived"] for row in rows] == [False] + [True] * 150
    assert "long gone" not in {row["id"] for row in rows}


def test_archiving_is_a_modification(double: Double) -> None:
    """Else the archived state would share its key with the last live one, and chance would decide between them."""
    double.load({"id": "1", "lastmodifieddate": at(30)})
    record = double.contacts.with_id(CONTACTS, "1")[0]
    double.contacts.put(CONTACTS, "1", record.modified_ms + 60_000, record.fields | {"archived": "true"})

    (row,) = double.setup.rows(double.extract())

    assert (row["archived"], row["lastmodifieddate"]) == (True, at(29))


def test_merged_contacts_point_to_the_survivor(double: Double) -> None:
    double.load(*[{"id": str(n), "lastmodifieddate": at(300)} for n in (1, 2, 3)])
    survivor = merge(double.contacts, "1", "2", at(5), "77", keep_primary=False)

    rows = {row["id"]: row for row in double.setup.rows(double.extract(since=NOW - timedelta(minutes=15)))}

    assert survivor == "77"
    assert {
        id_: (row["archived"], row["merged_into"], row["lastmodifieddate"]) for id_, row in rows.items()
    } == {
        "77": (False, None, at(5)),
        "1": (True, "77", at(5)),
        "2": (True, "77", at(5)),
    }
    assert rows["1"].get("email") is None


def test_a_landed_run_asks_the_source_nothing(double: Double) -> None:
    double.load({"id": "1", "lastmodifieddate": at(5)})
    run_id = a_run()
    first = double.extract(run_id)
    asked = len(double.server.requests)

    assert double.extract(run_id) == first
    assert len(double.server.requests) == asked


def test_a_crash_before_the_manifest_leaves_nothing_behind_that_counts(
    double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    double.load({"id": "1", "lastmodifieddate": at(5)})
    run_id = a_run()
    with monkeypatch.context() as patch:

        def crash(uri: str, body: bytes, **_: Any) -> bool:
            raise KeyboardInterrupt

        patch.setattr(objects, "put_if_absent", crash)
        with pytest.raises(KeyboardInterrupt):
            double.extract(run_id)
    assert len(double.setup.landed_keys()) == 1
    double.load({"id": "2", "lastmodifieddate": at(4)})

    manifest = double.extract(run_id)

    assert double.ids(manifest) == ["1", "2"]
    assert len(double.setup.landed_keys()) == 3  # the orphan, a part, the manifest


def test_two_extractions_of_one_run_agree_on_one_manifest(double: Double) -> None:
    double.load(*[{"id": str(n), "lastmodifieddate": at(5)} for n in range(20)])
    run_id = a_run()

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: double.extract(run_id), range(2))

    assert first == second
    assert len(double.ids(first)) == 20


def test_bad_weather_passes(double: Double) -> None:
    double.load(*[{"id": str(n), "lastmodifieddate": at(50 - n)} for n in range(30)])
    double.setup = double.setup.with_source("hubspot", page_size=10)
    double.server.fault(service="hubspot", match="/search", status=429, retry_after="0")
    double.server.fault(service="hubspot", match="/search", skip=1, times=2, status=500)
    double.server.fault(service="hubspot", match="/search", skip=1, kind="drop")
    double.server.fault(service="hubspot", match="/search", skip=2, kind="cut")
    double.server.fault(service="hubspot", match="GET", status=423, retry_after="0")
    double.server.fault(service="hubspot", match="GET", status=477, retry_after="0")

    assert double.ids(double.extract()) == [str(n) for n in range(30)]
    assert len([request for request in double.server.requests if request["fault"]]) == 7


def test_retry_after_is_waited_for(double: Double) -> None:
    double.server.fault(service="hubspot", match="/search", status=429, retry_after="1")

    double.extract()

    first, second = [
        request["at"] for request in double.server.requests if request["path"].endswith("/search")
    ]
    assert second - first >= 1


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"status": 500, "times": 0}, id="500 for good"),
        pytest.param({"status": 429, "times": 0, "retry_after": "3600"}, id="429 for an hour"),
        pytest.param({"kind": "drop", "times": 0}, id="no answer"),
    ],
)
def test_weather_that_stays_bad_is_transient_and_lands_nothing(double: Double, fault: dict[str, Any]) -> None:
    double.load({"id": "1", "lastmodifieddate": at(5)})
    double.server.fault(service="hubspot", match="/search", **fault)

    with pytest.raises(SourceUnavailable):
        double.extract()

    assert double.setup.landed_keys() == []


def test_a_source_that_hangs_is_left_alone_in_time(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubspot, "_TIMEOUT", (0.2, 0.2))
    double.server.fault(service="hubspot", kind="timeout", match="/search", delay_s=0.5)

    assert double.extract().rows == 0

    double.server.fault(service="hubspot", kind="timeout", match="/search", delay_s=0.5, times=0)
    with pytest.raises(SourceUnavailable):
        double.extract()


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_are_terminal_at_once(double: Double, status: int) -> None:
    double.server.fault(service="hubspot", status=status, times=0)

    with pytest.raises(CredentialsError) as refused:
        double.extract()

    assert double.searches() == 1
    assert double.setup.secret("hubspot") in refused.value.hint
    assert TOKEN not in str(refused.value) + refused.value.hint


def test_a_wrong_token_is_refused(double: Double) -> None:
    double.setup.put_secret("hubspot", {"token": "wrong"})

    with pytest.raises(CredentialsError):
        double.extract()


def test_a_request_that_is_refused_for_good_is_terminal(double: Double) -> None:
    double.server.fault(service="hubspot", status=400)

    with pytest.raises(SourceError):
        double.extract()

    assert double.searches() == 1


def test_times_are_utc(double: Double) -> None:
    double.load({"id": "1", "lastmodifieddate": "2026-11-20T07:30:00.000+02:00"})

    assert double.extract().window_to == datetime(2026, 11, 20, 5, 30, tzinfo=UTC)
