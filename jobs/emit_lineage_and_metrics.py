"""Record a run's outcomes in the ops tables and send its metrics."""

from lakehouse.cli import main
from lakehouse.flows.emit import emit

if __name__ == "__main__":
    main("emit_lineage_and_metrics", emit, __doc__)
