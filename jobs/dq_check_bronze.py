"""Judge what this run wrote to Bronze, and certify it or stop the day."""

from lakehouse.cli import main
from lakehouse.flows.gate import check_bronze, options

if __name__ == "__main__":
    main("dq_check_bronze", check_bronze, __doc__, options=options)
