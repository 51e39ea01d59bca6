"""Bring every live table to its contract: create what is missing, add nullable columns, run named migrations."""

from lakehouse.cli import main
from lakehouse.flows.apply_contracts import apply

if __name__ == "__main__":
    main("apply_contracts", apply, __doc__)
