"""Credentials and secrets that were read come out of everything that is told."""

from __future__ import annotations

import html
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse import masks, store
from lakehouse.bounded import described
from lakehouse.errors import SourceError
from lakehouse.masks import masked, register, without_secrets
from lakehouse.observe import outcome
from lakehouse.secrets import read_secret
from tests.observe.support import RUN
from tests.quality.support import make_settings
from tests.support import Aws

CREDENTIAL = "hunTer2-9x"
#: How errors quote a credential.
SHAPES = (
    "login failed: password={} for the user u",
    "PASSWORD: '{}', account x",
    '{{"api_secret": "{}", "user": "u"}}',
    '{{\\"token\\":\\"{}\\"}}',
    "{{'client_secret': '{}'}}",
    "GET https://api.example.com/v1?token={}&after=1",
    "https://user:{}@host.example.com/path",
    "https://{}@host.example.com",
    "Authorization: Bearer {}",
    "{{'Authorization': 'Bearer {}'}}",
    "Proxy-Authorization=Basic {}",
    "authorization: {}",
    "sent Bearer {} to the host",
    'org.apache.kafka Login required username="u" password="{}";',
    "spark.hadoop.fs.s3a.secret.key={}",
    "X-Api-Key: {}",
    "X-Amz-Security-Token={}&X-Amz-Signature={}",
    "ALTER USER u SET PASSWORD = '{}'",
    "pwd={}",
    "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----",  # pragma: allowlist secret
    "-----BEGIN ENCRYPTED PRIVATE KEY-----\n{}",
)
#: What says of credentials and holds none.
PLAIN = (
    "secret lakehouse/kafka/credentials: received text, expected a JSON object",
    "not authorized: secretsmanager:GetSecretValue on arn:aws:secretsmanager:eu:1:secret:lakehouse/x-AbCdEf",
    "use Bearer tokens, or Basic authentication with the password of the user",
    "aws secretsmanager put-secret-value --secret-id a --secret-string file://secret.json",
    "the fields instance_url, client_id, client_secret; s3://lake/landing/hubspot/part-0.jsonl.gz",
)


@pytest.fixture(autouse=True)
def nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "_registered", set())
    monkeypatch.setattr(masks, "_pattern", None)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_credential_is_known_by_what_stands_before_it(shape: str) -> None:
    for value in (CREDENTIAL, "dXNlcjpwYXNzd29yZA", "s3cr3t."):
        text = shape.format(*[value] * shape.count("{}"))
        for mask in (masked, without_secrets):
            assert value.rstrip(".") not in mask(text)
            assert mask(mask(text)) == mask(text)


@pytest.mark.parametrize("text", PLAIN)
def test_what_holds_no_credential_stays(text: str) -> None:
    assert masked(text) == text


@pytest.mark.parametrize("quote", ['"', "'"])
def test_a_quote_within_a_password_does_not_end_it(quote: str) -> None:
    for value in (f"a{quote}b", f"a\\{quote}b", f"a{quote}{quote}b"):
        left = masked(f"password={quote}{value}{quote}, user=u")
        assert "b" not in left.removeprefix("password")
        assert left.endswith(", user=u")


def test_where_a_url_leads_stays() -> None:
    assert (
        masked("https://user:p%40ss@host/x?token=abc&y=1") == "https://(…)@host/x?token=…&y=1"
    )  # pragma: allowlist secret


@given(
    st.text(st.characters(blacklist_categories=("Cs",)), min_size=8).filter(lambda text: text.strip() == text)
)
def test_a_secret_that_was_read_is_told_in_none_of_its_forms(value: str) -> None:
    register({"password": value, "account": "plain-account"})
    told = (value, json.dumps({"x": value}), repr(value), f"{value!r}: refused", f"https://h/?q={value}")
    assert not any(value in without_secrets(text) for text in told if value not in "…(…)@")
    assert without_secrets(f"<p>{html.escape(value)}</p>") == "<p>…</p>"
    assert without_secrets("of plain-account") == "of plain-account"


def test_a_key_is_taken_out_line_by_line_and_a_short_value_as_a_word() -> None:
    register(
        {"private_key": "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0\n-----END PRIVATE KEY-----\n"}
    )
    register({"password": "able", "token": "abc"})  # pragma: allowlist secret
    assert without_secrets("bad key MIIEvQIBADANBgkqhkiG9w0 here") == "bad key … here"
    assert without_secrets("a table, able, abc") == "a table, …, abc"


def test_the_key_of_a_pair_is_a_name() -> None:
    """A name may be in everything that is told: in that of a bucket."""
    register({"api_key": "name-of-a-lake", "api_secret": "of-a-key-and-secret"})
    assert without_secrets("s3://name-of-a-lake, of-a-key-and-secret") == "s3://name-of-a-lake, …"
    register({"api_key": "of-a-key-alone"})
    assert without_secrets("of-a-key-alone") == "…"


def test_outcomes_errors_and_logs_hold_no_secret_that_was_read(aws: Aws, lake: str) -> None:
    client = aws.client("secretsmanager")
    name = f"{lake.removeprefix('s3://')}/masked"
    value = 'of-"this"-test\\only'
    client.create_secret(Name=name, SecretString=json.dumps({"username": "etl", "passphrase": value}))
    read_secret(name, ["username"])
    said = f"the service answered {value!r} and {value}"
    assert "of-" not in described(ValueError(said))
    assert "of-" not in SourceError(said, hint=said).told("job")
    ended = outcome.Outcome(
        job="j", run_id=RUN, started_at="2026-11-20T06:00:00Z", notes=[said, "password=x9"]
    )  # type: ignore[arg-type]
    settings = make_settings(lake)
    kept = (store.get(outcome.write(settings, ended)) or b"").decode()
    assert "of-" not in kept
    assert outcome.read(settings, RUN, "j") == ended.model_copy(
        update={"notes": ["the service answered '…' and …", "password=…"]}
    )


def test_no_text_takes_longer_than_its_length_says() -> None:
    def seconds(part: str) -> float:
        # Behind a line of a constraint of Delta's, whose value may be of several lines.
        text = " - a : b" + part * (100_000 // len(part))
        took = []
        for _ in range(3):
            began = time.process_time()
            masked(text)
            took.append(time.process_time() - began)
        return min(took)

    usual = seconds("a sentence of words, as errors say them; ")
    slow = {
        part: ratio
        for part in (
            *("é", "日a", "é@", "a@", "://a", "+1 1 1 1 1 1 1 1 1 1 1 1 1 1 1x ", "00", "password='"),
            *("password=", "Bearer ", "- a : b\n", "-----BEGIN ", "secret   ", "eyJ", "a_", "value '", '"'),
            *("-eyJ", "eyJ_a", " - a : b\n \n", "\n ", "\né"),
        )
        if (ratio := seconds(part) / usual) > 8
    }
    assert slow == {}
