"""Register the lake's Delta tables in Glue, as Athena needs them."""

import argparse

from lakehouse.catalog import LAYERS, register
from lakehouse.cli import Job, main


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--db", choices=[*LAYERS, "all"], default="all", help="layer to register (default: all)"
    )


def register_tables(job: Job) -> None:
    chosen = job.arguments.db
    for item in register(job.settings, LAYERS if chosen == "all" else (chosen,)):
        line = f"{item.table}: {item.action} ({item.columns} columns)"
        job.outcome.notes.append(line)
        print(line)


if __name__ == "__main__":
    main("register_glue_tables", register_tables, __doc__, options=options)
