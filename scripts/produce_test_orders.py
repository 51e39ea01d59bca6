#!/usr/bin/env python3
"""Send test order events to the topic, some of them broken on purpose; the last line says in JSON what was sent.

The same --count, --seed, --flaw-share and --flaws send the same bytes in the same order. Events are those of the
sample data: lives of orders, a day of them for every 2,000 events, ending where --until says.

On a laptop it finds the running local stack by itself. Elsewhere it wants to be told where to send: --secret names
the credentials, --bootstrap other brokers. Never send test orders to a topic that a business reads.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
if (REPO / "src" / "lakehouse").is_dir():
    sys.path[:0] = [str(REPO / "src"), str(REPO)]

from confluent_kafka import KafkaError, KafkaException, Producer  # noqa: E402  # the path is set just above

from lakehouse.errors import EXIT_UNEXPECTED, LakehouseError, SourceUnavailable, UsageError  # noqa: E402
from lakehouse.secrets import read_secret  # noqa: E402
from lakehouse.sources.kafka import meaning  # noqa: E402
from local.samples import orders  # noqa: E402
from local.samples.base import Flaws, Sizes, Spec  # noqa: E402

SECRET = "lakehouse/kafka/credentials"
TOPIC = "orders_events"
BLOCK = 2_000
#: Well above what a column may hold, and below what a broker takes by default (1 MB).
HUGE_BYTES = 400_000
TIMEOUT = 30.0
#: Errors of the client that no waiting heals.
REFUSED = {
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
}


@dataclass(frozen=True)
class Event:
    """One record as it is sent; `flaw` is empty for a good one."""

    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    flaw: str = ""


# Flaws -----------------------------------------------------------------------------------------------------------


def _with(**fields: object) -> Callable[[dict[str, Any]], bytes]:
    return lambda body: _json(body | fields)


def _json(body: dict[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()


def _without_order_id(body: dict[str, Any]) -> bytes:
    return _json({name: value for name, value in body.items() if name != "order_id"})


def _duplicate_keys(body: dict[str, Any]) -> bytes:
    """Two amounts in one object: which one counts is the reader's guess."""
    return _json(body)[:-1] + b', "amount": 1.00}'


#: What a kind makes of the body of a good event.
FLAWS: dict[str, Callable[[dict[str, Any]], bytes | None]] = {
    "tombstone": lambda body: None,
    "empty": lambda body: b"",
    "not_json": lambda body: str(body).encode(),  # single quotes
    "truncated": lambda body: _json(body)[:-7],
    "trailing_garbage": lambda body: _json(body) + b" }",
    "not_an_object": lambda body: json.dumps([body]).encode(),
    "nan": lambda body: _json(body | {"amount": float("nan")}),
    "bad_utf8": lambda body: _json(body | {"customer_id": "@"}).replace(b'"@"', b'"\xc3\x28"'),
    "duplicate_keys": _duplicate_keys,
    "missing_order_id": _without_order_id,
    "null_order_id": _with(order_id=None),
    "unknown_status": _with(status="LOST"),
    "unknown_currency": _with(currency="XXX"),
    "negative_amount": _with(amount="-0.01"),
    "unparseable_amount": _with(amount="12,50"),
    "unparseable_event_ts": _with(event_ts="yesterday"),
    "huge_value": _with(customer_id="9" * HUGE_BYTES),
}


# Events ----------------------------------------------------------------------------------------------------------


def good_events(count: int, seed: int, until: date) -> Iterator[Event]:
    """Events of the sample's stream: block n is the n-th day before `until`, with orders of its own."""
    for block in range(-(-count // BLOCK)):
        spec = Spec(
            seed=seed,
            until=until - timedelta(days=2 * block + 1),  # day n+2 begins n days after it
            sizes=Sizes(kafka=10 * BLOCK),  # a later day has a tenth
            flaws="none",
        )
        lines = orders.stream_lines(spec, [], [], Flaws("none"), day=block + 2)
        for line in lines[: count - block * BLOCK]:
            yield Event(
                str(line["key"]).encode(), str(line["value"]).encode(), int(str(line["timestamp_ms"]))
            )


def events(
    count: int, seed: int, until: date, flaw_share: float = 0.0, kinds: Sequence[str] = tuple(FLAWS)
) -> Iterator[Event]:
    """`count` events, round(count × flaw_share) of them spoilt, every kind as often as any other (give or take one)."""
    rng = random.Random(json.dumps([seed, "flaws"]))
    positions = sorted(rng.sample(range(count), round(count * flaw_share))) if kinds else []
    shuffled = [kinds[i % len(kinds)] for i in range(len(positions))]
    rng.shuffle(shuffled)
    flaws = dict(zip(positions, shuffled, strict=True))
    for position, event in enumerate(good_events(count, seed, until)):
        kind = flaws.get(position)
        if kind is None:
            yield event
        else:
            value = FLAWS[kind](json.loads(event.value or b"{}"))
            yield Event(event.key, value, event.timestamp_ms, kind)


# Sending ---------------------------------------------------------------------------------------------------------


def send(
    options: dict[str, Any], topic: str, what: Iterator[Event], rate: float | None, secret: str
) -> Counter[str]:
    """Send the events and wait for every acknowledgement; how many there were of each flaw ("" for good ones).

    Idempotent towards the broker, so that a repeated request doubles nothing. Raises CredentialsError, SourceError
    or SourceUnavailable where an event was not taken.
    """
    heard: list[KafkaError] = []
    refused: list[KafkaError] = []
    taken: Counter[str] = Counter()
    producer = Producer(
        options
        | {"error_cb": heard.append, "log_level": 2, "enable.idempotence": True, "linger.ms": 20}
        | {"compression.type": "zstd", "message.timeout.ms": int(TIMEOUT * 1000)}
    )
    _look(producer, topic, heard, secret)
    begun = time.monotonic()
    for number, event in enumerate(what):

        def told(error: KafkaError | None, _: Any, flaw: str = event.flaw) -> None:
            if error is None:
                taken[flaw] += 1
            else:
                refused.append(error)

        if rate is not None:
            while (early := begun + number / rate - time.monotonic()) > 0:
                producer.poll(min(early, 0.1))
        while True:
            try:
                producer.produce(
                    topic, value=event.value, key=event.key, timestamp=event.timestamp_ms, on_delivery=told
                )
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
        if refused:
            break
    left = producer.flush(TIMEOUT)
    if refused:
        raise meaning([*refused, *heard], topic, secret)
    if left:
        raise SourceUnavailable(
            f"Kafka: {left} of {taken.total() + left} events were not acknowledged within {TIMEOUT:.0f} s",
            hint="run it again against a topic that is empty, or count what is there",
        )
    return taken


def _look(producer: Producer, topic: str, heard: list[KafkaError], secret: str) -> None:
    """Raise what a wrong password, a missing topic or a broker out of reach means, before anything is sent."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            found = producer.list_topics(topic, timeout=2.0).topics[topic]
        except KafkaException as error:
            producer.poll(0)  # a refused login is told to the callback only
            if time.monotonic() > deadline or any(one.code() in REFUSED for one in heard):
                raise meaning([error.args[0], *heard], topic, secret) from None
        else:
            if found.error is not None:
                raise meaning([found.error, *heard], topic, secret)
            return


# The command -----------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Send; 0 where every event was acknowledged, else the exit code of the error's class."""
    arguments = _parser().parse_args(argv)
    try:
        kinds = _kinds(arguments.flaws)
        options = _client_options(arguments)
        begun = time.monotonic()
        made = events(arguments.count, arguments.seed, arguments.until, arguments.flaw_share, kinds)
        taken = send(options, arguments.topic, made, arguments.rate, arguments.secret or SECRET)
    except LakehouseError as error:
        print(error.told("produce_test_orders"), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("produce_test_orders: interrupted; what was sent is sent", file=sys.stderr)
        return EXIT_UNEXPECTED
    print(json.dumps(_summary(arguments.topic, taken, kinds, time.monotonic() - begun)))
    return 0


def _summary(topic: str, taken: Counter[str], kinds: Sequence[str], seconds: float) -> dict[str, Any]:
    total = taken.total()
    return {
        "topic": topic,
        "produced": total,
        "good": taken[""],
        "flawed": total - taken[""],
        "flaws": {kind: taken[kind] for kind in kinds},
        "seconds": round(seconds, 2),
        "per_second": round(total / seconds) if seconds else total,
    }


def _kinds(text: str) -> list[str]:
    kinds = list(dict.fromkeys(FLAWS if text == "all" else [word for word in text.split(",") if word]))
    if unknown := [kind for kind in kinds if kind not in FLAWS]:
        raise UsageError(f"received --flaws {', '.join(unknown)}, expected some of {', '.join(FLAWS)}")
    return kinds


def _client_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Where to send and as whom: the secret's brokers, or --bootstrap with the secret's name and password."""
    laptop = arguments.secret is None and arguments.bootstrap is None and _use_laptop_stack()
    if not (laptop or arguments.secret or arguments.bootstrap):
        raise UsageError(
            "received neither --secret nor --bootstrap, and no local stack is up",
            hint="start one (`make local-up`), or name the credentials: --secret lakehouse/kafka/credentials",
        )
    secret = read_secret(arguments.secret or SECRET, ("bootstrap_servers", "api_key", "api_secret"))
    return {
        "bootstrap.servers": arguments.bootstrap or secret["bootstrap_servers"],
        "security.protocol": "SASL_PLAINTEXT" if laptop else arguments.security_protocol,
        "sasl.mechanism": "PLAIN",
        "sasl.username": secret["api_key"],
        "sasl.password": secret["api_secret"],
    }


def _use_laptop_stack() -> bool:
    """Take the environment of the local stack that has been started last, if there is one."""
    from local.stack import running
    from local.supervisor import ServiceError

    try:
        os.environ.update(running().exports)
    except ServiceError:
        return False
    return True


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"received {text}, expected a share from 0 to 1, e.g. 0.05")
    return share


def _positive(text: str) -> float:
    number = float(text)
    if number <= 0:
        raise argparse.ArgumentTypeError(f"received {text}, expected more than zero")
    return number


def _parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument(
        "--count", type=lambda text: int(_positive(text)), default=2_000, help="events (default 2000)"
    )
    result.add_argument(
        "--rate", type=_positive, help="events per second (default: as fast as the broker takes them)"
    )
    result.add_argument(
        "--flaw-share", type=_share, default=0.05, help="share of broken events (default 0.05)"
    )
    result.add_argument(
        "--flaws", default="all", help=f"kinds, comma-separated (default all): {', '.join(FLAWS)}"
    )
    result.add_argument("--seed", type=int, default=Spec.seed)
    result.add_argument(
        "--until",
        type=date.fromisoformat,
        default=Spec.until,
        help=f"day after the last event (default {Spec.until})",
    )
    result.add_argument("--topic", default=TOPIC)
    result.add_argument("--secret", help=f"name in Secrets Manager, e.g. {SECRET}")
    result.add_argument("--bootstrap", help="brokers in place of the secret's")
    result.add_argument(
        "--security-protocol", choices=["SASL_SSL", "SASL_PLAINTEXT"], default="SASL_SSL",
        help="default SASL_SSL; the local stack's is SASL_PLAINTEXT",
    )  # fmt: skip
    return result


if __name__ == "__main__":
    sys.exit(main())
