"""What the doubles accept. These are no secrets: they open nothing but servers on this machine's loopback.

The local stack puts them into its Secrets Manager under the names the pipeline uses.
"""

from __future__ import annotations

HUBSPOT = {"token": "local-hubspot-token"}

SALESFORCE = {
    "username": "integration@example.com",
    "password": "local-password",
    "security_token": "local-token",
    "client_id": "local-client",
    "client_secret": "local-client-secret",
}

SNOWFLAKE = {
    "account": "local",
    "username": "lakehouse",
    "password": "local-password",
    "warehouse": "LOAD_WH",
    "database": "SALES",
    "schema": "PUBLIC",
}
# Of the same user: what the local stack does not sign in with, which has a key pair of its own (local.snowflake.keys).
SNOWFLAKE_TOKEN = "local-programmatic-token"

# The user of the data-quality runner, who only reads. It has another key than the lakehouse's, too.
SNOWFLAKE_DQ = {
    "account": "local",
    "username": "dq_platform",
    "password": "local-dq-password",
    "role": "DQ_READER",
    "warehouse": "DQ_WH",
}
SNOWFLAKE_DQ_TOKEN = "local-dq-programmatic-token"
# What its role may read at first: database and schema.
SNOWFLAKE_DQ_SCHEMAS = (("SALES", "PUBLIC"),)
