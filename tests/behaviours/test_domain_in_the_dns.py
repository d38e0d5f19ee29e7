"""A sending domain from one command to all green, against a real Knot with TSIG; rotated; and taken out again."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.behaviours.server import Server, wait_until
from tests.peers.bind import Bind
from tests.peers.knot import KEY, SECRET, Knot

ZONE = [
    "mta A 127.0.0.1",
    "@ MX 10 mail-of-the-office",
    "mail-of-the-office A 127.0.0.9",
    "www A 127.0.0.8",
    '@ TXT "some-site-verification=1"',
]
REVERSE = ["1 PTR mta.shop.test."]


@pytest.fixture
def knot(tmp_path: Path) -> Iterator[Knot]:
    made = Knot(tmp_path / "knot", {"shop.test": ZONE, "80.0.127.in-addr.arpa": REVERSE}, secret=SECRET)
    yield made
    made.close()


def settings(name_server: Knot | Bind) -> dict[str, dict[str, Any]]:
    return {
        "server": {"hostname": "mta.shop.test"},
        "dns": {
            "nameservers": [name_server.address],
            "timeout_s": 1,
            "authoritative_port": name_server.port,
            "ttl_s": 1,
        },
        "delivery": {"loopback_only": True, "time_scale": 3600},
    }


@pytest.fixture
def server(tmp_path: Path, knot: Knot) -> Iterator[Server]:
    with Server(tmp_path / "server", settings(knot), sandbox=False) as started:
        yield started


def allowed(server: Server, name_server: Knot | Bind, secret: str = SECRET) -> None:
    ran = server.cli("dns", "add", "shop.test", "--server", name_server.address, "--key", KEY, "--secret", secret)
    assert ran.code == 0, ran.err
    assert secret not in ran.out


def states(checks: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["state"] for one in checks["checks"]}


def check(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(server.cli("domain", "check", "shop.test", "--json").out)
    return found


def test_one_command_to_all_green_and_back(server: Server, knot: Knot) -> None:
    before = knot.everything("shop.test")
    allowed(server, knot)
    ran = server.cli("domain", "add", "shop.test", "--publish", "--json")
    assert ran.code == 0, ran.out + ran.err
    done = ran.last
    (selector,) = done["selectors"]
    assert not done["publish"]["conflicts"]
    assert done["checks"]["ready_for_bulk"] is True
    expected = {
        f"dkim:{selector}",
        "return-path-mx",
        "spf-return-path",
        "spf-from",
        "dmarc",
        "replies",
        "alignment",
        "host:server",
    }
    found = states(done["checks"])
    assert expected <= set(found)
    assert {name: state for name, state in found.items() if state != "ok"} == {}
    for one in done["checks"]["checks"]:
        assert {"name", "state", "found", "expected", "servers", "meaning", "next_step"} <= set(one)

    again = json.loads(server.cli("domain", "publish", "shop.test", "--json").out)
    assert (again["changes"], again["by_hand"], again["conflicts"]) == ([], [], [])
    planned = {(one["name"], one["type"]) for one in server.get("/v1/domains/shop.test/plan")["records"]}
    added = [line for line in knot.everything("shop.test") if line not in before]
    assert {(line.split()[0].rstrip("."), line.split()[2]) for line in added} == planned
    assert any("some-site-verification=1" in line for line in knot.everything("shop.test"))

    assert server.cli("domain", "set", "shop.test", "--dmarc", "quarantine").code == 0
    assert states(check(server))["dmarc"] == "warning", "there is a policy, though milder than what is wanted"
    assert server.cli("domain", "publish", "shop.test").code == 0
    policies = [line for line in knot.everything("shop.test") if line.startswith("_dmarc")]
    assert len(policies) == 1
    assert "p=quarantine" in policies[0]

    assert server.cli("domain", "remove", "shop.test", "--unpublish").code == 0
    assert knot.everything("shop.test") == before


def test_keys_change_twice_without_a_gap(server: Server, knot: Knot) -> None:
    allowed(server, knot)
    (first,) = server.cli("domain", "add", "shop.test", "--publish", "--json").last["selectors"]
    seen = [first]
    for _ in range(2):
        keys = server.cli("domain", "rotate", "shop.test", "--json").last["keys"]
        stages = {one["selector"]: one["stage"] for one in keys}
        assert stages[seen[-1]] == "old"
        (active,) = [name for name, stage in stages.items() if stage == "active"]
        assert active not in seen
        seen.append(active)
        lines = knot.everything("shop.test")
        assert all(any(line.startswith(f"{name}._domainkey.shop.test.") for line in lines) for name in stages)
        assert check(server)["state"] != "failed"
    # Eight days are some minutes here: a leak goes faster, as soon as nobody signs with it any more, and takes older keys along.
    keys = server.cli("domain", "rotate", "shop.test", "--leaked", "--json").last["keys"]
    assert {one["selector"]: one["stage"] for one in keys}[seen[-1]] == "revoked"
    wait_until(
        lambda: sum("._domainkey" in line for line in knot.everything("shop.test")) == 1,
        what=server.output,
    )
    keys = server.cli("domain", "keys", "shop.test", "--json").last["keys"]
    assert not {*seen} & {one["selector"] for one in keys}
    told = [event["data"]["change"] for event in server.events(kind="key_changed")]
    assert told[-8:-2] == [
        "made, by this machine", "leaked: it goes at once", "leaked: it goes at once",
        "leaked: it goes as soon as another signs", "signs", "gone",
    ], told  # fmt: skip


def test_what_others_have_is_left_alone_until_somebody_says_otherwise(server: Server, knot: Knot) -> None:
    spf = "v=spf1 a:www.shop.test ip4:192.0.2.0/24 -all"
    knot.replace("shop.test", [*ZONE, f'@ TXT "{spf}"', '_dmarc TXT "v=DMARC1; p=reject; rua=mailto:d@shop.test"'])
    allowed(server, knot)
    ran = server.cli("domain", "add", "shop.test", "--publish", "--json")
    assert ran.code == 1, "something is left to do"
    (conflict,) = ran.last["publish"]["conflicts"]
    wanted = "v=spf1 a:www.shop.test ip4:192.0.2.0/24 include:bounce.shop.test -all"
    assert (conflict["name"], conflict["there"], conflict["wanted"]) == ("shop.test", spf, wanted)
    assert any(spf in line for line in knot.everything("shop.test"))
    dry = json.loads(server.cli("domain", "publish", "shop.test", "--adopt", "--dry-run", "--json").out)
    assert [(one["action"], one["value"]) for one in dry["changes"]] == [("remove", spf), ("add", wanted)]
    assert server.cli("domain", "publish", "shop.test", "--adopt").code == 0
    lines = knot.everything("shop.test")
    assert any(wanted in line for line in lines)
    assert not any(f'"{spf}"' in line for line in lines)
    assert any("p=reject" in line for line in lines), "a policy of others stays"
    assert any("some-site-verification=1" in line for line in lines)
    assert states(check(server))["dmarc"] == "ok"


def test_an_alias_and_other_records_take_each_others_place_in_a_signed_zone(tmp_path: Path) -> None:
    lines = [*ZONE, "bounce CNAME mail-of-the-office", "mta-sts A 127.0.0.9", 'mta-sts TXT "x"']
    knot = Knot(tmp_path / "knot", {"shop.test": lines}, secret=SECRET, signed=True)
    try:
        knot.trust_anchor("shop.test")
        with Server(tmp_path / "server", settings(knot), sandbox=False) as server:
            allowed(server, knot)
            server.cli("domain", "add", "shop.test")
            assert server.cli("domain", "set", "shop.test", "--mta-sts", "testing").code == 0
            before = knot.everything("shop.test")
            refused = server.cli("domain", "publish", "shop.test", "--json").last["conflicts"]
            assert [(one["name"], one["type"], one["there"]) for one in refused] == [
                ("bounce.shop.test", "MX", "CNAME mail-of-the-office.shop.test."),
                ("bounce.shop.test", "TXT", "CNAME mail-of-the-office.shop.test."),
                ("mta-sts.shop.test", "CNAME", 'A 127.0.0.9 | TXT "x"'),
            ]
            assert {line for line in before if line.startswith(("bounce", "mta-sts"))} <= set(
                knot.everything("shop.test")
            )
            done = server.cli("domain", "publish", "shop.test", "--adopt", "--json")
            assert (done.code, done.last["missing"], done.last["conflicts"]) == (0, [], []), done.out + done.err
            ours = [
                line.split(None, 3) for line in knot.everything("shop.test") if line.startswith(("bounce", "mta-sts"))
            ]
            assert sorted((one[0], one[2]) for one in ours) == [
                ("bounce.shop.test.", "MX"),
                ("bounce.shop.test.", "TXT"),
                ("mta-sts.shop.test.", "CNAME"),
            ]
            assert server.cli("domain", "publish", "shop.test", "--json").last["changes"] == []
            server.change("server", "hostname", "www.shop.test")
            server.restart()
            moved = server.cli("domain", "publish", "shop.test", "--json")
            assert (moved.code, moved.last["missing"]) == (0, []), moved.out + moved.err
            assert "mta-sts.shop.test. 1 CNAME www.shop.test." in knot.everything("shop.test")
    finally:
        knot.close()


def test_on_its_page_a_person_publishes_what_was_shown(server: Server, knot: Knot) -> None:
    before = knot.everything("shop.test")
    allowed(server, knot)
    (selector,) = server.cli("domain", "add", "shop.test", "--json").last["selectors"]
    page = "/domains/shop.test"
    with httpx.Client(
        base_url=server.connection["http"], follow_redirects=True, trust_env=False, timeout=60
    ) as browser:
        browser.post("/login", data={"token": server.connection["token"]})

        def look() -> dict[str, str]:
            found = re.findall(
                r'name="(csrf|shown)" value="([^"]+)"', browser.get(page, params={"publish": "look"}).text
            )
            return dict(found)

        form = look()
        assert knot.everything("shop.test") == before
        knot.replace("shop.test", [*ZONE, "bounce MX 5 elsewhere"])
        answer = browser.post(f"{page}/publish", data=form)
        assert (answer.status_code, "not those any more that were shown" in answer.text) == (409, True)
        assert server.http.post("/v1/domains/shop.test/publish", json={"shown": form["shown"]}).status_code == 409
        assert len(knot.everything("shop.test")) == len(before) + 1
        knot.replace("shop.test", ZONE)
        answer = browser.post(f"{page}/publish", data=form)
        assert (answer.status_code, "Every name server that answers has it" in answer.text) == (200, True)
        assert f"ns.shop.test (127.0.0.1): {dkim_of(knot, selector)}" in html.unescape(answer.text)
        assert len(knot.everything("shop.test")) == len(before) + 5
        assert "shown" not in look(), "all of it is there"
        answer = browser.post(f"{page}/rotate", data={"csrf": form["csrf"]})
        assert "signs now, and" in answer.text
        stages = {one["selector"]: one["stage"] for one in server.get("/v1/domains/shop.test/keys")["keys"]}
        assert (stages.pop(selector), list(stages.values())) == ("old", ["active"])


def dkim_of(knot: Knot, selector: str) -> str:
    (line,) = [one for one in knot.everything("shop.test") if one.startswith(selector)]
    return line.split(" ", 3)[3].replace('" "', "").strip('"')


@pytest.mark.parametrize(
    ("secret", "says"),
    [
        (base64.b64encode(b"another secret").decode(), "does not accept the key"),
        ("not base64!", "the secret is not base64"),
    ],
)
def test_a_wrong_key_changes_nothing(server: Server, knot: Knot, secret: str, says: str) -> None:
    before = knot.everything("shop.test")
    ran = server.cli("dns", "add", "shop.test", "--server", knot.address, "--key", KEY, "--secret", secret)
    if ran.code == 0:
        ran = server.cli("domain", "add", "shop.test", "--publish")
    assert ran.code == 1
    assert says in ran.err
    assert secret not in ran.err + ran.out + server.output()
    assert knot.everything("shop.test") == before


def test_by_hand_where_nobody_told_how(server: Server, knot: Knot) -> None:
    ran = server.cli("domain", "add", "shop.test", "--publish", "--json")
    assert ran.code == 1
    assert ran.last["publish"]["changes"] == []
    assert len(ran.last["publish"]["by_hand"]) == 5
    assert not ran.last["checks"]["ready_for_bulk"]
    text = server.cli("domain", "plan", "shop.test", "--zone").out
    knot.replace("shop.test", [*ZONE, *text.splitlines()])
    assert check(server)["state"] in ("ok", "unknown"), check(server)


def test_sources_need_names_both_ways(server: Server, knot: Knot) -> None:
    server.change("delivery", "ehlo_name", "mta2.shop.test")  # of those that have none of their own
    server.restart()
    allowed(server, knot)
    server.post("/v1/sources", {"name": "s1", "address": "127.0.80.1", "ehlo_name": "mta.shop.test"})
    server.post("/v1/sources", {"name": "s2", "address": "127.0.80.2"})
    members = [{"name": "s1", "weight": 1}, {"name": "s2", "weight": 1}]
    server.http.patch("/v1/pools/default", json={"members": members}).raise_for_status()
    knot.replace("shop.test", [*ZONE, "mta A 127.0.80.1"])
    done = server.cli("domain", "add", "shop.test", "--publish", "--json").last
    found = states(done["checks"])
    assert (found["host:s1"], found["ptr:s1"]) == ("ok", "ok")
    assert (found["host:s2"], found["ptr:s2"]) == ("failed", "failed")
    assert found["spf-return-path"] == "ok"
    assert any('"v=spf1 ip4:127.0.80.1 ip4:127.0.80.2 -all"' in line for line in knot.everything("shop.test"))
    (pointer,) = (one for one in done["checks"]["checks"] if one["name"] == "ptr:s2")
    assert "set its PTR record to mta2.shop.test" in pointer["next_step"], "the name that deliveries say"
    knot.replace("shop.test", [*knot.everything("shop.test"), "mta2 A 127.0.80.2"])
    knot.replace("80.0.127.in-addr.arpa", [*REVERSE, "2 PTR mta2.shop.test."])
    found = states(check(server))
    assert (found["host:s2"], found["ptr:s2"]) == ("ok", "ok")


def test_what_breaks_by_itself_is_noticed_and_told(server: Server, knot: Knot) -> None:
    allowed(server, knot)
    server.cli("domain", "add", "shop.test", "--publish")
    lines = knot.everything("shop.test")
    kept = [line for line in lines if not line.startswith("_dmarc")]
    knot.replace("shop.test", kept)
    wait_until(lambda: server.events(kind="domain_changed"), 60, server.output)
    (event, *_) = server.events(kind="domain_changed")
    assert (event["data"]["check"], event["data"]["before"], event["data"]["state"]) == ("dmarc", "ok", "failed")
    assert "publish it at _dmarc.shop.test" in event["data"]["next_step"]
    view = json.loads(server.cli("domain", "check", "shop.test", "--last", "--json").out)
    assert view["ready_for_bulk"] is False
    history = server.cli("domain", "history", "shop.test")
    assert "dmarc" in history.out
    body = {"from": "news@shop.test", "subject": "News", "text": "Hello", "recipients": ["ok@someone.test"]}
    refused = server.http.post("/v1/campaigns", json=body)
    assert refused.status_code == 409
    assert "shop.test is not ready for bulk mail: dmarc" in refused.json()["detail"]
    assert "mailfleet domain check shop.test" in refused.json()["mend"]
    assert server.message("ok@someone.test", **{"from": "news@shop.test"}), "single messages go on"


def test_the_same_with_bind(tmp_path: Path) -> None:
    bind = Bind(tmp_path / "bind", {"shop.test": ZONE}, secret=SECRET)
    try:
        before = bind.everything("shop.test")
        with Server(tmp_path / "server", settings(bind), sandbox=False) as server:
            allowed(server, bind)
            done = server.cli("domain", "add", "shop.test", "--publish", "--json")
            assert (done.code, done.last["checks"]["state"]) == (0, "ok"), done.out + done.err
            (first,) = done.last["selectors"]
            keys = server.cli("domain", "rotate", "shop.test", "--json").last["keys"]
            assert {one["selector"]: one["stage"] for one in keys}[first] == "old"
            assert check(server)["state"] == "ok"
            assert len(bind.everything("shop.test")) == len(before) + 6
            assert server.cli("domain", "remove", "shop.test", "--unpublish").code == 0
        assert bind.everything("shop.test") == before
    finally:
        bind.close()


def test_each_way_to_break_has_its_own_words(server: Server, knot: Knot) -> None:
    allowed(server, knot)
    (selector,) = server.cli("domain", "add", "shop.test", "--publish", "--json").last["selectors"]
    good = knot.everything("shop.test")
    dkim = next(line for line in good if line.startswith(selector))
    key = f"dkim:{selector}"

    def without(start: str) -> list[str]:
        return [line for line in good if not line.startswith(start)]

    other = "p=MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="
    cut = dkim[: dkim.index("p=") + 60] + '"'
    for lines, name, state, meaning in (
        (without(selector), key, "failed", "there is no such record"),
        ([*without(selector), cut], key, "failed", "the key is cut off"),
        (
            [*good, f'{selector}._domainkey TXT "v=DKIM1; k=ed25519; {other}"'],
            key,
            "failed",
            "two records for one selector",
        ),
        (without("bounce.shop.test. 1 MX"), "return-path-mx", "failed", "there is no such record"),
        ([*good, "bounce MX 5 elsewhere"], "return-path-mx", "failed", "another mail host stands beside ours"),
        ([*good, 'bounce TXT "v=spf1 +all"'], "spf-return-path", "failed", "two SPF records"),
        (
            [*without("bounce.shop.test. 1 TXT"), 'bounce TXT "v=spf1 a:www.shop.test -all"'],
            "spf-return-path",
            "failed",
            "gets fail",
        ),
        (
            [*without("bounce.shop.test. 1 TXT"), 'bounce TXT "v=spf1 ip4:127.0.0.0/8 -all"'],
            "spf-return-path",
            "ok",
            "",
        ),
        ([*good, '@ TXT "v=spf1 broken:x"'], "spf-from", "warning", "the domain's own SPF record is broken"),
        (without("_dmarc"), "dmarc", "failed", "refuse bulk mail from domains without DMARC"),
        ([*without("_dmarc"), '_dmarc TXT "v=DMARC1; p=perhaps"'], "dmarc", "failed", "refuse bulk mail"),
        ([*without("_dmarc"), '_dmarc TXT "v=DMARC1; p=none; rua=mailto:x@mta.example"'], "dmarc", "ok", ""),
        ([*without("shop.test. 1 MX"), "@ MX 0 ."], "replies", "warning", "takes no mail"),
        (without("mta.shop.test."), "host:server", "failed", "the name leads nowhere"),
    ):
        knot.replace("shop.test", lines)
        found = next(one for one in check(server)["checks"] if one["name"] == name)
        assert (found["state"], meaning in found["meaning"]) == (state, True), (name, found)
        assert found["state"] != "failed" or found["next_step"], found
    knot.freeze()
    states_now = set(states(check(server)).values())
    knot.thaw()
    assert "failed" not in states_now, "nobody answers: nothing is known"
    knot.replace("shop.test", good)
    assert check(server)["state"] == "ok"
