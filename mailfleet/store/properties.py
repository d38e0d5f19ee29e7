"""What is true of the database as a whole, said once and binding from then on."""

from __future__ import annotations

from mailfleet.store.database import Tx

KIND = "kind"  # sandbox | live


def bind(tx: Tx, name: str, value: str) -> str:
    """Say it, if it was not said before; what holds."""
    tx.run("INSERT INTO property (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING", (name, value))
    return str(tx.value("SELECT value FROM property WHERE name = ?", (name,)))
