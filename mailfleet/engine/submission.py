"""Submission as the SMTP listener asks for it: logins, who may send from where, and taking the message."""

from __future__ import annotations

from mailfleet.base.errors import InputError
from mailfleet.engine.accept import Acceptor, Screen
from mailfleet.engine.manage import Manager
from mailfleet.engine.requests import Actor, SubmittedMessage
from mailfleet.mail.address import Address
from mailfleet.smtp.reply import Reply
from mailfleet.store import sending
from mailfleet.store.database import Database


class SubmissionDesk:
    """The engine behind ``listen.submission``."""

    def __init__(self, database: Database, manager: Manager, acceptor: Acceptor, screen: Screen) -> None:
        self._database, self._manager, self._acceptor, self._screen = database, manager, acceptor, screen
        self._domains: dict[int, frozenset[str]] = {}  # tenant -> sending domains, as of its last login

    async def authenticate(self, username: str, password: str, peer_ip: str) -> Actor | None:
        """The actor of a login, or ``None``."""
        actor = await self._manager.login(username, password)
        if actor is not None:
            found = await self._database.read(lambda tx: sending.of_tenant(tx, actor.tenant_id))
            self._domains[actor.tenant_id] = frozenset(domain.name for domain in found)
        return actor

    def check_sender(self, actor: Actor, reverse_path: str) -> Reply | None:
        """The reverse-path is null or stands under a sending domain that this login may use."""
        if not reverse_path:
            return None
        try:
            domain = Address.parse(reverse_path).domain
        except InputError as error:
            return Reply.of(553, "5.1.7", error.what)
        usable = actor.allowed_domains or self._domains.get(actor.tenant_id, frozenset())
        labels = domain.split(".")
        if any(".".join(labels[start:]) in usable for start in range(len(labels) - 1)):
            return None
        if not usable:
            return Reply.of(550, "5.7.1", "no sending domain is set up", f"add it with: mailfleet domain add {domain}")
        return Reply.of(
            550, "5.7.1", f"this login may not send from {domain}", f"it may use {', '.join(sorted(usable)[:5])}"
        )

    def check_recipient(self, actor: Actor, recipient: str) -> Reply | None:
        """Any well-formed address is taken; whether it exists, its own server knows."""
        try:
            Address.parse(recipient)
        except InputError as error:
            return Reply.of(553, "5.1.3", error.what)
        return None

    def refusal(self) -> Reply | None:
        """451 while nothing is taken."""
        reason = self._screen.has_room()
        return Reply.of(451, "4.3.1", reason) if reason else None

    async def accept(self, actor: Actor, message: SubmittedMessage) -> str:
        """Take it durably; the queue id."""
        return await self._acceptor.submit(actor, message)
