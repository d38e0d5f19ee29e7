"""What the engine answers about the DNS of sending domains."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class FormField(_View):
    """A field of a form, and what belongs in it."""

    label: str
    value: str


class PlannedRecord(_View):
    """A record that the DNS must hold."""

    check: str = Field(description="The check that looks after it.")
    name: str
    type: str
    value: str
    purpose: str
    manner: str = Field(
        description="`own`: the name is ours; `merge`: what others have there stays in it; `leave`: it stays where something is there."
    )
    line: str = Field(description="As a line of a zone file.")
    in_zone: str = Field("", description="With `for`: the zone that it belongs in.")
    fields: list[FormField] = Field([], description="With `for`: what the provider's form wants, in its order.")
    note: str = Field("", description="With `for`: what else to know of it there.")


class _Plan(_View):
    records: list[PlannedRecord]
    zone: str = Field(description="All of it as text of a zone file.")
    provider: str = Field("", description="With `for`: whose form.")
    provider_note: str = ""
    provider_page: str = Field("", description="The provider's own words on its form.")


class PlanView(_Plan):
    """All records of a domain."""

    domain: str


class ServerPlanView(_Plan):
    """All records of the install itself."""

    hostname: str
    notes: list[str] = Field(description="What is not planned, and why.")


class CheckView(_View):
    """A check, how it stands, and what to do."""

    name: str
    state: str = Field(description="`ok`, `warning`, `failed` or `unknown`.")
    found: str
    expected: str
    servers: list[str] = Field(description="What each authoritative server says.")
    meaning: str
    next_step: str
    since: str
    seen: str


class ChecksView(_View):
    """Every check of a domain."""

    domain: str
    state: str = Field(description="The worst of all.")
    ready_for_bulk: bool
    why_not: list[str] = Field(description="What keeps bulk mail from leaving.")
    checks: list[CheckView]


class ServerChecksView(_View):
    """Every check of the install itself."""

    hostname: str
    state: str = Field(description="The worst of all.")
    checks: list[CheckView]


class PastCheckView(_View):
    """A change of state."""

    at: str
    name: str
    before: str
    state: str
    found: str
    meaning: str


class ChangeView(_View):
    """A record to add or remove."""

    action: str = Field(description="`add` or `remove`.")
    name: str
    type: str
    value: str


class ConflictView(_View):
    """Something of others that stands where ours should be; it is not touched."""

    name: str
    type: str
    there: str
    wanted: str = Field(description="The exact text that would do.")
    why: str


class _Published(_View):
    applied: bool
    changes: list[ChangeView]
    by_hand: list[ChangeView] = Field(description="Of zones that nobody told how to write to.")
    conflicts: list[ConflictView]
    unknown: list[str] = Field(description="Names for which no server answers; nothing is done there.")
    missing: list[str] = Field(description="What was published and is not seen on every server yet.")
    mark: str = Field(description="Stands for exactly these changes: given back as `shown`, no others are made.")


class PublishView(_Published):
    """What was changed, or would be."""

    domain: str


class ServerPublishView(_Published):
    """What was changed, or would be, for the install itself."""

    hostname: str
    notes: list[str] = Field(description="What is not planned, and why.")


class KeyView(_View):
    """A DKIM key of a domain."""

    selector: str
    algorithm: str
    bits: int
    stage: str = Field(
        description="`next`: being published; `active`: signs; `old`: kept for mail under way;"
        " `leaked`: signs until another does; `revoked`: leaked, signs no more, and goes now."
    )
    since: str
    made: str
    goes: str = Field("", description="When one that signs no more is taken out of the DNS.")
    warning: str = ""


class KeysView(_View):
    """The keys of a domain, and how they change."""

    domain: str
    rotate_days: int = Field(description="0: by hand only.")
    keys: list[KeyView]


class DomainSettings(_View):
    """What can be set of a domain's DNS."""

    dmarc_policy: str = Field("none", description="`none`, `quarantine` or `reject`: the rollout's stage.")
    dmarc_reports_to: str = Field("", description="An address; empty for none.")
    dmarc_rollout: str = Field(
        "by-hand", description="`by-hand`; or `auto`: the policy goes up, and back, as reports on it show."
    )
    rotate_days: int = Field(0, ge=0, le=3650, description="Make a new key after so many days; 0: by hand only.")
    mta_sts: str = Field(
        "off", description="Its own MTA-STS policy for mail that comes to it: `off`, `testing` or `enforce`."
    )
    mta_sts_mx: list[Annotated[str, Field(max_length=255)]] = Field(
        [], max_length=50, description="Mail hosts that the policy names; empty takes those of its MX records now."
    )
    tls_reports_to: str = Field(
        "",
        max_length=500,
        description="Who gets reports on TLS to its mail hosts (RFC 8460): an address or https page.",
    )
    public_host: str = Field("", max_length=255, description="A host below it, under which its files are shown.")
    bimi_evidence: str = Field("", max_length=500, description="Where its mark certificate (VMC, CMC) is: https://...")


class ZoneView(_View):
    """A zone that may be written to."""

    zone: str
    kind: str
    server: str
    key_name: str
    algorithm: str
    provider: str
    settings: dict[str, str | int | float | bool]
