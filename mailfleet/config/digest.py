"""The settings section of the nightly mail of what changed."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field

from mailfleet.base.errors import InputError
from mailfleet.config.section import Section
from mailfleet.mail.address import Address

_AT = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")


def _address(value: str) -> str:
    if value:
        try:
            Address.parse(value)
        except InputError as error:
            raise ValueError(f"it is no mail address: {error.what}") from None
    return value


def _time(value: str) -> str:
    if not _AT.fullmatch(value):
        raise ValueError("write a time of day as 06:00")
    return value


class DigestSettings(Section):
    """A mail, once a day, of what changed and what is wrong with the DNS of sending domains, keys and certificates."""

    model_config = ConfigDict(populate_by_name=True)

    to: Annotated[str, AfterValidator(_address)] = Field(
        "", description="Who gets it; empty: nobody. No mail is sent on a day with nothing to tell."
    )
    at: Annotated[str, AfterValidator(_time)] = Field("06:00", description="When, as HH:MM in UTC.")
    sender: Annotated[str, AfterValidator(_address)] = Field(
        "",
        alias="from",
        description="Whom it is from, an address at a sending domain; empty takes mailfleet@ the oldest sending domain.",
    )

    @property
    def minute(self) -> int:
        """``at`` in minutes of the day."""
        return int(self.at[:2]) * 60 + int(self.at[3:])
