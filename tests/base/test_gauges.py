"""Counting, and going on counting where an earlier run of the process stopped."""

from __future__ import annotations

import pytest

from mailfleet.base.gauges import MAX_SERIES, Gauges, Metric, Series

CATALOGUE = {
    "taken_total": Metric("counter", "Taken.", ("outcome", "provider")),
    "commits_total": Metric("counter", "Commits."),
    "wait_seconds": Metric("histogram", "Waits.", bounds=(0.125, 1)),
    "held": Metric("gauge", "Held."),
    "waiting": Metric("gauge", "Waiting.", ("provider",)),
}


def line(gauges: Gauges, name: str, *labels: str) -> Series | None:
    return next((one for one in gauges.snapshot() if one.name == name and one.labels == labels), None)


def test_a_counter_is_one_object_for_its_labels() -> None:
    gauges = Gauges(CATALOGUE)
    counter = gauges.counter("taken_total", outcome="delivered", provider="gmail")
    counter.n += 2
    gauges.counter("taken_total", provider="gmail", outcome="delivered").n += 1
    gauges.counter("taken_total", provider="", outcome="bounced").n += 1
    assert line(gauges, "taken_total", "delivered", "gmail") == Series("taken_total", ("delivered", "gmail"), 3)
    assert line(gauges, "taken_total", "bounced", "none") == Series("taken_total", ("bounced", "none"), 1)


def test_a_value_on_the_edge_of_a_bucket_is_in_it() -> None:
    gauges = Gauges(CATALOGUE)
    wait = gauges.histogram("wait_seconds")
    for value in (0.0625, 0.125, 0.5, 1, 7):
        wait.observe(value)
    assert line(gauges, "wait_seconds") == Series("wait_seconds", (), 8.6875, (2, 2, 1), (0.125, 1))


def test_watched_values_are_read_when_asked_for() -> None:
    gauges, held = Gauges(CATALOGUE), [1]
    gauges.watch("held", lambda: len(held) or None)
    gauges.watch_many("waiting", lambda: {("gmail",): 3, ("",): 1})
    held.append(2)
    assert gauges.snapshot() == [
        Series("held", (), 2),
        Series("waiting", ("gmail",), 3),
        Series("waiting", ("none",), 1),
    ]
    held.clear()
    assert line(gauges, "held") is None


def test_what_cannot_be_read_hides_nothing_else() -> None:
    gauges = Gauges(CATALOGUE)
    gauges.watch("held", lambda: 1 // 0)
    gauges.watch("commits_total", lambda: 5)
    assert gauges.snapshot() == [Series("commits_total", (), 5)]
    assert gauges.watch_errors == 1


def test_a_new_run_goes_on_from_what_the_earlier_one_counted() -> None:
    first = Gauges(CATALOGUE)
    first.counter("taken_total", outcome="delivered", provider="gmail").n += 7
    first.watch("commits_total", lambda: 20)
    first.watch("held", lambda: 9)
    first.histogram("wait_seconds").observe(0.5)
    second = Gauges(CATALOGUE, first.snapshot())
    again = {one.name: one for one in second.snapshot()}
    assert again["taken_total"].value == 7, "it is told before anybody counts again"
    assert "held" not in again, "what a dead process held is held no more"
    second.counter("taken_total", outcome="delivered", provider="gmail").n += 1
    second.watch("commits_total", lambda: 2)
    second.histogram("wait_seconds").observe(0.5)
    again = {one.name: one for one in second.snapshot()}
    assert (again["taken_total"].value, again["commits_total"].value, again["wait_seconds"].counts) == (
        8,
        22,
        (0, 2, 0),
    )
    assert len(second.snapshot()) == 3


def test_what_no_longer_means_the_same_is_forgotten() -> None:
    other = {
        "taken_total": Metric("counter", "Taken.", ("outcome",)),
        "wait_seconds": Metric("histogram", "Waits.", bounds=(0.2, 1)),
    }
    first = Gauges(CATALOGUE)
    first.counter("taken_total", outcome="delivered", provider="gmail").n += 7
    first.watch("commits_total", lambda: 20)
    first.histogram("wait_seconds").observe(0.5)
    assert Gauges(other, first.snapshot()).snapshot() == []


def test_labels_without_end_do_not_fill_the_memory() -> None:
    gauges = Gauges(CATALOGUE)
    for number in range(MAX_SERIES + 50):
        gauges.counter("taken_total", outcome="delivered", provider=f"p{number}").n += 1
    lines = gauges.snapshot()
    assert len(lines) == MAX_SERIES + 1
    assert line(gauges, "taken_total", "other", "other") == Series("taken_total", ("other", "other"), 50)
    again = Gauges(CATALOGUE, lines)
    again.counter("taken_total", outcome="delivered", provider="one more").n += 1
    assert len(again.snapshot()) == MAX_SERIES + 1
    assert line(again, "taken_total", "other", "other") == Series("taken_total", ("other", "other"), 51)
    gauges.watch_many("waiting", lambda: {(f"p{number}",): number for number in range(MAX_SERIES + 50)})
    told = [one.value for one in gauges.snapshot() if one.name == "waiting"]
    assert (len(told), min(told)) == (MAX_SERIES, 50)


@pytest.mark.parametrize(
    ("name", "labels"),
    [("taken_total", {"outcome": "delivered"}), ("held", {}), ("commits_total", {"provider": "gmail"})],
)
def test_a_counter_that_the_catalogue_does_not_have_is_a_bug(name: str, labels: dict[str, str]) -> None:
    with pytest.raises(AssertionError):
        Gauges(CATALOGUE).counter(name, **labels)
