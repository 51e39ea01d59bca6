"""JSON as text: what was sent, to the last digit.

Spark's parsers make a double of a number with an exponent or of more than 38 digits, and drop the zeros behind others.
So numbers are put in quotes before the text is parsed, and a type's own parser judges them later.
"""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

MAP = "map<string,string>"
# Up to the next number: what is neither string nor number, and whole strings. Possessive throughout: Java repeats such
# a group without recursion, so that no text is too long for its stack.
_NUMBER = r'(?s)\G((?:[^"0-9-]|"(?:[^"\\]|\\.)*+")*+)(-?[0-9][0-9.eE+-]*+)'
_SURROGATE = r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
# A pair; any other escape; the backslash and the rest of half a pair.
_ESCAPES = r"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|(\\[^u])|(\\)(u[dD][89a-fA-F][0-9a-fA-F]{2})"


def with_numbers_quoted(text: Column) -> Column:
    """A JSON text with every number as a string of the same characters; of other texts nothing is promised."""
    return F.regexp_replace(text, F.lit(_NUMBER), F.lit('$1"$2"'))


def members(text: Column) -> Column:
    """The members of a JSON object by name, each as text; null where the text is no JSON object.

    Strings come unquoted, numbers, true and false as sent, null as null, arrays and objects as JSON in which numbers
    are strings; of a surrogate pair that is not whole, the escape.
    """
    return F.try_variant_get(F.try_parse_json(with_numbers_quoted(_with_halves_spelt(text))), "$", MAP)


def has_half_pair(text: Column) -> Column:
    """Whether a JSON text escapes half of a surrogate pair, which names no character; Spark would store a ``?``."""
    return _with_halves_spelt(text) != text


def _with_halves_spelt(text: Column) -> Column:
    return F.when(text.rlike(_SURROGATE), F.regexp_replace(text, _ESCAPES, "$1$2$3$3$4")).otherwise(text)
