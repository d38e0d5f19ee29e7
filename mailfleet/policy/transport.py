"""How mail to a domain must be secured on its way: what the domain says (MTA-STS), and what a person demands. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from mailfleet.mail.mta_sts import StsPolicy

TlsDemand = Literal["", "testing", "required", "verified"]
"""Empty: opportunistic (RFC 7435). ``required``: never in the clear. ``verified``: with a good certificate for the host.

``testing``: as ``verified``, and where that fails as if nothing were demanded (RFC 8461 5).
"""
TlsManner = Literal["", "require", "any"]
"""How one message wants to be secured. Empty: as the recipient's domain and a person demand. ``require``: REQUIRETLS (RFC 8689).
``any``: what the recipient's domain demands is passed over (``TLS-Required: No``, RFC 8689 3; reports of RFC 8460)."""
_RANK = {"": 0, "testing": 1, "required": 2, "verified": 3}
Host = tuple[int, str]


class Secured(NamedTuple):
    """Where mail for a domain may go, and how. ``problem``: why nowhere."""

    hosts: tuple[Host, ...]
    tls: TlsDemand
    problem: str = ""


def stricter(one: TlsDemand, other: TlsDemand) -> TlsDemand:
    """Whichever demands more."""
    return max(one, other, key=lambda demand: _RANK[demand])


def secured(domain: str, hosts: Sequence[Host], policy: StsPolicy | None, own: TlsDemand) -> Secured:
    """By the domain's policy (None: it has none that holds now) and the person's own demand for it."""
    if policy is None or policy.mode != "enforce":
        testing = policy is not None and policy.mode == "testing"
        return Secured(tuple(hosts), stricter(own, "testing" if testing else ""))
    allowed = tuple(host for host in hosts if policy.allows(host[1]))
    if not allowed:
        names = ", ".join(name for _, name in hosts)
        problem = f"the MTA-STS policy of {domain} allows none of its mail hosts ({names}): its owner must mend one or the other"
        return Secured((), "verified", problem)
    return Secured(allowed, "verified")
