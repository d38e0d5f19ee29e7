"""One simulated provider at work: who is let in, what each recipient and message is answered, and the record of it.

The conversation itself is in ``session``. Every decision is in the log before its reply leaves.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mailfleet.base.clock import Clock
from mailfleet.base.errors import InputError
from mailfleet.mail.address import Address
from mailfleet.rehearse.model import Model
from mailfleet.rehearse.play import ENGAGED_SHARE
from mailfleet.sandbox import journal
from mailfleet.sandbox.catalogue import EVERY_OTHER_DOMAIN, ProviderSpec, Words
from mailfleet.sandbox.journal import Decision, JournalWriter
from mailfleet.sandbox.manners import REASONS, SLOW_S, TRIES, Manner, manner_of
from mailfleet.sandbox.memory import Memory, digest
from mailfleet.sandbox.signatures import NOT_SEEN, Seen, SignatureCheck
from mailfleet.sandbox.spool import Place, SpoolWriter

_MESSAGE_ID = re.compile(rb"\r\nmessage-id:[ \t]*(?:\r\n[ \t]+)?(<[^>\r\n]*>)", re.IGNORECASE)
_FROM = re.compile(rb"\r\nfrom[ \t]*:", re.IGNORECASE)
_CLOSING = frozenset({421, 521})
_FULL_DISK = Words(452, "4.3.1", ("Insufficient system storage, try again later",))
_NOWHERE = Place(0, 0, 0)
_OTHERS = "others"  # of a model: whoever has no name of its own there


@dataclass(frozen=True, slots=True)
class Answer:
    """What to say, and whether the connection ends with it. ``taken``: the recipient stays in the transaction."""

    wire: bytes
    close: bool = False
    taken: bool = False


@dataclass(slots=True)
class Transaction:
    """One MAIL and what followed."""

    sender: str
    smtputf8: bool = False
    helo: str = ""
    recipients: list[tuple[Address, Manner]] = field(default_factory=list)

    @property
    def delay_s(self) -> float:
        """Wait before the reply to the message."""
        return SLOW_S if any(manner is Manner.SLOW for _, manner in self.recipients) else 0.0


@dataclass(frozen=True, slots=True)
class Desk:
    """What all providers of one sandbox share."""

    clock: Clock
    seed: int
    time_scale: float
    memory: Memory
    log: JournalWriter
    spool: SpoolWriter
    signatures: SignatureCheck
    provider_of_domain: Mapping[str, str]
    model_from_h: float = 0.0  # when its first day began
    model: Model | None = None  # of a rehearsal: then it decides what a source may send

    def record(self, decisions: list[Decision]) -> None:
        """Write, then remember. Raises ``OSError`` when the disk is full."""
        self.log.append(decisions)
        self.memory.apply(decisions)


class Provider:
    """One provider. Its sessions ask it everything that needs more than the conversation."""

    def __init__(self, spec: ProviderSpec, desk: Desk) -> None:
        self.spec = spec
        self.open_connections = 0
        self._desk = desk
        self._serial = 0
        self._arrivals_ms: deque[int] = deque()
        self._window_ms = 60_000 / desk.time_scale
        self._takes_the_rest = any(EVERY_OTHER_DOMAIN in domains for _, domains in spec.mx)

    def words(self, key: str, **values: object) -> bytes:
        """One of the provider's replies, filled in."""
        values.setdefault("client", "")
        return self.spec.words[key].encode(host=self.spec.host, id=self._next_id(), **values)

    def turned_away(self, client: str, reason: str) -> bytes:
        """Record that a connection is refused or ended for ``reason`` and say so: 421, and the connection closes."""
        words = self.spec.words[reason]
        now_ms = self._desk.clock.now_ms()
        decision = Decision(
            now_ms, self.spec.name, client, "", "", "", journal.CONNECTION, words.code, words.enhanced, reason
        )
        try:
            self._desk.record([decision])
        except OSError:
            return _FULL_DISK.encode()
        return self.words(reason, client=client)

    def refuses_connection(self, client: str) -> bytes | None:
        """The 421 for a connection over the provider's limits; counts the connection otherwise."""
        now_ms = self._desk.clock.now_ms()
        while self._arrivals_ms and now_ms - self._arrivals_ms[0] >= self._window_ms:
            self._arrivals_ms.popleft()
        if self.open_connections >= self.spec.max_connections:
            return self.turned_away(client, "connections")
        if len(self._arrivals_ms) >= self.spec.connections_per_minute:
            return self.turned_away(client, "connection-rate")
        self._arrivals_ms.append(now_ms)
        self.open_connections += 1
        return None

    def recipient(self, transaction: Transaction, path: str, client: str) -> Answer:
        """The answer to RCPT; a taken recipient is added to the transaction."""
        try:
            address = Address.parse(path)
        except InputError:
            return Answer(Words(553, "5.1.3", ("The recipient address is not a valid RFC 5321 address",)).encode())
        if address.needs_smtputf8 and not transaction.smtputf8:
            return Answer(Words(553, "5.6.7", ("Non-ASCII addresses need SMTPUTF8",)).encode())  # RFC 6531 3.5
        owner = self._desk.provider_of_domain.get(address.domain)
        if owner != self.spec.name and not (owner is None and self._takes_the_rest):
            return self._refuse_recipient(transaction, address, "relay", "relay-denied", client)
        manner = manner_of(address, self.spec.name, self._desk.seed, self.spec.rates)
        if manner in REASONS and manner not in self.spec.late and self._stands_at_rcpt(manner, transaction, address):
            return self._refuse_recipient(transaction, address, manner, REASONS[manner], client)
        transaction.recipients.append((address, manner))
        return Answer(b"", taken=True)

    def drops(self, transaction: Transaction, client: str) -> bool:
        """Whether the connection breaks off in the middle of this message; records it for all its recipients."""
        victims = any(
            manner is Manner.DROP and self._desk.memory.put_off(manner, str(address))
            for address, manner in transaction.recipients
        )
        if not victims:
            return False
        reason = REASONS[Manner.DROP]
        self._record_quietly(self._decisions(transaction, client, reason, Words(0, "", ())))
        return True

    def message(self, transaction: Transaction, message: bytes, client: str) -> Answer:
        """The answer to the whole message. One reply serves all its recipients, so the strictest manner decides."""
        head = b"\r\n" + message[: message.find(b"\r\n\r\n") + 2 or len(message)]
        found = _MESSAGE_ID.search(head)
        # A message without Message-ID is known by its bytes.
        message_id = found[1].decode("utf-8", "replace") if found else f"<{digest(message.hex()):016x}@no-message-id>"
        key, reason = self._fault(transaction, message, head)
        seen = self._desk.signatures.check(message, head, self._desk.clock.now_ms())
        words = self.spec.words[key]
        place = _NOWHERE
        refused = self._model_refuses(client) if key == "accepted" else ""
        if refused:
            return self._refuse_by_model(transaction, client, message_id, seen, refused)
        try:
            if key == "accepted":
                place = self._desk.spool.append(message)
            decisions = self._decisions(
                transaction, client, reason, words, message_id=message_id, seen=seen, place=place
            )
            self._desk.record(decisions)
        except OSError:
            return Answer(_FULL_DISK.encode())
        recipient = next((a for a, m in transaction.recipients if m == key), transaction.recipients[0][0])
        wire = self.words(
            key,
            client=client,
            recipient=_printable(recipient, transaction),
            domain=recipient.domain,
            message_id=message_id,
            size=len(message),
        )
        return Answer(wire, close=words.code in _CLOSING)

    def _model_refuses(self, client: str) -> str:
        """What the model answers to one message from an address; empty when it takes it, or there is none."""
        model = self._desk.model
        if model is None:
            return ""
        name = self.spec.name if self.spec.name in model.providers else _OTHERS
        if name not in model.providers:
            return ""
        hours = self._desk.clock.now_ms() * self._desk.time_scale / 3_600_000
        replies = model.offer(hours - self._desk.model_from_h, client, name, 1, ENGAGED_SHARE).replies
        return next((words for words in replies if words), "")

    def _refuse_by_model(self, transaction: Transaction, client: str, message_id: str, seen: Seen, text: str) -> Answer:
        words = Words.parse(text.replace("{", "(").replace("}", ")"))
        decisions = self._decisions(transaction, client, "model", words, message_id=message_id, seen=seen)
        try:
            self._desk.record(decisions)
        except OSError:
            return Answer(_FULL_DISK.encode())
        return Answer(words.encode(), close=words.code in _CLOSING)

    def too_large(self, transaction: Transaction, client: str) -> Answer:
        """The answer to a message over the provider's limit, whether announced by SIZE or found out."""
        words = self.spec.words["too-large"]
        if transaction.recipients:
            self._record_quietly(self._decisions(transaction, client, "message-too-large", words))
        return Answer(self.words("too-large", client=client))

    def _stands_at_rcpt(self, manner: Manner, transaction: Transaction, address: Address) -> bool:
        if manner in (Manner.SPAM, Manner.DROP):
            return False
        if manner is Manner.GREY:
            now_ms = self._desk.clock.now_ms()
            return self._desk.memory.greylisted(transaction.sender, str(address), now_ms)
        return manner not in TRIES or self._desk.memory.put_off(manner, str(address))

    def _refuse_recipient(
        self, transaction: Transaction, address: Address, key: str, reason: str, client: str
    ) -> Answer:
        words = self.spec.words[key]
        alone = replace(transaction, recipients=[(address, Manner.OK)])
        try:
            self._desk.record(self._decisions(alone, client, reason, words, phase=journal.ENVELOPE))
        except OSError:
            return Answer(_FULL_DISK.encode())
        wire = self.words(key, client=client, recipient=_printable(address, transaction), domain=address.domain)
        return Answer(wire, close=words.code in _CLOSING)

    def _fault(self, transaction: Transaction, message: bytes, head: bytes) -> tuple[str, str]:
        """Words and reason for the message; ``accepted`` when nothing is wrong with it."""
        newlines = message.count(b"\n")
        if newlines != message.count(b"\r\n") or newlines != message.count(b"\r") or b"\0" in message:
            return "bare-newline", "bare-newline"  # RFC 5321 2.3.8
        if not _FROM.search(head):
            return "malformed", "malformed"  # RFC 5322 3.6
        for _, manner in transaction.recipients:
            if manner is Manner.SPAM or manner in self.spec.late:
                return manner, REASONS[manner]
        return "accepted", ""

    def _decisions(
        self,
        transaction: Transaction,
        client: str,
        reason: str,
        words: Words,
        *,
        message_id: str = "",
        phase: str = journal.MESSAGE,
        seen: Seen = NOT_SEEN,
        place: Place = _NOWHERE,
    ) -> list[Decision]:
        now_ms = self._desk.clock.now_ms()
        made = []
        for address, _ in transaction.recipients:
            one = Decision(
                now_ms,
                self.spec.name,
                client,
                transaction.sender,
                str(address),
                message_id,
                phase,
                words.code,
                words.enhanced,
                reason,
                signature=seen.signature,
                segment=place.segment,
                offset=place.offset,
                length=place.length,
                header_from=seen.header_from,
                dkim=seen.dkim,
                helo="" if transaction.sender else transaction.helo,
            )
            made.append(one._replace(repeat=True) if self._desk.memory.settled(one) else one)
        return made

    def _record_quietly(self, decisions: list[Decision]) -> None:
        """For endings that leave the client to try again anyway: a full disk changes nothing about them."""
        try:
            self._desk.record(decisions)
        except OSError:
            return

    def _next_id(self) -> str:
        self._serial += 1
        return f"{self._desk.clock.now_ms():x}{self._serial:06x}"


def _printable(address: Address, transaction: Transaction) -> str:
    """The address as it may stand in a reply: in full under SMTPUTF8, else ASCII (RFC 6531 3.7.4.1)."""
    text = str(address)
    return text if transaction.smtputf8 else text.encode("ascii", "backslashreplace").decode("ascii")
