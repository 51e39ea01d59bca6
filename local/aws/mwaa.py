"""The calls of MWAA that Terraform makes, answered from memory: environments are described, none is run.

moto has no MWAA. Its API has a host prefix (``api.``), by which a request is known here; Airflow itself runs beside the
stack (local/airflow.py).
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote

from moto.core.models import DEFAULT_ACCOUNT_ID

Record = dict[str, Any]
_SERVICE_ROLE = "airflow.amazonaws.com/AWSServiceRoleForAmazonMWAA"
_LOGS = {
    "DagProcessingLogs": "DAGProcessing",
    "SchedulerLogs": "Scheduler",
    "TaskLogs": "Task",
    "WebserverLogs": "WebServer",
    "WorkerLogs": "Worker",
}


class Mwaa:
    """Environments by name."""

    def __init__(self, region: str) -> None:
        self.region = region
        self._environments: dict[str, Record] = {}
        self._lock = threading.Lock()

    def answer(self, method: str, path: str, query: str, body: bytes) -> tuple[str, Record]:
        """Status and body of one call."""
        parameters = json.loads(body) if body else {}
        with self._lock:
            if found := re.fullmatch(r"/environments/([^/]+)", path):
                return self._environment(method, found[1], parameters)
            if found := re.fullmatch(r"/tags/(.+)", path):
                keys = parse_qs(query).get("tagKeys", [])
                return self._tags(method, unquote(found[1]), parameters.get("Tags", {}), keys)
            if method == "GET" and path == "/environments":
                return "200 OK", {"Environments": sorted(self._environments)}
        return "400 Bad Request", {"message": f"{method} {path} is not known to the local MWAA"}

    def _environment(self, method: str, name: str, parameters: Record) -> tuple[str, Record]:
        if method == "PUT":
            self._environments[name] = self._new(name, parameters)
            return "200 OK", {"Arn": self._environments[name]["Arn"]}
        if name not in self._environments:
            return "404 Not Found", {"message": f"Environment {name} does not exist"}
        environment = self._environments[name]
        if method == "GET":
            return "200 OK", {"Environment": environment}
        if method == "PATCH":
            environment |= {key: value for key, value in parameters.items() if key != "LoggingConfiguration"}
            environment["LastUpdate"] = {"CreatedAt": time.time(), "Status": "SUCCESS"}
            return "200 OK", {"Arn": environment["Arn"]}
        if method == "DELETE":
            del self._environments[name]
            return "200 OK", {}
        return "400 Bad Request", {"message": f"{method} of an environment is not known to the local MWAA"}

    def _new(self, name: str, parameters: Record) -> Record:
        arn = f"arn:aws:airflow:{self.region}:{DEFAULT_ACCOUNT_ID}:environment/{name}"
        group = f"arn:aws:logs:{self.region}:{DEFAULT_ACCOUNT_ID}:log-group:airflow-{name}-"
        logging = {
            kind: one | {"CloudWatchLogGroupArn": group + _LOGS[kind]}
            for kind, one in parameters.get("LoggingConfiguration", {}).items()
        }
        defaults = {
            "EndpointManagement": "SERVICE",
            "MinWebservers": 2,
            "MaxWebservers": 2,
            "Schedulers": 2,
            "Tags": {},
        }
        return (
            defaults
            | parameters
            | {
                "Name": name,
                "Arn": arn,
                "Status": "AVAILABLE",
                "CreatedAt": time.time(),
                "LoggingConfiguration": logging,
                "WebserverUrl": f"{name}.c0.{self.region}.airflow.amazonaws.com",
                "ServiceRoleArn": f"arn:aws:iam::{DEFAULT_ACCOUNT_ID}:role/aws-service-role/{_SERVICE_ROLE}",
            }
        )

    def _tags(self, method: str, arn: str, tags: Record, keys: list[str]) -> tuple[str, Record]:
        environment = next((e for e in self._environments.values() if e["Arn"] == arn), None)
        if environment is None:
            return "404 Not Found", {"message": f"{arn} does not exist"}
        if method == "POST":
            environment["Tags"] |= tags
        if method == "DELETE":
            environment["Tags"] = {
                key: value for key, value in environment["Tags"].items() if key not in keys
            }
        return "200 OK", {"Tags": environment["Tags"]} if method == "GET" else {}


def before(
    mwaa: Mwaa, application: Callable[[dict[str, Any], Any], Any]
) -> Callable[[dict[str, Any], Any], Any]:
    """A WSGI application that answers MWAA's host itself and leaves the rest to ``application``."""

    def answering(environ: dict[str, Any], start_response: Any) -> Any:
        if not str(environ.get("HTTP_HOST", "")).startswith("api."):
            return application(environ, start_response)
        status, record = mwaa.answer(
            environ["REQUEST_METHOD"],
            environ["PATH_INFO"],
            environ.get("QUERY_STRING", ""),
            environ["wsgi.input"].read(),
        )
        data = json.dumps(record).encode()
        error = [] if status.startswith("200") else [("x-amzn-ErrorType", _ERRORS[status[:3]])]
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(data))), *error]
        start_response(status, headers)
        return [data]

    return answering


_ERRORS = {"400": "ValidationException", "404": "ResourceNotFoundException"}
