"""Look at the whole lake from outside of the daily run; findings go to ops.watch_findings, critical ones fail."""

from lakehouse.cli import main
from lakehouse.flows.watch import watch

if __name__ == "__main__":
    main("dq_watchdog", watch, __doc__)
