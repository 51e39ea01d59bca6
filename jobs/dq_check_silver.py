"""Judge what this run made of Silver, and certify it or stop the day. If this fails, Gold never updates."""

from lakehouse.cli import main
from lakehouse.flows.gate import check_silver, options

if __name__ == "__main__":
    main("dq_check_silver", check_silver, __doc__, options=options)
