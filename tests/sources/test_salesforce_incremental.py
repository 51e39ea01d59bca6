"""Salesforce accounts and leads, window after window, against the double by the real client."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lakehouse import store as objects
from lakehouse.errors import ContractViolation, CredentialsError, SourceError, SourceUnavailable
from lakehouse.landing import Manifest
from lakehouse.sources import salesforce
from lakehouse.sources.fields import source_fields
from lakehouse.sources.watermark import Watermark
from local.saas import times
from local.saas.salesforce import Salesforce, collection, rows_of_load, upsert
from local.saas.store import Store
from tests.sources.support import NOW, Server, Setup, a_run, serving

CREDENTIALS = {
    "username": "pipeline@example.com",
    "password": "a&<b>'\"ü",
    "security_token": "Token",
    "client_id": "app",
    "client_secret": "app-secret",
    "instance_url": "https://acme.my.salesforce.com",
}


def at(minutes_ago: float) -> str:
    return times.salesforce(NOW - timedelta(minutes=minutes_ago))


class Double:
    """Salesforce with records, and the settings that lead there."""

    def __init__(self, setup: Setup, server: Server, records: Store, service: Salesforce) -> None:
        self.server, self.records, self.service = server, records, service
        self.setup = setup.with_source("salesforce", endpoint=server.url)
        self.setup.put_secret("salesforce", CREDENTIALS)

    def load(self, name: str, *rows: dict[str, Any]) -> None:
        full = [{"CreatedDate": at(100_000), "Name": "ACME"} | row for row in rows]
        self.records.load(collection(name), rows_of_load(name, full))

    def extract(
        self, run_id: str | None = None, accounts: datetime | None = None, leads: datetime | None = None
    ) -> tuple[Manifest, Manifest]:
        watermarks = {"salesforce_accounts": Watermark(accounts), "salesforce_leads": Watermark(leads)}
        first, second = salesforce.extract(self.setup.settings, run_id or a_run(), watermarks)
        return first, second

    def ids(self, manifest: Manifest) -> list[str]:
        return [row["Id"] for row in self.setup.rows(manifest)]

    def asked(self, path: str) -> int:
        return sum(path in request["path"] for request in self.server.requests)


@pytest.fixture
def double(setup: Setup) -> Iterator[Double]:
    records = Store(None)
    service = Salesforce(records, lambda: CREDENTIALS)
    with serving(service) as server:
        yield Double(setup, server, records, service)
    records.close()


def test_both_objects_land_as_received(double: Double) -> None:
    double.load(
        "Account", {"Id": "001A", "SystemModstamp": at(5), "Phone": "", "BillingCountry": "Österreich \ud83d"}
    )
    double.load(
        "Lead", {"Id": "00QA", "SystemModstamp": at(4), "IsConverted": "true", "Email": "a@example.com"}
    )

    accounts, leads = double.extract()

    (account,) = double.setup.rows(accounts)
    assert account.pop("_position")
    assert account == {
        "Id": "001A",
        "Name": "ACME",
        "Type": None,
        "Industry": None,
        "BillingCountry": "Österreich \ud83d",
        "Phone": None,
        "Website": None,
        "IsDeleted": False,
        "CreatedDate": at(100_000),
        "LastModifiedDate": at(5),
        "SystemModstamp": at(5),
    }
    (lead,) = double.setup.rows(leads)
    assert (lead["IsConverted"], lead["Email"]) == (True, "a@example.com")
    assert accounts.window_to == NOW - timedelta(minutes=5)
    assert leads.window_to == NOW - timedelta(minutes=4)
    assert set(leads.fields) == set(source_fields("salesforce_leads"))


def test_each_window_goes_on_from_its_own_watermark(double: Double) -> None:
    double.load("Account", *[{"Id": f"a{n}", "SystemModstamp": at(n)} for n in (121, 120, 69, 1)])
    double.load("Lead", *[{"Id": f"l{n}", "SystemModstamp": at(n)} for n in (90, 80, 1)])

    accounts, leads = double.extract(accounts=NOW - timedelta(hours=1), leads=NOW - timedelta(minutes=20))

    assert double.ids(accounts) == ["a120", "a69", "a1"]
    assert double.ids(leads) == ["l80", "l1"]
    assert accounts.window_from == NOW - timedelta(minutes=120)


def test_the_second_day_reads_changes_only(double: Double) -> None:
    double.load("Account", *[{"Id": f"a{n}", "SystemModstamp": at(1000 + n)} for n in range(50)])
    first, _ = double.extract()
    assert first.rows == 50
    upsert(double.records, "Account", {"Id": "a49", "Name": "New name"}, at(2))

    second, _ = double.extract(accounts=first.window_to)

    names = {row["Id"]: row["Name"] for row in double.setup.rows(second)}
    assert names["a49"] == "New name"
    assert len(names) == 50  # and the overlap of an hour


def test_a_change_that_is_committed_late_is_read_by_the_next_run(double: Double) -> None:
    """Stamped long before the newest record that the first run saw, by a transaction that was at work all the while."""
    double.load("Account", {"Id": "1", "SystemModstamp": at(3000)}, {"Id": "2", "SystemModstamp": at(1)})
    double.service.begin(at(300))
    upsert(double.records, "Account", {"Id": "1", "Name": "New name"}, at(290))
    upsert(double.records, "Account", {"Id": "3", "Name": "New"}, at(3))
    first, _ = double.extract(accounts=NOW - timedelta(hours=6))
    assert double.ids(first) == ["2"]
    assert first.window_to == NOW - timedelta(minutes=300)
    double.service.commit()

    second, _ = double.extract(accounts=first.window_to)

    assert {row["Id"]: row["Name"] for row in double.setup.rows(second)}["1"] == "New name"
    assert set(double.ids(second)) == {"1", "2", "3"}
    assert second.window_to == NOW - timedelta(minutes=1)


def test_a_late_change_that_no_transaction_announced_is_read_by_the_overlap(double: Double) -> None:
    double.load("Account", {"Id": "1", "SystemModstamp": at(3000)}, {"Id": "2", "SystemModstamp": at(1)})
    first, _ = double.extract()
    upsert(double.records, "Account", {"Id": "1", "Name": "New name"}, at(50))

    second, _ = double.extract(accounts=first.window_to)

    assert double.ids(second) == ["1", "2"]


def test_a_run_dated_ahead_sets_no_watermark_beyond_the_reading(double: Double) -> None:
    double.load("Account", {"Id": "1", "SystemModstamp": "2099-01-01T00:00:00.000+0000"})

    accounts, _ = double.extract(a_run(datetime.now(UTC) + timedelta(days=1)))

    assert accounts.window_to is not None
    assert accounts.window_to <= datetime.now(UTC)


def test_deleted_records_are_read_too(double: Double) -> None:
    double.load("Account", {"Id": "gone", "SystemModstamp": at(5), "IsDeleted": "true"})

    accounts, _ = double.extract()

    assert [(row["Id"], row["IsDeleted"]) for row in double.setup.rows(accounts)] == [("gone", True)]


def test_more_records_than_a_batch(double: Double) -> None:
    double.load("Lead", *[{"Id": f"{n:05d}", "SystemModstamp": at(9_000 - n // 3)} for n in range(4_001)])

    _, leads = double.extract()

    assert double.ids(leads) == [f"{n:05d}" for n in range(4_001)]


def test_a_record_from_the_future_is_not_followed(double: Double) -> None:
    double.load("Account", {"Id": "1", "SystemModstamp": "2099-01-01T00:00:00.000+0000"})

    first, _ = double.extract()
    second, _ = double.extract(accounts=first.window_to)

    assert first.window_to == NOW
    assert double.ids(second) == ["1"]


def test_an_empty_source(double: Double) -> None:
    before = NOW - timedelta(days=1)

    accounts, leads = double.extract(accounts=before)

    assert (accounts.rows, accounts.window_to, leads.window_to) == (0, before, None)
    assert accounts.fields == dict.fromkeys(source_fields("salesforce_accounts"), 0)


def test_a_landed_run_asks_nothing(double: Double) -> None:
    run_id = a_run()
    first = double.extract(run_id)
    asked = len(double.server.requests)

    assert double.extract(run_id) == first
    assert len(double.server.requests) == asked


def test_a_crash_between_the_objects_reads_the_second_only(
    double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    double.load("Account", {"Id": "1", "SystemModstamp": at(5)})
    run_id = a_run()
    put = objects.put_if_absent
    with monkeypatch.context() as patch:

        def crash(uri: str, body: bytes, **options: Any) -> bool:
            if "/salesforce_leads/" in uri:
                raise KeyboardInterrupt
            return put(uri, body, **options)

        patch.setattr(objects, "put_if_absent", crash)
        with pytest.raises(KeyboardInterrupt):
            double.extract(run_id)
    double.load("Account", {"Id": "2", "SystemModstamp": at(4)})
    double.load("Lead", {"Id": "3", "SystemModstamp": at(4)})

    accounts, leads = double.extract(run_id)

    assert double.ids(accounts) == ["1"]
    assert double.ids(leads) == ["3"]


def test_missing_fields_of_both_objects_are_one_error(
    double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = double.service._known_fields()
    known["Account"].pop("Industry")
    known["Lead"].pop("Email")
    known["Lead"].pop("Status")
    monkeypatch.setattr(double.service, "_known_fields", lambda: known)

    with pytest.raises(ContractViolation) as refused:
        double.extract()

    assert {violation.where for violation in refused.value.violations} == {
        "Account.Industry",
        "Lead.Email",
        "Lead.Status",
    }
    assert double.setup.landed_keys() == []


@pytest.mark.parametrize("auth", ["client_credentials", "password"])
def test_both_ways_to_log_in(double: Double, auth: str) -> None:
    double.setup = double.setup.with_source("salesforce", auth=auth)
    double.load("Account", {"Id": "1", "SystemModstamp": at(5)})

    accounts, _ = double.extract()

    assert accounts.rows == 1
    assert double.asked("/services/Soap/") == (auth == "password")


@pytest.mark.parametrize(
    ("auth", "wrong"),
    [
        ("client_credentials", {"client_secret": "wrong-value"}),
        ("client_credentials", {"client_id": "wrong-value"}),
        ("password", {"password": "wrong-value"}),
        ("password", {"security_token": "wrong-value"}),
    ],
)
def test_wrong_credentials_are_terminal_without_a_second_try(
    double: Double, auth: str, wrong: dict[str, str]
) -> None:
    double.setup = double.setup.with_source("salesforce", auth=auth)
    double.setup.put_secret("salesforce", CREDENTIALS | wrong)

    with pytest.raises(CredentialsError, match=r"INVALID_LOGIN|invalid_client") as refused:
        double.extract()

    assert len(double.server.requests) == 1
    assert double.setup.secret("salesforce") in refused.value.hint
    assert "wrong-value" not in f"{refused.value} {refused.value.hint}"


def test_an_address_that_is_not_salesforce_is_refused_in_production(double: Double) -> None:
    double.setup = double.setup.with_source("salesforce", endpoint=None)
    double.setup.put_secret("salesforce", CREDENTIALS | {"instance_url": "https://example.com"})

    with pytest.raises(CredentialsError, match="instance_url"):
        double.extract()


@pytest.mark.parametrize("auth", ["client_credentials", "password"])
def test_an_expired_session_is_renewed(double: Double, auth: str) -> None:
    double.setup = double.setup.with_source("salesforce", auth=auth)
    double.load("Lead", *[{"Id": f"{n:05d}", "SystemModstamp": at(9_000 - n)} for n in range(4_001)])
    double.server.fault(service="salesforce", match="GET .*/query/", status=401)

    _, leads = double.extract()

    assert leads.rows == 4_001


def test_bad_weather_passes(double: Double) -> None:
    double.load("Lead", *[{"Id": f"{n:05d}", "SystemModstamp": at(9_000 - n)} for n in range(4_001)])
    double.server.fault(service="salesforce", match="oauth2/token", status=503)
    double.server.fault(service="salesforce", match="oauth2/token", status=500)
    double.server.fault(service="salesforce", match="describe", kind="drop")
    double.server.fault(service="salesforce", match="queryAll", status=500)
    double.server.fault(service="salesforce", match="query/", kind="cut")
    double.server.fault(service="salesforce", match="query/", status=429, retry_after="0")

    _, leads = double.extract()

    assert leads.rows == 4_001


def test_a_source_that_hangs_is_left_alone_in_time(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(salesforce, "_TIMEOUT", (0.2, 0.2))
    double.server.fault(service="salesforce", kind="timeout", match="token", delay_s=0.5)
    double.server.fault(service="salesforce", kind="timeout", match="queryAll", delay_s=0.5)

    accounts, _ = double.extract()

    assert accounts.rows == 0


def test_a_server_error_at_soap_login_is_not_taken_for_a_wrong_password(double: Double) -> None:
    double.setup = double.setup.with_source("salesforce", auth="password")
    double.server.fault(service="salesforce", match="Soap", status=503, times=0)

    with pytest.raises(SourceUnavailable):
        double.extract()


@pytest.mark.parametrize(
    ("fault", "error", "calls"),
    [
        pytest.param({"status": 500, "times": 0}, SourceUnavailable, 4, id="500 for good"),
        pytest.param({"kind": "drop", "times": 0}, SourceUnavailable, 4, id="no answer"),
        pytest.param({"status": 403}, SourceUnavailable, 1, id="calls of the day used up"),
        pytest.param(
            {"status": 403, "code": "API_DISABLED_FOR_ORG"}, CredentialsError, 1, id="no permission"
        ),
        pytest.param({"status": 400, "code": "INVALID_FIELD"}, SourceError, 1, id="bad query"),
        pytest.param(
            {"status": 400, "code": "INVALID_QUERY_LOCATOR"}, SourceUnavailable, 1, id="expired result"
        ),
    ],
)
def test_what_errors_mean(double: Double, fault: dict[str, Any], error: type[Exception], calls: int) -> None:
    double.server.fault(service="salesforce", match="queryAll", **fault)

    with pytest.raises(error):
        double.extract()

    assert double.asked("/queryAll") == calls
    assert double.setup.landed_keys() == []


def test_a_session_that_is_refused_again_and_again_is_terminal(double: Double) -> None:
    double.server.fault(service="salesforce", match="queryAll", status=401, times=0)

    with pytest.raises(CredentialsError):
        double.extract()


def test_times_that_cannot_be_read_land_as_they_are(double: Double) -> None:
    double.load("Account", {"Id": "1", "SystemModstamp": at(5)}, {"Id": "2", "SystemModstamp": "yesterday"})

    accounts, _ = double.extract(accounts=NOW - timedelta(minutes=10))

    assert {row["SystemModstamp"] for row in double.setup.rows(accounts)} == {at(5), "yesterday"}
    assert accounts.window_to == NOW - timedelta(minutes=5)


def test_the_domain_to_log_in_at() -> None:
    assert salesforce._my_domain("https://acme.my.salesforce.com/", None, "name") == "acme.my"
    assert (
        salesforce._my_domain("https://acme--dev.sandbox.my.salesforce.com", None, "name")
        == "acme--dev.sandbox.my"
    )
