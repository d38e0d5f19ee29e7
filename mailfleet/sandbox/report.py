"""What the simulated providers did, added up from their log alone: works while the sandbox runs and afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from mailfleet.sandbox import catalogue, journal
from mailfleet.sandbox.journal import Decision
from mailfleet.sandbox.memory import delivery_digest, digest
from mailfleet.sandbox.signatures import ABSENT, BAD

Final = Literal["accepted", "refused", "deferred"]
_FINALS: tuple[Final, ...] = ("accepted", "refused", "deferred")
_ACCEPTED, _REFUSED, _DEFERRED = range(3)


class _Tally:
    """Counts of one provider, or of all."""

    def __init__(self) -> None:
        self.accepted = self.repeats = self.repeated_refusals = self.bad_signatures = 0
        self.refused: Counter[str] = Counter()
        self.deferred: Counter[str] = Counter()
        self.turned_away: Counter[str] = Counter()

    def add(self, one: Decision) -> None:
        if one.phase == journal.CONNECTION:
            self.turned_away[one.reason] += 1
        elif one.accepted:
            self.accepted += not one.repeat
            self.repeats += one.repeat
        elif one.refused:
            self.refused[one.reason] += not one.repeat
            self.repeated_refusals += one.repeat
        else:
            self.deferred[one.reason] += 1
        self.bad_signatures += one.signature in (BAD, ABSENT)

    def shown(self) -> dict[str, Any]:
        return {
            "accepted": self.accepted,
            "refused": dict(sorted(self.refused.items())),
            "deferred": dict(sorted(self.deferred.items())),
            "repeats": self.repeats,
            "repeated_refusals": self.repeated_refusals,
            "bad_signatures": self.bad_signatures,
            "turned_away": dict(sorted(self.turned_away.items())),
        }


def report(data_dir: Path) -> dict[str, Any]:
    """``{"providers": {name: counts}, "totals": counts}``, every provider present.

    ``accepted`` counts deliveries (Message-ID and recipient), ``repeats`` the acceptances beyond the first. ``refused`` counts by
    reason the deliveries refused for good, ``repeated_refusals`` those beyond the first of a delivery; one refused at RCPT is
    known by reverse-path and recipient. ``deferred`` counts replies, not deliveries. ``bad_signatures`` counts deliveries whose
    message came whole and had no valid DKIM signature. ``turned_away`` counts connections.
    """
    tallies = {spec.name: _Tally() for spec in catalogue.load()}
    totals = _Tally()
    for _, one in journal.read(data_dir):
        tallies[one.provider].add(one)
        totals.add(one)
    return {"providers": {name: tally.shown() for name, tally in tallies.items()}, "totals": totals.shown()}


def outcomes(data_dir: Path) -> Iterator[tuple[str, str, Final]]:
    """Every delivery with its last outcome: recipient, Message-ID, final. In order of the decision that settled it.

    The Message-ID is empty for a delivery that was never let past RCPT. Such a delivery is known by reverse-path and recipient,
    so two of them with the same reverse-path to the same recipient show as one. Memory: about 150 bytes a delivery.
    """
    last: dict[int, int] = {}
    for offset, one in journal.read(data_dir):
        if one.phase == journal.CONNECTION:
            continue
        final = _ACCEPTED if one.accepted else _REFUSED if one.refused else _DEFERRED
        envelope = digest(f"envelope\0{one.sender}\0{one.recipient.casefold()}")
        if one.message_id:
            key = delivery_digest(one.message_id, one.recipient)
            if last.get(envelope, 0) % 4 == _DEFERRED:
                last.pop(envelope, None)  # it was this delivery that had been put off
        else:
            key = envelope
        before = last.get(key)
        if before is None or before % 4 > final:
            last[key] = offset * 4 + final
    settled = set(last.values())
    del last
    for offset, one in journal.read(data_dir):
        for final, word in enumerate(_FINALS):
            if offset * 4 + final in settled:
                yield one.recipient, one.message_id, word
