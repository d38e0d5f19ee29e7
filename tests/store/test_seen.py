"""Addresses that a list has had already."""

from __future__ import annotations

import random

from mailfleet.store.seen import SeenAddresses


def test_each_address_is_new_once() -> None:
    seen = SeenAddresses()
    assert seen.add(["a@x", "b@x", "a@x"]) == [True, True, False]
    assert seen.add([]) == []
    assert seen.add(["b@x", "c@x", "c@x", "ä@x"]) == [False, True, False, True]
    seen.close()
    seen.close()


def test_lists_do_not_know_of_each_other() -> None:
    one, other = SeenAddresses(), SeenAddresses()
    assert one.add(["a@x"]) == other.add(["a@x"]) == [True]


def test_as_a_set_would_say() -> None:
    rng = random.Random(1)
    seen, known = SeenAddresses(), set[str]()
    for _ in range(50):
        keys = [f"{rng.randrange(3000)}@x" for _ in range(100)]
        expected = []
        for key in keys:
            expected.append(key not in known)
            known.add(key)
        assert seen.add(keys) == expected
