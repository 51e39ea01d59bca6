"""Credentials by name from AWS Secrets Manager. No value of a secret reaches a message, a log or a repr."""

from __future__ import annotations

import json
from collections.abc import Iterable

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoRegionError

from lakehouse.errors import ConfigError, CredentialsError, SourceUnavailable
from lakehouse.masks import register
from lakehouse.store import region

_TERMINAL = {
    "ResourceNotFoundException": "there is no such secret",
    "AccessDeniedException": "the job's role may not read it",
    "UnrecognizedClientException": "AWS does not know the job's credentials",
    "InvalidRequestException": "it is marked for deletion or has no value",
    "DecryptionFailure": "its KMS key cannot be used",
}


class Secret(dict[str, str]):
    """Fields of a secret; shows their names only."""

    def __repr__(self) -> str:
        return f"Secret({', '.join(sorted(self))})"

    __str__ = __repr__


def read_secret(name: str, required: Iterable[str], more: str = "") -> Secret:
    """The fields of a JSON secret; ``more`` says in a hint which others the caller looks for.

    Raises CredentialsError where the secret or one of ``required`` is missing, ConfigError without a Region,
    SourceUnavailable where Secrets Manager does not answer.
    """
    fields = tuple(required)
    put = (
        f"a JSON object with {', '.join(fields)}{more} in a file that you alone can read (chmod 600), then: "
        f"aws secretsmanager put-secret-value --secret-id {name} --secret-string file://secret.json"
    )
    retries = Config(retries={"mode": "standard", "max_attempts": 5})
    try:
        client = boto3.client("secretsmanager", region_name=region(), config=retries)
        text = client.get_secret_value(SecretId=name).get("SecretString", "")
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code not in _TERMINAL:
            raise SourceUnavailable(f"Secrets Manager: received {code} for the secret {name}") from None
        raise CredentialsError(
            f"secret {name}: {_TERMINAL[code]}",
            hint=f"{put} (create-secret --name where there is none), "
            "or let the job's role read it (secretsmanager:GetSecretValue)",
        ) from None
    except NoRegionError:
        raise ConfigError(
            f"secret {name}: received no Region, expected that of the account",
            hint="set AWS_REGION, or AWS_PROFILE to a profile that has one",
        ) from None
    except BotoCoreError as error:
        raise SourceUnavailable(
            f"Secrets Manager: received {type(error).__name__} for the secret {name}",
            hint="run it again; by hand, look whether you are signed in to AWS: aws sts get-caller-identity",
        ) from None

    try:
        values = json.loads(text)
    except json.JSONDecodeError:
        values = None
    if not isinstance(values, dict):
        # "from None" alone would keep the text in the context of the error.
        raise CredentialsError(f"secret {name}: received text, expected a JSON object", hint=put)
    found = Secret({str(key): str(value) for key, value in values.items() if value is not None})
    register(found)
    missing = [field for field in fields if not values.get(field)]
    if missing:
        raise CredentialsError(
            f"secret {name}: received no {', '.join(missing)}, expected {', '.join(fields)}", hint=put
        )
    return found
