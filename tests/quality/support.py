"""Settings for tests of gates: nothing but the lake is ever reached."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from lakehouse.settings import Prices, Settings, SourceSettings

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
_NOBODY = "http://127.0.0.1:9"


def make_settings(lake: str, **changes: Any) -> Settings:
    """Settings whose lake is at ``lake``."""
    sources: dict[str, Any] = {
        "hubspot": {"secret": "hubspot"},
        "salesforce": {"secret": "salesforce"},
        "snowflake": {"secret": "snowflake"},
        "vendor": {"inbox_uri": f"{lake}/landing/vendor/inbox"},
        "fx": {"daily_url": f"{_NOBODY}/daily.xml", "history_url": f"{_NOBODY}/hist.zip"},
        "kafka": {"secret": "kafka"},
    }
    prices = Prices(
        region="eu-central-1",
        as_of="2026-11-01",
        vcpu_hour=Decimal(1),
        memory_gb_hour=Decimal(1),
        storage_gb_hour=Decimal(1),
    )
    values: dict[str, Any] = {
        "environment": "local",
        "region": "eu-central-1",
        "lake_uri": lake,
        "sources": SourceSettings(**sources),
        "prices": prices,
    }
    return Settings(**(values | changes))
