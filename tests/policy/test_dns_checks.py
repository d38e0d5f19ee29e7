"""What is made of answers: each way to be wrong has its own words, and what flaps does not flap here."""

from __future__ import annotations

from mailfleet.policy.dns_checks import Check, Heard, of_next_key, ready_for_bulk, settle
from mailfleet.policy.dns_checks import published as judged
from mailfleet.policy.dns_plan import Wanted

DKIM = Wanted("dkim:mf1", "mf1._domainkey.s.test", "TXT", "v=DKIM1; k=rsa; p=AAAA", "the key")
SPF = Wanted("spf-return-path", "b.s.test", "TXT", "v=spf1 -all", "the policy")
MX = Wanted("return-path-mx", "b.s.test", "MX", "10 mta.s.test.", "bounces")


def of(wanted: Wanted, *heard: tuple[str, ...] | str) -> Check:
    """Servers ns1, ns2 ...: records, or words."""
    return judged(
        wanted,
        [
            Heard(f"ns{number}", None, one) if isinstance(one, str) else Heard(f"ns{number}", one)
            for number, one in enumerate(heard, start=1)
        ],
        zone="s.test",
    )


def test_right_is_right_however_it_is_written() -> None:
    assert of(DKIM, ("v=DKIM1; k=rsa; p=AAAA",)).state == "ok"
    assert of(DKIM, ("p=AA AA;k=rsa",)).state == "ok"
    assert of(SPF, ("unrelated", "v=spf1  -all")).state == "ok"
    assert of(MX, ("10 mta.s.test",), ("10 mta.s.test",)).state == "ok"


def test_each_way_to_be_wrong_is_named() -> None:
    for check, state, words in (
        (of(DKIM, ()), "failed", "there is no such record"),
        (of(DKIM, ("v=DKIM1; p=BBBB",)), "failed", "another key is there"),
        (of(DKIM, ("v=DKIM1; p=AAAA", "v=DKIM1; p=BBBB")), "failed", "two records for one selector"),
        (of(SPF, ("v=spf1 -all", "v=spf1 +all")), "failed", "two SPF records"),
        (of(SPF, ("v=spf1 -all",), ()), "failed", "the servers differ"),
        (of(SPF, ("v=spf1 -all",), "no answer in time"), "warning", "not every name server answers (ns2: no answer"),
        (of(SPF, "SERVFAIL", "no answer in time"), "unknown", "nobody who serves s.test says anything"),
        (of(MX, ("20 elsewhere.test",)), "failed", "bounces go to another server"),
        (of(MX, ("10 mta.s.test", "20 elsewhere.test")), "failed", "another mail host stands beside ours"),
    ):
        assert (check.state, words in check.meaning) == (state, True), check
        assert check.next_step
    assert "ns2: no answer in time" in of(SPF, ("v=spf1 -all",), "no answer in time").servers


def test_what_flaps_does_not_flap_the_state() -> None:
    good, bad = of(SPF, ("v=spf1 -all",)), of(SPF, ())
    kept = settle(None, good, 1)
    once = settle(kept, bad, 2)
    assert (once.check.state, once.doubt) == ("ok", 1)
    assert settle(once, good, 3).doubt == 0
    twice = settle(once, bad, 3)
    assert (twice.check.state, twice.since_ms) == ("failed", 3)
    better = settle(twice, good, 4)
    assert (better.check.state, better.since_ms) == ("ok", 4)
    assert settle(better, good, 9).since_ms == 4


def test_what_keeps_bulk_back() -> None:
    bad = Check("dmarc", "failed", "", "", "none")
    assert ready_for_bulk([bad, Check("spf-from", "failed", "", "", "")]) == [bad]
    assert ready_for_bulk([Check("dmarc", "unknown", "", "", ""), Check("dkim:x", "warning", "", "", "")]) == []
    assert ready_for_bulk([of_next_key(Check("dkim:x", "failed", "", "", ""))]) == [], (
        "mail goes on with the key before it"
    )
