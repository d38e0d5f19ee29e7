"""Which DMARC reports go with a sending domain that is removed, and what of them stays for the others. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from mailfleet.mail.address import is_within
from mailfleet.mail.dmarc import organizational_domain


def stays_for(policy_domain: str, removed: str, others: Sequence[str]) -> tuple[str, ...] | None:
    """Of reports on a domain's policy: the sending domains whose messages stay in them; none: they go; None: all of it stays.

    Reports are the nearest sending domain's at or above ``policy_domain``. Those on a policy above all of these are of every one
    below, which they hold for; and of the last one of an organization is whatever is left of it.
    """
    home = organizational_domain(removed)
    if organizational_domain(policy_domain) != home:
        return None
    left = [one for one in others if organizational_domain(one) == home]
    above = [one for one in (removed, *left) if is_within(policy_domain, one)]
    if above and left and max(above, key=len) != removed:
        return None
    below = tuple(one for one in left if is_within(one, policy_domain))
    if not above and left and not is_within(removed, policy_domain):
        return None
    return below
