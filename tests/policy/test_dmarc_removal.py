"""Which DMARC reports go with a sending domain."""

from __future__ import annotations

import pytest

from mailfleet.policy.dmarc_removal import stays_for


@pytest.mark.parametrize(
    ("policy_domain", "others", "stays"),
    [
        ("shop.example", [], ()),
        ("shop.example", ["other.example"], ()),
        ("other.example", ["other.example"], None),
        ("shop.example", ["news.shop.example"], ("news.shop.example",)),  # whose policy it may be
        ("news.shop.example", ["news.shop.example"], None),
        ("a.news.shop.example", ["news.shop.example"], None),
        ("b.shop.example", ["news.shop.example"], ()),
        ("b.shop.example", ["a.b.shop.example"], ("a.b.shop.example",)),
    ],
)
def test_of_the_domain_above(policy_domain: str, others: list[str], stays: tuple[str, ...] | None) -> None:
    assert stays_for(policy_domain, "shop.example", others) == stays


@pytest.mark.parametrize(
    ("policy_domain", "others", "stays"),
    [
        ("news.shop.example", ["shop.example"], ()),
        ("shop.example", ["shop.example"], None),
        ("shop.example", ["mail.shop.example"], ("mail.shop.example",)),
        ("shop.example", [], ()),
        ("b.shop.example", [], ()),  # nobody is left whom it could concern
        ("b.shop.example", ["mail.shop.example"], None),
        ("shop.example", ["other.example"], ()),
    ],
)
def test_of_a_domain_below(policy_domain: str, others: list[str], stays: tuple[str, ...] | None) -> None:
    assert stays_for(policy_domain, "news.shop.example", others) == stays
