"""The tables of a run, several side by side: each worker has a connection of its own, and a budget ends them all.

A table that fails, hangs or is forbidden is reported as that and stops no other.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

from dq_runner.config import Config
from dq_runner.discovery import Found, is_whole, not_checked, skipped, with_rows
from dq_runner.model import Measures, Result, Table, TableName, Window
from dq_runner.rules.of_table import rules_for
from dq_runner.scan import Answer, Plan, plan, sampled
from dq_runner.session import Count, NoWarehouse, Session, Sessions, StatementFailed
from dq_runner.words import counted
from lakehouse.errors import CredentialsError, LakehouseError, SourceUnavailable
from lakehouse.masks import masked, short

_MICRO = Decimal("0.000001")


@dataclass
class Checked:
    """What became of one table. ``quiet``: it has no rows of late, which was not known before it was read.

    ``cut``: there was no time or budget left for some of it.
    """

    table: Table
    window: Window
    results: list[Result]
    measures: Measures | None = None
    count: Count = field(default_factory=Count)
    credits: Decimal = Decimal(0)
    quiet: bool = False
    cut: bool = False


@dataclass
class Budget:
    """What a run may use: seconds up to ``ends`` (of the monotonic clock), credits by the estimate.

    ``credits_per_hour`` are of the warehouse's size (Snowflake Service Consumption Table, Table 1(b); X-Small: 1). A
    statement is taken for seconds × credits per hour, as if it had the warehouse for itself: the bill is lower where
    several run side by side.
    """

    ends: float
    seconds: float
    credits: Decimal | None
    credits_per_hour: Decimal
    total: Callable[[], Count]
    stopped: threading.Event = field(default_factory=threading.Event)

    def left(self) -> float:
        return self.ends - time.monotonic()

    def cost(self, seconds: float) -> Decimal:
        return (self.credits_per_hour * Decimal(str(round(seconds, 3))) / 3600).quantize(_MICRO)

    def used_up(self) -> str:
        """Why nothing more may be asked; empty while there is something left."""
        if self.stopped.is_set() or self.left() <= 0:
            return f"not tried: the run's time of {self.seconds:.0f} s was used up"
        if self.credits is not None and self.cost(self.total().seconds) >= self.credits:
            return f"not tried: the run's budget of {counted(self.credits, 'credit')} was used up"
        return ""


@dataclass(frozen=True)
class Job:
    """What every table of a run is checked by."""

    config: Config
    known: Mapping[TableName, Table]
    unsure: frozenset[TableName]
    at: datetime
    window: Window
    recent: Window
    budget: Budget


@dataclass
class Crew:
    """The workers that are at work."""

    number: int
    lock: threading.Lock = field(default_factory=threading.Lock)

    def leave(self) -> bool:
        """One stops; whether it was the last."""
        with self.lock:
            self.number -= 1
            return self.number == 0


def execute(
    sessions: Sessions, found: Found, job: Job, tell: Callable[[Checked], None] = lambda _: None
) -> list[Checked]:
    """Check every table that was found, in the order of their names; ``tell`` hears of each as it is done."""
    waiting: queue.SimpleQueue[Table] = queue.SimpleQueue()
    done: queue.SimpleQueue[Checked] = queue.SimpleQueue()
    for table in found.tables:
        waiting.put(table)
    crew = Crew(min(job.config.limits.workers, len(found.tables)))
    for _ in range(crew.number):
        # A worker that hangs in a socket must not keep the process: nobody joins it.
        threading.Thread(target=_work, args=(sessions, job, waiting, done, crew), daemon=True).start()
    outcomes: dict[TableName, Checked] = {}
    for checked in _as_they_come(done, len(found.tables), job.budget):
        outcomes[checked.table.name] = checked
        tell(checked)
    job.budget.stopped.set()
    for table in found.tables:
        if table.name not in outcomes:
            outcomes[table.name] = _not_tried(job, table, job.budget.used_up())
            tell(outcomes[table.name])
    return [outcomes[table.name] for table in found.tables]


def _as_they_come(done: queue.SimpleQueue[Checked], number: int, budget: Budget) -> Iterator[Checked]:
    for _ in range(number):
        try:
            yield done.get(timeout=max(0.0, budget.left()))
        except queue.Empty:
            return


def _work(
    sessions: Sessions,
    job: Job,
    waiting: queue.SimpleQueue[Table],
    done: queue.SimpleQueue[Checked],
    crew: Crew,
) -> None:
    """Check tables until none is left; a connection that broke is replaced by a new one."""
    while not waiting.empty():
        signed_in = False
        try:
            with sessions.open() as session:
                signed_in = True
                _with_session(session, job, waiting, done)
        except LakehouseError as error:
            # Of a connection that broke, the table is reported; whether Snowflake is there for the next one, the
            # sign-in will say. Who cannot sign in leaves the tables to the others, while there are any. What else holds
            # for every table that is left is said of each.
            if isinstance(error, SourceUnavailable):
                if signed_in:
                    continue
                if not crew.leave():
                    return
            for table in _taken(waiting):
                done.put(Checked(table, window_of(job, table), [not_checked(table.name, error)]))


def _with_session(
    session: Session, job: Job, waiting: queue.SimpleQueue[Table], done: queue.SimpleQueue[Checked]
) -> None:
    """Raises what holds for the whole connection, after the table that met it was reported."""
    for table in _taken(waiting):
        before = replace(session.count)
        failure: LakehouseError | None = None
        try:
            checked = _check(session, job, table)
        except (SourceUnavailable, CredentialsError, NoWarehouse) as error:
            failure = error
            checked = Checked(table, window_of(job, table), [not_checked(table.name, error)])
        except Exception as error:
            # A fault of ours, or an answer nobody has thought of: this table's alone.
            words = f"{type(error).__name__}: {masked(short(str(error), 300))}"
            checked = Checked(table, window_of(job, table), [not_checked(table.name, RuntimeError(words))])
        checked.count = session.count - before
        checked.credits = job.budget.cost(checked.count.seconds)
        done.put(checked)
        if failure is not None:
            raise failure


def _taken(waiting: queue.SimpleQueue[Table]) -> Iterator[Table]:
    with suppress(queue.Empty):
        while True:
            yield waiting.get_nowait()


def window_of(job: Job, table: Table) -> Window:
    return Window() if is_whole(table, job.config) else job.window


def _not_tried(job: Job, table: Table, reason: str) -> Checked:
    return Checked(table, window_of(job, table), [skipped(table.name, reason)], cut=True)


def _check(session: Session, job: Job, table: Table) -> Checked:
    """One table: its rules, its queries, its results."""
    if reason := job.budget.used_up():
        return _not_tried(job, table, reason)
    window = window_of(job, table)
    rules = rules_for(table, job.config, job.known)
    distinct = job.config.anomalies.on and job.config.anomalies.distinct
    made = plan(table, rules, window, job.at, job.known, distinct=distinct)
    answers, failure = _answers(session, job, made)
    if failure is not None and failure.is_of_object:
        # Another table may be at fault, to which keys refer by convention: then it is looked up apart.
        apart = plan(table, rules, window, job.at, job.known, apart=True, distinct=distinct)
        if apart.queries != made.queries:
            made = apart
            answers, failure = _answers(session, job, made)
    if failure is not None and failure.is_of_part:
        made = made.divided()
        answers, failure = _answers(session, job, made, is_divided=True)
    if failure is not None:
        return Checked(table, window, [not_checked(table.name, failure)])
    measures = made.measures(answers)
    if measures is not None and measures.rows == 0 and _is_quiet(session, job, table):
        return Checked(table, window, [], quiet=True)
    cut = any(answer.skipped for answer in answers.values())
    results = [_with_samples(session, job, made, one) for one in _judged(made, answers, job.budget)]
    return Checked(table, window, results, measures, cut=cut)


def _answers(
    session: Session, job: Job, made: Plan, *, is_divided: bool = False
) -> tuple[dict[int, Answer], StatementFailed | None]:
    """The answers to a plan's queries; the failure of its first scan, without which there is no sense in the others, or
    of one that is to be divided.
    """
    answers: dict[int, Answer] = {}
    for number, query in enumerate(made.queries):
        if reason := job.budget.used_up():
            answers[number] = Answer(failure=reason, skipped=True)
            continue
        try:
            answers[number] = session.ask(query.sql, about=str(made.table.name), scan=True)
        except StatementFailed as error:
            if number == 0 or (query.is_scan and error.is_of_part and not is_divided):
                return {}, error
            told = f"{error}. What to do: {error.hint}"
            answers[number] = Answer(failure=told, query_id=error.query_id, seconds=error.seconds)
    return answers, None


def _judged(made: Plan, answers: Mapping[int, Answer], budget: Budget) -> list[Result]:
    priced = {
        number: replace(answer, credits=budget.cost(answer.seconds)) for number, answer in answers.items()
    }
    return made.judge(priced)


def _with_samples(session: Session, job: Job, made: Plan, result: Result) -> Result:
    """The result with keys of failing rows, where they are asked for and there is still something left to ask with."""
    statement = made.sample(result, job.config.samples) if job.config.samples else ""
    if not statement or job.budget.used_up():
        return result
    try:
        return sampled(result, session.ask(statement, about=str(made.table.name), scan=True))
    except StatementFailed as error:
        return replace(result, message=f"no keys of failing rows: {error}")


def _is_quiet(session: Session, job: Job, table: Table) -> bool:
    """Whether a table of which it was not known has no rows of late."""
    return table.name in job.unsure and table.name not in with_rows(session, [table], job.recent)
