"""The bounce classes: the words in which every refusal is counted, shown and acted upon. A table, nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from mailfleet.policy.outcome import Action, Fault


@dataclass(frozen=True, slots=True)
class BounceClass:
    """One class.

    ``action`` is what a 5yz reply of this class leads to (a 4yz is deferred whatever its class). With DEFER the remote's
    "permanent" is taken as temporary for ``tries`` attempts and a day, then it bounces. ``suppress``: the address must not be mailed
    again after a 5yz about the recipient. ``other_source``: the next attempt should leave from another source.
    """

    name: str
    meaning: str
    fault: Fault
    action: Action = Action.BOUNCE
    suppress: bool = False
    tries: int = 1
    other_source: bool = False


_F = Fault
_DEFER = Action.DEFER

_TABLE = (
    BounceClass("none", "The remote has taken the message.", _F.NONE, Action.DELIVER),
    BounceClass("unknown-user", "There is no such mailbox.", _F.RECIPIENT, suppress=True),
    BounceClass("mailbox-disabled", "The mailbox exists but is closed for good.", _F.RECIPIENT, suppress=True),
    BounceClass("mailbox-full", "The mailbox is over its quota.", _F.RECIPIENT),
    BounceClass("mailbox-busy", "The mailbox takes no more mail at this moment.", _F.RECIPIENT, _DEFER, tries=8),
    BounceClass(
        "recipient-rejected",
        "The site refuses this recipient from us without saying that the mailbox is unknown.",
        _F.RECIPIENT,
    ),
    BounceClass("no-such-domain", "The recipient's domain does not exist.", _F.RECIPIENT),
    BounceClass("no-mail-host", "The recipient's domain takes no mail.", _F.RECIPIENT),
    BounceClass("bad-address-syntax", "The remote cannot read the recipient's address.", _F.RECIPIENT),
    BounceClass("challenge", "The recipient's system wants the sender confirmed by hand first.", _F.RECIPIENT),
    BounceClass("relay-denied", "The host that the MX names does not take mail for this domain.", _F.SITE),
    BounceClass(
        "ip-reputation",
        "What the remote thinks of the source's IP address.",
        _F.SOURCE,
        _DEFER,
        tries=3,
        other_source=True,
    ),
    BounceClass(
        "ip-blocklisted",
        "The source's IP address is on a block list that the remote uses.",
        _F.SOURCE,
        _DEFER,
        tries=3,
        other_source=True,
    ),
    BounceClass("ptr", "The source's reverse DNS or EHLO name is missing or wrong.", _F.SOURCE, other_source=True),
    BounceClass("rate-limited", "More mail than the remote wants from us in this time.", _F.SOURCE, _DEFER, tries=8),
    BounceClass("too-many-connections", "More connections than the remote allows.", _F.SOURCE, _DEFER, tries=8),
    BounceClass("greylisted", "The remote asks an unknown sender to come back later.", _F.SITE, _DEFER, tries=8),
    BounceClass("domain-reputation", "What the remote thinks of the sending domain or of a linked one.", _F.US),
    BounceClass("authentication", "SPF, DKIM or DMARC did not pass.", _F.US),
    BounceClass("sender-rejected", "The reverse-path or From address is refused.", _F.US),
    BounceClass("content-spam", "The remote takes the message for spam.", _F.CONTENT),
    BounceClass("content-virus", "The remote found malware, phishing or a bad link.", _F.CONTENT),
    BounceClass("content-rejected", "A header field, attachment or form of the message is refused.", _F.CONTENT),
    BounceClass("message-too-large", "The message is larger than the remote takes.", _F.CONTENT),
    BounceClass("policy", "The remote's own rules forbid it, and it does not say which.", _F.SITE),
    BounceClass("tls-required", "TLS that one side demands could not be had.", _F.SITE),
    BounceClass("unsupported", "The remote lacks an extension that the message needs.", _F.SITE),
    BounceClass("protocol", "One side did not follow SMTP.", _F.SITE),
    BounceClass("dns", "A DNS or routing lookup failed, here or at the remote.", _F.SITE),
    BounceClass("connection", "The remote could not be reached, or the connection broke.", _F.SITE),
    BounceClass("remote-down", "The remote has a fault of its own.", _F.SITE),
    BounceClass("out-of-storage", "The remote has no disk space left.", _F.SITE, _DEFER, tries=8),
    BounceClass("loop", "The message goes round in circles at the remote.", _F.SITE),
    BounceClass("render", "We could not make the message: template or key.", _F.US),
    BounceClass("undetermined", "The remote gave no reason that could be understood.", _F.SITE),
)

BOUNCE_CLASSES: dict[str, BounceClass] = {one.name: one for one in _TABLE}
"""Every class by its name."""
