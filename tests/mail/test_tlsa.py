"""What TLSA records prove: every selector and matching, authorities, and what proves nothing."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.mail.tlsa import DANE_EE, DANE_TA, Tlsa, parse, proven

AUTHORITY = trustme.CA().create_child_ca()
LEAF = AUTHORITY.issue_cert("mx.s.test", "*.wild.test")
CHAIN = [x509.load_pem_x509_certificate(one.bytes()) for one in LEAF.cert_chain_pems]
DER = [one.public_bytes(Encoding.DER) for one in CHAIN]
NOW = datetime.now(UTC)


def record(usage: int, selector: int, matching: int, of: x509.Certificate) -> Tlsa:
    data = of.public_bytes(Encoding.DER)
    if selector:
        data = of.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Tlsa(
        usage,
        selector,
        matching,
        {0: data, 1: hashlib.sha256(data).digest(), 2: hashlib.sha512(data).digest()}[matching],
    )


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
@pytest.mark.parametrize("usage", [DANE_TA, DANE_EE])
def test_every_form_proves(usage: int, selector: int, matching: int) -> None:
    made = record(usage, selector, matching, CHAIN[0 if usage == DANE_EE else 1])
    assert made.usable
    assert parse(f"{usage} {selector} {matching} {made.data.hex()}") == made
    assert proven([made], DER, "mx.s.test", NOW) == ""
    assert proven([made], DER, "a.wild.test", NOW) == ""


def test_the_hosts_own_certificate_needs_neither_name_nor_dates() -> None:
    """RFC 7672 3.1.1."""
    made = record(DANE_EE, 1, 1, CHAIN[0])
    assert proven([made], DER, "another.test", NOW - timedelta(days=20_000)) == ""


def test_an_authority_vouches_for_the_name_and_for_a_time() -> None:
    """RFC 7672 3.1.2."""
    made = record(DANE_TA, 0, 1, CHAIN[1])
    assert "no matching subjectAltName" in proven([made], DER, "another.test", NOW)
    assert "valid" in proven([made], DER, "mx.s.test", NOW - timedelta(days=20_000))
    assert "not the one" in proven([made], DER[:1], "mx.s.test", NOW), "it has to be shown"


def test_what_proves_nothing() -> None:
    other = x509.load_pem_x509_certificate(trustme.CA().issue_cert("mx.s.test").cert_chain_pems[0].bytes())
    assert "not the one" in proven([record(DANE_EE, 1, 1, other)], DER, "mx.s.test", NOW)
    assert proven([record(DANE_EE, 1, 1, CHAIN[0])], [], "mx.s.test", NOW) == "it shows no certificate"
    assert proven([record(DANE_EE, 1, 1, CHAIN[0])], [b"x"], "mx.s.test", NOW) == "its certificate cannot be read"
    for text in ("0 1 1 " + "00" * 32, "3 2 1 " + "00" * 32, "3 1 1 00", "3 1 9 " + "00" * 32):
        made = parse(text)
        assert made is not None
        assert not made.usable, text


@given(st.text(max_size=60))
def test_garbage_is_none(text: str) -> None:
    found = parse(text)
    assert found is None or found.data is not None
