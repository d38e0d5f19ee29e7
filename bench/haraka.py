"""Haraka with its DKIM plugin, on a Node.js of its own, both from npm with pinned versions (``scripts/install-bench-peers``)."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import keys
from bench.handover import Relay
from bench.messages import SENDING_DOMAIN
from bench.names import CHECKING, COUNTING
from bench.network import Network
from bench.processes import BenchError, free_port, greets, running, tail, wait_until, work_folder

NAME = "haraka_dkim"
DURABILITY = (
    "every message is a queue file, synced (fsync) and renamed before Haraka says 250; its folder is not synced"
)
INSTALLED = Path(__file__).parents[1] / ".cache" / "bench" / "haraka" / "node_modules"
SESSIONS = 50
SETTINGS: dict[str, Any] = {
    "smtp.ini nodes": os.cpu_count(),
    "outbound.ini concurrency_max": 500,
    "outbound.ini enable_tls": "false",
    "dkim.ini canon body": "relaxed",
    "log.ini level": "warn",
    "NODE_ENV": "production",
    "UV_THREADPOOL_SIZE": 32,
}
# Stands in for what a real installation would decide: loopback may relay, every recipient is taken, the sink is every mail host.
_PLUGIN = """\
exports.hook_lookup_rdns = (next) => next(OK, 'load.bench.test')
exports.hook_connect = (next, connection) => { connection.relaying = true; next() }
exports.hook_rcpt = (next) => next(OK)
exports.hook_get_mx = (next, hmail, domain) => next(OK, {
    priority: 0, exchange: domain === 'check.test' ? '%s' : '%s', port: %d })
"""


def node() -> Path:
    """The Node.js it runs on."""
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return INSTALLED / f"node-linux-{machine}" / "bin" / "node"


def version_of(package: str) -> str:
    """The installed version of an npm package. Raises ``BenchError`` when it is not there."""
    path = INSTALLED / package / "package.json"
    if not path.exists():
        raise BenchError(f"{package} is missing: run scripts/install-bench-peers as root")
    return str(json.loads(path.read_text())["version"])


@contextlib.contextmanager
def haraka_dkim(network: Network, **variation: Any) -> Iterator[Relay]:
    """Start it. ``variation`` changes ``sessions``, ``nodes``, ``concurrency_max`` or ``threads``, for a trial."""
    version_of("Haraka")
    settings = dict(SETTINGS)
    names = {
        "nodes": "smtp.ini nodes",
        "concurrency_max": "outbound.ini concurrency_max",
        "threads": "UV_THREADPOOL_SIZE",
    }
    sessions = int(variation.pop("sessions", SESSIONS))
    settings |= {names[name]: value for name, value in variation.items()}
    with work_folder("haraka") as root:
        port = free_port()
        _configure(root, network.port, port, settings)
        log = root / "log"
        environment = {
            **os.environ,
            "NODE_ENV": "production",
            "UV_THREADPOOL_SIZE": str(settings["UV_THREADPOOL_SIZE"]),
        }
        command = [str(node()), str(INSTALLED / "Haraka" / "bin" / "haraka"), "-c", str(root)]
        with running(command, log, env=environment, cwd=root) as process:

            def alive() -> None:
                if process.poll() is not None:
                    raise BenchError("Haraka has ended")

            wait_until(lambda: greets(port), process, "Haraka", lambda: tail(log))
            yield Relay(
                NAME, port, sessions, keys.records(), alive, lambda: tail(log), settings=told(sessions, settings)
            )


def told(sessions: int = SESSIONS, settings: dict[str, Any] = SETTINGS) -> dict[str, Any]:
    """The settings, for the record."""
    plugins = "dkim and one of ours: loopback may relay, every mail host is the sink, so no name is looked up"
    return {"sessions of the load generator": sessions, "plugins": plugins, **settings}


def _configure(root: Path, sink_port: int, port: int, settings: dict[str, Any]) -> None:
    config = root / "config"
    key = config / "dkim" / SENDING_DOMAIN
    key.mkdir(parents=True)
    (root / "plugins").mkdir()
    (root / "queue").mkdir()
    (root / "plugins" / "bench.js").write_text(_PLUGIN % (CHECKING, COUNTING, sink_port))
    (key / "private").write_text(keys.private_pem())
    (key / "selector").write_text(f"{keys.SELECTOR}\n")
    shutil.copy(INSTALLED / "Haraka" / "config" / "connection.ini", config)  # Haraka's own defaults; it fails without
    files = {
        "me": "mail.bench.test\n",
        "plugins": "bench\ndkim\n",
        "log.ini": f"[main]\nlevel={settings['log.ini level']}\n",
        "smtp.ini": f"listen=127.0.0.1:{port}\nnodes={settings['smtp.ini nodes']}\n",
        "outbound.ini": f"concurrency_max={settings['outbound.ini concurrency_max']}\nenable_tls=false\n",
        "dkim.ini": "[sign]\nenabled=true\nheaders=From, To, Subject, Date, Message-ID, MIME-Version, Content-Type\n"
        "[canon]\nbody=relaxed\n[verify]\nenabled=false\n",
    }
    for name, text in files.items():
        (config / name).write_text(text)
