"""What is made of what is known about a domain beside its planned records: its own SPF, replies, names of hosts, DNSSEC. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from mailfleet.mail import dmarc as dmarc_rules
from mailfleet.mail.spf import SpfResult
from mailfleet.policy.caa import Caa, Issuer, issuers, lets_in, not_understood, shuts_out, value
from mailfleet.policy.dns_checks import DIFFER, Check, Heard, differ

NO_ANSWER = "the DNS gives no answer"
LATER = "see that the domain's name servers answer, and that this machine reaches them; then check again"
Records = Collection[str] | None
"""None: no server answers."""


def either(published: Check, evaluated: Check) -> Check:
    """The record that was planned, and what receivers make of what is there: another that does the same is as good.

    Not where servers differ: what was evaluated is what one of them says.
    """
    if published.meaning.startswith(DIFFER):
        return published
    if published.state == "failed" and evaluated.state == "failed":
        return replace(published, meaning=f"{published.meaning}; {evaluated.meaning}")
    if published.state in ("ok", "warning") and evaluated.state == "ok":
        return published
    return evaluated if published.state != "unknown" else published


def spf_from(result: SpfResult, there: str, ours: str) -> Check:
    """Of the domain's own SPF record; advice only, since receivers look at the return-path."""
    found, expected = there or "nothing", ours or "a record that can be read"
    if result.verdict == "temperror":
        return Check("spf-from", "unknown", result.why, expected, NO_ANSWER, LATER)
    if result.verdict == "permerror":
        meaning = f"the domain's own SPF record is broken: {result.why}"
        step = "mend it: receivers treat it as an error"
        if there == ours:
            step = "this record is right: mend the one that it includes"
        elif " | " in there:
            step = "keep one SPF record: put the mechanisms of the others into it and remove them"
        return Check("spf-from", "warning", found, expected, meaning, step)
    if there == ours:
        return Check("spf-from", "ok", found, expected, "the domain's own SPF names our senders too")
    meaning = "receivers judge the return-path, which has a record of its own; tools and people look here too"
    return Check("spf-from", "warning", found, expected, meaning, "publish it, exactly as expected")


def replies(mail_hosts: Records, addresses: Records, words: str) -> Check:
    """Whether people can reply to From."""
    expected = "an MX record, or an address"
    step = "publish MX records of whoever takes its mail"
    found = mail_hosts or addresses
    if found and list(found) == ["0 ."]:
        meaning = (
            "the domain says that it takes no mail: replies and complaints to From are lost, and some receivers refuse"
        )
        return Check("replies", "warning", "0 .", expected, meaning, step)
    if found:
        return Check("replies", "ok", " | ".join(found), expected, "people can reply to From")
    if mail_hosts is None and addresses is None:
        return Check("replies", "unknown", words, expected, NO_ANSWER, LATER)
    meaning = "nobody can reply to From, and some receivers refuse mail from such a domain"
    return Check("replies", "warning", "nothing", expected, meaning, step)


def dnssec(trust: str) -> Check:
    """What a validating resolver thinks: ``secure``, ``insecure``, ``bogus`` or ``unknown``."""
    expected = "no answer is forged or expired"
    if trust == "bogus":
        meaning = "DNSSEC of the zone is broken: receivers that validate see nothing at all"
        return Check("dnssec", "failed", trust, expected, meaning, "sign the zone again, or take its DS record away")
    if trust == "unknown":
        return Check("dnssec", "unknown", trust, expected, "the resolver does not say", "")
    meaning = "the zone is signed and valid" if trust == "secure" else "the zone is not signed, which is allowed"
    return Check("dnssec", "ok", trust, expected, meaning)


def host(name: str, host_name: str, wanted: Sequence[str], four: Records, six: Records, words: str) -> Check:
    """A host name must lead to an address; to the ``wanted`` ones, if any. Addresses are in their one canonical form."""
    there = {*(four or ()), *(six or ())}
    expected = f"{host_name} A/AAAA {' '.join(wanted) or 'of this server'}"
    found = " | ".join(sorted(there)) or "nothing"
    if set(wanted) <= there and there:
        return Check(name, "ok", found, expected, "the EHLO name leads to the address that says it")
    if four is None and six is None:
        return Check(name, "unknown", words, expected, NO_ANSWER, LATER)
    meaning = "the name does not lead to the address: receivers distrust it"
    if not there:
        meaning = "the name leads nowhere: receivers distrust whoever says it"
    kinds = [f"{'AAAA' if ':' in one else 'A'} record {one}" for one in wanted if one not in there]
    step = (
        f"publish at {host_name} the {', '.join(kinds)}" if kinds else f"publish the address of {host_name} (A, AAAA)"
    )
    return Check(name, "failed", found, expected, meaning, step)


def nowhere(host: Check, pointer: str, ehlo_name: str) -> list[Check]:
    """Of a source that is known by its EHLO name only, where that leads to no public address: of the name, and of the address."""
    step = f"publish the address that the world sees at {ehlo_name} (A, AAAA)"
    if host.state == "ok":
        meaning = (
            "the name leads to no public address: receivers distrust it, unless they see another DNS than this server"
        )
        host = replace(host, state="warning", meaning=meaning, next_step=step)
    why = "the source is known by its EHLO name only, and that leads to no public address"
    return [host, Check(pointer, "unknown", "", ehlo_name, why, step)]


def pointer(name: str, ehlo_name: str, names: Records, servers: tuple[str, ...], words: str) -> Check:
    """The name of an address must be the one that it says in EHLO."""
    if names is None:
        return Check(name, "unknown", words or "no server answers", ehlo_name, NO_ANSWER, LATER, servers)
    found = " | ".join(names) or "nothing"
    if ehlo_name.lower() in names:
        return Check(name, "ok", found, ehlo_name, "the address has the name that it says in EHLO", "", servers)
    meaning = "the address has another name than it says in EHLO"
    if not names:
        meaning = "the address has no name: Gmail and others refuse its mail"
    step = f"have whoever owns the address set its PTR record to {ehlo_name}, or change the EHLO name"
    return Check(name, "failed", found, ehlo_name, meaning, step, servers)


def caa(found: Sequence[Caa], authority: Issuer, places: Sequence[str]) -> Check:
    """Whether our authority may make certificates for every host; ``places``: where the record that lets it in belongs, for each.

    What is said is of the host that is worst off.
    """
    each = [_caa_of(one, authority, where) for one, where in zip(found, places, strict=True)]
    return max(each, key=lambda one: ("ok", "unknown", "failed").index(one.state))


def _caa_of(one: Caa, authority: Issuer, where: str) -> Check:
    every = list(dict.fromkeys(text for _, records in one.seen for text in records))
    record = f"{where or one.host} CAA {value(authority, every) or value(authority)}"
    if one.unknown and not one.seen:
        return Check("caa", "unknown", one.unknown, record, NO_ANSWER, LATER)
    if not one.seen:
        meaning = f"no CAA records speak for {one.host}: any authority may make certificates for it"
        return Check("caa", "ok", "nothing", f"nothing, or {authority.name} among those who may issue", meaning)
    servers = tuple(f"{server}: {' | '.join(records) or 'nothing'}" for server, records in one.seen if server)
    found = f"{one.seen_at}: {' | '.join(every)}"
    shut = [server for server, records in one.seen if not lets_in(records, authority)]
    if not shut:
        meaning = f"our authority may make certificates for {one.host}"
        return Check("caa", "ok", found, record, meaning, "", servers)
    if len(shut) < len(one.seen) and lets_in(every, authority):
        return differ(Check("caa", "failed", found, record, ""), [Heard(*said) for said in one.seen], shut)
    if why := shuts_out(every, authority):
        return _shut_out(Check("caa", "failed", found, record, "", "", servers), one, authority, why)
    who = ", ".join(dict.fromkeys(each.name for each in issuers(every) if each.name)) or "nobody"
    meaning = (
        f"CAA records at {one.seen_at} let {who} make certificates for {one.host}: ours ({authority.name}) will refuse"
    )
    beside = f", beside the records that are there for {one.seen_at}" if where == one.seen_at else ""
    return Check("caa", "failed", found, record, meaning, f"add {record}{beside}", servers)


def _shut_out(check: Check, one: Caa, authority: Issuer, why: Sequence[str]) -> Check:
    """Where our authority is named, and may not all the same."""
    meaning = (
        f"CAA records at {one.seen_at} keep {authority.name} from making certificates for {one.host}: {'; '.join(why)}"
    )
    if not_understood([text for _, records in one.seen for text in records]):
        return replace(check, meaning=meaning, next_step="take that record away, or its critical flag (128)")
    ours = f"our account is {authority.account}" if authority.account else "we have no account there yet"
    proved = f", and hosts are proved by {', '.join(authority.methods)} (acme.challenge)" if authority.methods else ""
    step = f"{ours}{proved}: change the record's terms, or add {check.expected} beside it"
    return replace(
        check, meaning=meaning, next_step=step if authority.account else f"{ours}: look again when there is one"
    )


def alignment(domain: str, return_path_host: str) -> Check:
    """Whether SPF of the return-path counts for the domain in From (RFC 7489 3.1)."""
    expected = f"under {dmarc_rules.organizational_domain(domain)}"
    if dmarc_rules.aligned(return_path_host, domain, "r"):
        meaning = "return-path and signature stand for the domain in From"
        return Check("alignment", "ok", return_path_host, expected, meaning)
    meaning = "the return-path does not stand for From: SPF does not count for DMARC"
    step = "choose a return-path host below the domain"
    return Check("alignment", "failed", return_path_host, expected, meaning, step)
