"""Whether every command of the runbook exists, without executing any: markers, syntax, AWS's models, our own scripts,
make targets and DAGs.

    python -m local.runbook_check            # exit code 1, and a line for each thing that is wrong
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from lakehouse.submit import SCRIPTS
from local import aws_words
from local.runbook import DAILY, RUNBOOK, Problem, Runbook, parse
from local.shell_words import SUBSTITUTED, commands
from local.stack import REPO

_VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?")
#: What a variable stands for where a command line is tried: an argument may have a form.
EXAMPLES = {
    "JOB": "snowflake_to_bronze",
    "RUN": "20260102T060000Z-00000000-0000-0000-0000-000000000000",
    "NEXT": "20260102T070000Z-00000000-0000-0000-0000-000000000000",
    "TABLE": "silver.orders",
    "VERSION": "1",
    "TIME": "2026-01-02T06:00",
    "DAY": "2026-01-02",
    "SUBJECT": "hubspot:1",
}


def check(document: str, faults: Collection[str] | None = None) -> list[Problem]:
    """Everything that is wrong with a runbook, by line. ``faults``: names of procedures that have one to inject."""
    runbook = parse(document)
    found = list(runbook.problems)
    for block in runbook.blocks:
        problem = syntax(block.script)
        if problem:
            found.append(Problem(block.line, problem))
            continue
        for command in commands(block.script):
            line = block.line + command.line - 1
            found += [Problem(line, words) for words in command_problems(command.words)]
    if faults is not None:
        found += _without_fault(runbook, faults)
    return sorted(set(found), key=lambda problem: (problem.line, problem.message))


def syntax(script: str) -> str | None:
    """What `bash -n` has against a script."""
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
    return None if done.returncode == 0 else f"bash -n: {' '.join(done.stderr.split())}"


def _without_fault(runbook: Runbook, faults: Collection[str]) -> Iterator[Problem]:
    for procedure in runbook.procedures:
        # A general part (running jobs, looking at data) has no symptoms and needs no fault.
        if procedure.runs and procedure.name not in faults:
            yield Problem(
                procedure.line,
                f"{procedure.name} has a run block and no fault: add one to local/runbook_faults.py",
            )
    for name in sorted(set(faults) - {DAILY, *(procedure.name for procedure in runbook.procedures)}):
        yield Problem(1, f"there is a fault {name} and no procedure of that name")


def command_problems(words: Sequence[str]) -> list[str]:
    """What is wrong with one simple command; empty where nothing is known against it."""
    program, *rest = words
    program = program.removeprefix("./")
    if program == "aws":
        return aws_words.problems(words)
    if program == "make":
        return _make(rest)
    if program == "airflow":
        return _airflow(rest)
    if Path(program).name in ("python", "python3"):
        if rest and rest[0].endswith(".py"):
            return command_problems(rest)
        return _module(rest[1]) if rest[:1] == ["-m"] and len(rest) > 1 else []
    if program.startswith(("scripts/", "jobs/", "dags/", "local/")):
        if not (REPO / program).is_file():
            return [f"there is no {program}"]
        if program == "scripts/emr_submit.sh":
            return _submitted(rest)
        if program.endswith(".sh"):
            return []
        return _arguments(program, rest)
    return []


def _submitted(words: Sequence[str]) -> list[str]:
    if not words:
        return ["scripts/emr_submit.sh: received no job"]
    job = _exampled(words[0])
    program = f"scripts/{job}.py" if job in SCRIPTS else f"jobs/{job}.py"
    if not (REPO / program).is_file():
        return [
            f"scripts/emr_submit.sh: received the job {words[0]!r}, expected a file of jobs/ or one of "
            f"{', '.join(SCRIPTS)}"
        ]
    return _arguments(program, words[1:])


class _Parsed(BaseException):
    """The arguments were taken; nothing of the program is to happen."""


@contextlib.contextmanager
def _only_parsing() -> Iterator[None]:
    """Within, an argparse parser that has taken its arguments ends the program."""
    names = ("parse_args", "parse_known_args")
    real = {name: getattr(argparse.ArgumentParser, name) for name in names}
    depth = 0

    def stopping(name: str) -> Any:
        def parse(self: argparse.ArgumentParser, *arguments: Any, **options: Any) -> Any:
            nonlocal depth
            depth += 1
            try:
                found = real[name](self, *arguments, **options)
            finally:
                depth -= 1
            if depth == 0:
                raise _Parsed
            return found

        return parse

    before = list(sys.argv), dict(os.environ), list(sys.path)
    for name in names:
        setattr(argparse.ArgumentParser, name, stopping(name))
    try:
        os.environ["LAKEHOUSE_CONFIG"] = "config/local.yaml"
        yield
    finally:
        for name, function in real.items():
            setattr(argparse.ArgumentParser, name, function)
        sys.argv, sys.path[:] = before[0], before[2]
        os.environ.clear()
        os.environ.update(before[1])


def _arguments(program: str, words: Sequence[str]) -> list[str]:
    """What the program's own parser has against the arguments. Programs without argparse are not judged."""
    said = io.StringIO()
    with _only_parsing(), contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        sys.argv = [str(REPO / program), *map(_exampled, words)]
        try:
            if (
                "argparse" not in (REPO / program).read_text()
                and "lakehouse.cli" not in (REPO / program).read_text()
            ):
                return []
            runpy.run_path(str(REPO / program), run_name="__main__")
        except _Parsed:
            return []
        except SystemExit as end:
            if end.code in (0, None):
                return []
    last = said.getvalue().strip().splitlines()[-1:] or ["it refused the arguments"]
    return [f"{program}: {last[0]}"]


def _exampled(word: str) -> str:
    """A word with an example for each variable."""

    def example(match: re.Match[str]) -> str:
        name = match[1]
        return EXAMPLES.get(name) or next((v for k, v in EXAMPLES.items() if name.endswith(f"_{k}")), "x")

    return _VARIABLE.sub(example, word)


def _module(name: str) -> list[str]:
    path = REPO / name.replace(".", "/")
    if name.partition(".")[0] not in ("local", "lakehouse") or path.with_suffix(".py").is_file():
        return []
    return [] if (path / "__main__.py").is_file() else [f"there is no module {name}"]


@cache
def _makefile() -> tuple[frozenset[str], str]:
    text = (REPO / "Makefile").read_text()
    return frozenset(re.findall(r"^([a-z][\w-]*):", text, re.MULTILINE)), text


def _make(words: Sequence[str]) -> list[str]:
    targets, text = _makefile()
    found = []
    for word in words:
        name, equals, _ = word.partition("=")
        if equals and re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
            if not re.search(rf"\$\({name}\)|\$\(value {name}\)|\$\(if \$\({name}\)|\({name}\b", text):
                found.append(f"make: nothing reads {name}")
        elif not word.startswith("-") and word not in targets:
            found.append(f"make: there is no target {word}")
    return found


@cache
def dag_params() -> dict[str, frozenset[str]]:
    """The DAGs of dags/ with the names of their params, read from the source: Airflow is not imported."""
    found = {}
    for path in sorted((REPO / "dags").glob("*.py")):
        tree = ast.parse(path.read_text())
        constants = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            options = {keyword.arg: keyword.value for keyword in node.keywords}
            if "dag_id" not in options:
                continue
            dag_id, params = (_named(options.get(name), constants) for name in ("dag_id", "params"))
            if not isinstance(dag_id, ast.Constant):
                continue
            keys = params.keys if isinstance(params, ast.Dict) else []
            found[str(dag_id.value)] = frozenset(str(k.value) for k in keys if isinstance(k, ast.Constant))
    return found


def _named(value: ast.expr | None, constants: dict[str, ast.expr]) -> ast.expr | None:
    return constants.get(value.id) if isinstance(value, ast.Name) else value


def _airflow(words: Sequence[str]) -> list[str]:
    if list(words[:1]) != ["dags"] or len(words) < 3:
        return []
    dag = words[2]
    if dag.startswith("-") or "$" in dag:
        return []
    if dag not in dag_params():
        return [f"there is no DAG {dag}: dags/ has {', '.join(sorted(dag_params()))}"]
    for option, value in pairwise(words):
        if option in ("--conf", "-c"):
            return _conf(dag, value)
    return []


def _conf(dag: str, value: str) -> list[str]:
    if value == SUBSTITUTED:
        return []
    try:
        given = json.loads(_exampled(value))
    except ValueError as error:
        return [f"--conf for {dag}: received {value!r}, expected JSON ({error})"]
    if not isinstance(given, dict):
        return [f"--conf for {dag}: received {value!r}, expected a JSON object"]
    known = dag_params()[dag]
    return [
        f"DAG {dag} has no param {name}: it has {', '.join(sorted(known))}" for name in given.keys() - known
    ]


def main() -> int:
    from local.runbook_faults import FAULTS

    found = check(RUNBOOK.read_text(encoding="utf-8"), FAULTS)
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
