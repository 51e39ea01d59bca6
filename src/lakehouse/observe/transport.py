"""Where lineage events go, by settings: objects in the lake, an HTTP endpoint (Marquez), or a Kafka topic."""

from __future__ import annotations

import requests

from lakehouse import store
from lakehouse.bounded import problem_of
from lakehouse.masks import without_registered
from lakehouse.secrets import read_secret
from lakehouse.settings import OpenLineageSettings, Settings

# An endpoint that hangs must not hold up the run.
_SECONDS = 8.0
_KAFKA_SECONDS = 5.0


def lineage_uri(settings: Settings) -> str:
    """Folder of the events, one below it for each run."""
    return f"{settings.lake_uri}/ops/_lineage"


def send(settings: Settings, name: str, key: str, body: bytes) -> str | None:
    """Send one event; returns None, or why it was not sent. The lake itself may raise what S3 says."""
    to = settings.openlineage
    body = without_registered(body.decode()).encode()
    if to.transport == "file":
        store.put(f"{lineage_uri(settings)}/{name}", body)
        return None
    return problem_of(
        lambda: _post(to, body) if to.transport == "http" else _produce(to, key, body), _SECONDS
    )


def _post(to: OpenLineageSettings, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    if to.secret is not None:
        headers["Authorization"] = f"Bearer {read_secret(to.secret, ['api_key'])['api_key']}"
    # A redirect would take the key elsewhere.
    answer = requests.post(
        f"{to.url}/api/v1/lineage", data=body, headers=headers, timeout=(3, 5), allow_redirects=False
    )
    if not answer.ok or answer.is_redirect:
        raise ConnectionError(f"the endpoint answered {answer.status_code}")


def _produce(to: OpenLineageSettings, key: str, body: bytes) -> None:
    """One event to the topic, a job's events to one partition: they stay in order."""
    from confluent_kafka import Producer

    assert to.secret is not None  # settings refuse Kafka without one
    secret = read_secret(to.secret, ["bootstrap_servers", "api_key", "api_secret"])
    refused: list[Exception] = []

    def delivered(error: object, _: object) -> None:
        if error is not None:
            refused.append(ConnectionError(f"topic {to.topic}: {error}"))

    producer = Producer(
        {
            "bootstrap.servers": secret["bootstrap_servers"],
            "security.protocol": to.security_protocol,
            "sasl.mechanism": "PLAIN",
            "sasl.username": secret["api_key"],
            "sasl.password": secret["api_secret"],
            "message.timeout.ms": int(_KAFKA_SECONDS * 1000),
            "log_level": 0,
        }
    )
    producer.produce(to.topic, value=body, key=key, on_delivery=delivered)
    left = producer.flush(_KAFKA_SECONDS + 1)
    if refused:
        raise refused[0]
    if left:
        producer.purge()
        raise TimeoutError(f"topic {to.topic} took nothing within {_KAFKA_SECONDS:g} s")
