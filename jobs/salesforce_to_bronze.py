"""Extract a window from salesforce into landing files and load them into Bronze."""

from lakehouse.cli import main
from lakehouse.flows.ingest import ingest

if __name__ == "__main__":
    main("salesforce_to_bronze", lambda job: ingest(job, "salesforce"), __doc__)
