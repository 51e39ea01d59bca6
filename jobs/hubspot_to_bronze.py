"""Extract a window from hubspot into landing files and load them into Bronze."""

from lakehouse.cli import main
from lakehouse.flows.ingest import ingest

if __name__ == "__main__":
    main("hubspot_to_bronze", lambda job: ingest(job, "hubspot"), __doc__)
