"""The server itself in the DNS: planned, published and checked against a signed zone of Knot and an Unbound that validates.

Its key is exchanged (Pebble makes the certificates) while somebody looks all the time whether the zone names what is shown.
"""

from __future__ import annotations

import smtplib
import ssl
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import dns.rdatatype
import dns.tsigkeyring
import dns.update
import pytest
import trustme

from mailfleet.net.tls_keys import shown_digest
from tests.behaviours.server import Server, wait_until
from tests.behaviours.test_certificates import HOST, SECRET, Plant
from tests.peers.knot import KEY, Knot
from tests.peers.unbound import Unbound
from tests.ports import free_port

REVERSE = "127.in-addr.arpa"
ZONE = ["mail A 127.0.0.1", "@ MX 10 mx.office", "mx.office A 127.0.0.9"]
POINTERS = [f"1.0.0 PTR {HOST}."]
SOURCE = {"name": "s1", "address": "127.0.80.1", "ehlo_name": "out.shop.test"}


class Signed:
    """A server whose zone is signed, with certificates from Pebble; ``port`` is where it takes submission."""

    def __init__(self, folder: Path) -> None:
        self.plant = Plant(folder, "http-01", zones={"shop.test": ZONE, REVERSE: POINTERS}, signed=True)
        self.knot, self.server = self.plant.knot, self.plant.server
        self.unbound = Unbound(
            folder / "unbound", {"shop.test": self.knot.address}, [self.knot.trust_anchor("shop.test")]
        )
        self.port = free_port()
        self.server.change("submission", "listen", f"127.0.0.1:{self.port}")
        self.server.change("dns", "validator", f"127.0.0.1:{self.unbound.port}")
        self.server.change("delivery", "remote_port", self.port)  # what others reach at port 25

    def start(self) -> Signed:
        self.plant.start().wait()
        self.server.post("/v1/sources", SOURCE)
        wait_until(lambda: self.shown() == self.key(), 30, self.server.output)
        return self

    def close(self) -> None:
        self.plant.close()
        self.unbound.close()

    def may_write(self) -> None:
        for zone in ("shop.test", REVERSE):
            body = {"zone": zone, "server": self.knot.address, "key_name": KEY, "secret": SECRET}
            self.server.post("/v1/dns-zones", body)

    def shown(self) -> str:
        """The digest of the key that submission shows."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with smtplib.SMTP("127.0.0.1", self.port, timeout=30) as client:
            client.starttls(context=context)
            assert isinstance(client.sock, ssl.SSLSocket)
            return shown_digest(client.sock.getpeercert(binary_form=True) or b"")

    def key(self) -> str:
        """The digest of the key that HTTPS shows to those who ask for the server's name."""
        try:
            with self.plant.connect() as connection:
                return shown_digest(connection.getpeercert(binary_form=True) or b"")
        except ssl.SSLError:
            return ""

    def named(self, port: int = 25) -> set[str]:
        """The digests that the zone names."""
        query = dns.message.make_query(f"_{port}._tcp.{HOST}", "TLSA")
        answer = dns.query.tcp(query, "127.0.0.1", timeout=10, port=self.knot.port)
        texts = [str(one) for rrset in answer.answer if rrset.rdtype == dns.rdatatype.TLSA for one in rrset]
        assert all(text.startswith("3 1 1 ") for text in texts)
        return {text.split()[-1] for text in texts}

    def by_hand(self, *digests: str) -> None:
        """Have the zone name these keys, as a person does."""
        update = dns.update.UpdateMessage("shop.test", keyring=dns.tsigkeyring.from_text({KEY: SECRET}))
        for port in (25, self.port):
            update.delete(f"_{port}._tcp.mail", "TLSA")
            for digest in digests:
                update.add(f"_{port}._tcp.mail", 1, "TLSA", f"3 1 1 {digest}")
        dns.query.tcp(update, "127.0.0.1", port=self.knot.port, timeout=10)


@pytest.fixture
def signed(tmp_path: Path) -> Iterator[Signed]:
    made = Signed(tmp_path)
    yield made
    made.close()


class Watch:
    """Looks all the time, in a thread of its own, whether the zone names what is shown."""

    def __init__(self, signed: Signed) -> None:
        self._signed, self._stop = signed, threading.Event()
        self.looks, self.wrong = 0, [""][:0]
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            ports = (25, self._signed.port)
            before = [self._signed.named(port) for port in ports]
            shown = self._signed.shown()
            # Before or after: between two of these looks the DNS may have begun to tell of a key, or have ended
            named = [one | self._signed.named(port) for one, port in zip(before, ports, strict=True)]
            self.wrong += [f"{shown} is shown, {one} is named" for one in named if shown not in one]
            self.looks += 1


def checks(server: Server) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in server.post("/v1/server/check")["checks"]}


def wrong(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: one for name, one in found.items() if one["state"] != "ok"}


def tlsa_of(records: Sequence[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(one["name"], one["value"]) for one in records if one["type"] == "TLSA"}


def test_one_command_to_all_green_and_another_key_without_a_gap(signed: Signed) -> None:
    server = signed.start().server
    signed.may_write()
    before = signed.knot.everything("shop.test")
    first = signed.shown()
    plan = server.get("/v1/server/plan")
    names = [f"_25._tcp.{HOST}", f"_{signed.port}._tcp.{HOST}"]
    assert [(one["name"], one["type"], one["value"]) for one in plan["records"]] == [
        ("out.shop.test", "A", "127.0.80.1"),
        ("1.80.0.127.in-addr.arpa", "PTR", "out.shop.test."),
        (HOST, "TXT", "v=spf1 a -all"),
        ("out.shop.test", "TXT", "v=spf1 a -all"),
        *((name, "TLSA", f"3 1 1 {first}") for name in names),
    ]
    done = server.cli("server", "publish")
    assert done.code == 0, done.out + done.err
    assert wrong(checks(server)) == {}
    found = checks(server)
    expected = {
        "host:server",
        "host:s1",
        "ptr:s1",
        "ptr:default",
        "helo-spf:out.shop.test",
        "dnssec",
        "tlsa:25",
        "certificate",
    }
    assert expected <= set(found)
    again = server.post("/v1/server/publish", {})
    assert (again["changes"], again["by_hand"], again["conflicts"]) == ([], [], [])
    assert set(before) < set(signed.knot.everything("shop.test")), "what others have stays"

    with Watch(signed) as watch:
        told = server.cli("certificate", "renew", HOST, "--new-key")
        assert "another key waits until the DNS tells of it" in told.out, told.out + told.err
        wait_until(lambda: len(signed.named()) == 2, 30, server.output)
        wait_until(lambda: signed.shown() != first, 60, server.output)
        wait_until(lambda: signed.named() == signed.named(signed.port) == {signed.shown()}, 60, server.output)
    assert watch.looks > 3
    assert watch.wrong == []
    assert first not in signed.named()
    assert wrong(checks(server)) == {}


def test_a_key_waits_for_those_who_publish_by_hand(signed: Signed) -> None:
    server = signed.start().server
    first = signed.shown()
    done = server.post("/v1/server/publish", {})
    assert done["changes"] == []
    by_hand = {(one["name"], one["value"]) for one in done["by_hand"] if one["type"] == "TLSA"}
    assert by_hand == {(f"_{port}._tcp.{HOST}", f"3 1 1 {first}") for port in (25, signed.port)}
    assert checks(server)["tlsa:25"]["state"] == "warning", "mail goes all the same"
    signed.by_hand(first)
    assert checks(server)["tlsa:25"]["state"] == "ok"

    assert server.post(f"/v1/certificates/{HOST}/renew", {"new_key": True})["next_key_from"] == ""
    waiting = checks(server)["tlsa-next:25"]
    assert (waiting["state"], "waits until every name server" in waiting["meaning"]) == ("warning", True)
    named = {value.split()[-1] for _, value in tlsa_of(server.get("/v1/server/plan")["records"])}
    assert first in named
    assert signed.shown() == first
    assert signed.plant.certificate()["next_key_from"] == ""
    signed.by_hand(*named)
    wait_until(lambda: signed.plant.certificate()["next_key_from"], 60, server.output)
    wait_until(lambda: signed.shown() != first, 60, server.output)
    assert {first, signed.shown()} == named

    other = "00" * 32
    signed.by_hand(other)
    found = checks(server)["tlsa:25"]
    assert (found["state"], "senders that use DANE send nothing here" in found["meaning"]) == ("failed", True)
    assert f"3 1 1 {other}" in found["found"]


def test_a_certificate_of_ones_own_is_told_of_first(signed: Signed) -> None:
    server = signed.start().server
    signed.may_write()
    server.post("/v1/server/publish", {})
    first, made = signed.shown(), trustme.CA().issue_cert(HOST)
    chain, key = server.folder / "own.pem", server.folder / "own.key"
    chain.write_bytes(b"".join(one.bytes() for one in made.cert_chain_pems))
    made.private_key_pem.write_to_path(key)
    refused = server.cli("certificate", "import", str(chain), str(key))
    assert (refused.code, "the DNS names another key" in refused.err) == (1, True), refused.err
    gone = server.cli("certificate", "remove", HOST)
    assert (gone.code, "the DNS names another key" in gone.err) == (1, True), gone.err
    assert server.cli("server", "publish", "--also", str(chain)).code == 0
    with Watch(signed) as watch:
        assert server.cli("certificate", "import", str(chain), str(key)).code == 0
        wait_until(lambda: signed.shown() != first, 30, server.output)
        wait_until(lambda: signed.named() == {signed.shown()}, 60, server.output)
    assert watch.wrong == []

    server.change("dns", "tlsa", False)
    server.restart()
    assert tlsa_of(server.get("/v1/server/plan")["records"]) == set()
    server.post("/v1/server/publish", {})
    assert signed.named() == set()
    assert server.cli("certificate", "remove", HOST).code == 0


@pytest.fixture
def unsigned(tmp_path: Path) -> Iterator[tuple[Server, Knot]]:
    knot = Knot(tmp_path / "knot", {"shop.test": ZONE, REVERSE: POINTERS}, secret=SECRET)
    unbound = Unbound(tmp_path / "unbound", {"shop.test": knot.address}, [])
    own = trustme.CA().issue_cert(HOST)
    own.cert_chain_pems[0].write_to_path(tmp_path / "own.pem")
    own.private_key_pem.write_to_path(tmp_path / "own.key")
    settings: dict[str, dict[str, Any]] = {
        "server": {"hostname": HOST},
        "acme": {"caa_identity": "ca.test"},
        "submission": {"tls_cert": str(tmp_path / "own.pem"), "tls_key": str(tmp_path / "own.key")},
        "dns": {
            "nameservers": [knot.address], "validator": f"127.0.0.1:{unbound.port}", "authoritative_port": knot.port,
            "timeout_s": 1, "ttl_s": 1,
        },
        "delivery": {"loopback_only": True, "time_scale": 3600},
    }  # fmt: skip
    with Server(tmp_path / "server", settings, sandbox=False) as server:
        server.post("/v1/sources", SOURCE)
        yield server, knot
    unbound.close()
    knot.close()


def test_what_is_wrong_is_found_and_told(unsigned: tuple[Server, Knot]) -> None:
    server, knot = unsigned
    plan = server.cli("server", "plan")
    assert "TLSA" not in plan.out
    assert f"no TLSA records: the zone of {HOST} is not signed" in plan.err
    zone = {"zone": "shop.test", "server": knot.address, "key_name": KEY, "secret": SECRET}
    server.post("/v1/dns-zones", zone)
    done = server.cli("server", "publish", "--json").last
    assert [(one["name"], one["type"]) for one in done["by_hand"]] == [("1.80.0.127.in-addr.arpa", "PTR")]
    found = checks(server)
    assert set(wrong(found)) == {"ptr:s1"}
    assert "Gmail and others refuse its mail" in found["ptr:s1"]["meaning"]
    assert "have whoever owns the address set its PTR record to out.shop.test" in found["ptr:s1"]["next_step"]
    knot.replace(REVERSE, [*POINTERS, "1.80.0 PTR elsewhere.shop.test."])
    assert "another name than it says in EHLO" in checks(server)["ptr:s1"]["meaning"]
    knot.replace(REVERSE, [*POINTERS, "1.80.0 PTR out.shop.test."])
    assert wrong(checks(server)) == {}
    good = knot.everything("shop.test")

    def without(start: str, kind: str) -> list[str]:
        return [line for line in good if not (line.startswith(start) and line.split()[2] == kind)]

    for lines, name, meaning in (
        (without("out.shop.test.", "TXT"), "helo-spf:out.shop.test", "there is no such record"),
        ([*without("out.shop.test.", "TXT"), 'out TXT "v=spf1 mx -all"'], "helo-spf:out.shop.test", "gets fail"),
        (without("out.shop.test.", "A"), "host:s1", "there is no such record"),
        (without("mail.shop.test.", "A"), "host:server", "the name leads nowhere"),
        ([*good, '@ CAA 0 issue "other.test"'], "caa", "CAA records at shop.test let other.test make certificates"),
        ([*good, f"_25._tcp.mail TLSA 3 1 1 {'00' * 32}"], "tlsa:25", "nobody can be seen to show"),
    ):
        knot.replace("shop.test", lines)
        one = checks(server)[name]
        assert (one["state"] in ("failed", "warning"), meaning in one["meaning"]) == (True, True), one
        assert one["next_step"], one
    knot.replace("shop.test", without("out.shop.test.", "TXT"))
    ran = server.cli("server", "check")
    assert (ran.code, "expected: out.shop.test TXT v=spf1 a -all" in ran.out) == (1, True), ran.out
    knot.replace("shop.test", good)
    wait_until(lambda: server.get("/v1/server/checks")["state"] == "ok", 60, server.output)
    knot.replace("shop.test", without("out.shop.test.", "TXT"))
    wait_until(lambda: server.get("/v1/server/checks")["state"] == "failed", 60, server.output)
    told = [one["data"] for one in server.events(kind="server_changed")]
    assert (told[-1]["server"], told[-1]["check"], told[-1]["state"]) == (HOST, "helo-spf:out.shop.test", "failed")
    assert "helo-spf:out.shop.test" in server.cli("server", "history").out


def test_what_others_have_at_our_names_is_minded(unsigned: tuple[Server, Knot]) -> None:
    server, knot = unsigned
    spf = "v=spf1 ip4:192.0.2.1 -all"
    knot.replace("shop.test", [*ZONE, f'out TXT "{spf}"', 'mail TXT "v=spf1 mx a ~all"'])
    server.post("/v1/dns-zones", {"zone": "shop.test", "server": knot.address, "key_name": KEY, "secret": SECRET})
    plan = {(one["name"], one["type"]): one["value"] for one in server.get("/v1/server/plan")["records"]}
    assert plan[HOST, "TXT"] == "v=spf1 mx a ~all", "it does as well"
    assert plan["out.shop.test", "TXT"] == "v=spf1 a ip4:192.0.2.1 -all"
    (conflict,) = server.post("/v1/server/publish", {})["conflicts"]
    assert (conflict["name"], conflict["there"]) == ("out.shop.test", spf)
    assert server.post("/v1/server/publish", {"adopt": True})["conflicts"] == []
    assert any("v=spf1 a ip4:192.0.2.1 -all" in line for line in knot.everything("shop.test"))


def test_values_as_the_form_of_a_provider_wants_them(unsigned: tuple[Server, Knot]) -> None:
    server, _ = unsigned
    server.post("/v1/domains", {"domain": "shop.test"})
    shown = server.cli("domain", "plan", "shop.test", "--for", "cloudflare").out
    assert "Zone shop.test at Cloudflare" in shown
    for line in ("    Name         bounce", "    Mail server  mail.shop.test", "    Priority     10", "    Name     @"):
        assert line in shown.splitlines(), shown
    records = server.get("/v1/server/plan", **{"for": "route53"})["records"]
    host = next(one for one in records if one["type"] == "A")
    fields = {one["label"]: one["value"] for one in host["fields"]}
    assert fields == {"Record type": "A", "Record name": "out", "Value": "127.0.80.1", "TTL (seconds)": "1"}
    refused = server.cli("server", "plan", "--for", "nobody")
    assert (refused.code, "one of cloudflare, route53" in refused.err) == (1, True)
