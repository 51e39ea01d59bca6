"""Read a range of a source again, in chunks, beside the daily run."""

from lakehouse.cli import main
from lakehouse.flows.backfill import backfill, options

if __name__ == "__main__":
    main("backfill", backfill, __doc__, options=options)
