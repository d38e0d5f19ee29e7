"""What is on disk: the log of decisions, the spool, and what is rebuilt from them."""

from __future__ import annotations

import os
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailfleet.base.errors import InputError
from mailfleet.sandbox import inbox, journal
from mailfleet.sandbox.journal import Decision, JournalWriter
from mailfleet.sandbox.manners import Manner
from mailfleet.sandbox.memory import Memory
from mailfleet.sandbox.report import outcomes, report
from mailfleet.sandbox.spool import Place, SpoolReader, SpoolWriter, spool_folder


def decision(
    recipient: str = "ann@gmail.com",
    message_id: str = "<1@x>",
    *,
    phase: str = journal.MESSAGE,
    code: int = 250,
    reason: str = "",
    sender: str = "b@shop.example",
    signature: str = "ok",
    repeat: bool = False,
    at_ms: int = 1,
) -> Decision:
    return Decision(
        at_ms, "gmail", "127.0.0.1", sender, recipient, message_id, phase, code, "", reason, repeat, signature
    )


def write(data: Path, *decisions: Decision) -> None:
    writer = JournalWriter(data)
    writer.append(list(decisions))
    writer.close()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.text(max_size=30), st.text(string.printable, max_size=30), st.integers(0, 599)), max_size=8)
)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, int]]) -> None:
    data = tmp_path_factory.mktemp("log")
    written = [decision(recipient, message_id, code=code) for recipient, message_id, code in rows]
    write(data, *written)
    assert [one for _, one in journal.read(data)] == written


def test_a_torn_last_record_is_dropped_and_the_next_one_starts_clean(tmp_path: Path) -> None:
    write(tmp_path, decision("first@gmail.com"), decision("torn@gmail.com"))
    whole = journal.log_path(tmp_path).read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for cut in (last + 1, (last + len(whole)) // 2, len(whole) - 1):
        journal.log_path(tmp_path).write_bytes(whole[:cut])
        assert [one.recipient for _, one in journal.read(tmp_path)] == ["first@gmail.com"]
        write(tmp_path, decision("next@gmail.com"))
        assert [one.recipient for _, one in journal.read(tmp_path)] == ["first@gmail.com", "next@gmail.com"]


def test_a_log_torn_in_its_first_line_starts_anew(tmp_path: Path) -> None:
    journal.log_path(tmp_path).parent.mkdir()
    journal.log_path(tmp_path).write_bytes(b'["at_')
    write(tmp_path, decision())
    assert len(list(journal.read(tmp_path))) == 1


def test_without_a_log_everything_is_zero(tmp_path: Path) -> None:
    found = report(tmp_path)
    assert set(found["providers"]) == {"gmail", "outlook", "yahoo", "smallbiz", "legacy"}
    assert found["totals"]["accepted"] == 0
    assert not list(outcomes(tmp_path))
    assert not list(inbox.messages(tmp_path))


def test_the_report_counts_deliveries_once(tmp_path: Path) -> None:
    write(
        tmp_path,
        decision("a@gmail.com"),
        decision("a@gmail.com", repeat=True),
        decision("b@gmail.com", signature="bad"),
        decision("c@gmail.com", signature="absent"),
        decision("d@gmail.com", "", phase=journal.ENVELOPE, code=550, reason="unknown-user", signature=""),
        decision("d@gmail.com", "", phase=journal.ENVELOPE, code=550, reason="unknown-user", signature="", repeat=True),
        decision("e@gmail.com", "", phase=journal.ENVELOPE, code=452, reason="mailbox-full", signature=""),
        decision("f@gmail.com", "", code=0, reason="connection-dropped", signature=""),
        decision("", "", phase=journal.CONNECTION, code=421, reason="connections", signature=""),
    )
    found = report(tmp_path)
    assert found["totals"] == found["providers"]["gmail"]
    assert found["totals"] == {
        "accepted": 3,
        "refused": {"unknown-user": 1},
        "deferred": {"connection-dropped": 1, "mailbox-full": 1},
        "repeats": 1,
        "repeated_refusals": 1,
        "bad_signatures": 2,
        "turned_away": {"connections": 1},
    }


def test_outcomes_are_the_last_word_on_each_delivery(tmp_path: Path) -> None:
    write(
        tmp_path,
        decision("grey@x.example", "", phase=journal.ENVELOPE, code=451, reason="greylisted"),
        decision("full@x.example", "", phase=journal.ENVELOPE, code=452, reason="mailbox-full"),
        decision("grey@x.example", "<g@x>"),
        decision("gone@x.example", "", phase=journal.ENVELOPE, code=451, reason="greylisted"),
        decision("gone@x.example", "", phase=journal.ENVELOPE, code=550, reason="unknown-user"),
        decision("twice@x.example", "<t1@x>"),
        decision("twice@x.example", "<t2@x>"),
        decision("twice@x.example", "<t2@x>", repeat=True),
        decision("full@x.example", "", phase=journal.ENVELOPE, code=452, reason="mailbox-full"),
        decision("", "", phase=journal.CONNECTION, code=421, reason="connections"),
    )
    assert sorted(outcomes(tmp_path)) == [
        ("full@x.example", "", "deferred"),
        ("gone@x.example", "", "refused"),
        ("grey@x.example", "<g@x>", "accepted"),
        ("twice@x.example", "<t1@x>", "accepted"),
        ("twice@x.example", "<t2@x>", "accepted"),
    ]


def test_memory_rebuilt_from_the_log_is_the_memory_that_was(tmp_path: Path) -> None:
    made = [
        decision("a@gmail.com"),
        decision("grey@gmail.com", "", phase=journal.ENVELOPE, code=451, reason="greylisted", at_ms=1000),
        decision("grey@gmail.com", "", phase=journal.ENVELOPE, code=451, reason="greylisted", at_ms=9000),
        decision("later@gmail.com", "", phase=journal.ENVELOPE, code=421, reason="try-later"),
        decision("nobody@gmail.com", "", phase=journal.ENVELOPE, code=550, reason="unknown-user"),
    ]
    write(tmp_path, *made)
    rebuilt = Memory(time_scale=300)
    rebuilt.apply(one for _, one in journal.read(tmp_path))
    assert rebuilt.settled(decision("A@gmail.com"))
    assert not rebuilt.settled(decision("a@gmail.com", "<2@x>"))
    assert rebuilt.settled(made[-1])
    assert rebuilt.greylisted("b@shop.example", "grey@gmail.com", 1999)
    assert not rebuilt.greylisted("b@shop.example", "grey@gmail.com", 2000)
    assert not rebuilt.put_off(Manner.LATER, "later@gmail.com")
    assert rebuilt.put_off(Manner.LATER, "other@gmail.com")


def test_the_spool_keeps_its_bound_by_forgetting_the_oldest(tmp_path: Path) -> None:
    keep_bytes = 1_048_576
    writer = SpoolWriter(tmp_path, keep_bytes)
    messages = [os.urandom(30_000) for _ in range(100)]
    places = [writer.append(message) for message in messages]
    writer.close()
    writer = SpoolWriter(tmp_path, keep_bytes)  # a restart goes on where the last one was
    places.append(writer.append(b"after the restart"))
    writer.close()
    assert sum(path.stat().st_size for path in spool_folder(tmp_path).iterdir()) <= keep_bytes
    reader = SpoolReader(tmp_path)
    found = [reader.read(place) for place in places]
    reader.close()
    assert found[0] is None
    kept = [one for one in found if one is not None]
    assert len(kept) > 25
    assert kept == [*messages, b"after the restart"][-len(kept) :]


def test_mail_that_is_gone_or_damaged_reads_as_nothing(tmp_path: Path) -> None:
    reader = SpoolReader(tmp_path)
    assert reader.read(Place(7, 0, 10)) is None
    assert reader.read(Place(0, 0, 0)) is None
    spool_folder(tmp_path).mkdir(parents=True)
    (spool_folder(tmp_path) / "000001.spool").write_bytes(b"not zlib")
    assert reader.read(Place(1, 0, 8)) is None
    reader.close()


def test_the_inbox_takes_an_address_or_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        inbox.messages(tmp_path, "no address")
