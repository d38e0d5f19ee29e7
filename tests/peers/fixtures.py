"""Fixtures ``postfix``, ``exim`` and ``opensmtpd``: a real mail server with an empty mailbox, started once for the whole run.

Each is a ``tests.peers.servers.MailServer``: ``host``, ``port``, ``messages()``, ``wait_for(count)``. See there for what it
accepts. A server that is not on this machine fails the test and says what to run.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.peers.servers import MailServer, run_exim, run_opensmtpd, run_postfix


@pytest.fixture(scope="session")
def postfix_process() -> Iterator[MailServer]:
    """The one Postfix of this run."""
    with run_postfix() as server:
        yield server


@pytest.fixture(scope="session")
def exim_process() -> Iterator[MailServer]:
    """The one Exim of this run."""
    with run_exim() as server:
        yield server


@pytest.fixture(scope="session")
def opensmtpd_process() -> Iterator[MailServer]:
    """The one OpenSMTPD of this run."""
    with run_opensmtpd() as server:
        yield server


@pytest.fixture
def postfix(postfix_process: MailServer) -> MailServer:
    """Postfix: PIPELINING, SIZE, 8BITMIME, SMTPUTF8, DSN, CHUNKING, STARTTLS."""
    postfix_process.clear()
    return postfix_process


@pytest.fixture
def exim(exim_process: MailServer) -> MailServer:
    """Exim: PIPELINING, SIZE, 8BITMIME, SMTPUTF8, DSN, CHUNKING, STARTTLS."""
    exim_process.clear()
    return exim_process


@pytest.fixture
def opensmtpd(opensmtpd_process: MailServer) -> MailServer:
    """OpenSMTPD: SIZE, 8BITMIME, DSN; neither PIPELINING nor CHUNKING; STARTTLS on offer whose handshake fails."""
    opensmtpd_process.clear()
    return opensmtpd_process
