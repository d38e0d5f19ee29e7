"""A sending domain in a zone that is written to through a provider of octoDNS: a real PowerDNS by its HTTP API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.behaviours.server import Ran, Server
from tests.peers.powerdns import API_KEY, PowerDns

ZONE = [
    "mta A 127.0.0.1",
    "@ MX 10 mail-of-the-office",
    "mail-of-the-office A 127.0.0.9",
    '@ TXT "some-site-verification=1"',
]
PROVIDER = "octodns_powerdns.PowerDnsProvider"


@pytest.fixture
def powerdns(tmp_path: Path) -> Iterator[PowerDns]:
    made = PowerDns(tmp_path / "powerdns", {"shop.test": ZONE})
    yield made
    made.close()


@pytest.fixture
def server(tmp_path: Path, powerdns: PowerDns) -> Iterator[Server]:
    settings: dict[str, dict[str, Any]] = {
        "server": {"hostname": "mta.shop.test", "log_level": "debug"},
        "dns": {
            "nameservers": [powerdns.address], "timeout_s": 1, "authoritative_port": powerdns.port, "ttl_s": 1,
        },
        "delivery": {"loopback_only": True, "time_scale": 3600},
    }  # fmt: skip
    with Server(tmp_path / "server", settings, sandbox=False) as started:
        yield started


def add(server: Server, powerdns: PowerDns, *more: str, zone: str = "shop.test", key: str | None = API_KEY) -> Ran:
    told = ["--provider", PROVIDER, "--setting", "host=127.0.0.1", "--setting", f"port={powerdns.api_port}"]
    given = ["--secret", "api_key"] if key is not None else []
    return server.cli("dns", "add", zone, *told, *given, *more, text=f"{key}\n")


def text_of(server: Server) -> str:
    """All that the server has said."""
    return server.output() + "".join(server.log(role) for role in ("front", "jobs", "supervisor", "deliver"))


def test_one_command_to_all_green_rotated_and_back(server: Server, powerdns: PowerDns) -> None:
    before = powerdns.everything("shop.test")
    ran = add(server, powerdns)
    assert ran.code == 0, ran.err
    assert f"shop.test is written to through {PROVIDER}" in ran.out
    done = server.cli("domain", "add", "shop.test", "--publish", "--json")
    assert (done.code, done.last["checks"]["state"]) == (0, "ok"), done.out + done.err
    assert [one["state"] for one in done.last["checks"]["checks"] if one["state"] != "ok"] == []
    again = json.loads(server.cli("domain", "publish", "shop.test", "--json").out)
    assert (again["changes"], again["by_hand"], again["conflicts"]) == ([], [], [])
    added = [line.split() for line in powerdns.everything("shop.test") if line not in before]
    planned = {(one["name"], one["type"]) for one in server.get("/v1/domains/shop.test/plan")["records"]}
    assert {(words[0].rstrip("."), words[2]) for words in added} == planned
    assert all(line in powerdns.everything("shop.test") for line in before), "what others have stays"

    (first,) = done.last["selectors"]
    keys = {one["selector"]: one["stage"] for one in server.cli("domain", "rotate", "shop.test", "--json").last["keys"]}
    assert keys[first] == "old"
    assert sorted(keys.values()) == ["active", "old"]
    lines = powerdns.everything("shop.test")
    assert all(any(line.startswith(f"{name}._domainkey.shop.test.") for line in lines) for name in keys)

    assert server.cli("domain", "remove", "shop.test", "--unpublish").code == 0
    assert powerdns.everything("shop.test") == before
    listed = server.cli("dns", "list", "--json")
    assert listed.last["settings"] == {"host": "127.0.0.1", "port": powerdns.api_port}
    assert API_KEY not in ran.out + ran.err + listed.out + server.cli("dns", "list").out + text_of(server)
    assert not any(API_KEY.encode() in path.read_bytes() for path in server.data.rglob("*") if path.is_file())
    assert server.cli("dns", "remove", "shop.test").code == 0
    assert server.get("/v1/dns-zones")["items"] == []


def test_an_spf_of_others_is_merged_into_when_somebody_says_so(server: Server, powerdns: PowerDns) -> None:
    assert add(server, powerdns).code == 0
    spf, wanted = "v=spf1 ip4:192.0.2.0/24 -all", "v=spf1 ip4:192.0.2.0/24 include:bounce.shop.test -all"
    site = '"some-site-verification=1"'
    powerdns.put("shop.test", "shop.test", "TXT", site, f'"{spf}"')
    ran = server.cli("domain", "add", "shop.test", "--publish", "--json")
    assert ran.code == 1, "something is left to do"
    assert [one["wanted"] for one in ran.last["publish"]["conflicts"]] == [wanted]

    def shared() -> list[str]:
        found = [line.split(" ", 3) for line in powerdns.everything("shop.test")]
        return sorted(value for name, _, kind, value in found if (name, kind) == ("shop.test.", "TXT"))

    assert shared() == [site, f'"{spf}"']
    assert server.cli("domain", "publish", "shop.test", "--adopt").code == 0
    assert shared() == [site, f'"{wanted}"']


def test_what_cannot_work_is_not_kept_and_says_what_to_do(server: Server, powerdns: PowerDns) -> None:
    wrong = "a-wrong-key-of-tests"
    for ran, says in (
        (add(server, powerdns, key=wrong), "PowerDnsProvider does not accept the credentials"),
        (add(server, powerdns, zone="other.test"), "PowerDnsProvider has no zone other.test: make it there"),
        (add(server, powerdns, "--setting", f"password={wrong}"), "password looks like a secret"),
        (add(server, powerdns, "--secret", f"token={wrong}"), "the secret token would stand on the command line"),
        (add(server, powerdns, "--secret", "token=env:MAILFLEET_NOTHING"), "MAILFLEET_NOTHING is not set"),
        (add(server, powerdns, "--server", "127.0.0.1"), "--server and --key are of dynamic update"),
        (add(server, powerdns, key=None), "missing 1 required positional argument: 'api_key'"),
        (server.cli("dns", "add", "shop.test", "--provider", "octodns_gone.Gone"), "all is limited to loopback"),
        (
            server.cli("dns", "add", "shop.test", "--provider", "octodns_gone.Gone", "--setting", "host=127.0.0.1"),
            "pip install octodns-gone",
        ),
    ):
        assert (ran.code > 0, says in " ".join(ran.err.split())) == (True, True), (says, ran)
        assert wrong not in ran.out + ran.err + text_of(server)
    assert server.get("/v1/dns-zones")["items"] == []
    powerdns.close()
    ran = add(server, powerdns)
    assert ran.code == 1
    assert "PowerDnsProvider cannot be reached" in " ".join(ran.err.split())
