"""Judging outcomes: which action, whose fault, and when an address is suppressed."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailfleet.config.bounce_rules import load_rules
from mailfleet.policy.classify import BOUNCE_CLASSES, MAX_DOUBT_S, Classifier
from mailfleet.policy.fallback import STATUS_CLASS
from mailfleet.policy.outcome import Action, Failure, Fault, Outcome, Phase, Verdict
from mailfleet.smtp.reply import Reply

CLASSIFIER = Classifier(load_rules())


def judge(
    code: int, text: str, phase: Phase = Phase.RCPT, *, provider: str | None = None, attempts: int = 1, age_s: float = 0
) -> Verdict:
    outcome = Outcome(phase, Reply(code, tuple(text.split("\n"))))
    return CLASSIFIER.judge(outcome, provider, attempts=attempts, age_s=age_s)


def seen(verdict: Verdict) -> tuple[str, str, str, bool]:
    return verdict.bounce_class, verdict.action.value, verdict.fault.value, verdict.suppress


def test_a_2yz_to_the_message_is_delivered() -> None:
    assert judge(250, "2.0.0 OK", Phase.MESSAGE) == Verdict(Action.DELIVER, "none", Fault.NONE, False, "delivered")


@pytest.mark.parametrize("code", [220, 250, 251, 354, 399, 600, 0])
def test_a_reply_that_cannot_end_a_delivery_is_a_protocol_fault(code: int) -> None:
    assert seen(judge(code, "go on", Phase.RCPT)) == ("protocol", "defer", "site", False)


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (Failure.NO_SUCH_DOMAIN, ("no-such-domain", "bounce", "recipient", True)),
        (Failure.NULL_MX, ("no-mail-host", "bounce", "recipient", True)),
        (Failure.NO_MAIL_HOST, ("no-mail-host", "bounce", "recipient", False)),
        (Failure.DNS_TEMPORARY, ("dns", "defer", "site", False)),
        (Failure.CONNECTION_REFUSED, ("connection", "defer", "site", False)),
        (Failure.CONNECTION_TIMEOUT, ("connection", "defer", "site", False)),
        (Failure.UNREACHABLE, ("connection", "defer", "site", False)),
        (Failure.CONNECTION_LOST, ("connection", "defer", "site", False)),
        (Failure.REPLY_TIMEOUT, ("connection", "defer", "site", False)),
        (Failure.PROTOCOL, ("protocol", "defer", "site", False)),
        (Failure.TLS_REQUIRED, ("tls-required", "defer", "site", False)),
        (Failure.TLS_HANDSHAKE, ("tls-required", "defer", "site", False)),
        (Failure.TLS_UNPROVEN, ("tls-required", "bounce", "site", False)),
        (Failure.REQUIRETLS, ("tls-required", "bounce", "site", False)),
        (Failure.TOO_LARGE, ("message-too-large", "bounce", "content", False)),
        (Failure.NEEDS_SMTPUTF8, ("unsupported", "bounce", "site", False)),
        (Failure.NEEDS_8BITMIME, ("unsupported", "bounce", "site", False)),
        (Failure.RENDER, ("render", "bounce", "us", False)),
    ],
)
def test_each_failure_without_a_reply(failure: Failure, expected: tuple[str, str, str, bool]) -> None:
    verdict = CLASSIFIER.judge(Outcome(Phase.CONNECT, failure=failure), None, attempts=1, age_s=0)
    assert seen(verdict) == expected
    assert verdict.rule == f"failure:{failure.value}"


def test_every_failure_has_a_meaning() -> None:
    for failure in set(Failure) - {Failure.NONE}:
        CLASSIFIER.judge(Outcome(Phase.CONNECT, failure=failure), None, attempts=1, age_s=0)
    with pytest.raises(KeyError):
        CLASSIFIER.judge(Outcome(Phase.CONNECT), None, attempts=1, age_s=0)


@pytest.mark.parametrize(
    ("code", "text", "phase", "expected"),
    [
        # A 550 or 551 at RCPT without words, status or doubt is an unknown mailbox (RFC 5321 4.2.3).
        (550, "", Phase.RCPT, ("unknown-user", "bounce", "recipient", True)),
        (550, "<ann@example.org>", Phase.RCPT, ("unknown-user", "bounce", "recipient", True)),
        (551, "user not here", Phase.RCPT, ("unknown-user", "bounce", "recipient", True)),
        (550, "no thanks", Phase.RCPT, ("undetermined", "bounce", "site", False)),
        (550, "sorry, this ip is not welcome", Phase.RCPT, ("policy", "bounce", "site", False)),
        (550, "192.0.2.4 go away", Phase.RCPT, ("policy", "bounce", "site", False)),
        (550, "5.0.0 sorry", Phase.RCPT, ("undetermined", "bounce", "site", False)),
        (550, "an error has happened", Phase.RCPT, ("undetermined", "bounce", "site", False)),
        (550, "მეილი ვერ მიიღება", Phase.RCPT, ("undetermined", "bounce", "site", False)),
        # The same words elsewhere are about something else.
        (550, "", Phase.MESSAGE, ("policy", "bounce", "site", False)),
        (550, "", Phase.DATA, ("policy", "bounce", "site", False)),
        (550, "", Phase.MAIL, ("sender-rejected", "bounce", "us", False)),
        (550, "", Phase.GREETING, ("policy", "defer", "site", False)),
        (552, "", Phase.RCPT, ("mailbox-full", "bounce", "recipient", False)),
        (552, "", Phase.MESSAGE, ("message-too-large", "bounce", "content", False)),
        (553, "", Phase.RCPT, ("bad-address-syntax", "bounce", "recipient", False)),
        (553, "", Phase.MAIL, ("sender-rejected", "bounce", "us", False)),
        (554, "", Phase.MESSAGE, ("policy", "bounce", "site", False)),
        (554, "", Phase.CONNECT, ("policy", "defer", "site", False)),
        (521, "", Phase.GREETING, ("no-mail-host", "bounce", "recipient", False)),
        (556, "", Phase.RCPT, ("no-mail-host", "bounce", "recipient", False)),
        (421, "", Phase.GREETING, ("remote-down", "defer", "site", False)),
        (450, "", Phase.RCPT, ("mailbox-busy", "defer", "recipient", False)),
        (451, "", Phase.MESSAGE, ("remote-down", "defer", "site", False)),
        (452, "", Phase.MAIL, ("out-of-storage", "defer", "site", False)),
        (454, "", Phase.TLS, ("tls-required", "defer", "site", False)),
        (499, "", Phase.RCPT, ("undetermined", "defer", "site", False)),
        (599, "", Phase.RCPT, ("undetermined", "bounce", "site", False)),
    ],
)
def test_the_bare_code_goes_by_its_phase(
    code: int, text: str, phase: Phase, expected: tuple[str, str, str, bool]
) -> None:
    assert seen(judge(code, text, phase)) == expected


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        (Phase.RCPT, ("unknown-user", "bounce", True)),
        (Phase.DATA, ("unknown-user", "bounce", True)),
        (Phase.MESSAGE, ("unknown-user", "bounce", True)),
        (Phase.MAIL, ("sender-rejected", "bounce", False)),
        (Phase.EHLO, ("policy", "defer", False)),
        (Phase.GREETING, ("policy", "defer", False)),
        (Phase.CONNECT, ("policy", "defer", False)),
    ],
)
def test_words_about_a_mailbox_count_only_once_the_recipient_is_named(
    phase: Phase, expected: tuple[str, str, bool]
) -> None:
    verdict = judge(550, "5.1.1 User unknown", phase)
    assert (verdict.bounce_class, verdict.action.value, verdict.suppress) == expected


@pytest.mark.parametrize("status", sorted(STATUS_CLASS))
def test_the_enhanced_status_decides_where_no_word_does(status: tuple[int, int]) -> None:
    subject, detail = status
    expected = STATUS_CLASS[status]
    permanent = judge(550, f"5.{subject}.{detail} xyzzy")
    transient = judge(450, f"4.{subject}.{detail} xyzzy")
    assert permanent.bounce_class == transient.bounce_class == expected
    assert transient.action is Action.DEFER
    assert not transient.suppress
    assert permanent.suppress == (expected in ("unknown-user", "mailbox-disabled"))


@pytest.mark.parametrize(
    ("text", "bounce_class"),
    [
        ("#5.1.1 xyzzy", "unknown-user"),
        ("xyzzy (#5.2.2)", "mailbox-full"),
        ("xyzzy [5.7.20]", "authentication"),
        ("4.2.2 xyzzy", "mailbox-full"),  # its class contradicts the code: why is believed, what to do is not
        ("xyzzy 5.1.1.7", "policy"),  # an IP address
        ("xyzzy\n5.2.2 plugh", "mailbox-full"),
    ],
)
def test_a_status_is_found_where_servers_put_it(text: str, bounce_class: str) -> None:
    verdict = judge(550, text)
    assert (verdict.bounce_class, verdict.action) == (bounce_class, Action.BOUNCE)


@pytest.mark.parametrize(
    ("code", "text", "tries"),
    [
        (554, "5.7.1 Client host [192.0.2.4] blocked using zen.spamhaus.org", 3),
        (550, "5.7.1 Greylisted for 5 minutes", 8),
        (554, "5.7.1 You are sending too many messages, slow down", 8),
        (550, "Temporary failure, please try again later", 8),
        (554, "5.3.1 Mail system full", 8),
    ],
)
def test_a_5yz_that_is_temporary_in_truth_is_believed_for_some_tries_and_a_day(
    code: int, text: str, tries: int
) -> None:
    assert judge(code, text, attempts=tries - 1).action is Action.DEFER
    assert judge(code, text, attempts=tries).action is Action.BOUNCE
    assert judge(code, text, age_s=MAX_DOUBT_S - 1).action is Action.DEFER
    assert judge(code, text, age_s=MAX_DOUBT_S).action is Action.BOUNCE
    assert not judge(code, text, attempts=tries).suppress


def test_a_5yz_before_mail_is_tried_elsewhere_first() -> None:
    assert judge(554, "go away", Phase.GREETING, attempts=2).action is Action.DEFER
    assert judge(554, "go away", Phase.GREETING, attempts=3).action is Action.BOUNCE


def test_words_that_also_speak_of_the_sender_never_suppress() -> None:
    assert judge(550, "5.1.1 the account of the recipient, or of the sender").suppress is False
    assert judge(550, "5.1.1 the account of the recipient").suppress is True


def test_a_4yz_that_will_never_change_bounces_by_a_rule() -> None:
    verdict = judge(421, "4.7.0 [TSS09] All messages from 192.0.2.5 will be permanently deferred", provider="yahoo")
    assert seen(verdict) == ("ip-reputation", "bounce", "source", False)


def test_the_recipients_provider_is_asked_first_then_everybody_then_other_providers() -> None:
    words = "5.4.1 Recipient address rejected: Access denied"
    assert judge(550, words, provider="outlook").bounce_class == "unknown-user"
    assert judge(550, words, provider="gmail").bounce_class == "recipient-rejected"
    gmail = "5.7.1 this message is likely unsolicited mail"
    assert judge(550, gmail, provider="gmail").rule == "gmail-unsolicited"
    assert judge(550, gmail, provider="yahoo").rule == "spam"
    assert judge(554, "IP=192.0.2.4 - None/bad reputation (NOWL)", provider="comcast").bounce_class == "ip-reputation"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("4.7.1 Greylisted, please try again in 300 seconds", 300),
        ("4.7.1 Greylisted, try again in 5 minutes", 300),
        ("4.7.1 please retry in 2 hours", 7200),
        ("4.7.1 try again in 999 hours", 14_400),
        ("4.7.1 try again later", None),
        ("4.7.0 [TSS04] Messages from 192.0.2.4 temporarily deferred due to user complaints", 7200),
    ],
)
def test_how_long_the_remote_wants_to_be_left_alone(text: str, seconds: int | None) -> None:
    verdict = judge(451, text)
    assert CLASSIFIER.retry_after_s(verdict, Reply(451, (text,))) == seconds


def test_nobody_is_left_alone_without_a_reply() -> None:
    outcome = Outcome(Phase.CONNECT, failure=Failure.CONNECTION_REFUSED)
    verdict = CLASSIFIER.judge(outcome, None, attempts=1, age_s=0)
    assert CLASSIFIER.retry_after_s(verdict, None) is None


def test_an_explanation_names_the_rule_and_its_sample() -> None:
    found = CLASSIFIER.explain(Reply(550, ("5.1.1 User unknown",)), None)
    assert found.rule is not None
    assert found.verdict.rule == found.rule.name == "user-unknown"
    assert found.sample == found.rule.matches[0]
    assert CLASSIFIER.explain(Reply(250, ("OK",)), None).verdict.action is Action.DELIVER


def test_two_rules_with_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="several rules"):
        Classifier([CLASSIFIER.rules[0], CLASSIFIER.rules[0]])


def test_the_class_table_is_whole() -> None:
    assert {one.name for one in BOUNCE_CLASSES.values() if one.suppress} == {"unknown-user", "mailbox-disabled"}
    for one in BOUNCE_CLASSES.values():
        assert one.meaning.endswith(".")
        assert (one.tries > 1) == (one.action is Action.DEFER)
        assert not one.suppress or one.fault is Fault.RECIPIENT
    assert {one.name for one in BOUNCE_CLASSES.values() if one.other_source} == {
        "ip-reputation",
        "ip-blocklisted",
        "ptr",
    }


_BITS = """
550 5.1.1 4.7.0 user unknown mailbox full spam blocked <ann@example.org> [192.0.2.4] https://x.example/?a=1 greylisted
try again later 5.7.26 @ ... (#5.2.2) пользователь 用户不存在 \ufffd é\u0301 ,;:- 999
"""
_WORDS = st.sampled_from([*_BITS.split(), "\x00", ""])


@settings(max_examples=300)
@given(
    code=st.integers(0, 999),
    lines=st.lists(st.lists(_WORDS, max_size=12).map(" ".join) | st.text(max_size=80), max_size=5),
    phase=st.sampled_from(list(Phase)),
    provider=st.sampled_from([None, "gmail", "outlook", "yahoo", "nobody"]),
    attempts=st.integers(1, 50),
    age_s=st.floats(0, 10**6),
)
def test_any_reply_gets_a_verdict(
    code: int, lines: list[str], phase: Phase, provider: str | None, attempts: int, age_s: float
) -> None:
    reply = Reply(code, tuple(lines))
    verdict = CLASSIFIER.judge(Outcome(phase, reply), provider, attempts=attempts, age_s=age_s)
    assert verdict.bounce_class in BOUNCE_CLASSES
    assert (verdict.action is Action.DELIVER) == (phase is Phase.MESSAGE and 200 <= code < 300)
    if verdict.suppress:
        assert 500 <= code < 600
        assert verdict.action is Action.BOUNCE
        assert verdict.fault is Fault.RECIPIENT
        assert phase in (Phase.RCPT, Phase.DATA, Phase.MESSAGE)
    CLASSIFIER.retry_after_s(verdict, reply)


@settings(max_examples=100)
@given(data=st.data())
def test_line_breaks_anywhere_change_nothing(data: st.DataObject) -> None:
    rule = data.draw(st.sampled_from(CLASSIFIER.rules))
    sample = data.draw(st.sampled_from(rule.matches))
    if "\n" in sample:
        return
    code, _, text = sample.partition(" ")
    words = text.split(" ")
    status = f"{words[0]} " if re.fullmatch(r"[45]\.\d{1,3}\.\d{1,3}", words[0]) else ""
    breaks = data.draw(st.sets(st.integers(2, max(2, len(words) - 1)), max_size=3))
    lines: list[str] = [words[0]]
    for number, word in enumerate(words[1:], 1):
        if number in breaks and number > 1:
            lines.append(status + word)
        else:
            lines[-1] += " " + word
    whole = CLASSIFIER.explain(Reply(int(code[:3]), (text,)), rule.provider)
    broken = CLASSIFIER.explain(Reply(int(code[:3]), tuple(lines)), rule.provider)
    assert broken.verdict == whole.verdict
