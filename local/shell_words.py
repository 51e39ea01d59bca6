"""The simple commands of a bash script, as far as a runbook's blocks go: pure, and no interpreter.

Known are quotes, line continuations, comments, `;`, `|`, `&&`, `||`, `&`, newlines, subshells, `$( )` (its commands are
found as well), redirections, leading assignments and the words of `for`, `if` and `while`. Here-documents are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

_KEYWORDS = {"do", "done", "then", "else", "elif", "fi", "if", "while", "until", "!", "{", "}", "time"}
_ASSIGNMENT = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*=")
_VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)")
#: What a value that is known only at run time stands as in a word.
SUBSTITUTED = "$SUBSTITUTED"


@dataclass(frozen=True)
class Command:
    """A simple command: the line of the script (from 1) where it begins, and its words without their quotes."""

    line: int
    words: tuple[str, ...]


def commands(script: str) -> list[Command]:
    """Every simple command, those within `$( )` included; words of a `for` loop's variable once for each value."""
    found: list[Command] = []
    loops: dict[str, list[str]] = {}
    for command in _simple(script, 1):
        words = list(command.words)
        while words and words[0] in _KEYWORDS:
            words.pop(0)
        if words[:1] == ["for"]:
            if len(words) > 3 and words[2] == "in":
                loops[words[1]] = words[3:]
            continue
        if words[:1] == ["export"]:
            words.pop(0)
        while words and _ASSIGNMENT.match(words[0]):
            words.pop(0)
        if words:
            found += [Command(command.line, each) for each in _expanded(tuple(words), loops)]
    return found


def variables(script: str) -> set[str]:
    """Names of the variables that a script reads, those within single quotes excluded."""
    outside = re.sub(r"(\"(?:\\.|[^\"])*\")|'[^']*'", lambda found: found[1] or "", script)
    return set(_VARIABLE.findall(outside))


def assigned(script: str) -> set[str]:
    """Names that a script gives values to."""
    plain = re.findall(r"(?:^|[;\s])(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=", script, re.MULTILINE)
    return {*plain, *re.findall(r"\bfor\s+([A-Za-z_][A-Za-z0-9_]*)\s+in\b", script)}


def _expanded(words: tuple[str, ...], loops: dict[str, list[str]]) -> list[tuple[str, ...]]:
    used = [name for name in loops if any(name in _VARIABLE.findall(word) for word in words)]
    result = []
    for values in product(*(loops[name] for name in used)):
        changed = list(words)
        for name, value in zip(used, values, strict=True):
            changed = [
                re.sub(rf"\$(?:\{{{name}\}}|{name}\b)", value.replace("\\", r"\\"), w) for w in changed
            ]
        result.append(tuple(changed))
    return result


def _simple(script: str, line: int) -> Iterator[Command]:
    words: list[str] = []
    word: list[str] = []
    begun: int | None = None  # line of the command's first word
    in_word = skip_next = False
    inner: list[tuple[str, int]] = []
    at = 0

    def end_word() -> None:
        nonlocal in_word, skip_next
        if in_word:
            if skip_next:
                skip_next = False
            else:
                words.append("".join(word))
            word.clear()
            in_word = False

    while at < len(script):
        char = script[at]
        if char == "\\" and at + 1 < len(script):
            if script[at + 1] == "\n":
                line += 1
            else:
                word.append(script[at + 1])
                in_word = True
            at += 2
            continue
        if char == "'":
            end = script.find("'", at + 1)
            end = len(script) if end < 0 else end
            word.append(script[at + 1 : end])
            line += script.count("\n", at, end)
            in_word, begun, at = True, begun or line, end + 1
            continue
        if char == '"':
            text, at, subs = _double_quoted(script, at + 1, line)
            inner += subs
            word.append(text)
            in_word, begun = True, begun or line
            line += text.count("\n")
            continue
        if script.startswith("$(", at) and not script.startswith("$((", at):
            end = _closing(script, at + 2)
            inner.append((script[at + 2 : end], line))
            line += script.count("\n", at, end)
            word.append(SUBSTITUTED)
            in_word, begun, at = True, begun or line, end + 1
            continue
        if char == "#" and not in_word:
            end = script.find("\n", at)
            at = len(script) if end < 0 else end
            continue
        if char in "<>":
            # A file descriptor before it, and the file or descriptor after it, are no words of the command.
            if in_word and "".join(word).isdigit():
                word.clear()
                in_word = False
            end_word()
            at += 1
            while at < len(script) and script[at] in "<>&":
                at += 1
            skip_next = True
            continue
        if char in "\n;|&()":
            end_word()
            skip_next = False
            if words:
                yield Command(begun or line, tuple(words))
                words = []
            begun = None
            line += char == "\n"
            at += 1
            continue
        if char in " \t":
            end_word()
            at += 1
            continue
        word.append(char)
        in_word, begun, at = True, begun or line, at + 1
    end_word()
    if words:
        yield Command(begun or line, tuple(words))
    for text, where in inner:
        yield from _simple(text, where)


def _double_quoted(script: str, at: int, line: int) -> tuple[str, int, list[tuple[str, int]]]:
    """The text up to the closing quote, where it goes on, and the scripts of `$( )` within."""
    text: list[str] = []
    subs: list[tuple[str, int]] = []
    while at < len(script) and script[at] != '"':
        if script[at] == "\\" and script[at + 1 : at + 2] in ("\\", '"', "$", "`", "\n"):
            text.append(script[at + 1].replace("\n", ""))
            at += 2
        elif script.startswith("$(", at) and not script.startswith("$((", at):
            end = _closing(script, at + 2)
            subs.append((script[at + 2 : end], line))
            text.append(SUBSTITUTED)
            at = end + 1
        else:
            text.append(script[at])
            at += 1
    return "".join(text), at + 1, subs


def _closing(script: str, at: int) -> int:
    """Where the parenthesis that was opened before ``at`` is closed."""
    depth = 1
    quote = ""
    while at < len(script):
        char = script[at]
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
            if depth == 0:
                return at
        at += 1
    return len(script)
