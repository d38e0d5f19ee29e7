"""Settings of TLS reports."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from mailfleet.base.errors import InputError
from mailfleet.config.section import Section
from mailfleet.mail.address import Address


def _address(value: str) -> str:
    try:
        return str(Address.parse(value)) if value else ""
    except InputError as error:
        raise ValueError(f"{error.what}; write an address of a sending domain") from None


class TlsReports(Section):
    """What recipient domains are told of TLS towards them (RFC 8460)."""

    enabled: bool = Field(True, description="Report once a day to the domains that ask for it (_smtp._tls).")
    sender: Annotated[str, AfterValidator(_address)] = Field(
        "",
        description="Who reports, an address of a sending domain; empty: tls-reports@ the default tenant's oldest one.",
    )
