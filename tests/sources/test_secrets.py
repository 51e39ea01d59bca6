"""Credentials by name, without their values in any text."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from lakehouse.errors import ConfigError, CredentialsError, SourceUnavailable
from lakehouse.secrets import read_secret
from tests.sources.support import NOBODY, Setup

VALUE = "very-secret-value"


def test_fields_are_read(setup: Setup) -> None:
    setup.put_secret("kafka", {"api_key": "key", "api_secret": VALUE, "note": ""})

    secret = read_secret(setup.secret("kafka"), ["api_key", "api_secret"])

    assert secret["api_secret"] == VALUE
    assert VALUE not in f"{secret} {secret!r} {[secret]}"


def test_a_missing_secret_says_how_to_create_it(setup: Setup) -> None:
    with pytest.raises(CredentialsError, match="no such secret") as missing:
        read_secret(setup.secret("kafka"), ["api_key"])

    assert f"aws secretsmanager put-secret-value --secret-id {setup.secret('kafka')}" in missing.value.hint


def test_all_missing_fields_are_named_and_no_value_is(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="lakehouse")
    setup.put_secret("kafka", {"api_secret": VALUE, "api_key": ""})

    with pytest.raises(CredentialsError, match="received no api_key, group_id") as incomplete:
        read_secret(setup.secret("kafka"), ["api_key", "api_secret", "group_id"])

    assert "put-secret-value" in incomplete.value.hint
    assert VALUE not in f"{incomplete.value} {incomplete.value.hint} {caplog.text}"


@pytest.mark.parametrize("text", [VALUE, f'["{VALUE}"]', f'"{VALUE}'], ids=["text", "a list", "broken"])
def test_a_secret_that_is_no_json_object_is_not_quoted(setup: Setup, text: str) -> None:
    setup.put_secret("kafka", text)

    with pytest.raises(CredentialsError, match="JSON object") as refused:
        read_secret(setup.secret("kafka"), ["api_key"])

    assert refused.value.__context__ is None
    assert VALUE not in str(refused.value)


def test_secrets_manager_out_of_reach_is_transient(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", NOBODY)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")

    with pytest.raises(SourceUnavailable):
        read_secret(setup.secret("kafka"), ["api_key"])


def test_a_missing_region_is_a_mistake_of_the_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("lakehouse.secrets.region", lambda: None)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="received no Region") as refused:
        read_secret("lakehouse/any", ["token"])
    assert "AWS_REGION" in refused.value.hint
