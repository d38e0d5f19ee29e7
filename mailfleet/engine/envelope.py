"""What a delivery's envelope holds beyond its address, as it is stored: only what differs from the default."""

from __future__ import annotations

from dataclasses import dataclass, replace

import orjson

from mailfleet.policy.transport import TlsManner


@dataclass(frozen=True, slots=True)
class Envelope:
    """``reverse_path`` None means: ours, one per delivery, so that a late bounce names its delivery (VERP).

    ``submitted`` messages owe DSNs to their reverse-path (RFC 3461); others tell by events. ``delay_told``: the delay DSN
    was sent. ``tls``: see ``policy.transport.TlsManner``; sessions for ``any`` are in no report on TLS (RFC 8460 3).
    """

    reverse_path: str | None = None
    submitted: bool = False
    notify: frozenset[str] | None = None
    orcpt: str = ""
    ret: str = ""
    envid: str = ""
    smtputf8: bool = False
    delay_told: bool = False
    tls: TlsManner = ""

    @classmethod
    def load(cls, text: str | None) -> Envelope:
        """Read the stored form."""
        if not text:
            return DEFAULT
        stored = orjson.loads(text)
        notify = stored.get("notify")
        return cls(
            reverse_path=stored.get("reverse_path"),
            submitted=stored.get("submitted", False),
            notify=None if notify is None else frozenset(notify),
            orcpt=stored.get("orcpt", ""),
            ret=stored.get("ret", ""),
            envid=stored.get("envid", ""),
            smtputf8=stored.get("smtputf8", False),
            delay_told=stored.get("delay_told", False),
            tls=stored.get("tls", ""),
        )

    @staticmethod
    def wants_success(text: str | None) -> bool:
        """Whether the stored form may ask for a DSN of success; without reading it, for hardly any does."""
        return text is not None and "SUCCESS" in text

    @staticmethod
    def manner_of(text: str | None) -> TlsManner:
        """The field ``tls`` of the stored form; without reading it where there is none, for hardly any has one."""
        return Envelope.load(text).tls if text is not None and '"tls":"' in text else ""

    def dump(self) -> str | None:
        """The stored form; None for the default."""
        if self == DEFAULT:
            return None
        stored: dict[str, object] = {}
        for name in ("reverse_path", "submitted", "orcpt", "ret", "envid", "smtputf8", "delay_told", "tls"):
            value = getattr(self, name)
            if value != getattr(DEFAULT, name):
                stored[name] = value
        if self.notify is not None:
            stored["notify"] = sorted(self.notify)
        return orjson.dumps(stored).decode()

    def after_delay_dsn(self) -> Envelope:
        """The same with the delay DSN noted."""
        return replace(self, delay_told=True)


DEFAULT = Envelope()
