"""TLSA records and what they prove (RFC 6698, RFC 7671, RFC 7672). Pure: certificates come as bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError

DANE_TA, DANE_EE = 2, 3  # the usages that mail has a use for (RFC 7672 3.1)
# The rules of the web's authorities are not those of mail's: what counts is signatures, dates and the name.
_AUTHORITIES = ExtensionPolicy.permit_all().require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
_HOSTS = ExtensionPolicy.permit_all().require_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
_DIGESTS = {1: hashlib.sha256, 2: hashlib.sha512}


class Tlsa(NamedTuple):
    """A record. ``selector`` 0: the whole certificate, 1: its key. ``matching`` 0: as it is, 1: SHA-256, 2: SHA-512."""

    usage: int
    selector: int
    matching: int
    data: bytes

    @property
    def usable(self) -> bool:
        """Mail can make something of it (RFC 7672 3.1.3: usages 0 and 1 are passed over)."""
        if self.usage not in (DANE_TA, DANE_EE) or self.selector not in (0, 1):
            return False
        digest = _DIGESTS.get(self.matching)
        return bool(self.data) if self.matching == 0 else digest is not None and len(self.data) == digest().digest_size

    def matches(self, certificate: x509.Certificate) -> bool:
        """Whether a certificate is the one that is meant."""
        if self.selector == 0:
            found = certificate.public_bytes(Encoding.DER)
        else:
            found = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        digest = _DIGESTS.get(self.matching)
        return (digest(found).digest() if digest is not None else found) == self.data


def parse(text: str) -> Tlsa | None:
    """From the form of a zone file; None for what is none."""
    parts = text.split(None, 3)
    try:
        usage, selector, matching = (int(part) for part in parts[:3])
        return Tlsa(usage, selector, matching, bytes.fromhex("".join(parts[3].split())))
    except (ValueError, IndexError):
        return None


def proven(records: Sequence[Tlsa], chain: Sequence[bytes], host: str, now: datetime) -> str:
    """Empty where the chain (the host's own certificate first, DER) is what the records say; otherwise why it is not."""
    if not chain:
        return "it shows no certificate"
    try:
        certificates = [x509.load_der_x509_certificate(one) for one in chain]
    except ValueError:
        return "its certificate cannot be read"
    leaf, others = certificates[0], certificates[1:]
    if any(one.usage == DANE_EE and one.matches(leaf) for one in records):
        return ""  # RFC 7672 3.1.1: neither name nor dates count
    why = "its certificate is not the one that the TLSA records name"
    for one in records:
        if one.usage != DANE_TA:
            continue
        for anchor in certificates:
            if one.matches(anchor):
                builder = PolicyBuilder().store(Store([anchor])).time(now)
                builder = builder.extension_policies(ca_policy=_AUTHORITIES, ee_policy=_HOSTS)
                try:
                    builder.build_server_verifier(x509.DNSName(host)).verify(leaf, others)
                except (VerificationError, ValueError) as error:
                    why = f"its chain does not lead to the authority that the TLSA records name: {error}"
                else:
                    return ""
    return why
