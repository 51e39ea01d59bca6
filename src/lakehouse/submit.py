"""What a person types to run a job: the same words on a laptop and on AWS, so that every alert and hint prints them."""

from __future__ import annotations

#: Scripts that run on EMR as everything in jobs/ does. True: a run, which takes a run id and leaves an outcome; False:
#: a tool, which takes none and leaves none.
SCRIPTS = {
    "delta_optimize_vacuum": True,
    "quarantine": False,
    "recover": True,
    "register_glue_tables": True,
    "run_ge_checks": False,
}


def by_hand(job: str) -> str:
    """The beginning of the line that submits a job or script; its arguments come after it."""
    return f"scripts/emr_submit.sh {job}"


RECOVER = by_hand("recover")
QUARANTINE = by_hand("quarantine")
RUN_GE_CHECKS = by_hand("run_ge_checks")
BACKFILL = by_hand("backfill")
