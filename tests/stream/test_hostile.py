"""What people send instead of order events: nothing of it stops the stream, all of it is kept with its reasons."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from lakehouse.flows.landed import json_fields
from lakehouse.quality import dlq
from lakehouse.session import local_frame
from tests.stream.support import Topic, an_event, encoded

LIMIT = 200_000


def with_amount(n: int, number: str, **changes: Any) -> bytes:
    """An event whose amount is a number of just these characters."""
    return encoded(n, amount="_", **changes).replace(b'"_"', number.encode())


# Name → value as sent, and the beginning of the first reason.
REFUSED: dict[str, tuple[bytes | None, str]] = {
    "tombstone": (None, "malformed: the value is null"),
    "empty": (b"", "malformed: the value is not a JSON object"),
    "blank": (b" \n", "malformed: the value is not a JSON object"),
    "text": (b"hello", "malformed: the value is not a JSON object"),
    "array": (b"[1]", "malformed: the value is not a JSON object"),
    "scalar": (b"42", "malformed: the value is not a JSON object"),
    "null": (b"null", "malformed: the value is not a JSON object"),
    "single-quotes": (str(an_event(1)).encode(), "malformed: the value is not a JSON object"),
    "trailing-text": (encoded(1) + b" x", "malformed: the value is not a JSON object"),
    "trailing-object": (encoded(1) + encoded(2), "malformed: the value is not a JSON object"),
    "trailing-comma": (encoded(1) + b",", "malformed: the value is not a JSON object"),
    "trailing-bracket": (encoded(1) + b"]", "malformed: the value is not a JSON object"),
    "trailing-brace": (encoded(1) + b"}", "malformed: the value is not a JSON object"),
    "trailing-nul": (encoded(1) + b"\x00", "malformed: the value is not a JSON object"),
    "cut": (encoded(1)[:-1], "malformed: the value is not a JSON object"),
    "comment": (b"/**/" + encoded(1), "malformed: the value is not a JSON object"),
    "nan": (encoded(1).replace(b'"1.50"', b"NaN"), "malformed: the value is not a JSON object"),
    "infinity": (encoded(1).replace(b'"1.50"', b"-Infinity"), "malformed: the value is not a JSON object"),
    "leading-zero": (encoded(1).replace(b'"1.50"', b"01.50"), "malformed: the value is not a JSON object"),
    "control-character": (encoded(1).replace(b"C-1", b"C\n1"), "malformed: the value is not a JSON object"),
    "duplicate-name": (encoded(1)[:-1] + b',"status":"PAID"}', "malformed: the value is not a JSON object"),
    "duplicate-escaped": (encoded(1)[:-1] + b',"st\\u0061tus":"PAID"}', "malformed: the value is not a JSON"),
    "duplicate-inside": (encoded(1)[:-1] + b',"x":{"a":1,"a":1}}', "malformed: the value is not a JSON"),
    "byte-order-mark": (b"\xef\xbb\xbf" + encoded(1), "malformed: the value is not a JSON object"),
    "utf-16": (json.dumps(an_event(1)).encode("utf-16"), "malformed: the value is not UTF-8"),
    "latin-1": (encoded(1).replace(b"C-1", b"C\xfc"), "malformed: the value is not UTF-8"),
    "utf-8-surrogate": (encoded(1).replace(b"C-1", b"C\xed\xa0\x80"), "malformed: the value is not UTF-8"),
    "half-pair": (encoded(1, customer_id="A\ud800"), "malformed: the value escapes half of a surrogate pair"),
    "other-half": (encoded(1, customer_id="\udc00A"), "malformed: the value escapes half of a surrogate"),
    "halves-turned": (encoded(1, customer_id="\udc00\ud800"), "malformed: the value escapes half of a"),
    "deep-arrays": (b"[" * 100_000, "malformed: the value is not a JSON object"),
    "deep-objects": (b'{"a":' * 30_000, "malformed: the value is not a JSON object"),
    "deep-inside": (
        encoded(1)[:-1] + b',"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        "malformed: the value is not a JSON object",
    ),
    "long-number": (encoded(1)[:-1] + b',"x":' + b"9" * 5_000 + b"}", "malformed: the value is not a JSON"),
    "too-large": (encoded(1, x="y" * LIMIT), f"malformed: the value has more than {LIMIT} bytes"),
    "own-marker": (b'{"_malformed": "no reason at all"}', "order_id_not_null"),
    "1e400": (encoded(1).replace(b'"1.50"', b"1e400"), "amount_parses"),
    "tiny": (encoded(1).replace(b'"1.50"', b"1e-9"), "amount_parses"),
    "negative": (encoded(1, amount=-1), "amount_not_negative"),
    "amount-object": (encoded(1, amount={"value": 1}), "amount_parses"),
    "no-status": (encoded(1, status=None), "status_not_null"),
    "unknown-status": (encoded(1, status="GONE"), "status_known"),
    "unknown-currency": (encoded(1, currency="XXX"), "currency_known"),
    "local-time": (encoded(1, event_ts="2026-01-01T10:00:00"), "event_ts_parses"),
    "no-such-day": (encoded(1, event_ts="2026-02-30T10:00:00Z"), "event_ts_parses"),
    "year-10000": (encoded(1, event_ts="10000-01-01T10:00:00Z"), "event_ts_parses"),
    "id-object": (encoded(1, order_id={"a": 1}), "malformed: the value has an object as order_id;"),
    "id-array": (encoded(1, order_id=[]), "malformed: the value has an array as order_id;"),
    "id-boolean": (encoded(1, order_id=True), "malformed: the value has true or false as order_id;"),
    "customer-array": (encoded(1, customer_id=["C-1"]), "malformed: the value has an array as customer_id;"),
    "id-blank": (encoded(1, order_id="\t\u00a0\u3000\n\u2028\u200b"), "order_id_not_null"),
    "too-precise": (with_amount(1, f"10.{'0' * 42}1"), "amount_parses: amount received '10.0000"),
    "tiny-exponent": (with_amount(1, "1e-400"), "amount_parses: amount received '1e-400'"),
    "tinier-exponent": (with_amount(1, "123e-10000000"), "amount_parses: amount received '123e-10000000'"),
    "long-order-id": (encoded(1, order_id="O" * 129), "order_id"),
}

TAKEN: dict[str, bytes] = {
    "plain": encoded(1),
    "white-space": b"\r\n\t " + encoded(2) + b" \n",
    "unknown-fields": encoded(3, x=[{"y": None}], _malformed="yes"),
    "1e400-elsewhere": encoded(4)[:-1] + b',"x":1e400}',
    "nested-900": encoded(5)[:-1] + b',"x":' + b"[" * 900 + b"]" * 900 + b"}",
    "whole-pair": encoded(6, customer_id="\U0001f600"),
    "escaped-backslash": encoded(7, customer_id="\\ud800"),
    "exponent": encoded(8).replace(b'"8.50"', b"1.5e2"),
    "nul-escaped": encoded(9, customer_id="C\x00"),
}

# What was sent as id and amount → what Bronze holds.
EXACT = {
    ('"n-1"', "1234567890123456.78e0"): ("n-1", "1234567890123456.78"),
    ('"n-2"', "9007199254740993e0"): ("n-2", "9007199254740993.00"),
    ('"n-3"', f"10.{'0' * 50}"): ("n-3", "10.00"),
    ('"n-4"', "-0.0"): ("n-4", "0.00"),
    ("1e400", "1"): ("1e400", "1.00"),
    ("2e400", "1"): ("2e400", "1.00"),
    ("1234567890123456789012345678901234567890", "1"): ("1234567890123456789012345678901234567890", "1.00"),
    ("1234567890123456789012345678901234567891", "1"): ("1234567890123456789012345678901234567891", "1.00"),
    ("12.50", "1"): ("12.50", "1.00"),
    ('"{\\"a\\":1}"', "1"): ('{"a":1}', "1.00"),
    ('"true"', "1"): ("true", "1.00"),
    ('" O-1 "', "1"): (" O-1 ", "1.00"),
}


def test_hostile_events_end_in_the_dlq_as_they_came(topic: Topic) -> None:
    topic = topic.with_options(max_value_bytes=LIMIT)
    headers: list[Any] = [("trace", b"\xff\x00"), ("trace", None), ("", b"")]
    topic.produce([value for value, _ in REFUSED.values()], key=b"\xff\xfe", headers=headers)
    topic.produce(TAKEN.values(), key=None)
    several = encoded(1, status="GONE", currency="XXX", amount="x")
    topic.produce([several], key=b"several")
    topic.produce(
        with_amount(1, amount, order_id="#").replace(b'"#"', sent.encode()) for sent, amount in EXACT
    )

    topic.catch_up()

    topic.require_exactly(len(TAKEN) + len(EXACT), len(REFUSED) + 1)
    held = topic.table("bronze.kafka_orders").where(
        "customer_id = 'C-1' AND event_ts = '2026-01-02T10:00:00Z'"
    )
    found = {(row.order_id, str(row.amount)) for row in held.select("order_id", "amount").collect()}
    assert found >= set(EXACT.values())
    rows = topic.table(dlq.TABLE).collect()
    (row,) = [row for row in rows if row["key"] == b"several"]
    assert [reason.split(": ")[0] for reason in row["reasons"]] == [
        "amount_parses",
        "status_known",
        "currency_known",
    ]
    rows.remove(row)
    expected = {(index % 3, (index - 1) // 3): case for index, case in enumerate(REFUSED.items(), start=1)}
    for row in rows:
        # Partition 0 gets the third, sixth … value.
        name, (value, reason) = expected[(row["partition"], row["offset"])]
        assert (None if row["value"] is None else bytes(row["value"])) == value, name
        assert row["reasons"][0].startswith(reason), (name, row["reasons"])
        assert bytes(row["key"]) == b"\xff\xfe"
        assert [(item["key"], item["value"] and bytes(item["value"])) for item in row["headers"]] == [
            ("trace", b"\xff\x00"),
            ("trace", None),
            ("", b""),
        ]
        assert (row["topic"], row["contract_version"]) == (topic.name, "1.0.1")


def _short(digits: str) -> str:
    if len(digits) > 1000:
        raise ValueError
    return digits


def _fields(value: bytes) -> dict[str, Any] | None:
    """What RFC 8259 and the decisions of json_fields make of a value; an oracle in Python."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError
        return dict(pairs)

    def refuse(_: str) -> None:
        raise ValueError

    try:
        text = value.decode("utf-8")
        found = json.loads(
            text, object_pairs_hook=once, parse_constant=refuse, parse_float=str, parse_int=_short
        )
        json.dumps(found, ensure_ascii=False).encode("utf-8")  # fails for half of a pair
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
_object = st.dictionaries(st.text(max_size=3), _json, max_size=4)
_rendered = st.builds(
    lambda value, ascii: json.dumps(value, ensure_ascii=ascii).encode("utf-8", "surrogatepass"),
    _object,
    st.booleans(),
)
_scraps = st.sampled_from(
    [b"{", b"}", b"[", b"]", b",", b":", b'"', b"'", b"\\", b"\\ud83d", b"\\ude00", b"\\u0061", b"\xff", b"\xc3",
     b"\x00", b"0", b"-", b".", b"e", b"NaN", b"null", b" ", b"\n", b"\xef\xbb\xbf", b'{"a":1}', b'"a":2,'],
)  # fmt: skip


@st.composite
def _mutated(draw: st.DrawFn) -> bytes:
    value = draw(_rendered)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(value)))
        value = value[:at] + draw(_scraps) + value[at + draw(st.integers(0, 2)) :]
    return value


@pytest.fixture(scope="module")
def spark_alone(spark: SparkSession) -> SparkSession:
    return spark


@given(values=st.lists(_mutated() | _rendered | st.binary(max_size=20), min_size=60, max_size=120))
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_exactly_json_objects_are_taken(spark_alone: SparkSession, values: list[bytes]) -> None:
    frame = local_frame(spark_alone, list(enumerate(values)), "n int, value binary")
    rows = frame.select("n", json_fields(F.col("value"), LIMIT).alias("fields")).collect()
    for row in rows:
        expected = _fields(values[row["n"]])
        value = values[row["n"]]
        assert ("_malformed" in row["fields"]) == (expected is None), value
        if expected is not None:
            assert set(row["fields"]) == set(expected) - {"_malformed"}, value
            for name, received in row["fields"].items():
                if isinstance(expected[name], str) or expected[name] is None:
                    assert received == expected[name], value
