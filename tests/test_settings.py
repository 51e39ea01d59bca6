"""Settings: nothing in clear outside of a laptop, and the Region that they choose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from lakehouse import secrets, store
from lakehouse.errors import ConfigError, LakehouseError
from lakehouse.settings import Settings, load_settings
from tests.support import REPO

VARIABLES = {
    "AWS_REGION": "eu-central-1",
    "LAKE_BUCKET": "a-lake",
    "EMR_APPLICATION_ID": "app",
    "KAFKA_MODE": "batch",
}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)


def changed(tmp_path: Path, environment: str, **changes: Any) -> str:
    """prod.yaml with other values, by the way to each: ``sources__hubspot__endpoint``."""
    values = yaml.safe_load((REPO / "config" / "prod.yaml").read_text()) | {"environment": environment}
    for way, value in changes.items():
        place = values
        *parents, last = way.split("__")
        for name in parents:
            place = place.setdefault(name, {})
        place[last] = value
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(values))
    return str(path)


IN_CLEAR = {
    "sources__hubspot__endpoint": "http://hubspot.example",
    "sources__salesforce__endpoint": "http://salesforce.example",
    "sources__snowflake__protocol": "http",
    "sources__fx__daily_url": "http://ecb.example/daily.xml",
    "sources__fx__history_url": "http://ecb.example/hist.zip",
    "sources__kafka__security_protocol": "SASL_PLAINTEXT",
    "openlineage__url": "http://marquez.example",
    "openlineage__security_protocol": "SASL_PLAINTEXT",
}


def test_what_would_be_sent_in_clear_is_refused_all_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3.example")
    for environment in ("dev", "prod"):
        with pytest.raises(ConfigError) as refused:
            load_settings(changed(tmp_path, environment, **IN_CLEAR, lake="no such key"))
        found = {each.where: each for each in refused.value.violations}
        assert set(found) == {way.replace("__", ".") for way in IN_CLEAR} | {"lake", "$AWS_ENDPOINT_URL_S3"}
        assert found["sources.kafka.security_protocol"].expected == "SASL_SSL, unless environment is local"
        assert found["sources.hubspot.endpoint"].received == "'http://hubspot.example'"
    assert load_settings(changed(tmp_path, "local", **IN_CLEAR)).openlineage.url == "http://marquez.example"


@pytest.mark.parametrize("value", ["PLAINTEXT", "SSL"])
def test_kafka_without_sign_in_is_refused_everywhere(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigError, match="valid settings"):
        load_settings(changed(tmp_path, "local", sources__kafka__security_protocol=value))


@pytest.mark.parametrize("environment", [None, "prd", 7])
def test_an_environment_that_is_none_is_not_local(tmp_path: Path, environment: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        load_settings(changed(tmp_path, environment, openlineage__url="http://marquez.example"))
    assert {each.where for each in refused.value.violations} == {"environment", "openlineage.url"}


def test_settings_made_otherwise_are_judged_alike(tmp_path: Path) -> None:
    values = load_settings(changed(tmp_path, "prod")).model_dump()
    values["sources"]["snowflake"]["protocol"] = "http"
    with pytest.raises(ValueError, match="https, unless environment is local"):
        Settings.model_validate(values)


def test_every_client_is_of_the_settings_region(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A submission sets AWS_REGION alone, which boto3 does not read."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    store.client.cache_clear()
    assert store.client().meta.region_name == "eu-central-1"

    load_settings(changed(tmp_path, "prod", region="eu-west-3"))

    assert store.client().meta.region_name == "eu-west-3"
    assert store.delta_options() == {"region": "eu-west-3"}
    asked: list[str | None] = []

    def client(*_: Any, region_name: str | None = None, **__: Any) -> Any:
        asked.append(region_name)
        raise LakehouseError("asked")

    monkeypatch.setattr(boto3, "client", client)
    with pytest.raises(LakehouseError, match="asked"):
        secrets.read_secret("a/secret", ["token"])
    assert asked == ["eu-west-3"]
    store.client.cache_clear()
