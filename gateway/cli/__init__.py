"""What an operator does besides serving: make keys for clients, and check a configuration before it is used."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

from gateway.auth import sha256_of
from gateway.cli.check import examine, is_well, render_json, render_table
from gateway.keys import make_key
from gateway.settings import KEY_NAME


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run one command and return its exit status: 0, or 1 where a check found problems.

    :raises SystemExit: 2, the arguments are wrong; the message says how they should be.
    """
    options = build_parser().parse_args(arguments)
    if options.command == "check":
        findings = examine(environ, offline=options.offline)
        print(render_json(findings) if options.json else render_table(findings))
        return 0 if is_well(findings) else 1
    print_new_key(options.name)
    return 0


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gateway", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser(
        "check",
        help="check settings, catalog, state store and providers' keys",
        description="Check what a start or a reload would use. Exit status: 0 all is well, 1 there are problems.",
    )
    checking.add_argument("--offline", action="store_true", help="only what is read here: ask no provider and no state store")
    checking.add_argument("--json", action="store_true", help="print a JSON list instead of a table")
    keys = commands.add_parser("keys", help="keys for clients").add_subparsers(dest="action", required=True)
    new = keys.add_parser("new", help="make a key", description="Make a key and print it once, and below it its hash line.")
    new.add_argument("name", type=key_name, help="whose key it is, for logs, figures and limits")
    return parser


def key_name(text: str) -> str:
    if not KEY_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is no name: use 1 to 64 of the characters A-Za-z0-9._-")
    return text


def print_new_key(name: str) -> None:
    """Print a new key and its hash line to stdout, a line each, and what to do with them to stderr."""
    key = make_key()
    print("The key, shown this once, is for the client; the line below it is for GATEWAY_API_KEY_HASHES:", file=sys.stderr)
    print(key)
    print(f"{name}:{sha256_of(key)}")
