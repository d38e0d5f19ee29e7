"""Which certificate is shown, in handshakes with a client that looks."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import pytest

from mailfleet.net.tls_names import TlsNames, loaded_context
from tests.net.handshakes import client, names_of, pair, shake, shown

MAIL, STAR, OTHER = "mail.shop.test", "*.shop.test", "mta-sts.other.test"


@pytest.fixture
def names() -> TlsNames:
    """Of a server called mail.shop.test."""
    return TlsNames(loaded_context(*pair("fallback.test")), MAIL)


def test_without_any_the_fallback_is_shown(names: TlsNames) -> None:
    for asked in (None, MAIL, "strange.test"):
        assert shown(names.context, asked) == ["fallback.test"]


def test_the_name_that_is_asked_for_decides(names: TlsNames) -> None:
    assert names.use({MAIL: pair(MAIL), STAR: pair(STAR), OTHER: pair(OTHER)}) == []
    for asked, expected in [
        (MAIL, MAIL),  # itself before a wildcard
        ("MAIL.shop.TEST", MAIL),
        ("assets.shop.test", STAR),
        ("deep.assets.shop.test", MAIL),  # a wildcard is one label, and what nobody has is shown the server's
        ("shop.test", MAIL),
        (OTHER, OTHER),
        (None, MAIL),
        ("127.0.0.1", MAIL),
    ]:
        assert shown(names.context, asked) == [expected], asked


def test_a_client_that_checks_is_content(names: TlsNames) -> None:
    names.use({MAIL: pair(MAIL), STAR: pair(STAR)})
    for asked in (MAIL, "assets.shop.test"):
        shake(names.context, client(), asked)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(names.context, client(), "strange.test")


def test_a_wildcard_may_be_the_servers_own(names: TlsNames) -> None:
    names.use({STAR: pair(STAR)})
    assert shown(names.context, None) == [STAR]


def test_a_name_that_is_used_no_more_falls_back(names: TlsNames) -> None:
    names.use({MAIL: pair(MAIL), OTHER: pair(OTHER)})
    names.use({})
    for asked in (None, MAIL, OTHER):
        assert shown(names.context, asked) == ["fallback.test"]


@pytest.mark.parametrize("what", ["chain", "key", "other key", "surrogate"])
def test_what_cannot_be_loaded_leaves_what_was(names: TlsNames, what: str) -> None:
    good = pair(MAIL)
    names.use({MAIL: good})
    chain, key = pair(MAIL, "new.shop.test")
    broken = {
        "chain": ("half a certifi", key),
        "key": (chain, b"half a k"),
        "other key": (chain, good[1]),
        "surrogate": ("\ud800", key),
    }[what]
    assert names.use({MAIL: broken, OTHER: broken, "new.test": pair("new.test")}) == [MAIL, OTHER]
    assert shown(names.context, MAIL) == [MAIL]
    assert shown(names.context, OTHER) == [MAIL]
    assert shown(names.context, "new.test") == ["new.test"]
    assert names.use({MAIL: (chain, key)}) == []
    assert shown(names.context, MAIL) == [MAIL, "new.shop.test"]


def test_another_pair_is_taken_after_a_broken_one_even_when_it_is_the_former(names: TlsNames) -> None:
    good = pair(MAIL)
    names.use({MAIL: good})
    names.use({MAIL: ("broken", b"")})
    assert names.use({MAIL: good}) == []
    assert shown(names.context, MAIL) == [MAIL]


def test_another_fallback(names: TlsNames) -> None:
    names.use({OTHER: pair(OTHER)})
    names.replace_fallback(*pair("second.test"))
    assert shown(names.context, None) == ["second.test"]
    with pytest.raises(ssl.SSLError):
        names.replace_fallback(pair("third.test")[0], pair("third.test")[1])
    assert shown(names.context, None) == ["second.test"]
    assert shown(names.context, OTHER) == [OTHER]
    names.use({MAIL: pair(MAIL)})
    names.replace_fallback(*pair("fourth.test"))
    assert shown(names.context, None) == [MAIL]


def test_protocols_are_agreed_on_whatever_is_shown() -> None:
    names = TlsNames(loaded_context(*pair("fallback.test")), "", ("http/1.1",))
    names.use({MAIL: pair(MAIL)})
    for asked in (None, MAIL):
        connection = shake(names.context, client(("h2", "http/1.1"), trusting=True), asked)
        assert connection.selected_alpn_protocol() == "http/1.1"
    names.replace_fallback(*pair("second.test"))
    connection = shake(names.context, client(("http/1.1",), trusting=True), None)
    assert (names_of(connection), connection.selected_alpn_protocol()) == (["second.test"], "http/1.1")


def test_a_connection_goes_on_when_another_certificate_is_shown(names: TlsNames) -> None:
    names.use({MAIL: pair(MAIL)})
    near, far = socket.socketpair()

    def echo() -> None:
        with names.context.wrap_socket(near, server_side=True) as accepted:
            while data := accepted.recv(100):
                accepted.sendall(data)

    answering = threading.Thread(target=echo)
    answering.start()
    with client().wrap_socket(far, server_hostname=MAIL) as connection:
        names.use({MAIL: pair(MAIL, "new.shop.test")})
        assert shown(names.context, MAIL) == [MAIL, "new.shop.test"]
        connection.sendall(b"still there")
        assert connection.recv(100) == b"still there"
        assert names_of(connection) == [MAIL]
    answering.join()


def test_a_key_in_memory_leaves_no_descriptor_behind() -> None:
    loaded_context(*pair(MAIL))
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        loaded_context(*pair(MAIL))
        with pytest.raises(ssl.SSLError):
            loaded_context("", b"")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_versions_are_not_spoken(names: TlsNames) -> None:
    asking = client(trusting=True)
    asking.set_ciphers("ALL:@SECLEVEL=0")
    asking.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    asking.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        shake(names.context, asking, MAIL)
