"""What is made of what the DNS holds for the install itself: right, wrong, or not known; what it means, what to do. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mailfleet.mail.spf import SpfResult
from mailfleet.policy import dns_checks
from mailfleet.policy.certificates import State as Life
from mailfleet.policy.dns_checks import Check, Heard
from mailfleet.policy.dns_plan import Wanted
from mailfleet.policy.server_plan import tlsa_value

PUBLISH = "publish the records as planned: mailfleet server publish"


def helo_spf(wanted: Wanted, results: Sequence[tuple[str, SpfResult]]) -> Check:
    """SPF of an EHLO name as receivers evaluate it (RFC 7208 2.3), for each address that says it: ``(source, result)``."""
    check = dns_checks.return_path_spf(wanted.check, results, wanted.name)
    if not results:
        return replace(check, meaning=f"no address of {wanted.name} is known, so nothing can be evaluated")
    bad = next(((source, one) for source, one in results if one.verdict != "pass"), None)
    if bad is None:
        return replace(check, meaning=f"{wanted.name} lets every address pass that says it in EHLO")
    source, worst = bad
    meaning = f"{source} says {wanted.name} in EHLO and gets {worst.verdict}: {worst.why}"
    return replace(check, meaning=meaning, next_step=PUBLISH if check.state == "failed" else "check again")


def tlsa(name: str, planned: Check | None, heard: Sequence[Heard], shown: str, why_not: str) -> Check:
    """Of one port. ``planned``: the look at the record of the key in use, where there is to be one. ``shown``: the key that the
    port shows, empty where nobody answers. ``why_not``: why there is to be none.

    Records of others than the key itself (``3 1 1``) are not judged.
    """
    answers = [set(one.records) for one in heard if one.records is not None]
    there = sorted(set().union(*answers))
    found = " | ".join(there) or "nothing"
    expected = planned.expected if planned is not None else "no TLSA record"
    servers = planned.servers if planned is not None else ()
    only_keys = bool(there) and all(text.startswith("3 1 1 ") for text in there)
    if shown and only_keys and not all(tlsa_value(shown) in one for one in answers if one):
        meaning = f"another key is shown than the DNS names ({shown}): senders that use DANE send nothing here"
        return Check(name, "failed", found, expected, meaning, PUBLISH, servers)
    if planned is None:
        if there and not shown:
            meaning = f"a key is named that nobody can be seen to show; and {why_not}"
            return Check(name, "warning", found, expected, meaning, "take the record out, if it is not meant")
        return Check(name, "ok", found, expected, why_not)
    if planned.state == "failed" and not there:
        meaning = "no key is named: senders that use DANE send as to everybody else, without proof"
        return replace(planned, name=name, state="warning", meaning=meaning, next_step=PUBLISH)
    if planned.state == "ok" and not shown:
        meaning = "the key is named; nobody answers at the port from here, so what is shown there is not known"
        return replace(planned, name=name, meaning=meaning)
    return replace(planned, name=name)


def next_key(planned: Check) -> Check:
    """Of the record of a key that is shown later: nothing is wrong while it is missing, the key only waits."""
    if planned.state != "failed":
        return planned
    meaning = "the next key waits until every name server names it"
    return replace(planned, state="warning", meaning=meaning, next_step=PUBLISH)


def certificate(source: str, life: Life, until: str, problem: str) -> Check:
    """Of the server's own name. ``source`` as the certificates have it; ``until``: its end, for people."""
    found = f"until {until}" if until else "none"
    found += f" ({problem})" if problem else ""
    check = Check("certificate", "ok", found, "a certificate that others trust", "clients can be sure of this server")
    if source == "makeshift":
        meaning = "a self-signed certificate is shown, which no client trusts by itself"
        step = "let an authority make one (acme.directory), or import yours: mailfleet certificate import"
        return replace(check, state="warning", found="self-signed", meaning=meaning, next_step=step)
    step = "see why: mailfleet certificate list" if source != "file" else "renew it with the program that made it"
    if life == "expired":
        meaning = "the certificate has ended: clients refuse to connect"
        return replace(check, state="failed", meaning=meaning, next_step=step)
    if life == "expiring":
        meaning = "the certificate ends soon and was not renewed in time"
        return replace(check, state="warning", meaning=meaning, next_step=step)
    if life == "waiting":
        return replace(check, state="warning", meaning="there is no certificate yet", next_step=step)
    return check
