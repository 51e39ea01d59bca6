"""Snowflake on loopback: fakesnow's server, kept on disk, with a login that is checked.

    python -m local.snowflake.server --state .local --port 4574

What fakesnow leaves out and a client has to see: wrong credentials are refused as Snowflake refuses them, and so is
what the user has no right to (``users``); a statement that takes too long is cancelled (``running``); names mean what
they mean to Snowflake (``names``), and INFORMATION_SCHEMA is right (``catalog``); a statement that fakesnow cannot run
is an SQL error instead of an HTTP 500, which the connector repeats for minutes; and results come in chunks of types of
their own (``results``).
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import json
import os
import re
import sys
import urllib.request
import warnings
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import uvicorn
from fakesnow import macros
from fakesnow.dialect import parse_one
from fakesnow.instance import FakeSnow
from fakesnow.transforms import stage
from snowflake.connector.errors import ProgrammingError
from sqlglot import exp
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local import door
from local.saas.web import Control, Fault
from local.snowflake import names, refusals
from local.snowflake.catalog import Catalog
from local.snowflake.orders import DATABASE, SCHEMA, TABLE, LoadedFile, Orders
from local.snowflake.refusals import Refusal, refusal
from local.snowflake.results import Chunks, send_times_as_snowflake_does, take_any_name
from local.snowflake.running import Running, Session, Statement
from local.snowflake.users import Users

if TYPE_CHECKING:
    from local.supervisor import ServiceSpec

# fakesnow has a function of the module's name.
fakesnow_server: Any = importlib.import_module("fakesnow.server")

Handler = Callable[[Request], Awaitable[Response]]

LOGIN, QUERY = "/session/v1/login-request", "/queries/v1/query-request"
ORDERS = DATABASE, SCHEMA, TABLE
_TABLE = re.compile(r"""\bFROM\s+((?:"[^"]+"|[\w$]+)(?:\.(?:"[^"]+"|[\w$]+))*)""", re.I)
_NO_COLUMN = re.compile(r'(?:Referenced c|C)olumn "([^"]+)" not found')
_NO_TABLE = re.compile(r"Table with name (.+?) does not exist")
LOGIN, QUERY, ABORT = (
    "/session/v1/login-request",
    "/queries/v1/query-request",
    "/queries/v1/abort-request",
)
DONE = "SELECT 'Statement executed successfully.' AS status"


def application(state: Path) -> Starlette:
    """The server's routes over the databases in <state>/snowflake."""
    folder = state / "snowflake"
    databases, stages = folder / "databases", folder / "stages"
    for path in (databases, stages):
        path.mkdir(parents=True, exist_ok=True)
    send_times_as_snowflake_does()
    take_any_name()
    chunks = Chunks()
    snow = FakeSnow(db_path=databases)
    # Casts are functions of the current database; Snowflake's are there in a session that has none.
    snow.duck_conn.execute(macros.creation_sql("memory"))
    orders = Orders(snow, folder / "orders")
    catalog = Catalog(snow, folder / "tables.json")
    attach(snow, databases)
    control = Control()
    users = Users(state)
    sessions: dict[str, Session] = {}
    running = Running()

    async def login(request: Request) -> Response:
        given = (await _body(request))["data"]
        # Not by query_params, which remembers: below, fakesnow may get others.
        asked = dict(parse_qsl(request.scope["query_string"].decode("latin-1")))
        user = users.sign_in(given, asked.get("roleName"))
        if isinstance(user, Refusal):
            return _refused(user)
        database = asked.get("databaseName", "").upper()
        if user.grants is not None and not (user.sees(database) and database in catalog.objects().databases):
            # A database that is not there for the user is none for the session; fakesnow would make it.
            request.scope["query_string"] = b""
        # Of the process's own: another double in it may have put its databases there.
        fakesnow_server.shared_fs, stage.LOCAL_BUCKET_PATH = snow, str(stages)
        answer: Response = await fakesnow_server.login_request(request)
        token = json.loads(bytes(answer.body))["data"]["token"]
        named = {name.upper(): str(value) for name, value in given.get("SESSION_PARAMETERS", {}).items()}
        warehouse = asked.get("warehouse")
        sessions[token] = Session(
            user, fakesnow_server.sessions[token], warehouse and warehouse.upper(), named
        )
        return answer

    async def query(request: Request) -> Response:
        body = await _body(request)
        session = sessions.get(_token(request))
        if session is None or _token(request) not in fakesnow_server.sessions:
            answer: Response = await fakesnow_server.query_request(request)
            return answer
        parameters = body.get("parameters")
        async with running.statement(
            request.query_params.get("requestId", ""), session, session.limit(parameters)
        ) as statement:
            answer = await answered(request, body["sqlText"], statement)
        told = json.loads(bytes(answer.body)) if isinstance(answer, JSONResponse) else {}
        failed = None if told.get("success") else str(told.get("code") or answer.status_code)
        running.note(statement, body["sqlText"], session.tag(parameters), failed)
        return answer

    async def answered(request: Request, sql: str, statement: Statement) -> Response:
        """The answer to a statement, or to what stops it."""
        fault = control.next_fault("snowflake", f"{request.method} {request.url.path} {sql}")
        if fault is not None and fault.kind in ("slow", "timeout"):
            await statement.hang(fault.delay_s)
        if statement.refused is not None:
            return _refused(statement.refused, statement.query_id)
        if fault is not None and fault.kind != "slow":
            return failure(fault, sql, statement)
        session = statement.session
        taken = session.take(sql)
        if isinstance(taken, Refusal):
            return _refused(taken, statement.query_id)
        if taken:
            await _replace(request, sqlText=DONE)
        try:
            parsed = parse_one(DONE if taken else sql)
        except ProgrammingError:
            return await run(request, statement)
        connection = session.connection
        place = connection.database, connection.schema
        refused = await run_in_threadpool(names.refused, parsed, catalog.objects, session.user, *place)
        if refused is None and not session.has_warehouse and parsed.find(exp.Table):
            refused = refusal(refusals.NO_WAREHOUSE)
        if refused is not None:
            return _refused(refused, statement.query_id)
        with catalog.asked_by(session.user, parsed, connection.database):
            answer = await run(request, statement)
        catalog.note(parsed, *place)
        return answer

    async def run(request: Request, statement: Statement) -> Response:
        """What fakesnow answers, as Snowflake would say it."""
        answer: Response = await fakesnow_server.query_request(request)
        body = json.loads(bytes(answer.body))
        if statement.refused is not None and not body["success"]:
            return _refused(statement.refused, statement.query_id)
        if answer.status_code == 500:
            return _refused(_internal(body["message"]), statement.query_id)
        if answer.status_code != 200:
            return answer
        if not body["success"]:
            return _refused(_translated(body), statement.query_id)
        statement.query_id = body["data"].get("queryId") or statement.query_id
        await run_in_threadpool(
            chunks.divide, body["data"], str(request.url_for("chunk", name="")).rstrip("/")
        )
        return JSONResponse(body)

    def failure(fault: Fault, sql: str, statement: Statement | None) -> Response:
        if fault.kind in ("timeout", "drop", "cut"):
            return Cut(half=fault.kind == "cut")
        if fault.code is None:
            return Response(status_code=fault.status)
        table = next(iter(_TABLE.findall(sql)), "").replace('"', "")
        words = {"object": table, "warehouse": "DQ_WH"}
        refused = refusal(fault.code, **words)
        return _refused(refused, statement.query_id if statement else None)

    async def abort(request: Request) -> Response:
        running.abort((await _body(request)).get("requestId", ""))
        return JSONResponse({"success": True})

    async def chunk(request: Request) -> Response:
        body = chunks.get(request.path_params["name"])
        return (
            Response(status_code=404)
            if body is None
            else Response(body, media_type="application/octet-stream")
        )

    def faulty(handler: Handler) -> Handler:
        async def handle(request: Request) -> Response:
            fault = control.next_fault("snowflake", f"{request.method} {request.url.path}")
            return await handler(request) if fault is None else failure(fault, "", None)

        return handle

    async def admin(request: Request) -> Response:
        action = f"{request.method} {request.path_params['action']}"
        body = await _body(request) if request.method in ("POST", "PUT") else {}
        try:
            return JSONResponse(await run_in_threadpool(act, action, body))
        except (KeyError, TypeError, ValueError) as error:
            return JSONResponse({"message": f"{type(error).__name__}: {error}"}, 400)

    def act(action: str, body: Any) -> Any:
        if action == "GET health":
            return {"status": "ok"}
        if action == "GET state":
            return {"orders": orders.count(), "files": [file.name for file in orders.loaded()]}
        if action == "GET loaded":
            return {file.sha256: file.name for file in orders.loaded()}
        if action == "GET queries":
            return list(running.log)
        if action == "POST load":
            columns = tuple(body["columns"])
            file = LoadedFile(
                body["sha256"], body["name"], body["rows"], columns, body["loaded_at"], body.get("path", "")
            )
            loaded = orders.load(Path(body["parquet"]), file)
            catalog.changed(*ORDERS)
            return loaded
        if action == "POST withdraw":
            withdrawn = orders.withdraw(body["sha256"])
            catalog.changed(*ORDERS)
            return {"rows": withdrawn}
        if action == "POST reset":
            orders.reset()
            catalog.changed(*ORDERS)
            control.faults.clear()
            running.log.clear()
            users.reset()
            return {"status": "ok"}
        if action == "POST credentials":
            users.by_name[body.pop("of", "lakehouse")].accepted.update(body)
            return {"status": "ok"}
        if action == "POST grants":
            return users.grant(body.get("granted", []), body.get("revoked", []))
        if action == "POST faults":
            control.add({"service": "snowflake"} | body)
            return control.described()
        if action == "DELETE faults":
            control.faults.clear()
            return []
        raise ValueError(f"no such action: {action}")

    replaced = {LOGIN: faulty(login), QUERY: query, ABORT: abort}
    routes: list[Any] = [Route(path, handler, methods=["POST"]) for path, handler in replaced.items()]
    routes += [route for route in fakesnow_server.routes if route.path not in replaced]
    routes.append(Route("/_chunks/{name:path}", chunk, methods=["GET"], name="chunk"))
    routes.append(Route("/_admin/{action}", admin, methods=["GET", "POST", "PUT", "DELETE"]))
    return Starlette(routes=routes, middleware=[Middleware(door.Asgi)])


def attach(snow: FakeSnow, databases: Path) -> None:
    """The databases of earlier starts: fakesnow attaches one when somebody names it at the sign-in."""
    for path in sorted(databases.glob("*.db")):
        snow.connect(path.stem).close()


class Cut(Response):
    """The connection closes, ``half`` an answer before that or none."""

    def __init__(self, half: bool) -> None:
        super().__init__()
        self._half = half

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._half:
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100")]}
            )
            await send({"type": "http.response.body", "body": b'{"data": ', "more_body": True})
        scope["transport"].abort()
        await receive()  # until the server has noticed


def with_transport(app: Any) -> Any:
    """Let an answer reach its connection: ASGI has no way of closing one."""

    async def handle(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope["transport"] = send.__self__.transport
        await app(scope, receive, send)

    return handle


def _token(request: Request) -> str:
    return request.headers.get("Authorization", "")[len('Snowflake Token="') : -1]


def _internal(message: str) -> Refusal:
    return Refusal(refusals.INTERNAL_ERROR, "XX000", f"SQL execution internal error: {message}")


def _translated(body: Any) -> Refusal:
    """A refusal of fakesnow's, with Snowflake's code where that is known to be another."""
    code, state, message = body["code"], body["data"]["sqlState"], str(body["message"])
    column = _NO_COLUMN.search(message)
    if code == "002043" and column:
        return refusal(refusals.INVALID_IDENTIFIER, object=column[1])
    table = _NO_TABLE.search(message)
    if code == "002003" and table:
        return refusal(refusals.NO_OBJECT, object=table[1])
    return Refusal(code, state, message)


async def _replace(request: Request, **changed: Any) -> None:
    """Change the request's body for whoever reads it next."""
    body = json.dumps(await _body(request) | changed).encode()
    request._body = gzip.compress(body) if request.headers.get("Content-Encoding") == "gzip" else body


async def _body(request: Request) -> Any:
    body = await request.body()
    if request.headers.get("Content-Encoding") == "gzip":
        body = gzip.decompress(body)
    return json.loads(body or b"{}")


def _refused(why: Refusal, query_id: str | None = None) -> JSONResponse:
    data = {"errorCode": why.code, "sqlState": why.state, "queryId": query_id}
    return JSONResponse(
        {"data": data, "code": why.code, "message": why.message, "success": False, "headers": None}
    )


def healthy(url: str) -> bool:
    # Proxies from the environment do not reach this machine's loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/_admin/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def spec(state: Path, ports: dict[str, int], env: dict[str, str]) -> ServiceSpec:
    from local.supervisor import ServiceSpec

    port = ports["snowflake"]
    return ServiceSpec(
        name="snowflake",
        argv=[sys.executable, "-m", "local.snowflake.server", "--state", str(state), "--port", str(port)],
        env=dict(env),
        ready=lambda: healthy(f"http://127.0.0.1:{port}"),
        exports={"LOCAL_SNOWFLAKE_HOST": "127.0.0.1", "LOCAL_SNOWFLAKE_PORT": str(port)},
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m local.snowflake.server", description=__doc__)
    parser.add_argument(
        "--state", type=Path, required=True, help="folder that keeps the data (in its snowflake/)"
    )
    parser.add_argument("--port", type=int, default=0)
    args = parser.parse_args(argv)
    warnings.filterwarnings("ignore", message="Arrow output on a DB-API result")
    args.state.mkdir(parents=True, exist_ok=True)
    # fakesnow writes paths into its SQL as they are: below here none has a quote.
    os.chdir(args.state)
    uvicorn.run(
        with_transport(application(Path())),
        host="127.0.0.1",
        port=args.port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=1,  # seconds: a statement that hangs would keep the server
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
