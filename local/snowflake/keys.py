"""The key pairs of the local stack's users, made once a state folder, and what a sign-in proves with one."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

# Names of the keys' files: the lakehouse's user and the data-quality runner's.
LAKEHOUSE, DQ = "rsa_key", "dq_rsa_key"


def private_key(state: Path, name: str = LAKEHOUSE) -> str:
    """The PEM text of the key in <state>/snowflake/<name>.p8, which is made where it is missing."""
    path = state / "snowflake" / f"{name}.p8"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        part.touch(mode=0o600)
        part.write_text(new_key())
        with contextlib.suppress(FileExistsError):
            os.link(part, path)  # whoever is first, for the server and its clients alike
        part.unlink()
    return path.read_text()


def new_key(bits: int = 2_048) -> str:
    """A new private key as the PEM text of PKCS#8."""
    key = rsa.generate_private_key(65_537, bits)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public_key(private: str) -> str:
    """The public key of a private one, as it is registered: ALTER USER … SET RSA_PUBLIC_KEY."""
    key = load_pem_private_key(private.encode(), None).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def is_signed(token: str, account: str, user: str, registered: str) -> bool:
    """Whether a JWT lets the user in: signed by their registered key, named after it, not expired."""
    key = load_pem_public_key(registered.encode())
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    fingerprint = base64.b64encode(hashlib.sha256(der).digest()).decode()
    subject = f"{account.upper()}.{user.upper()}"
    try:
        claims = jwt.decode(
            token,
            registered,
            algorithms=["RS256"],
            issuer=f"{subject}.SHA256:{fingerprint}",
            options={"require": ["iss", "sub", "iat", "exp"]},
        )
    except jwt.PyJWTError:
        return False
    return bool(claims["sub"] == subject)
