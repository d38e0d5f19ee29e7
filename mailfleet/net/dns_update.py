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

        ``guards``: what must still be there (RFC 2136 2.4.2), or the zone has changed since it was looked at.
        """
        update = dns.update.UpdateMessage(self._zone, keyring=self._keys, keyalgorithm=self._algorithm)
        for guard in guards:
            for rdata in guard.rdatas:
                update.present(dns.name.from_text(guard.name), guard.type, rdata)
        count = 0
        for one in changes:
            name = dns.name.from_text(one.name)
            count += 1
            if one.action == "remove":
                update.delete(name, one.type, one.rdata)
            else:
                update.add(name, ttl_s, one.type, one.rdata)
        if not count:
            return
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
        rcode = answer.rcode()
        if rcode != dns.rcode.NOERROR:
            words = _SAYS.get(rcode, "the server did not say why")
            raise DnsUpdateError(f"{self._where} answers {dns.rcode.to_text(rcode)}: {words}")

    @property
    def _where(self) -> str:
        host, port = self._server
        return f"the name server {host}" if port == _PORT else f"the name server {host}:{port}"
