"""DKIM against others: the RFCs' own examples, and dkimpy in both directions."""

from __future__ import annotations

import base64
import contextlib
import json
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dkim as dkimpy
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given, settings
from hypothesis import strategies as st

from mailfleet.base.errors import InputError
from mailfleet.mail.dkim import (
    ED25519,
    RSA,
    BodyHash,
    Signer,
    SigningKey,
    digest_of_relaxed,
    relaxed_body,
    sign,
    sign_parts,
    simple_body,
    verify,
)
from mailfleet.mail.dkim_canon import relax_lines, relaxed_field, relaxed_fields
from mailfleet.mail.fields import split_fields

VECTORS = Path(__file__).parent.parent / "vectors" / "dkim"
NOW_MS = 1_700_000_000_123  # in the past of every clock, since dkimpy looks at the machine's
RSA_KEY = SigningKey.generate()
SMALL_RSA_KEY = SigningKey.generate(bits=1024)
ED_KEY = SigningKey.generate(ED25519)
SIGNERS = [
    Signer("shop.example", "rsa1", RSA_KEY),
    Signer("shop.example", "ed1", ED_KEY),
    Signer("mail.shop.example", "rsa2", SMALL_RSA_KEY),
]
RECORDS = {f"{signer.selector}._domainkey.{signer.domain}": signer.key.public_record() for signer in SIGNERS}
HEADER = (
    b"From: Shop <news@shop.example>\r\nTo: ann@example.org\r\nSubject: Summer\r\n  sale\r\n"
    b"Date: Thu, 01 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@shop.example>\r\n"
    b"List-Unsubscribe: <https://t.shop.example/u/1>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
)
BODY = b"Hi  Ann,\r\n\tsee \r\n\r\n"


class _NaclKey:
    """The two calls of PyNaCl that dkimpy makes, over the Ed25519 of cryptography; all else in the check is dkimpy's own."""

    def __init__(self, encoded: bytes, encoder: object) -> None:
        self._raw = base64.b64decode(encoded)

    def verify(self, digest: bytes, signature: bytes) -> None:
        Ed25519PublicKey.from_public_bytes(self._raw).verify(signature, digest)

    def sign(self, digest: bytes) -> SimpleNamespace:
        return SimpleNamespace(signature=Ed25519PrivateKey.from_private_bytes(self._raw).sign(digest))


dkimpy.nacl = SimpleNamespace(
    signing=SimpleNamespace(VerifyKey=_NaclKey, SigningKey=_NaclKey),
    encoding=SimpleNamespace(Base64Encoder=None),
    exceptions=SimpleNamespace(BadSignatureError=InvalidSignature, ValueError=ValueError),
)


def dkimpy_accepts(message: bytes, count: int) -> bool:
    """Whether dkimpy verifies every one of the first ``count`` signatures."""

    def dns(name: bytes, timeout: int = 5) -> bytes:
        return RECORDS[name.decode().rstrip(".")].encode()

    return all(dkimpy.DKIM(message).verify(idx=index, dnsfunc=dns) for index in range(count))


def results(message: bytes, now_ms: int | None = NOW_MS) -> list[str]:
    return [result.result for result in verify(message, RECORDS.get, now_ms=now_ms)]


@pytest.mark.parametrize(("name", "signatures"), [("rfc6376-a2", 1), ("rfc8463-a3", 2)])
def test_examples_of_the_rfcs_verify(name: str, signatures: int) -> None:
    keys = json.loads((VECTORS / "keys.json").read_text())
    message = (VECTORS / f"{name}.eml").read_bytes()
    found = verify(message, keys.get, now_ms=NOW_MS)
    assert [(result.result, result.reason) for result in found] == [("ok", "")] * signatures
    broken = verify(message.replace(b"hungry", b"angry"), keys.get)
    assert [result.result for result in broken] == ["fail"] * signatures


def test_dkimpy_and_we_verify_what_we_sign() -> None:
    field = sign(HEADER, BODY, SIGNERS, now_ms=NOW_MS, expires_s=10**9)
    message = field + HEADER + b"\r\n" + BODY
    assert dkimpy_accepts(message, 3)
    found = verify(message, RECORDS.get, now_ms=NOW_MS)
    assert [(result.domain, result.selector, result.algorithm, result.key_bits) for result in found] == [
        ("shop.example", "rsa1", RSA, 2048),
        ("shop.example", "ed1", ED25519, 256),
        ("mail.shop.example", "rsa2", RSA, 1024),
    ]
    assert {result.result for result in found} == {"ok"}
    assert b"t=1700000000; x=2700000000;" in field
    assert b" l=" not in field
    assert b" i=" not in field
    assert max(map(len, field.split(b"\r\n"))) <= 78


def test_order_of_fields_and_trace_fields_on_top_do_not_matter() -> None:
    field = sign(HEADER, BODY, SIGNERS, now_ms=NOW_MS)
    shuffled = b"".join(raw.raw for raw in sorted(split_fields(HEADER)))
    trace = b"Return-Path: <a@b.example>\r\nReceived: by x\r\nX-Spam: no\r\n"
    assert results(trace + field + shuffled + b"\r\n" + BODY) == ["ok"] * 3


@pytest.mark.parametrize(
    "name",
    ["From", "Subject", "To", "Cc", "Date", "Message-ID", "Reply-To", "List-Unsubscribe", "List-Unsubscribe-Post"],
)
def test_another_field_of_an_oversigned_name_breaks_the_signature(name: str) -> None:
    message = sign(HEADER, BODY, SIGNERS, now_ms=NOW_MS) + HEADER + b"\r\n" + BODY
    added = name.encode() + b": mallory@evil.example\r\n"
    assert results(added + message) == ["fail"] * 3
    assert results(message.replace(b"\r\n\r\n", b"\r\n" + added + b"\r\n", 1)) == ["fail"] * 3


def test_repeated_fields_are_signed_each() -> None:
    header = HEADER + b"References: <a@x>\r\nReferences: <b@x>\r\nTo: second@example.org\r\n"
    message = sign(header, BODY, SIGNERS, now_ms=NOW_MS) + header + b"\r\n" + BODY
    assert dkimpy_accepts(message, 3)
    assert results(message) == ["ok"] * 3
    for changed in (b"<a@x>", b"<b@x>", b"second@"):
        assert results(message.replace(changed, b"<evil>")) == ["fail"] * 3


def test_message_without_from_is_not_signed() -> None:
    with pytest.raises(InputError, match="From"):
        sign(b"To: a@example.org\r\n", BODY, SIGNERS, now_ms=NOW_MS)
    with pytest.raises(InputError, match="colon"):
        sign(b"From: a@example.org\r\nnonsense\r\n", BODY, SIGNERS, now_ms=NOW_MS)
    assert sign(HEADER, BODY, [], now_ms=NOW_MS) == b""


@pytest.mark.parametrize("canon", [b"relaxed/relaxed", b"relaxed/simple", b"simple/relaxed", b"simple/simple"])
@pytest.mark.parametrize("selector", ["rsa1", "ed1"])
def test_we_verify_what_dkimpy_signs(canon: bytes, selector: str) -> None:
    message = HEADER + b"\r\n" + BODY
    if selector == "rsa1":
        key, algorithm = RSA_KEY.to_pem(), b"rsa-sha256"
    else:
        private = load_pem_private_key(ED_KEY.to_pem(), None)
        assert isinstance(private, Ed25519PrivateKey)
        key, algorithm = base64.b64encode(private.private_bytes_raw()), b"ed25519-sha256"
    field = dkimpy.sign(
        message,
        selector.encode(),
        b"shop.example",
        key,
        canonicalize=tuple(canon.split(b"/")),
        signature_algorithm=algorithm,
    )
    assert results(field + message, None) == ["ok"]
    assert results(field + message.replace(b"Ann", b"Bob"), None) == ["fail"]
    loose = b"ok" if canon.startswith(b"relaxed") else b"fail"
    assert results(field + message.replace(b"Subject: ", b"SUBJECT:\t "), None) == [loose.decode()]


def slow_relaxed(body: bytes) -> bytes:
    """RFC 6376 3.4.4, word by word."""
    lines = body.split(b"\r\n")
    if lines and lines[-1] == b"":
        lines.pop()
    reduced = []
    for line in lines:
        out = bytearray()
        for byte in line:
            if byte not in b" \t":
                out.append(byte)
            elif not out.endswith(b" "):
                out += b" "
        reduced.append(bytes(out).removesuffix(b" "))
    while reduced and reduced[-1] == b"":
        reduced.pop()
    return b"".join(line + b"\r\n" for line in reduced)


white_bodies = st.lists(
    st.sampled_from([b" ", b"  ", b"\t", b"\r\n", b"\r", b"\n", b"a", b".", "é".encode(), b"\r\n\r\n", b"word word"]),
    max_size=25,
).map(b"".join)


@settings(max_examples=300)
@given(white_bodies, st.lists(st.integers(0, 60), max_size=6))
def test_body_canonicalisation_equals_a_slow_one_however_it_is_cut(body: bytes, cuts: list[int]) -> None:
    assert relaxed_body(body) == slow_relaxed(body)
    assert simple_body(body) == (dkimpy.canonicalization.Simple.canonicalize_body(body))
    whole, pieces = BodyHash(), BodyHash()
    whole.update(body)
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    for start, end in pairwise(edges):
        pieces.update(body[start:end])
        pieces = pieces.copy()
        pieces.digest()
    expected = BodyHash()
    expected.update(relaxed_body(body))
    assert whole.digest() == pieces.digest() == expected.digest()


white_values = st.lists(
    st.sampled_from([b" ", b"\t", b"\r\n ", b"\r\n\t", b"a", b":", "é".encode(), b"word"]), max_size=12
).map(b"".join)
field_names = st.sampled_from(["From", "TO", "Subject", "References", "X-Other", "list-id", "DATE", "Cc"])
headers = st.lists(st.tuples(field_names, white_values), max_size=8).map(
    lambda made: b"".join(name.encode() + b":" + value + b"\r\n" for name, value in made) + b"FROM : a@shop.example\r\n"
)


@given(headers)
def test_whole_header_canonicalisation_equals_field_by_field(header: bytes) -> None:
    apart = [(f.key.encode(), relaxed_field(f.name, f.raw_value) + b"\r\n") for f in split_fields(header)]
    assert list(relaxed_fields(header)) == apart


@settings(deadline=None)
@given(headers, white_bodies, st.data())
def test_a_header_in_parts_and_a_body_by_lines_sign_the_same(header: bytes, body: bytes, data: st.DataObject) -> None:
    fields = [field.raw for field in split_fields(header)]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(fields)), max_size=3)))
    edges = [0, *cuts, len(fields)]
    parts = [b"".join(fields[start:end]) for start, end in pairwise(edges)]
    whole = body if body.endswith(b"\r\n") else body + b"\r\n"
    pieces = [relax_lines(line + b"\r\n") for line in whole.split(b"\r\n")[:-1]]
    signer = SIGNERS[1:2]  # Ed25519: the same signature for the same bytes
    expected = sign(header, body, signer, now_ms=NOW_MS)
    assert sign_parts(parts, digest_of_relaxed(b"".join(pieces)), signer, now_ms=NOW_MS) == expected


@settings(max_examples=60, deadline=None)
@given(headers, white_bodies)
def test_any_message_we_sign_verifies_here_and_in_dkimpy(header: bytes, body: bytes) -> None:
    header = header.replace(b"FROM :", b"FROM:")  # dkimpy cannot read obsolete syntax
    body += b"\r\n"
    message = sign(header, body, SIGNERS[:2], now_ms=NOW_MS) + header + b"\r\n" + body
    assert results(message) == ["ok"] * 2
    if b"\n" not in message.replace(b"\r\n", b"") and b"\r" not in message.replace(b"\r\n", b""):
        assert dkimpy_accepts(message, 2)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_flipped_bit_of_what_is_signed_is_noticed(data: Any) -> None:
    field = sign(HEADER, BODY, SIGNERS[1:2], now_ms=NOW_MS)
    message = field + HEADER + b"\r\n" + BODY
    position = data.draw(st.integers(0, len(message) - 1))
    flipped = bytearray(message)
    flipped[position] ^= 1 << data.draw(st.integers(0, 7))
    changed = bytes(flipped)
    if canonical(changed) == canonical(message):
        return
    try:
        assert "ok" not in results(changed)
    except InputError:
        return


def canonical(message: bytes) -> object:
    """What relaxed/relaxed keeps of a message, and what the signature says: the last letter of base64 has bits that say nothing."""
    header, _, body = message.partition(b"\r\n\r\n")
    try:
        fields: dict[bytes, list[bytes]] = {}
        for name, line in relaxed_fields(header + b"\r\n"):
            before, _, text = line.rpartition(b" b=") if name == b"dkim-signature" else (line, b"", b"")
            with contextlib.suppress(ValueError):
                line = before + base64.b64decode(b"".join(text.split()), validate=True) if text else line
            fields.setdefault(name, []).append(line)
        return fields, relaxed_body(body)
    except InputError:
        return None


@settings(max_examples=150)
@given(st.binary(max_size=80) | st.text("vabhdst=;:1 \r\nrelaxd/FromDKIM-Signature", max_size=120).map(str.encode))
def test_garbage_verifies_to_no_ok(garbage: bytes) -> None:
    for message in (garbage, b"DKIM-Signature: " + garbage, b"DKIM-Signature: v=1; a=rsa-sha256; " + garbage):
        try:
            assert "ok" not in results(message)
        except InputError:
            continue
