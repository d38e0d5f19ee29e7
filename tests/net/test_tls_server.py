"""Our own certificate, and loading somebody's."""

from __future__ import annotations

import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mailfleet.base.errors import ConfigError
from mailfleet.net.tls_server import ensure_self_signed, server_context


def test_the_certificate_serves_and_is_trusted_by_name(tmp_path: Path) -> None:
    cert, key = ensure_self_signed(tmp_path / "tls", "mx.example")
    for name in ("mx.example", "localhost", "127.0.0.1", "::1"):
        assert _handshake(server_context(cert, key), cert, name) == "TLSv1.3"
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(server_context(cert, key), cert, "other.example")


def _handshake(server: ssl.SSLContext, trusted: Path, name: str) -> str | None:
    """A handshake in memory, with a client that checks everything."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    accepting = server.wrap_bio(to_server, to_client, server_side=True)
    connecting = ssl.create_default_context(cafile=str(trusted)).wrap_bio(to_client, to_server, server_hostname=name)
    for _ in range(4):
        for side in (connecting, accepting):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return accepting.version()


def test_the_key_is_for_its_owner_only_and_the_pair_is_kept(tmp_path: Path) -> None:
    cert, key = ensure_self_signed(tmp_path, "mx.example")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = cert.read_bytes(), key.read_bytes()
    assert ensure_self_signed(tmp_path, "mx.example") == (cert, key)
    assert (cert.read_bytes(), key.read_bytes()) == before


@pytest.mark.parametrize("days", [-1, 29])
def test_a_certificate_near_its_end_is_made_again(tmp_path: Path, days: int) -> None:
    cert, _ = ensure_self_signed(tmp_path, "mx.example")
    first = x509.load_pem_x509_certificate(cert.read_bytes())
    assert timedelta(days=729) < first.not_valid_after_utc - datetime.now(UTC) < timedelta(days=731)
    later = first.not_valid_after_utc - timedelta(days=days)
    ensure_self_signed(tmp_path, "mx.example", now=first.not_valid_after_utc - timedelta(days=31))
    assert x509.load_pem_x509_certificate(cert.read_bytes()) == first
    ensure_self_signed(tmp_path, "mx.example", now=later)
    assert x509.load_pem_x509_certificate(cert.read_bytes()).not_valid_after_utc > later + timedelta(days=700)


def test_another_host_name_a_lost_key_or_a_broken_file_makes_it_again(tmp_path: Path) -> None:
    cert, key = ensure_self_signed(tmp_path, "mx.example")
    seen = {cert.read_bytes()}
    key.unlink()
    ensure_self_signed(tmp_path, "mx.example")
    seen.add(cert.read_bytes())
    cert.write_text("half a certifi")
    ensure_self_signed(tmp_path, "mx.example")
    seen.add(cert.read_bytes())
    ensure_self_signed(tmp_path, "other.example")
    seen.add(cert.read_bytes())
    assert len(seen) == 4
    server_context(cert, key)


@pytest.mark.parametrize("hostname", ["", "under_score", "bücher.example", "x" * 63 + "." + "y" * 60, "localhost"])
def test_any_host_name_will_do(tmp_path: Path, hostname: str) -> None:
    server_context(*ensure_self_signed(tmp_path, hostname))
    before = (tmp_path / "self-signed.crt").read_bytes()
    ensure_self_signed(tmp_path, hostname)
    assert (tmp_path / "self-signed.crt").read_bytes() == before


def test_makers_at_the_same_time_agree(tmp_path: Path) -> None:
    threads = [threading.Thread(target=ensure_self_signed, args=(tmp_path, "mx.example")) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server_context(tmp_path / "self-signed.crt", tmp_path / "self-signed.key")


def test_files_that_cannot_serve(tmp_path: Path) -> None:
    cert, key = ensure_self_signed(tmp_path, "mx.example")
    other_key = ensure_self_signed(tmp_path / "other", "mx.example")[1]
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("no PEM here")
    locked = tmp_path / "locked.key"
    encryption = serialization.BestAvailableEncryption(b"passphrase")
    locked.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        )
    )
    for pair, where, what in [
        ((tmp_path / "none.crt", key), "submission.tls_cert", "cannot read"),
        ((cert, tmp_path / "none.key"), "submission.tls_key", "cannot read"),
        ((tmp_path, key), "submission.tls_cert", "cannot read"),
        ((garbage, key), "submission.tls_cert", "no certificate"),
        ((cert, garbage), "submission.tls_key", "no usable private key"),
        ((cert, other_key), "submission.tls_key", "not the key of"),
        ((cert, locked), "submission.tls_key", "passphrase"),
    ]:
        with pytest.raises(ConfigError, match=what) as caught:
            server_context(*pair)
        assert caught.value.where == where
