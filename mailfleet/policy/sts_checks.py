"""Whether a domain's own MTA-STS policy is shown as it should be, and whether it lets its mail in. Pure."""

from __future__ import annotations

from collections.abc import Collection

from mailfleet.mail.mta_sts import MtaStsSyntaxError, StsPolicy, parse_policy
from mailfleet.policy.dns_checks import Check

HOST, HOSTS = "mta-sts-host", "mta-sts-mx"


def served(domain: str, wanted: StsPolicy, text: str | None, why: str) -> Check:
    """What somebody who sends to the domain gets over HTTPS; ``text`` None: nothing, for the reason ``why``."""
    expected = f"https://mta-sts.{domain}/.well-known/mta-sts.txt shows the policy: {wanted.mode}"
    if text is None:
        meaning = "nobody can fetch the policy: who sends to the domain goes on as if there were none"
        step = "see that the host leads here, that https.listen is reached from outside, and mailfleet certificate list"
        return Check(HOST, "failed", why, expected, meaning, step)
    try:
        found = parse_policy(text)
    except MtaStsSyntaxError as error:
        meaning = f"what is shown there is no policy: {error}"
        return Check(HOST, "failed", text[:200], expected, meaning, "take away what else answers under this host")
    shown = f"{found.mode}: {', '.join(found.mx)}"
    if (found.mode, found.mx) != (wanted.mode, wanted.mx):
        meaning = "another policy is shown than the one that is set"
        return Check(HOST, "failed", shown, expected, meaning, "see who else answers under this host")
    return Check(HOST, "ok", shown, expected, "who sends to the domain can fetch its policy")


def hosts(policy: StsPolicy, there: Collection[str] | None, words: str) -> Check:
    """Whether every mail host in the DNS is one that the policy names; ``there`` None: no server answers."""
    expected = ", ".join(policy.mx)
    if there is None:
        return Check(HOSTS, "unknown", words, expected, "the DNS gives no answer", "check again later")
    found = [text.partition(" ")[2] for text in there]
    if policy.mode == "none":
        return Check(HOSTS, "ok", ", ".join(found) or "nothing", expected, "the policy asks nothing of mail hosts")
    strange = [host for host in found if host != "." and not policy.allows(host)]  # RFC 7505: it takes no mail
    if not strange:
        return Check(HOSTS, "ok", ", ".join(found) or "nothing", expected, "the policy names every mail host")
    meaning = f"the policy does not name {', '.join(strange)}"
    if policy.mode == "enforce":
        meaning += ": mail does not go there any more"
    step = "name it: mailfleet domain set DOMAIN --mta-sts MODE, then publish"
    return Check(HOSTS, "failed" if policy.mode == "enforce" else "warning", ", ".join(found), expected, meaning, step)
