"""`python -m local up|down|status|seed|env`: the lakehouse's surroundings, on this machine."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from pathlib import Path

from local import stack
from local.supervisor import ServiceError, Supervisor


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start what is not running and wait until it is healthy")
    up.add_argument("services", nargs="*", help=f"only these of {', '.join(stack.SERVICES)}")
    up.add_argument(
        "--kafka-mode", choices=stack.KAFKA_MODES, help="how this lake reads the order topic from now on"
    )
    commands.add_parser("down", help="stop everything; data stays")
    commands.add_parser("status", help="what is running, where, and its log")
    use = commands.add_parser("use", help="make another lake the one that commands mean")
    use.add_argument("lake", nargs="?", default="", help="its name; without one, list them")
    commands.add_parser("env", help="KEY=VALUE lines for `set -a; . <(python -m local env)`")
    seed = commands.add_parser("seed", help="create what the pipeline expects; with --data, load the sources")
    seed.add_argument("--data", type=Path, help="directory in the layout of data_fixed/")
    args = parser.parse_args(argv)
    state = stack.state_dir()

    def say(text: str) -> None:
        print(text, flush=True)

    try:
        if args.command == "up":
            unknown = set(args.services) - set(stack.SERVICES)
            if unknown:
                parser.error(
                    f"no such service: {', '.join(sorted(unknown))} (there are {', '.join(stack.SERVICES)})"
                )
            stack.up(state, say, args.services, args.kafka_mode)
            say(stack.status(state)[0])
        elif args.command == "down":
            stack.down(state, say)
        elif args.command == "status":
            table, everything = stack.status(state)
            say(table)
            return 0 if everything else 3
        elif args.command == "use":
            say(stack.use(args.lake, say) if args.lake else stack.lakes())
        elif args.command == "env":
            print(stack.env_lines(stack.Stack.load(state)), end="")
        elif args.command == "seed":
            _seed(state, args.data, say)
    except ServiceError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    return 0


def _seed(state: Path, data: Path | None, say: stack.Say) -> None:
    from local import bootstrap

    current = stack.Stack.load(state)
    exports = current.exports | bootstrap.run(current, say)
    current = stack.Stack(state, current.ports, exports)
    stack.write(current, Supervisor(state))
    if data is not None:
        if not data.is_dir():
            raise ServiceError(f"no data directory {data}: generate the sample data first (`make data`)")
        say(str(importlib.import_module("local.sources_seed").load(data, current)))


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `… | head` is no error
    sys.exit(main())
