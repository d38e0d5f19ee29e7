"""Whether the names of a domain's mail hosts can be relied on (RFC 8689 4.2.1): by DNSSEC, or by the domain's MTA-STS policy."""

from __future__ import annotations

from collections.abc import Sequence

from mailfleet.engine.sts import StsPolicies
from mailfleet.net.secure_dns import SecureDns
from mailfleet.policy.outcome import Failure, Outcome, Phase


class MailHostProofs:
    """For one process; without ``dns`` or ``policies`` that one proves nothing."""

    def __init__(self, dns: SecureDns | None, policies: StsPolicies | None) -> None:
        self._dns, self._policies = dns, policies

    async def lacking(self, domain: str, hosts: Sequence[str]) -> Outcome | None:
        """What keeps mail with REQUIRETLS for ``domain`` from going to these hosts; None when they are proven to be its own."""
        if set(hosts) == {domain}:  # no MX record leads to them; the certificate names the domain itself
            return None
        asked = await self._dns.ask(domain, "MX") if self._dns is not None else None
        if asked is not None and asked.proof == "secure":
            named = {record.partition(" ")[2].lower().rstrip(".") for record in asked.records}
            if named.issuperset(hosts):
                return None
        policy = await self._policies.of(domain) if self._policies is not None else None
        if policy is not None and policy.mode != "none" and all(policy.allows(host) for host in hosts):
            return None
        if asked is not None and asked.proof == "failed":
            detail = f"the MX records of {domain} cannot be looked up with DNSSEC"
            return Outcome(Phase.DNS, failure=Failure.DNS_TEMPORARY, detail=detail)
        detail = (
            f"the message has REQUIRETLS, and neither DNSSEC nor an MTA-STS policy proves which mail hosts {domain} has"
        )
        return Outcome(Phase.DNS, failure=Failure.TLS_UNPROVEN, detail=detail)
