"""A lane against a mail host that takes, hangs up, has enough, or is not there: who gets which delivery when."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from mailfleet.engine import lane as lane_module
from mailfleet.engine.journal import replay
from mailfleet.engine.lane import FIRST_COOLDOWN_S, Lane
from mailfleet.engine.recover import recover_lease
from mailfleet.engine.requests import RecipientRow
from mailfleet.store.queue import Claimed
from tests.engine.plant import LIMITS, LITERAL, Plant, Works, running, until
from tests.net.scripted_peer import Conversation, scripted
from tests.store.rows import check_laws


@dataclass
class Host:
    """Takes mail, and remembers what came over which connection. ``answer(verb, connection, sent)`` may say something else.

    An answer of None is the usual one, an empty one hangs up.
    """

    answer: Callable[[str, int, int], str | None] = lambda verb, connection, sent: None
    got: list[tuple[int, str]] = field(default_factory=list)  # connection, recipient
    connections: int = 0
    open_now: int = 0
    most_open: int = 0
    gate: asyncio.Event | None = None  # the reply to each message waits for it

    async def __call__(self, remote: Conversation) -> None:
        self.connections += 1
        self.open_now += 1
        self.most_open = max(self.most_open, self.open_now)
        try:
            await self._session(remote, self.connections)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open_now -= 1

    async def _session(self, remote: Conversation, number: int) -> None:
        sent, begun, recipient = 0, False, ""
        if not self._say(remote, "GREETING", number, sent, "220 mx.test"):
            return
        while line := (await remote.reader.readline()).decode():
            verb = line[:4].upper()
            if (verb == "RCPT" and not begun) or (verb == "DATA" and not recipient):
                remote.say(b"503 5.5.1 not now\r\n")
                continue
            usual = {"EHLO": "250-mx.test\r\n250-PIPELINING\r\n250 8BITMIME", "DATA": "354 go", "QUIT": "221 bye"}
            if not self._say(remote, verb, number, sent, usual.get(verb, "250 2.0.0 ok")):
                return
            refused = self.answer(verb, number, sent) is not None
            if verb == "MAIL":
                begun, recipient = not refused, ""
            found = re.match("RCPT TO:<(.*)>", line)
            if found and not refused:
                recipient = found[1]
            if verb == "DATA":
                await remote.message()
                if self.gate is not None:
                    await self.gate.wait()
                if not self._say(remote, "MESSAGE", number, sent, "250 2.0.0 queued"):
                    return
                self.got.append((number, recipient))
                sent += 1

    def _say(self, remote: Conversation, verb: str, number: int, sent: int, usual: str) -> bool:
        reply = self.answer(verb, number, sent)
        if reply is None:
            reply = usual
        if reply:
            remote.say(f"{reply}\r\n".encode())
        return bool(reply) and not reply.startswith(("421", "221", "554"))


def addresses(count: int) -> list[str]:
    return [f"u{number}@{LITERAL}" for number in range(count)]


async def loaded(works: Works, count: int) -> tuple[Lane, list[Claimed]]:
    """A lane, and that many claimed deliveries of one campaign for it."""
    await works.plant.upload(*addresses(count))
    lane = await works.lane()
    return lane, await works.plant.claim_all(works.lease_id)


async def over(lane: Lane, works: Works) -> None:
    """Until everything that was offered is decided."""
    await until(lambda: not lane.held and len(lane._idle) == lane._active)
    await works.settler.drained()


async def test_many_deliveries_share_few_connections(plant: Plant) -> None:
    host = Host()
    async with scripted(host) as server, running(Works(plant, server.port)) as works:
        lane, held = await loaded(works, 30)
        lane.offer(10, held)
        await over(lane, works)
        assert host.most_open <= LIMITS.connections
        assert host.connections <= LIMITS.connections
        lane.stop()
        await lane.drained()
    assert sorted(recipient for _, recipient in host.got) == sorted(addresses(30))
    assert set((await plant.states()).values()) == {"delivered"}
    assert (await plant.kinds())[-1] == "campaign_finished"
    await plant.database.read(check_laws)


async def test_a_connection_is_closed_after_its_share_of_messages(plant: Plant) -> None:
    host = Host()
    limits = replace(LIMITS, connections=1, messages_per_connection=4)
    async with scripted(host) as server, running(Works(plant, server.port, limits)) as works:
        lane, held = await loaded(works, 10)
        lane.offer(10, held)
        await over(lane, works)
        lane.stop()
        await lane.drained()
    assert [number for number, _ in host.got] == [1] * 4 + [2] * 4 + [3] * 2


@pytest.mark.parametrize("farewell", ["", "421 4.3.0 idle"])
async def test_hanging_up_between_messages_is_no_refusal(plant: Plant, farewell: str) -> None:
    host = Host(lambda verb, connection, sent: farewell if verb == "MAIL" and sent == 2 else None)
    async with scripted(host) as server, running(Works(plant, server.port, replace(LIMITS, connections=1))) as works:
        lane, held = await loaded(works, 7)
        lane.offer(10, held)
        await over(lane, works)
        lane.stop()
        await lane.drained()
    assert [recipient for _, recipient in host.got] == addresses(7), "each once, in order"
    assert host.connections == 4
    assert "deferred" not in await plant.kinds()


async def test_a_host_that_always_hangs_up_is_given_up_in_the_end(plant: Plant) -> None:
    host = Host(lambda verb, connection, sent: "" if verb == "MAIL" else None)
    async with scripted(host) as server, running(Works(plant, server.port, replace(LIMITS, connections=1))) as works:
        lane, held = await loaded(works, 1)
        lane.offer(10, held)
        await over(lane, works)
    assert await plant.kinds(addresses(1)[0]) == ["accepted", "deferred"]
    assert host.connections == 1, "a fresh connection that is lost counts as the attempt"


async def test_nobody_there_defers_who_waits_and_rests(plant: Plant) -> None:
    works = await Works(plant, port=1).start()
    async with running(works):
        lane, held = await loaded(works, 20)
        lane.offer(10, held)
        await over(lane, works)
        assert set((await plant.states()).values()) == {"queued"}
        assert (await plant.kinds()).count("deferred") == 20
        assert lane.room(0) == 0
        plant.clock.skip(FIRST_COOLDOWN_S * 3 / 4)  # not nearly all of it: real time passes too
        assert lane.room(0) == 0
        plant.clock.skip(FIRST_COOLDOWN_S / 4)
        assert lane.room(0) > 0
        kind, data = (await plant.events(addresses(1)[0]))[-1]
        assert (kind, data["failure"], data["ip"]) == ("deferred", "connection-refused", "127.0.0.1")
        before = plant.clock.skipped_s
        for rest_s in (60, 120):  # longer each time
            plant.clock.skip(7200)
            lane.offer(10, (await plant.claim_all(works.lease_id))[:1])
            await over(lane, works)
            plant.clock.skip(rest_s * 3 / 4)
            assert lane.room(0) == 0
            plant.clock.skip(rest_s / 4)
            assert lane.room(0) > 0
        assert plant.clock.skipped_s > before
    await plant.database.read(check_laws)


async def test_too_many_connections_means_fewer_not_a_deferral(plant: Plant) -> None:
    host = Host()
    host.answer = lambda verb, connection, sent: (
        "421 4.7.0 too many connections" if verb == "GREETING" and host.open_now > 1 else None
    )
    host.gate = asyncio.Event()
    async with scripted(host) as server, running(Works(plant, server.port, replace(LIMITS, connections=5))) as works:
        lane, held = await loaded(works, 12)
        lane.offer(10, held)
        await until(lambda: lane.allowed == 1)
        host.gate.set()
        await over(lane, works)
        lane.stop()
        await lane.drained()
    assert sorted(recipient for _, recipient in host.got) == sorted(addresses(12))
    assert "deferred" not in await plant.kinds()


async def test_fewer_connections_from_one_moment_to_the_next_hold_nobody_up(plant: Plant) -> None:
    host = Host()
    async with (
        scripted(host) as server,
        running(Works(plant, server.port, replace(LIMITS, idle_connection_s=3600))) as works,
    ):
        lane, held = await loaded(works, 60)
        lane.offer(10, held)
        await until(lambda: host.open_now == LIMITS.connections)
        lane.keep_to(replace(lane.limits, connections=1))
        await over(lane, works)
        await until(lambda: lane.open_connections == 1)
        lane.stop()
        await lane.drained()
    assert sorted(recipient for _, recipient in host.got) == sorted(addresses(60))


async def test_a_host_that_takes_one_message_a_connection_gets_each_once(plant: Plant) -> None:
    host = Host(lambda verb, connection, sent: "421 4.7.0 one is enough" if verb == "MAIL" and sent else None)
    async with scripted(host) as server, running(Works(plant, server.port, replace(LIMITS, connections=2))) as works:
        lane, held = await loaded(works, 12)
        lane.offer(10, held)
        await over(lane, works)
        lane.stop()
        await lane.drained()
    assert sorted(recipient for _, recipient in host.got) == sorted(addresses(12))
    assert "deferred" not in await plant.kinds()
    await plant.database.read(check_laws)


@pytest.mark.parametrize("wanted", [True, False])
async def test_commands_go_out_behind_a_message_once_the_site_has_shown_its_pace(
    plant: Plant, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_module, "SLOW_S", 3600.0)  # else a slow machine makes a slow site
    spoken: list[bytes] = []

    async def script(remote: Conversation) -> None:
        remote.say(b"220 mx.test\r\n")
        await remote.reader.readline()
        remote.say(b"250-mx.test\r\n250 PIPELINING\r\n")
        while data := await remote.reader.read(65536):
            spoken.append(data)
            for line in data.splitlines(keepends=True):
                if line[:4] in (b"MAIL", b"RCPT"):
                    remote.say(b"250 ok\r\n")
                elif line[:4] == b"DATA":
                    remote.say(b"354 go\r\n")
                elif line == b".\r\n":
                    remote.say(b"250 taken\r\n")
                elif line[:4] == b"QUIT":
                    remote.say(b"221 bye\r\n")

    limits = replace(LIMITS, connections=1, commands_behind_message=wanted)
    async with scripted(script) as server, running(Works(plant, server.port, limits)) as works:
        lane, held = await loaded(works, 5)
        lane.offer(10, held)
        await over(lane, works)
        lane.stop()
        await lane.drained()
    assert set((await plant.states()).values()) == {"delivered"}
    behind = [data for data in spoken if b"\r\n.\r\nMAIL FROM" in data]
    assert (1 if wanted else 0) <= len(behind) <= (3 if wanted else 0), "not behind the first, whose pace was not known"


async def test_of_a_slow_site_one_connection_stays_free_for_the_urgent(plant: Plant) -> None:
    host = Host()
    host.gate = asyncio.Event()
    async with scripted(host) as server, running(Works(plant, server.port, replace(LIMITS, connections=3))) as works:
        lane, held = await loaded(works, 9)
        lane._pace_s, lane._reach = 2.0, 3
        lane.offer(10, held)
        await until(lambda: host.open_now == 2 and lane.held == 7)
        await plant.send(f"urgent@{LITERAL}")
        await plant.locate_all()
        lane.offer(0, await plant.claim_all(works.lease_id))
        await until(lambda: host.open_now == 3)
        assert lane.held == 7, "bulk waits, the urgent is under way"
        host.gate.set()
        await over(lane, works)
        lane.stop()
        await lane.drained()
    assert len(host.got) == 10


async def test_connections_come_back_in_steps(plant: Plant) -> None:
    host = Host()
    async with scripted(host) as server, running(Works(plant, server.port)) as works:
        lane, held = await loaded(works, 45)
        lane.allowed = 1
        lane.offer(10, held)
        await over(lane, works)
        assert lane.allowed == 3
        lane.stop()
        await lane.drained()


async def test_the_urgent_overtake(plant: Plant) -> None:
    host = Host()
    host.gate = asyncio.Event()
    async with scripted(host) as server, running(Works(plant, server.port, replace(LIMITS, connections=1))) as works:
        lane, held = await loaded(works, 5)
        lane.offer(10, held)
        await until(lambda: lane.held == 4)
        await plant.send(f"urgent@{LITERAL}")
        await plant.locate_all()
        assert lane.room(0) == lane.target
        assert lane.room(10) == lane.target - 4
        lane.offer(0, await plant.claim_all(works.lease_id))
        host.gate.set()
        await over(lane, works)
        lane.stop()
        await lane.drained()
    assert [recipient for _, recipient in host.got][1] == f"urgent@{LITERAL}"


async def test_stopping_hands_back_what_was_not_tried_and_ends_what_is_under_way(plant: Plant) -> None:
    host = Host()
    host.gate = asyncio.Event()
    async with scripted(host) as server, running(Works(plant, server.port, replace(LIMITS, connections=1))) as works:
        lane, held = await loaded(works, 5)
        lane.offer(10, held)
        await until(lambda: lane.held == 4)
        left = lane.stop()
        assert {one.id for one in left} == {one.id for one in held[1:]}
        assert lane.room(0) == 0
        host.gate.set()
        await lane.drained()
        await works.settler.drained()
    assert [recipient for _, recipient in host.got] == addresses(1)
    assert host.open_now == 0


async def test_what_is_dropped_on_the_wire_is_told_as_a_possible_repeat(plant: Plant) -> None:
    host = Host()
    host.gate = asyncio.Event()  # never set: the reply to the message does not come
    async with scripted(host) as server, running(Works(plant, server.port, replace(LIMITS, connections=1))) as works:
        lane, held = await loaded(works, 1)
        lane.offer(10, held)
        await until(lambda: replay(plant.folder, 0, works.lease_id).on_wire)
        lane.stop()
        await lane.abandon()
        assert not lane.busy
    await recover_lease(plant.database, plant.folder, 0, works.lease_id, plant.clock)
    assert await plant.kinds(addresses(1)[0]) == ["accepted", "repeat_possible"]


async def test_a_250_is_on_record_before_anything_else_happens(plant: Plant) -> None:
    """The process is killed between the 250 and its settlement: the journal has it."""
    host = Host()
    async with scripted(host) as server, running(Works(plant, server.port), settle=False) as works:
        lane, held = await loaded(works, 6)
        lane.offer(10, held)
        await until(lambda: len(host.got) == 6 and len(replay(plant.folder, 0, works.lease_id).accepted) == 6)
        found = replay(plant.folder, 0, works.lease_id)
        assert set(found.accepted.values()) == {"250 2.0.0 queued"}
        assert set((await plant.states()).values()) == {"leased"}
        lane.stop()
        await lane.drained()
    await recover_lease(plant.database, plant.folder, 0, works.lease_id, plant.clock)
    assert set((await plant.states()).values()) == {"delivered"}
    await plant.database.read(check_laws)


async def test_an_attempt_that_crashes_after_the_250_does_not_send_again(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, crashes = Host(), [ZeroDivisionError("a bug")]
    async with scripted(host) as server, running(Works(plant, server.port, replace(LIMITS, connections=1))) as works:
        settle = works.settler.take

        async def crash_once(attempt: object) -> object:
            if crashes:
                raise crashes.pop()
            return await settle(attempt)  # type: ignore[arg-type]  # it is passed on as it came

        monkeypatch.setattr(works.settler, "take", crash_once)
        lane, held = await loaded(works, 3)
        lane.offer(10, held)
        await over(lane, works)
        lane.stop()
        await lane.drained()
    assert sorted(recipient for _, recipient in host.got) == addresses(3), "the others go on, with a new worker"
    assert set((await plant.states()).values()) == {"delivered"}


async def test_an_attempt_that_crashes_before_is_deferred_and_leaves_no_connection(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, crashes = Host(), [ZeroDivisionError("a bug")]
    prepare = plant.renderer.prepare

    async def crash_once(claimed: Claimed) -> object:
        if crashes:
            raise crashes.pop()
        return await prepare(claimed)

    monkeypatch.setattr(plant.renderer, "prepare", crash_once)
    async with scripted(host) as server, running(Works(plant, server.port, replace(LIMITS, connections=1))) as works:
        lane, held = await loaded(works, 3)
        lane.offer(10, held)
        await over(lane, works)
        lane.stop()
        await lane.drained()
        await until(lambda: host.open_now == 0)
    assert sorted((await plant.states()).values()) == ["delivered", "delivered", "queued"]
    kind, data = (await plant.events(addresses(1)[0]))[-1]
    assert (kind, data["failure"], data["fault"]) == ("deferred", "internal", "us")


async def test_a_connection_that_ends_while_a_copy_is_rendered_costs_no_attempt(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host()
    prepare = plant.renderer.prepare
    ended: list[int] = []

    async def end_it(claimed: Claimed) -> object:
        (line,) = lane._lines.values()
        if line.flights and not ended:
            ended.append(claimed.id)
            assert line._connection is not None
            assert line._connection._transport is not None
            line._connection._transport.close()  # as when the remote has hung up and the loop does not know it yet
        return await prepare(claimed)

    monkeypatch.setattr(plant.renderer, "prepare", end_it)
    async with scripted(host) as server, running(Works(plant, server.port, replace(LIMITS, connections=1))) as works:
        lane, held = await loaded(works, 6)
        lane.offer(10, held)
        await over(lane, works)
        lane.stop()
        await lane.drained()
    assert ended
    assert "internal" not in str(await plant.events())
    assert set((await plant.states()).values()) <= {"delivered", "queued"}
    await plant.database.read(check_laws)


async def test_a_copy_that_cannot_be_made_costs_only_itself(plant: Plant) -> None:
    host = Host()
    async with scripted(host) as server, running(Works(plant, server.port, replace(LIMITS, connections=1))) as works:
        upload = await plant.open(text="Dear {{ name }}")
        await upload.add([RecipientRow(n, address, {"name": "N"}) for n, address in enumerate(addresses(3), 2)], [])
        await upload.seal()
        await plant.database.write(
            lambda tx: tx.run("UPDATE delivery SET fields = NULL WHERE address = ?", addresses(1))
        )
        lane = await works.lane()
        lane.offer(10, await plant.claim_all(works.lease_id))
        await over(lane, works)
        lane.stop()
        await lane.drained()
    assert host.connections == 1
    assert sorted((await plant.states()).values()) == ["bounced", "delivered", "delivered"]


@pytest.mark.parametrize(
    ("verb", "reply", "state"),
    [
        ("RCPT", "550 5.1.1 user unknown", "bounced"),
        ("RCPT", "452 4.2.2 mailbox full", "queued"),
        ("MESSAGE", "554 5.7.1 spam", "bounced"),
        ("MESSAGE", "451 4.7.1 greylisted", "queued"),
        ("MAIL", "451 4.7.0 not now", "queued"),
    ],
)
async def test_what_the_host_says_decides(plant: Plant, verb: str, reply: str, state: str) -> None:
    host = Host(lambda said, connection, sent: reply if said == verb else None)
    async with scripted(host) as server, running(Works(plant, server.port)) as works:
        lane, held = await loaded(works, 1)
        lane.offer(10, held)
        await over(lane, works)
        lane.stop()
        await lane.drained()
    assert list((await plant.states()).values()) == [state]
    data = (await plant.events(addresses(1)[0]))[1][1]
    assert data["reply"] == reply
    assert f"< {reply}" in data["transcript"]
