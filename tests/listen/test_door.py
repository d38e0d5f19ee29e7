"""Which host is asked by which entrance, and what it is answered: request by request, as the HTTP server hands them in."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, NamedTuple

import pytest

from mailfleet.base.clock import SystemClock
from mailfleet.base.errors import BusyError
from mailfleet.engine.sites import Sites
from mailfleet.listen.door import Door
from mailfleet.store import certificates as rows
from mailfleet.store import sending
from mailfleet.store.certificates import Challenge
from mailfleet.store.database import Tx

HOST = "mail.us.test"  # of the memory engine
ROOM, PLAIN, TLS = ("127.0.0.1", 8025), ("192.0.2.1", 80), ("192.0.2.1", 443)
POLICY, ASSETS = "mta-sts.shop.example", "assets.shop.example"
WELL_KNOWN = "/.well-known/mta-sts.txt"
CHALLENGE = "/.well-known/acme-challenge/"


class Answer(NamedTuple):
    status: int
    header: dict[str, str]
    body: str


async def control_room(scope: Any, receive: Any, send: Any) -> None:
    """What stands behind the door."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-room", b"1")]})
    await send({"type": "http.response.body", "body": b"control room"})


class House:
    """A door with a domain behind it. ``anywhere``: the entrances for everybody listen on every address."""

    def __init__(self, engine: Any, *, anywhere: str = "0.0.0.0", contact: str = "mailto:s@us.test") -> None:
        sites = Sites(engine.database, SystemClock(), hostname=HOST, security_contact=contact)
        self.sites = sites
        self.door = Door(
            control_room, sites, engine.certificates, hostname=HOST.upper(), plain=(anywhere, 80), tls=(anywhere, 443)
        )

    async def ask(
        self,
        host: str | None,
        path: str = "/",
        entrance: tuple[str, int | None] | None = TLS,
        *,
        method: str = "GET",
        scheme: str = "",
        query: str = "",
    ) -> Answer:
        raw, _, _ = path.partition("?")
        scope: MutableMapping[str, Any] = {
            "type": "http",
            "method": method,
            "scheme": scheme or ("https" if entrance == TLS else "http"),
            "path": raw.replace("%00", "\0"),
            "raw_path": raw.encode(),
            "query_string": query.encode(),
            "headers": [] if host is None else [(b"host", host.encode("latin-1"))],
            "server": entrance,
        }
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        await self.door(scope, receive, send)
        header = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        body = b"".join(one.get("body", b"") for one in sent[1:])
        return Answer(sent[0]["status"], header, body.decode())


@pytest.fixture
async def house(engine: Any) -> House:
    """Of a server with the domain shop.example, which has a policy and a logo."""

    def work(tx: Tx) -> None:
        domain = sending.SendingDomain(
            5, 1, "shop.example", "bounce.shop.example", 1, mta_sts="enforce", mta_sts_mx="mx.shop.example",
            public_host=ASSETS, bimi_logo="12ab",
        )  # fmt: skip
        sending.add(tx, domain, [])
        sending.put_logo(tx, 5, "<svg/>")
        rows.put_challenge(tx, Challenge("http-01", HOST, "tok-en_1", "tok-en_1.thumb", 1))

    await engine.database.write(work)
    return House(engine)


def is_room(answer: Answer) -> bool:
    return answer.body == "control room"


@pytest.mark.parametrize(
    "host", [HOST, f"{HOST}:443", "MAIL.us.TEST.", "127.0.0.1", "[::1]:8443", "[2001:db8::1]", "localhost:80"]
)
async def test_the_server_itself_is_the_control_room(house: House, host: str) -> None:
    for entrance in (TLS, ROOM):
        for method in ("GET", "HEAD", "POST", "DELETE"):
            assert is_room(await house.ask(host, "/v1/domains", entrance, method=method))


async def test_only_https_asks_for_https(house: House) -> None:
    assert (await house.ask(HOST)).header["strict-transport-security"] == "max-age=31536000"
    assert (await house.ask(HOST)).header["x-room"] == "1"
    assert "strict-transport-security" not in (await house.ask(HOST, entrance=ROOM)).header
    assert "strict-transport-security" in (await house.ask(POLICY, WELL_KNOWN)).header
    assert "strict-transport-security" not in (await house.ask(POLICY, WELL_KNOWN, ROOM)).header


async def test_other_names_on_https_are_misdirected(house: House) -> None:
    for host in (
        "strange.example",
        "shop.example",
        "x.assets.shop.example",
        f"{HOST}.evil.test",
        f"{HOST}@evil.test",
        "\xff",
    ):
        answer = await house.ask(host)
        assert answer.status == 421  # RFC 9110 15.5.20
    assert is_room(await house.ask("control.lan", entrance=ROOM))  # as behind a proxy


async def test_a_proxy_that_ends_tls_gets_the_control_room(house: House) -> None:
    """uvicorn believes what a proxy on this machine says of the scheme."""
    answer = await house.ask("control.lan", entrance=ROOM, scheme="https")
    assert is_room(answer)
    assert "strict-transport-security" in answer.header


async def test_files_of_a_domain(house: House) -> None:
    for entrance in (TLS, ROOM):
        answer = await house.ask(f"{POLICY.upper()}:443", WELL_KNOWN, entrance)
        assert (answer.status, answer.header["content-type"]) == (200, "text/plain; charset=utf-8")
        assert "mx: mx.shop.example" in answer.body
        answer = await house.ask(ASSETS, "/bimi/12ab.svg", entrance)
        assert (answer.status, answer.body, answer.header["content-type"]) == (200, "<svg/>", "image/svg+xml")
        assert answer.header["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.header["content-security-policy"]
        assert answer.header["cache-control"] == "public, max-age=86400"
        assert answer.header["content-length"] == "6"


@pytest.mark.parametrize("entrance", [TLS, ROOM])
async def test_a_domains_host_is_no_way_into_the_control_room(house: House, entrance: tuple[str, int]) -> None:
    for host in (POLICY, ASSETS, f"{ASSETS}."):
        for path in ("/", "/v1/domains", "/health/live", "//", "/bimi/", f"{WELL_KNOWN}/"):
            assert (await house.ask(host, path, entrance)).status == 404
        assert (await house.ask(host, "/v1/messages", entrance, method="POST")).status == 404


async def test_files_are_read_only(house: House) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        answer = await house.ask(POLICY, WELL_KNOWN, method=method)
        assert (answer.status, answer.header["allow"]) == (405, "GET, HEAD")
    head, get = await house.ask(POLICY, WELL_KNOWN, method="HEAD"), await house.ask(POLICY, WELL_KNOWN)
    assert (head.status, head.header) == (get.status, get.header)


async def test_whom_finders_of_a_weakness_write_to(house: House, engine: Any) -> None:
    path = "/.well-known/security.txt"
    for host, canonical in ((HOST, HOST), (ASSETS, ASSETS), ("[::1]", HOST), ("127.0.0.1", HOST), (None, HOST)):
        for entrance in (TLS, ROOM):
            answer = await house.ask(host, path, entrance)
            assert answer.status == 200
            assert f"Canonical: https://{canonical}{path}\n" in answer.body
    assert (await house.ask("strange.example", path)).status == 421
    assert (await House(engine, contact="").ask(HOST, path)).status == 404


@pytest.mark.parametrize(
    ("host", "path", "query", "location"),
    [
        (HOST, "/", "", f"https://{HOST}/"),
        (f"{HOST}:80", "/campaigns/a%20b", "page=2&q=%3C", f"https://{HOST}/campaigns/a%20b?page=2&q=%3C"),
        (POLICY, WELL_KNOWN, "", f"https://{POLICY}{WELL_KNOWN}"),
        (HOST, "//evil.test/", "", f"https://{HOST}//evil.test/"),
        (HOST, "*", "", f"https://{HOST}/"),
        (HOST, "@evil.test/", "", f"https://{HOST}/"),
        ("[::1]:80", "/x", "", "https://[::1]/x"),
        ("192.0.2.1", "/x", "", "https://192.0.2.1/x"),
        (None, "/x", "", f"https://{HOST}/x"),
        ("", "/x", "", f"https://{HOST}/x"),
    ],
)
async def test_plain_http_sends_on(house: House, host: str | None, path: str, query: str, location: str) -> None:
    for method in ("GET", "POST"):
        answer = await house.ask(host, path, PLAIN, query=query, method=method)
        assert (answer.status, answer.header["location"]) == (308, location)


async def test_plain_http_never_shows_the_control_room(house: House, engine: Any) -> None:
    exact = House(engine, anywhere="192.0.2.1")
    every = House(engine, anywhere="::")
    for one, entrance in (
        (house, PLAIN),
        (house, ("127.0.0.1", 80)),
        (exact, PLAIN),
        (every, ("::ffff:192.0.2.1", 80)),
    ):
        for host in (HOST, "127.0.0.1", "localhost", "strange.example", "control.lan", POLICY):
            assert not is_room(await one.ask(host, "/v1/domains", entrance))
            assert not is_room(await one.ask(host, "/v1/domains", entrance, scheme="https"))
    assert is_room(await exact.ask(HOST, entrance=("127.0.0.1", 80)))  # the control room's own, by another address


async def test_plain_http_sends_strangers_nowhere(house: House) -> None:
    for host in ("strange.example", "shop.example", "evil.test:80", "a b"):
        answer = await house.ask(host, "/", PLAIN)
        assert answer.status == 404
        assert "location" not in answer.header


async def test_authorities_are_answered_over_plain_http(house: House) -> None:
    for entrance in (PLAIN, ROOM):
        for host in (HOST, "whatever.example"):
            answer = await house.ask(host, f"{CHALLENGE}tok-en_1", entrance)
            assert (answer.status, answer.body) == (200, "tok-en_1.thumb")
    for token in ("other", "", "tok-en_1/", "%00", "tok-en_1%00", "ü", "x" * 300):
        assert (await house.ask(HOST, CHALLENGE + token, PLAIN)).status == 404
    assert is_room(await house.ask(HOST, f"{CHALLENGE}tok-en_1"))  # over HTTPS it is a path as any other


@pytest.mark.parametrize("entrance", [None, ("unix", None)])
async def test_an_entrance_without_an_address(house: House, entrance: Any) -> None:
    assert is_room(await house.ask(HOST, entrance=entrance))


async def test_a_database_that_is_busy_is_no_fault_of_the_client(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def busy(host: str) -> bool:
        raise BusyError("the database is busy", retry_after_s=3)

    monkeypatch.setattr(house.sites, "knows", busy)
    answer = await house.ask(POLICY, WELL_KNOWN)
    assert (answer.status, answer.header["retry-after"]) == (503, "3")
    assert is_room(await house.ask(HOST))


async def test_what_is_not_http_passes(engine: Any) -> None:
    passed: list[str] = []

    async def inside(scope: Any, receive: Any, send: Any) -> None:
        passed.append(scope["type"])

    sites = Sites(engine.database, SystemClock(), hostname=HOST, security_contact="")
    door = Door(inside, sites, engine.certificates, hostname=HOST, plain=None, tls=None)
    await door({"type": "lifespan"}, None, None)  # type: ignore[arg-type]  # nothing is received or sent
    assert passed == ["lifespan"]
