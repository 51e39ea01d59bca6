"""Settings: one YAML file an environment, ``${NAME}`` taken from the process environment, unknown keys refused.

No secret is ever a setting: ``secret`` fields name an entry in Secrets Manager.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from lakehouse import store
from lakehouse.errors import ConfigError, Violation

S3Uri = Annotated[str, StringConstraints(pattern=r"^s3://[a-z0-9][a-z0-9.-]+[a-z0-9](/[^/]+)*$")]
HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^/]+")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RetrySettings(_Frozen):
    """Patience with one call to a source: tries, and seconds from the first try to the last."""

    attempts: int = Field(default=8, ge=1)
    first_wait_seconds: float = Field(default=0.5, gt=0)
    max_wait_seconds: float = Field(default=300, gt=0)


class HubSpotSettings(_Frozen):
    """HubSpot CRM v3. ``endpoint`` replaces the API's host where a local double answers."""

    secret: str
    endpoint: HttpUrl | None = None
    page_size: int = Field(default=100, ge=2, le=200)
    overlap_minutes: int = Field(
        default=60, ge=0, description="index lag of the search API: this much is read again"
    )


class SalesforceSettings(_Frozen):
    """Salesforce REST. ``endpoint`` leads login and REST calls to a local double."""

    secret: str
    endpoint: HttpUrl | None = None
    auth: Literal["client_credentials", "password"] = "client_credentials"
    api_version: str = "62.0"
    overlap_minutes: int = Field(
        default=60, ge=0, description="a change is seen when its transaction ends: this much is read again"
    )


class SnowflakeSettings(_Frozen):
    """Snowflake orders. ``host``, ``port`` and ``protocol`` lead the connector to a local double.

    ``network_timeout_seconds``: how long a query may take, repetitions after a lost connection included; the connector
    cancels it then.
    """

    secret: str
    table: str = "SALES.PUBLIC.ORDERS"
    host: str | None = None
    port: int | None = None
    protocol: Literal["http", "https"] = "https"
    overlap_minutes: int = Field(default=60, ge=0)
    network_timeout_seconds: int = Field(default=1800, ge=1)


class VendorSettings(_Frozen):
    """Shipment files that a vendor puts into ``inbox_uri``.

    ``max_file_bytes``: a larger file is refused. ``max_run_bytes``: files beyond it wait for the next run.
    """

    inbox_uri: S3Uri
    max_file_bytes: int = Field(default=256 * 2**20, ge=1)
    max_run_bytes: int = Field(default=1024 * 2**20, ge=1)


class FxSourceSettings(_Frozen):
    """ECB euro reference rates. ``max_document_bytes``: a larger document is refused (the whole history has 7 MB)."""

    daily_url: HttpUrl
    history_url: HttpUrl
    max_document_bytes: int = Field(default=64 * 2**20, ge=1)


class StreamSettings(_Frozen):
    """The streaming job. ``max_offsets_per_trigger`` bounds a batch, and so memory, while the stream catches up.

    ``checkpoint_uri``: its checkpoints, one folder a topic (default: ``checkpoints/kafka_orders`` in the lake).
    """

    trigger_seconds: int = Field(default=30, ge=1)
    max_offsets_per_trigger: int = Field(default=200_000, ge=1)
    checkpoint_uri: S3Uri | None = None


class KafkaSettings(_Frozen):
    """The order topic. ``mode`` batch reads a bounded range a run; stream is fed by a job of its own.

    An event larger than ``max_value_bytes`` is refused unparsed. ``lost_before``: by partition, an offset before which
    records that expired unread are known to be lost; without it a run refuses to go on behind them.
    """

    secret: str
    topic: str = "orders_events"
    mode: Literal["batch", "stream"] = "batch"
    security_protocol: Literal["SASL_SSL", "SASL_PLAINTEXT"] = "SASL_SSL"
    max_value_bytes: int = Field(default=1_048_576, ge=1)
    lost_before: dict[int, int] = {}
    stream: StreamSettings = StreamSettings()


class SourceSettings(_Frozen):
    hubspot: HubSpotSettings
    salesforce: SalesforceSettings
    snowflake: SnowflakeSettings
    vendor: VendorSettings
    fx: FxSourceSettings
    kafka: KafkaSettings
    retry: RetrySettings = RetrySettings()


class FxRules(_Frozen):
    """How long a rate may be carried forward, and how long a late rate still re-prices an order (days)."""

    max_staleness_days: int = Field(default=5, ge=0)
    restate_days: int = Field(default=35, ge=0)


class OpenLineageSettings(_Frozen):
    """Where lineage events go: objects in the lake, an HTTP endpoint (Marquez), a Kafka topic, or nowhere.

    ``secret``: for http its ``api_key``, where the endpoint wants one; for kafka ``bootstrap_servers``, ``api_key`` and
    ``api_secret``.
    """

    transport: Literal["file", "http", "kafka", "none"] = "file"
    url: HttpUrl | None = None
    topic: str = "openlineage"
    secret: str | None = None
    security_protocol: Literal["SASL_SSL", "SASL_PLAINTEXT"] = "SASL_SSL"
    namespace: str = "lakehouse"

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> OpenLineageSettings:
        if self.transport == "http" and self.url is None:
            raise ValueError("transport http needs a url")
        if self.transport == "kafka" and self.secret is None:
            raise ValueError("transport kafka needs a secret")
        return self


class MetricsSettings(_Frozen):
    namespace: str = "Lakehouse"
    enabled: bool = True


class Prices(_Frozen):
    """USD in ``region`` on ``as_of``, used to state the cost of a run: an hour of EMR Serverless, and a terabyte (10^12
    bytes) that Athena scans (None: not priced).
    """

    region: str
    as_of: str
    vcpu_hour: Decimal
    memory_gb_hour: Decimal
    storage_gb_hour: Decimal
    athena_tb_scanned: Decimal | None = None


class BudgetSettings(_Frozen):
    """USD that the jobs of 24 hours may cost before the watchdog raises an alarm; None: as much as they like."""

    daily_usd: Decimal | None = Field(default=None, gt=0)


class GlueSettings(_Frozen):
    """Glue database of each layer."""

    bronze: str = "lakehouse_bronze"
    silver: str = "lakehouse_silver"
    gold: str = "lakehouse_gold"
    ops: str = "lakehouse_ops"


class LakeFormationSettings(_Frozen):
    """``classification_tag``: key of the LF tag that each column's classification is put into (None: no tags)."""

    classification_tag: str | None = None


class AthenaSettings(_Frozen):
    """``workgroups``: those whose queries are part of the cost."""

    workgroups: tuple[str, ...] = ("lakehouse",)


def _in_clear(values: Any, where: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Settings by which something would be sent unencrypted, with the way to each."""
    if isinstance(values, dict):
        for name, value in values.items():
            yield from _in_clear(value, (*where, str(name)))
    elif isinstance(values, str):
        is_protocol = where[-1] == "protocol" and values == "http"
        is_plain_kafka = where[-1] == "security_protocol" and values.endswith("PLAINTEXT")
        if is_protocol or is_plain_kafka or values.lower().startswith("http://"):
            yield where, values


def _clear_error(where: tuple[str, ...], value: str) -> InitErrorDetails:
    expected = "SASL_SSL" if where[-1] == "security_protocol" else "https"
    kind = PydanticCustomError("in_clear", "{expected}, unless environment is local", {"expected": expected})
    return InitErrorDetails(type=kind, loc=where, input=value)


class Settings(_Frozen):
    """Everything that differs between environments."""

    environment: Literal["local", "dev", "prod"]
    region: str
    lake_uri: S3Uri
    emr_application_id: str | None = None
    sources: SourceSettings
    fx: FxRules = FxRules()
    glue: GlueSettings = GlueSettings()
    lake_formation: LakeFormationSettings = LakeFormationSettings()
    athena: AthenaSettings = AthenaSettings()
    openlineage: OpenLineageSettings = OpenLineageSettings()
    metrics: MetricsSettings = MetricsSettings()
    prices: Prices
    budget: BudgetSettings = BudgetSettings()
    dq_thresholds: dict[str, dict[str, dict[str, Any]]] = Field(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _is_encrypted(cls, values: Any, validate: ModelWrapValidatorHandler[Settings]) -> Settings:
        """Outside of a laptop nothing is sent in clear, whatever else is wrong with the settings."""
        known: list[InitErrorDetails] = []
        if isinstance(values, dict) and values.get("environment") != "local":
            known = [_clear_error(where, value) for where, value in _in_clear(values)]
        try:
            settings = validate(values)
        except ValidationError as error:
            others = [cast(InitErrorDetails, item) for item in error.errors(include_url=False)]
            raise ValidationError.from_exception_data(cls.__name__, [*others, *known]) from None
        if known:
            raise ValidationError.from_exception_data(cls.__name__, known)
        return settings

    def table_uri(self, name: str) -> str:
        """Location of a table by its dotted name, e.g. ``silver.orders``."""
        layer, table = name.split(".")
        return f"{self.lake_uri}/{layer}/{table}"

    @property
    def kafka_checkpoint_uri(self) -> str:
        """Checkpoint of the topic's streaming job."""
        base = self.sources.kafka.stream.checkpoint_uri or f"{self.lake_uri}/checkpoints/kafka_orders"
        return f"{base}/{self.sources.kafka.topic}"


_VARIABLE = re.compile(r"\$\{([A-Z][A-Z0-9_]*)\}")


def expand(text: str, environment: dict[str, str], where: str) -> str:
    """Replace every ``${NAME}``; all missing names in one ConfigError."""
    missing = sorted({name for name in _VARIABLE.findall(text) if not environment.get(name)})
    if missing:
        raise ConfigError(
            f"{where} needs environment variables that are not set",
            violations=tuple(Violation(f"${{{name}}}", "nothing", "a value") for name in missing),
            hint="set them for the job (spark.emr-serverless.driverEnv.NAME on EMR; `make local-up` sets them locally)",
        )
    return _VARIABLE.sub(lambda match: environment[match.group(1)], text)


def _read(location: str) -> str | None:
    if location.startswith("s3://"):
        body = store.get(location)
        return None if body is None else body.decode()
    path = Path(location)
    return path.read_text() if path.exists() else None


def settings_location(given: str | None) -> str:
    """Where a script's settings are: its ``--config``, else ``$LAKEHOUSE_CONFIG``. Raises ConfigError without both."""
    location = given or os.environ.get("LAKEHOUSE_CONFIG")
    if location is None:
        raise ConfigError(
            "received neither --config nor $LAKEHOUSE_CONFIG, expected a settings file",
            hint="start the local stack (`make local-up`), or name the settings: "
            "--config s3://<code bucket>/config/prod.yaml",
        )
    return location


def load_settings(location: str) -> Settings:
    """Read settings from a path or ``s3://`` URI; ``dq_thresholds.yaml`` beside it holds threshold overrides.

    From then on this process's clients of AWS are of the settings' Region. Raises ConfigError with every unknown,
    missing or malformed key, and every way to a service that is not encrypted, at once.
    """
    text = _read(location)
    if text is None:
        raise ConfigError(f"received --config {location}, expected a readable settings file")
    values = yaml.safe_load(expand(text, dict(os.environ), location))
    if not isinstance(values, dict):
        raise ConfigError(f"{location}: received {type(values).__name__}, expected a mapping of settings")
    thresholds = _read(re.sub(r"[^/]+$", "dq_thresholds.yaml", location))
    if thresholds is not None:
        values["dq_thresholds"] = yaml.safe_load(thresholds) or {}
    violations = _plain_endpoints(os.environ) if values.get("environment") != "local" else []
    try:
        settings = Settings(**values)
    except ValidationError as error:
        violations = [*_violations(error), *violations]
    if violations:
        raise ConfigError(f"{location} does not hold valid settings", violations=tuple(violations))
    store.use_region(settings.region)
    return settings


def _violations(error: ValidationError) -> list[Violation]:
    return [
        Violation(
            ".".join(str(part) for part in item["loc"]),
            "nothing" if item["type"] == "missing" else repr(item["input"]),
            item["msg"],
        )
        for item in error.errors()
    ]


def _plain_endpoints(environment: Mapping[str, str]) -> list[Violation]:
    """Endpoints of AWS (``AWS_ENDPOINT_URL``, ``AWS_ENDPOINT_URL_S3`` and so on) that boto3 would not encrypt."""
    return [
        Violation(f"${name}", value, "https://, unless environment is local")
        for name, value in sorted(environment.items())
        if name.startswith("AWS_ENDPOINT_URL") and value.lower().startswith("http://")
    ]
