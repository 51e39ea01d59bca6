"""The files of a data folder: which source a file feeds and which columns it has.

One place for the generator, which writes such folders, and the loader, which reads the user's.
Files are recognised by the beginning of their names; docs/sample-data.md is the prose version.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path


class Kind(Enum):
    """How the loader treats a file."""

    CSV = "csv"  # header checked, every cell handed over as it is
    JSON_LINES = "jsonl"  # one Kafka message per line
    OPAQUE = "opaque"  # copied byte for byte, judged by the pipeline alone


@dataclass(frozen=True)
class Layout:
    """One kind of file in a data folder."""

    name: str
    prefix: str
    kind: Kind
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        return self.required + self.optional

    @property
    def suffix(self) -> str:
        return ".jsonl" if self.kind is Kind.JSON_LINES else ".csv"

    def matches(self, path: Path) -> bool:
        return path.name.startswith(self.prefix) and path.suffix.lower() == self.suffix


HUBSPOT_CONTACTS = Layout(
    "hubspot_contacts",
    "hubspot_contacts",
    Kind.CSV,
    required=(
        "id",
        "createdate",
        "lastmodifieddate",
        "email",
        "firstname",
        "lastname",
        "phone",
        "company",
        "lifecyclestage",
        "country",
        "salesforceaccountid",
    ),
    optional=("archived", "merged_into"),
)

SALESFORCE_ACCOUNTS = Layout(
    "salesforce_accounts",
    "salesforce_accounts",
    Kind.CSV,
    required=(
        "Id",
        "Name",
        "Type",
        "Industry",
        "BillingCountry",
        "Phone",
        "Website",
        "CreatedDate",
        "SystemModstamp",
    ),
    optional=("IsDeleted", "LastModifiedDate"),
)

SALESFORCE_LEADS = Layout(
    "salesforce_leads",
    "salesforce_leads",
    Kind.CSV,
    required=(
        "Id",
        "FirstName",
        "LastName",
        "Email",
        "Company",
        "Status",
        "Country",
        "CreatedDate",
        "SystemModstamp",
    ),
    optional=("ConvertedAccountId", "IsConverted", "IsDeleted", "LastModifiedDate"),
)

SNOWFLAKE_ORDERS = Layout(
    "snowflake_orders",
    "snowflake_orders",
    Kind.CSV,
    required=("ORDER_ID", "EVENT_TS", "CUSTOMER_ID", "STATUS", "AMOUNT", "CURRENCY"),
    optional=("SHIPPED_AT", "DELIVERED_AT", "LOADED_AT"),
)

KAFKA_ORDERS = Layout("kafka_orders", "kafka_orders", Kind.JSON_LINES)

VENDOR_SHIPMENTS = Layout(
    "vendor_shipments",
    "vendor_shipments",
    Kind.OPAQUE,
    required=(
        "shipment_id",
        "order_id",
        "carrier",
        "tracking_number",
        "status",
        "shipped_local",
        "delivered_local",
        "weight_kg",
        "cost",
        "currency",
    ),
)

# Two forms, told apart by their headers: the ECB's own wide table (Date,USD,JPY,...), or one quote per line.
FX_RATES = Layout("fx_rates", "fx_rates", Kind.CSV)
FX_LONG_COLUMNS = ("as_of_date", "ccy", "ccy_per_eur")
FX_WIDE_DATE = "Date"

LAYOUTS = (
    HUBSPOT_CONTACTS,
    SALESFORCE_ACCOUNTS,
    SALESFORCE_LEADS,
    SNOWFLAKE_ORDERS,
    KAFKA_ORDERS,
    VENDOR_SHIPMENTS,
    FX_RATES,
)

MANIFEST_NAME = "manifest.json"
