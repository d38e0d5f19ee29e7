"""Writing to a zone through a provider of octoDNS: a DNS service with an interface of its own, in a package of its own.

Providers block, plan whole zones and know no prerequisites. So they run in a thread of their own, one at a time on a zone, on
the zone as it is at that moment with nothing changed but what is asked for; a plan that says anything else is not carried out.
octoDNS counts how large a part of a zone a plan changes and leaves it to its command line to refuse; what is refused here is
any change beside those that were asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib
import logging
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

from mailfleet.base.errors import InputError
from mailfleet.net import dns_rrsets
from mailfleet.net.dns_update import Change, DnsUpdateError, Guard
from mailfleet.net.guard import is_loopback

Setting = str | int | float | bool
RESERVED = frozenset({"id", "apply_disabled", "strict_supports"})  # settings that are ours to choose
_PROVIDER = re.compile(r"(octodns_[a-z0-9_]+(?:\.[a-z0-9_]+)*)\.([A-Z][A-Za-z0-9]*)")
_REFUSED = re.compile(
    r"unauthori[sz]ed|forbidden|authenticat|credential|access ?denied|invalid (request )?(headers|api|token|key)", re.I
)
_UNAUTHORIZED = (401, 403)
_TRIES = 3
_LOOK_S = 0.1
_MAX_WORDS = 300
_SECRET_LENGTH = 4  # what is shorter is no secret, and taken out of a text leaves none


class ProviderZone:
    """One zone behind one provider (``package.Class``). ``lock``: a file by which processes take turns on the zone."""

    def __init__(
        self,
        zone: str,
        provider: str,
        settings: Mapping[str, Setting],
        secrets: Mapping[str, str],
        *,
        lock: Path,
        timeout_s: float,
        loopback_only: bool = False,
    ) -> None:
        self._zone, self._provider, self._settings, self._secrets = zone, provider, settings, secrets
        self._lock, self._timeout_s, self._loopback_only = lock, timeout_s, loopback_only

    async def prove(self) -> None:
        """Read the zone. Raises ``InputError`` for settings that cannot be, ``DnsUpdateError`` where they lead to nothing."""
        await self._apart(lambda turn: self._read_zone(self._made()))

    async def apply(self, changes: Iterable[Change], ttl_s: int, guards: Sequence[Guard] = ()) -> None:
        """Make the changes. Raises ``DnsUpdateError``; the message says whether a part of them may be made.

        ``guards``: what must still be there. No provider can check that by itself: what others write in the moment between
        the last look and the change is lost where it is in the same record set.
        """
        wanted = list(changes)
        if not wanted:
            return
        try:
            await self._apart(lambda turn: self._write(turn, wanted, ttl_s, guards))
        except InputError as error:  # it was right when the zone was added
            raise DnsUpdateError(str(error)) from None

    # In the thread

    def _write(self, turn: _Turn, changes: list[Change], ttl_s: int, guards: Sequence[Guard]) -> None:
        with self._alone(turn):
            provider = self._made()
            plan = self._plan(provider, changes, ttl_s, guards)
            if plan is None:
                return
            if not turn.begin():
                return
            try:
                provider.apply(plan)
            except Exception as error:
                whole = len(plan.changes) == 1 and getattr(error, "response", None) is not None
                half = "" if whole else "; a part of it may be done, publishing again goes on from there"
                raise DnsUpdateError(self._words(error) + half) from None

    def _plan(self, provider: Any, changes: list[Change], ttl_s: int, guards: Sequence[Guard]) -> Any:
        """The plan of the provider for these changes and nothing else; None where all is as it should be."""
        odd: set[dns_rrsets.Place] = set()
        for _ in range(_TRIES):  # others may write between the two looks
            now = self._read_zone(provider)
            desired = now.copy()
            touched = dns_rrsets.put(desired, changes, guards, ttl_s)
            if not touched:
                return None
            if desired.root_ns is not None and not provider.SUPPORTS_ROOT_NS:
                desired.remove_record(desired.root_ns)  # no provider takes away what it cannot write
            try:
                plan = provider.plan(desired, lenient=True)
            except Exception as error:
                raise DnsUpdateError(self._words(error)) from None
            planned = {(one.record.name, one.record._type): one for one in (plan.changes if plan else ())}
            odd = touched ^ set(planned)
            odd |= {
                place
                for place, one in planned.items()
                if not dns_rrsets.same(one.existing, now.get_type(*place))
                or (one.new is not None and not dns_rrsets.same(one.new, desired.get_type(*place)))
            }
            if plan is not None and not odd and not plan.meta:
                return plan
        names = ", ".join(sorted(f"{name or '@'} {kind}" for name, kind in odd)) or "the zone itself"
        raise DnsUpdateError(
            f"{self._where} would not change what was asked for, and only that ({names}): do it by hand"
        )

    def _read_zone(self, provider: Any) -> Any:
        from octodns.zone import Zone

        zone = Zone(f"{self._zone}.", [])
        try:
            exists = provider.populate(zone, target=True, lenient=True)
        except Exception as error:
            raise DnsUpdateError(self._words(error)) from None
        if exists is False or not (exists or zone.records):
            raise DnsUpdateError(
                f"{self._where} has no zone {self._zone}: make it there, or look in which account it is"
            )
        return zone

    def _made(self) -> Any:
        """The provider. Raises ``InputError`` and ``DnsUpdateError``."""
        if self._loopback_only and not is_loopback(str(self._settings.get("host", ""))):
            what = "all is limited to loopback, and a provider goes where it likes"
            raise InputError(what, where="provider", mend="one whose setting host is an address of this machine is let")
        found = provider_class(self._provider)
        hush = _Hush(self._hidden)
        for name in (f"{found.__name__}[{self._zone}]", "Record", "Zone", "Plan"):
            logger = logging.getLogger(name)
            logger.setLevel(logging.ERROR)  # they warn of what others have in the zone, at every look
            logger.filters[:] = [hush]
        try:
            made = found(self._zone, **self._settings, **self._secrets)
        except (TypeError, ValueError) as error:
            what = self._hidden(re.sub(r"^[\w.]*__init__\(\) ", "", str(error)))
            raise InputError(what, where="settings", mend=f"see which settings {found.__name__} takes") from None
        except Exception as error:
            raise DnsUpdateError(self._words(error)) from None
        made.log.filters[:] = [hush]
        return made

    @contextlib.contextmanager
    def _alone(self, turn: _Turn) -> Iterator[None]:
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while True:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                if turn.over.wait(_LOOK_S):
                    raise DnsUpdateError(f"somebody else is writing to {self._zone}: try again")
            yield
        finally:
            os.close(descriptor)

    # Outside of it

    async def _apart(self, work: Callable[[_Turn], object]) -> None:
        """Run ``work`` in a thread that nobody has to wait for: a provider may hang for as long as it likes."""
        turn = _Turn()
        told: Future[None] = Future()

        def run() -> None:
            try:
                work(turn)
            except Exception as error:
                told.set_exception(error)
            else:
                told.set_result(None)

        threading.Thread(target=run, daemon=True, name=f"dns {self._zone}").start()
        waiting = asyncio.wrap_future(told)
        waiting.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            await asyncio.wait_for(asyncio.shield(waiting), self._timeout_s)
        except TimeoutError:
            begun = turn.end()
            so = (
                "whether the zone was changed is not known, publishing again finds out"
                if begun
                else "nothing was changed"
            )
            raise DnsUpdateError(f"{self._where} gave no answer in {self._timeout_s:g} s: {so}") from None
        finally:
            turn.end()

    @property
    def _where(self) -> str:
        return self._provider.rpartition(".")[2]

    def _words(self, error: Exception) -> str:
        """What a provider raised, for people."""
        status = getattr(getattr(error, "response", None), "status_code", 0)
        text = self._hidden(str(error)).rpartition("(Caused by ")[2][:_MAX_WORDS] or type(error).__name__
        if status in _UNAUTHORIZED or _REFUSED.search(f"{type(error).__name__} {text}"):
            return f"{self._where} does not accept the credentials: {text}"
        if isinstance(error, OSError) and not status:
            return f"{self._where} cannot be reached: {text}"
        return f"{self._where}: {text}" if " " in text else f"{self._where}: {type(error).__name__} {text}"

    def _hidden(self, text: str) -> str:
        """The text without secrets, as they are and as addresses have them."""
        for secret in (one for one in self._secrets.values() if len(one) >= _SECRET_LENGTH):
            for form in (secret, quote(secret, safe=""), quote_plus(secret)):
                text = text.replace(form, "***")
        return text


class _Turn:
    """Whether a change may still begin: who waits and who works must not both be right."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._begun = False
        self.over = threading.Event()

    def begin(self) -> bool:
        """From now on something may be changed; false when nobody waits for it any more."""
        with self._guard:
            self._begun = not self.over.is_set()
            return self._begun

    def end(self) -> bool:
        """Nobody waits any more; whether a change had begun."""
        with self._guard:
            self.over.set()
            return self._begun


class _Hush(logging.Filter):
    """Log lines of a provider, without secrets."""

    def __init__(self, hidden: Callable[[str], str]) -> None:
        super().__init__()
        self._hidden = hidden

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets every line through, with secrets taken out."""
        record.msg, record.args, record.exc_info = self._hidden(record.getMessage()), (), None
        return True


def provider_class(dotted: str) -> type[Any]:
    """The class of a provider, of packages that call themselves octodns_*. Raises ``InputError``, which says what to install."""
    found = _PROVIDER.fullmatch(dotted)
    if not found:
        raise InputError(
            f"{dotted!r} is not a provider of octoDNS",
            where="provider",
            mend="package and class, as in octodns_cloudflare.CloudflareProvider",
        )
    package = found[1].partition(".")[0]
    importlib.invalidate_caches()  # it may have been installed a moment ago
    try:
        module = importlib.import_module(found[1])
    except ModuleNotFoundError as error:
        if error.name != package:
            raise InputError(
                f"{package} lacks {error.name}", where="provider", mend=f"pip install {error.name}"
            ) from None
        mend = f"pip install {package.replace('_', '-')}, where Mailfleet is installed"
        raise InputError(f"the package {package} is not installed", where="provider", mend=mend) from None
    except Exception as error:
        mend = "install a version that goes with the octodns that is here"
        raise InputError(f"{package} cannot be loaded: {error}", where="provider", mend=mend) from None
    from octodns.provider.base import BaseProvider

    made = getattr(module, found[2], None)
    if not (isinstance(made, type) and issubclass(made, BaseProvider) and hasattr(made, "SUPPORTS")):
        raise InputError(
            f"{found[1]} has no provider {found[2]}", where="provider", mend="see the page of that package for its name"
        )
    return made
