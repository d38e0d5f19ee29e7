"""A server outside the sandbox, in a private test network."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.behaviours.network import Network
from tests.behaviours.server import Server, Settings, merged, wait_until

HOSTNAME = "mta.shop.test"


class Live(Server):
    """``login`` is an SMTP login; its mail may come from every sending domain."""

    def __init__(self, folder: Path, network: Network, settings: Settings) -> None:
        own = merged(network.settings, {"server": {"hostname": HOSTNAME}, "delivery": {"time_scale": 3600}})
        super().__init__(folder, merged(own, settings), sandbox=False)
        self.network = network
        self._login: tuple[str, str] | None = None

    def add_domain(self, domain: str) -> dict[str, Any]:
        """Make a sending domain by the command line and publish what it prints."""
        ran = self.cli("domain", "add", domain, "--json")
        assert ran.code == 0, ran.err
        self.network.publish_domain(ran.last)
        return ran.last

    @property
    def login(self) -> tuple[str, str]:
        """User and password, made at the first use."""
        if self._login is None:
            made = self.cli("credential", "add", "webshop", "--json").last
            self._login = made["username"], made["password"]
        return self._login

    @property
    def submission(self) -> tuple[str, int]:
        """Where mail is submitted."""
        host, _, port = self.connection["smtp"].rpartition(":")
        return host, int(port)

    def replace_delivery(self) -> None:
        """End both delivery processes; over when the next ones have their leases, so that neither begins long before the other."""
        before = self.rows("SELECT id, slot FROM lease")
        for role in ("deliver-0", "deliver-1"):
            self.kill(role)
        wait_until(
            lambda: (
                {slot for lease, slot in self.rows("SELECT id, slot FROM lease") if (lease, slot) not in before}
                == {0, 1}
            ),
            what=self.output,
        )

    def key_of(self, name: str) -> str | None:
        """The TXT record in the network's zone, for verifiers."""
        return self.network.txt.get(name.lower())

    def raw(self, message: bytes, *to: str) -> str:
        """Hand over a whole message by the API; the first delivery's id."""
        answer = self.http.post(
            "/v1/messages", content=message, params={"to": list(to)}, headers={"Content-Type": "message/rfc822"}
        )
        assert answer.status_code == 202, answer.text
        delivery: str = answer.json()["deliveries"][0]["delivery"]
        return delivery

    def submit(
        self,
        message: bytes,
        sender: str,
        recipients: Sequence[str],
        mail_options: Sequence[str] = (),
        rcpt_options: Sequence[str] = (),
    ) -> None:
        """Hand over a message by SMTP, with STARTTLS and a login."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with smtplib.SMTP(*self.submission, timeout=30) as client:
            client.starttls(context=context)
            client.login(*self.login)
            client.sendmail(sender, recipients, message, mail_options, rcpt_options)

    def to(self, address: str, **content: object) -> dict[str, Any]:
        """Send a small message and wait for its end; the whole story."""
        return self.wait_delivery(self.message(address, **{"from": "shop@shop.test", **content}))


def attempts_of(story: dict[str, Any]) -> list[dict[str, Any]]:
    """What each try came to: the data of the events that tell of one."""
    return [event["data"] for event in story["events"] if event["data"].get("attempt")]
