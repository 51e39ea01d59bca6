"""Regular expressions that mean the same to Snowflake, to RE2 and to Python.

Snowflake takes POSIX extended expressions with the classes of Perl, and no lookaround, back reference or option
(documentation: String functions, regular expressions). A pattern describes the whole value.
"""

from __future__ import annotations

import re
import warnings

#: \d \w \s and their opposites, \n \r \t, and any sign that is no letter or digit.
_ESCAPES = re.compile(r"\\(?:([dDwWsSnrt])|([^A-Za-z0-9]))", re.DOTALL)

#: What RE2 takes.
_MOST_REPEATS = 1_000


def check(pattern: str) -> None:
    """Raises ValueError, which says what a pattern has to be, where it does not mean the same everywhere."""
    place = 0
    while (place := pattern.find("\\", place)) >= 0:
        found = _ESCAPES.match(pattern, place)
        if found is None:
            raise ValueError(
                rf"no \{pattern[place + 1 : place + 2]}: of the escapes only \d \w \s \D \W \S \n \r \t and signs"
            )
        place = found.end()
    bare = _ESCAPES.sub("_", pattern)
    if "(?" in bare or re.search(r"[*+?}][?+]", re.sub(r"\[\^?\]?[^]]*\]", "_", bare)):
        raise ValueError("neither lookaround, options, non-capturing groups nor lazy or possessive repeats")
    if any(int(number) > _MOST_REPEATS for number in re.findall(r"[{,]([0-9]+)(?=[,}])", bare)):
        raise ValueError(f"at most {_MOST_REPEATS} repeats")
    try:
        with warnings.catch_warnings():
            # [[:alpha:]] looks like a set within a set to Python.
            warnings.simplefilter("ignore")
            re.compile(re.sub(r"\[:\^?[a-z]+:\]", "a", pattern))
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"a regular expression: {error}") from None
