"""DMARC aggregate reports are read as receivers write them, and nothing that pretends to be one does harm."""

from __future__ import annotations

import base64
import gzip
import html
import io
import re
import zipfile
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.base.errors import InputError
from mailfleet.mail.dmarc_report import AggregateReport, ReportRow, Signature, SpfSeen, parse_report
from mailfleet.mail.report_files import MAX_FILE_BYTES, MAX_MEMBERS, MAX_TEXT_BYTES, report_texts
from tests.mail.dmarc_documents import BEGIN_S, DAY_S, mailed, record, report

GOOD = record()
PLAIN = report(GOOD)


def test_what_a_report_says() -> None:
    forwarded = record(
        "2001:DB8::1", 40, dkim="fail", disposition="quarantine", header_from="News.Shop.Example",
        reasons=["Mailing_List", "local_policy", "mailing_list"], signatures=[], spf_seen=[("list.example", "pass")],
    )  # fmt: skip
    text = report(GOOD, forwarded, policy="quarantine", more="<sp>reject</sp><testing>y</testing><pct>100</pct>")
    assert parse_report(text) == AggregateReport(
        "google.com", "noreply-dmarc-support@google.com", "17256", BEGIN_S, BEGIN_S + DAY_S - 1,
        "shop.example", "quarantine", "reject", True,
        (
            ReportRow(
                "192.0.2.1", 3, "none", True, False, "shop.example", (),
                (Signature("shop.example", "s1", "pass"),), (SpfSeen("bounce.shop.example", "mfrom", "fail"),),
            ),
            ReportRow(
                "2001:db8::1", 40, "quarantine", False, False, "news.shop.example", ("mailing_list", "local_policy"),
                (), (SpfSeen("list.example", "mfrom", "pass"),),
            ),
        ),
    )  # fmt: skip


def test_a_chain_of_arc_is_a_reason_of_its_own() -> None:
    text = report(
        record(reasons=["local_policy"]), record(reasons=["local_policy"]).replace(">x<", ">arc=pass as.1.x=pass<")
    )
    assert [one.reasons for one in parse_report(text).rows] == [("local_policy",), ("arc",)]


def same(change: Callable[[str], str]) -> str:
    changed = change(PLAIN)
    assert changed != PLAIN
    return changed


# What reporters are known to get wrong, or to do otherwise
ODD = {
    "no namespace": lambda text: text.replace(' xmlns="urn:ietf:params:xml:ns:dmarc-2.0"', ""),
    "a prefix": lambda text: re.sub(r"<(/?)(\w+)", r"<\1d:\2", text),
    "on one line": lambda text: re.sub(r"\s*\n\s*", "", text),
    "no declaration": lambda text: text.partition("?>")[2].lstrip(),
    "a schema element that is never closed": lambda text: text.replace("<version>", '<xs:schema a="b"><version>'),
    "stray brackets": lambda text: text.replace("noreply-dmarc-support@", "<a@b><noreply-dmarc-support@"),
    "an element that is not closed": lambda text: text.replace("</version>", ""),
    "identities": lambda text: text.replace("identifiers>", "identities>"),
    "character data": lambda text: text.replace(">17256<", "><![CDATA[17256]]><"),
    "comments": lambda text: text.replace("<record>", "<!-- <record> --><record>"),
    "results in capitals": lambda text: text.replace(">pass<", ">Pass<").replace(">fail<", "> FAIL <"),
    "white space": lambda text: re.sub(r">([^<\s]+)<", r">\n  \1\n<", text),
    "numbers with a fraction": lambda text: text.replace(str(BEGIN_S), f"{BEGIN_S}.0").replace(">3<", ">3.0<"),
    "an extension": lambda text: text.replace(
        "<record>", "<extension><domain>evil.example</domain></extension><record>"
    ),
    "empty elements": lambda text: text.replace("<version>", "<error/><generator />").replace("</version>", ""),
    "what is not known": lambda text: text.replace("<row>", "<row><x:odd><deep>1</deep></x:odd>"),
    "passed": lambda text: text.replace("<disposition>none", "<disposition>pass"),  # RFC 9990
}


@pytest.mark.parametrize("change", ODD.values(), ids=ODD)
def test_it_reads_what_reporters_get_wrong(change: Callable[[str], str]) -> None:
    changed, wanted = parse_report(same(change)), parse_report(PLAIN)
    assert (changed.reporter, changed.report_id, changed.rows) == (wanted.reporter, wanted.report_id, wanted.rows)
    assert (changed.begin_s, changed.domain) == (wanted.begin_s, wanted.domain)


WRONG = [
    (lambda text: "", "feedback", "no aggregate report"),
    (lambda text: "<html><body>unused</body></html>", "feedback", "no aggregate report"),
    (
        lambda text: text.replace("<org_name>google.com</org_name>", "").replace("email>", "e>"),
        "org_name",
        "is missing",
    ),
    (lambda text: text.replace("17256", " "), "report_id", "is missing"),
    (lambda text: text.replace(f"<begin>{BEGIN_S}", "<begin>yesterday"), "begin", "'yesterday' cannot be begin"),
    (lambda text: text.replace(f"<begin>{BEGIN_S}", f"<begin>{'9' * 400}"), "begin", "cannot be begin"),
    (
        lambda text: text.replace(f"<begin>{BEGIN_S}", f"<begin>{BEGIN_S + 2 * DAY_S}"),
        "date_range",
        "speaks of the time",
    ),
    (lambda text: text.replace(f"<begin>{BEGIN_S}", "<begin>1000"), "date_range", "speaks of the time"),
    (lambda text: text.replace("<domain>shop.example</domain><adkim>", "<adkim>"), "domain", "whose policy"),
    (
        lambda text: text.replace("<domain>shop.example</domain><adkim>", "<domain>a b</domain><adkim>"),
        "domain",
        "whose",
    ),
    (lambda text: text.replace("192.0.2.1", "192.0.2.256"), "record", "'192.0.2.256' is no IP address"),
    (lambda text: text.replace("<count>3", "<count>-3"), "record", "'-3' cannot be count"),
    (lambda text: text.replace("<count>3", "<count>" + "9" * 30), "record", "cannot be count"),
    (lambda text: text.replace("<header_from>shop.example", "<header_from>..."), "record", "is no domain"),
]


@pytest.mark.parametrize(("change", "where", "what"), WRONG)
def test_what_makes_no_sense_is_named(change: Callable[[str], str], where: str, what: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_report(same(change))
    assert where in refused.value.where
    assert what in refused.value.what
    assert refused.value.mend


def test_a_record_that_makes_no_sense_does_not_cost_the_others() -> None:
    found = parse_report(report(GOOD, record("nowhere"), record(count="many"), GOOD))
    assert len(found.rows) == 2
    assert found.problems == ("record 2: 'nowhere' is no IP address", "record 3, count: 'many' cannot be count")


def test_nothing_is_expanded_or_fetched() -> None:
    bomb = '<!DOCTYPE feedback [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;"><!ENTITY f SYSTEM "file:///etc/passwd">]>'
    found = parse_report(bomb + report(GOOD, reporter="x").replace("<org_name>x", "<org_name>&b;&f;&amp;"))
    assert found.reporter == "&b;&f;&"


@pytest.mark.parametrize(
    "filling",
    ["<", "<record ", "<record>", "</record>", "<!--", "<![CDATA[", "<email>", "<a:", "<record" + " a" * 100, "&amp;"],
)
def test_hostile_text_costs_no_more_than_its_length(filling: str) -> None:
    """A reader that looked back would not end; the number of steps is the regular expression's, which has only bounded repeats."""
    found = parse_report(report(GOOD).replace("</feedback>", filling * (400_000 // len(filling)) + "</feedback>"))
    assert len(found.rows) == 1


@given(st.text(max_size=300))
def test_any_text_is_a_report_or_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_report(text)


@given(st.integers(0, len(PLAIN)), st.integers(0, 60), st.text(max_size=20))
def test_a_damaged_report_is_read_or_refused(at: int, gone: int, put: str) -> None:
    try:
        found = parse_report(PLAIN[:at] + put + PLAIN[at + gone :])
    except InputError:
        return
    assert len(found.rows) <= 1


@given(
    st.lists(
        st.tuples(st.ip_addresses(), st.integers(0, 10**12), st.booleans(), st.booleans(), st.sampled_from("nqr")),
        max_size=8,
    ),
    st.text(min_size=1, max_size=60).map(lambda text: " ".join(text.split())).filter(bool),
)
def test_what_is_written_is_read(rows: list[tuple[object, int, bool, bool, str]], name: str) -> None:
    words = {"n": "none", "q": "quarantine", "r": "reject", True: "pass", False: "fail"}
    made = [
        record(str(ip), n, dkim=words[dkim], spf=words[spf], disposition=words[done]) for ip, n, dkim, spf, done in rows
    ]
    found = parse_report(report(*made, reporter=name))
    assert found.reporter == " ".join(html.unescape(html.escape(name)).split())
    assert [(one.ip, one.count, one.dkim, one.spf, one.disposition) for one in found.rows] == [
        (str(ip), n, dkim, spf, words[done]) for ip, n, dkim, spf, done in rows
    ]


# Files


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return made.getvalue()


RAW = PLAIN.encode()
FILES = {
    "XML": RAW,
    "XML with a byte order mark": b"\xef\xbb\xbf" + RAW,
    "XML in UTF-16": PLAIN.encode("utf-16"),
    "XML after empty lines": b"\r\n\r\n" + RAW,
    "gzip": gzip.compress(RAW),
    "gzip with padding": gzip.compress(RAW) + b"\n\0\0",
    "ZIP": zipped({"google.com!shop.example!1!2.xml": RAW}),
    "ZIP that is stored": zipped({"a.xml": RAW}, zipfile.ZIP_STORED),
    "ZIP with a folder and a note": zipped({"reports/": b"", "reports/a.xml": RAW, "note.txt": b"hello"}),
    "message": mailed(PLAIN),
    "message as octets": mailed(PLAIN, kind="octet-stream", name="report"),
    "message of an mbox": b"From a@b Thu Jan  1 00:00:00 2026\n" + mailed(PLAIN),
    "message that is the attachment": b"Content-Type: application/gzip\nContent-Transfer-Encoding: base64\n\n"
    + base64.encodebytes(gzip.compress(RAW)),
}


@pytest.mark.parametrize("data", FILES.values(), ids=FILES)
def test_reports_are_found_in_files(data: bytes) -> None:
    ((_, text),) = report_texts(data)
    assert parse_report(text) == parse_report(PLAIN)


def test_several_reports_in_a_file_have_names() -> None:
    other = report(GOOD, report_id="2").encode()
    assert [name for name, _ in report_texts(zipped({"a.xml": RAW, "b.xml": other}))] == ["a.xml", "b.xml"]


def test_text_of_another_encoding_is_read() -> None:
    ((_, text),) = report_texts(report(GOOD, reporter="Émile’s Mail").encode("cp1252"))
    assert parse_report(text).reporter == "Émile’s Mail"


def damaged(data: bytes) -> bytes:
    return data[:30] + bytes([data[30] ^ 0xFF]) + data[31:]


def encrypted() -> bytes:
    data = bytearray(zipped({"a.xml": RAW}))
    data[6] |= 1  # in the local header
    data[data.index(b"PK\x01\x02") + 8] |= 1  # and in the directory
    return bytes(data)


REFUSED = [
    (b"", "it is empty"),
    (b" \r\n", "it is empty"),
    (b"\x89PNG\r\n", "neither XML, gzip, ZIP nor a message"),
    (b"hello, world", "neither XML"),
    (b"Subject: hello\n\nworld\n", "carries no report"),
    (b"Subject: hello\nContent-Type: text/html\n\n<html>hello</html>\n", "carries no report"),
    (gzip.compress(RAW)[:-200], "gzip is cut off"),
    (damaged(gzip.compress(RAW)), "gzip is damaged"),
    (zipped({"a.xml": RAW})[:-30], "ZIP cannot be read"),
    (encrypted(), "ZIP cannot be read"),
    (zipped({f"{n}.xml": b"<a/>" for n in range(MAX_MEMBERS + 1)}), f"{MAX_MEMBERS} are the most"),
    (gzip.compress(b"<" + bytes(MAX_TEXT_BYTES)), "unpacks to more than"),
    (zipped({"a.xml": b"<" + bytes(MAX_TEXT_BYTES)}), "unpacks to more than"),
    (zipped({f"{n}.xml": b"<" + bytes(MAX_TEXT_BYTES // 2) for n in range(3)}), "unpacks to more than"),
    (bytes(MAX_FILE_BYTES + 1), f"{MAX_FILE_BYTES} are the most"),
    (b"".join(b'Content-Type: multipart/mixed; boundary="%d"\n\n--%d\n' % (n, n) for n in range(2000)), "lie too deep"),
]


@pytest.mark.parametrize(("data", "what"), REFUSED)
def test_files_that_hold_none_are_refused(data: bytes, what: str) -> None:
    with pytest.raises(InputError, match=re.escape(what)):
        report_texts(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_file_or_refused(data: bytes) -> None:
    try:
        found = report_texts(data)
    except InputError:
        return
    assert found
