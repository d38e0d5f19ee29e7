"""DANE by a signed zone of a real Knot and a real Unbound that validates: who proves itself gets mail, and nobody else."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.behaviours.live import Live
from tests.behaviours.network import Network
from tests.behaviours.server import wait_until
from tests.peers.knot import Knot
from tests.peers.unbound import Unbound

AUTHORITY = trustme.CA().create_child_ca()  # servers show it: RFC 7672 3.1.2


def certificate(pem: trustme.Blob) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.bytes())


def tlsa(usage: int, selector: int, of: x509.Certificate) -> str:
    """With SHA-256."""
    data = of.public_bytes(Encoding.DER)
    if selector:
        data = of.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"{usage} {selector} 1 {hashlib.sha256(data).hexdigest()}"


def test_who_proves_itself_gets_mail(network: Network, tmp_path: Path) -> None:
    peers: dict[str, Any] = {}
    zone: list[str] = []

    def host(
        name: str, *records: str, names: tuple[str, ...] = (), leaf: trustme.LeafCert | None = None, **manners: Any
    ) -> None:
        peer = peers[name] = network.peer(
            leaf=leaf or AUTHORITY.issue_cert(*(names or (f"{name}-mx.dane.test",))), **{"tls": "good", **manners}
        )
        zone.extend([f"{name} MX 10 {name}-mx", f"{name}-mx A {peer.host}"])
        zone.extend(f"_25._tcp.{name}-mx TLSA {record}" for record in records)

    own = {name: AUTHORITY.issue_cert(f"{name}.other.test") for name in ("key", "whole")}
    leaves = {name: certificate(leaf.cert_chain_pems[0]) for name, leaf in own.items()}
    authority = certificate(AUTHORITY.cert_pem)
    host("key", tlsa(3, 1, leaves["key"]), leaf=own["key"])  # neither name nor authority count
    host("whole", tlsa(3, 1, leaves["key"]), tlsa(3, 0, leaves["whole"]), leaf=own["whole"])  # one of two is enough
    host("anchor", tlsa(2, 0, authority))
    host("wrong", tlsa(3, 1, leaves["key"]))
    host("othername", tlsa(2, 0, authority), names=("elsewhere.test",))
    host("useless", "1 1 1 " + "00" * 32, names=("nobody.test",))  # a usage that mail passes over: TLS without proof
    host("clear", tlsa(3, 1, leaves["key"]), tls="")
    host("none", tls="")
    host("careful", tlsa(3, 1, leaves["key"]), leaf=own["key"], extensions=("REQUIRETLS",))
    knot = Knot(tmp_path / "knot", {"dane.test": zone, "bad.test": zone}, signed=True)
    anchors = [knot.trust_anchor("dane.test"), knot.trust_anchor("dane.test").replace("dane.test.", "bad.test.", 1)]
    unbound = Unbound(tmp_path / "unbound", {"dane.test": knot.address, "bad.test": knot.address}, anchors)
    resolver = f"127.0.0.1:{unbound.port}"
    settings = {"dns": {"nameservers": [resolver], "validator": resolver, "authoritative_port": knot.port}}
    try:
        live = Live(tmp_path / "live", network, settings)
        with live:
            live.add_domain("shop.test")
            for name in ("key", "whole", "anchor"):
                story = live.to(f"bob@{name}.dane.test")
                assert story["delivery"]["state"] == "delivered", name
                assert story["events"][-1]["data"]["tls"].endswith(" dane"), name
            for name, secured in (("useless", True), ("none", False)):
                assert live.to(f"bob@{name}.dane.test")["delivery"]["state"] == "delivered", name
                assert peers[name].messages[0].tls is secured
            assert live.to("ann@careful.dane.test", tls="require")["delivery"]["state"] == "delivered"
            assert "REQUIRETLS" in peers["careful"].messages[0].mail
            held = {}
            for name in ("wrong.dane", "othername.dane", "clear.dane", "key.bad"):
                held[name.removesuffix(".dane")] = live.message(f"bob@{name}.test", **{"from": "shop@shop.test"})

            def said(name: str) -> str:
                events = live.get("/v1/events", delivery=held[name])["items"]
                return next((str(one["data"]) for one in events if one["kind"] == "deferred"), "")

            wait_until(lambda: all(said(name) for name in held), 60, live.output)
            assert "is not proven: its certificate is not the one that the TLSA records name" in said("wrong")
            assert "does not lead to the authority" in said("othername")
            assert "STARTTLS" in said("clear")
            assert not any(peers[name].messages for name in ("wrong", "othername", "clear"))
            assert len(peers["key"].messages) == 1, "nothing for a name that DNSSEC does not prove"
    finally:
        unbound.close()
        knot.close()
