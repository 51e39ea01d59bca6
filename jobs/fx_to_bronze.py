"""Extract a window from fx into landing files and load them into Bronze."""

from lakehouse.cli import main
from lakehouse.flows.ingest import ingest

if __name__ == "__main__":
    main("fx_to_bronze", lambda job: ingest(job, "fx"), __doc__)
