"""Accepting single messages: what is taken, what is refused and how, and that the same request is the same message."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

import pytest

from mailfleet.base import ids
from mailfleet.base.errors import BusyError, ConflictError, InputError
from mailfleet.base.ids import TenantId
from mailfleet.engine.envelope import Envelope
from mailfleet.engine.requests import Actor, Attachment, EnvelopeRecipient, MessageRequest, SubmittedMessage
from mailfleet.smtp.reply import RefusedMessage
from mailfleet.store import contents
from tests.engine.plant import DOMAIN, NOW_MS, OWNER, Plant
from tests.store.rows import check_laws

RAW = b"From: A <a@shop.example>\r\nTo: b@x.example\r\nSubject: hi\r\n\r\nbody\r\n"


def request(**values: Any) -> MessageRequest:
    return MessageRequest(
        **{"sender": "A <a@shop.example>", "to": ["b@x.example"], "subject": "hi", "text": "hello", **values}
    )


async def nothing_left_behind(plant: Plant, before: Mapping[str, int]) -> None:
    assert await plant.counts() == before


async def test_every_recipient_gets_a_delivery_once(plant: Plant) -> None:
    accepted = await plant.acceptor.send(
        OWNER,
        request(
            to=["B <b@x.example>", "c@x.example"], cc=["C@X.example"], bcc=["d@y.example", "b@x.example"], tags=["t"]
        ),
    )
    assert [one.recipient for one in accepted.deliveries] == ["b@x.example", "c@x.example", "d@y.example"]
    assert {one.state for one in accepted.deliveries} == {"queued"}
    assert accepted.message_id.startswith("<")
    assert accepted.message_id.endswith("@shop.example>")
    content = await plant.database.read(lambda tx: contents.get(tx, ids.from_public("cnt", accepted.message)))
    assert content
    assert (content.kind, content.info.tags, content.info.message_id) == ("compiled", ("t",), accepted.message_id)
    assert await plant.kinds() == ["accepted"] * 3
    await plant.database.read(check_laws)


async def test_a_raw_message_is_repaired_and_kept(plant: Plant) -> None:
    accepted = await plant.acceptor.send(OWNER, MessageRequest(sender="", raw=RAW, to=["b@x.example"]))
    content = await plant.database.read(lambda tx: contents.get(tx, ids.from_public("cnt", accepted.message)))
    assert content
    assert content.kind == "raw"
    assert content.body.endswith(b"\r\n\r\nbody\r\n")
    for field in (b"Date: ", b"Message-ID: ", b"Received: "):
        assert field in content.body
    assert content.info.subject == "hi"
    assert accepted.message_id.encode() in content.body


async def test_it_is_due_now_or_when_asked(plant: Plant) -> None:
    await plant.send("now@x.example")
    await plant.send("past@x.example", send_at_ms=NOW_MS - 5)
    await plant.send("later@x.example", send_at_ms=NOW_MS + 60_000)
    due = dict(await plant.rows("SELECT address, due_ms FROM delivery"))
    assert due == {"now@x.example": NOW_MS, "past@x.example": NOW_MS, "later@x.example": NOW_MS + 60_000}
    ((expires_ms,),) = await plant.rows("SELECT expires_ms FROM delivery WHERE address LIKE 'later%'")
    assert expires_ms == NOW_MS + 60_000 + 2 * 86_400_000, "expiry counts from there"
    with pytest.raises(InputError, match="too far ahead"):
        await plant.send("b@x.example", send_at_ms=NOW_MS + 91 * 86_400_000)


async def test_streams(plant: Plant) -> None:
    await plant.send("a@x.example")
    await plant.send("b@x.example", stream="bulk")
    assert await plant.rows("SELECT address, priority FROM delivery ORDER BY id") == [
        ("a@x.example", 0),
        ("b@x.example", 10),
    ]
    before = await plant.counts()
    with pytest.raises(InputError, match="no stream 'other'") as caught:
        await plant.send("c@x.example", stream="other")
    assert caught.value.mend == "use one of: transactional, bulk"
    await nothing_left_behind(plant, before)


async def test_a_suppressed_recipient_is_seen_and_not_mailed(plant: Plant) -> None:
    await plant.manager.suppress(OWNER, "Gone@x.example", None, "left us")
    await plant.manager.suppress(OWNER, "news@x.example", "bulk", "no newsletters")
    accepted = await plant.acceptor.send(OWNER, request(to=["gone@x.example", "news@x.example"]))
    assert [(one.state, one.reason) for one in accepted.deliveries] == [
        ("suppressed", "manual: left us"),
        ("queued", ""),
    ]
    assert await plant.kinds("gone@x.example") == ["suppressed"]


# Who may send from where


@pytest.mark.parametrize("kind", ["structured", "raw", "smtp"])
async def test_an_unknown_sending_domain_is_refused(plant: Plant, kind: str) -> None:
    before = await plant.counts()
    data = RAW.replace(b"shop", b"other")
    if kind == "smtp":
        message = SubmittedMessage("a@shop.example", [EnvelopeRecipient("b@x.example")], data)
        taking: Coroutine[Any, Any, object] = plant.acceptor.submit(OWNER, message)
    else:
        taking = plant.acceptor.send(OWNER, request(raw=data) if kind == "raw" else request(sender="a@other.example"))
    with pytest.raises(RefusedMessage, match=r"other\.example is not a sending domain") as caught:
        await taking
    assert (caught.value.reply.code, str(caught.value.reply.enhanced)) == (550, "5.7.1")
    assert caught.value.mend == "add it with: mailfleet domain add other.example"
    await nothing_left_behind(plant, before)


async def test_every_author_of_a_message_must_be_allowed(plant: Plant) -> None:
    data = RAW.replace(b"A <a@shop.example>", b"a@shop.example, b@other.example\r\nSender: a@shop.example")
    with pytest.raises(RefusedMessage, match=r"other\.example"):
        await plant.acceptor.send(OWNER, request(raw=data))


async def test_a_domain_of_another_tenant_is_none(plant: Plant) -> None:
    await plant.add_domain("theirs.example", tenant_id=2)
    with pytest.raises(RefusedMessage, match="not a sending domain"):
        await plant.acceptor.send(OWNER, request(sender="a@theirs.example"))


async def test_a_login_may_be_kept_to_some_domains(plant: Plant) -> None:
    await plant.add_domain("two.example")
    actor = Actor(OWNER.tenant_id, allowed_domains=frozenset({"two.example"}))
    await plant.acceptor.send(actor, request(sender="a@two.example"))
    await plant.acceptor.send(actor, request(sender="a@sub.two.example"))
    with pytest.raises(RefusedMessage, match=r"may not send from shop\.example") as caught:
        await plant.acceptor.send(actor, request())
    assert "two.example" in caught.value.mend


async def test_a_domain_that_was_just_added_elsewhere_is_known_at_once(plant: Plant) -> None:
    with pytest.raises(RefusedMessage):
        await plant.acceptor.send(OWNER, request(sender="a@new.example"))
    await plant.add_domain("new.example")
    await plant.acceptor.send(OWNER, request(sender="a@new.example"))


# Bad input


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"to": []}, "no recipient"),
        ({"to": ["no address"]}, "^to .*no @"),
        ({"cc": ["b@x.example", "b@@x"]}, "^cc .*b@@x"),
        ({"bcc": [f"u{n}@x.example" for n in range(20)]}, "21 recipients"),
        ({"sender": "nobody"}, "from"),
        ({"text": None}, "neither HTML nor text"),
        ({"html": "<p>{{ who", "fields": {}}, "html line 1"),
        ({"text": "{{ who }}", "fields": {}}, "the template uses who"),
        ({"text": "{{ 1 // zero }}", "fields": {"zero": 0}}, "text"),
        ({"headers": [("Bcc", "x@y.example")]}, "Bcc"),
        ({"raw": b"no header at all"}, "From|header"),
        ({"fields": {"n": 10**30}}, "fields"),
    ],
)
async def test_what_cannot_be_sent_is_refused_whole(plant: Plant, values: dict[str, Any], said: str) -> None:
    before = await plant.counts()
    with pytest.raises(InputError, match=said):
        await plant.acceptor.send(OWNER, request(**values))
    await nothing_left_behind(plant, before)


async def test_braces_stand_as_they_are_without_fields(plant: Plant) -> None:
    await plant.send("b@x.example", text="{{ who }} {% if")


async def test_nothing_is_taken_while_there_is_no_room(plant: Plant) -> None:
    plant.full = "only 3 MB of disk are free"
    for taking in (
        plant.acceptor.send(OWNER, request()),
        plant.acceptor.submit(OWNER, SubmittedMessage("", [], RAW)),
    ):
        with pytest.raises(BusyError, match="3 MB"):
            await taking


async def test_an_inline_image_and_a_file(plant: Plant) -> None:
    await plant.send(
        "b@x.example",
        html='<img src="cid:logo">',
        attachments=[
            Attachment("logo.png", "image/png", b"png", "logo"),
            Attachment("a.pdf", "application/pdf", b"pdf"),
        ],
    )


# Over SMTP


async def test_a_submitted_envelope_is_kept(plant: Plant) -> None:
    recipients = [
        EnvelopeRecipient("b@x.example", frozenset({"DELAY"}), "rfc822;b@x.example"),
        EnvelopeRecipient("B@X.example"),
        EnvelopeRecipient("jörg@x.example"),
    ]
    queue_id = await plant.acceptor.submit(
        OWNER, SubmittedMessage("a@shop.example", recipients, RAW, smtputf8=True, ret="HDRS", envid="e")
    )
    assert queue_id.startswith("cnt_")
    found = dict(await plant.rows("SELECT address, envelope FROM delivery ORDER BY id"))
    assert set(found) == {"b@x.example", "jörg@x.example"}
    assert '"notify":["DELAY"]' in found["b@x.example"]
    assert "smtputf8" not in found["b@x.example"]
    assert '"smtputf8":true' in found["jörg@x.example"]
    assert len(await plant.observer.trace(OWNER, queue_id)) == 2


# The same request again


async def test_the_same_key_and_request_is_the_same_message(plant: Plant) -> None:
    first = await plant.acceptor.send(OWNER, request(idempotency_key="k"))
    before = await plant.counts()
    assert await plant.acceptor.send(OWNER, request(idempotency_key="k")) == first
    await nothing_left_behind(plant, before)
    assert await plant.acceptor.send(OWNER, request(idempotency_key="k2")) != first


async def test_the_same_key_for_another_request_is_a_conflict(plant: Plant) -> None:
    await plant.acceptor.send(OWNER, request(idempotency_key="k"))
    before = await plant.counts()
    for changed in (request(idempotency_key="k", subject="other"), request(idempotency_key="k", to=["c@x.example"])):
        with pytest.raises(ConflictError, match="different request") as caught:
            await plant.acceptor.send(OWNER, changed)
        assert caught.value.where == "Idempotency-Key"
    await nothing_left_behind(plant, before)


async def test_the_same_request_many_times_at_once_is_one_message(plant: Plant) -> None:
    answers = await asyncio.gather(*(plant.acceptor.send(OWNER, request(idempotency_key="k")) for _ in range(20)))
    assert len({answer.message for answer in answers}) == 1
    assert len(await plant.states()) == 1
    mixed = await asyncio.gather(
        *(plant.acceptor.send(OWNER, request(idempotency_key="m", subject=str(n % 2))) for n in range(10)),
        return_exceptions=True,
    )
    assert {type(answer).__name__ for answer in mixed} == {"MessageAccepted", "ConflictError"}
    assert len(await plant.rows("SELECT id FROM delivery")) == 2


async def test_a_refused_request_leaves_its_key_free(plant: Plant) -> None:
    with pytest.raises(InputError):
        await plant.acceptor.send(OWNER, request(idempotency_key="k", stream="other"))
    await plant.acceptor.send(OWNER, request(idempotency_key="k"))


async def test_keys_of_tenants_do_not_meet(plant: Plant) -> None:
    await plant.acceptor.send(OWNER, request(idempotency_key="k"))
    with pytest.raises(RefusedMessage):  # not a ConflictError: the other tenant's key is none of ours
        await plant.acceptor.send(Actor(TenantId(2)), request(idempotency_key="k", subject="x"))


async def test_an_answer_is_good_for_a_day(plant: Plant) -> None:
    first = await plant.acceptor.send(OWNER, request(idempotency_key="k"))
    plant.clock.skip(86_300)
    await plant.maintainer.forget_answers()
    assert await plant.acceptor.send(OWNER, request(idempotency_key="k")) == first
    plant.clock.skip(200)
    await plant.maintainer.forget_answers()
    assert await plant.acceptor.send(OWNER, request(idempotency_key="k")) != first
    assert DOMAIN == "shop.example"


async def test_how_a_message_wants_to_be_secured_is_kept(plant: Plant) -> None:
    async def kept(taking: Coroutine[Any, Any, object]) -> str:
        await taking
        ((stored,),) = await plant.rows("SELECT envelope FROM delivery ORDER BY id DESC LIMIT 1")
        return Envelope.load(stored).tls

    def submitted(data: bytes, *, requiretls: bool = False) -> SubmittedMessage:
        return SubmittedMessage("a@shop.example", [EnvelopeRecipient("b@x.example")], data, requiretls=requiretls)

    optional = b"TLS-Required: no \r\n" + RAW
    accept = plant.acceptor
    assert await kept(accept.submit(OWNER, submitted(RAW))) == ""
    assert await kept(accept.submit(OWNER, submitted(RAW, requiretls=True))) == "require"
    assert await kept(accept.submit(OWNER, submitted(optional))) == "any"
    assert await kept(accept.submit(OWNER, submitted(optional, requiretls=True))) == "require"
    assert await kept(accept.submit(OWNER, submitted(b"TLS-Required: yes\r\n" + RAW))) == ""
    assert await kept(accept.send(OWNER, MessageRequest(sender="", raw=optional, to=["b@x.example"]))) == "any"
    assert await kept(accept.send(OWNER, request(tls="require"))) == "require"
    assert await kept(accept.send(OWNER, request(headers=[("TLS-Required", "No")]))) == "any"
    with pytest.raises(InputError, match="two TLS-Required"):
        await accept.submit(OWNER, submitted(optional.replace(b"\r\n", b"\r\nTLS-Required: No\r\n", 1)))
