"""Merge every certified Bronze run that Silver does not hold yet."""

from lakehouse.cli import main
from lakehouse.flows.promote import promote

if __name__ == "__main__":
    main("bronze_to_silver", promote, __doc__)
