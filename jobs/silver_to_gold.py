"""Publish Gold from the certified versions of Silver."""

from lakehouse.cli import main
from lakehouse.flows.publish import publish

if __name__ == "__main__":
    main("silver_to_gold", publish, __doc__)
