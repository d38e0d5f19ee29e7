"""Certificates of one process: who makes them, which listeners show them, and taking up new ones while connections go on."""

from __future__ import annotations

import asyncio
import ssl
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from mailfleet.app.dns import named_keys, next_key_ms, publishing
from mailfleet.app.folder import DataFolder
from mailfleet.base.errors import ConfigError, MailfleetError
from mailfleet.config.listen import split_host_port
from mailfleet.config.settings import Settings
from mailfleet.engine.certificates import Certificates
from mailfleet.engine.dns_proofs import DnsProofs
from mailfleet.engine.issuing import AcmeIssuer, Issuer, LocalIssuer
from mailfleet.engine.sites import Sites
from mailfleet.net.acme_orders import Authority
from mailfleet.net.resolver import Resolver
from mailfleet.net.tls_keys import new_key
from mailfleet.net.tls_names import TlsNames, loaded_context
from mailfleet.net.tls_server import ensure_self_signed, names_of, server_context

if TYPE_CHECKING:
    from mailfleet.app.compose import Base

log = structlog.get_logger()

LOOK_S = 1.0
OPEN_TRIES = 20


def certificates_of(base: Base, nameservers: list[str]) -> Certificates:
    """From an authority where the settings name one; from our own in the sandbox."""
    return Certificates(
        base.database,
        base.box,
        _issuer(base, nameservers),
        hostname=base.hostname,
        next_key_ms=next_key_ms(base.settings),
        clock=base.clock,
        time_scale=base.time_scale,
        named=None if base.settings.sandbox.enabled else named_keys(base, nameservers).named,
        chain_file=Path(base.settings.submission.tls_cert) if base.settings.submission.tls_cert else None,
    )


def sites_of(base: Base) -> Sites:
    """What is shown to everybody."""
    contact = base.settings.https.security_contact
    return Sites(base.database, base.clock, hostname=base.hostname, security_contact=contact)


def check_acme(settings: Settings) -> None:
    """Whether an authority can be asked at all. Raises ``ConfigError``."""
    acme, https = settings.acme, settings.https
    if not acme.directory:
        return
    if not acme.agree_to_terms:
        mend = "read its terms of service, then set it to true"
        raise ConfigError("the authority wants you to agree to its terms", where="acme.agree_to_terms", mend=mend)
    needs = {"http-01": ("https.http_listen", https.http_listen), "tls-alpn-01": ("https.listen", https.listen)}
    setting, value = needs.get(acme.challenge, ("", "none"))
    if not value:
        mend = f"set {setting}, or another challenge"
        raise ConfigError(f"{acme.challenge} is answered nowhere", where="acme.challenge", mend=mend)
    if acme.ca_file and not Path(acme.ca_file).is_file():
        raise ConfigError(f"there is no {acme.ca_file}", where="acme.ca_file", mend="give a file with PEM certificates")


class Shown:
    """The certificates of this process's listeners."""

    def __init__(self, settings: Settings, folder: DataFolder, hostname: str) -> None:
        submission = settings.submission
        self._files = (Path(submission.tls_cert), Path(submission.tls_key)) if _has_files(settings) else None
        self._stamp = self._stamps()
        make = partial(_fallback, settings, folder, hostname)
        # Files that a person gave are shown unless a client asks for a host with a certificate of its own; so is the
        # sandbox's first certificate, which alone is good for this machine's other names
        default = "" if self._files or settings.sandbox.enabled else hostname.lower()
        self.smtp = TlsNames(make(), default)
        self.https = TlsNames(make(), default, ("http/1.1",))

    async def follow(self, certificates: Certificates) -> None:
        """Take up what changes, until cancelled: in the database, and in files that another program renews."""
        known: tuple[int, int] | None = None
        while True:
            try:
                version = await certificates.version()
                if version != known:
                    await self._load(certificates)
                    known = version
                await asyncio.to_thread(self._look_at_files)
            except (MailfleetError, OSError) as error:  # no database, no descriptors
                log.warning("certificates cannot be looked at", reason=str(error))
            await asyncio.sleep(LOOK_S)

    async def _load(self, certificates: Certificates) -> None:
        pairs = await certificates.pairs()
        for names in (self.smtp, self.https):
            for wrong in names.use(pairs):
                log.error("a certificate cannot be loaded", host=wrong)

    def _stamps(self) -> list[tuple[int, int, int]]:
        """Of each file: two writes may fall into one tick of the clock, and a link may lead to another file."""
        try:
            found = [path.stat() for path in self._files or ()]
            return [(one.st_mtime_ns, one.st_size, one.st_ino) for one in found]
        except OSError:
            return []

    def _look_at_files(self) -> None:
        stamp = self._stamps()
        if self._files is None or not stamp or stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            chain, key = self._files[0].read_text(), self._files[1].read_bytes()
            for names in (self.smtp, self.https):
                names.replace_fallback(chain, key)
            log.info("another certificate is shown", file=str(self._files[0]))
        except (OSError, ValueError, ssl.SSLError) as error:  # half written; it is looked at again when it changes
            log.error("the certificate has changed and cannot be loaded", file=str(self._files[0]), reason=str(error))


async def _is_open(listen: str) -> bool:
    """Whether somebody takes connections there; waits a little, as at the start of the server."""
    host, port = split_host_port(listen)
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - where it is reached
    for _ in range(OPEN_TRIES):
        try:
            _, writer = await asyncio.open_connection(address, port)
        except OSError:
            await asyncio.sleep(LOOK_S)
            continue
        writer.close()
        return True
    return False


def _has_files(settings: Settings) -> bool:
    return bool(settings.submission.tls_cert or settings.submission.tls_key)


def _fallback(settings: Settings, folder: DataFolder, hostname: str) -> ssl.SSLContext:
    submission = settings.submission
    if _has_files(settings):
        return server_context(Path(submission.tls_cert), Path(submission.tls_key))
    if settings.sandbox.enabled:
        key = new_key()
        return loaded_context(LocalIssuer(folder.tls).issue_now(names_of(hostname), key), key)
    return server_context(*ensure_self_signed(folder.tls, hostname))


def _issuer(base: Base, nameservers: list[str]) -> Issuer | None:
    settings = base.settings
    if settings.sandbox.enabled:
        return LocalIssuer(base.folder.tls)
    acme = settings.acme
    if not acme.directory:
        return None
    authority = Authority(
        acme.directory, acme.contact, acme.agree_to_terms, acme.ca_file, acme.eab_key_id, acme.eab_key
    )

    async def addresses(host: str) -> list[str]:
        # A new resolver each time: what was not there a minute ago may have been published since
        return await Resolver(nameservers, settings.dns.timeout_s, base.clock).addresses(host, ipv6=True)

    answers_at = settings.https.http_listen if acme.challenge == "http-01" else settings.https.listen
    return AcmeIssuer(
        base.database,
        base.box,
        authority,
        acme.challenge,
        DnsProofs(base.database, *publishing(base, nameservers), base.clock),
        addresses,
        partial(_is_open, answers_at),
        base.clock,
        loopback_only=settings.at_home,
    )
