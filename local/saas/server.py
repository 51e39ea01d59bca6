"""HubSpot, Salesforce and the ECB in one process, each on a loopback port of its own: python -m local.saas.server"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

from local.saas.admin import Admin as AdminClient
from local.saas.admin_api import Admin, accepted
from local.saas.ecb import Ecb
from local.saas.hubspot import HubSpot
from local.saas.salesforce import Salesforce
from local.saas.store import Store
from local.saas.web import Control, serve

if TYPE_CHECKING:
    from local.supervisor import ServiceSpec

SERVICES = ("hubspot", "salesforce", "ecb")


@dataclass(frozen=True)
class Doubles:
    """The running servers by service name."""

    store: Store
    servers: dict[str, ThreadingHTTPServer]

    def url(self, service: str) -> str:
        return f"http://127.0.0.1:{self.servers[service].server_address[1]}"

    def stop(self) -> None:
        for server in self.servers.values():
            server.shutdown()
            server.server_close()
        self.store.close()


def start(state: Path | None, ports: dict[str, int] | None = None) -> Doubles:
    """Serve in threads of this process; port 0 (the default) takes a free one. Without state nothing is kept."""
    store = Store(None if state is None else state / "saas" / "saas.db")
    control = Control()
    hubspot = HubSpot(store, lambda: accepted(store, "hubspot")["token"])
    salesforce = Salesforce(store, lambda: accepted(store, "salesforce"))
    admin = Admin(store, control, hubspot, salesforce)
    services = {
        "hubspot": hubspot,
        "salesforce": salesforce,
        "ecb": Ecb(store, lambda: store.setting("ecb.as_of")),
    }
    servers = {
        name: serve(service, control, admin, (ports or {}).get(name, 0)) for name, service in services.items()
    }
    for name, server in servers.items():
        threading.Thread(target=server.serve_forever, name=name, daemon=True).start()
    return Doubles(store, servers)


def spec(state: Path, ports: dict[str, int], env: dict[str, str]) -> ServiceSpec:
    from local.supervisor import ServiceSpec

    urls = {name: f"http://127.0.0.1:{ports[name]}" for name in SERVICES}
    arguments = [argument for name in SERVICES for argument in (f"--{name}-port", str(ports[name]))]
    return ServiceSpec(
        name="saas",
        argv=[sys.executable, "-m", "local.saas.server", "--state", str(state), *arguments],
        env=dict(env),
        ready=lambda: all(AdminClient(url, timeout_s=2).health() for url in urls.values()),
        exports={f"LOCAL_{name.upper()}_URL": url for name, url in urls.items()},
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m local.saas.server", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="folder that keeps the data (in its saas/)")
    for name in SERVICES:
        parser.add_argument(f"--{name}-port", type=int, default=0)
    args = parser.parse_args(argv)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    doubles = start(args.state, {name: getattr(args, f"{name}_port") for name in SERVICES})
    for name in SERVICES:
        print(f"{name} on {doubles.url(name)}", flush=True)
    stop.wait()
    doubles.stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
