"""What the sandbox's DNS says: every domain exists, and its mail goes to one of the simulated providers. No sockets here.

Names with a meaning of their own are in ``SPECIAL``; ``docs/guides/sandbox.md`` explains them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from mailfleet.sandbox.catalogue import EVERY_OTHER_DOMAIN, ProviderSpec, provider_addresses
from mailfleet.sandbox.published import TTL_S, Published

NXDOMAIN = "nxdomain"
SERVFAIL = "servfail"
NULL_MX = "null-mx"  # RFC 7505
NO_MX = "no-mx"  # implicit MX: address record only (RFC 5321 5.1)
FIRST_DOWN = "first-down"  # the best MX host refuses connections, the second is well
ALL_DOWN = "all-down"  # the only MX host refuses connections
NO_MAIL = "no-mail"  # exists, with neither MX nor address

SPECIAL: Mapping[str, str] = {
    "nxdomain.example": NXDOMAIN,
    "servfail.example": SERVFAIL,
    "nullmx.example": NULL_MX,
    "implicit.example": NO_MX,
    "firstdown.example": FIRST_DOWN,
    "down.example": ALL_DOWN,
    "nomail.example": NO_MAIL,
}
DOWN_HOST = "down.mx.smallbiz.example"
NAME_SERVER = "ns.sandbox.example"
_SOA = f"{NAME_SERVER}. postmaster.sandbox.example. 1 3600 600 86400 1"
_DOWN_ADDRESS = 250  # above address_base: nobody listens here
_NEGATIVE_TTL_S = 1  # RFC 2308: a record published a moment later must be found


class Zone:
    """Answers questions. Raises ``ConfigError`` where ``address_base`` has no room above it or is not loopback."""

    def __init__(self, specs: tuple[ProviderSpec, ...], address_base: str, published: Published) -> None:
        addresses = provider_addresses(specs, address_base)
        down_address = str(ipaddress.IPv4Address(address_base) + _DOWN_ADDRESS)
        self._published = published
        self._mx: dict[str, tuple[str, ...]] = {}
        self._address = {DOWN_HOST: down_address, NAME_SERVER: "127.0.0.1"}
        self._pointer = {down_address: DOWN_HOST}
        for spec in specs:
            for hosts, domains in spec.mx:
                self._mx.update(dict.fromkeys(domains, hosts))
                self._address.update(dict.fromkeys(hosts, addresses[spec.name]))
            self._pointer[addresses[spec.name]] = spec.host
        self._default = self._mx.pop(EVERY_OTHER_DOMAIN)
        self._address["implicit.example"] = self._address[self._default[0]]

    def answer(self, query: dns.message.Message) -> dns.message.Message:
        """The whole response, not yet cut to a size."""
        response = dns.message.make_response(query, recursion_available=True)
        if len(query.question) != 1 or query.opcode() != 0:
            response.set_rcode(dns.rcode.NOTIMP)
            return response
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        special = SPECIAL.get(name, NXDOMAIN if name == "invalid" or name.endswith(".invalid") else "")
        published = self._published.records(name)
        if special == SERVFAIL:
            response.set_rcode(dns.rcode.SERVFAIL)
            return response
        response.flags |= dns.flags.AA
        kind = dns.rdatatype.to_text(question.rdtype)
        if published is not None and (kind in published or "CNAME" in published or kind != "MX"):
            values: list[dns.rdata.Rdata | str] = list(published.get(kind) or published.get("CNAME", ()))
            kind = kind if kind in published else "CNAME"
        elif special == NXDOMAIN:
            response.set_rcode(dns.rcode.NXDOMAIN)
            values = []
        else:
            values = list(self._built_in(name, kind, special))
        self._fill(response, question, kind, values)
        return response

    def _built_in(self, name: str, kind: str, special: str) -> list[str]:
        if kind == "NS":  # one zone for everything, served here
            return [f"{NAME_SERVER}."] if name in ("", ".") else []
        if kind == "A":
            return [self._address[name]] if name in self._address else []
        if kind == "PTR":
            labels = name.removesuffix(".in-addr.arpa").split(".")
            return [self._pointer[pointer] + "."] if (pointer := ".".join(reversed(labels))) in self._pointer else []
        if kind != "MX" or name.startswith("_") or name in self._address or name.endswith(".arpa"):
            return []
        if special == NULL_MX:
            return ["0 ."]
        if special == FIRST_DOWN:
            return [f"10 {DOWN_HOST}.", f"20 {self._default[0]}."]
        if special == ALL_DOWN:
            return [f"10 {DOWN_HOST}."]
        if special in (NO_MX, NO_MAIL):
            return []
        hosts = self._mx.get(name, self._default)
        return [f"{preference} {host}." for preference, host in zip(range(5, 500, 5), hosts, strict=False)]

    def _fill(
        self,
        response: dns.message.Message,
        question: dns.rrset.RRset,
        kind: str,
        values: list[dns.rdata.Rdata | str],
    ) -> None:
        if not values:
            response.authority.append(dns.rrset.from_text(dns.name.root, _NEGATIVE_TTL_S, "IN", "SOA", _SOA))
            return
        rdatas = [
            dns.rdata.from_text(dns.rdataclass.IN, kind, value) if isinstance(value, str) else value for value in values
        ]
        response.answer.append(dns.rrset.from_rdata(question.name, TTL_S, *rdatas))
