"""What AWS answers, by whether a retry can help."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)

from lakehouse.errors import LakehouseError, TerminalError, TransientError
from lakehouse.masks import masked

#: Refusals with a 4xx that pass: the caller was too fast, too slow, met another, or has keys that are renewed by
#: then. (S3 and SNS API references, common errors.)
_PASSING = frozenset(
    {
        *("SlowDown", "Throttling", "ThrottlingException", "ThrottledException", "Throttled"),
        *("TooManyRequestsException", "RequestLimitExceeded", "RequestTimeout", "RequestTimeoutException"),
        *("ConditionalRequestConflict", "OperationAborted", "RequestTimeTooSkewed", "KMSThrottling"),
        *("ExpiredToken", "ExpiredTokenException", "RequestExpired"),
    }
)
_LASTING = NoCredentialsError | PartialCredentialsError | ParamValidationError


class AwsRefused(TerminalError):
    """AWS refuses the call for good: a right, a bucket or a topic is missing."""

    code = "AWS_REFUSED"


class AwsUnavailable(TransientError):
    """AWS did not answer, or asked us to come back later."""

    code = "AWS_UNAVAILABLE"


@contextmanager
def told(doing: str, *, hint: str) -> Iterator[None]:
    """Raise what AWS answers within the block as one of ours. ``hint`` is for a refusal that lasts."""
    try:
        yield
    except LakehouseError:
        raise
    except (BotoCoreError, ClientError) as error:
        raise _of(error, doing, hint) from error


def _of(error: BotoCoreError | ClientError, doing: str, hint: str) -> LakehouseError:
    message = f"{doing}: received {_received(error)}"
    if lasts(error):
        return AwsRefused(message, hint=hint)
    return AwsUnavailable(message, hint="run it again; AWS's health dashboard may know more")


def lasts(error: BotoCoreError | ClientError) -> bool:
    """Whether the same call would be refused again: a redirection or a 4xx, but for those that pass."""
    if not isinstance(error, ClientError):
        return isinstance(error, _LASTING)
    answer: Any = error.response
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 500))
    return 300 <= status < 500 and status not in {408, 409, 429} and _code(error) not in _PASSING


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "an error without a code"))


def _received(error: BotoCoreError | ClientError) -> str:
    if isinstance(error, ClientError):
        return f"{_code(error)}: {masked(str(error.response.get('Error', {}).get('Message', '')))[:500]}"
    return f"{type(error).__name__}: {masked(str(error))[:500]}"
