"""Certificates from an authority (Pebble) by every challenge, renewed and exchanged while connections go on."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dns.query
import dns.tsigkeyring
import dns.update
import pytest
from cryptography import x509

from mailfleet.base.secretbox import SecretBox
from mailfleet.listen.https import MOST_HELLOS
from mailfleet.net.acme_orders import AcmeOrders, Authority
from tests.behaviours.server import Server, wait_until
from tests.peers.knot import KEY, Knot
from tests.peers.pebble import Pebble
from tests.peers.unbound import Unbound
from tests.ports import free_port

SECRET = "YSBzZWNyZXQgb2YgdGhpcnR5LXR3byBvY3RldHMgb2s="
HOST = "mail.shop.test"


class Plant:
    """A server that asks Pebble for its certificates, and the zone that it may write to, or other ``zones``.

    ``resolver``: Pebble asks one that follows aliases from zone to zone, as authorities do.
    """

    def __init__(
        self,
        folder: Path,
        challenge: str,
        life_s: int = 90 * 86_400,
        zones: Mapping[str, list[str]] | None = None,
        *,
        signed: bool = False,
        resolver: bool = False,
    ) -> None:
        zone = ["mail A 127.0.0.1", "@ MX 10 mx.office", "mx.office A 127.0.0.9", "wrong A 127.0.0.77"]
        zones = zones or {"shop.test": zone}
        self.knot = Knot(folder / "knot", zones, secret=SECRET, signed=signed)
        served = dict.fromkeys(zones, self.knot.address)
        self.resolver = Unbound(folder / "resolver", served, []) if resolver else None
        dns = f"127.0.0.1:{self.resolver.port}" if self.resolver else self.knot.address
        self.http_port, self.tls_port = free_port(), free_port()
        self.pebble = Pebble(
            folder / "pebble", dns=dns, http_port=self.http_port, tls_port=self.tls_port, life_s=life_s
        )
        roots = folder / "roots.pem"
        roots.write_text(self.pebble.root())
        self.server = Server(
            folder / "server",
            {
                "server": {"hostname": HOST},
                "https": {"listen": f"127.0.0.1:{self.tls_port}", "http_listen": f"127.0.0.1:{self.http_port}"},
                "acme": {
                    "directory": self.pebble.directory,
                    "agree_to_terms": True,
                    "contact": "ops@shop.test",
                    "challenge": challenge,
                    "ca_file": str(self.pebble.ca_file),
                },
                "dns": {"nameservers": [self.knot.address], "authoritative_port": self.knot.port, "ttl_s": 1},
                "delivery": {
                    "loopback_only": True,
                    "policy_port": self.tls_port,
                    "tls_ca_file": str(roots),
                    "ipv6": False,
                },
            },
            sandbox=False,
        )

    def start(self) -> Plant:
        self.server.start()
        return self

    def close(self) -> None:
        self.server.close()
        self.pebble.close()
        if self.resolver is not None:
            self.resolver.close()
        self.knot.close()

    def may_write(self, name: str = "shop.test") -> None:
        """Tell the server how a zone is written to."""
        zone = {"zone": name, "server": self.knot.address, "key_name": KEY, "secret": SECRET}
        self.server.post("/v1/dns-zones", zone)

    def connect(self, name: str = HOST) -> ssl.SSLSocket:
        """A connection whose certificate is verified against the authority's root."""
        context = ssl.create_default_context(cadata=self.pebble.root())
        raw = socket.create_connection(("127.0.0.1", self.tls_port), 10)
        try:
            return context.wrap_socket(raw, server_hostname=name)
        except ssl.SSLError:
            raw.close()
            raise

    def get(self, host: str, path: str, *, plain: bool = False, name: str = HOST) -> tuple[int, dict[str, str], str]:
        """Status, header and body of an answer; ``name`` is asked for in TLS, ``host`` in HTTP."""
        connection = socket.create_connection(("127.0.0.1", self.http_port), 10) if plain else self.connect(name)
        with connection:
            return ask(connection, host, path)

    def certificate(self, host: str = HOST) -> dict[str, Any]:
        items = self.server.get("/v1/certificates")["items"]
        return next(one for one in items if one["host"] == host)

    def wait(self, host: str = HOST) -> None:
        wait_until(
            lambda: self.certificate(host)["state"] == "ok", 60, lambda: f"{self.certificate(host)} {self.pebble.log()}"
        )

    def shown(self, name: str = HOST) -> x509.Certificate:
        """What the listener shows."""
        with self.connect(name) as connection:
            return peer(connection)


@pytest.fixture
def planted(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Plant]:
    plant = Plant(tmp_path, **request.param)
    yield plant
    plant.close()


@pytest.mark.parametrize("planted", [{"challenge": "http-01"}, {"challenge": "tls-alpn-01"}], indirect=True)
def test_the_server_gets_a_certificate(planted: Plant) -> None:
    planted.start().wait()
    shown = wait_until_shown(planted)
    assert names(shown) == [HOST]


def peer(connection: ssl.SSLSocket) -> x509.Certificate:
    der = connection.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


def ask(connection: socket.socket, host: str, path: str) -> tuple[int, dict[str, str], str]:
    """One request; the connection stays."""
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode()


def names(certificate: x509.Certificate) -> list[str]:
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return extension.value.get_values_for_type(x509.DNSName)


def wait_until_shown(plant: Plant, name: str = HOST) -> x509.Certificate:
    def look() -> x509.Certificate | None:
        try:
            return plant.shown(name)
        except ssl.SSLError:
            return None

    found = wait_until(look, 20, plant.server.output)
    assert found is not None
    return found


@pytest.mark.parametrize("planted", [{"challenge": "dns-01"}], indirect=True)
def test_a_proof_in_the_dns_leaves_nothing_behind(planted: Plant) -> None:
    server = planted.start().server
    wait_until(lambda: "mailfleet dns add" in planted.certificate()["problem"], 30, server.output)
    planted.may_write()
    done = server.cli("certificate", "renew", HOST)
    assert done.code == 0, done.err + server.output()
    assert "has a certificate until" in done.out
    assert names(wait_until_shown(planted)) == [HOST]
    assert not [line for line in planted.knot.everything("shop.test") if "_acme-challenge" in line]


ALIAS = f"_acme-challenge.{HOST}. 1 CNAME mail.proofs.test."
DELEGATED = {"shop.test": ["mail A 127.0.0.1", ALIAS], "proofs.test": ['mail TXT "of another client"']}


delegated = pytest.mark.parametrize(
    "planted", [{"challenge": "dns-01", "zones": DELEGATED, "resolver": True}], indirect=True, ids=["delegated"]
)


@delegated
def test_a_proof_is_put_where_an_alias_leads(planted: Plant) -> None:
    server, before = planted.start().server, {zone: planted.knot.everything(zone) for zone in DELEGATED}
    planted.may_write()
    server.cli("certificate", "renew", HOST)
    problem = planted.certificate()["problem"]
    assert f"_acme-challenge.{HOST} is an alias (CNAME) of mail.proofs.test, and nobody said" in problem
    assert "(mailfleet dns add proofs.test, or take the alias at _acme-challenge" in problem
    planted.may_write("proofs.test")
    done = server.cli("certificate", "renew", HOST)
    assert done.code == 0, done.err + done.out + server.output()
    assert names(wait_until_shown(planted)) == [HOST]
    assert {zone: planted.knot.everything(zone) for zone in DELEGATED} == before
    assert server.rows("SELECT name FROM dns_record") == []


@delegated
def test_a_proof_that_a_crash_left_goes_though_no_order_can_be_made(planted: Plant) -> None:
    server, before = planted.start().server, planted.knot.everything("proofs.test")
    planted.may_write()
    planted.may_write("proofs.test")
    assert planted.resolver is not None
    planted.resolver.freeze()  # the authority looks in vain, and the proof stays for as long
    server.post(f"/v1/certificates/{HOST}/renew", {"new_key": False})
    wait_until(lambda: planted.knot.everything("proofs.test") != before, 30, server.output)
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGSTOP)  # or it would start the next run, which takes the proof away
    os.kill(server.pids()["jobs"], signal.SIGKILL)
    server.kill_supervisor()
    planted.pebble.close()
    planted.knot.replace("shop.test", ["mail A 127.0.0.1", ALIAS.replace("proofs.test", "elsewhere.test")])
    assert planted.knot.everything("proofs.test") != before
    server.start()
    wait_until(lambda: planted.knot.everything("proofs.test") == before, 30, server.output)
    wait_until(lambda: server.rows("SELECT name FROM dns_record") == [], 10, server.output)


@pytest.mark.parametrize("planted", [{"challenge": "http-01", "life_s": 60}], indirect=True)
def test_it_is_renewed_in_time_and_no_connection_is_dropped(planted: Plant) -> None:
    planted.start().wait()
    first = wait_until_shown(planted)
    with planted.connect() as old:

        def renewed() -> bool:
            assert ask(old, HOST, "/health/live")[0] == 200  # all the while
            return planted.shown().serial_number != first.serial_number

        wait_until(renewed, 120, planted.server.output)
        assert ask(old, HOST, "/health/live")[0] == 200
        assert peer(old) == first
    second = planted.shown()
    assert second.not_valid_before_utc < first.not_valid_after_utc
    assert second.public_key() == first.public_key()  # as TLSA records want it


@pytest.mark.parametrize("planted", [{"challenge": "http-01"}], indirect=True)
@pytest.mark.parametrize("how", ["closed", "unknown"])
def test_an_account_that_is_gone_is_replaced(planted: Plant, how: str) -> None:
    server = planted.start().server
    planted.wait()
    first = wait_until_shown(planted)
    ((uri, sealed),) = server.rows("SELECT uri, sealed_key FROM acme_account")
    directory = planted.pebble.directory
    if how == "closed":
        key = SecretBox.open_file(server.data / "master.key").open(sealed, f"acme:{directory}")
        AcmeOrders(Authority(directory, "", True, str(planted.pebble.ca_file)), key, uri).close_account()
    else:
        planted.pebble.close()
        planted.pebble.start()
    done = server.cli("certificate", "renew", HOST)
    assert done.code == 0, done.err + done.out + server.output()
    wait_until(lambda: wait_until_shown(planted).serial_number != first.serial_number, 30, server.output)
    ((now, _),) = server.rows("SELECT uri, sealed_key FROM acme_account")
    assert now != uri


@pytest.mark.parametrize("planted", [{"challenge": "http-01"}], indirect=True)
def test_another_key_waits_until_the_dns_has_told_of_it(planted: Plant) -> None:
    server = planted.start().server
    planted.wait()
    first = wait_until_shown(planted)
    told = server.post(f"/v1/certificates/{HOST}/renew", {"new_key": True})
    assert told["next_key"]
    assert planted.shown().public_key() == first.public_key()
    wait_until(lambda: planted.shown().public_key() != first.public_key(), 30, server.output)
    assert not planted.certificate()["next_key"]


@pytest.mark.parametrize("planted", [{"challenge": "http-01"}], indirect=True)
@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("elsewhere.shop.test", "has no address in the DNS yet"),
        ("wrong.shop.test", "the authority did not accept the proof: wrong.shop.test:"),
    ],
)
def test_a_host_that_cannot_be_proved_says_why(planted: Plant, host: str, why: str) -> None:
    planted.server.change("server", "hostname", host)
    server = planted.start().server
    wait_until(lambda: why in planted.certificate(host)["problem"], 60, server.output)
    assert server.rows("SELECT count(*) FROM acme_challenge") == [(0,)]
    done = server.cli("certificate", "renew", host)
    assert done.code == 1
    assert why in done.out


@pytest.mark.parametrize("planted", [{"challenge": "http-01"}], indirect=True)
def test_a_domain_shows_its_policy_and_its_files(planted: Plant) -> None:
    planted.server.change("https", "security_contact", "mailto:security@shop.test")
    server = planted.start().server
    planted.may_write()
    server.post("/v1/domains", {"domain": "shop.test"})
    done = server.cli(
        "domain", "set", "shop.test", "--mta-sts", "enforce", "--tls-reports-to", "tls@shop.test",
        "--public-host", "assets.shop.test",
    )  # fmt: skip
    assert done.code == 0, done.err
    logo = server.folder / "logo.svg"
    logo.write_text(LOGO)
    assert server.cli("domain", "logo", "shop.test", str(logo)).code == 0
    published = server.cli("domain", "publish", "shop.test")
    assert published.code == 0, published.err + published.out
    for host in ("mta-sts.shop.test", "assets.shop.test"):
        server.cli("certificate", "renew", host)
        planted.wait(host)
        wait_until_shown(planted, host)
    status, header, body = planted.get("mta-sts.shop.test", "/.well-known/mta-sts.txt", name="mta-sts.shop.test")
    assert (status, header["content-type"]) == (200, "text/plain; charset=utf-8")
    assert body == "version: STSv1\r\nmode: enforce\r\nmx: mx.office.shop.test\r\nmax_age: 604800\r\n"
    plan = {one["check"]: one for one in server.get("/v1/domains/shop.test/plan")["records"]}
    path = plan["bimi"]["value"].partition("assets.shop.test")[2].partition(";")[0]
    assert planted.get("assets.shop.test", path, name="assets.shop.test")[2] == LOGO
    told = planted.get("assets.shop.test", "/.well-known/security.txt", name="assets.shop.test")[2]
    assert "Contact: mailto:security@shop.test\n" in told
    assert planted.get("assets.shop.test", "/v1/domains", name="assets.shop.test")[0] == 404  # no control room there
    assert planted.get("strange.example", "/")[0] == 421
    assert planted.get(HOST, "/health/live")[0] == 200
    checks = {one["name"]: one for one in server.post("/v1/domains/shop.test/check", {})["checks"]}
    for name in ("mta-sts", "mta-sts-host", "mta-sts-mx", "tls-rpt", "public-host", "bimi"):
        assert checks[name]["state"] == "ok", checks[name]
    server.post("/v1/domains", {"domain": "other.test"})  # whose zone nobody serves
    update = dns.update.UpdateMessage("shop.test", keyring=dns.tsigkeyring.from_text({KEY: SECRET}))
    update.replace("@", 1, "MX", "10 other.shop.test.")
    update.delete("_mta-sts")
    dns.query.tcp(update, "127.0.0.1", port=planted.knot.port, timeout=10)
    checks = {one["name"]: one for one in server.post("/v1/domains/shop.test/check", {})["checks"]}
    assert checks["mta-sts-mx"]["state"] == "failed"
    assert "does not name other.shop.test: mail does not go there any more" in checks["mta-sts-mx"]["meaning"]
    assert checks["mta-sts"]["state"] == "failed"


@pytest.mark.parametrize("planted", [{"challenge": "http-01"}], indirect=True)
def test_plain_http_answers_authorities_and_sends_on(planted: Plant) -> None:
    planted.start()
    status, header, _ = planted.get(HOST, "/campaigns?page=2", plain=True)
    assert (status, header["location"]) == (308, f"https://{HOST}/campaigns?page=2")
    assert planted.get("strange.example", "/", plain=True)[0] == 404
    assert planted.get(HOST, "/.well-known/acme-challenge/nobody-asked", plain=True)[0] == 404


@pytest.mark.parametrize("planted", [{"challenge": "http-01"}], indirect=True)
def test_connections_that_say_nothing_or_nonsense_harm_nobody(planted: Plant) -> None:
    planted.start().wait()
    wait_until_shown(planted)
    silent = [socket.create_connection(("127.0.0.1", planted.tls_port), 10) for _ in range(MOST_HELLOS + 20)]
    for one in silent[:10]:
        one.sendall(b"GET / HTTP/1.1\r\n\r\n")
    silent[10].sendall(b"\x16\x03\x01\x40\x00")  # announces more than it sends
    assert planted.get(HOST, "/health/live")[0] == 200
    for one in silent:
        one.close()
    assert planted.get(HOST, "/health/live")[0] == 200


LOGO = (
    '<svg xmlns="http://www.w3.org/2000/svg" version="1.2" baseProfile="tiny-ps" viewBox="0 0 64 64">'
    '<title>Shop</title><circle cx="32" cy="32" r="30" fill="#208060"/></svg>'
)
