"""Extract a window from snowflake into landing files and load them into Bronze."""

from lakehouse.cli import main
from lakehouse.flows.ingest import ingest

if __name__ == "__main__":
    main("snowflake_to_bronze", lambda job: ingest(job, "snowflake"), __doc__)
