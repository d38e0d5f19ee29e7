"""What a sending domain's plan is made from: its keys, and every source that its mail may leave from."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import cast

from mailfleet.base.errors import NotFoundError
from mailfleet.engine.requests import Actor
from mailfleet.engine.sites import hosts_of, logo_path, policy_of
from mailfleet.engine.source_defaults import SourceDefaults
from mailfleet.mail.address import domain_to_ascii
from mailfleet.mail.dmarc import Policy
from mailfleet.policy.caa import NOBODY, Issuer
from mailfleet.policy.dns_plan import Facts
from mailfleet.store import certificates, egress, sending
from mailfleet.store.database import Tx
from mailfleet.store.egress import Egress
from mailfleet.store.sending import DkimKey, SendingDomain


def sources(tx: Tx, tenant_id: int) -> list[Egress]:
    """Sources in any pool that still send or may send again."""
    pooled = {one.egress_id for one in egress.members(tx)}
    return [
        one
        for one in egress.all_egresses(tx)
        if one.kind == "source" and one.state != "retired" and one.id in pooled and one.tenant_id in (0, tenant_id)
    ]


def facts(
    tx: Tx, domain: SendingDomain, keys: Sequence[DkimKey], defaults: SourceDefaults, authority: Issuer = NOBODY
) -> Facts:
    """As things are now. ``authority``: who makes our certificates."""
    found = sources(tx, domain.tenant_id)
    addresses = {text for one in found for text in defaults.public(one)}
    return Facts(
        domain.name,
        domain.return_path_host,
        defaults.hostname,
        tuple((key.selector, key.public_record) for key in keys),
        tuple(sorted(addresses, key=lambda text: ipaddress.ip_address(text).packed)),
        tuple(sorted({defaults.name(one.ehlo_name) for one in found if defaults.by_name(one)})),
        cast("Policy", domain.dmarc_policy),
        domain.dmarc_reports_to,
        policy_of(domain),
        domain.tls_reports_to,
        domain.public_host,
        f"https://{domain.public_host}{logo_path(domain)}" if domain.bimi_logo else "",
        domain.bimi_evidence,
        frozenset(key.selector for key in keys if key.stage == "next"),
        with_account(tx, authority),
        tuple(hosts_of(domain)),
    )


def with_account(tx: Tx, authority: Issuer) -> Issuer:
    """With our account there, as soon as there is one."""
    account = certificates.account(tx, authority.directory) if authority.directory else None
    return authority._replace(account=account.uri if account else "")


def own_domain(tx: Tx, actor: Actor, name: str, *, hold: bool = False) -> SendingDomain:
    """A domain of the actor's tenant; ``hold``: that nobody else changes before the commit. Raises ``NotFoundError``."""
    known = domain_to_ascii(name.strip())
    found = sending.held(tx, known) if hold else sending.by_name(tx, known)
    if found is None or found.tenant_id != actor.tenant_id:
        raise NotFoundError(f"{name} is not a sending domain", where="domain", mend="see: mailfleet domain list")
    return found
