"""Where connections may go."""

from __future__ import annotations

import pytest

from mailfleet.config.settings import Delivery
from mailfleet.net.guard import ForbiddenDestinationError, check_destination
from mailfleet.net.smtp_peer import Timeouts
from mailfleet.net.tls_client import server_name


@pytest.mark.parametrize("ip", ["127.0.0.1", "127.9.8.7", "::1", "::ffff:127.0.0.1"])
def test_loopback_is_always_allowed(ip: str) -> None:
    check_destination(ip, loopback_only=True)
    check_destination(ip, loopback_only=False)


@pytest.mark.parametrize("ip", ["192.0.2.1", "10.0.0.1", "2001:db8::1", "::ffff:192.0.2.1", "fe80::1"])
def test_anywhere_else_only_without_the_limit(ip: str) -> None:
    check_destination(ip, loopback_only=False)
    with pytest.raises(ForbiddenDestinationError, match="limited to loopback"):
        check_destination(ip, loopback_only=True)


@pytest.mark.parametrize(
    "ip", ["0.0.0.0", "::", "::ffff:0.0.0.0", "224.0.0.1", "ff02::1", "255.255.255.255", "mx.test", "", "127.1"]
)
def test_what_is_no_host_is_never_allowed(ip: str) -> None:
    for loopback_only in (True, False):
        with pytest.raises(ForbiddenDestinationError):
            check_destination(ip, loopback_only=loopback_only)


def test_time_outs_come_from_the_settings() -> None:
    timeouts = Timeouts.of(Delivery(greeting_timeout_s=1, command_timeout_s=2, data_timeout_s=3, final_timeout_s=4))
    wait_s = timeouts.awaiting()
    phases = {phase: wait_s[phase] for phase in ("greeting", "ehlo", "mail", "rcpt", "data", "message")}
    assert phases == {"greeting": 1, "ehlo": 2, "mail": 2, "rcpt": 2, "data": 3, "message": 4}


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("mx.test", "mx.test"),
        ("mx.test.", "mx.test"),
        ("[127.0.0.1]", None),
        ("127.0.0.1", None),
        ("::1", None),
        ("", None),
    ],
)
def test_sni_is_for_names(host: str, name: str | None) -> None:
    assert server_name(host) == name
