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
