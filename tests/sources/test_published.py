"""Every error that a service publishes, said by its double and heard through the real client."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError
from snowflake.connector import errors as sf

from lakehouse.errors import CredentialsError, LakehouseError, SourceError, SourceUnavailable
from lakehouse.published import SERVICES, ComeBackLater, Means, find
from lakehouse.sources import fx, hubspot, kafka, salesforce, snowflake
from local.saas.ecb import Ecb
from local.saas.hubspot import HubSpot
from local.saas.salesforce import Salesforce
from local.saas.store import Store
from local.saas.web import Service
from tests.sources.support import Server, Setup, a_run, serving
from tests.sources.test_salesforce_incremental import CREDENTIALS

RAISED = {
    Means.AGAIN: ComeBackLater,
    Means.LATER: SourceUnavailable,
    Means.SECRET: CredentialsError,
    Means.RIGHTS: CredentialsError,
    Means.REFUSED: SourceError,
}


@pytest.fixture
def records() -> Iterator[Store]:
    store = Store(None)
    yield store
    store.close()


def say(
    setup: Setup,
    source: str,
    service: Service,
    extract: Callable[[Any, str, Any], Any],
    faults: dict[str, dict[str, Any]],
) -> None:
    """Let the double answer by one error after the other; check what is raised, and how often was asked."""
    with serving(service) as server:
        address = (
            {"daily_url": f"{server.url}/stats/eurofxref/eurofxref-daily.xml"}
            if source == "fx"
            else {"endpoint": server.url}
        )
        setup = setup.with_source(source, **address).with_retry(attempts=2, first_wait_seconds=0.001)
        for code, fault in faults.items():
            known = find(fault.pop("of"), code)
            assert known is not None
            heard, calls = failed(setup, server, extract, fault)
            assert type(heard) is RAISED[known.means], f"{code}: {heard!r}"
            assert heard.hint == known.hint.format(secret=setup.sources[source].get("secret", "")), code
            assert calls == (2 if known.means is Means.AGAIN else 1), code
    assert setup.landed_keys() == []


def failed(
    setup: Setup, server: Server, extract: Callable[[Any, str, Any], Any], fault: dict[str, Any]
) -> tuple[LakehouseError, int]:
    before = len(server.requests)
    server.control.faults.clear()
    server.fault(times=0, **fault)
    with pytest.raises(LakehouseError) as raised:
        extract(setup.settings, a_run(), {})
    answered = [request for request in server.requests[before:] if request["fault"]]
    return raised.value, len(answered)


def test_hubspot(setup: Setup, records: Store) -> None:
    setup.put_secret("hubspot", {"token": "t"})
    faults = {
        each.code: {
            "of": "hubspot",
            "service": "hubspot",
            "status": each.status,
            "policy": each.code.partition(" ")[2] or None,
        }
        for each in SERVICES["hubspot"]
    }
    say(setup, "hubspot", HubSpot(records, lambda: "t"), hubspot.extract, faults)


@pytest.mark.parametrize(
    ("auth", "door"),
    [("client_credentials", "query"), ("password", "Soap"), ("client_credentials", "oauth2")],
)
def test_salesforce(setup: Setup, records: Store, auth: str, door: str) -> None:
    """Each code where it can be met: with 500, at SOAP's door alone."""
    setup.put_secret("salesforce", CREDENTIALS)
    setup = setup.with_source("salesforce", auth=auth)
    met = [("salesforce", each) for each in SERVICES["salesforce"] if door == "Soap" or each.status != 500]
    if door == "oauth2":
        met = [("salesforce oauth", each) for each in SERVICES["salesforce oauth"]] + met
    faults = {
        each.code: {"of": name, "service": "salesforce", "match": door, "code": each.code}
        for name, each in met
        # The client asks once more by itself where a session is refused.
        if each.code != "INVALID_SESSION_ID"
    }
    say(setup, "salesforce", Salesforce(records, lambda: CREDENTIALS), salesforce.extract, faults)


def test_ecb(setup: Setup, records: Store) -> None:
    faults = {each.code: {"of": "ecb", "service": "ecb", "status": each.status} for each in SERVICES["ecb"]}
    say(setup, "fx", Ecb(records, lambda: None), fx.extract, faults)


def test_snowflake_and_kafka_by_what_their_clients_raise() -> None:
    for each in SERVICES["snowflake"]:
        raised = snowflake.meaning(sf.DatabaseError("words", errno=int(each.code)), "A.B.C", "the/secret")
        assert type(raised) is RAISED[each.means], each
        assert raised.hint == each.hint.format(secret="the/secret")
    for each in SERVICES["kafka"]:
        heard = [KafkaError(KafkaError._ALL_BROKERS_DOWN), KafkaError(getattr(KafkaError, each.code))]
        raised = kafka.meaning(heard, "orders", "the/secret")
        assert type(raised) is RAISED[each.means], each
        assert raised.hint == each.hint.format(secret="the/secret")


@pytest.mark.parametrize("service", SERVICES)
def test_a_hint_sends_to_the_secret_where_it_is_the_secret_and_nowhere_else(service: str) -> None:
    codes = [each.code for each in SERVICES[service]]
    assert len(codes) == len(set(codes)), "each code once"
    for each in SERVICES[service]:
        assert each.hint
        assert "{secret}" in each.hint or each.means is not Means.SECRET, each
        if each.means is not Means.SECRET:
            assert not re.search(
                r"(put|replace|renew|rotate|write)[^;]* (secret|token|password|credentials)", each.hint
            ), each
