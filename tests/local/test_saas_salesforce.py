"""Salesforce's double through simple-salesforce."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import requests
from simple_salesforce.api import Salesforce
from simple_salesforce.exceptions import (
    SalesforceAuthenticationFailed,
    SalesforceMalformedRequest,
    SalesforceRefusedRequest,
)

from local.saas import credentials, times
from local.saas.admin import Admin
from local.saas.server import Doubles, start
from tests.local import real_clients

ACCEPTED = credentials.SALESFORCE


@pytest.fixture(scope="module")
def doubles() -> Iterator[Doubles]:
    running = start(None)
    yield running
    running.stop()


@pytest.fixture
def admin(doubles: Doubles) -> Admin:
    admin = Admin(doubles.url("salesforce"))
    admin.reset()
    admin.forget_requests()
    return admin


@pytest.fixture
def org(doubles: Doubles, admin: Admin) -> Salesforce:
    return real_clients.salesforce(doubles.url("salesforce"))


def an_account(number: int, **fields: str) -> dict[str, str]:
    stamp = f"2026-10-01T08:{number // 60 % 60:02d}:{number % 60:02d}.000+0000"
    given = {
        "Id": f"001{number:015d}",
        "Name": f"Account {number}",
        "SystemModstamp": stamp,
        "CreatedDate": stamp,
    }
    return given | fields


def names(answer: Any) -> list[str]:
    return [record["Name"] for record in answer["records"]]


# Login ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "login",
    [
        pytest.param({}, id="SOAP: user, password, token"),
        pytest.param(
            {
                "consumer_key": ACCEPTED["client_id"],
                "consumer_secret": ACCEPTED["client_secret"],
                "domain": "acme.my",
            },
            id="OAuth: client credentials",
        ),
        pytest.param(
            {
                "username": ACCEPTED["username"],
                "password": ACCEPTED["password"] + ACCEPTED["security_token"],
                "consumer_key": ACCEPTED["client_id"],
                "consumer_secret": ACCEPTED["client_secret"],
            },
            id="OAuth: user and password",
        ),
    ],
)
def test_login(doubles: Doubles, admin: Admin, login: dict[str, str]) -> None:
    org = real_clients.salesforce(doubles.url("salesforce"), **login)
    assert org.query("SELECT COUNT() FROM Account")["totalSize"] == 0


@pytest.mark.parametrize(
    ("login", "code"),
    [
        pytest.param(
            {
                "username": ACCEPTED["username"],
                "password": "wrong",
                "security_token": ACCEPTED["security_token"],
            },
            "INVALID_LOGIN",
            id="SOAP",
        ),
        pytest.param(
            {"consumer_key": ACCEPTED["client_id"], "consumer_secret": "wrong", "domain": "acme.my"},
            "invalid_client",
            id="client secret",
        ),
        pytest.param(
            {"consumer_key": "wrong", "consumer_secret": ACCEPTED["client_secret"], "domain": "acme.my"},
            "invalid_client_id",
            id="client id",
        ),
        pytest.param(
            {
                "username": ACCEPTED["username"],
                "password": "wrong",
                "consumer_key": ACCEPTED["client_id"],
                "consumer_secret": ACCEPTED["client_secret"],
            },
            "invalid_grant",
            id="OAuth password",
        ),
        pytest.param(
            {
                "username": ACCEPTED["username"],
                "password": ACCEPTED["password"],
                "security_token": ACCEPTED["security_token"],
                "version": "65.0",
            },
            "INVALID_OPERATION",
            id="SOAP login after its retirement",
        ),
    ],
)
def test_login_refused(doubles: Doubles, admin: Admin, login: dict[str, str], code: str) -> None:
    with pytest.raises(SalesforceAuthenticationFailed) as failure:
        real_clients.salesforce(doubles.url("salesforce"), **login)
    assert failure.value.code == code


def test_password_with_characters_of_xml(doubles: Doubles, admin: Admin) -> None:
    admin.credentials("salesforce", {"password": "<a&b>\"'"})
    login = {name: ACCEPTED[name] for name in ("username", "security_token")} | {"password": "<a&b>\"'"}
    real_clients.salesforce(doubles.url("salesforce"), **login)


def test_an_expired_session_needs_a_new_login(doubles: Doubles, org: Salesforce, admin: Admin) -> None:
    session = org.session_id
    assert admin.expire_sessions() >= 1
    url = f"{doubles.url('salesforce')}/services/data/v59.0/query"
    ask = {"params": {"q": "SELECT Id FROM Lead"}, "headers": {"Authorization": f"Bearer {session}"}}
    assert requests.get(url, **ask).status_code == 401
    org._refresh_session()
    assert org.session_id != session
    assert org.query("SELECT COUNT() FROM Lead")["totalSize"] == 0


# Queries -------------------------------------------------------------------------------------------------------


def test_query_more_follows_locators_of_2000(org: Salesforce, admin: Admin) -> None:
    admin.load("salesforce", "Account", [an_account(n) for n in range(4_500)])
    first = org.query("SELECT Id, Name FROM Account ORDER BY SystemModstamp, Id")
    assert (first["totalSize"], first["done"], len(first["records"])) == (4_500, False, 2_000)
    assert first["nextRecordsUrl"].startswith(f"/services/data/v{org.sf_version}/query/01g")
    second = org.query_more(first["nextRecordsUrl"], identifier_is_url=True)
    third = org.query_more(second["nextRecordsUrl"], identifier_is_url=True)
    assert third["done"]
    assert "nextRecordsUrl" not in third
    found = names(first) + names(second) + names(third)
    assert len(set(found)) == 4_500
    assert len(names(org.query_all("SELECT Name FROM Account"))) == 4_500


def test_batches_can_be_asked_smaller(org: Salesforce, admin: Admin) -> None:
    admin.load("salesforce", "Account", [an_account(n) for n in range(500)])
    answer = org.query("SELECT Id FROM Account", headers={"Sforce-Query-Options": "batchSize=200"})
    assert len(answer["records"]) == 200


def test_a_locator_that_expired_is_refused(org: Salesforce, admin: Admin) -> None:
    admin.load("salesforce", "Account", [an_account(n) for n in range(2_001)])
    first = org.query("SELECT Id FROM Account")
    admin.expire_locators()
    with pytest.raises(SalesforceMalformedRequest) as failure:
        org.query_more(first["nextRecordsUrl"], identifier_is_url=True)
    assert failure.value.content[0]["errorCode"] == "INVALID_QUERY_LOCATOR"


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        pytest.param("SystemModstamp >= 2026-10-01T08:00:02Z", ["Account 2", "Account 3"], id=">="),
        pytest.param("SystemModstamp > 2026-10-01T08:00:02.000+00:00", ["Account 3"], id=">"),
        pytest.param("SystemModstamp < 2026-10-01T10:00:01+02:00", ["Account 0"], id="< with zone"),
        pytest.param("SystemModstamp <= 2026-10-01T08:00:00Z", ["Account 0"], id="<="),
        pytest.param(
            "SystemModstamp > 2026-10-01T08:00:00Z AND SystemModstamp < 2026-10-01T08:00:02Z",
            ["Account 1"],
            id="AND",
        ),
        pytest.param(
            "Name = 'account 1' OR (Name = 'Account 3' AND Type = null)", ["Account 1", "Account 3"], id="OR"
        ),
        pytest.param("NOT Name LIKE 'Account 1%'", ["Account 0", "Account 2", "Account 3"], id="NOT LIKE"),
        pytest.param("Name NOT IN ('Account 0', 'Account 1')", ["Account 2", "Account 3"], id="NOT IN"),
        pytest.param("Industry = 'O\\'Neill'", ["Account 2"], id="escaped quote"),
        pytest.param("IsDeleted = false", ["Account 0", "Account 1", "Account 2", "Account 3"], id="boolean"),
    ],
)
def test_conditions(org: Salesforce, admin: Admin, where: str, expected: list[str]) -> None:
    rows = [an_account(n) for n in range(4)]
    rows[2]["Industry"] = "O'Neill"
    admin.load("salesforce", "Account", rows)
    assert names(org.query(f"SELECT Name FROM Account WHERE {where} ORDER BY Id")) == expected


def test_order_limit_offset(org: Salesforce, admin: Admin) -> None:
    rows = [an_account(n, Industry="x" if n % 2 else "") for n in range(4)]
    admin.load("salesforce", "Account", rows)
    query = "select Name from account order by Industry DESC NULLS LAST, SystemModstamp desc limit 2 offset 1"
    assert names(org.query(query)) == ["Account 1", "Account 2"]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        pytest.param("SELECT Nope FROM Account", "INVALID_FIELD", id="unknown field"),
        pytest.param("SELECT Id FROM Nope", "INVALID_TYPE", id="unknown object"),
        pytest.param("SELECT Id FROM", "MALFORMED_QUERY", id="cut off"),
        pytest.param("SELECT Id, FROM Account", "MALFORMED_QUERY", id="comma"),
        pytest.param(
            "SELECT Id FROM Account WHERE SystemModstamp > '2026-10-01T00:00:00Z'",
            "INVALID_FIELD",
            id="quoted",
        ),
        pytest.param(
            "SELECT Id FROM Account WHERE SystemModstamp > 2026-10-01T00:00:00", "INVALID_FIELD", id="no zone"
        ),
        pytest.param("SELECT Id FROM Account; DROP", "MALFORMED_QUERY", id="what is no SOQL"),
    ],
)
def test_queries_refused(org: Salesforce, query: str, code: str) -> None:
    with pytest.raises(SalesforceMalformedRequest) as failure:
        org.query(query)
    assert failure.value.status == 400
    assert failure.value.content[0]["errorCode"] == code


def test_values_in_their_json_forms(org: Salesforce, admin: Admin) -> None:
    row = an_account(
        1, Name='Two\nLines "Ltd"', Type="", IsDeleted="false", CreatedDate="2026-01-02T03:04:05+02:00"
    )
    admin.load("salesforce", "Account", [row | {"SystemModstamp": "not a time", "Extra__c": "x"}])
    query = (
        "SELECT Name, Type, IsDeleted, CreatedDate, SystemModstamp, LastModifiedDate, Extra__c FROM Account"
    )
    (found,) = org.query(query)["records"]
    assert found.pop("attributes")["type"] == "Account"
    assert dict(found) == {
        "Name": 'Two\nLines "Ltd"',
        "Type": None,
        "IsDeleted": False,
        "CreatedDate": "2026-01-02T01:04:05.000+0000",
        "SystemModstamp": "not a time",
        "LastModifiedDate": "not a time",
        "Extra__c": "x",
    }


def test_describe_names_the_fields(org: Salesforce, admin: Admin) -> None:
    fields = {field["name"] for field in org.Lead.describe()["fields"]}
    assert {"Id", "ConvertedAccountId", "IsDeleted", "SystemModstamp"} <= fields


# Deletes -------------------------------------------------------------------------------------------------------


def test_deleted_rows_come_through_query_all_until_purged(org: Salesforce, admin: Admin) -> None:
    admin.load("salesforce", "Account", [an_account(1), an_account(2), an_account(3, IsDeleted="true")])
    admin.delete("salesforce", "Account", an_account(1)["Id"], at="2026-11-02T00:00:00.000+0000")
    assert names(org.query_all("SELECT Name FROM Account")) == ["Account 2"]
    everything = org.query_all("SELECT Name, IsDeleted FROM Account", include_deleted=True)
    assert {r["Name"]: r["IsDeleted"] for r in everything["records"]} == {
        "Account 1": True,
        "Account 2": False,
        "Account 3": True,
    }
    window = "SELECT Name FROM Account WHERE SystemModstamp > 2026-11-01T00:00:00Z"
    assert names(org.query_all(window, include_deleted=True)) == ["Account 1"]
    admin.delete("salesforce", "Account", an_account(1)["Id"], purge=True)
    assert names(org.query_all("SELECT Name FROM Account", include_deleted=True)) == [
        "Account 2",
        "Account 3",
    ]


def test_update_stamps_the_row(org: Salesforce, admin: Admin) -> None:
    admin.load("salesforce", "Account", [an_account(1)])
    admin.upsert(
        "salesforce", "Account", {"Id": an_account(1)["Id"], "Name": "New"}, at="2026-11-02T00:00:00.000+0000"
    )
    (found,) = org.query("SELECT Name, SystemModstamp, CreatedDate FROM Account")["records"]
    assert (found["Name"], found["SystemModstamp"]) == ("New", "2026-11-02T00:00:00.000+0000")
    assert found["CreatedDate"] == an_account(1)["CreatedDate"]


def test_a_transaction_shows_its_changes_when_it_ends(org: Salesforce, admin: Admin) -> None:
    now = times.now().replace(microsecond=0)
    start, stamp = now - timedelta(minutes=30), times.salesforce(now - timedelta(minutes=20))
    account: Any = org.Account
    admin.load("salesforce", "Account", [an_account(1)])
    admin.begin(times.salesforce(start))
    admin.upsert("salesforce", "Account", {"Id": an_account(1)["Id"], "Name": "New"}, at=stamp)

    before = account.updated(now - timedelta(hours=1), now)
    assert (before["ids"], times.parse(before["latestDateCovered"])) == ([], start)
    assert names(org.query("SELECT Name FROM Account")) == ["Account 1"]
    admin.commit()
    after = account.updated(now - timedelta(hours=1), now)
    assert after["ids"] == [an_account(1)["Id"]]
    assert times.parse(after["latestDateCovered"]) == now.replace(second=0)
    assert names(org.query("SELECT Name FROM Account")) == ["New"]


@pytest.mark.parametrize("minutes", [(0, 0), (60 * 24 * 31, 0), (-90, -120)])
def test_updated_takes_the_last_thirty_days(org: Salesforce, minutes: tuple[int, int]) -> None:
    start, end = (times.now() - timedelta(minutes=each) for each in minutes)
    account: Any = org.Account
    with pytest.raises(SalesforceMalformedRequest, match="INVALID_REPLICATION_DATE"):
        account.updated(start, end)


# Weather -------------------------------------------------------------------------------------------------------


def test_request_limit(org: Salesforce, admin: Admin) -> None:
    admin.fault("salesforce", match="/query", status=403)
    with pytest.raises(SalesforceRefusedRequest) as failure:
        org.query("SELECT Id FROM Account")
    assert failure.value.content == [
        {"message": "TotalRequests Limit exceeded.", "errorCode": "REQUEST_LIMIT_EXCEEDED"}
    ]
    org.query("SELECT Id FROM Account")


def test_without_a_session_nothing_is_told(doubles: Doubles) -> None:
    answer = requests.get(
        f"{doubles.url('salesforce')}/services/data/v59.0/query", params={"q": "SELECT Id FROM Lead"}
    )
    assert answer.status_code == 401
    assert answer.json() == [{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}]
