"""What the simulated providers say in their DMARC aggregate reports, and that it adds up."""

from __future__ import annotations

import gzip
import json
import smtplib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailfleet.mail import dkim, dmarc
from mailfleet.mail.dmarc import Discovered
from mailfleet.sandbox import catalogue, journal
from mailfleet.sandbox.dmarc_reports import DAY_S, receiver_of, write
from mailfleet.sandbox.dmarc_xml import NAMESPACE, Heading, Row, feedback
from mailfleet.sandbox.journal import Decision, JournalWriter
from mailfleet.sandbox.published import publish
from mailfleet.sandbox.report import report
from mailfleet.sandbox.signatures import author_domain, signatures_of
from tests.sandbox.conftest import ManualClock, StartSandbox, letter

BASE = "127.0.10.0"
TODAY_S = ManualClock().at_ms // 1000 // DAY_S * DAY_S
DNS = (
    ("shop.example", "v=spf1 ip4:127.0.0.1 -all"),
    ("_dmarc.shop.example", "v=DMARC1; p=reject; sp=quarantine; rua=mailto:d@shop.example"),
)


def flat(element: ElementTree.Element) -> Any:
    """Text of a leaf; else name -> content, a list for ``dkim`` of ``auth_results`` and for ``record``."""
    if not len(element):
        return element.text or ""
    found: dict[str, Any] = {}
    for child in element:
        name = child.tag.removeprefix(f"{{{NAMESPACE}}}")
        if name == "record" or (name == "dkim" and len(child)):
            found.setdefault(name, []).append(flat(child))
        else:
            assert name not in found
            found[name] = flat(child)
    return found


def read(path: str) -> Any:
    return flat(ElementTree.fromstring(gzip.decompress(Path(path).read_bytes())))


def lines(document: Any) -> list[tuple[Any, ...]]:
    """Each record: count, disposition, DKIM and SPF as aligned, From, envelope, SPF's result, results of signatures."""
    return [
        (
            int(one["row"]["count"]),
            *(one["row"]["policy_evaluated"][name] for name in ("disposition", "dkim", "spf")),
            one["identifiers"]["header_from"],
            one["identifiers"]["envelope_from"],
            one["auth_results"].get("spf", {}).get("result") if one["auth_results"] else None,
            [signature["result"] for signature in one["auth_results"].get("dkim", [])] if one["auth_results"] else [],
        )
        for one in document["record"]
    ]


def seen(
    header_from: str = "shop.example",
    sender: str = "b@shop.example",
    *,
    signed: str = "",
    code: int = 250,
    provider: str = "gmail",
    client: str = "127.0.0.1",
    at_ms: int = TODAY_S * 1000,
    helo: str = "",
    signature: str = "absent",
) -> Decision:
    return Decision(
        at_ms, provider, client, sender, "ann@gmail.com", "<1@x>", journal.MESSAGE, code, "", "", False,
        signature, header_from=header_from, dkim=signed, helo=helo,
    )  # fmt: skip


def reported(
    data: Path, *decisions: Decision, dns: tuple[tuple[str, str], ...] = DNS
) -> tuple[dict[str, Any], list[Any]]:
    """What is told, and the documents, when this was logged and published."""
    writer = JournalWriter(data)
    writer.append(list(decisions))
    writer.close()
    for name, text in dns:
        publish(data, name, "TXT", text)
    done = write(data, data / "out", BASE)
    assert sorted(one["file"] for one in done["files"]) == sorted(str(path) for path in (data / "out").iterdir())
    return done, [read(one["file"]) for one in done["files"]]


def adds_up(data: Path, done: dict[str, Any]) -> bool:
    """Whether every accepted and refused delivery of the other report is in this one, or is said not to be."""
    totals, left_out = report(data)["totals"], done["left_out"]
    counted = totals["accepted"] + totals["repeats"] + sum(totals["refused"].values()) + totals["repeated_refusals"]
    missing = sum(left_out["no_policy"].values()) + left_out["no_domain"] + left_out["not_seen"]
    return bool(counted == done["messages"] + missing)


def test_a_running_sandbox_reports_what_it_was_sent(start_sandbox: StartSandbox, tmp_path: Path) -> None:
    clock = ManualClock()
    running = start_sandbox(clock=clock)
    key = dkim.SigningKey.generate()
    for name, text in (*DNS, ("s1._domainkey.shop.example", key.public_record())):
        publish(running.data, name, "TXT", text)
    plain = letter("1@x")
    header, _, body = plain.partition(b"\r\n\r\n")
    fields = dkim.sign(header + b"\r\n", body, [dkim.Signer("shop.example", "s1", key)], now_ms=clock.at_ms)
    signed = fields + plain
    stranger = plain.replace(b"news@shop.example", b"news@nobody.example")
    with running.client("gmail") as client:
        for message in (
            signed,
            signed,
            plain,
            signed.replace(b"Hello", b"Hallo"),
            stranger,
            plain.replace(b"From:", b"From: x,"),
        ):
            client.sendmail("bounce-1@shop.example", ["a@gmail.com"], message)
        client.sendmail("", ["a@gmail.com", "b@gmail.com"], signed)
        client.sendmail("b@elsewhere.example", ["c@gmail.com"], signed)
        client.sendmail("b@elsewhere.example", ["d@gmail.com"], plain)
        with pytest.raises(smtplib.SMTPDataError):
            client.sendmail("bounce-2@shop.example", ["spam@gmail.com"], signed)
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail("bounce-3@shop.example", ["unknown@gmail.com"], signed)
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail("bounce-4@shop.example", ["later@gmail.com"], signed)
    clock.at_ms += DAY_S * 1000
    with running.client("smallbiz") as client:
        client.sendmail("bounce-5@shop.example", ["e@other.example"], signed)
    done = write(running.data, tmp_path / "out", running.settings.sandbox.address_base)
    assert adds_up(running.data, done)
    assert done["left_out"] == {"no_policy": {"nobody.example": 1}, "no_domain": 1, "not_seen": 1}
    gmail, smallbiz = done["files"]
    assert (gmail["messages"], gmail["passed"]) == (9, 8)
    assert Path(gmail["file"]).name == f"gmail.com!shop.example!{TODAY_S}!{TODAY_S + DAY_S - 1}.xml.gz"
    assert Path(smallbiz["file"]).name.startswith(f"mx1.smallbiz.example!shop.example!{TODAY_S + DAY_S}!")
    assert sorted(lines(read(gmail["file"])), reverse=True) == [
        (3, "pass", "pass", "pass", "shop.example", "shop.example", "pass", ["pass"]),
        (2, "pass", "pass", "fail", "shop.example", "", "none", ["pass"]),
        (1, "pass", "pass", "fail", "shop.example", "elsewhere.example", "none", ["pass"]),
        (1, "pass", "fail", "pass", "shop.example", "shop.example", "pass", ["fail"]),
        (1, "pass", "fail", "pass", "shop.example", "shop.example", "pass", []),
        (1, "none", "fail", "fail", "shop.example", "elsewhere.example", "none", []),
    ]
    (record,) = read(smallbiz["file"])["record"]
    assert record["auth_results"]["dkim"] == [{"domain": "shop.example", "selector": "s1", "result": "pass"}]
    assert record["auth_results"]["spf"] == {"domain": "shop.example", "scope": "mfrom", "result": "pass"}


def test_the_document_is_of_one_day_one_provider_one_policy(tmp_path: Path) -> None:
    done, documents = reported(
        tmp_path,
        seen(),
        seen("mail.shop.example"),
        seen("own.shop.example"),
        seen(provider="outlook"),
        seen(at_ms=(TODAY_S + DAY_S) * 1000 - 1),
        seen(at_ms=(TODAY_S + DAY_S) * 1000),
        dns=(*DNS, ("_dmarc.own.shop.example", "v=DMARC1; p=none; adkim=s; np=reject; t=y")),
    )
    assert [(one["provider"], one["begin"] - TODAY_S, one["domain"], one["messages"]) for one in done["files"]] == [
        ("gmail", 0, "own.shop.example", 1),
        ("gmail", 0, "shop.example", 3),
        ("gmail", DAY_S, "shop.example", 1),
        ("outlook", 0, "shop.example", 1),
    ]
    metadata = [one["report_metadata"] for one in documents]
    assert len({one["report_id"] for one in metadata}) == 4
    assert metadata[1]["date_range"] == {"begin": str(TODAY_S), "end": str(TODAY_S + DAY_S - 1)}
    assert (metadata[3]["org_name"], metadata[3]["email"]) == ("outlook", "postmaster@outlook.com")
    assert documents[1]["policy_published"] == {
        "domain": "shop.example", "discovery_method": "psl", "p": "reject", "sp": "quarantine",
        "adkim": "r", "aspf": "r", "testing": "n",
    }  # fmt: skip
    assert documents[0]["policy_published"] == {
        "domain": "own.shop.example", "discovery_method": "psl", "p": "none", "sp": "none", "np": "reject",
        "adkim": "s", "aspf": "r", "testing": "y",
    }  # fmt: skip


def test_the_same_log_gives_the_same_bytes(tmp_path: Path) -> None:
    done, _ = reported(tmp_path, seen(), seen(signed="pass shop.example s1", signature="ok"))
    before = Path(done["files"][0]["file"]).read_bytes()
    assert write(tmp_path, tmp_path / "out", BASE) == done
    assert Path(done["files"][0]["file"]).read_bytes() == before


@pytest.mark.parametrize(
    ("policy", "header_from", "reason"),
    [
        ("p=none", "shop.example", None),
        ("p=quarantine", "shop.example", ("local_policy", "quarantine is asked for")),
        ("p=reject; t=y", "shop.example", ("local_policy", "quarantine is asked for")),
        ("p=quarantine; t=y", "shop.example", ("policy_test_mode", "t=y in place of quarantine")),
        ("p=reject; sp=none", "sub.shop.example", None),
        ("p=none; sp=reject", "sub.shop.example", ("local_policy", "reject is asked for")),
        ("p=none; np=reject", "not.shop.invalid", ("local_policy", "reject is asked for")),
        ("p=none; np=reject", "sub.shop.example", None),
    ],
)
def test_no_policy_is_acted_on_and_why_is_said(
    tmp_path: Path, policy: str, header_from: str, reason: tuple[str, str] | None
) -> None:
    owner = dmarc.organizational_domain(header_from)
    _, (document,) = reported(
        tmp_path, seen(header_from, "b@other.example"), dns=((f"_dmarc.{owner}", f"v=DMARC1; {policy}"),)
    )
    evaluated = document["record"][0]["row"]["policy_evaluated"]
    assert evaluated["disposition"] == "none"
    if reason is None:
        assert "reason" not in evaluated
    else:
        assert evaluated["reason"]["type"] == reason[0]
        assert evaluated["reason"]["comment"].endswith(reason[1])


def test_what_spf_says_of_each_reverse_path(tmp_path: Path) -> None:
    dns = (
        *DNS,
        ("fail.shop.example", "v=spf1 -all"),
        ("broken.shop.example", "v=spf1 ip4:nonsense"),
        ("each.shop.example", "v=spf1 exists:%{l}.who.example -all"),
        ("mta.shop.example", "v=spf1 a:gmail-smtp-in.l.google.com -all"),
        ("alias.shop.example", "v=spf1 include:named.example ~all"),
        ("target.example", "v=spf1 ip4:127.0.0.1 -all"),
    )
    publish(tmp_path, "good.who.example", "A", "127.0.0.2")
    publish(tmp_path, "named.example", "CNAME", "target.example.")
    spf = {
        "b@shop.example": "pass",
        "b@Shop.Example": "pass",
        "b@none.example": "none",
        "b@servfail.example": "temperror",
        "b@fail.shop.example": "fail",
        "b@broken.shop.example": "permerror",
        "good@each.shop.example": "pass",
        "bad@each.shop.example": "fail",
        "b@mta.shop.example": "fail",
        "b@alias.shop.example": "pass",
        "no-domain": None,
        '"<&>"@<&>]]>': "none",
    }
    found, (document,) = reported(
        tmp_path,
        *(seen(sender=sender) for sender in spf),
        seen(sender="", helo="shop.example"),
        seen(sender="", helo="<script>&"),
        seen(sender="b@mta.shop.example", client="127.0.10.1"),
        dns=dns,
    )
    told = lines(document)
    assert found["messages"] == len(spf) + 3
    expected = [(sender.rpartition("@")[2].lower() if "@" in sender else "", result) for sender, result in spf.items()]
    expected += [("", "pass"), ("", "none"), ("mta.shop.example", "pass")]
    assert sorted((one[5], one[6]) for one in told for _ in range(one[0]) if one[6]) == sorted(
        (domain, result) for domain, result in expected if result
    )
    assert {one[3] for one in told if one[6] != "pass"} == {"fail"}
    assert {one[3] for one in told if one[6] == "pass"} == {"pass"}


def test_only_a_signature_that_holds_and_is_of_the_domain_counts(tmp_path: Path) -> None:
    _, (document,) = reported(
        tmp_path,
        seen(sender="b@x.example", signed="fail shop.example s1;pass other.example o", signature="bad"),
        seen(sender="b@x.example", signed="pass news.shop.example s1;permerror ]]> ", signature="bad"),
    )
    first, second = document["record"]
    assert (first["row"]["policy_evaluated"]["dkim"], second["row"]["policy_evaluated"]["dkim"]) == ("fail", "pass")
    assert first["auth_results"]["dkim"][1] == {"domain": "other.example", "selector": "o", "result": "pass"}
    assert second["auth_results"]["dkim"][1] == {"domain": "]]>", "selector": "", "result": "permerror"}


def test_a_policy_that_cannot_be_had_makes_no_report(tmp_path: Path) -> None:
    done, documents = reported(
        tmp_path,
        seen("twice.example"),
        seen("nobody.example"),
        seen("servfail.example"),
        seen("wrong.example", code=550),
        seen("soft.example", code=451),
        seen("", signature="bad"),
        seen(signature=""),
        dns=(("_dmarc.wrong.example", "v=DMARC1; p=maybe"), ("_dmarc.twice.example", "v=DMARC1; q")),
    )
    assert not documents
    assert done["left_out"] == {
        "no_policy": {"nobody.example": 1, "servfail.example": 1, "twice.example": 1, "wrong.example": 1},
        "no_domain": 1,
        "not_seen": 1,
    }
    assert adds_up(tmp_path, done)


def test_a_log_of_an_earlier_version_is_read_and_continued(tmp_path: Path) -> None:
    path = journal.log_path(tmp_path)
    path.parent.mkdir()
    first_columns = json.dumps(Decision._fields[:15], separators=(",", ":"))
    path.write_text(f"{first_columns}\n{json.dumps(tuple(seen())[:15])}\n")
    done, _ = reported(tmp_path, seen(), seen())
    assert (done["messages"], done["left_out"]["no_domain"]) == (2, 1)
    assert report(tmp_path)["totals"]["accepted"] == 3
    assert adds_up(tmp_path, done)


@pytest.mark.parametrize(
    ("field", "domain"),
    [
        (b"From: news@Shop.Example", "shop.example"),
        (b'from : "x@evil.example" <news@shop.example>', "shop.example"),
        (b"From: =?utf-8?q?a=40evil=2Eexample?=\r\n <news@shop.example> (b@evil.example)", "shop.example"),
        (b"From: a@shop.example, b@SHOP.example", "shop.example"),
        (b"From: Shop: a@shop.example;", "shop.example"),
        ("From: a@bücher.example".encode(), "xn--bcher-kva.example"),
        (b"From: a@shop.example, b@evil.example", ""),
        (b"From: a@shop.example\r\nFROM: b@evil.example", ""),
        (b"From: x@evil.example <news@shop.example>", ""),
        (b"From: a@[127.0.0.1]", ""),
        (b"From: a@../../etc/passwd", ""),
        (b"From: a@shop.example!evil.example", ""),
        (b"From: a@<&>.example", ""),
        (b"From: \xff@shop.example", ""),
        (b"From: " + b"a" * 5000 + b"@shop.example", ""),
        (b"From: " + b"(" * 4000, ""),
        (b"From:", ""),
        (b"X-From: news@shop.example", ""),
    ],
)
def test_the_domain_in_from_is_one_or_none(field: bytes, domain: str) -> None:
    assert author_domain(b"\r\nSubject: Hi\r\n" + field + b"\r\nTo: x@y.example\r\n") == domain


@given(st.binary(max_size=80))
def test_whatever_from_says_the_domain_is_safe_in_a_file_name(text: bytes) -> None:
    found = author_domain(b"\r\nFrom:" + text + b"\r\n")
    assert not found or (set(found) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.") and not found.startswith("."))


def test_hostile_signatures_are_recorded_readably(start_sandbox: StartSandbox, tmp_path: Path) -> None:
    running = start_sandbox()
    for name, text in DNS:
        publish(running.data, name, "TXT", text)
    hostile = (
        b"DKIM-Signature: v=1; a=rsa-sha256; d=<a b>&\x01; s=x y; h=from; bh=AA==; b=AA==\r\n"
        b"DKIM-Signature: d=" + b"a" * 900 + b"; s=\"'\r\n"
        b"DKIM-Signature: nonsense\r\n"
    )
    with running.client("gmail") as client:
        client.sendmail("b@shop.example", ["a@gmail.com"], hostile + letter("1@x"))
    (decision,) = [one for _, one in journal.read(running.data)]
    assert all(result == "permerror" for result, _, _ in signatures_of(decision.dkim))
    done = write(running.data, tmp_path / "out", BASE)
    (record,) = read(done["files"][0]["file"])["record"]
    assert record["auth_results"]["dkim"][0]["domain"].startswith("<ab>&")
    assert len(record["auth_results"]["dkim"][1]["domain"]) == 253


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=40), st.text(st.characters(codec="utf-8"), max_size=40))
def test_whatever_reverse_path_and_helo_say_there_is_a_report(
    tmp_path_factory: pytest.TempPathFactory, path: str, helo: str
) -> None:
    data = tmp_path_factory.mktemp("log")
    done, _ = reported(data, seen(sender=path, helo=helo), seen(sender=f"b@{path}.example"), seen(sender="", helo=helo))
    assert done["messages"] == 3
    assert adds_up(data, done)


def test_a_client_without_an_address_is_counted_too(tmp_path: Path) -> None:
    done, (document,) = reported(tmp_path, seen(client=""))
    assert done["messages"] == 1
    assert document["record"][0]["auth_results"] == ""


texts = st.text(max_size=20) | st.sampled_from(["<&>", "]]>", '"', "\x00", "\ud800", "&amp;", "<!--", "\r\n"])


@given(st.lists(texts, min_size=12, max_size=12))
def test_whatever_stands_in_it_the_document_is_xml_and_says_it(words: list[str]) -> None:
    org, email, number, at, ip, header_from, envelope, result, domain, selector, spf, comment = words
    row = Row(
        1,
        ip,
        "none",
        True,
        False,
        ("other", comment),
        header_from,
        envelope,
        ((result, domain, selector),),
        spf or "x",
        spf,
    )
    found = Discovered(dmarc.parse("v=DMARC1; p=none"), at)
    document = flat(ElementTree.fromstring(feedback(Heading(org, email, number, 0, 1), found, [row])))

    def told(text: str) -> str:
        allowed = [
            one if one in "\t\n\r" or (one >= " " and not "\ud800" <= one <= "\udfff") else "\ufffd" for one in text
        ]
        shown = "".join("\ufffd" if one in "\ufffe\uffff" else one for one in allowed)
        return shown.replace("\r\n", "\n").replace("\r", "\n")  # XML 1.0 2.11

    assert document["report_metadata"]["org_name"] == told(org)
    assert document["policy_published"]["domain"] == told(at)
    (record,) = document["record"]
    assert record["row"]["source_ip"] == told(ip)
    assert record["row"]["policy_evaluated"]["reason"]["comment"] == told(comment)
    assert record["identifiers"] == {"header_from": told(header_from), "envelope_from": told(envelope)}
    assert record["auth_results"]["dkim"] == [
        {"domain": told(domain), "selector": told(selector), "result": told(result)}
    ]


def test_every_provider_reports_under_a_name_of_its_own() -> None:
    names = [receiver_of(spec) for spec in catalogue.load()]
    assert len(set(names)) == len(names)
    assert "gmail.com" in names
    assert all("." in name and "!" not in name for name in names)
