"""Who gets which manner, and the catalogue that says so."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from mailfleet.base.errors import ConfigError
from mailfleet.mail.address import Address
from mailfleet.sandbox import catalogue
from mailfleet.sandbox.catalogue import Words
from mailfleet.sandbox.manners import PREFIXES, REASONS, Manner, manner_of

RATES = {Manner.UNKNOWN: 0.1, Manner.GREY: 0.2}


def people(count: int) -> list[Address]:
    return [Address(f"person.{number}", "gmail.com") for number in range(count)]


@pytest.mark.parametrize(("prefix", "manner"), PREFIXES)
def test_a_local_part_asks_for_its_manner(prefix: str, manner: Manner) -> None:
    for local_part in (prefix, prefix.upper(), f"{prefix}-17", f"{prefix}.ann+tag"):
        assert manner_of(Address(local_part, "gmail.com"), "gmail", 1, {Manner.UNKNOWN: 1.0}) is manner


def test_the_same_seed_decides_the_same_and_another_seed_does_not() -> None:
    def decide(seed: int) -> list[Manner]:
        return [manner_of(one, "gmail", seed, RATES) for one in people(2000)]

    assert decide(1) == decide(1)
    assert decide(1) != decide(2)


def test_shares_come_out_as_configured() -> None:
    counted = Counter(manner_of(one, "gmail", 3, RATES) for one in people(20_000))
    assert 0.09 < counted[Manner.UNKNOWN] / 20_000 < 0.11
    assert 0.185 < counted[Manner.GREY] / 20_000 < 0.215


def test_letter_case_does_not_change_the_decision() -> None:
    for one in people(200):
        shouted = Address(one.local_part.upper(), one.domain)
        assert manner_of(one, "gmail", 1, RATES) is manner_of(shouted, "gmail", 1, RATES)


def test_every_provider_has_words_for_everything_it_may_have_to_say() -> None:
    needed = {"greeting", "ehlo", "mail", "rcpt", "data", "accepted", "malformed", "bare-newline", "too-large", "relay"}
    needed |= {"connections", "connection-rate", "messages"} | {manner.value for manner in REASONS} - {"drop"}
    values = {"client": "127.0.0.1", "recipient": "ann@gmail.com", "domain": "gmail.com", "host": "mx", "id": "1"}
    for spec in catalogue.load():
        assert set(spec.words) == needed, spec.name
        for key, words in spec.words.items():
            if key == "ehlo":
                continue
            wire = words.encode(**values, message_id="<1@x>", size=3)
            lines = wire.decode("ascii").removesuffix("\r\n").split("\r\n")
            assert all(len(line) <= 510 for line in lines), (spec.name, key)  # RFC 5321 4.5.3.1.5
            assert [line[3] for line in lines] == ["-"] * (len(lines) - 1) + [" "]
            assert not words.enhanced or words.enhanced[0] == str(words.code)[0], (spec.name, key)


def test_refusals_have_the_class_their_manner_promises() -> None:
    for spec in catalogue.load():
        for manner in (Manner.UNKNOWN, Manner.DISABLED, Manner.BLOCKED, Manner.SPAM):
            assert 500 <= spec.words[manner].code < 600
        for manner in (Manner.GREY, Manner.LATER, Manner.RATELIMIT, Manner.FULL_CLEARS):
            assert 400 <= spec.words[manner].code < 500
        assert spec.words["later"].code == 421


@pytest.mark.parametrize(
    ("text", "code", "enhanced", "lines"),
    [
        ("550 5.1.1 No such user", 550, "5.1.1", ("No such user",)),
        ("354 go ahead", 354, "", ("go ahead",)),
        ("250 2 much", 250, "", ("2 much",)),
        ("451 4.7.500 Busy\nlater", 451, "4.7.500", ("Busy", "later")),
        ("{host}", 0, "", ("{host}",)),
    ],
)
def test_words_are_read(text: str, code: int, enhanced: str, lines: tuple[str, ...]) -> None:
    assert Words.parse(text) == Words(code, enhanced, lines)


def test_rates_from_the_data_folder_replace_those_of_the_providers_they_name(tmp_path: Path) -> None:
    (tmp_path / "sandbox").mkdir()
    (tmp_path / "sandbox" / "rates.toml").write_text('["*"]\n[gmail]\nunknown = 0.5\nspam = 0\n')
    rates = {spec.name: dict(spec.rates) for spec in catalogue.load(tmp_path)}
    assert rates["gmail"] == {Manner.UNKNOWN: 0.5}
    assert rates["smallbiz"] == {}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[gnail]\nunknown = 0.5", "gnail"),
        ("[gmail]\nunknwon = 0.5", "unknwon"),
        ("[gmail]\nunknown = 1.5", "from 0 to 1"),
        ("[gmail]\nunknown = true", "from 0 to 1"),
        ("[gmail]\nunknown = 0.6\nfull = 0.6", "more than 1"),
        ("gmail = 3", "3"),
        ("[gmail", "TOML"),
    ],
)
def test_wrong_rates_are_named(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "sandbox").mkdir()
    (tmp_path / "sandbox" / "rates.toml").write_text(text)
    with pytest.raises(ConfigError, match=what) as raised:
        catalogue.load(tmp_path)
    assert "rates.toml" in raised.value.where


@pytest.mark.parametrize("base", ["192.0.2.0", "0.0.0.0", "126.255.255.254", "127.255.255.253", "::1", "nonsense"])
def test_addresses_that_are_not_loopback_are_refused(base: str) -> None:
    with pytest.raises(ConfigError) as raised:
        catalogue.provider_addresses(catalogue.load(), base)
    assert raised.value.where == "sandbox.address_base"
