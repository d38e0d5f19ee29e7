"""Recognising a provider by its MX hosts."""

from __future__ import annotations

import pytest

from mailfleet.policy.providers import Layer, Limits, Provider, ProviderTable

BIG = Provider("big", "Big", ("big.example", "bigmail.example"))
SMALL = Provider("small", "Small", ("small.big.example",))
TABLE = ProviderTable(
    [BIG, SMALL],
    [
        Layer("default", "", "", {"connections": 10, "messages_per_connection": 100}),
        Layer("big", "big", "", {"connections": 5, "messages_per_connection": 50}),
    ],
)


@pytest.mark.parametrize(
    ("hosts", "name"),
    [
        (["mx.big.example"], "big"),
        (["big.example"], "big"),
        (["MX1.BIG.example.", "mx2.bigmail.example"], "big"),
        (["mx.small.big.example"], "small"),
        (["mx.small.big.example", "mx.big.example"], None),
        (["mx.big.example", "mx.own.example"], None),
        (["mx.notbig.example"], None),
        (["big.example.attacker.test"], None),
        ([], None),
        ([""], None),
        (["."], None),
    ],
)
def test_all_hosts_must_belong_to_one_provider_by_whole_labels(hosts: list[str], name: str | None) -> None:
    assert TABLE.provider_of(hosts) == name


def test_limits_of_the_unknown_are_the_defaults() -> None:
    assert TABLE.limits_for("big") == Limits(5, 50)
    assert TABLE.limits_for(None) == TABLE.limits_for("nobody") == Limits(10, 100)


def test_a_name_or_suffix_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="one name"):
        ProviderTable([BIG, BIG], [])
    with pytest.raises(ValueError, match=r"big\.example belongs"):
        ProviderTable([BIG, Provider("x", "X", ("big.example",))], [])
