"""HubSpot's double through HubSpot's own client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hubspot.crm.contacts import ApiException, BatchReadInputSimplePublicObjectId

from local.saas.admin import Admin, AdminError
from local.saas.server import Doubles, start
from tests.local import real_clients


@pytest.fixture(scope="module")
def doubles() -> Iterator[Doubles]:
    running = start(None)
    yield running
    running.stop()


@pytest.fixture
def admin(doubles: Doubles) -> Admin:
    admin = Admin(doubles.url("hubspot"))
    admin.reset()
    admin.forget_requests()
    return admin


@pytest.fixture
def contacts(doubles: Doubles, admin: Admin) -> Any:
    return real_clients.hubspot(doubles.url("hubspot"))


def a_contact(number: int, **fields: str) -> dict[str, str]:
    stamp = f"2026-10-{1 + number % 28:02d}T08:00:00.{number % 1000:03d}Z"
    given = {
        "id": str(number),
        "createdate": stamp,
        "lastmodifieddate": stamp,
        "email": f"c{number}@example.com",
    }
    return given | fields


def search(contacts: Any, **request: Any) -> Any:
    return contacts.search_api.do_search(request)


def by_time(operator: str, value: object, **more: object) -> dict[str, Any]:
    return {
        "filters": [{"propertyName": "lastmodifieddate", "operator": operator, "value": str(value), **more}]
    }


def refused(call: Any) -> ApiException:
    with pytest.raises(ApiException) as failure:
        call()
    return failure.value


# Search --------------------------------------------------------------------------------------------------------


def test_search_pages_to_the_cap_and_refuses_beyond(contacts: Any, admin: Admin) -> None:
    admin.load("hubspot", "contacts", [a_contact(n) for n in range(10_050)])
    sort = [{"propertyName": "hs_object_id", "direction": "ASCENDING"}]
    first = search(contacts, limit=200, sorts=sort)
    assert first.total == 10_050
    assert [c.id for c in first.results[:3]] == ["0", "1", "2"]  # ids by value, not by text
    last = search(contacts, limit=200, sorts=sort, after="9800")
    assert last.results[-1].id == "9999"
    assert last.paging.next.after == "10000"

    error = refused(lambda: search(contacts, limit=200, sorts=sort, after=last.paging.next.after))
    assert error.status == 400
    assert '"category": "VALIDATION_ERROR"' in error.body

    rest = search(
        contacts,
        limit=200,
        sorts=sort,
        filterGroups=[{"filters": [{"propertyName": "hs_object_id", "operator": "GT", "value": "9999"}]}],
    )
    assert rest.total == 50


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        pytest.param(by_time("GT", 1791187200001), ["2", "3"], id="GT"),
        pytest.param(by_time("GTE", 1791187200001), ["1", "2", "3"], id="GTE"),
        pytest.param(by_time("LT", 1791187200001), ["0"], id="LT"),
        pytest.param(by_time("LTE", 1791187200001), ["0", "1"], id="LTE"),
        pytest.param(by_time("EQ", 1791187200001), ["1"], id="EQ"),
        pytest.param(by_time("BETWEEN", 1791187200001, highValue="1791187200002"), ["1", "2"], id="BETWEEN"),
        pytest.param(by_time("GTE", "2026-10-05T08:00:00.002Z"), ["2", "3"], id="ISO time"),
        pytest.param(
            {"filters": [{"propertyName": "email", "operator": "IN", "values": ["C3@example.com"]}]},
            ["3"],
            id="IN",
        ),
        pytest.param(
            {"filters": [{"propertyName": "company", "operator": "HAS_PROPERTY"}]}, ["2"], id="HAS_PROPERTY"
        ),
    ],
)
def test_search_filters(contacts: Any, admin: Admin, group: dict[str, Any], expected: list[str]) -> None:
    rows = [a_contact(n, lastmodifieddate=f"2026-10-05T08:00:00.00{n}Z") for n in range(4)]
    rows[2]["company"] = "Zażółć"
    admin.load("hubspot", "contacts", rows)
    for sort in ("lastmodifieddate", "hs_object_id"):
        found = search(contacts, filterGroups=[group], sorts=[{"propertyName": sort}])
        assert [c.id for c in found.results] == expected, f"sorted by {sort}"


def test_search_joins_groups_by_or_and_filters_by_and(contacts: Any, admin: Admin) -> None:
    admin.load("hubspot", "contacts", [a_contact(n, country="FR" if n % 2 else "DE") for n in range(6)])
    country = {"propertyName": "country", "operator": "EQ", "value": "DE"}
    least = {"propertyName": "hs_object_id", "operator": "GTE", "value": "2"}
    five = {"propertyName": "hs_object_id", "operator": "EQ", "value": "5"}
    found = search(contacts, filterGroups=[{"filters": [country, least]}, {"filters": [five]}])
    assert [c.id for c in found.results] == ["2", "4", "5"]


def test_search_sorts_downwards(contacts: Any, admin: Admin) -> None:
    admin.load("hubspot", "contacts", [a_contact(n) for n in (2, 10, 9)])
    found = search(contacts, sorts=[{"propertyName": "hs_object_id", "direction": "DESCENDING"}])
    assert [c.id for c in found.results] == ["10", "9", "2"]


@pytest.mark.parametrize(
    "request_body",
    [
        pytest.param({"limit": 201}, id="page too large"),
        pytest.param(
            {"sorts": [{"propertyName": "email"}, {"propertyName": "hs_object_id"}]}, id="two sorts"
        ),
        pytest.param({"filterGroups": [by_time("GT", 0)] * 6}, id="six groups"),
        pytest.param({"filterGroups": [{"filters": by_time("GT", 0)["filters"] * 7}]}, id="seven filters"),
        pytest.param({"filterGroups": [by_time("NEAR", 0)]}, id="unknown operator"),
        pytest.param({"after": "abc"}, id="no cursor of ours"),
    ],
)
def test_search_refuses_what_hubspot_refuses(contacts: Any, request_body: dict[str, Any]) -> None:
    assert refused(lambda: search(contacts, **request_body)).status == 400


# Reading -------------------------------------------------------------------------------------------------------


def test_list_pages_live_and_archived_apart(contacts: Any, admin: Admin) -> None:
    admin.load(
        "hubspot", "contacts", [a_contact(n, archived="true" if n % 5 == 0 else "false") for n in range(300)]
    )
    seen: list[str] = []
    after = None
    while True:
        page = contacts.basic_api.get_page(limit=100, after=after)
        seen += [c.id for c in page.results]
        if page.paging is None:
            break
        after = page.paging.next.after
    assert seen == [str(n) for n in range(300) if n % 5]
    archived = contacts.basic_api.get_page(limit=100, archived=True).results
    assert [c.id for c in archived] == [str(n) for n in range(0, 300, 5)]
    assert all(c.archived and c.archived_at for c in archived)
    assert search(contacts, limit=1).total == 240  # a search never shows archived ones


def test_list_takes_at_most_100(contacts: Any) -> None:
    assert refused(lambda: contacts.basic_api.get_page(limit=101)).status == 400


def test_cells_arrive_as_they_are(contacts: Any, admin: Admin) -> None:
    text = 'The "Quoted"\nTwo lines, Ltd \\N \U00020bb7'
    admin.load("hubspot", "contacts", [a_contact(1, company=text, phone="", firstname="Zoe\u0308")])
    found = contacts.basic_api.get_by_id("1", properties=["company", "phone", "firstname", "fax"]).properties
    assert found["company"] == text
    assert found["firstname"] == "Zoe\u0308"
    assert found["phone"] == ""
    assert found["fax"] is None


def test_two_rows_of_one_id_both_arrive(contacts: Any, admin: Admin) -> None:
    admin.load(
        "hubspot", "contacts", [a_contact(7, company="one"), a_contact(7, company="two"), a_contact(8)]
    )
    assert [c.id for c in contacts.basic_api.get_page(limit=2).results] == ["7", "7"]
    assert [c.id for c in search(contacts).results] == ["7", "7", "8"]


def test_a_modification_time_that_is_none_is_still_found_by_time(contacts: Any, admin: Admin) -> None:
    admin.load("hubspot", "contacts", [a_contact(1), a_contact(2, lastmodifieddate="yesterday")])
    found = search(contacts, filterGroups=[by_time("GTE", "2026-10-02T00:00:00Z")])
    assert {c.id: c.properties["lastmodifieddate"] for c in found.results}["2"] == "yesterday"


def test_batch_read_names_what_it_did_not_find(contacts: Any, admin: Admin) -> None:
    admin.load("hubspot", "contacts", [a_contact(1), a_contact(2)])
    request = BatchReadInputSimplePublicObjectId(
        inputs=[{"id": "1"}, {"id": "99"}], properties=["email"], properties_with_history=[]
    )
    answer = contacts.batch_api.read(request)
    assert [c.id for c in answer.results] == ["1"]
    assert answer.errors[0].context == {"ids": ["99"]}


def test_unknown_contact_is_not_found(contacts: Any) -> None:
    assert refused(lambda: contacts.basic_api.get_by_id("404")).status == 404


# Changes -------------------------------------------------------------------------------------------------------


def test_update_moves_the_modification_time(contacts: Any, admin: Admin) -> None:
    admin.load("hubspot", "contacts", [a_contact(1), a_contact(2)])
    admin.upsert("hubspot", "contacts", {"id": "1", "phone": "+49 30"}, at="2026-11-02T00:00:00.000Z")
    found = search(
        contacts, filterGroups=[by_time("GT", "2026-11-01T00:00:00Z")], properties=["phone", "email"]
    )
    assert [(c.id, c.properties["phone"], c.properties["email"]) for c in found.results] == [
        ("1", "+49 30", "c1@example.com")
    ]


def test_the_search_is_an_index_that_learns_of_changes_late(contacts: Any, admin: Admin) -> None:
    admin.load("hubspot", "contacts", [a_contact(n) for n in range(1, 6)])
    admin.hold_index()
    admin.upsert("hubspot", "contacts", {"id": "1", "phone": "+49 30"}, at="2026-11-02T00:00:00.000Z")
    admin.upsert("hubspot", "contacts", {"id": "6"}, at="2026-11-02T00:00:00.000Z")
    admin.delete("hubspot", "contacts", "2", purge=True)
    admin.delete("hubspot", "contacts", "3")
    new = {"filterGroups": [by_time("GT", "2026-11-01T00:00:00Z")]}

    assert search(contacts, **new).total == 0
    found = search(
        contacts, sorts=[{"propertyName": "lastmodifieddate"}], properties=["phone"], limit=3, after="0"
    )
    # At its old place with its new values; what is gone is left out of the page, not of the count.
    assert [(c.id, c.properties["phone"]) for c in found.results] == [("1", "+49 30")]
    assert (found.total, found.paging.next.after) == (5, "3")
    assert {c.id for c in contacts.basic_api.get_page().results} == {"1", "4", "5", "6"}
    admin.hold_index(False)
    assert [c.id for c in search(contacts, **new).results] == ["1", "6"]


def test_archiving_leaves_the_modification_time(contacts: Any, admin: Admin) -> None:
    admin.load("hubspot", "contacts", [a_contact(1)])
    admin.delete("hubspot", "contacts", "1", at="2026-11-02T03:00:00.000Z")
    (gone,) = contacts.basic_api.get_page(archived=True).results
    assert gone.properties["lastmodifieddate"] == a_contact(1)["lastmodifieddate"]
    assert gone.archived_at.isoformat() == "2026-11-02T03:00:00+00:00"
    assert search(contacts).total == 0


def test_purged_contact_is_gone_without_a_trace(contacts: Any, admin: Admin) -> None:
    admin.load("hubspot", "contacts", [a_contact(1)])
    admin.delete("hubspot", "contacts", "1", purge=True)
    assert contacts.basic_api.get_page(archived=True).results == []
    assert search(contacts).total == 0
    with pytest.raises(AdminError, match="no hubspot contacts '1'"):
        admin.delete("hubspot", "contacts", "1")


def test_merge_makes_a_new_contact_that_old_ids_lead_to(contacts: Any, admin: Admin) -> None:
    admin.load(
        "hubspot", "contacts", [a_contact(1, company="kept"), a_contact(2, company="lost"), a_contact(3)]
    )
    survivor = admin.merge("1", "2", at="2026-11-02T00:00:00.000Z")
    assert survivor not in {"1", "2", "3"}
    assert {c.id for c in contacts.basic_api.get_page().results} == {"3", survivor}
    wanted = ["company", "hs_merged_object_ids"]
    for old in ("1", "2"):
        found = contacts.basic_api.get_by_id(old, properties=wanted)
        assert found.id == survivor
        assert found.properties["company"] == "kept"
        assert found.properties["hs_merged_object_ids"] == "1;2"
    changed = search(contacts, filterGroups=[by_time("GT", "2026-11-01T00:00:00Z")])
    assert [c.id for c in changed.results] == [survivor]


def test_merged_contacts_of_a_file_show_on_their_last_survivor(contacts: Any, admin: Admin) -> None:
    rows = [
        a_contact(1),
        a_contact(2, merged_into="3"),
        a_contact(3, merged_into="1"),
        a_contact(4, merged_into="9"),
    ]
    admin.load("hubspot", "contacts", rows)
    listed = contacts.basic_api.get_page(properties=["hs_merged_object_ids"]).results
    assert {c.id: c.properties["hs_merged_object_ids"] for c in listed} == {"1": "2;3", "4": None}
    assert contacts.basic_api.get_by_id("2").id == "1"


def test_an_older_state_does_not_replace_a_newer_one(contacts: Any, admin: Admin) -> None:
    admin.load("hubspot", "contacts", [a_contact(1, company="new")])
    older = a_contact(1, company="old", lastmodifieddate="2026-09-01T00:00:00.000Z")
    admin.load("hubspot", "contacts", [older])
    found = search(contacts, properties=["company"], sorts=[{"propertyName": "lastmodifieddate"}])
    assert [c.properties["company"] for c in found.results] == ["old", "new"]
    assert contacts.basic_api.get_by_id("1", properties=["company"]).properties["company"] == "new"
    admin.load(
        "hubspot", "contacts", [a_contact(1, company="newest", lastmodifieddate="2026-11-01T00:00:00.000Z")]
    )
    assert [c.properties["company"] for c in search(contacts, properties=["company"]).results] == ["newest"]


# Weather -------------------------------------------------------------------------------------------------------


def test_wrong_token_is_refused(doubles: Doubles, admin: Admin) -> None:
    error = refused(lambda: real_clients.hubspot(doubles.url("hubspot"), token="wrong").basic_api.get_page())
    assert error.status == 401
    assert '"category": "INVALID_AUTHENTICATION"' in error.body


def test_accepted_token_can_change(contacts: Any, doubles: Doubles, admin: Admin) -> None:
    admin.credentials("hubspot", {"token": "renewed"})
    assert refused(lambda: contacts.basic_api.get_page()).status == 401
    real_clients.hubspot(doubles.url("hubspot"), token="renewed").basic_api.get_page()
    admin.credentials("hubspot", None)
    contacts.basic_api.get_page()


def test_rate_limit_on_a_schedule(contacts: Any, admin: Admin) -> None:
    admin.fault(
        "hubspot", match="POST .*/search", skip=1, times=2, status=429, retry_after="3", policy="SECONDLY"
    )
    search(contacts)
    for _ in range(2):
        error = refused(lambda: search(contacts))
        assert error.status == 429
        assert error.headers["Retry-After"] == "3"
        assert '"policyName": "SECONDLY"' in error.body
        contacts.basic_api.get_page()  # another path is not hit
    search(contacts)
    statuses = [entry["status"] for entry in admin.requests("hubspot") if entry["path"].endswith("/search")]
    assert statuses == [200, 429, 429, 200]


def test_every_third_request_fails(contacts: Any, admin: Admin) -> None:
    admin.fault("hubspot", times=0, every=3, status=500)
    outcomes = []
    for _ in range(6):
        try:
            contacts.basic_api.get_page()
            outcomes.append(200)
        except ApiException as error:
            outcomes.append(error.status)
    assert outcomes == [200, 200, 500, 200, 200, 500]
    admin.clear_faults()
    assert admin.faults() == []


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"kind": "drop"}, id="connection dropped"),
        pytest.param({"kind": "cut"}, id="half an answer"),
        pytest.param({"kind": "timeout", "delay_s": 0.2}, id="no answer"),
    ],
)
def test_broken_answers(contacts: Any, admin: Admin, fault: dict[str, Any]) -> None:
    admin.fault("hubspot", **fault)
    with pytest.raises(Exception, match=r"(?i)connection|IncompleteRead|Max retries"):
        contacts.basic_api.get_page()
    contacts.basic_api.get_page()


def test_a_fault_that_is_misspelt_is_refused(admin: Admin) -> None:
    with pytest.raises(AdminError, match="unknown fault settings"):
        admin.fault("hubspot", stauts=500)
