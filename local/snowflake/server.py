"""Snowflake on loopback: fakesnow's server, kept on disk, with a login that is checked.

    python -m local.snowflake.server --state .local --port 4574

What fakesnow leaves out and a client has to see: wrong credentials are refused as Snowflake refuses them; a statement
that fakesnow cannot run is an SQL error instead of an HTTP 500, which the connector repeats for minutes; and results
come in chunks of types of their own (``results``).
"""

from __future__ import annotations

import argparse
import gzip
import hmac
import importlib
import json
import os
import sys
import urllib.request
import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from fakesnow import macros
from fakesnow.instance import FakeSnow
from fakesnow.transforms import stage
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local import door
from local.saas import credentials
from local.saas.web import Control
from local.snowflake import keys
from local.snowflake.orders import LoadedFile, Orders
from local.snowflake.results import Chunks, send_times_as_snowflake_does, take_any_name

if TYPE_CHECKING:
    from local.supervisor import ServiceSpec

# fakesnow has a function of the module's name.
fakesnow_server: Any = importlib.import_module("fakesnow.server")

Handler = Callable[[Request], Awaitable[Response]]

LOGIN, QUERY = "/session/v1/login-request", "/queries/v1/query-request"
INCORRECT_LOGIN, INVALID_JWT, INVALID_TOKEN = "390100", "390144", "394400"
INTERNAL_ERROR = "000603"


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
    fakesnow_server.shared_fs = snow
    # Casts are functions of the current database; Snowflake's are there in a session that has none.
    snow.duck_conn.execute(macros.creation_sql("memory"))
    stage.LOCAL_BUCKET_PATH = str(stages)
    orders = Orders(snow, folder / "orders")
    control = Control()
    registered = credentials.SNOWFLAKE | {
        "token": credentials.SNOWFLAKE_TOKEN,
        "public_key": keys.public_key(keys.private_key(state)),
    }
    accepted = dict(registered)

    async def login(request: Request) -> Response:
        given = (await _body(request))["data"]
        refusal = _refusal(given, accepted)
        if refusal is not None:
            return _refused(*refusal)
        answer: Response = await fakesnow_server.login_request(request)
        return answer

    async def query(request: Request) -> Response:
        answer: Response = await fakesnow_server.query_request(request)
        body = json.loads(bytes(answer.body))
        if answer.status_code == 500:
            message = body["message"]
            return _refused(INTERNAL_ERROR, f"SQL execution internal error: {message}", state="XX000")
        if answer.status_code == 200 and body["success"]:
            await run_in_threadpool(
                chunks.divide, body["data"], str(request.url_for("chunk", name="")).rstrip("/")
            )
            return JSONResponse(body)
        return answer

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
            if fault is None:
                return await handler(request)
            if fault.code is not None:
                return _refused(fault.code, "planned failure")
            return Response(status_code=fault.status)

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
        if action == "POST load":
            columns = tuple(body["columns"])
            file = LoadedFile(
                body["sha256"], body["name"], body["rows"], columns, body["loaded_at"], body.get("path", "")
            )
            return orders.load(Path(body["parquet"]), file)
        if action == "POST withdraw":
            return {"rows": orders.withdraw(body["sha256"])}
        if action == "POST reset":
            orders.reset()
            control.faults.clear()
            accepted.clear()
            accepted.update(registered)
            return {"status": "ok"}
        if action == "POST credentials":
            accepted.update(body)
            return {"status": "ok"}
        if action == "POST faults":
            control.add({"service": "snowflake"} | body)
            return control.described()
        if action == "DELETE faults":
            control.faults.clear()
            return []
        raise ValueError(f"no such action: {action}")

    replaced = {LOGIN: login, QUERY: query}
    routes: list[Any] = [Route(path, faulty(handler), methods=["POST"]) for path, handler in replaced.items()]
    routes += [route for route in fakesnow_server.routes if route.path not in replaced]
    routes.append(Route("/_chunks/{name:path}", chunk, methods=["GET"], name="chunk"))
    routes.append(Route("/_admin/{action}", admin, methods=["GET", "POST", "PUT", "DELETE"]))
    return Starlette(routes=routes, middleware=[Middleware(door.Asgi)])


def _refusal(given: Mapping[str, Any], accepted: Mapping[str, str]) -> tuple[str, str] | None:
    """Code and words by which Snowflake refuses a sign-in, None where it lets the user in."""
    is_user = str(given.get("LOGIN_NAME", "")).upper() == accepted["username"].upper()
    token = str(given.get("TOKEN", ""))
    match given.get("AUTHENTICATOR"):
        case "SNOWFLAKE_JWT":
            known = [accepted[name] for name in ("public_key", "public_key_2") if accepted.get(name)]
            if any(keys.is_signed(token, accepted["account"], accepted["username"], key) for key in known):
                return None
            return INVALID_JWT, "JWT token is invalid."
        case "PROGRAMMATIC_ACCESS_TOKEN":
            if is_user and hmac.compare_digest(token.encode(), accepted["token"].encode()):
                return None
            return INVALID_TOKEN, "Programmatic access token is invalid."
        case None | "SNOWFLAKE":
            if is_user and given.get("PASSWORD") == accepted["password"]:
                return None
    return INCORRECT_LOGIN, "Incorrect username or password was specified."


async def _body(request: Request) -> Any:
    body = await request.body()
    if request.headers.get("Content-Encoding") == "gzip":
        body = gzip.decompress(body)
    return json.loads(body or b"{}")


def _refused(code: str, message: str, state: str = "08001") -> JSONResponse:
    data = {"errorCode": code, "sqlState": state}
    return JSONResponse({"data": data, "code": code, "message": message, "success": False, "headers": None})


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
    uvicorn.run(application(Path()), host="127.0.0.1", port=args.port, log_level="warning", access_log=False)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
