"""What providers tell, in shapes recorded by hand from their documentation; what is wrong is named by entry and field."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.base.errors import InputError
from mailfleet.mail.provider_data import postmaster, snds

STATS = {
    "name": "domains/Shop.example/trafficStats/20260131",
    "userReportedSpamRatio": 0.0012,
    "domainReputation": "MEDIUM",
    "spfSuccessRatio": 1,
    "dkimSuccessRatio": 0.998,
    "ipReputations": [{"reputation": "HIGH", "ipCount": "2", "sampleIps": ["192.0.2.1"]}],
}
LINE = '192.0.2.1,1/31/2026 12:00:00 AM,1/31/2026 11:59:00 PM,1204,1198,"1,198",YELLOW,< 0.1%,,,2,mail1.shop.example,,'


def test_google_postmaster() -> None:
    (day,) = postmaster(json.dumps({"trafficStats": [STATS], "nextPageToken": "x"}))
    assert (day.subject, day.day) == ("shop.example", 20_484)
    assert day.data["userReportedSpamRatio"] == 0.0012
    assert day.data["ipReputations"][0]["reputation"] == "HIGH"


def test_microsoft_snds() -> None:
    (day,) = snds(LINE)
    assert (day.subject, day.day) == ("192.0.2.1", 20_484)
    assert day.data["filterResult"] == "YELLOW"
    assert (day.data["messageRecipients"], day.data["trapHits"], day.data["complaintRate"]) == (1198, 2, 0.001)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"name": "domains/x"}, "trafficStats 1"),
        ({"name": "domains/x/trafficStats/20261331"}, "trafficStats 1"),
        ({"userReportedSpamRatio": 1.5}, "userReportedSpamRatio"),
        ({"userReportedSpamRatio": "low"}, "userReportedSpamRatio"),
        ({"domainReputation": "FINE"}, "domainReputation"),
        ({"ipReputations": {}}, "ipReputations"),
    ],
)
def test_a_wrong_entry_is_named(change: dict[str, object], where: str) -> None:
    with pytest.raises(InputError) as raised:
        postmaster(json.dumps({"trafficStats": [STATS | change]}))
    assert where in raised.value.where


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("192.0.2.1", "nobody", "line 1, column 1"),
        ("1/31/2026 12:00:00 AM", "yesterday", "line 1, column 2"),
        ("YELLOW", "BLUE", "line 1, column 7"),
        ("< 0.1%", "few", "line 1, column 8"),
        (",1204,", ",many,", "line 1, column 4"),
        (LINE, "192.0.2.1,x", "line 1"),
    ],
)
def test_a_wrong_line_is_named(old: str, new: str, where: str) -> None:
    with pytest.raises(InputError) as raised:
        snds(LINE.replace(old, new))
    assert raised.value.where == where


@given(st.text(max_size=300))
def test_garbage_yields_only_the_typed_error(text: str) -> None:
    for read in (postmaster, snds):
        with contextlib.suppress(InputError):
            read(text)
