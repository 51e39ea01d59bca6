#!/usr/bin/env python3
"""Register the lake's Delta tables in Glue, as Athena needs them, and tag columns where the settings say so."""

import argparse

from lakehouse import contracts
from lakehouse.catalog import LAYERS, register
from lakehouse.cli import Job, main
from lakehouse.flows.lf_tags import tag_columns


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--db", choices=[*LAYERS, "all"], default="all", help="layer to register (default: all)"
    )


def register_tables(job: Job) -> None:
    chosen = job.arguments.db
    registered = register(job.settings, LAYERS if chosen == "all" else (chosen,))
    lines = [f"{item.table}: {item.action} ({item.columns} columns)" for item in registered]
    _say(job, lines)
    known = [contracts.load(item.table) for item in registered if item.table in contracts.names()]
    _say(job, [f"{each.table}: {each.columns} columns tagged" for each in tag_columns(job.settings, known)])


def _say(job: Job, lines: list[str]) -> None:
    for line in lines:
        job.outcome.notes.append(line)
        print(line)


if __name__ == "__main__":
    main("register_glue_tables", register_tables, __doc__, options=options)
