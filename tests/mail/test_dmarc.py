"""DMARC by the examples of RFC 7489 and RFC 9989, by laws, and beside checkdmarc."""

from __future__ import annotations

import pytest
from checkdmarc.dmarc import DMARCError, parse_dmarc_record
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.mail.dmarc import (
    DmarcRecord,
    DmarcSyntaxError,
    aligned,
    discover,
    is_dmarc,
    judge,
    organizational_domain,
    parse,
    permits_reports,
    report_permission,
)
from mailfleet.mail.spf import Question
from tests.mail.dns_answers import Zone, run


@pytest.mark.parametrize(
    ("text", "record"),
    [
        # RFC 7489 B.2.1 to B.2.4
        ("v=DMARC1; p=none; rua=mailto:a@example.com", DmarcRecord("none", aggregate_to=("mailto:a@example.com",))),
        (
            "v=DMARC1; p=none; rua=mailto:dmarc-feedback@example.com; ruf=mailto:auth-reports@example.com",
            DmarcRecord("none", aggregate_to=("mailto:dmarc-feedback@example.com",), failure_to=("mailto:auth-reports@example.com",)),
        ),
        (
            "v=DMARC1; p=quarantine; rua=mailto:dmarc-feedback@example.com, mailto:tld-test@thirdparty.example.net!10m; pct=25",
            DmarcRecord(
                "quarantine",
                percent=25,
                aggregate_to=("mailto:dmarc-feedback@example.com", "mailto:tld-test@thirdparty.example.net!10m"),
            ),
        ),
        # RFC 9989: testing, names that do not exist
        ("v=DMARC1; p=reject; sp=quarantine; np=reject; t=y", DmarcRecord("reject", "quarantine", "reject", testing=True)),
        ("v=DMARC1; p=reject; psd=n; adkim=s; aspf=s", DmarcRecord("reject", None, None, "s", "s", other=(("psd", "n"),))),
        # RFC 7489 6.6.3: a policy nobody knows, and reports are wanted
        ("v=DMARC1; p=block; rua=mailto:a@example.com", DmarcRecord("none", aggregate_to=("mailto:a@example.com",))),
        (" v = DMARC1 ;p=none;; ", DmarcRecord("none")),
    ],
)  # fmt: skip
def test_records(text: str, record: DmarcRecord) -> None:
    assert is_dmarc(text)
    assert parse(text) == record
    assert parse(str(record)) == record


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("v=DMARC1", "p is missing"),
        ("v=DMARC1; p=nothing", "p is missing, or is none of"),
        ("v=DMARC1; p=none; p=reject", "the tag p is there twice"),
        ("v=DMARC1; p", "'p' is no tag"),
        ("p=none; v=DMARC1", "it does not begin with"),
        ("v=DMARC2; p=none", "it does not begin with"),
    ],
)
def test_what_is_wrong_is_named(text: str, wrong: str) -> None:
    with pytest.raises(DmarcSyntaxError, match=wrong):
        parse(text)


@pytest.mark.parametrize(
    ("name", "organization"),
    [
        ("example.com", "example.com"),
        ("a.mail.example.com", "example.com"),
        ("mail.example.co.uk", "example.co.uk"),
        ("co.uk", "co.uk"),
        ("x.y.unknown-top-level", "y.unknown-top-level"),
        ("WWW.Example.COM.", "example.com"),
        ("shop.github.io", "shop.github.io"),
    ],
)
def test_the_organisational_domain(name: str, organization: str) -> None:
    assert organizational_domain(name) == organization


def test_alignment() -> None:
    """RFC 7489 B.1."""
    assert aligned("example.com", "example.com", "s")
    assert aligned("child.example.com", "example.com", "r")
    assert not aligned("child.example.com", "example.com", "s")
    assert aligned("a.example.com", "b.example.com", "r")
    assert not aligned("example.net", "example.com", "r")
    assert not aligned("", "example.com", "r")


ZONE: Zone = {
    "_dmarc.example.com": {"TXT": ["unrelated", "v=DMARC1; p=reject; sp=quarantine; np=none"]},
    "_dmarc.own.example.com": {"TXT": ["v=DMARC1; p=none"]},
    "_dmarc.twice.test": {"TXT": ["v=DMARC1; p=none", "v=DMARC1; p=reject"]},
    "_dmarc.silent.test": {"TXT": None},
    "_dmarc.wrong.test": {"TXT": ["v=DMARC1; p=maybe"]},
    "_dmarc.trial.test": {"TXT": ["v=DMARC1; p=reject; t=y"]},
}


def test_where_the_policy_is_found() -> None:
    assert run(discover("example.com"), ZONE).at == "example.com"
    assert run(discover("a.b.example.com"), ZONE).at == "example.com"
    assert run(discover("own.example.com"), ZONE).at == "own.example.com"
    assert "has 2 DMARC records" in run(discover("twice.test"), ZONE).problem
    assert run(discover("silent.test"), ZONE).failed
    assert "p is missing" in run(discover("wrong.test"), ZONE).problem
    assert run(discover("nobody.test"), ZONE).problem == "there is no DMARC record at _dmarc.nobody.test"


def test_what_is_asked_of_the_receiver() -> None:
    def of(name: str, **facts: object) -> tuple[bool, tuple[str, ...], str]:
        return tuple(judge(run(discover(name), ZONE), name, **facts))  # type: ignore[arg-type, return-value]  # the test's own

    assert of("example.com", spf_domain="bounce.example.com") == (True, ("spf",), "none")
    assert of("example.com", dkim_domains=["example.com"], spf_domain="x.test") == (True, ("dkim",), "none")
    assert of("example.com", spf_domain="elsewhere.test") == (False, (), "reject")
    assert of("news.example.com") == (False, (), "quarantine")
    assert of("news.example.com", from_exists=False) == (False, (), "none")
    assert of("own.example.com") == (False, (), "none")
    assert of("trial.test") == (False, (), "quarantine")
    assert of("nobody.test", dkim_domains=["nobody.test"]) == (False, (), "none")


def test_reports_to_others_need_their_permission() -> None:
    asked = report_permission("mailto:reports@thirdparty.example.net!10m", "example.com")
    assert asked == Question("example.com._report._dmarc.thirdparty.example.net", "TXT")
    assert report_permission("mailto:dmarc@mail.example.com", "example.com") is None
    assert permits_reports(["v=DMARC1"])
    assert not permits_reports(["hello"])


POLICY = st.sampled_from(["none", "quarantine", "reject"])


@given(
    st.builds(
        DmarcRecord,
        POLICY,
        st.none() | POLICY,
        st.none() | POLICY,
        st.sampled_from("rs"),
        st.sampled_from("rs"),
        testing=st.booleans(),
    )
)
def test_it_agrees_with_checkdmarc(record: DmarcRecord) -> None:
    """Without addresses: for those it would ask the DNS of the whole world."""
    text = str(record)
    assert parse(text) == record
    theirs = {name: tag["value"] for name, tag in parse_dmarc_record(text, "example.com")["tags"].items()}
    assert theirs["p"] == record.policy
    assert theirs["sp"] == (record.subdomain_policy or record.policy)
    assert (theirs["adkim"], theirs["aspf"], theirs["t"]) == (
        record.dkim_mode,
        record.spf_mode,
        "y" if record.testing else "n",
    )


@given(st.text(max_size=60))
def test_garbage_is_an_error_and_never_a_crash(text: str) -> None:
    for whole in (text, f"v=DMARC1;{text}"):
        try:
            parse(whole)
        except DmarcSyntaxError:
            continue


def test_checkdmarc_refuses_what_is_refused_here() -> None:
    for text in ("v=DMARC1; p=nothing", "p=none; v=DMARC1", "v=DMARC1; p=none; p=reject"):
        with pytest.raises(DMARCError):
            parse_dmarc_record(text, "example.com")
