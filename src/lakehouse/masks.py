"""What no log, error or outcome may hold: values of rows that errors quote, credentials, secrets that were read.

Our own messages carry none of them. What Spark and Delta say of a failure may quote the value that failed, and what a
client says may quote the URL, the header or the setting that it used. A text is masked in time that grows with its
length alone: an error may quote a whole file.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote, quote_plus

# One letter of a word of an address: ASCII, or anything beyond it.
_LETTER = "(?:[A-Za-z0-9{}-]|(?=[^ -~]).)"
# What follows the end of a quoted value, and no quote in its midst (O'Brien): punctuation, the end of the line, or a
# word with which errors go on.
_GOES_ON = "of|with|for|to|from|in|at|is|as|does|do|could|can|cannot|was|were|under|because|must|has"
_CLOSES = f"(?=[],.;:!?)>]| *$| (?:{_GOES_ON}) )"
# Words before a value in the errors of Spark, Delta, Python, Java, Arrow and pydantic.
_BEFORE = "(?<![A-Za-z0-9])((?:value|input|string|text|time data|convert|float|complex|decimal|base [0-9]+)(?::? |=))"
# The last word of the name of a field, setting, header or parameter that holds a credential, and what may stand between
# it and the value: `password=`, `"api_secret": `, `\"token\":\"` in JSON within JSON.
_NAMES = (
    "password|passwd|pwd|passphrase|passcode|secret|token|signature|cookie"
    "|(?:api|access|private|secret|session)[ ._-]?(?:key|secret|id)"
)
_FIELD = f"((?:{_NAMES})[^A-Za-z0-9 =:]{{0,2}}(?: *= *|: +|:(?=[^A-Za-z0-9 ])))"
# The same, up to a value in quotes.
_QUOTED = f"{_FIELD[:-1]}[^A-Za-z0-9 \"']?"

#: Credentials by their form, with what stands there instead.
CREDENTIALS = (
    ("(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|(?!.))", "…"),
    # Who signs in, in a URL.
    ("(://)[^ /?#\"'<>]*@", r"\1(…)@"),
    ("(?i)((?:proxy-)?authorization[^A-Za-z0-9 =:]{0,2} *[=:] *[^A-Za-z0-9 ]?(?:[a-z]+ +)?+)[^ \"',;]{4,}+", r"\1…"),
    (
        "((?:[Bb]earer|BEARER) +)(?!(?:tokens?|auth[a-z]*|scheme|realm|credentials?|access)(?![A-Za-z0-9._~+/=-]))"
        "[A-Za-z0-9._~+/=-]{5,}+",
        r"\1…",
    ),
    ("((?:[Bb]asic|BASIC) +)(?=[a-z]*[A-Z0-9=+/])[A-Za-z0-9+/=_-]{6,}+", r"\1…"),
    # Tokens that are known by their look: JSON web tokens, sessions of Salesforce, private apps of HubSpot. A run ends
    # where the next may begin, so that each is read once.
    ("(?<![A-Za-z0-9])eyJ(?:[A-Za-z0-9]|[_-](?!eyJ)){8,}+[.][A-Za-z0-9_.-]++", "…"),
    ("(?<![A-Za-z0-9])00D[A-Za-z0-9]{12,15}+![A-Za-z0-9._]++", "…"),
    ("(?<![A-Za-z0-9])pat-[a-z0-9]{2,4}-[A-Za-z0-9-]{20,}+", "…"),
    # A quote within the value is followed by more of it.
    (f'(?is){_QUOTED}").*?(?:"(?![A-Za-z0-9"])|(?!.))', r'\1…"'),
    (f"(?is){_QUOTED}').*?(?:'(?![A-Za-z0-9'])|(?!.))", r"\1…'"),
    (f"(?i){_FIELD}(?:(?![ \"'&;,)<>]).)++", r"\1…"),
)  # fmt: skip

#: Regular expressions of what is taken out, with what stands there instead. The JVM applies the same
#: (emr_configs/logging.yaml), which is why they have no backslash: a properties file would need it twice. ``(?!.)`` is
#: the end of the text: where a value is cut, or not closed, nothing after it is kept.
VALUES = (
    *CREDENTIALS,
    # An e-mail address; its host may have no dot (jane@localhost). It begins where a run of letters does, and each run
    # is read once.
    (
        "(?m)(?:^|(?<=[ -~]))(?<![A-Za-z0-9._%+-])" + _LETTER.format("._%+") + "++@" + _LETTER.format("") + "++(?:[.]"
        + _LETTER.format("") + "++)*+",
        "…@…",
    ),
    # A telephone number with its country: +49 30 1234567, +1 (555) 010-9999, 0049/30/1234567.
    (
        "(?:(?<![A-Za-z0-9+])[+]|(?<![A-Za-z0-9+.-])(?<![0-9]:)00)[1-9]"
        "(?:[ ()/.-]{0,2}[0-9]){6,14}(?![A-Za-z0-9])",
        "…",
    ),
    # Delta's constraints: "values:" and a line " - column : x" for each.
    (
        "(?ms)^( *- [A-Za-z0-9_.`]+ : ).*?(?=$(?:. *- [A-Za-z0-9_.`]+ : |.[^!-~]{0,9}at |.$)|(?!.))",
        r"\1…",
    ),
    # pydantic: "[type=…, input_value='x', input_type=str]".
    ("(?s)(input_value=).*?(?=, input_type=|(?!.))", r"\1…"),
    # Spark: "The value 12 of the type …".
    ("(?i)(the value )[^ '\"]+(?= of the type )", r"\1…"),
    (f"(?ims){_BEFORE}'.*?(?:'{_CLOSES}|(?!.))", r"\1'…'"),
    (f'(?ims){_BEFORE}".*?(?:"{_CLOSES}|(?!.))', r'\1"…"'),
)  # fmt: skip
_VALUES = tuple((re.compile(pattern), instead) for pattern, instead in VALUES)
_CREDENTIALS = _VALUES[: len(CREDENTIALS)]

#: Fields of a secret that only say where and as whom; every other is a credential.
PLAIN_FIELDS = frozenset(
    {
        *(
            "account",
            "bootstrap_servers",
            "client_id",
            "database",
            "group_id",
            "host",
            "instance_url",
            "port",
        ),
        *("region", "role", "schema", "user", "username", "warehouse"),
    }
)
# A shorter value is part of too many words; one below the second is looked for as a word of its own.
_SHORTEST = 4
_SHORT = 8
# Of a value with several lines (a key), each line that says something.
_SHORTEST_LINE = 16

_registered: set[str] = set()
_pattern: re.Pattern[str] | None = None


def register(fields: Mapping[str, str]) -> None:
    """Take the credentials of a secret that was read out of everything that is told from now on.

    An ``api_key`` beside an ``api_secret`` says as whom, like a user name.
    """
    plain = PLAIN_FIELDS | ({"api_key"} if "api_secret" in fields else set())
    secret = {
        form
        for name, value in fields.items()
        if name not in plain and len(value.strip()) >= _SHORTEST
        for form in _forms(value)
    }
    if not secret <= _registered:
        global _pattern
        _registered.update(secret)
        longest_first = sorted(_registered, key=lambda form: (-len(form), form))
        _pattern = re.compile("|".join(map(_expression, longest_first)))


def _expression(form: str) -> str:
    found = re.escape(form)
    return found if len(form) >= _SHORT else f"(?<![A-Za-z0-9]){found}(?![A-Za-z0-9])"


def _forms(value: str) -> Iterable[str]:
    """A value as clients and errors write it: as it is, in JSON and repr, in a URL, in XML, encoded, line by line."""
    lines = [line for line in value.splitlines() if len(line) >= _SHORTEST_LINE and "PRIVATE KEY" not in line]
    yield from (value, value.strip(), *lines)
    yield from (json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1])
    yield from (html.escape(value), html.escape(value, quote=False))  # Salesforce's SOAP, a page
    yield from (quote(value, safe=""), quote_plus(value), base64.b64encode(value.encode()).decode())


def without_secrets(text: str) -> str:
    """A text without secrets that were read, and without credentials that are known by their form."""
    text = without_registered(text)
    for pattern, instead in _CREDENTIALS:
        text = pattern.sub(instead, text)
    return text


def without_registered(text: str) -> str:
    """A text without the secrets that were read; a JSON document stays one."""
    return text if _pattern is None else _pattern.sub("…", text)


def masked(text: str) -> str:
    """A text without secrets, credentials, and the values that errors quote."""
    text = without_registered(text)
    for pattern, instead in _VALUES:
        text = pattern.sub(instead, text)
    return text


def short(text: str, most: int = 200) -> str:
    """A source's words in a line, cut between words: half an address is no longer known for one, and not masked."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{re.sub('[^ ]*$', '', line[:most])}…"
