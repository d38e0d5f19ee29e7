"""What is said of a domain's own MTA-STS policy."""

from __future__ import annotations

import pytest

from mailfleet.mail.mta_sts import Mode, StsPolicy
from mailfleet.policy.sts_checks import hosts, served

MX = ("mx1.shop.test", "*.office.test")


def policy(mode: Mode = "enforce", mx: tuple[str, ...] = MX) -> StsPolicy:
    return StsPolicy(mode, mx, 86_400)


def test_the_policy_that_is_set_is_shown() -> None:
    check = served("shop.test", policy(), str(policy()), "")
    assert (check.state, check.found) == ("ok", "enforce: mx1.shop.test, *.office.test")
    assert served("shop.test", policy(), str(policy()).replace("86400", "604800"), "").state == "ok"


def test_nothing_is_shown() -> None:
    check = served("shop.test", policy(), None, "mta-sts.shop.test: no connection")
    assert (check.state, check.found) == ("failed", "mta-sts.shop.test: no connection")
    assert "https://mta-sts.shop.test/.well-known/mta-sts.txt" in check.expected
    assert "certificate list" in check.next_step


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("<html>welcome</html>" * 100, "no policy"),
        ("", "no policy"),
        (str(policy("testing")), "another policy"),
        (str(policy(mx=("mx1.shop.test",))), "another policy"),
    ],
)
def test_something_else_is_shown(text: str, meaning: str) -> None:
    check = served("shop.test", policy(), text, "")
    assert check.state == "failed"
    assert meaning in check.meaning
    assert len(check.found) <= 200
    assert check.next_step


def test_every_mail_host_is_named() -> None:
    check = hosts(policy(), ("10 mx1.shop.test.", "20 MX.Office.Test."), "")
    assert (check.state, check.found) == ("ok", "mx1.shop.test., MX.Office.Test.")


@pytest.mark.parametrize(("mode", "state"), [("enforce", "failed"), ("testing", "warning")])
def test_a_mail_host_that_it_does_not_name(mode: Mode, state: str) -> None:
    check = hosts(policy(mode), ("10 mx1.shop.test.", "20 a.b.office.test."), "")
    assert check.state == state
    assert "does not name a.b.office.test." in check.meaning
    assert ("mail does not go there" in check.meaning) == (mode == "enforce")
    assert check.next_step


def test_a_policy_that_was_taken_back_asks_nothing() -> None:
    check = hosts(policy("none", ()), ("10 mx1.shop.test.",), "")
    assert (check.state, check.next_step) == ("ok", "")


@pytest.mark.parametrize("there", [(), ("0 .",)])
def test_a_domain_without_mail_hosts(there: tuple[str, ...]) -> None:
    assert hosts(policy(), there, "").state == "ok"


def test_nobody_answers() -> None:
    check = hosts(policy(), None, "ns1.shop.test: no answer")
    assert (check.state, check.found) == ("unknown", "ns1.shop.test: no answer")
