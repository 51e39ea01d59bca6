"""Compare sources with the lake, by days of events or by ids; a difference is an alert and a proposal."""

from lakehouse.cli import main
from lakehouse.flows.reconcile import options, reconcile

if __name__ == "__main__":
    main("reconcile", reconcile, __doc__, options=options)
