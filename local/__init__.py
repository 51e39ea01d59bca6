"""The laptop's AWS, Snowflake, Kafka and SaaS sources. Nothing in src/, jobs/ or dags/ imports this package."""
