"""The official clients, pointed at the doubles: only the addresses differ from production."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit, urlunsplit

import requests
from hubspot import HubSpot
from requests.adapters import HTTPAdapter
from simple_salesforce.api import Salesforce
from urllib3 import Retry

from local.saas import credentials


def hubspot(url: str, token: str = credentials.HUBSPOT["token"]) -> Any:
    """The contacts part of HubSpot's client. It repeats nothing by itself, so that a test sees every answer."""
    return HubSpot(access_token=token, host=url, retry=Retry(total=0)).crm.contacts


class Redirect(HTTPAdapter):
    """simple-salesforce writes https://<domain>.salesforce.com into its code; this sends all of it to the double."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._target = urlsplit(url)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        asked = urlsplit(str(request.url))
        request.url = urlunsplit(
            (self._target.scheme, self._target.netloc, asked.path, asked.query, asked.fragment)
        )
        return super().send(request, *args, **kwargs)


def salesforce(url: str, **login: str) -> Salesforce:
    """Logged in with user, password and token, unless `login` says otherwise."""
    session = requests.Session()
    session.mount("https://", Redirect(url))
    session.trust_env = False
    accepted = credentials.SALESFORCE
    default = {name: accepted[name] for name in ("username", "password", "security_token")}
    return Salesforce(session=session, **(login or default))  # type: ignore[arg-type]
