"""Hold the contracts' rules against all certified rows again. Writes nothing; fails where a critical rule is broken."""

from lakehouse.cli import main
from lakehouse.flows.watch import options, recheck

if __name__ == "__main__":
    main("dq_recheck", recheck, __doc__, options=options)
