"""A machine without the mail servers says what to do about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.peers import jail


def test_a_missing_server_names_the_script(tmp_path: Path) -> None:
    with pytest.raises(jail.MissingPeerError, match="run scripts/install-mail-peers"):
        jail.build(tmp_path, "no-such-server", [], {})
