"""A DMARC policy goes on, and back, as reports show: on a real Knot, and with reports that a real rspamd mails."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.behaviours.inbox import knot, peer
from tests.behaviours.network import Network
from tests.behaviours.peer import Peer
from tests.behaviours.server import Server, merged, wait_until
from tests.behaviours.test_domain_in_the_dns import allowed, settings
from tests.mail.dmarc_documents import DAY_S, mailed, record, report
from tests.peers.knot import Knot
from tests.peers.rspamd import Rspamd

__all__ = ["knot", "peer"]
SERVER, FORGER, CRM = "127.0.0.1", "203.0.113.9", "198.51.100.7"
OUTSIDE = "192.0.2.10"  # rspamd judges nothing that comes from its own machine


@pytest.fixture
def server(tmp_path: Path, knot: Knot, network: Network) -> Iterator[Server]:
    own = merged(settings(knot), {"delivery": {"remote_port": network.port, "ipv6": False}})
    with Server(tmp_path / "server", own, sandbox=False) as started:
        yield started


def kept(folder: Path, *records: str, days: range, policy: str) -> Path:
    """A file for each day, so many days ago, as mail programs keep them."""
    folder.mkdir()
    today = int(time.time()) // DAY_S
    for ago in days:
        begin_s = (today - ago) * DAY_S
        text = report(*records, domain="shop.test", begin_s=begin_s, report_id=f"{begin_s}-{policy}", policy=policy)
        (folder / f"{ago}.eml").write_bytes(mailed(text))
    return folder


def seen(**fields: Any) -> str:
    return record(
        SERVER,
        200,
        header_from="shop.test",
        signatures=[("shop.test", "mf1", fields["dkim"])],
        spf=fields["dkim"],
        **fields,
    )


def policy(knot: Knot) -> str:
    (line,) = [line for line in knot.everything("shop.test") if line.startswith("_dmarc")]
    return line.split("p=")[1].split(";")[0].rstrip('"')


def test_the_policy_follows_what_reports_show(server: Server, knot: Knot, tmp_path: Path) -> None:
    allowed(server, knot)
    assert server.cli("domain", "add", "shop.test", "--publish").code == 0
    ran = server.cli("domain", "set", "shop.test", "--dmarc-rollout", "auto", "--dmarc-reports-to", "d@shop.test")
    assert "p=none and on from there as reports show" in ran.out
    assert server.cli("domain", "publish", "shop.test").code == 0
    crm = record(CRM, 30, dkim="fail", header_from="shop.test", signatures=[("crm.test", "k", "pass")], spf_seen=[])
    ran = server.cli(
        "dmarc", "add", str(kept(tmp_path / "a", seen(dkim="pass"), crm, days=range(1, 16), policy="none"))
    )
    assert (ran.code, ran.err) == (0, "")
    view = server.get("/v1/domains/shop.test/dmarc")
    assert [(one["who"], one["kind"], one["must_judge"]) for one in view["senders"]] == [
        ("default", "ours", False),
        ("crm.test", "service", True),
    ]
    assert policy(knot) == "none", "a sender waits for a word"
    ran = server.cli("dmarc", "judge", "shop.test", "foreign", "all")
    assert "p=none can become p=quarantine" in ran.out
    wait_until(lambda: policy(knot) == "quarantine", what=server.output)
    assert 'rua=mailto:d@shop.test"' in next(line for line in knot.everything("shop.test") if line.startswith("_dmarc"))
    past = server.cli("domain", "history", "shop.test", "--json").objects
    assert ("dmarc-policy", "none", "quarantine") in [(one["name"], one["before"], one["state"]) for one in past]
    assert "was p=none, now p=quarantine" in server.cli("domain", "digest").out
    told = [one["data"] for one in server.events(kind="domain_changed") if one["data"]["check"] == "dmarc-policy"]
    assert [(one["before"], one["state"]) for one in told] == [("none", "quarantine")]
    wait_until(
        lambda: "14 days of reports at p=quarantine are wanted, and 0" in server.cli("dmarc", "show", "shop.test").out
    )

    # It goes back when it hurts
    ran = server.cli(
        "dmarc",
        "add",
        str(kept(tmp_path / "b", seen(dkim="fail", disposition="quarantine"), days=range(1), policy="quarantine")),
    )
    assert ran.code == 0
    wait_until(lambda: policy(knot) == "none", what=server.output)
    told = [one["data"] for one in server.events(kind="domain_changed") if one["data"]["check"] == "dmarc-policy"]
    assert [(one["before"], one["state"]) for one in told] == [("none", "quarantine"), ("quarantine", "none")]
    assert server.get("/v1/domains/shop.test/settings")["dmarc_policy"] == "none"


def test_what_rspamd_reports_is_understood(server: Server, knot: Knot, peer: Peer, tmp_path: Path) -> None:
    allowed(server, knot)
    assert server.cli("domain", "add", "shop.test", "--publish").code == 0
    assert server.cli("domain", "set", "shop.test", "--dmarc-reports-to", "d@shop.test").code == 0
    assert server.cli("domain", "publish", "shop.test").code == 0
    server.wait_delivery(server.message("ann@inbox.test", **{"from": "news@shop.test"}))
    (sent,) = peer.messages
    outside = [
        f"mta.shop.test. 1 A {OUTSIDE}" if line.startswith("mta.") else line for line in knot.everything("shop.test")
    ]
    knot.replace("shop.test", outside)
    forged = b"From: news@shop.test\r\nTo: ann@inbox.test\r\nSubject: win\r\nDate: Mon, 05 Jan 2026 10:00:00 +0000\r\n\r\nhi\r\n"
    receiver = Rspamd(tmp_path / "rspamd", dns=knot.address)
    try:
        for message, ip, mail_from in ((sent.data, OUTSIDE, "b@bounce.shop.test"), (forged, FORGER, "x@forger.test")):
            receiver.scan(message, ip=ip, helo="mta.shop.test", mail_from=mail_from, rcpt="ann@inbox.test")
        reports = receiver.reports()
    finally:
        receiver.close()
    assert reports
    for number, one in enumerate(reports):
        (tmp_path / f"{number}.eml").write_bytes(one)
        ran = server.cli("dmarc", "add", str(tmp_path / f"{number}.eml"), "--json")
        assert (ran.code, ran.err) == (0, "")
    view = server.get("/v1/domains/shop.test/dmarc")
    found = {
        one["who"]: (one["kind"], one["passed"], one["by_dkim"], one["by_spf"], one["failed"])
        for one in view["senders"]
    }
    assert found == {"default": ("ours", 1, 1, 1, 0), FORGER: ("unknown", 0, 0, 0, 1)}
    (listed, *_) = server.get("/v1/domains/shop.test/dmarc/reports")["items"]
    assert (listed["domain"], listed["policy"]) == ("shop.test", "none")
