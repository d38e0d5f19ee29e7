"""Dynamic update of signed zones of Knot and BIND where an alias takes the place of other records, and the other way round."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailfleet.net.dns_update import Change, DnsUpdateError, DynamicUpdate, Guard
from tests.peers.bind import Bind
from tests.peers.knot import KEY, SECRET, Knot
from tests.ports import free_port

ALIAS, HOST = "alias.shop.test", "host.shop.test"
ZONE = ["mta A 127.0.0.1", "alias CNAME mta", "host A 127.0.0.7", 'host TXT "x"', "below.host A 127.0.0.8"]
TO_ALIAS = [
    Change("remove", HOST, "A", "127.0.0.7"),
    Change("add", HOST, "CNAME", "mta.shop.test."),
    Change("remove", HOST, "TXT", "x"),
]
FROM_ALIAS = [
    Change("remove", ALIAS, "CNAME", "mta.shop.test."),
    Change("add", ALIAS, "MX", "10 mta.shop.test."),
    Change("add", ALIAS, "TXT", "y"),
]
TO_ANOTHER = [
    Change("remove", ALIAS, "CNAME", "mta.shop.test."),
    Change("add", ALIAS, "CNAME", "ns.shop.test."),
]
Server = Knot | Bind


@pytest.fixture(params=["knot", "bind"])
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    made: Server
    if request.param == "knot":
        made = Knot(tmp_path / "knot", {"shop.test": ZONE}, secret=SECRET, signed=True)
        made.trust_anchor("shop.test")
    else:
        made = Bind(tmp_path / "bind", {"shop.test": ZONE}, secret=SECRET, signed=True)
    yield made
    made.close()


def update_at(port: int) -> DynamicUpdate:
    return DynamicUpdate("shop.test", ("127.0.0.1", port), key_name=KEY, secret=SECRET, timeout_s=5, loopback_only=True)


def records(server: Server) -> set[str]:
    """``name type value`` of the names that change."""
    words = [line.split(None, 3) for line in server.everything("shop.test")]
    lines = {" ".join((one[0], *one[2:]) if isinstance(server, Knot) else one) for one in words}
    return {line for line in lines if line.startswith(("alias.", "host."))}


BEFORE = {f"{ALIAS}. CNAME mta.shop.test.", f"{HOST}. A 127.0.0.7", f'{HOST}. TXT "x"'}


async def test_an_alias_and_other_records_take_each_others_place(server: Server) -> None:
    update = update_at(server.port)
    assert records(server) == BEFORE
    await update.apply(TO_ANOTHER, 1, [Guard(ALIAS, "CNAME", ("mta.shop.test.",))])
    assert records(server) == (BEFORE - {f"{ALIAS}. CNAME mta.shop.test."}) | {f"{ALIAS}. CNAME ns.shop.test."}
    with pytest.raises(DnsUpdateError, match="the zone has changed meanwhile"):
        await update.apply(FROM_ALIAS, 1, [Guard(ALIAS, "CNAME", ("mta.shop.test.",))])
    back = [Change("remove", ALIAS, "CNAME", "ns.shop.test."), *FROM_ALIAS[1:]]
    await update.apply([*back, *TO_ALIAS], 1, [Guard(HOST, "A", ("127.0.0.7",))])
    assert records(server) == {
        f"{ALIAS}. MX 10 mta.shop.test.",
        f'{ALIAS}. TXT "y"',
        f"{HOST}. CNAME mta.shop.test.",
    }


class Door:
    """In front of a name server. ``passes`` says of each message whether it is passed on, by its place; else the door hangs up."""

    def __init__(self, port: int, passes: Callable[[int], bool]) -> None:
        self._behind, self._passes, self.port, self.count = port, passes, free_port(), 0
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                self.count += 1
                asked = _message(client)
                if self._passes(self.count):
                    with socket.create_connection(("127.0.0.1", self._behind), 10) as server:
                        server.sendall(asked)
                        client.sendall(_message(server))


def _message(connection: socket.socket) -> bytes:
    """With its length before it (RFC 1035 4.2.2)."""
    with connection.makefile("rb") as lines:
        head = lines.read(2)
        return head + lines.read(struct.unpack("!H", head)[0])


async def test_where_the_second_message_is_lost_the_name_is_not_left_bare(server: Server) -> None:
    door = Door(server.port, lambda place: place != 2)
    if isinstance(server, Bind):  # which has done all of it with the first: nothing is wrong
        await update_at(door.port).apply(TO_ALIAS, 1)
        assert f"{HOST}. CNAME mta.shop.test." in records(server)
    else:
        with pytest.raises(DnsUpdateError, match=r"; host.shop.test is as it was; all else is done$"):
            await update_at(door.port).apply(TO_ALIAS, 1)
        assert records(server) == BEFORE
    door.close()
    assert door.count == 3


async def test_where_all_that_follows_is_lost_it_says_what_may_be_missing(server: Server) -> None:
    door = Door(server.port, lambda place: place == 1)
    taken = r'host.shop.test may have no records now: A 127.0.0.7, TXT "x" was taken out'
    with pytest.raises(DnsUpdateError, match=taken):
        await update_at(door.port).apply(TO_ALIAS, 1)
    door.close()
