"""Numbers of one process that are read from outside: counters, histograms, watched values. Plain Python, no locks, no I/O.

Which metrics there are is data: a catalogue of ``Metric`` by name (``config/metrics.py``). Whoever counts asks ``Gauges`` once
for an object and keeps it; counting is then one addition to an attribute. A counter belongs to one thread.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

MAX_SERIES = 200  # of one metric; further combinations of labels are counted together
UNNAMED, OVERFLOW = "none", "other"

Labels = tuple[str, ...]
Number = int | float


@dataclass(frozen=True, slots=True)
class Metric:
    """What a metric means. ``labels`` have few values each: never an address, a domain or a site.

    ``bounds`` are the upper edges of a histogram's buckets, ascending, without the infinite one. ``node``: one value for the
    whole node rather than one a role.
    """

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: Labels = ()
    bounds: tuple[float, ...] = ()
    node: bool = False


class Counter:
    """``n`` only goes up: ``counter.n += 1``."""

    __slots__ = ("n",)

    def __init__(self, n: Number = 0) -> None:
        self.n = n


class Histogram:
    """How many values fell where: ``counts[i]`` of at most ``bounds[i]`` and above the bound before, the last one of all above."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Series(NamedTuple):
    """One line of a snapshot: ``value`` of a counter or gauge; of a histogram the sum, with its ``counts`` and ``bounds``."""

    name: str
    labels: Labels
    value: Number
    counts: tuple[int, ...] = ()
    bounds: tuple[float, ...] = ()


Read = Callable[[], Number | None]
ReadMany = Callable[[], Mapping[Labels, Number]]


class Gauges:
    """All numbers of this process. A name that is not in the catalogue, or other labels than it has there, is a bug and asserts.

    ``earlier`` is what an earlier run of this role had counted: counters and histograms go on from there, so that what is
    exported never goes down when a process dies.
    """

    def __init__(self, catalogue: Mapping[str, Metric], earlier: Sequence[Series] = ()) -> None:
        self._catalogue = catalogue
        self._counters: dict[tuple[str, Labels], Counter] = {}
        self._histograms: dict[tuple[str, Labels], Histogram] = {}
        self._watched: dict[tuple[str, Labels], Read] = {}
        self._watched_many: dict[str, ReadMany] = {}
        self._known: dict[str, set[Labels]] = {}
        self.watch_errors = 0  # values that could not be read since the start
        self._earlier: dict[tuple[str, Labels], Number] = {}
        for one in earlier:
            self._restore(one)

    def counter(self, name: str, **labels: str) -> Counter:
        """The counter of these labels; the same object each time. An empty label is counted as ``none``."""
        key = self._key(name, "counter", labels)
        found = self._counters.get(key)
        if found is None:
            key = self._within_bound(key)
            found = self._counters.setdefault(key, Counter(self._earlier.pop(key, 0)))
        return found

    def histogram(self, name: str, **labels: str) -> Histogram:
        """The histogram of these labels, with the bounds of the catalogue; the same object each time."""
        key = self._key(name, "histogram", labels)
        found = self._histograms.get(key)
        if found is None:
            key = self._within_bound(key)
            found = self._histograms.setdefault(key, Histogram(self._catalogue[name].bounds))
        return found

    def watch(self, name: str, read: Read, **labels: str) -> None:
        """Ask ``read`` whenever a snapshot is made; None leaves the line out. It must be quick and must not wait.

        For a counter ``read`` tells what this run counted; what earlier runs counted is added.
        """
        kind = self._catalogue[name].kind
        assert kind != "histogram", name
        self._watched[self._key(name, kind, labels)] = read

    def watch_many(self, name: str, read: ReadMany) -> None:
        """As ``watch``, for a gauge whose label values are known only then: values by labels in the catalogue's order.

        Of more than ``MAX_SERIES`` the largest are told.
        """
        assert self._catalogue[name].kind == "gauge", name
        self._watched_many[name] = read

    def snapshot(self) -> list[Series]:
        """Everything as it stands. A value that cannot be read is left out and counted in ``watch_errors``."""
        made = [Series(name, labels, counter.n) for (name, labels), counter in self._counters.items()]
        made += [Series(*key, one.sum, tuple(one.counts), one.bounds) for key, one in self._histograms.items()]
        for key, read in self._watched.items():
            try:
                value = read()
            except Exception:  # whatever is wrong with one number must not hide the others
                self.watch_errors += 1
                continue
            if value is not None:
                made.append(Series(*key, value + self._earlier.get(key, 0)))
        for name, read_many in self._watched_many.items():
            try:
                values = read_many()
            except Exception:
                self.watch_errors += 1
                continue
            largest = sorted(values.items(), key=lambda item: item[1], reverse=True)[:MAX_SERIES]
            made += [Series(name, tuple(one or UNNAMED for one in labels), value) for labels, value in largest]
        told = {(one.name, one.labels) for one in made}
        made += [Series(*key, value) for key, value in self._earlier.items() if key not in told]
        return made

    def _key(self, name: str, kind: str, labels: Mapping[str, str]) -> tuple[str, Labels]:
        metric = self._catalogue[name]
        assert metric.kind == kind, f"{name} is a {metric.kind}"
        assert labels.keys() == set(metric.labels), f"the labels of {name} are {metric.labels}"
        return name, tuple(labels[one] or UNNAMED for one in metric.labels)

    def _within_bound(self, key: tuple[str, Labels]) -> tuple[str, Labels]:
        name, labels = key
        overflow = tuple(OVERFLOW for _ in labels)
        known = self._known.setdefault(name, set())
        if labels not in known and labels != overflow:
            if len(known) >= MAX_SERIES:
                return name, overflow
            known.add(labels)
        return key

    def _restore(self, one: Series) -> None:
        """Go on from ``one`` where it is a count and still means the same; else it is forgotten."""
        metric = self._catalogue.get(one.name)
        if metric is None or len(metric.labels) != len(one.labels):
            return
        key = self._within_bound((one.name, one.labels))
        if metric.kind == "histogram" and one.bounds == metric.bounds:
            made = self._histograms.setdefault(key, Histogram(metric.bounds))
            made.counts, made.sum = list(one.counts), float(one.value)
        elif metric.kind == "counter":
            # Whether it will be counted or watched is not known yet: ``counter`` and ``watch`` take it over.
            self._earlier[key] = one.value
