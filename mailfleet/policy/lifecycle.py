"""The life of a delivery: its states, the legal moves between them, and the event that each move writes.

This is the one table. A state and its event are committed together, so that the events alone tell the whole story; a
move that is not in the table is a bug. Leasing writes no event: it happens to every delivery, means nothing to people,
and the attempt that follows says more.

Pausing or cancelling a campaign touches no delivery: a million rows would have to change, and change back. Its flow
(the campaign's side of the queue) carries the state, claims skip flows that do not run, and what people are shown for a
queued delivery is derived by ``effective_state``. The stored state PAUSED is only for one delivery that a person holds.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum


class DeliveryState(IntEnum):
    """States as they are stored: the numbers never change, a new state takes a new number."""

    QUEUED = 1
    LEASED = 2
    DELIVERED = 3
    BOUNCED = 4
    EXPIRED = 5
    CANCELLED = 6
    SUPPRESSED = 7
    PAUSED = 8

    @property
    def word(self) -> str:
        """The name in API, CLI and pages: ``queued``."""
        return self.name.lower()

    @property
    def final(self) -> bool:
        """Nothing more will be tried."""
        return self in _FINAL


class FlowState(IntEnum):
    """States of a flow, as stored. Deliveries of a flow are claimed only while it is ACTIVE."""

    LOADING = 1  # recipients are still being added
    ACTIVE = 2
    PAUSED = 3
    CANCELLED = 4


class EventKind(StrEnum):
    """Everything that can be told of a delivery, a campaign or an address. Logs, webhooks and charts know no other words."""

    ACCEPTED = "accepted"
    DEFERRED = "deferred"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    EXPIRED = "expired"
    SUPPRESSED = "suppressed"
    CANCELLED = "cancelled"
    PAUSED = "paused"
    RESUMED = "resumed"
    LEASE_RELEASED = "lease_released"  # claimed but not tried: the claimer died, or handed it back
    REPEAT_POSSIBLE = "repeat_possible"  # the claimer died while the message was on the wire; it is tried again
    DSN_SENT = "dsn_sent"
    SUPPRESSION_ADDED = "suppression_added"
    SUPPRESSION_REMOVED = "suppression_removed"
    CAMPAIGN_CREATED = "campaign_created"
    CAMPAIGN_STARTED = "campaign_started"
    CAMPAIGN_PAUSED = "campaign_paused"
    CAMPAIGN_RESUMED = "campaign_resumed"
    CAMPAIGN_CANCELLED = "campaign_cancelled"
    CAMPAIGN_FINISHED = "campaign_finished"
    BRAKE_ON = "brake_on"  # mail is held back, or more or less of it
    BRAKE_OFF = "brake_off"
    EGRESS_CHANGED = "egress_changed"  # a source, relay or pool was added, changed, paused, resumed, drained or retired
    WARMUP_MOVED = "warmup_moved"
    LISTING_OPENED = "listing_opened"  # on a block list
    LISTING_CLOSED = "listing_closed"
    COMPLAINED = "complained"
    DOMAIN_CHANGED = "domain_changed"  # a check of a sending domain's DNS stands otherwise than before
    SERVER_CHANGED = (
        "server_changed"  # a check of what the DNS holds for the install itself stands otherwise than before
    )
    KEY_CHANGED = "key_changed"  # a DKIM key was made, signs, was put aside or is gone


_S = DeliveryState
_E = EventKind
_FINAL = frozenset({_S.DELIVERED, _S.BOUNCED, _S.EXPIRED, _S.CANCELLED, _S.SUPPRESSED})

SILENT_MOVES = frozenset({(_S.QUEUED, _S.LEASED)})

MOVES: dict[tuple[DeliveryState | None, DeliveryState], EventKind] = {
    # Birth. An address that is suppressed still gets its row, so that every recipient is accounted for.
    (None, _S.QUEUED): _E.ACCEPTED,
    (None, _S.SUPPRESSED): _E.SUPPRESSED,
    # From the queue. Outcomes without a lease: the domain does not exist or cannot be looked up (found while locating the
    # site), or a journal is replayed after the lease has run out.
    (_S.QUEUED, _S.QUEUED): _E.DEFERRED,
    (_S.QUEUED, _S.DELIVERED): _E.DELIVERED,
    (_S.QUEUED, _S.BOUNCED): _E.BOUNCED,
    (_S.QUEUED, _S.EXPIRED): _E.EXPIRED,
    (_S.QUEUED, _S.CANCELLED): _E.CANCELLED,
    (_S.QUEUED, _S.SUPPRESSED): _E.SUPPRESSED,
    (_S.QUEUED, _S.PAUSED): _E.PAUSED,
    # After an attempt.
    (_S.LEASED, _S.QUEUED): _E.DEFERRED,
    (_S.LEASED, _S.DELIVERED): _E.DELIVERED,
    (_S.LEASED, _S.BOUNCED): _E.BOUNCED,
    (_S.LEASED, _S.EXPIRED): _E.EXPIRED,
    # Found at the last look before the wire.
    (_S.LEASED, _S.CANCELLED): _E.CANCELLED,
    (_S.LEASED, _S.SUPPRESSED): _E.SUPPRESSED,
    # Held by a person.
    (_S.PAUSED, _S.QUEUED): _E.RESUMED,
    (_S.PAUSED, _S.CANCELLED): _E.CANCELLED,
    (_S.PAUSED, _S.SUPPRESSED): _E.SUPPRESSED,
    (_S.PAUSED, _S.EXPIRED): _E.EXPIRED,
    (_S.PAUSED, _S.DELIVERED): _E.DELIVERED,
    # A replayed journal holds a 250 that was read: the remote has the message, whatever was decided meanwhile.
    (_S.EXPIRED, _S.DELIVERED): _E.DELIVERED,
    (_S.CANCELLED, _S.DELIVERED): _E.DELIVERED,
    (_S.SUPPRESSED, _S.DELIVERED): _E.DELIVERED,
    (_S.BOUNCED, _S.DELIVERED): _E.DELIVERED,
}


def move(
    from_state: DeliveryState | None, to_state: DeliveryState, *, attempted: bool = True, on_wire: bool = False
) -> EventKind:
    """The event that a move writes. ``from_state`` None is the birth of a delivery.

    A lease given back without an attempt (``attempted=False``) is LEASE_RELEASED, or REPEAT_POSSIBLE when the claimer may
    have had the message ``on_wire`` when it died. Raises ``ValueError`` on a move that is not legal, or that writes no
    event: asking is a bug.
    """
    kind = MOVES.get((from_state, to_state))
    if kind is None:
        raise ValueError(f"no event for a move from {from_state.word if from_state else 'nothing'} to {to_state.word}")
    if from_state is _S.LEASED and to_state is _S.QUEUED and not attempted:
        return _E.REPEAT_POSSIBLE if on_wire else _E.LEASE_RELEASED
    return kind


def effective_state(state: DeliveryState, flow_state: FlowState | None) -> DeliveryState:
    """The state to show: a queued delivery of a paused or cancelled flow is paused or cancelled, all others are as stored.

    ``flow_state`` None is a delivery that belongs to no flow.
    """
    if state is _S.QUEUED:
        if flow_state is FlowState.PAUSED:
            return _S.PAUSED
        if flow_state is FlowState.CANCELLED:
            return _S.CANCELLED
    return state
