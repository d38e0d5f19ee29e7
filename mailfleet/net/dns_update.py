"""Writing to a zone: what every way to do it promises, and dynamic update (RFC 2136) signed with TSIG (RFC 8945)."""

from __future__ import annotations

import binascii
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, Protocol

import dns.asyncquery
import dns.exception
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.tsig
import dns.tsigkeyring
import dns.update

from mailfleet.base.errors import InputError, MailfleetError
from mailfleet.net.guard import check_destination
from mailfleet.policy.dns_plan import rdata_text

ALGORITHMS = ("hmac-sha256", "hmac-sha384", "hmac-sha512", "hmac-sha1", "hmac-md5")
_PORT = 53


class DnsUpdateError(MailfleetError):
    """The zone was not changed. The message says what the server answered and what to do."""


class Change(NamedTuple):
    """A record to add or remove. ``value`` of a TXT is its plain text, names have their final dot."""

    action: Literal["add", "remove"]
    name: str
    type: str
    value: str
    raw: str = ""  # of one to remove: as the server has it, where its strings are divided otherwise than ours

    @property
    def rdata(self) -> str:
        """As a zone file has it."""
        return self.raw or rdata_text(self.type, self.value)


class Guard(NamedTuple):
    """All records of a name and type as they must still be."""

    name: str
    type: str
    rdatas: tuple[str, ...]


class ZoneWriter(Protocol):
    """A way to write to one zone."""

    async def prove(self) -> None:
        """What can be found out without writing. Raises ``InputError`` and ``DnsUpdateError``."""
        ...

    async def apply(self, changes: Iterable[Change], ttl_s: int, guards: Sequence[Guard] = ()) -> None:
        """Make the changes if every guard holds. Raises ``DnsUpdateError``."""
        ...


_SAYS = {
    dns.rcode.REFUSED: "the server refuses: let this key update the zone there",
    dns.rcode.NOTAUTH: "the server does not know the key, or does not serve the zone",
    dns.rcode.NOTZONE: "a record is not in the zone",
    dns.rcode.NXRRSET: "the zone has changed meanwhile: look again",
    dns.rcode.YXRRSET: "the zone has changed meanwhile: look again",
    dns.rcode.NXDOMAIN: "the zone has changed meanwhile: look again",
}


class DynamicUpdate:
    """For one zone and server (``address`` or ``address:port``). ``secret`` is base64; an empty ``key_name`` signs nothing."""

    def __init__(
        self,
        zone: str,
        server: tuple[str, int],
        *,
        key_name: str = "",
        secret: str = "",
        algorithm: str = "hmac-sha256",
        timeout_s: float = 10,
        loopback_only: bool = False,
    ) -> None:
        self._zone, self._server, self._timeout_s, self._loopback_only = zone, server, timeout_s, loopback_only
        self._algorithm = dns.name.from_text(algorithm)
        self._keys = None
        if key_name:
            try:
                self._keys = dns.tsigkeyring.from_text({key_name: (algorithm, secret)})
            except (binascii.Error, ValueError, dns.exception.DNSException):
                raise InputError(
                    "the secret is not base64", where="secret", mend="give it as the key file of the server has it"
                ) from None

    async def prove(self) -> None:
        """Nothing: a key that may update a zone need not be one that may read it."""

    async def apply(self, changes: Iterable[Change], ttl_s: int, guards: Sequence[Guard] = ()) -> None:
        """All of them in one transaction of the server. Raises ``DnsUpdateError``.

        ``guards``: what must still be there (RFC 2136 2.4.2), or the zone has changed since it was looked at. Where an alias takes
        the place of other records, or they its place, what is added is sent once more: a server may have left it out. If that
        fails the old is put back, and the message says what is now where.
        """
        asked = list(changes)
        if not asked:
            return
        aliases = {one.name for one in asked if one.action == "add" and one.type == "CNAME"}
        update = self._message()
        for guard in guards:
            for rdata in guard.rdatas:
                update.present(dns.name.from_text(guard.name), guard.type, rdata)
        for one in sorted(asked, key=lambda one: one.action == "add"):  # done one after the other (RFC 2136 3.4.2)
            if one.action == "add":
                update.add(dns.name.from_text(one.name), ttl_s, one.type, one.rdata)
            elif one.type != "CNAME" or one.name not in aliases:  # an alias takes the place of one (RFC 2136 3.4.2.2)
                update.delete(dns.name.from_text(one.name), one.type, one.rdata)
        await self._send(update)
        names = _of_two_kinds(asked)
        if names:
            await self._add_again([one for one in asked if one.name in names], ttl_s)

    async def _add_again(self, changes: Sequence[Change], ttl_s: int) -> None:
        """What is there already stays as it is (RFC 2136 3.4.2.2)."""
        update = self._message()
        for one in changes:
            if one.action == "add":
                update.add(dns.name.from_text(one.name), ttl_s, one.type, one.rdata)
        try:
            await self._send(update)
        except DnsUpdateError as error:
            names = dict.fromkeys(one.name for one in changes)
            said = [await self._put_back(name, changes, ttl_s) for name in names]
            if not any(said):
                return
            raise DnsUpdateError(f"{error}; {'; '.join(filter(None, said))}; all else is done") from None

    async def _put_back(self, name: str, changes: Sequence[Change], ttl_s: int) -> str:
        """What was taken out of a name, if nothing is there. Returns how it stands, for people; empty: the new is there."""
        old = [one for one in changes if one.name == name and one.action == "remove"]
        at = dns.name.from_text(name)
        update = self._message()
        update.absent(at)
        for one in old:
            update.add(at, ttl_s, one.type, one.rdata)
        try:
            rcode = await self._exchange(update)
        except DnsUpdateError:
            rcode = dns.rcode.SERVFAIL
        if rcode == dns.rcode.YXDOMAIN:
            return ""
        if rcode == dns.rcode.NOERROR:
            return f"{name} is as it was"
        texts = ", ".join(f"{one.type} {one.rdata}" for one in old)
        return f"{name} may have no records now: {texts} was taken out, and what is to take its place may not be there"

    def _message(self) -> dns.update.UpdateMessage:
        return dns.update.UpdateMessage(self._zone, keyring=self._keys, keyalgorithm=self._algorithm)

    async def _send(self, update: dns.update.UpdateMessage) -> None:
        rcode = await self._exchange(update)
        if rcode != dns.rcode.NOERROR:
            words = _SAYS.get(rcode, "the server did not say why")
            raise DnsUpdateError(f"{self._where} answers {dns.rcode.to_text(rcode)}: {words}")

    async def _exchange(self, update: dns.update.UpdateMessage) -> dns.rcode.Rcode:
        check_destination(self._server[0], loopback_only=self._loopback_only)
        try:
            answer = await dns.asyncquery.tcp(update, self._server[0], timeout=self._timeout_s, port=self._server[1])
        except (TimeoutError, dns.exception.Timeout):
            raise DnsUpdateError(f"{self._where} gave no answer in {self._timeout_s:g} s") from None
        except dns.tsig.PeerError as error:
            raise DnsUpdateError(f"{self._where} does not accept the key: {error}") from None
        except dns.message.UnknownTSIGKey:
            raise DnsUpdateError(f"{self._where} answers with another key than ours") from None
        except (dns.exception.DNSException, OSError, EOFError) as error:
            raise DnsUpdateError(f"{self._where}: {error or type(error).__name__}") from None
        return answer.rcode()

    @property
    def _where(self) -> str:
        host, port = self._server
        return f"the name server {host}" if port == _PORT else f"the name server {host}:{port}"


def _of_two_kinds(changes: Sequence[Change]) -> set[str]:
    """Names where an alias takes the place of other records, or they its place.

    BIND and PowerDNS do both in one message, Knot in zones that are not signed. In one that is, it takes out other records, does
    not put the alias there for what DNSSEC had beside them, and answers that all is well.
    """
    removed = {(one.name, one.type == "CNAME") for one in changes if one.action == "remove"}
    return {one.name for one in changes if one.action == "add" and (one.name, one.type != "CNAME") in removed}
