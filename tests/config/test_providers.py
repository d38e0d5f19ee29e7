"""The shipped providers: each recognises its own MX hosts and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailfleet.base.errors import ConfigError
from mailfleet.config.providers import SHIPPED, faults, load_providers
from mailfleet.policy.providers import Limits
from mailfleet.policy.rates import parse

TABLE = load_providers()


@pytest.mark.parametrize("name", sorted(TABLE.providers))
def test_each_provider_recognises_its_samples(name: str) -> None:
    provider = TABLE.providers[name]
    for hosts in provider.mx_matches:
        assert TABLE.provider_of(hosts) == name, hosts
    for hosts in provider.mx_rejects:
        assert TABLE.provider_of(hosts) != name, hosts


@pytest.mark.parametrize("name", sorted(TABLE.providers))
def test_each_suffix_is_a_plain_name_no_other_provider_has_below_it(name: str) -> None:
    for suffix in TABLE.providers[name].mx_suffixes:
        assert suffix == suffix.lower().strip(".")
        assert "." in suffix
        assert TABLE.provider_of([f"mx9.{suffix}"]) == name


def test_there_are_enough_of_them() -> None:
    assert len(TABLE.providers) >= 25


@pytest.mark.parametrize(
    ("provider", "limits"),
    [
        (None, Limits(10, 100, parse("100/s"))),
        ("never-heard-of", Limits(10, 100, parse("100/s"))),
        ("gmail", Limits(5, 50, parse("100/s"), tls="required", provider_connections=20)),
        ("outlook", Limits(5, 50, parse("100/s"), provider_connections=50)),
        ("yahoo", Limits(10, 20, parse("100/s"))),
        ("apple", Limits(10, 5, parse("100/s"))),
        ("comcast", Limits(25, 1000, parse("100/s"))),
        ("gmx", Limits(4, 20, parse("100/s"))),
        ("orange", Limits(2, 100, parse("100/s"))),
        ("yahoo-japan", Limits(2, 20, parse("10/s"))),
        ("mimecast", Limits(10, 100, parse("100/s"))),
        ("barracuda", Limits(10, 15, parse("100/s"))),
        ("qq", Limits(4, 8, parse("100/s"))),
        ("netease", Limits(4, 7, parse("100/s"))),
        ("kpn", Limits(10, 10, parse("100/s"))),
    ],
)
def test_the_starting_limits(provider: str | None, limits: Limits) -> None:
    assert TABLE.limits_for(provider) == limits


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('name = "outlook"', 'name = "gmail"', "two providers are called gmail"),
        ('mx_suffixes = ["yahoodns.net", "mx.aol.com"]', 'mx_suffixes = ["google.com"]', "belongs to gmail and yahoo"),
        ("connections = 5", "connections = 0", "greater than or equal to 1"),
        ('tls = "required"', 'tls = "always"', "required"),
        ('label = "Free"', 'lable = "Free"', "lable: Extra inputs"),
        ("\n[default]\nconnections", "\n[default\nconnections", "cannot be read"),
    ],
)
def test_a_broken_file_is_refused_by_name(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    shipped = SHIPPED.read_text("utf-8")
    assert old in shipped
    broken = tmp_path / "providers.toml"
    broken.write_text(shipped.replace(old, new, 1), "utf-8")
    with pytest.raises(ConfigError, match=r"providers\.toml") as raised:
        load_providers(broken)
    assert complaint in str(raised.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_providers(tmp_path / "none.toml")


OWN = """
[default]
connections = 8

[[provider]]
name = "gmail"
connections = 3
retry_after = "20min"

[[provider]]
name = "ours"
label = "Our own"
mx_suffixes = ["mx.ours.example"]
rate = "500/s"
mx_matches = [["in.mx.ours.example"]]

[[source]]
name = "s1"
provider = "gmail"
rate = "20000/d"

[[source]]
name = "s2"
messages_per_connection = 7
"""


def own(tmp_path: Path, text: str = OWN) -> Path:
    path = tmp_path / "own.toml"
    path.write_text(text)
    return path


def test_a_users_file_goes_over_the_shipped_one(tmp_path: Path) -> None:
    table = load_providers(own(tmp_path))
    assert table.limits_for(None) == Limits(8, 100, parse("100/s"))
    assert table.limits_for("gmail") == Limits(
        3, 50, parse("100/s"), tls="required", retry_after_s=1200, provider_connections=20
    )
    assert table.limits_for("gmail", "s1") == Limits(
        3, 50, parse("20000/d"), tls="required", retry_after_s=1200, provider_connections=20
    )
    assert table.limits_for("gmail", "s2").messages_per_connection == 7
    assert table.limits_for("yahoo", "s1") == table.limits_for("yahoo")
    assert table.provider_of(["in.mx.ours.example"]) == "ours"
    assert faults(table, [own(tmp_path)]) == []


def test_every_limit_says_where_it_comes_from(tmp_path: Path) -> None:
    lines = load_providers(own(tmp_path)).explain("gmail", "s1")
    connections = [(line.value, line.origin, line.binds) for line in lines if line.name == "connections"]
    assert connections == [
        (10, "providers.toml: default", False),
        (8, "own.toml: default", False),
        (5, "providers.toml: provider gmail", False),
        (3, "own.toml: provider gmail", True),
    ]
    assert [line.origin for line in lines if line.name == "rates" and line.binds] == ["own.toml: source s1 at gmail"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[provider]]\nname = "gmail"\nconnections = 5', "own.toml: provider gmail: it changes nothing"),
        (
            '[[source]]\nname = "s1"\nprovider = "gmail"\ntls = "required"',
            "own.toml: source s1 at gmail: it changes nothing",
        ),
        ('[[provider]]\nname = "gmail"\nmx_matches = [["mx.nobody.example"]]', "not recognised as its sample says"),
        ('[[provider]]\nname = "new"\nlabel = "N"\nmx_suffixes = ["n.example"]', "mx_matches is missing"),
    ],
)
def test_what_is_in_vain_is_found(tmp_path: Path, text: str, said: str) -> None:
    path = own(tmp_path, text)
    (found,) = faults(load_providers(path), [path])
    assert said in found


def test_the_shipped_file_has_nothing_in_vain() -> None:
    assert faults(TABLE) == []
    assert [one.origin for one in TABLE.idle()] == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[provider]]\nname = "gmial"\nconnections = 5', "no provider 'gmial' to change"),
        ('[[source]]\nname = "s1"\nprovider = "nobody"', "no provider 'nobody'"),
        ('[[provider]]\nname = "gmail"\nrate = "fast"', "is no rate"),
    ],
)
def test_a_wrong_own_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=r"own\.toml") as raised:
        load_providers(own(tmp_path, text))
    assert said in str(raised.value)
