"""DNS records of sending domains, one small JSON file per name and type in ``DATA/sandbox/dns``.

Written by whoever adds a sending domain, read by the sandbox's DNS server and by the providers when they look for DKIM keys.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import idna
from dns.rdtypes.ANY.TXT import TXT

from mailfleet.base.errors import InputError

_SETTLED_NS = 100_000_000  # a folder changed this recently may change again within the same tick of its clock
TTL_S = 60


def publish(data_dir: Path, name: str, record_type: str, *values: str) -> None:
    """Put the record set ``name record_type`` into the sandbox's DNS, in place of what was there; no values removes it.

    ``values`` are in master-file form (``10 mx.example.`` for an MX), except that a TXT is its plain text, however long.
    One file is written atomically and is seen by the next query. Raises ``InputError`` for a value that is not of its type.
    """
    record_type = record_type.upper()
    owner = _owner(name)
    for value in values:
        _rdata(owner, record_type, value)
    folder = data_dir / "sandbox" / "dns"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(f'{owner} {record_type}'.encode()).hexdigest()[:32]}.json"
    if not values:
        path.unlink(missing_ok=True)
        return
    fresh = path.with_name(f"{path.stem}.{os.getpid()}.new")
    fresh.write_text(json.dumps({"name": owner, "type": record_type, "values": list(values)}, indent=1) + "\n", "utf-8")
    fresh.replace(path)


class Published:
    """What is published now. Every look first asks the folder whether it changed, which costs one ``stat``."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / "sandbox" / "dns"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._seen_ns = -1
        self._files: dict[str, tuple[int, int]] = {}
        self._records: dict[str, tuple[str, str, tuple[dns.rdata.Rdata, ...]]] = {}
        self._by_name: dict[str, dict[str, tuple[dns.rdata.Rdata, ...]]] = {}
        self.version = 0

    def refresh(self) -> int:
        """Read what changed; returns a number that grows whenever the answers may have."""
        changed_ns = os.stat(self._folder).st_mtime_ns
        if changed_ns != self._seen_ns:
            self._read()
            # A folder that has only just changed is read again next time: its clock is too coarse to tell two changes apart.
            self._seen_ns = changed_ns if time.time_ns() - changed_ns > _SETTLED_NS else -1
        return self.version

    def records(self, name: str) -> dict[str, tuple[dns.rdata.Rdata, ...]] | None:
        """Record type -> values at ``name`` (lower case, no trailing dot); ``None`` when nothing is published there."""
        return self._by_name.get(name)

    def txt(self, name: str) -> str | None:
        """The first TXT record at ``name`` as one text, for DKIM key lookups."""
        self.refresh()
        found = (self._by_name.get(name.lower().removesuffix(".")) or {}).get("TXT")
        if not found:
            return None
        first = found[0]
        assert isinstance(first, TXT)
        return b"".join(first.strings).decode("utf-8", "replace")

    def _read(self) -> None:
        present: dict[str, tuple[int, int]] = {}
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.endswith(".json"):
                    status = entry.stat()
                    present[entry.name] = (status.st_mtime_ns, status.st_ino)
        if present == self._files:
            return
        for gone in self._files.keys() - present.keys():
            self._records.pop(gone, None)
        for file_name, state in list(present.items()):
            if self._files.get(file_name) != state:
                self._records.pop(file_name, None)
                try:
                    content = json.loads((self._folder / file_name).read_text("utf-8"))
                    name, kind = str(content["name"]), str(content["type"])
                    self._records[file_name] = name, kind, tuple(_rdata(name, kind, text) for text in content["values"])
                except (OSError, ValueError, KeyError, TypeError, InputError):
                    del present[file_name]  # somebody's half-edited file: not published until it reads
        self._files = present
        self._by_name = {}
        for name, kind, values in self._records.values():
            self._by_name.setdefault(name, {})[kind] = values
        self.version += 1


def _owner(name: str) -> str:
    """A record's owner: lower case A-labels, no trailing dot. Label by label, as ``_domainkey`` is not one of a host name."""
    try:
        return ".".join(
            label.lower() if label.isascii() else idna.encode(label, uts46=True, transitional=False).decode("ascii")
            for label in name.removesuffix(".").split(".")
        )
    except (idna.IDNAError, UnicodeError) as error:
        raise InputError(f"not a domain name: {error}", where=name, mend="correct its spelling") from None


def _rdata(owner: str, record_type: str, value: str) -> dns.rdata.Rdata:
    try:
        if record_type == "TXT" and not value.startswith('"'):
            raw = value.encode()
            # RFC 1035 3.3: a character-string holds at most 255 bytes; a longer text is cut into several.
            strings = [raw[at : at + 255] for at in range(0, len(raw), 255)] or [b""]
            return TXT(dns.rdataclass.IN, dns.rdatatype.TXT, strings)
        dns.name.from_text(owner)
        return dns.rdata.from_text(dns.rdataclass.IN, record_type, value, origin=dns.name.root, relativize=False)
    except (dns.exception.DNSException, ValueError) as error:
        raise InputError(
            f"{value!r} is not a {record_type} record: {error}", where=owner, mend="check the value"
        ) from None
