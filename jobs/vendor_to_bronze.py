"""Extract a window from vendor into landing files and load them into Bronze."""

from lakehouse.cli import main
from lakehouse.flows.ingest import ingest

if __name__ == "__main__":
    main("vendor_to_bronze", lambda job: ingest(job, "vendor"), __doc__)
