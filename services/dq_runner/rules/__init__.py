"""The rules of a table: what names say by convention and what config/dq_rules/ declares, as one model."""
