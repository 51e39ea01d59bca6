"""Athena made real: executions with AWS's states and errors, results in S3, tables by Glue.

Queries run in worker processes (athena_worker). An execution is a folder, <state>/athena/<id>/: execution.json, the
rows as JSON lines for GetQueryResults, and the result file as it was written to S3.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import queue
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from moto.athena.models import athena_backends
from moto.athena.responses import AthenaResponse
from moto.core.exceptions import JsonRESTError
from moto.glue.models import glue_backends

from local.aws.emr import write_json
from local.aws.emr_process import LocaliseError, Objects

FINISHED = ("SUCCEEDED", "FAILED", "CANCELLED")
PAGE = 1000
KEEP = 200
ENGINE = {"SelectedEngineVersion": "AUTO", "EffectiveEngineVersion": "Athena engine version 3"}
INTERRUPTED = "The local Athena stopped while the query was running."
Record = dict[str, Any]


class InvalidRequest(JsonRESTError):
    """An InvalidRequestException, with Athena's own code beside AWS's."""

    def __init__(self, message: str, code: str = "INVALID_INPUT"):
        super().__init__("InvalidRequestException", message)
        self.description = json.dumps(
            {"__type": "InvalidRequestException", "Message": message, "AthenaErrorCode": code}
        )


class Worker:
    """One athena_worker process, started when it is first needed and again after a query was cancelled."""

    def __init__(self, env: Callable[[], dict[str, str]]):
        self._env = env
        self._process: subprocess.Popen[str] | None = None
        self._request: Record | None = None
        self._lock = threading.Lock()

    def run(self, request: Record, is_wanted: Callable[[], bool]) -> Record | None:
        """The worker's answer; None where there is none: the request was not wanted any more when its turn came, or
        the process was killed, or died.
        """
        with self._lock:
            if not is_wanted():
                return None
            self._request, process = request, self._started()
            assert process.stdin is not None
            assert process.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
        line = process.stdout.readline()
        with self._lock:
            self._request = None
        if not line:
            process.wait()
            return None
        answer: Record = json.loads(line)
        return answer

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "local.aws.athena_worker"],
                env=self._env(),
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        return self._process

    def stop(self, folder: str) -> None:
        """End the query of a folder, if it is this one that runs."""
        with self._lock:
            if self._request is not None and self._request["folder"] == folder:
                self.kill()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()


class Athena:
    """Executions of one state directory."""

    def __init__(self, root: Path, objects: Objects, env: Callable[[], dict[str, str]], workers: int = 2):
        self.root = root
        self.objects = objects
        self._lock = threading.RLock()
        self._executions: dict[str, Record] = {}
        self._workers: queue.LifoQueue[Worker] = queue.LifoQueue()
        self._all_workers = [Worker(env) for _ in range(workers)]
        for worker in self._all_workers:
            self._workers.put(worker)
        self._running: dict[str, Worker] = {}
        root.mkdir(parents=True, exist_ok=True)
        self._load()

    def _load(self) -> None:
        for path in self.root.glob("*/execution.json"):
            execution = json.loads(path.read_text())
            self._executions[execution["id"]] = execution
            if execution["state"] not in FINISHED:
                self._finish(execution, "FAILED", INTERRUPTED)

    def _save(self, execution: Record) -> None:
        write_json(self.root / execution["id"] / "execution.json", execution)

    def _finish(self, execution: Record, state: str, reason: str | None = None) -> None:
        with self._lock:
            execution |= {"state": state, "reason": reason, "completed": time.time()}
            self._save(execution)

    # -- calls ---------------------------------------------------------------------------------------------

    def start(self, account: str, region: str, params: Record) -> str:
        # sqlglot takes half a second to import: not before there is a query
        from local.aws.athena_sql import parse
        from local.aws.athena_words import QueryError

        sql = params.get("QueryString") or ""
        name = params.get("WorkGroup") or "primary"
        group = athena_backends[account][region].get_work_group(name)
        if group is None:
            raise InvalidRequest(f"WorkGroup {name} is not found.")
        configuration = group["Configuration"]
        location = (params.get("ResultConfiguration") or {}).get("OutputLocation")
        of_group = (configuration.get("ResultConfiguration") or {}).get("OutputLocation")
        if of_group and (configuration.get("EnforceWorkGroupConfiguration") or not location):
            location = of_group
        if not location:
            raise InvalidRequest(
                "No output location provided. An output location is required either through the Workgroup result "
                "configuration setting or as an API input."
            )
        try:
            statement = parse(sql, params.get("ExecutionParameters"))
        except QueryError as e:
            raise InvalidRequest(str(e), "MALFORMED_QUERY") from e
        token = params.get("ClientRequestToken")
        same = {
            k: params.get(k)
            for k in ("QueryString", "WorkGroup", "QueryExecutionContext", "ExecutionParameters")
        }
        with self._lock:
            if token:
                for known in self._executions.values():
                    if known["token"] == token:
                        if known["request"] != same:
                            raise InvalidRequest("Idempotent parameters do not match")
                        return str(known["id"])
            id_ = str(uuid.uuid4())
            suffix = "csv" if statement.kind == "DML" or statement.explain else "txt"
            execution: Record = {
                "id": id_,
                "account": account,
                "region": region,
                "sql": sql,
                "kind": statement.kind,
                "substatement": statement.substatement,
                "workgroup": name,
                "token": token,
                "request": same,
                # Some clients quote the name as DDL does.
                "database": ((params.get("QueryExecutionContext") or {}).get("Database") or "").strip("`")
                or None,
                "context": params.get("QueryExecutionContext") or {},
                "parameters": params.get("ExecutionParameters") or [],
                "output": f"{location.rstrip('/')}/{id_}.{suffix}",
                "state": "QUEUED",
                "reason": None,
                "submitted": time.time(),
                "completed": None,
            }
            self._executions[id_] = execution
            self._save(execution)
        threading.Thread(target=self._run, args=(execution,), name=f"athena-{id_}", daemon=True).start()
        self._forget()
        return id_

    def execution(self, id_: str) -> Record:
        execution = self._executions.get(id_)
        if execution is None:
            raise InvalidRequest(f"QueryExecution {id_} was not found")
        return execution

    def executions(self, workgroup: str) -> list[Record]:
        with self._lock:
            found = [e for e in self._executions.values() if e["workgroup"] == workgroup]
        return sorted(found, key=lambda e: e["submitted"], reverse=True)

    def stop(self, id_: str) -> None:
        with self._lock:
            execution = self.execution(id_)
            if execution["state"] in FINISHED:
                return
            self._finish(execution, "CANCELLED", "Query cancelled by user")
            worker = self._running.get(id_)
        if worker is not None:
            # One whose turn comes only now finds that it is not wanted.
            worker.stop(str(self.root / id_))

    def results(self, id_: str, start: int, size: int) -> Record:
        execution = self.execution(id_)
        if execution["state"] not in FINISHED:
            raise InvalidRequest(f"Query has not yet finished. Current state: {execution['state']}")
        if execution["state"] != "SUCCEEDED":
            raise InvalidRequest(
                f"Query did not finish successfully. Final query state: {execution['state']}"
            )
        columns, header = execution["columns"], execution["header"]
        rows: list[list[str | None]] = []
        offset = 1 if header else 0
        if header and start == 0:
            rows.append([c["name"] for c in columns])
        with open(self.root / id_ / "rows.jsonl", encoding="utf-8") as lines:
            first = max(0, start - offset)
            rows += [json.loads(line) for line in itertools.islice(lines, first, first + size - len(rows))]
        result: Record = {
            "ResultSet": {
                "Rows": [{"Data": [{} if v is None else {"VarCharValue": v} for v in row]} for row in rows],
                "ResultSetMetadata": {"ColumnInfo": [_column_info(c) for c in columns]},
            },
            "UpdateCount": 0,
        }
        if start + size < execution["rows"] + offset:
            result["NextToken"] = str(start + size)
        return result

    # -- running -------------------------------------------------------------------------------------------

    def _run(self, execution: Record) -> None:
        worker = self._workers.get()
        id_ = execution["id"]
        try:
            with self._lock:
                if execution["state"] != "QUEUED":
                    return
                execution |= {"state": "RUNNING", "started": time.time()}
                self._save(execution)
                self._running[id_] = worker
            answer = worker.run(
                {
                    "folder": str(self.root / id_),
                    "sql": execution["sql"],
                    "parameters": execution["parameters"],
                    "database": (execution["database"] or "default").lower(),
                    "catalog": catalog(execution["account"], execution["region"]),
                },
                lambda: execution["state"] not in FINISHED,
            )
            with self._lock:
                self._running.pop(id_, None)
                if execution["state"] in FINISHED:
                    return
            if answer is None:
                self._finish(
                    execution,
                    "FAILED",
                    "GENERIC_INTERNAL_ERROR: the query's process ended; see the server's log",
                )
            elif "error" in answer:
                self._finish(execution, "FAILED", answer["error"])
            else:
                self._deliver(execution, answer)
        finally:
            with self._lock:
                self._running.pop(id_, None)
            self._workers.put(worker)

    def _deliver(self, execution: Record, answer: Record) -> None:
        file = self.root / execution["id"] / "result"
        try:
            self.objects.write(execution["output"], file.read_bytes())
        except LocaliseError as e:
            self._finish(execution, "FAILED", f"Unable to write results to {execution['output']}: {e}")
            return
        file.unlink()
        execution |= {k: answer[k] for k in ("columns", "rows", "header", "scanned", "millis")}
        self._finish(execution, "SUCCEEDED")

    def _forget(self) -> None:
        """Keep the latest executions; the results in S3 stay."""
        with self._lock:
            finished = [e for e in self._executions.values() if e["state"] in FINISHED]
            for old in sorted(finished, key=lambda e: e["submitted"])[:-KEEP]:
                del self._executions[old["id"]]
                shutil.rmtree(self.root / old["id"], ignore_errors=True)

    def shutdown(self) -> None:
        for execution in list(self._executions.values()):
            if execution["state"] not in FINISHED:
                self._finish(execution, "FAILED", INTERRUPTED)
        for worker in self._all_workers:
            worker.kill()


def catalog(account: str, region: str) -> dict[str, dict[str, Record]]:
    """Glue's databases and tables, as a worker needs them."""
    found: dict[str, dict[str, Record]] = {"default": {}}
    for database in glue_backends[account][region].get_databases():
        tables = found.setdefault(database.name.lower(), {})
        for table in list(database.tables.values()):
            shown = table.as_dict()
            storage = shown.get("StorageDescriptor") or {}
            parameters = {k.lower(): str(v) for k, v in (shown.get("Parameters") or {}).items()}
            delta = (
                parameters.get("spark.sql.sources.provider", "").lower() == "delta"
                or parameters.get("table_type", "").lower() == "delta"
            )
            columns = [*(storage.get("Columns") or []), *(shown.get("PartitionKeys") or [])]
            tables[table.name.lower()] = {
                # Trino, and with it Athena's Delta reader, takes the path and not the Location
                "location": ((storage.get("SerdeInfo") or {}).get("Parameters") or {}).get("path", ""),
                "columns": [
                    [c["Name"].lower(), c.get("Type") or "string", c.get("Comment") or ""] for c in columns
                ],
                "delta": delta,
            }
    return found


def _column_info(column: Record) -> Record:
    return {
        "CatalogName": "hive",
        "SchemaName": "",
        "TableName": "",
        "Name": column["name"],
        "Label": column["name"],
        "Type": column["type"],
        "Precision": column["precision"],
        "Scale": column["scale"],
        "Nullable": "UNKNOWN",
        "CaseSensitive": column["type"] == "varchar",
    }


# -- HTTP ----------------------------------------------------------------------------------------------------

_service: Athena | None = None


def _view(execution: Record) -> Record:
    end = execution["completed"] or time.time()
    total = int((end - execution["submitted"]) * 1000)
    engine = execution.get("millis", 0)
    queued = int((execution.get("started", end) - execution["submitted"]) * 1000)
    status: Record = {"State": execution["state"], "SubmissionDateTime": execution["submitted"]}
    if execution["completed"]:
        status["CompletionDateTime"] = execution["completed"]
    if execution["reason"]:
        status["StateChangeReason"] = execution["reason"]
    if execution["state"] == "FAILED":
        internal = (
            execution["reason"].startswith("GENERIC_INTERNAL_ERROR") or execution["reason"] == INTERRUPTED
        )
        status["AthenaError"] = {
            "ErrorCategory": 1 if internal else 2,
            "ErrorType": 0 if internal else 1301,
            "Retryable": internal,
            "ErrorMessage": execution["reason"],
        }
    view: Record = {
        "QueryExecutionId": execution["id"],
        "Query": execution["sql"],
        "StatementType": execution["kind"],
        "SubstatementType": execution["substatement"],
        "ResultConfiguration": {"OutputLocation": execution["output"]},
        "ResultReuseConfiguration": {"ResultReuseByAgeConfiguration": {"Enabled": False}},
        "QueryExecutionContext": execution["context"],
        "Status": status,
        "WorkGroup": execution["workgroup"],
        "EngineVersion": ENGINE,
        "Statistics": {
            "EngineExecutionTimeInMillis": engine,
            "DataScannedInBytes": execution.get("scanned", 0),
            "TotalExecutionTimeInMillis": total,
            "QueryQueueTimeInMillis": max(0, queued),
            "ServiceProcessingTimeInMillis": max(0, total - engine - queued),
            "ResultReuseInformation": {"ReusedPreviousResult": False},
        },
    }
    if execution["parameters"]:
        view["ExecutionParameters"] = execution["parameters"]
    return view


class LocalAthenaResponse(AthenaResponse):
    """moto's workgroups and named queries; executions and the catalog are the real ones."""

    @property
    def service(self) -> Athena:
        assert _service is not None, "install() comes first"
        return _service

    def start_query_execution(self) -> str:
        return json.dumps(
            {"QueryExecutionId": self.service.start(self.current_account, self.region, json.loads(self.body))}
        )

    def get_query_execution(self) -> str:
        return json.dumps(
            {"QueryExecution": _view(self.service.execution(self._get_param("QueryExecutionId")))}
        )

    def batch_get_query_execution(self) -> str:
        found, missing = [], []
        for id_ in self._get_param("QueryExecutionIds"):
            try:
                found.append(_view(self.service.execution(id_)))
            except InvalidRequest as e:
                missing.append(
                    {"QueryExecutionId": id_, "ErrorCode": "INVALID_INPUT", "ErrorMessage": e.message}
                )
        return json.dumps({"QueryExecutions": found, "UnprocessedQueryExecutionIds": missing})

    def stop_query_execution(self) -> str:
        self.service.stop(self._get_param("QueryExecutionId"))
        return json.dumps({})

    def get_query_results(self) -> str:
        size = int(self._get_param("MaxResults") or PAGE)
        if not 1 <= size <= PAGE:
            raise InvalidRequest(f"MaxResults is more than maximum allowed length {PAGE}")
        return json.dumps(self.service.results(self._get_param("QueryExecutionId"), self._offset(), size))

    def list_query_executions(self) -> str:
        found = [e["id"] for e in self.service.executions(self._get_param("WorkGroup") or "primary")]
        return self._page(found, "QueryExecutionIds")

    def get_query_runtime_statistics(self) -> str:
        view = _view(self.service.execution(self._get_param("QueryExecutionId")))
        timeline = {k: v for k, v in view["Statistics"].items() if k.endswith("Millis")}
        rows = {"InputBytes": view["Statistics"]["DataScannedInBytes"]}
        return json.dumps({"QueryRuntimeStatistics": {"Timeline": timeline, "Rows": rows}})

    # Athena's view of the catalog is Glue's; moto keeps a second one that nothing fills.

    def list_data_catalogs(self) -> str:
        return json.dumps({"DataCatalogsSummary": [{"CatalogName": "AwsDataCatalog", "Type": "GLUE"}]})

    def _databases(self) -> dict[str, Any]:
        return {d.name: d for d in glue_backends[self.current_account][self.region].get_databases()}

    def list_databases(self) -> str:
        found = [_database(d) for _, d in sorted(self._databases().items())]
        return self._page(found, "DatabaseList")

    def get_database(self) -> str:
        return json.dumps({"Database": _database(self._database(self._get_param("DatabaseName")))})

    def _database(self, name: str) -> Any:
        found = self._databases().get(name)
        if found is None:
            raise JsonRESTError("MetadataException", f"Database {name} not found.")
        return found

    def list_table_metadata(self) -> str:
        database = self._database(self._get_param("DatabaseName"))
        from local.aws.athena_sql import glob

        matches = glob(self._get_param("Expression"))
        return self._page(
            [_table(t) for n, t in sorted(database.tables.items()) if matches(n)], "TableMetadataList"
        )

    def get_table_metadata(self) -> str:
        database, name = self._database(self._get_param("DatabaseName")), self._get_param("TableName")
        if name not in database.tables:
            raise JsonRESTError("MetadataException", f"Table {name} not found.")
        return json.dumps({"TableMetadata": _table(database.tables[name])})

    def _offset(self) -> int:
        token = self._get_param("NextToken")
        if token is not None and not str(token).isdigit():
            raise InvalidRequest("NextToken is invalid")
        return int(token or 0)

    def _page(self, items: list[Any], name: str) -> str:
        start, size = self._offset(), int(self._get_param("MaxResults") or 50)
        result: Record = {name: items[start : start + size]}
        if start + size < len(items):
            result["NextToken"] = str(start + size)
        return json.dumps(result)


def _database(database: Any) -> Record:
    shown: Record = {"Name": database.name}
    with contextlib.suppress(AttributeError):
        shown |= {k: database.input[k] for k in ("Description", "Parameters") if database.input.get(k)}
    return shown


def _table(table: Any) -> Record:
    shown = table.as_dict()
    storage = shown.get("StorageDescriptor") or {}
    return {
        "Name": table.name,
        "CreateTime": table.created_time.timestamp(),
        "TableType": shown.get("TableType", ""),
        "Columns": [_glue_column(c) for c in storage.get("Columns") or []],
        "PartitionKeys": [_glue_column(c) for c in shown.get("PartitionKeys") or []],
        "Parameters": {k: str(v) for k, v in (shown.get("Parameters") or {}).items()},
    }


def _glue_column(column: Record) -> Record:
    return {k: column[k] for k in ("Name", "Type", "Comment") if column.get(k)}


def install(service: Athena) -> None:
    """Serve it under moto's URL (moto says SUCCEEDED without running anything)."""
    global _service
    _service = service
    from moto.athena import urls

    urls.url_paths["{0}/$"] = LocalAthenaResponse.dispatch
