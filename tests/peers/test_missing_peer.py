"""A machine without the mail servers says what to do about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.peers import jail
from tests.peers.rspamd import Rspamd


def test_a_missing_server_names_the_script(tmp_path: Path) -> None:
    with pytest.raises(jail.MissingPeerError, match="run scripts/install-mail-peers"):
        jail.build(tmp_path, "no-such-server", [], {})


def test_a_missing_rspamd_names_its_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(pytest.fail.Exception, match="run scripts/install-rspamd"):
        Rspamd(tmp_path, dns="127.0.0.1:53")
