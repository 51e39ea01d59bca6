"""The form of the runbook: what is a procedure, what a block, and what is said of a document that is neither."""

from __future__ import annotations

import pytest

from local.runbook import parse
from local.shell_words import commands, variables

GOOD = """\
# Runbook

## 8 Incidents

See [8.1](#broken).

### 8.1 Something broke {#broken}

**Symptoms** It is red. `$RUN` is the run.

**Cause** Rain.

**Do** Look.

<!-- run -->
```bash
scripts/emr_submit.sh recover status
echo "$RUN"
```

```text
$NOT_A_VARIABLE
```

**It worked when** it is green.

<!-- aws: needs an account -->
```bash
aws sts get-caller-identity
```

### 8.2 Another heading without a name
"""


def test_a_procedure_has_a_name_parts_and_blocks_in_order() -> None:
    book = parse(GOOD)
    assert book.problems == []
    [procedure] = book.procedures
    assert (procedure.name, procedure.number, procedure.title) == ("broken", "8.1", "Something broke")
    assert [(b.line, b.marker, b.reason) for b in procedure.blocks] == [
        (17, "run", ""),
        (29, "aws", "needs an account"),
    ]
    assert [b.line for b in procedure.runs] == [17]
    assert procedure.asks_for == ["RUN"]
    assert book.procedure("broken") is procedure
    with pytest.raises(KeyError, match=r"expected one of daily, broken"):
        book.procedure("other")


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        pytest.param("<!-- run -->", "", 16, "needs <!-- run -->", id="no-marker"),
        pytest.param("<!-- run -->", "<!-- runs -->", 15, "expected run, aws: REASON", id="other-marker"),
        pytest.param("<!-- run -->\n", "<!-- run -->\n\n", 15, "in the line before", id="marker-too-early"),
        pytest.param("aws: needs an account", "aws", 27, "says why", id="no-reason"),
        pytest.param("```text", "```sh", 21, "expected bash or text", id="other-language"),
        pytest.param("**Cause** ", "", 7, "lacks **Cause**", id="a-part-is-missing"),
        pytest.param(
            "**Cause** Rain.\n\n**Do** Look.", "**Do** Look.\n\n**Cause** Rain.", 7, "follow", id="order"
        ),
        pytest.param(" `$RUN` is the run.", "", 7, "does not say what $RUN is", id="unnamed-variable"),
        pytest.param("(#broken)", "(#fixed)", 5, "nothing here is called #fixed", id="dead-link"),
        pytest.param(
            "### 8.1 Something broke", "### Something broke", 7, "expected `### <number>", id="no-number"
        ),
        pytest.param(
            "### 8.2 Another heading without a name", "### 8.2 Again {#broken}", 32, "there twice", id="twice"
        ),
        pytest.param(
            "aws sts get-caller-identity\n```\n",
            "aws sts get-caller-identity\n",
            28,
            "never closed",
            id="open",
        ),
    ],
)
def test_what_is_wrong_is_said_by_line(old: str, new: str, line: int, said: str) -> None:
    assert old in GOOD
    problems = parse(GOOD.replace(old, new, 1)).problems
    assert [p for p in problems if p.line == line and said in p.message], problems


def words(script: str) -> list[tuple[int, list[str]]]:
    return [(command.line, list(command.words)) for command in commands(script)]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        pytest.param("a 'b c' \"d $E\" f\\ g", [(1, ["a", "b c", "d $E", "f g"])], id="quotes"),
        pytest.param("a \\\n  --b c\nd", [(1, ["a", "--b", "c"]), (3, ["d"])], id="continued-line"),
        pytest.param("a # b; c\nd#e", [(1, ["a"]), (2, ["d#e"])], id="comment"),
        pytest.param("a | b && c || d; e &", [(1, [x]) for x in "abcde"], id="lists"),
        pytest.param("A=1 B='2 3' c d", [(1, ["c", "d"])], id="assignments"),
        pytest.param("a > f 2>&1 < g b", [(1, ["a", "b"])], id="redirections"),
        pytest.param('export X="$(a b)-$(c)"', [(1, ["a", "b"]), (1, ["c"])], id="substitution-in-quotes"),
        pytest.param(
            "a $(b $(c d) e)",
            [(1, ["a", "$SUBSTITUTED"]), (1, ["b", "$SUBSTITUTED", "e"]), (1, ["c", "d"])],
            id="nested",
        ),
        pytest.param("for x in p q; do a ${x}_r; done", [(1, ["a", "p_r"]), (1, ["a", "q_r"])], id="loop"),
        pytest.param("a '{\"b\": \"'\"$C\"'\"}'", [(1, ["a", '{"b": "$C"}'])], id="json-with-a-variable"),
        pytest.param("if a; then b; fi", [(1, ["a"]), (1, ["b"])], id="condition"),
    ],
)  # fmt: skip
def test_commands_of_a_script(script: str, expected: list[tuple[int, list[str]]]) -> None:
    assert words(script) == expected


def test_variables_within_single_quotes_are_none() -> None:
    assert variables("a \"$B\" '$C' ${D} \"x = '$E' y\"") == {"B", "D", "E"}
