"""Test orders: the same for a seed, as many flaws as asked for, all of them in the topic or a plain word why not."""

from __future__ import annotations

import itertools
import json
import re
import runpy
import time
from collections import Counter
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local import kafka
from tests.local.test_kafka_broker import Broker, consume
from tests.support import REPO, Aws, free_port

script = SimpleNamespace(**runpy.run_path(str(REPO / "scripts" / "produce_test_orders.py")))
UNTIL = date(2026, 11, 1)
STATUSES = {"PLACED", "PAID", "SHIPPED", "CANCELLED"}


def made(count: int, share: float = 0.0, seed: int = 1, kinds: Any = tuple(script.FLAWS)) -> list[Any]:
    return list(script.events(count, seed, UNTIL, share, kinds))


# What is made ----------------------------------------------------------------------------------------------------


def test_good_events_have_the_shape_of_the_contract() -> None:
    events = made(500)
    for event in events:
        body = json.loads(event.value)
        assert {"order_id", "event_ts", "customer_id", "status", "amount", "currency"} <= set(body)
        assert event.key.decode() == body["order_id"]
        assert body["status"] in STATUSES
        assert Decimal(str(body["amount"])) >= 0
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT.*(Z|[+-]\d\d:\d\d)", body["event_ts"])
        assert body["event_ts"] < "2026-11-01T02"
    assert len({(json.loads(e.value)["order_id"], json.loads(e.value)["event_ts"]) for e in events}) == 500


def test_the_same_seed_makes_the_same_bytes_and_another_makes_others() -> None:
    assert made(300, 0.2) == made(300, 0.2)
    assert made(300, 0.2, seed=2) != made(300, 0.2)


def test_more_events_begin_with_the_fewer_and_blocks_repeat_no_order() -> None:
    few, many = made(script.BLOCK + 50), made(2 * script.BLOCK + 7)
    assert len(many) == 2 * script.BLOCK + 7
    assert many[: len(few)] == few
    first, second, third = (
        {e.key for e in many[n : n + script.BLOCK]} for n in (0, script.BLOCK, 2 * script.BLOCK)
    )
    assert not (first & second) | (first & third) | (second & third)
    assert json.loads(many[0].value)["event_ts"] > json.loads(many[-1].value)["event_ts"], "a block is a day"


@settings(max_examples=15, deadline=None)
@given(
    st.integers(1, 300),
    st.floats(0, 1),
    st.lists(st.sampled_from(sorted(set(script.FLAWS) - {"huge_value"})), min_size=1, unique=True),
)
def test_there_are_as_many_flaws_as_asked_for(count: int, share: float, kinds: list[str]) -> None:
    found = Counter(event.flaw for event in made(count, share, kinds=kinds))
    good = found.pop("", 0)
    assert good == count - round(count * share)
    assert set(found) <= set(kinds)
    each = [found[kind] for kind in kinds]
    assert max(each) - min(each) <= 1


@pytest.mark.parametrize("kind", script.FLAWS)
def test_every_flaw_is_one(kind: str) -> None:
    (event,) = made(1, 1.0, kinds=[kind])
    (good,) = made(1)
    assert event.flaw == kind
    assert event.key == good.key
    assert event.value != good.value
    assert _refused(event.value), "a strict reader would take it"
    assert not _refused(good.value)


def _refused(value: bytes | None) -> bool:
    """A strict reader in a few lines: RFC 8259 without repeated names, and the contract's rules."""

    def names_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) < len(pairs):
            raise ValueError("a name twice")
        return dict(pairs)

    def no_constant(text: str) -> None:
        raise ValueError(text)

    try:
        body = json.loads((value or b"").decode(), object_pairs_hook=names_once, parse_constant=no_constant)
        return not (
            body["order_id"]
            and body["status"] in STATUSES
            and body["currency"] != "XXX"
            and Decimal(str(body["amount"])) >= 0
            and len(body["customer_id"]) <= 64
            and date.fromisoformat(body["event_ts"][:10])
        )
    except (ValueError, KeyError, TypeError, ArithmeticError):
        return True


# What is sent ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(tmp_path_factory.mktemp("kafka-state"))
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


_numbers = itertools.count(1)


@pytest.fixture
def secret(aws: Aws, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts credentials of the broker into Secrets Manager; returns their name."""
    for name, value in aws.env.items():
        monkeypatch.setenv(name, value)

    def put(**other: str) -> str:
        name = f"kafka-{next(_numbers)}"
        fields = {
            "bootstrap_servers": broker.bootstrap,
            "api_key": kafka.API_KEY,
            "api_secret": kafka.API_SECRET,
        }
        aws.client("secretsmanager").create_secret(Name=name, SecretString=json.dumps(fields | other))
        return name

    return put


def run(*arguments: str) -> int:
    return int(script.main([*arguments, "--security-protocol", "SASL_PLAINTEXT"]))


def summary(capsys: pytest.CaptureFixture[str]) -> Any:
    """The last line; whoever tested Airflow in this process before has its logging on the lines before."""
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_what_is_told_is_in_the_topic(
    broker: Broker, secret: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    topic = "produced"
    assert kafka.create_topic(broker.bootstrap, topic, 3)

    code = run("--secret", secret(), "--topic", topic, "--count", "400", "--flaw-share", "0.1", "--seed", "1")

    said = summary(capsys)
    assert code == 0
    assert (said["topic"], said["produced"], said["good"], said["flawed"]) == (topic, 400, 360, 40)
    assert sum(said["flaws"].values()) == 40
    assert set(said["flaws"]) == set(script.FLAWS)
    found = consume(broker, topic, 400, partitions=3)
    expected = made(400, 0.1)
    assert Counter((m.key(), m.value(), m.timestamp()[1]) for m in found) == Counter(
        (event.key, event.value, event.timestamp_ms) for event in expected
    )
    by_key: dict[bytes, list[Any]] = {}
    for event in expected:
        by_key.setdefault(event.key, []).append(event.value)
    for key, values in by_key.items():
        assert [m.value() for m in found if m.key() == key] == values, "an order's events keep their order"


def test_a_rate_is_kept(broker: Broker, secret: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert kafka.create_topic(broker.bootstrap, "slowly")
    begun = time.monotonic()
    assert (
        run(
            "--secret", secret(), "--topic", "slowly", "--count", "60", "--rate", "50", "--flaws", "tombstone"
        )
        == 0
    )
    assert 59 / 50 <= time.monotonic() - begun < 10
    assert summary(capsys)["flaws"] == {"tombstone": 3}


def test_a_wrong_password_is_said_plainly_and_is_not_shown(
    secret: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = time.monotonic()

    code = run("--secret", secret(api_secret="wrong-one"), "--count", "10")

    said = capsys.readouterr()
    assert code == 10
    assert "_AUTHENTICATION" in said.err
    assert "check the secret kafka-" in said.err
    assert "wrong-one" not in said.err + said.out
    assert "produced" not in said.out, "nothing was sent"
    assert time.monotonic() - begun < 15


def test_a_topic_that_is_not_there_is_named(secret: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--secret", secret(), "--topic", "orders_event", "--count", "10") == 10
    assert "there is no topic orders_event" in capsys.readouterr().err


def test_other_brokers_than_the_secrets(
    broker: Broker, secret: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    name = secret(bootstrap_servers=f"127.0.0.1:{free_port()}")
    assert run("--secret", name, "--bootstrap", broker.bootstrap, "--count", "5", "--flaw-share", "0") == 0
    assert summary(capsys)["good"] == 5


def test_without_a_stack_nobody_guesses_where_to_send(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAKEHOUSE_STATE_DIR", str(tmp_path))
    assert run() == 2
    assert "make local-up" in capsys.readouterr().err


def test_an_unknown_flaw_is_named_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--flaws", "tombstone,typo") == 2
    said = capsys.readouterr().err
    assert "received --flaws typo" in said
    assert "bad_utf8" in said


@pytest.mark.parametrize("wrong", [["--flaw-share", "1.5"], ["--count", "0"], ["--rate", "-1"]])
def test_numbers_that_make_no_sense_are_refused(wrong: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(*wrong)
