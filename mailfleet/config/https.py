"""Settings of HTTPS and of certificates."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_serializer

from mailfleet.config.listen import Listen
from mailfleet.config.section import Section
from mailfleet.mail.address import is_within

_CAA = {  # what each authority says in its documents
    "letsencrypt.org": "letsencrypt.org",
    "zerossl.com": "sectigo.com",
    "sectigo.com": "sectigo.com",
    "pki.goog": "pki.goog",
    "ssl.com": "ssl.com",
    "buypass.com": "buypass.com",
}


def _directory(value: str) -> str:
    if value and (urlsplit(value).scheme != "https" or not urlsplit(value).hostname):
        raise ValueError("give the address of an ACME directory: https://HOST/PATH")
    return value


def _contact(value: str) -> str:
    if value and not value.startswith(("mailto:", "https://", "tel:")):
        raise ValueError("write mailto:ADDRESS, https://PAGE or tel:NUMBER (RFC 9116 2.5.3)")
    return value


class Https(Section):
    """HTTPS for everybody: the control room under ``server.hostname``, and what sending domains show under theirs."""

    listen: Listen = Field("", description="Where HTTPS answers, 0.0.0.0:443 in production; empty: nowhere.")
    http_listen: Listen = Field(
        "",
        description="Where plain HTTP answers what certificate authorities ask, and sends everybody else to HTTPS;"
        " 0.0.0.0:80 in production; empty: nowhere.",
    )
    security_contact: Annotated[str, AfterValidator(_contact)] = Field(
        "",
        description="Whom finders of a weakness write to, as mailto:ADDRESS or https://PAGE; shown as security.txt (RFC 9116)"
        " under every host. Empty shows none.",
    )


class Acme(Section):
    """Certificates from an authority (RFC 8555), for ``server.hostname`` and every host of a sending domain."""

    directory: Annotated[str, AfterValidator(_directory)] = Field(
        "",
        description="The authority, https://acme-v02.api.letsencrypt.org/directory for Let's Encrypt; empty asks none.",
    )
    contact: str = Field("", description="A mail address that the authority may write to.")
    agree_to_terms: bool = Field(False, description="You agree to the authority's terms of service.")
    challenge: Literal["http-01", "dns-01", "tls-alpn-01"] = Field(
        "http-01",
        description="How a host is proved to be ours: over https.http_listen, in a zone of mailfleet dns, or over https.listen.",
    )
    caa_identity: str = Field(
        "", description="The authority's name in CAA records; empty takes that of the authorities we know."
    )
    ca_file: str = Field("", description="Trust the directory by these authorities (PEM) in place of the system's.")
    eab_key_id: str = Field("", description="Key id of an external account binding, where the authority wants one.")
    eab_key: str = Field("", repr=False, description="Its key, in base64url. Better given as MAILFLEET_ACME__EAB_KEY.")

    @property
    def caa_name(self) -> str:
        """By which CAA records let the authority issue; empty where it is not known."""
        host = urlsplit(self.directory).hostname or ""
        known = next((name for end, name in _CAA.items() if is_within(host, end)), "")
        return self.caa_identity or known

    @field_serializer("eab_key")
    def _without_key(self, value: str) -> str:
        return "***" if value else ""
