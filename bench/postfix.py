"""Postfix with OpenDKIM as its milter: own configuration, queue, socket and key, nothing of the system's."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import keys
from bench.handover import Relay
from bench.messages import SENDING_DOMAIN
from bench.names import CHECKING, COUNTING
from bench.network import Network
from bench.processes import BenchError, free_port, greets, program, running, tail, wait_until, work_folder

NAME = "postfix_opendkim"
DURABILITY = "every message is a queue file that cleanup syncs (fsync) before Postfix says 250; the log is not synced"
INSTALL = "scripts/install-bench-peers"

# What differs from a fresh Debian installation. docs/performance.md says which variations were tried.
SESSIONS = 20
SETTINGS: dict[str, str] = {
    "default_process_limit": "200",
    "in_flow_delay": "0",
    "initial_destination_concurrency": "20",
    "smtp_destination_concurrency_limit": "40",
    "smtp_destination_concurrency_failed_cohort_limit": "0",
    "qmgr_message_active_limit": "100000",
    "qmgr_message_recipient_limit": "100000",
    "smtp_connection_cache_on_demand": "yes",
    "smtp_connection_reuse_time_limit": "300s",
    "smtp_dns_support_level": "disabled",
    "smtp_host_lookup": "native",
    "smtp_tls_security_level": "none",
    "smtpd_tls_security_level": "none",
    "smtpd_peername_lookup": "no",
    "smtpd_client_connection_count_limit": "0",
    "local_header_rewrite_clients": "",
    "milter_default_action": "tempfail",
    "milter_protocol": "6",
}
OPENDKIM: dict[str, str] = {
    "Mode": "s",
    "Canonicalization": "relaxed/relaxed",
    "SignatureAlgorithm": "rsa-sha256",
    "Domain": SENDING_DOMAIN,
    "Selector": keys.SELECTOR,
    "InternalHosts": "127.0.0.0/8",
    "Syslog": "no",
    "RequireSafeKeys": "no",
}
_MAIN = """\
compatibility_level = 3.6
queue_directory = {root}/queue
data_directory = {root}/data
maillog_file_prefixes = {root}
maillog_file = {root}/log
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mail.bench.test
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
local_recipient_maps =
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions =
smtpd_milters = unix:{socket}
relayhost = [{sink}]:{port}
transport_maps = inline:{{ check.test=smtp:[{check}]:{port} }}
"""
# No chroot: n in the fifth column
_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
postlog unix-dgram n - n - 1 postlogd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
"""


@contextlib.contextmanager
def postfix_opendkim(network: Network, **variation: str) -> Iterator[Relay]:
    """Start both. ``variation`` changes settings of Postfix, or ``sessions``, for a trial."""
    sessions = int(variation.pop("sessions", SESSIONS))
    program("postfix", "scripts/install-mail-peers")
    with work_folder("postfix") as root, _opendkim(root) as milter:
        port = free_port()
        settings = SETTINGS | variation
        etc = _configure(root, network.port, milter, port, settings)
        log = root / "log"
        master = ["/usr/lib/postfix/sbin/master", "-c", str(etc), "-d"]
        with running(master, root / "output", env={**os.environ, "MAIL_CONFIG": str(etc)}) as process:

            def words() -> str:
                return tail(log, root / "output", root / "opendkim.log")

            def alive() -> None:
                if process.poll() is not None:
                    raise BenchError("Postfix has ended")

            wait_until(lambda: greets(port), process, "Postfix", words)
            yield Relay(NAME, port, sessions, keys.records(), alive, words, settings=told(sessions, settings))


def told(sessions: int = SESSIONS, settings: dict[str, str] = SETTINGS) -> dict[str, Any]:
    """The settings, for the record."""
    return {
        "sessions of the load generator": sessions,
        "postfix main.cf": settings,
        "way out": "relayhost, so that one destination has all connections and no name is looked up",
        "milter": "unix socket",
        "opendkim.conf": OPENDKIM,
        "opendkim threads": "one a connection, made by libmilter; there is no setting",
    }


def _configure(root: Path, sink_port: int, milter: Path, port: int, settings: dict[str, str]) -> Path:
    etc = root / "etc"
    for folder in (etc, root / "queue", root / "data"):
        folder.mkdir()
    shutil.chown(root / "data", "postfix")
    main = _MAIN.format(root=root, socket=milter, sink=COUNTING, check=CHECKING, port=sink_port)
    (etc / "main.cf").write_text(main + "".join(f"{name} = {value}\n" for name, value in settings.items()))
    (etc / "master.cf").write_text(_MASTER.format(port=port))
    done = subprocess.run(["postfix", "-c", str(etc), "check"], capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise BenchError(f"postfix check: {done.stderr.strip()}")
    return etc


@contextlib.contextmanager
def _opendkim(root: Path) -> Iterator[Path]:
    """A signing milter. Yields its socket."""
    command = program("opendkim", INSTALL)
    socket, key, log = root / "opendkim.sock", root / "opendkim.key", root / "opendkim.log"
    key.write_text(keys.private_pem())
    settings = OPENDKIM | {"KeyFile": str(key), "Socket": f"local:{socket}", "UMask": "000"}
    (root / "opendkim.conf").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    with running([command, "-f", "-x", str(root / "opendkim.conf")], log) as process:
        wait_until(socket.exists, process, "OpenDKIM", lambda: tail(log))
        yield socket
