"""TLS towards a real Postfix under DANE and MTA-STS, good and broken: what is delivered, what is counted, what is reported.

One network: a signed and an unsigned zone of a real Knot behind a real Unbound, one Postfix that shows another certificate for
each of its names.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme

from mailfleet.store.sqlite import open_connection
from tests.behaviours.live import Live
from tests.behaviours.mail import as_sent, attachments_of, parsed, signed_well
from tests.behaviours.network import Network
from tests.behaviours.peer import certified
from tests.behaviours.server import wait_until
from tests.behaviours.test_dane import certificate, tlsa
from tests.behaviours.test_tls_that_is_demanded import policy
from tests.peers.knot import Knot
from tests.peers.servers import MailServer, run_postfix
from tests.peers.unbound import Unbound
from tests.ports import free_port

AUTHORITY = trustme.CA()
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
STS = ("good", "wrong", "old", "trying", "stranger", "away", "lapsed", "forged", "broken", "asked", "clear")


def leaves() -> dict[str, trustme.LeafCert]:
    """By the name of the mail host."""
    made = {f"mx.{name}.sts.test": AUTHORITY.issue_cert(f"mx.{name}.sts.test") for name in STS}
    for name in ("wrong", "trying", "lapsed", "asked"):
        made[f"mx.{name}.sts.test"] = AUTHORITY.issue_cert("mx.elsewhere.test")
    made["mx.old.sts.test"] = AUTHORITY.issue_cert(
        "mx.old.sts.test", not_before=LONG_AGO, not_after=LONG_AGO.replace(year=2021)
    )
    for name in ("good", "bad", "useless"):
        made[f"mx.{name}.dane.test"] = trustme.CA().issue_cert(f"{name}.other.test")  # for no name that counts
    return made


class World:
    """``at``: the mail host's address of each domain; ``posted``: reports that came by HTTPS."""

    def __init__(self, network: Network, folder: Path, postfix: MailServer, shown: dict[str, trustme.LeafCert]) -> None:
        self.network, self.postfix = network, postfix
        self.port = free_port("127.0.0.1")
        self.posted: list[tuple[str, bytes]] = []
        self.answers: dict[str, tuple[int, str]] = {"page.sts.test": (200, "")}
        self.authority_file = folder / "authority.pem"
        AUTHORITY.cert_pem.write_to_path(str(self.authority_file))
        host = network.hand_on(postfix.host, postfix.port)
        self.clear = network.peer()
        zones = {"dane.test": self._dane(host, shown), "sts.test": self._sts(host)}
        self.knot = Knot(folder / "knot", zones, signed=True)
        where = dict.fromkeys(zones, self.knot.address)
        self.unbound = Unbound(folder / "unbound", where, [self.knot.trust_anchor("dane.test")])

    def _dane(self, host: str, shown: dict[str, trustme.LeafCert]) -> list[str]:
        keys = {name: certificate(leaf.cert_chain_pems[0]) for name, leaf in shown.items()}
        records = {
            "good": tlsa(3, 1, keys["mx.good.dane.test"]),
            "bad": tlsa(3, 1, keys["mx.good.dane.test"]),
            "useless": "1 1 1 " + "00" * 32,  # a usage that mail passes over
        }
        lines = []
        for name, record in records.items():
            lines += [f"{name} MX 10 mx.{name}", f"mx.{name} A {host}", f"_25._tcp.mx.{name} TLSA {record}"]
        return lines

    def _sts(self, host: str) -> list[str]:
        texts = {
            "good": policy("enforce", "*.good.sts.test"),
            "wrong": policy("enforce", "mx.wrong.sts.test"),
            "old": policy("enforce", "mx.old.sts.test"),
            "trying": policy("testing", "mx.trying.sts.test"),
            "asked": policy("testing", "mx.asked.sts.test"),
            "stranger": policy("enforce", "mx.elsewhere.test"),
            "forged": policy("enforce", "mx.forged.sts.test"),
            "broken": "no policy",
        }
        self.answers |= {f"mta-sts.{name}.sts.test": (200, text) for name, text in texts.items()}
        good = certified(AUTHORITY, "page.sts.test", *(f"mta-sts.{name}.sts.test" for name in STS))
        web = self.network.web(self.port, self.answers, good, self.posted)
        forged = self.network.web(self.port, self.answers, certified(trustme.CA(), "mta-sts.forged.sts.test"))
        lines = [f"page A {web}"]
        for name in STS:
            lines += [f"{name} MX 10 mx.{name}", f"mx.{name} A {self.clear.host if name == 'clear' else host}"]
            if name != "clear":
                lines.append(f'_mta-sts.{name} TXT "v=STSv1; id=1;"')
            if name not in ("clear", "lapsed"):
                lines.append(f"mta-sts.{name} A {forged if name == 'forged' else web}")
        wanted = f"mailto:reports@good.sts.test,https://page.sts.test:{self.port}/tls"
        lines += [f'_smtp._tls.{name} TXT "v=TLSRPTv1; rua={wanted}"' for name in ("trying", "old")]
        return lines

    def close(self) -> None:
        self.unbound.close()
        self.knot.close()


@pytest.fixture(scope="module")
def world(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    shown = leaves()
    with run_postfix(shown) as postfix:
        made = World(network, tmp_path_factory.mktemp("world"), postfix, shown)
        yield made
        made.close()


@pytest.fixture(scope="module")
def live(network: Network, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    resolver = f"127.0.0.1:{world.unbound.port}"
    settings: dict[str, dict[str, Any]] = {
        "dns": {"nameservers": [resolver], "validator": resolver, "authoritative_port": world.knot.port},
        "delivery": {
            "tls_ca_file": str(world.authority_file),
            "policy_port": world.port,
            "tls_demands": {"asked.sts.test": "required"},
        },
    }
    made = Live(tmp_path_factory.mktemp("live"), network, settings)
    with made:
        made.add_domain("shop.test")
        kept = open_connection(made.data / "mailfleet.db")
        kept.execute(  # a policy that held until a moment after 1970
            "INSERT INTO sts_policy (domain, policy_id, mode, mx, fetched_ms, expires_ms)"
            " VALUES ('lapsed.sts.test', '0', 'enforce', '[\"mx.lapsed.sts.test\"]', 1, 1000)"
        )
        kept.close()
        yield made


EXPECTED = {  # of each domain: what comes of its mail, and what is counted (policy, result)
    "good.dane.test": ("delivered", {("tlsa", "")}),
    "bad.dane.test": ("deferred", {("tlsa", "certificate-not-trusted")}),
    "useless.dane.test": ("delivered", {("tlsa", "tlsa-invalid")}),
    "good.sts.test": ("delivered", {("sts", "")}),
    "wrong.sts.test": ("deferred", {("sts", "certificate-host-mismatch")}),
    "old.sts.test": ("deferred", {("sts", "certificate-expired")}),
    "trying.sts.test": ("delivered", {("sts", "certificate-host-mismatch")}),
    "stranger.sts.test": ("deferred", {("sts", "validation-failure")}),
    "away.sts.test": ("delivered", {("sts", "sts-policy-fetch-error"), ("no-policy-found", "")}),
    "lapsed.sts.test": ("delivered", {("sts", "sts-policy-fetch-error"), ("no-policy-found", "")}),
    "forged.sts.test": ("delivered", {("sts", "sts-webpki-invalid"), ("no-policy-found", "")}),
    "broken.sts.test": ("delivered", {("sts", "sts-policy-invalid"), ("no-policy-found", "")}),
    "asked.sts.test": (
        "delivered",
        {("no-policy-found", "")},
    ),  # what a person demands goes before a policy that is tried
    "clear.sts.test": ("delivered", {("no-policy-found", "starttls-not-supported")}),
}


def counted(live: Live) -> dict[str, set[tuple[str, str]]]:
    found: dict[str, set[tuple[str, str]]] = {}
    for one in live.get("/v1/tls-results")["items"]:
        kinds = {(one["policy"], failure["result"]) for failure in one["failures"]}
        found.setdefault(one["domain"], set()).update(kinds | ({(one["policy"], "")} if one["succeeded"] else set()))
    return found


def test_every_session_is_counted_for_what_it_was(live: Live, world: World) -> None:
    sent = {domain: live.message(f"bob@{domain}", **{"from": "shop@shop.test"}) for domain in EXPECTED}

    def first(domain: str) -> dict[str, Any]:
        events = live.get("/v1/events", delivery=sent[domain])["items"]
        return next((one for one in events if one["kind"] in ("delivered", "deferred")), {})

    for domain, (kind, _) in EXPECTED.items():
        event = wait_until(lambda domain=domain: first(domain), 60, live.output)  # type: ignore[misc]
        assert event["kind"] == kind, (domain, event)
    wait_until(
        lambda: all(kinds <= counted(live).get(domain, set()) for domain, (_, kinds) in EXPECTED.items()),
        60,
        lambda: f"{counted(live)}\n{live.output()}",
    )
    found = counted(live)
    assert {domain: found[domain] for domain in EXPECTED} == {domain: kinds for domain, (_, kinds) in EXPECTED.items()}

    assert first("good.dane.test")["data"]["tls_policy"] == "tlsa"
    assert first("good.sts.test")["data"]["tls_policy"] == "sts enforce"
    trying = first("trying.sts.test")["data"]
    assert trying["tls_policy"] == "sts testing"
    assert trying["tls_fault"].startswith("certificate-host-mismatch")
    assert trying["tls"].startswith("TLSv1.3")
    assert "tls_policy" not in first("clear.sts.test")["data"]
    assert first("old.sts.test")["data"]["tls_fault"] == "certificate-expired: certificate has expired"
    taken = {parsed(as_sent(one))["Delivered-To"] for one in world.postfix.messages()}
    held = {f"bob@{domain}" for domain, (kind, _) in EXPECTED.items() if kind == "deferred"}
    assert not taken & held
    assert len(world.clear.messages) == 1

    ran = live.cli("tls", "results", "old.sts.test")
    assert ran.code == 0, ran.err
    assert "certificate-expired" in ran.out
    metrics = live.http.get("/metrics").text
    assert 'mailfleet_tls_sessions_total{policy="sts",result="certificate-expired"' in metrics


def test_who_asks_for_reports_gets_them_signed(live: Live, world: World) -> None:
    def reports() -> dict[str, bytes]:
        mails = [as_sent(stored) for stored in world.postfix.messages()]
        return {str(parsed(one)["TLS-Report-Domain"]): one for one in mails if parsed(one)["TLS-Report-Domain"]}

    def posting(packed: bytes) -> str:
        """The head that a report was posted with; those of the next day may have come as well."""
        return next((head for head, body in world.posted if body == packed), "")

    live.message("eve@trying.sts.test", **{"from": "shop@shop.test"})
    mails = wait_until(lambda: found if len(found := reports()) == 2 else None, 120, live.output)
    for domain, result in (("trying.sts.test", "certificate-host-mismatch"), ("old.sts.test", "certificate-expired")):
        message = mails[domain]
        assert signed_well(message, live.key_of)
        assert b"tls-report-domain" in message.partition(b"DKIM-Signature")[2].lower().partition(b"bh=")[0]
        assert parsed(message)["From"].addresses[0].addr_spec == "tls-reports@shop.test"
        ((name, packed),) = attachments_of(message).items()
        assert name.startswith(f"shop.test!{domain}!")
        report = json.loads(gzip.decompress(packed))
        (told,) = [one for one in report["policies"] if one["policy"]["policy-type"] == "sts"]
        assert told["policy"]["mx-host"] == [f"mx.{domain}"]
        assert told["policy"]["policy-domain"] == domain
        assert told["summary"]["total-successful-session-count"] == 0
        (failure,) = told["failure-details"]
        assert failure["result-type"] == result
        assert failure["receiving-mx-hostname"] == f"mx.{domain}"
        assert failure["failed-session-count"] == told["summary"]["total-failure-session-count"] >= 1
        assert failure["sending-mta-ip"].startswith("127.")
        posted = wait_until(partial(posting, packed), 60, live.output)
        assert posted.startswith("POST /tls HTTP")
