"""What a person decides about a sending domain: DMARC stage, reports, key rotation, its own MTA-STS policy, its logo."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from mailfleet.base.errors import InputError
from mailfleet.engine.domain_facts import own_domain
from mailfleet.engine.domain_views import DomainSettings
from mailfleet.engine.requests import Actor
from mailfleet.engine.sites import STS_PREFIX
from mailfleet.mail.address import Address, domain_to_ascii, is_within
from mailfleet.mail.bimi import checked_logo
from mailfleet.mail.dmarc import POLICIES
from mailfleet.mail.mta_sts import MtaStsSyntaxError, StsPolicy, parse_policy
from mailfleet.store import sending
from mailfleet.store.database import Database, Tx
from mailfleet.store.sending import SendingDomain

MODES = ("off", "testing", "enforce")
ROLLOUTS = ("by-hand", "auto")
_PAGE = re.compile(r"https://[!#-+\--:<-\[\]-~]+")  # printable, without what separates in a record: ; , " and backslash
_NOT_IN_RECORDS = frozenset(';,! "\\')  # these would end a tag or an address of a list (RFC 7489 6.2, RFC 8460 3)


class DomainOptions:
    """For one process. ``mail_hosts`` looks up the MX records of a domain: names, and why there are none."""

    def __init__(
        self, database: Database, mail_hosts: Callable[[str], Awaitable[tuple[list[str], str]]], hostname: str
    ) -> None:
        self._database, self._mail_hosts, self._hostname = database, mail_hosts, hostname.lower()

    async def get(self, actor: Actor, name: str) -> DomainSettings:
        """As they are. Raises ``NotFoundError``."""
        return _view(await self._database.read(lambda tx: own_domain(tx, actor, name)))

    async def set(
        self, actor: Actor, name: str, wanted: DomainSettings, *, was: DomainSettings | None = None
    ) -> DomainSettings:
        """Change all of them, or those that ``wanted`` has otherwise than they were when somebody saw them.

        Raises ``InputError`` and ``NotFoundError``.
        """
        given = _changed(wanted, was)
        now = await self._database.read(lambda tx: own_domain(tx, actor, name))
        hosts = await self._policy_hosts(now.name, wanted)
        public_host = self._public_host(now, wanted.public_host)
        _check(wanted)
        reports_to = _mailbox(wanted.dmarc_reports_to, "dmarc_reports_to")
        tls_reports_to = wanted.tls_reports_to
        if not _is_page(tls_reports_to):
            tls_reports_to = _mailbox(tls_reports_to, "tls_reports_to")

        def work(tx: Tx) -> SendingDomain:
            found = own_domain(tx, actor, name, hold=True)
            _check_free(tx, found, public_host)
            mode = wanted.mta_sts
            if mode == "off":
                mode = "none" if found.mta_sts else ""  # who had one takes it back in the open (RFC 8461 8.3)
            values: dict[str, Any] = {
                "dmarc_policy": wanted.dmarc_policy, "dmarc_reports_to": reports_to,
                "dmarc_rollout": wanted.dmarc_rollout, "rotate_days": wanted.rotate_days, "mta_sts": mode,
                "mta_sts_mx": " ".join(hosts), "tls_reports_to": tls_reports_to, "public_host": public_host,
                "bimi_evidence": wanted.bimi_evidence,
            }  # fmt: skip
            changed = found._replace(**{field: value for field, value in values.items() if field in given})
            if changed.bimi_logo and not changed.public_host:
                mend = "take the logo away first: mailfleet domain logo DOMAIN --remove"
                raise InputError("the logo is shown under this host", where="public_host", mend=mend)
            sending.update(tx, changed)
            sending.look_soon(tx, found.id)
            return changed

        return _view(await self._database.write(work))

    async def set_logo(self, actor: Actor, name: str, data: bytes | None) -> DomainSettings:
        """Show another logo; None takes it away. Raises ``InputError`` and ``NotFoundError``."""
        text = checked_logo(data) if data is not None else ""

        def work(tx: Tx) -> SendingDomain:
            found = own_domain(tx, actor, name, hold=True)
            if text and not found.public_host:
                mend = f"mailfleet domain set {found.name} --public-host assets.{found.name}"
                raise InputError("there is no host to show it under", where="public_host", mend=mend)
            digest = hashlib.sha256(text.encode()).hexdigest()[:16] if text else ""
            changed = found._replace(bimi_logo=digest)
            sending.put_logo(tx, found.id, text)
            sending.update(tx, changed)
            sending.look_soon(tx, found.id)
            return changed

        return _view(await self._database.write(work))

    async def logo(self, actor: Actor, name: str) -> str:
        """The logo as it is shown, SVG; empty for none. Raises ``NotFoundError``."""

        def find(tx: Tx) -> str:
            found = own_domain(tx, actor, name)
            return sending.logo(tx, found.id) if found.bimi_logo else ""

        return await self._database.read(find)

    async def _policy_hosts(self, domain: str, wanted: DomainSettings) -> list[str]:
        if wanted.mta_sts not in MODES:
            raise InputError(f"{wanted.mta_sts!r} is no mode", where="mta_sts", mend=f"one of {', '.join(MODES)}")
        hosts = [one.lower().rstrip(".") for one in wanted.mta_sts_mx]
        if wanted.mta_sts == "off" and not hosts:
            return []
        if not hosts:
            hosts, why = await self._mail_hosts(domain)
            if not hosts:
                mend = "publish its MX records first, or name its mail hosts"
                raise InputError(f"no mail host of {domain} is known: {why}", where="mta_sts_mx", mend=mend)
        try:
            return list(parse_policy(str(StsPolicy("testing", tuple(hosts), 1))).mx)
        except MtaStsSyntaxError as error:
            raise InputError(str(error), where="mta_sts_mx", mend="write mx.example, or *.example") from None

    def _public_host(self, domain: SendingDomain, host: str) -> str:
        if not host:
            return ""
        try:
            name = domain_to_ascii(host.strip().rstrip("."))
        except InputError:
            name = ""
        taken = name.startswith(STS_PREFIX) or name in (self._hostname, domain.return_path_host)
        if taken or not name.endswith(f".{domain.name}"):
            raise _not_free(domain, host)
        return name


def _changed(wanted: DomainSettings, was: DomainSettings | None) -> set[str]:
    """Names of fields; a mode of MTA-STS and its mail hosts go together."""
    given = {one for one in DomainSettings.model_fields if was is None or getattr(wanted, one) != getattr(was, one)}
    policy = {"mta_sts", "mta_sts_mx"}
    return given | policy if given & policy else given


def _check_free(tx: Tx, domain: SendingDomain, host: str) -> None:
    """What lies in another sending domain below this one is that one's."""
    below = [one.name for one in sending.all_domains(tx) if one.name.endswith(f".{domain.name}")]
    if any(is_within(host, one) for one in below):
        raise _not_free(domain, host)


def _not_free(domain: SendingDomain, host: str) -> InputError:
    mend = f"name one below it, for example assets.{domain.name}"
    return InputError(f"{host} is no free host of {domain.name}", where="public_host", mend=mend)


def _check(wanted: DomainSettings) -> None:
    if wanted.dmarc_policy not in POLICIES:
        mend = f"one of {', '.join(POLICIES)}"
        raise InputError(f"{wanted.dmarc_policy!r} is no policy", where="dmarc_policy", mend=mend)
    if wanted.dmarc_rollout not in ROLLOUTS:
        mend = f"one of {', '.join(ROLLOUTS)}"
        raise InputError(f"{wanted.dmarc_rollout!r} is no way to go on", where="dmarc_rollout", mend=mend)
    if wanted.bimi_evidence and not _is_page(wanted.bimi_evidence):
        mend = "give where its PEM file is: https://..."
        raise InputError("that is no address of a mark certificate", where="bimi_evidence", mend=mend)


def _mailbox(text: str, where: str) -> str:
    """In its canonical form; empty as it is."""
    try:
        found = str(Address.parse(text.strip())) if text else ""
    except InputError as error:
        raise InputError(error.what, where=where, mend=error.mend) from None
    if not found.isascii() or set(found) & _NOT_IN_RECORDS:
        mend = "give a plain one; the domain of an international address begins with xn--"
        raise InputError("that address cannot stand in a DNS record", where=where, mend=mend)
    return found


def _is_page(text: str) -> bool:
    """An address that can stand in a record: of what urlsplit overlooks, nothing."""
    if not _PAGE.fullmatch(text):
        return False
    try:
        return bool(urlsplit(text).hostname)
    except ValueError:
        return False


def _view(domain: SendingDomain) -> DomainSettings:
    return DomainSettings(
        dmarc_policy=domain.dmarc_policy,
        dmarc_reports_to=domain.dmarc_reports_to,
        dmarc_rollout=domain.dmarc_rollout,
        rotate_days=domain.rotate_days,
        mta_sts=domain.mta_sts if domain.mta_sts in MODES else "off",
        mta_sts_mx=domain.mta_sts_mx.split(),
        tls_reports_to=domain.tls_reports_to,
        public_host=domain.public_host,
        bimi_evidence=domain.bimi_evidence,
    )
