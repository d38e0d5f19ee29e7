"""Keys and passwords at rest: AES-256-GCM under a master key kept in its own file, beside the data, mode 0600."""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mailfleet.base.durable import sync_folder
from mailfleet.base.errors import ConfigError

_MAGIC = b"mfb1"
_MIN_SEALED_BYTES = 4 + 12 + 16  # magic, nonce, tag


class SecretBox:
    """Seals and opens small secrets. ``label`` binds a secret to its place, so a sealed value moved elsewhere will not open."""

    def __init__(self, master_key: bytes) -> None:
        if len(master_key) != 32:
            raise ConfigError("the master key must be 32 bytes", where="master.key", mend="restore it from your backup")
        self._aead = AESGCM(master_key)
        mac_key = hashlib.sha256(b"mailfleet mac" + master_key).digest()
        self._mac = hmac.new(mac_key, digestmod=hashlib.sha256)  # keyed once: one is made for every copy

    @classmethod
    def open_file(cls, path: Path) -> SecretBox:
        """Load the master key, making it at first use. Two processes may race: the first file wins."""
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
            fresh.unlink(missing_ok=True)  # of a killed process that had the same number
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(os.urandom(32))
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(fresh, path)
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
            sync_folder(path.parent)
        return cls(path.read_bytes())

    def seal(self, secret: bytes, label: str) -> bytes:
        """Encrypt ``secret`` for the place named ``label``."""
        nonce = os.urandom(12)
        return _MAGIC + nonce + self._aead.encrypt(nonce, secret, label.encode())

    def open(self, sealed: bytes, label: str) -> bytes:
        """Decrypt. Raises ``ConfigError`` when the key, the label or the bytes are not the ones it was sealed with."""
        try:
            if sealed[:4] != _MAGIC or len(sealed) < _MIN_SEALED_BYTES:
                raise InvalidTag
            return self._aead.decrypt(sealed[4:16], sealed[16:], label.encode())
        except InvalidTag:
            raise ConfigError(
                f"the secret {label!r} does not open with this master key",
                where="master.key",
                mend="use the master.key that belongs to this data folder",
            ) from None

    def mac(self, message: bytes, label: str, size: int = 10) -> bytes:
        """A keyed tag of ``size`` bytes, for values that leave the house and must come back unforged."""
        made = self._mac.copy()
        made.update(label.encode() + b"\0" + message)
        return made.digest()[:size]


def secret_hash(secret: str) -> bytes:
    """What is stored of a generated high-entropy secret (token, SMTP password): SHA-256, enough because it cannot be guessed."""
    return hashlib.sha256(secret.encode()).digest()
