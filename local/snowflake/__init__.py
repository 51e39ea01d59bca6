"""The local double of Snowflake: fakesnow's server, kept on disk, behind the real connector."""
