"""The small program that limits itself and becomes the server of an instance.

`shim.instances.local.process` starts it as `python -m shim.instances.local.launcher`. Standard input is a file with
`Orders` as JSON: neither the command line nor the environment, which others can see, says what they hold.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from typing import Any

from shim.instances.local.limits import Limits, apply


@dataclass(frozen=True)
class Orders:
    """What a launcher is told."""

    command: list[str]
    env: dict[str, str]
    """The whole environment."""
    folder: str
    """Where it runs."""
    limits: Limits

    def to_json(self) -> bytes:
        """The orders as the launcher reads them."""
        return json.dumps(asdict(self)).encode()


def read_orders(data: bytes) -> Orders:
    """The orders that `Orders.to_json` wrote. Raises ValueError, TypeError or KeyError for anything else."""
    fields: dict[str, Any] = json.loads(data)
    limits = fields.pop("limits")
    return Orders(limits=Limits(limits["memory"], tuple(limits["cores"])), **fields)


def main() -> None:
    """Become the server; the process id stays."""
    orders = read_orders(sys.stdin.buffer.read())
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.umask(0o077)
    os.chdir(orders.folder)
    apply(orders.limits)
    os.execve(orders.command[0], orders.command, orders.env)


if __name__ == "__main__":
    main()
