"""From a claimed delivery to its bytes: reverse-path, Message-ID, conversion, and signatures that dkimpy accepts."""

from __future__ import annotations

import email
import email.policy
import re
from typing import Any

import dkim
import pytest

from mailfleet.base import ids
from mailfleet.base.errors import InputError
from mailfleet.engine.render import Prepared, message_id_of, return_path
from mailfleet.engine.requests import RecipientRow
from mailfleet.mail.dkim import ED25519, RSA
from mailfleet.smtp.extensions import Extensions
from mailfleet.smtp.transaction import Transaction
from mailfleet.store import queue
from tests.engine.plant import DOMAIN, HOST, NOW_MS, OWNER, Plant, signing_key

PLAIN, FULL = Extensions(), Extensions(eightbitmime=True, smtputf8=True, dsn=True)
LATIN = (
    b"From: A <a@shop.example>\r\nTo: b@x.example\r\nSubject: Caf\r\nDate: Mon, 5 Jan 2026 10:00:00 +0000\r\n"
    b"Message-ID: <1@shop.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=iso-8859-1\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\nCaf\xe9 cr\xe8me\r\n"
)


def verified(message: bytes) -> list[bool]:
    """What dkimpy says of each signature, top down."""
    names = {b"r1": RSA, b"e1": ED25519}

    def lookup(name: bytes, timeout: int = 5) -> bytes:
        return signing_key(names[name.split(b".")[0]]).public_record().encode()

    verifier = dkim.DKIM(message)
    count = message.lower().count(b"dkim-signature:")
    return [verifier.verify(index, dnsfunc=lookup) for index in range(count)]


async def prepared(plant: Plant) -> list[Prepared]:
    """Everything that waits, claimed and prepared."""
    await plant.locate_all()
    lease = await plant.database.write(lambda tx: queue.new_lease(tx, "x", 0, NOW_MS))
    return [await plant.renderer.prepare(one) for one in await plant.claim_all(lease)]


async def campaign_copy(plant: Plant, address: str = "ann@x.example", **values: Any) -> Prepared:
    upload = await plant.open(**values)
    await upload.add([RecipientRow(2, address, {"name": "Ann Ødegård", "size": 7})], [])
    await upload.seal()
    (one,) = await prepared(plant)
    return one


def sent(plant: Plant, one: Prepared, extensions: Extensions = FULL, *, now_ms: int = NOW_MS) -> Transaction:
    return plant.renderer.transaction(one, extensions, now_ms=now_ms)


async def test_a_copy_is_filled_and_signed(plant: Plant) -> None:
    one = await campaign_copy(plant, subject="Size {{ size }}", html="<p>Dear {{ name }}</p>", text=None)
    transaction = sent(plant, one)
    assert verified(transaction.message) == [True]
    message = email.message_from_bytes(transaction.message, policy=email.policy.default)
    assert message["Subject"] == "Size 7"
    assert "Ann Ødegård" in message["To"]
    assert "Dear Ann Ødegård" in message.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert [recipient.address for recipient in transaction.recipients] == ["ann@x.example"]
    assert (transaction.eightbit, transaction.smtputf8) == (False, False)


async def test_every_key_of_the_domain_signs(plant: Plant) -> None:
    await plant.add_domain("two.example", ed25519=True)
    one = await campaign_copy(plant, sender="a@sub.two.example")
    message = sent(plant, one).message
    assert verified(message) == [True, True]
    assert set(re.findall(rb"\bd=([\w.]+)", message)) == {b"two.example"}
    assert set(re.findall(rb"\ba=([\w-]+)", message)) == {b"rsa-sha256", b"ed25519-sha256"}


async def test_a_domain_that_was_removed_sends_unsigned(plant: Plant) -> None:
    one = await campaign_copy(plant)
    unsigned = one._replace(identity=None)
    assert b"dkim-signature" not in sent(plant, unsigned).message.lower()


async def test_the_reverse_path_names_its_delivery_and_cannot_be_forged(plant: Plant) -> None:
    one = await campaign_copy(plant)
    assert one.reverse_path == return_path(plant.box, one.claimed.id, f"bounce.{DOMAIN}")
    local_part, _, host = one.reverse_path.partition("@")
    name, _, tag = local_part.rpartition("-")
    assert host == f"bounce.{DOMAIN}"
    assert ids.from_public("b", name) == one.claimed.id
    assert len(local_part) <= 64
    assert local_part.islower()
    other = return_path(plant.box, one.claimed.id + 1, host)
    assert tag not in other


async def test_the_message_id_is_the_same_at_every_attempt(plant: Plant) -> None:
    one = await campaign_copy(plant)
    assert one.message_id == message_id_of(one.claimed.id, DOMAIN)
    again = await plant.renderer.prepare(one.claimed._replace(attempts=3))
    assert (again.message_id, again.reverse_path) == (one.message_id, one.reverse_path)
    first, second = sent(plant, one).message, sent(plant, again, now_ms=NOW_MS + 3_600_000).message
    assert unsigned(first) == unsigned(second), "only the signature's time differs"
    assert first != second
    assert verified(second) == [True]
    assert f"Message-ID: {one.message_id}".encode() in first


def unsigned(message: bytes) -> bytes:
    return re.sub(rb"(?i)^dkim-signature:.*?\r\n(?![ \t])", b"", message, flags=re.S)


async def test_recipients_of_one_message_get_the_same_bytes_signed_once(plant: Plant) -> None:
    await plant.send("a@x.example", "b@x.example", raw=LATIN, subject="", text=None)
    first, second = await prepared(plant)
    one, other = sent(plant, first), sent(plant, second, now_ms=NOW_MS + 1000)
    assert one.message is other.message
    assert verified(one.message) == [True]
    assert unsigned(one.message).endswith(b"Caf\xe9 cr\xe8me\r\n")
    assert first.reverse_path != second.reverse_path
    assert first.message_id == second.message_id == "<1@shop.example>"


async def test_a_server_without_8bitmime_gets_it_converted_and_signed_afterwards(plant: Plant) -> None:
    await plant.send("a@x.example", raw=LATIN, subject="", text=None)
    (one,) = await prepared(plant)
    eight, seven = sent(plant, one, FULL), sent(plant, one, PLAIN)
    assert eight.eightbit
    assert not seven.eightbit
    assert not eight.message.isascii()
    assert seven.message.isascii()
    assert verified(eight.message) == verified(seven.message) == [True]
    content = email.message_from_bytes(seven.message, policy=email.policy.default).get_content()
    assert content.splitlines() == ["Café crème"]


async def test_an_address_outside_ascii_asks_for_smtputf8(plant: Plant) -> None:
    one = await campaign_copy(plant, "jörg@x.example")
    transaction = sent(plant, one)
    assert transaction.smtputf8
    assert transaction.eightbit
    assert verified(transaction.message) == [True]


async def test_an_envelope_that_came_over_smtp_goes_on_as_it_came(plant: Plant) -> None:
    await plant.send("a@x.example", raw=LATIN, subject="", text=None)
    (one,) = await prepared(plant)
    stored = '{"reverse_path":"me@shop.example","submitted":true,"notify":["DELAY"],"orcpt":"rfc822;a@x","ret":"HDRS","envid":"e"}'
    again = await plant.renderer.prepare(one.claimed._replace(envelope=stored))
    transaction = sent(plant, again)
    assert transaction.reverse_path == "me@shop.example"
    assert (transaction.envid, transaction.ret) == ("e", "HDRS")
    (recipient,) = transaction.recipients
    assert (recipient.notify, recipient.orcpt) == (frozenset({"DELAY"}), "rfc822;a@x")
    null = await plant.renderer.prepare(one.claimed._replace(envelope='{"reverse_path":""}'))
    assert sent(plant, null).reverse_path == ""


async def test_a_copy_that_cannot_be_made_says_why(plant: Plant) -> None:
    one = await campaign_copy(plant, text="{{ name }}")
    with pytest.raises(InputError, match="name"):
        sent(plant, one._replace(claimed=one.claimed._replace(fields=None)))


async def test_a_single_message_keeps_its_own_message_id(plant: Plant) -> None:
    await plant.send(
        "a@x.example", cc=["b@x.example"], bcc=["c@x.example"], fields={"who": "you"}, text="Dear {{ who }}"
    )
    copies = await prepared(plant)
    assert len({one.message_id for one in copies}) == 1
    messages = [sent(plant, one).message for one in copies]
    assert all(verified(message) == [True] for message in messages)
    assert all(b"c@x.example" not in message for message in messages), "Bcc is seen by nobody"
    texts = [email.message_from_bytes(one, policy=email.policy.default).get_content() for one in messages]
    assert {text.strip() for text in texts} == {"Dear you"}
    assert (await plant.observer.trace(OWNER, "c@x.example"))[0].delivery.message_id == copies[0].message_id
    assert HOST not in copies[0].reverse_path
