"""What each authoritative server says, against real servers: right, missing, lame, failing, silent, over TCP, differing, signed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import dns.flags
import dns.message
import pytest

from mailfleet.base.clock import SystemClock
from mailfleet.net.authoritative import Authoritative
from mailfleet.net.dns_query import DnsQuerier
from mailfleet.net.secure_dns import SecureDns
from mailfleet.net.server_turns import IN_ROUNDS, ServerTurns
from tests.engine.plant import FakeClock
from tests.net.zone_server import ZoneServer
from tests.peers.knot import Knot
from tests.peers.unbound import Unbound

FIRST, SECOND = "127.0.82.1", "127.0.82.2"
LONG = [f'big TXT "{"x" * 250}" "{number:0250}"' for number in range(12)]
ZONE = [
    "@ NS ns2",
    f"ns2 A {SECOND}",
    '@ TXT "hello" "v=spf1 -all"',
    "@ MX 10 Mail",
    "alias CNAME target.other.test.",
    "inner CNAME txt",
    'txt TXT "part one, " "part two"',
    *LONG,
]
OTHER = ['target TXT "at the end"']


@pytest.fixture
def knot(tmp_path: Path) -> Iterator[Knot]:
    made = Knot(tmp_path / "knot", {"s.test": ZONE, "other.test": OTHER}, addresses=(FIRST, SECOND))
    yield made
    made.close()


def asker(knot: Knot, patience_s: float = 10, turns: ServerTurns | None = None) -> Authoritative:
    querier = DnsQuerier([knot.address], 10, SystemClock())
    return Authoritative(querier, timeout_s=patience_s, port=knot.port, loopback_only=True, turns=turns)


async def test_every_server_is_asked_and_answers_are_whole(knot: Knot) -> None:
    asked = await asker(knot).ask("S.test.", "TXT")
    assert asked.zone == "s.test"
    assert {(one.server, one.address) for one in asked.said} == {("ns.s.test", FIRST), ("ns2.s.test", SECOND)}
    assert asked.agreed == ("hellov=spf1 -all",)
    assert (await asker(knot).ask("txt.s.test", "TXT")).agreed == ("part one, part two",)
    assert (await asker(knot).ask("s.test", "MX")).agreed == ("10 mail.s.test",)


async def test_what_is_not_there(knot: Knot) -> None:
    asked = await asker(knot).ask("nobody.s.test", "TXT")
    assert {one.outcome for one in asked.said} == {"missing"}
    asked = await asker(knot).ask("s.test", "AAAA")
    assert {one.outcome for one in asked.said} == {"none"}
    assert asked.agreed == ()
    asked = await asker(knot).ask("x.elsewhere.example", "TXT")
    assert (asked.said, asked.zone) == ((), "")
    assert asked.words


async def test_aliases_are_followed_within_and_between_zones(knot: Knot) -> None:
    assert (await asker(knot).ask("inner.s.test", "TXT")).agreed == ("part one, part two",)
    asked = await asker(knot).ask("alias.s.test", "TXT")
    assert (asked.agreed, asked.at) == (("at the end",), "target.other.test")


async def test_an_answer_too_long_comes_over_tcp(knot: Knot) -> None:
    asked = await asker(knot).ask("big.s.test", "TXT")
    assert [one.over_tcp for one in asked.said] == [True, True]
    assert len(asked.said[0].records) == len(LONG)


class Deaf(ZoneServer):
    """Takes no TCP, as behind a firewall that knows DNS as UDP."""

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()


async def test_an_answer_too_long_for_a_server_without_tcp() -> None:
    deaf = Deaf("s.test", "@ 1 IN SOA ns root 1 1 1 1 1\n@ 1 IN NS ns\nns 1 IN A 127.0.0.1\nbig 1 IN TXT x\n")
    deaf.cut.add("big.s.test.")
    async with deaf.run():
        querier = DnsQuerier([f"127.0.0.1:{deaf.port}"], 10, SystemClock())
        asked = await Authoritative(querier, timeout_s=10, port=deaf.port, loopback_only=True).ask("big.s.test", "TXT")
    assert [one.outcome for one in asked.said] == ["failed"]
    assert "does not answer over TCP" in asked.why


async def test_a_server_that_does_not_serve_the_zone_is_lame(knot: Knot, tmp_path: Path) -> None:
    """The second address belongs to another server, which knows nothing of the zone."""
    knot.close()
    first = Knot(tmp_path / "first", {"s.test": ZONE}, addresses=(FIRST,))
    second = Knot(tmp_path / "second", {"foreign.test": []}, addresses=(SECOND,), port=first.port)
    try:
        asked = await asker(first).ask("s.test", "TXT")
        by_server = {one.server: one for one in asked.said}
        assert (by_server["ns.s.test"].outcome, by_server["ns2.s.test"].outcome) == ("found", "lame")
        assert "REFUSED" in by_server["ns2.s.test"].words
        second.freeze()
        asked = await asker(first, 1).ask("s.test", "TXT")
        assert {one.server: one.outcome for one in asked.said}["ns2.s.test"] == "silent"
    finally:
        first.close()
        second.close()


async def test_servers_that_differ_agree_on_nothing(knot: Knot, tmp_path: Path) -> None:
    knot.close()
    first = Knot(tmp_path / "first", {"s.test": ZONE}, addresses=(FIRST,))
    changed = [line for line in ZONE if "spf1" not in line]
    second = Knot(tmp_path / "second", {"s.test": changed}, addresses=(SECOND,), port=first.port)
    try:
        assert (await asker(first).ask("s.test", "TXT")).agreed is None
    finally:
        first.close()
        second.close()


async def test_what_a_validating_resolver_thinks(tmp_path: Path) -> None:
    signed = Knot(tmp_path / "signed", {"s.test": ZONE, "plain.test": ['@ TXT "x"']}, signed=True, addresses=(FIRST,))
    plain = Knot(tmp_path / "plain", {"open.test": ['@ TXT "x"']}, addresses=(SECOND,))
    try:
        anchor = signed.trust_anchor("s.test")
        wrong = signed.trust_anchor("s.test").replace("s.test.", "plain.test.", 1)
        zones = {"s.test": signed.address, "plain.test": signed.address, "open.test": plain.address}
        unbound = Unbound(tmp_path / "unbound", zones, [anchor, wrong])
        try:
            asking = SecureDns(("127.0.0.1", unbound.port), 10, SystemClock(), loopback_only=True)
            assert await asking.trust("s.test", "TXT") == "secure"
            assert await asking.trust("open.test", "TXT") == "insecure"
            assert await asking.trust("plain.test", "TXT") == "bogus"
            silent = SecureDns(("127.0.0.1", 9), 0.2, SystemClock(), loopback_only=True)
            assert await silent.trust("s.test", "TXT") == "unknown"
        finally:
            unbound.close()
    finally:
        signed.close()
        plain.close()


class Slow(asyncio.DatagramProtocol):
    """Takes its time, and answers nothing at all while it is ``dead``; counts what waits for an answer."""

    def __init__(self) -> None:
        self.waiting = self.most = self.taken = 0
        self.dead = False

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.taken += 1
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        if not self.dead:
            asyncio.get_running_loop().call_later(0.05, self._answer, data, addr)

    def _answer(self, data: bytes, addr: tuple[str, int]) -> None:
        self.waiting -= 1
        answer = dns.message.make_response(dns.message.from_wire(data))
        answer.flags |= dns.flags.AA
        self.transport.sendto(answer.to_wire(), addr)


async def test_a_server_gets_few_questions_at_once_and_rests_while_it_is_silent(knot: Knot, tmp_path: Path) -> None:
    knot.close()
    first = Knot(tmp_path / "first", {"s.test": ZONE}, addresses=(FIRST,))
    loop, clock = asyncio.get_running_loop(), FakeClock()
    door, slow = await loop.create_datagram_endpoint(Slow, local_addr=(SECOND, first.port))
    turns = ServerTurns.of_rounds(clock)
    patient, hasty = (asker(first, patience_s, turns) for patience_s in (10, 0.5))

    async def outcomes(number: int) -> set[str]:
        one = hasty if slow.dead else patient
        asked = await asyncio.gather(*(one.ask("s.test", "TXT") for _ in range(number)))
        return {one.outcome for some in asked for one in some.said if one.address == SECOND}

    try:
        assert await outcomes(3 * IN_ROUNDS) == {"none"}
        assert (slow.most, slow.taken) == (IN_ROUNDS, 3 * IN_ROUNDS)
        slow.dead, slow.taken = True, 0
        assert await outcomes(5 * IN_ROUNDS) == {"silent"}
        assert slow.taken < 2 * IN_ROUNDS, "those who waited behind the silence are told of it"
        slow.dead, slow.taken = False, 0
        assert await outcomes(1) == {"silent"}
        clock.skip(61)
        assert await outcomes(1) == {"none"}
        assert await outcomes(IN_ROUNDS) == {"none"}
        assert slow.taken == IN_ROUNDS + 1
    finally:
        door.close()
        first.close()
