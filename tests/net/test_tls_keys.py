"""Keys, requests and chains, judged by the openssl command."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.base.errors import InputError
from mailfleet.net.tls_keys import (
    LocalAuthority,
    Read,
    challenge_certificate,
    key_digest,
    new_key,
    read_chain,
    signing_request,
)
from mailfleet.net.x509_builder import certificate_pem, common_name, key_pem, make_key, self_signed
from tests.net.handshakes import AUTHORITY, pair

NOW = datetime(2026, 2, 1, tzinfo=UTC)
HOST = "mail.shop.test"
CHAIN, KEY = pair(HOST)
DER = x509.load_pem_x509_certificate(CHAIN.encode()).public_bytes(serialization.Encoding.DER)


def openssl(*arguments: str, given: bytes = b"") -> bytes:
    if shutil.which("openssl") is None:
        pytest.fail("openssl is missing: run scripts/install-peers")
    done = subprocess.run(["openssl", *arguments], input=given, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()
    return done.stdout


def of_names(names: list[x509.GeneralName] | None, key: bytes = KEY) -> str:
    """A certificate with these alternative names."""
    private = serialization.load_pem_private_key(key, password=None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    extensions: list[tuple[x509.ExtensionType, bool]] = (
        [] if names is None else [(x509.SubjectAlternativeName(names), False)]
    )
    return certificate_pem(self_signed(private, common_name(HOST), NOW, NOW + timedelta(days=1), extensions))


def test_what_a_chain_says() -> None:
    chain = AUTHORITY.issue([x509.DNSName("Mail.Shop.Test"), x509.DNSName("*.shop.test")], KEY, NOW)
    begin, end = NOW - timedelta(days=1), NOW + LocalAuthority.LEAF_LIFE
    assert read_chain(chain, KEY) == Read(
        (HOST, "*.shop.test"), round(begin.timestamp() * 1000), round(end.timestamp() * 1000)
    )


def test_names_that_are_no_hosts_are_left_out() -> None:
    names = [x509.DNSName(one) for one in ("two words.test", "x\x1b[2J.test", "f*.test", "*", "", HOST, HOST)]
    assert read_chain(of_names([*names, x509.RFC822Name("a@b.test")]), KEY).names == (HOST,)


@pytest.mark.parametrize("chain", ["", "no PEM", KEY.decode(), CHAIN[:200], CHAIN.replace("MII", "MMM", 1), "\ud800"])
def test_a_chain_that_is_none(chain: str) -> None:
    with pytest.raises(InputError, match="no certificate in it") as caught:
        read_chain(chain, KEY)
    assert caught.value.where == "chain"


def encoded(key: object, encryption: serialization.KeySerializationEncryption | None = None) -> bytes:
    assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey)
    how = encryption or serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"no PEM",
        KEY[:100],
        CHAIN.encode(),
        encoded(make_key(), serialization.BestAvailableEncryption(b"secret")),
        encoded(ed25519.Ed25519PrivateKey.generate()),
        encoded(rsa.generate_private_key(65537, 1024)),
        encoded(ec.generate_private_key(ec.SECP256K1())),
    ],
    ids=["empty", "garbage", "half", "certificate", "encrypted", "Ed25519", "RSA-1024", "secp256k1"],
)
def test_a_key_that_cannot_be_used(key: bytes) -> None:
    with pytest.raises(InputError, match="no usable private key") as caught:
        read_chain(CHAIN, key)
    assert caught.value.where == "key"


def test_another_certificates_key() -> None:
    with pytest.raises(InputError, match="the key is not the certificate's") as caught:
        read_chain(CHAIN, new_key())
    assert caught.value.where == "key"


@pytest.mark.parametrize("names", [None, [x509.RFC822Name("a@b.test")], [x509.DNSName("two words")]])
def test_a_certificate_that_names_no_host(names: list[x509.GeneralName] | None) -> None:
    with pytest.raises(InputError, match="names no host") as caught:
        read_chain(of_names(names), KEY)
    assert caught.value.where == "chain"


@given(st.lists(st.tuples(st.integers(0, len(DER) - 1), st.integers(0, 255)), min_size=1, max_size=4))
@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_a_certificate_with_wrong_bytes_is_refused_or_read(changes: list[tuple[int, int]]) -> None:
    der = bytearray(DER)
    for at, value in changes:
        der[at] = value
    body = base64.b64encode(der).decode()
    with contextlib.suppress(InputError):
        assert read_chain(f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n", KEY).names


def test_a_request_is_one() -> None:
    request = signing_request(HOST, KEY)
    text = openssl("req", "-verify", "-noout", "-text", given=request).decode()
    assert f"DNS:{HOST}" in text
    assert openssl("req", "-noout", "-pubkey", given=request) == openssl("pkey", "-pubout", given=KEY)


@pytest.mark.parametrize("key", [KEY, key_pem(rsa.generate_private_key(65537, 2048))], ids=["EC", "RSA"])
def test_the_digest_is_that_of_the_public_key(key: bytes) -> None:
    public = openssl("pkey", "-pubout", "-outform", "DER", given=key)
    assert key_digest(key) == hashlib.sha256(public).hexdigest()


def test_the_local_authority_is_one(tmp_path: Path) -> None:
    authority, leaf = tmp_path / "authority.crt", tmp_path / "leaf.crt"
    authority.write_text(AUTHORITY.chain)
    leaf.write_text(CHAIN)
    strict = ["verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname"]
    assert b": OK" in openssl(*strict, HOST, "-CAfile", str(authority), str(leaf))
    done = subprocess.run(
        ["openssl", *strict, "other.test", "-CAfile", str(authority), str(leaf)], capture_output=True, check=False
    )
    assert done.returncode != 0
    assert b"hostname mismatch" in done.stderr.lower()


def test_no_leaf_outlives_its_authority() -> None:
    authority = LocalAuthority(*LocalAuthority.make(NOW))
    chain = authority.issue([x509.DNSName(HOST)], KEY, NOW + LocalAuthority.LIFE - timedelta(days=1))
    assert read_chain(chain, KEY).not_after_ms == round((NOW + LocalAuthority.LIFE).timestamp() * 1000)


def test_an_authoritys_question_over_tls_is_answered_in_the_certificate() -> None:
    answer = "token.thumbprint"
    pem, key = challenge_certificate(HOST, answer)
    made = x509.load_pem_x509_certificate(pem.encode())
    found = made.extensions.get_extension_for_oid(x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31"))
    assert found.critical  # RFC 8737 3
    assert isinstance(found.value, x509.UnrecognizedExtension)
    assert found.value.value == bytes([4, 32]) + hashlib.sha256(answer.encode()).digest()
    assert read_chain(pem, key).names == (HOST,)
