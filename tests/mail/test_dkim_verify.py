"""What does not pass for a good DKIM signature, and the keys that make one."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from mailfleet.base.errors import InputError
from mailfleet.mail.dkim import ED25519, RSA, LookupFailedError, SignatureResult, Signer, SigningKey, sign, verify
from mailfleet.mail.dkim_canon import relaxed_body, relaxed_field
from mailfleet.mail.fields import split_fields

NOW_MS = 1_700_000_000_000
KEY = SigningKey.generate(ED25519)
RECORD = KEY.public_record()
NAME = "ed1._domainkey.shop.example"
HEADER = b"From: a@shop.example\r\nSubject: hi\r\n"
BODY = b"one\r\ntwo\r\n"


def signed(tags: str, *, body: bytes = BODY, header: bytes = HEADER, names: str = "from:subject") -> bytes:
    """A message whose signature is right for whatever ``tags`` (d, s, c ... as one string) say; relaxed/relaxed."""
    value = f"{tags}; h={names}; b="
    chosen = {field.key: relaxed_field(field.name, field.raw_value) for field in split_fields(header)}
    data = b"".join(chosen.pop(name) + b"\r\n" for name in names.split(":") if name in chosen)
    data += b"dkim-signature:" + value.encode()
    signature = base64.b64encode(KEY.sign_digest(hashlib.sha256(data).digest()))
    return b"DKIM-Signature: %b%b\r\n%b\r\n%b" % (value.encode(), signature, header, body)


def tags(body: bytes = BODY, **changed: str | None) -> str:
    """The usual tags, some changed or (``None``) left out."""
    usual: dict[str, str | None] = {
        "v": "1",
        "a": "ed25519-sha256",
        "c": "relaxed/relaxed",
        "d": "shop.example",
        "s": "ed1",
        "bh": base64.b64encode(hashlib.sha256(relaxed_body(body)).digest()).decode(),
    }
    return "; ".join(f"{name}={value}" for name, value in (usual | changed).items() if value is not None)


def one(message: bytes, record: str | None = RECORD, now_ms: int | None = NOW_MS) -> SignatureResult:
    def lookup(name: str) -> str | None:
        return record if name == NAME else None

    (result,) = verify(message, lookup, now_ms=now_ms)
    return result


def test_the_helper_makes_good_signatures() -> None:
    assert one(signed(tags())) == SignatureResult("shop.example", "ed1", "ok", "", "ed25519-sha256", 256, False)


@pytest.mark.parametrize(
    ("message", "result", "reason"),
    [
        (signed(tags(v="2")), "permerror", "version"),
        (signed(tags(v=None)), "permerror", "v="),
        (signed(tags(d=None)), "permerror", "d="),
        (signed(tags(bh=None)), "permerror", "bh="),
        (signed(tags(a="rsa-sha1")), "permerror", "rsa-sha1"),
        (signed(tags(a="rsa-sha256")), "permerror", "not for rsa-sha256"),
        (signed(tags(c="relaxed/loose")), "permerror", "canonicalisation"),
        (signed(tags(q="http/get")), "permerror", "DNS"),
        (signed(tags(i="@other.example")), "permerror", "i="),
        (signed(tags(i="@evilshop.example")), "permerror", "i="),
        (signed(tags(d="shop..example")), "permerror", "label"),
        (signed(tags(s="no space")), "permerror", "s="),
        (signed(tags(s="other")), "permerror", "no key at other._domainkey.shop.example"),
        (signed(tags(bh="!!")), "permerror", "base64"),
        (signed(tags(), names="subject"), "permerror", "From"),
        (signed(tags(), names="from:sub ject"), "permerror", "h="),
        (signed(tags() + "; d=shop.example"), "permerror", "twice"),
        (signed(tags() + "; ;"), "permerror", "tag=value"),
        (signed(tags(t="yesterday")), "permerror", "t="),
        (signed(tags(x="1" * 13)), "permerror", "x="),
        (signed(tags(t="1700000000", x="1700000000")), "permerror", "x="),
        (signed(tags(x="1699999999")), "fail", "expired"),
        (signed(tags(t="1700010000")), "fail", "future"),
        (signed(tags(l="11")), "permerror", "longer"),
        (signed(tags(l="ten")), "permerror", "l="),
        (signed(tags(BODY, l="10"), body=BODY + b"more\r\n"), "fail", "unsigned"),
        (signed(tags(), body=BODY + b"more\r\n"), "fail", "body"),
        (signed(tags()).replace(b"Subject: hi", b"Subject: ho"), "fail", "header"),
    ],
)
def test_what_is_refused_and_why(message: bytes, result: str, reason: str) -> None:
    found = one(message)
    assert found.result == result
    assert reason in found.reason


@pytest.mark.parametrize(
    "message",
    [
        signed(tags(t="1699999999", x="1700000001")),
        signed(tags(t="1700000600")),
        signed(tags(i="news@mail.shop.example")),
        signed(tags(i="@SHOP.example")),
        signed(tags(l="10")),
        signed(tags(q="dns/txt", z="From:a")),
        signed(tags(d="Shop.Example", s="ED1")),
        signed(tags(), names="from:subject:from:subject:to"),
    ],
)
def test_what_is_unusual_but_right_passes(message: bytes) -> None:
    assert one(message) == SignatureResult("shop.example", "ed1", "ok", "", "ed25519-sha256", 256, False)


def test_without_a_clock_instants_are_not_judged() -> None:
    assert one(signed(tags(x="1699999999")), now_ms=None).result == "ok"


POINT = RECORD.partition("p=")[2]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (None, "no key"),
        ("v=DKIM1; k=ed25519; p=", "revoked"),
        ("v=DKIM1; k=ed25519", "no p="),
        (f"v=DKIM2; k=ed25519; p={POINT}", "v=DKIM1"),
        (f"k=ed25519; v=DKIM1; p={POINT}", "v=DKIM1"),
        (f"v=DKIM1; p={POINT}", "type rsa"),
        (f"v=DKIM1; k=elliptic; p={POINT}", "k=elliptic"),
        (f"v=DKIM1; k=ed25519; h=sha1; p={POINT}", "sha256"),
        (f"v=DKIM1; k=ed25519; s=web; p={POINT}", "e-mail"),
        ("v=DKIM1; k=ed25519; p=AAAA", "ed25519"),
        ("v=DKIM1; k=ed25519; p=#", "base64"),
        ("hello", "tag=value"),
        (SigningKey.generate(bits=1024).public_record(), "not for ed25519-sha256"),
    ],
    ids=lambda value: (value or "")[:10],  # the keys differ from run to run, names of tests must not
)
def test_unusable_keys(record: str | None, reason: str) -> None:
    found = one(signed(tags()), record)
    assert found.result == "permerror"
    assert reason in found.reason


def test_flags_of_the_record() -> None:
    testing = one(
        signed(tags()), f"v=DKIM1; k=ed25519; t=y:s; h=sha1 : sha256; s=*; n=note; p={POINT[:20]} {POINT[20:]}"
    )
    assert (testing.result, testing.testing) == ("ok", True)
    strict = one(signed(tags(i="@mail.shop.example")), f"v=DKIM1; k=ed25519; t=s; p={POINT}")
    assert (strict.result, "subdomain" in strict.reason) == ("permerror", True)


def test_rsa_keys_below_1024_bits_are_not_accepted() -> None:
    numbers = rsa.RSAPublicNumbers(65537, (1 << 767) + 1)
    der = numbers.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    found = one(signed(tags(a="rsa-sha256")), f"p={base64.b64encode(der).decode()}")
    assert (found.result, "768 bits" in found.reason) == ("permerror", True)


def test_dns_failure_is_temporary() -> None:
    def lookup(name: str) -> str | None:
        raise LookupFailedError(name)

    assert [result.result for result in verify(signed(tags()), lookup)] == ["temperror"]


def test_only_so_many_signatures_are_worth_the_work() -> None:
    asked: list[str] = []

    def lookup(name: str) -> str | None:
        asked.append(name)
        return RECORD

    message = signed(tags()).partition(b"\r\n")[0] + b"\r\n"
    found = verify(message * 40 + HEADER + b"\r\n" + BODY, lookup)
    assert len(found) == 40
    assert len(asked) == 16
    assert {result.result for result in found[16:]} == {"permerror"}


def test_unsigned_and_malformed_messages() -> None:
    assert verify(HEADER + b"\r\n" + BODY, lambda name: None) == []
    with pytest.raises(InputError):
        verify(b"DKIM-Signature: v=1\nFrom: a\r\n\r\n", lambda name: None)
    assert one(b"DKIM-Signature: \xff\r\n" + HEADER + b"\r\n").reason == "the field is not UTF-8"


@pytest.mark.parametrize("make", [lambda: SigningKey.generate(RSA, 1024), lambda: SigningKey.generate(ED25519)])
def test_keys_survive_pem(make: Callable[[], SigningKey]) -> None:
    key = make()
    again = SigningKey.from_pem(key.to_pem())
    assert (again.algorithm, again.bits) == (key.algorithm, key.bits)
    assert again.public_record() == key.public_record()
    assert again.sign_digest(b"x" * 32) == key.sign_digest(b"x" * 32)


def test_default_key_and_its_record() -> None:
    key = SigningKey.generate()
    assert (key.algorithm, key.bits) == (RSA, 2048)
    assert key.public_record().startswith("v=DKIM1; k=rsa; p=MIIBIj")
    assert RECORD.startswith("v=DKIM1; k=ed25519; p=")


@pytest.mark.parametrize("bits", [512, 1023, 4097, 8192, 0, -1])
def test_rsa_size_is_bounded(bits: int) -> None:
    with pytest.raises(InputError, match="bits"):
        SigningKey.generate(RSA, bits)


def test_other_keys_are_refused() -> None:
    elliptic = ec.generate_private_key(ec.SECP256R1())
    pem = elliptic.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for wrong in (pem, b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"):
        with pytest.raises(InputError):
            SigningKey.from_pem(wrong)
    with pytest.raises(InputError, match="algorithm"):
        SigningKey.generate("rsa-sha1")


def test_signer_domains_are_a_labels() -> None:
    signer = Signer("Bücher.example", "S1", KEY)
    assert (signer.domain, signer.selector) == ("xn--bcher-kva.example", "s1")
    field = sign(HEADER, BODY, [signer], now_ms=NOW_MS)
    assert b"d=xn--bcher-kva.example;" in field
    asked: list[str] = []

    def lookup(name: str) -> str | None:
        asked.append(name)
        return RECORD

    assert [result.result for result in verify(field + HEADER + b"\r\n" + BODY, lookup)] == ["ok"]
    assert asked == ["s1._domainkey.xn--bcher-kva.example"]


@pytest.mark.parametrize(
    ("domain", "selector"),
    [
        ("[192.0.2.1]", "s"),
        ("shop.example", ""),
        ("shop.example", "a;b"),
        ("shop.example", "a..b"),
        ("no dot", "s"),
        ("a" * 60 + ".example", "b" * 63 + ".c" * 70),
    ],
)
def test_wrong_signers_are_refused(domain: str, selector: str) -> None:
    with pytest.raises(InputError):
        Signer(domain, selector, KEY)


@pytest.mark.parametrize("filler", [b" ", b" :", b";", b"; ", b": from", b"a"])
def test_long_signature_fields_take_time_in_proportion(filler: bytes) -> None:
    """Hangs if the work grows with the square of the length."""
    message = signed(tags()).replace(b"from:subject", b"from:subject" + filler * 100_000 + b"x", 1)
    assert one(message).result != "ok"


def test_long_runs_at_the_end_of_a_body_take_time_in_proportion() -> None:
    for run in (b"\r\n", b" ", b" \t", b" \r\n", b"\n"):
        body = b"a" + run * 1_000_000
        assert one(signed(tags(body), body=body)).result == "ok"
