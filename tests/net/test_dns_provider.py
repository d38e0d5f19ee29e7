"""Records put into a zone of a real PowerDNS through octoDNS: only what is asked for changes, whatever happens in between."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import dns.message
import dns.query
import pytest

from mailfleet.base.errors import InputError
from mailfleet.net.dns_provider import ProviderZone
from mailfleet.net.dns_update import Change, DnsUpdateError, Guard
from tests.peers.powerdns import API_KEY, PowerDns
from tests.ports import free_port

PROVIDER = "octodns_powerdns.PowerDnsProvider"
SPF, NEW_SPF = "v=spf1 a -all", "v=spf1 a mx -all"
FOREIGN = r'"semi;colon \"quoted\" \195\182"'
ZONE = [f'@ TXT "{SPF}"', f"@ TXT {FOREIGN}", "@ MX 10 office", "office A 127.0.0.9"]
SWAP = [Change("remove", "shop.test", "TXT", SPF), Change("add", "shop.test", "TXT", NEW_SPF)]
SEEN = Guard("shop.test", "TXT", (f'"{SPF}"', FOREIGN))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PowerDns]:
    started = PowerDns(tmp_path_factory.mktemp("powerdns"), {})
    yield started
    started.close()


@pytest.fixture
def powerdns(server: PowerDns) -> Iterator[PowerDns]:
    """With the zone as it stands above."""
    server.add_zone("shop.test", ZONE)
    yield server
    server.remove_zone("shop.test")


Between = Callable[..., str]


def zone_at(
    powerdns: PowerDns,
    tmp_path: Path,
    *,
    zone: str = "shop.test",
    provider: str = PROVIDER,
    api_key: str = API_KEY,
    timeout_s: float = 30,
    **settings: Any,
) -> ProviderZone:
    told = {"host": "127.0.0.1", "port": powerdns.api_port, **settings}
    return ProviderZone(
        zone, provider, told, {"api_key": api_key}, lock=tmp_path / "lock", timeout_s=timeout_s, loopback_only=True
    )


def answer(powerdns: PowerDns, name: str, kind: str) -> set[str]:
    query = dns.message.make_query(name, kind)
    return {
        str(data)
        for rrset in dns.query.tcp(query, "127.0.0.1", port=powerdns.port, timeout=10).answer
        for data in rrset
    }


async def test_every_kind_of_record_is_put_there_and_taken_away_again(powerdns: PowerDns, tmp_path: Path) -> None:
    before = powerdns.everything("shop.test")
    key = "v=DKIM1; k=rsa; p=" + "MIIBIjANBgkqhkiG9w0BAQEFAAOC" * 15
    tlsa = "3 1 1 " + "ab" * 32
    records = [
        ("s1._domainkey.shop.test", "TXT", key),
        ("shop.test", "TXT", "v=test; of=shared"),
        ("bounce.shop.test", "MX", "10 mta.shop.test."),
        ("mta-sts.shop.test", "CNAME", "mta.shop.test."),
        ("shop.test", "CAA", '0 issue "authority.test"'),
        ("_25._tcp.mta.shop.test", "TLSA", tlsa),
    ]
    zone = zone_at(powerdns, tmp_path)
    for _ in range(2):  # again is as once
        await zone.apply([Change("add", *one) for one in records], 60)
        assert len(powerdns.everything("shop.test")) == len(before) + len(records)
    (found,) = answer(powerdns, "s1._domainkey.shop.test", "TXT")
    assert found.replace('" "', "") == f'"{key}"'
    assert answer(powerdns, "shop.test", "TXT") == {f'"{SPF}"', FOREIGN, '"v=test; of=shared"'}
    assert answer(powerdns, "bounce.shop.test", "MX") == {"10 mta.shop.test."}
    assert answer(powerdns, "mta-sts.shop.test", "CNAME") == {"mta.shop.test."}
    assert answer(powerdns, "shop.test", "CAA") == {'0 issue "authority.test"'}
    assert answer(powerdns, "_25._tcp.mta.shop.test", "TLSA") == {tlsa}
    await zone.apply([Change("remove", *one) for one in records], 60)
    assert powerdns.everything("shop.test") == before
    await zone.apply([Change("remove", *one) for one in records], 60)


async def test_one_of_a_shared_set_is_replaced_and_the_others_stay(powerdns: PowerDns, tmp_path: Path) -> None:
    await zone_at(powerdns, tmp_path).apply(SWAP, 60, [SEEN])
    assert answer(powerdns, "shop.test", "TXT") == {f'"{NEW_SPF}"', FOREIGN}
    assert answer(powerdns, "shop.test", "MX") == {"10 office.shop.test."}
    assert not [line for line in powerdns.everything("shop.test") if line.startswith("shop.test. 60")], "its own TTL"


async def test_what_was_changed_since_it_was_seen_is_a_conflict(powerdns: PowerDns, tmp_path: Path) -> None:
    powerdns.put("shop.test", "shop.test", "TXT", f'"{SPF}"', '"somebody was here"')
    before = powerdns.everything("shop.test")
    with pytest.raises(DnsUpdateError, match="the zone has changed meanwhile: look again"):
        await zone_at(powerdns, tmp_path).apply(SWAP, 60, [SEEN])
    assert powerdns.everything("shop.test") == before


@pytest.mark.parametrize("kind", ["CNAME", "A"])
async def test_a_cname_stands_alone(powerdns: PowerDns, tmp_path: Path, kind: str) -> None:
    powerdns.put("shop.test", "mta-sts.shop.test", kind, "elsewhere.test." if kind == "CNAME" else "127.0.0.7")
    with pytest.raises(DnsUpdateError, match=r"mta-sts.shop.test.*(another one is there|beside A)"):
        await zone_at(powerdns, tmp_path).apply([Change("add", "mta-sts.shop.test", "CNAME", "mta.shop.test.")], 60)


def nothing() -> None:
    """What happens in between otherwise."""


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Between:
    """Makes a provider of PowerDNS before whose second look at the zone something happens, or before its change; its name."""

    def make(look: Callable[[], None] = nothing, change: Callable[[], None] = nothing) -> str:
        from octodns_powerdns import PowerDnsProvider

        looks = iter([nothing, look])

        class Meanwhile(PowerDnsProvider):  # type: ignore[misc]  # octoDNS has no types
            def populate(self, *args: Any, **named: Any) -> Any:
                next(looks, nothing)()
                return super().populate(*args, **named)

            def _apply(self, plan: Any) -> None:
                change()
                super()._apply(plan)

        module = ModuleType("octodns_meanwhile")
        module.__dict__["Meanwhile"] = Meanwhile
        monkeypatch.setitem(sys.modules, "octodns_meanwhile", module)
        return "octodns_meanwhile.Meanwhile"

    return make


async def test_what_others_write_elsewhere_meanwhile_stays(
    powerdns: PowerDns, tmp_path: Path, between: Between
) -> None:
    provider = between(lambda: powerdns.put("shop.test", "www.shop.test", "A", "127.0.0.8"))
    await zone_at(powerdns, tmp_path, provider=provider).apply(SWAP, 60, [SEEN])
    assert answer(powerdns, "www.shop.test", "A") == {"127.0.0.8"}
    assert answer(powerdns, "shop.test", "TXT") == {f'"{NEW_SPF}"', FOREIGN}


async def test_what_others_write_there_meanwhile_is_a_conflict(
    powerdns: PowerDns, tmp_path: Path, between: Between
) -> None:
    provider = between(lambda: powerdns.put("shop.test", "shop.test", "TXT", f'"{SPF}"', '"somebody was here"'))
    with pytest.raises(DnsUpdateError, match="the zone has changed meanwhile: look again"):
        await zone_at(powerdns, tmp_path, provider=provider).apply(SWAP, 60, [SEEN])
    assert answer(powerdns, "shop.test", "TXT") == {f'"{SPF}"', '"somebody was here"'}


async def test_a_server_that_hangs_is_given_up_and_does_nothing_afterwards(powerdns: PowerDns, tmp_path: Path) -> None:
    before = powerdns.everything("shop.test")
    powerdns.freeze()
    try:
        with pytest.raises(DnsUpdateError, match=r"gave no answer in 0\.5 s: nothing was changed"):
            await zone_at(powerdns, tmp_path, timeout_s=0.5, timeout=60).apply(SWAP, 60, [SEEN])
    finally:
        powerdns.thaw()
    # The lock is held by the thread that was given up, until it has seen that it was.
    await zone_at(powerdns, tmp_path).apply([Change("add", "x.shop.test", "TXT", "x")], 60)
    assert [line for line in powerdns.everything("shop.test") if line not in before] == ['x.shop.test. 60 TXT "x"']


async def test_a_server_that_hangs_while_it_changes_leaves_it_open(
    powerdns: PowerDns, tmp_path: Path, between: Between
) -> None:
    provider = between(change=powerdns.freeze)
    try:
        with pytest.raises(
            DnsUpdateError, match="whether the zone was changed is not known, publishing again finds out"
        ):
            await zone_at(powerdns, tmp_path, provider=provider, timeout_s=5, timeout=60).apply(SWAP, 60, [SEEN])
    finally:
        powerdns.thaw()
    await zone_at(powerdns, tmp_path).apply(SWAP, 60)
    assert answer(powerdns, "shop.test", "TXT") == {f'"{NEW_SPF}"', FOREIGN}


async def test_many_at_once_take_turns(powerdns: PowerDns, tmp_path: Path) -> None:
    values = [f"v=test; number={number}" for number in range(5)]
    await asyncio.gather(
        *(zone_at(powerdns, tmp_path).apply([Change("add", "shop.test", "TXT", value)], 60) for value in values)
    )
    assert answer(powerdns, "shop.test", "TXT") == {f'"{SPF}"', FOREIGN, *(f'"{value}"' for value in values)}


async def test_nobody_is_there(powerdns: PowerDns, tmp_path: Path) -> None:
    zone = zone_at(powerdns, tmp_path, port=free_port())
    with pytest.raises(DnsUpdateError, match="PowerDnsProvider cannot be reached"):
        await zone.apply(SWAP, 60)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"api_key": "a-wrong-key-of-tests"}, "does not accept the credentials"),
        ({"zone": "other.test"}, "has no zone other.test: make it there"),
        ({"provider": "octodns_nowhere.Nowhere"}, "pip install octodns-nowhere"),
        ({"provider": "octodns_powerdns.Nowhere"}, "has no provider Nowhere"),
        ({"provider": "octodns_powerdns.Session"}, "has no provider Session"),
        ({"provider": "subprocess.Popen"}, "'subprocess.Popen' is not a provider of octoDNS"),
        ({"host": "192.0.2.1"}, "all is limited to loopback"),
        ({"colour": "blue"}, "unexpected keyword argument 'colour'"),
    ],
)
async def test_words_for_what_cannot_work(powerdns: PowerDns, tmp_path: Path, given: dict[str, Any], says: str) -> None:
    with pytest.raises((DnsUpdateError, InputError)) as caught:
        await zone_at(powerdns, tmp_path, **given).prove()
    assert says in str(caught.value)
    assert "wrong-key" not in str(caught.value)
