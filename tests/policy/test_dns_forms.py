"""Records as the forms of DNS providers want them: every shipped form by laws, some by hand."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.base.errors import ConfigError
from mailfleet.config.dns_forms import SHIPPED, load_dns_forms
from mailfleet.policy.dns_forms import Form, address_of, fill, host_of
from mailfleet.policy.dns_plan import Wanted

FORMS = load_dns_forms()
ZONE, LONG = "shop.test", "v=DKIM1; k=rsa; p=" + "A" * 392
RECORDS = {
    "A": Wanted("host:s1", "mail.shop.test", "A", "192.0.2.1", "x"),
    "AAAA": Wanted("host:s1", "mail.shop.test", "AAAA", "2001:db8::1", "x"),
    "TXT": Wanted("dkim:mf1", "mf1._domainkey.shop.test", "TXT", LONG, "x"),
    "MX": Wanted("return-path-mx", "bounce.shop.test", "MX", "10 mail.shop.test.", "x"),
    "CNAME": Wanted("mta-sts-host", "mta-sts.shop.test", "CNAME", "mail.shop.test.", "x"),
    "CAA": Wanted("caa", "mail.shop.test", "CAA", '0 issue "ca.test"', "x"),
    "TLSA": Wanted("tlsa:25", "_25._tcp.mail.shop.test", "TLSA", "3 1 1 " + "ab" * 32, "x"),
}


def values(form: Form, kind: str) -> list[str]:
    """Without the type, the name and the TTL."""
    return [value for _, value in fill(form, RECORDS[kind], ZONE, 300).fields[2:-1]]


@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
@pytest.mark.parametrize("kind", RECORDS)
def test_nothing_is_lost_and_nothing_added(form: Form, kind: str) -> None:
    filled = fill(form, RECORDS[kind], ZONE, 1)
    labels = [label for label, _ in filled.fields]
    assert len(labels) == len(set(labels)), "two fields with one name"
    fields = dict(filled.fields)
    assert kind in fields.values()
    assert int(filled.fields[-1][1]) == form.ttl_min_s
    typed = " ".join(values(form, kind))
    plain = typed.replace('" "', "").strip('"') if kind == "TXT" else typed.replace('"', "")
    wanted = RECORDS[kind].value.replace('"', "")
    assert plain.rstrip(".") == wanted.rstrip(".")
    if kind in form.missing:
        assert filled.note.startswith(f"{form.label} has no {kind} records")


@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
def test_names_lead_back_to_where_they_belong(form: Form) -> None:
    for name in (ZONE, "mail.shop.test", "_25._tcp.mail.shop.test"):
        typed = host_of(form, name, ZONE)
        if form.host == "absolute":
            assert typed == f"{name}."
        else:
            assert (ZONE if typed == form.apex else f"{typed}.{ZONE}") == name
    assert not {"", "@"} & {host_of(form, "mail.other.test", ZONE)}


@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
def test_host_names_end_with_a_dot_where_that_is_wanted(form: Form) -> None:
    for kind in ("MX", "CNAME"):
        assert values(form, kind)[-1].endswith("mail.shop.test." if form.dot else "mail.shop.test")
    assert values(form, "MX")[0] == ("10" if "MX" in form.apart else f"10 mail.shop.test{'.' * form.dot}")
    null = fill(form, Wanted("null-mx", ZONE, "MX", "0 .", "x"), ZONE, 300)
    assert " ".join(value for _, value in null.fields[2:-1]) == "0 ."


def test_some_by_hand() -> None:
    assert fill(FORMS["cloudflare"], RECORDS["TLSA"], ZONE, 300).fields == (
        ("Type", "TLSA"), ("Name", "_25._tcp.mail"), ("Usage", "3"), ("Selector", "1"), ("Matching type", "1"),
        ("Certificate", "ab" * 32), ("TTL", "300"),
    )  # fmt: skip
    assert values(FORMS["route53"], "TXT") == [f'"{LONG[:255]}" "{LONG[255:]}"']
    assert values(FORMS["godaddy"], "TXT") == [LONG]
    assert dict(fill(FORMS["godaddy"], RECORDS["A"], ZONE, 300).fields)["TTL"] == "600"
    assert values(FORMS["azure"], "CAA") == ["0", "issue", "ca.test"]


def test_a_reverse_name_is_set_by_whoever_owns_the_address() -> None:
    pointer = Wanted("ptr:s1", "1.2.0.192.in-addr.arpa", "PTR", "mail.shop.test.", "x")
    filled = fill(FORMS["cloudflare"], pointer, "", 300)
    assert filled.fields == (("Address", "192.0.2.1"), ("Name", "mail.shop.test"))
    assert "where the address is rented" in filled.note


@given(st.ip_addresses())
def test_reverse_names_are_read(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert address_of(address.reverse_pointer) == str(address)


@given(st.text(max_size=40))
def test_what_is_no_reverse_name_stays(text: str) -> None:
    assert address_of(text) == text or text.lower().rstrip(".").endswith(".arpa")


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (('name = "godaddy"', 'name = "Go Daddy"'), "provider.2.name"),
        (('txt = "split"', 'txt = "folded"'), "provider.1.txt"),
        (('"MX.value" = "Mail server"', '"SRV.value" = "Mail server"'), "provider.0.labels"),
        (("ttl_min = 600", "ttl_min = 0"), "provider.2.ttl_min"),
    ],
)
def test_a_file_that_is_wrong_says_where(tmp_path: Path, change: tuple[str, str], where: str) -> None:
    file = tmp_path / "forms.toml"
    text = SHIPPED.read_text("utf-8")
    assert change[0] in text
    file.write_text(text.replace(*change, 1), "utf-8")
    with pytest.raises(ConfigError) as wrong:
        load_dns_forms(file)
    assert where in wrong.value.where
