"""Certificates that a person brings, as files or by import, and the sandbox's: shown by every listener, exchanged under way."""

from __future__ import annotations

import os
import smtplib
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import trustme
from cryptography import x509

from mailfleet.net.tls_keys import LocalAuthority, new_key
from tests.behaviours.conftest import Serve
from tests.behaviours.server import Server, wait_until
from tests.behaviours.test_certificates import ask, names, peer
from tests.ports import free_port

HOST, OTHER = "mail.shop.test", "news.brand.test"
AUTHORITY = trustme.CA()


def own(serve: Serve, *, live: bool = True, **submission: object) -> Server:
    """A server with HTTPS, not started."""
    settings = {
        "server": {"hostname": HOST},
        "https": {"listen": f"127.0.0.1:{free_port()}", "http_listen": f"0.0.0.0:{free_port()}"},
        "submission": submission,
        "delivery": {"loopback_only": True},
        "dns": {"nameservers": [f"127.0.0.1:{free_port()}"]},  # nobody is there
    }
    if not live:
        del settings["dns"]
    return serve(settings, live=live)


def port_of(server: Server, name: str = "listen") -> int:
    return int(str(server.setting("https", name)).rpartition(":")[2])


def trusting() -> ssl.SSLContext:
    """A client that is shown anything."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def knowing(authority: str) -> ssl.SSLContext:
    """A client that checks everything."""
    return ssl.create_default_context(cadata=authority)


def connect(server: Server, name: str, context: ssl.SSLContext) -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", port_of(server)), 10)
    try:
        return context.wrap_socket(raw, server_hostname=name)
    except ssl.SSLError:
        raw.close()
        raise


def over_https(server: Server, name: str, context: ssl.SSLContext) -> x509.Certificate:
    """What HTTPS shows to who asks for a name. Raises ``ssl.SSLError``."""
    with connect(server, name, context) as connection:
        return peer(connection)


def over_smtp(server: Server, name: str, context: ssl.SSLContext) -> x509.Certificate:
    """The same of STARTTLS at submission."""
    address, _, port = server.connection["smtp"].rpartition(":")
    with smtplib.SMTP(address, int(port), timeout=10) as client:
        client._host = name  # type: ignore[attr-defined]  # which smtplib asks for, and checks
        assert client.starttls(context=context)[0] == 220
        assert client.ehlo()[0] == 250
        assert isinstance(client.sock, ssl.SSLSocket)
        return peer(client.sock)


def everywhere(server: Server, name: str, context: ssl.SSLContext) -> list[x509.Certificate]:
    return [over_https(server, name, context), over_smtp(server, name, context)]


def until_shown(server: Server, name: str, serial: int) -> None:
    def shown() -> bool:
        return {one.serial_number for one in everywhere(server, name, trusting())} == {serial}

    wait_until(shown, 30, server.output)


def write(folder: Path, *hosts: str, authority: trustme.CA = AUTHORITY) -> tuple[Path, Path, x509.Certificate]:
    """A chain and its key in files, and the first certificate."""
    made = authority.issue_cert(*hosts)
    chain, key = folder / "chain.pem", folder / "key.pem"
    folder.mkdir(parents=True, exist_ok=True)
    text = b"".join(one.bytes() for one in made.cert_chain_pems)
    for path, data in ((chain, text), (key, made.private_key_pem.bytes())):
        fresh = path.with_suffix(".new")
        fresh.write_bytes(data)
        fresh.replace(path)
    return chain, key, x509.load_pem_x509_certificate(text)


def test_what_is_imported_is_shown_by_name_until_it_is_removed(serve: Serve, tmp_path: Path) -> None:
    server = own(serve).start()
    root = knowing(AUTHORITY.cert_pem.bytes().decode())
    chain, key, made = write(tmp_path / "first", OTHER, "*.brand.test")
    done = server.cli("certificate", "import", str(chain), str(key))
    assert done.code == 0, done.err
    assert [line.partition(" ")[0] for line in done.out.splitlines()] == [OTHER, "*.brand.test"]
    until_shown(server, OTHER, made.serial_number)
    for asked in (OTHER, "assets.brand.test"):
        for found in everywhere(server, asked, root):
            assert found == made
    for asked in (HOST, "brand.test", "a.b.brand.test"):
        for found in everywhere(server, asked, trusting()):
            assert names(found)[0] == HOST
        for look in (over_https, over_smtp):
            with pytest.raises(ssl.SSLCertVerificationError):
                look(server, asked, root)

    listed = server.cli("certificate", "list")
    assert listed.code == 0
    for host in (OTHER, "*.brand.test"):
        line = next(line for line in listed.out.splitlines() if f" {host} " in f" {line} ")
        assert " ok " in line
        assert " imported " in line
        assert f"{made.not_valid_after_utc:%Y-%m-%d}" in line
    assert "PRIVATE KEY" not in listed.out + server.output()

    chain, key, second = write(tmp_path / "second", OTHER)
    for _ in range(2):  # its successor; and twice is as once
        assert server.cli("certificate", "import", str(chain), str(key)).code == 0
        until_shown(server, OTHER, second.serial_number)
    assert over_https(server, "assets.brand.test", root) == made
    assert len(server.get("/v1/certificates")["items"]) == 2

    assert server.cli("certificate", "remove", "*.brand.test").code == 0
    assert server.cli("certificate", "remove", OTHER).code == 0
    wait_until(lambda: names(over_https(server, OTHER, trusting()))[0] == HOST, 30, server.output)
    gone = server.cli("certificate", "remove", OTHER)
    assert gone.code != 0
    assert f"there is no certificate for {OTHER}" in gone.err
    server.restart()
    assert names(over_smtp(server, OTHER, trusting()))[0] == HOST


def test_what_cannot_be_shown_is_refused_in_words(serve: Serve, tmp_path: Path) -> None:
    server = own(serve).start()
    chain, key, _ = write(tmp_path / "good", OTHER)
    strange = write(tmp_path / "strange", OTHER)[1]
    now = datetime.now(UTC)
    authority = LocalAuthority(*LocalAuthority.make(now - timedelta(days=300)))
    ended, ended_key = tmp_path / "ended.pem", tmp_path / "ended.key"
    ended_key.write_bytes(new_key())
    ended.write_text(authority.issue([x509.DNSName(OTHER)], ended_key.read_bytes(), now - timedelta(days=100)))
    for first, second, words in [
        (chain, strange, "the key is not the certificate's"),
        (ended, ended_key, f"the certificate ended at {now - timedelta(days=10):%Y-%m-%d}"),
        (chain, chain, "no usable private key"),
        (key, key, "no certificate in it"),
    ]:
        done = server.cli("certificate", "import", str(first), str(second))
        assert done.code != 0
        assert words in " ".join(done.err.split())
        assert "PRIVATE KEY" not in done.err + done.out
    assert server.get("/v1/certificates")["items"] == []
    empty = server.cli("certificate", "list")
    assert "No certificate." in empty.out + empty.err


@pytest.mark.parametrize("scope", ["read", "send"])
def test_a_token_without_the_right_imports_nothing(sandbox: Server, tmp_path: Path, scope: str) -> None:
    chain, key, _ = write(tmp_path, OTHER)
    secret = sandbox.post("/v1/tokens", {"name": scope, "scopes": [scope]})["secret"]
    base, body = sandbox.connection["http"], {"chain": chain.read_text(), "key": key.read_text()}
    header = {"Authorization": f"Bearer {secret}"}
    for method, path in (
        ("POST", "/v1/certificates"),
        ("POST", f"/v1/certificates/{HOST}/renew"),
        ("DELETE", f"/v1/certificates/{HOST}"),
    ):
        for headers, status in ((header, 403), ({}, 401)):
            answer = httpx.request(method, base + path, json=body, headers=headers, trust_env=False)
            assert (answer.status_code, key.read_text()[30:60] in answer.text) == (status, False)
    assert OTHER not in {one["host"] for one in sandbox.get("/v1/certificates")["items"]}


def test_files_that_another_program_renews_are_taken_up_and_no_connection_ends(serve: Serve, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    chain, key, first = write(folder, HOST)
    server = own(serve, tls_cert=str(chain), tls_key=str(key)).start()
    root = knowing(AUTHORITY.cert_pem.bytes().decode())
    assert everywhere(server, HOST, root) == [first, first]
    with connect(server, HOST, root) as old:
        assert ask(old, HOST, "/health/live")[0] == 200
        _, _, second = write(folder, HOST)
        until_shown(server, HOST, second.serial_number)
        assert everywhere(server, HOST, root) == [second, second]
        assert ask(old, HOST, "/health/live")[0] == 200
        assert peer(old) == first

        text = chain.read_bytes()
        before = server.log("front").count("cannot be loaded")  # perhaps between the chain and the key
        chain.write_bytes(text[:100])
        wait_until(lambda: server.log("front").count("cannot be loaded") > before, 30, server.output)
        assert everywhere(server, HOST, root) == [second, second]
        chain.unlink()
        assert everywhere(server, HOST, root) == [second, second]

        third_chain, third_key, third = write(tmp_path / "elsewhere", HOST)
        os.utime(third_chain, ns=(0, 0))  # older than what was there, as a link that leads elsewhere may be
        key.unlink()
        chain.symlink_to(third_chain)
        key.symlink_to(third_key)
        until_shown(server, HOST, third.serial_number)
        assert ask(old, HOST, "/health/live")[0] == 200


def test_an_import_goes_before_the_files_for_who_asks_for_its_host(serve: Serve, tmp_path: Path) -> None:
    chain, key, filed = write(tmp_path / "files", HOST)
    server = own(serve, tls_cert=str(chain), tls_key=str(key)).start()
    other_chain, other_key, made = write(tmp_path / "other", OTHER)
    assert server.cli("certificate", "import", str(other_chain), str(other_key)).code == 0
    until_shown(server, OTHER, made.serial_number)
    assert everywhere(server, HOST, trusting()) == [filed, filed]


def test_plain_http_on_every_address_shows_no_control_room(serve: Serve) -> None:
    server = own(serve).start()
    base = f"http://127.0.0.1:{port_of(server, 'http_listen')}"
    for host in (HOST, "127.0.0.1"):
        answer = httpx.get(f"{base}/v1/domains?a=b", headers={"Host": host}, trust_env=False)
        assert (answer.status_code, answer.headers["location"]) == (308, f"https://{host}/v1/domains?a=b")
    assert httpx.get(base, headers={"Host": "strange.example"}, trust_env=False).status_code == 404
    raw = httpx.get(server.connection["http"] + "/health/live", headers={"Host": "control.lan"}, trust_env=False)
    assert raw.status_code == 200


def test_in_the_sandbox_every_listener_shows_a_certificate_of_its_authority(serve: Serve) -> None:
    server = own(serve, live=False).start()
    authority = (server.data / "tls" / "authority.crt").read_text()
    root = knowing(authority)
    for name in ("localhost", "127.0.0.1", HOST):
        for found in everywhere(server, name, root):
            assert found.issuer == x509.load_pem_x509_certificate(authority.encode()).subject
    for look in (over_https, over_smtp):
        with pytest.raises(ssl.SSLCertVerificationError):
            look(server, "strange.example", root)
    assert (server.data / "tls" / "authority.key").stat().st_mode & 0o777 == 0o600
    wait_until(
        lambda: [one["state"] for one in server.get("/v1/certificates")["items"] if one["host"] == HOST] == ["ok"],
        30,
        server.output,
    )
    everywhere(server, HOST, root)
    server.restart()
    assert (server.data / "tls" / "authority.crt").read_text() == authority
    everywhere(server, HOST, root)
