"""A real receiver's judgement on loopback: rspamd with Redis, which checks DKIM, SPF and DMARC and mails aggregate reports."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.ports import free_port

START_S = 60.0
REPORTER = "dmarc-reports@receiver.test"
# The names under which others have domains. All those that Debian's list has take rspamd ten seconds to compile.
SUFFIXES = ("com", "net", "org", "example", "test")
CONFIG = """
options {{
    filters = "dkim";
    local_addrs = [];
    dns {{ nameserver = ["{dns}:1"]; timeout = 2s; }}
    url_tld = "./suffixes";
    tempdir = "./";
    hs_cache_dir = "./";
    cache_file = "./symbols.cache";
    control_socket = "./control.sock mode=0600";
    disable_hyperscan = true;
}}
logging {{ type = "console"; level = "info"; }}
worker "normal" {{ bind_socket = "127.0.0.1:{port}"; count = 1; }}
modules {{ path = "/usr/share/rspamd/plugins/spf.lua"; }}
modules {{ path = "/usr/share/rspamd/plugins/dmarc.lua"; }}
redis {{ servers = "./redis.sock"; }}
spf {{ }}
dkim {{ }}
dmarc {{
    reporting {{
        enabled = true;
        email = "{reporter}";
        domain = "receiver.test";
        org_name = "Receiver of Tests";
        smtp = "127.0.0.1";
        smtp_port = {smtp_port};
        helo = "receiver.test";
        msgid_from = "receiver.test";
    }}
}}
"""
# rspamadm, unlike rspamd, asks the name servers of the machine, whatever its settings say.
WITH_OTHER_DNS = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
WITH_OTHER_DNS += ['mount --bind resolv.conf /etc/resolv.conf && exec "$@"', "sh"]


class Rspamd:
    """``dns`` is ``address:port`` of who knows the domains of the mail. To it no IP address is local, and days are UTC.
    It remembers SPF records and DKIM keys for minutes, whatever their TTL: a record that changes needs another name."""

    def __init__(self, folder: Path, *, dns: str) -> None:
        programs = [shutil.which(name) for name in ("redis-server", "rspamd", "rspamadm")]
        if not all(programs):
            pytest.fail("rspamd is missing: run scripts/install-rspamd")
        redis, rspamd, self._rspamadm = map(str, programs)
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._since = folder, _today()
        self._inbox = _Inbox()
        with ExitStack() as started:
            sink = Controller(self._inbox, hostname="127.0.0.1", port=free_port(), server_hostname="mail.receiver.test")
            sink.start()
            started.callback(sink.stop)
            port = free_port()
            config = CONFIG.format(dns=dns, port=port, smtp_port=sink.port, reporter=REPORTER)
            (folder / "rspamd.conf").write_text(config)
            (folder / "suffixes").write_text("\n".join([*SUFFIXES, ""]))
            (folder / "resolv.conf").write_text(f"nameserver {dns}\n")
            command = [redis, "--port", "0", "--unixsocket", "redis.sock", "--save", "", "--dir", "."]
            self._start(started, command, (folder / "redis.sock").exists)
            self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False)
            started.callback(self._http.close)
            # Its workers stay who started it: another user could not read the folder of a test that root runs.
            self._start(started, [rspamd, "--no-fork", "--insecure", "--config", "rspamd.conf"], self._answers)
            self._ends = started.pop_all()

    def scan(self, message: bytes, *, ip: str, helo: str, mail_from: str, rcpt: str) -> dict[str, Any]:
        """What it finds in a message that came from ``ip``: ``symbols`` are the verdicts by name. ``mail_from`` and ``rcpt`` are
        bare addresses, ``mail_from`` may be empty. What it found is stored by then."""
        headers = {"IP": ip, "Helo": helo, "From": f"<{mail_from}>", "Rcpt": f"<{rcpt}>"}
        answer = self._http.post("/checkv2", content=message, headers=headers)
        assert answer.status_code == 200, answer.text + self.log()
        found: dict[str, Any] = answer.json()
        return found

    def reports(self, *days: date) -> list[bytes]:
        """Have it mail what it saw on ``days``, on all since it started if none is named, and forget it: the messages as they
        arrive at the address that ``rua=`` has by now.

        There is one for each organisational domain, ``rua=`` and day. The period in it is not that day: it starts with
        yesterday, or where the reports before ended, and ends where today starts.
        """
        wanted = days or [self._since + timedelta(number) for number in range((_today() - self._since).days + 1)]
        self._inbox.messages.clear()
        command = [self._rspamadm, "dmarc_report", "--config", "rspamd.conf", *(f"{day:%Y%m%d}" for day in wanted)]
        ran = subprocess.run(
            [*WITH_OTHER_DNS, *command],
            cwd=self._folder, env=_environment(), capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        said = ran.stdout + ran.stderr
        assert ran.returncode == 0, said
        sent = f" {len(self._inbox.messages)} completed, 0 failed" in said
        assert sent or said.count("No reports for") == len(wanted), said + self.log()
        return list(self._inbox.messages)

    def log(self) -> str:
        """What rspamd and Redis did."""
        return "".join(path.read_text(errors="replace") for path in sorted(self._folder.glob("*.log")))

    def close(self) -> None:
        """End it and its Redis; may be called again."""
        self._ends.close()

    def _start(self, started: ExitStack, command: list[str], there: Callable[[], bool]) -> None:
        with (self._folder / f"{Path(command[0]).name}.log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=self._folder, env=_environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        started.callback(process.wait, 20)
        started.callback(process.terminate)
        until = time.monotonic() + START_S
        while not there():
            assert process.poll() is None, self.log()
            assert time.monotonic() < until, f"{command[0]} does not start\n{self.log()}"
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            return self._http.get("/ping").status_code == 200
        except httpx.TransportError:
            return False


class _Inbox:
    """Takes every message."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Called by aiosmtpd."""
        assert isinstance(envelope.content, bytes)
        self.messages.append(envelope.content)
        return "250 2.0.0 taken"


def _today() -> date:
    return datetime.now(UTC).date()


def _environment() -> dict[str, str]:
    return {**os.environ, "TZ": "UTC"}
