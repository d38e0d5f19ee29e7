"""Sending domains, SMTP logins, API tokens, suppressions, campaigns."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.responses import Response

from tests.cli.conftest import AT, campaign_view, delivery_view, problem, report_row

DKIM = "v=DKIM1; k=rsa; p=" + "MIIBIjANBgkq" * 40
DOMAIN = {
    "domain": "shop.example", "return_path_host": "bounce.shop.example", "selectors": ["mf1"], "created_at": AT,
    "records": [{"name": "mf1._domainkey.shop.example", "type": "TXT", "value": DKIM, "purpose": "DKIM key"}],
}  # fmt: skip
CREDENTIAL = {
    "credential": "crd_1", "username": "app", "stream": "transactional", "allowed_domains": [], "created_at": AT, "password": "pa55",
}  # fmt: skip
TOKEN = {"token": "tok_1", "name": "crm", "scopes": ["read", "send"], "created_at": AT, "secret": "s3cret"}
SUPPRESSION = {
    "address": "ann@example.org", "stream": None, "reason": "unknown-user", "evidence": "550 5.1.1", "origin": "bounce",
    "created_at": AT,
}  # fmt: skip


@pytest.fixture
def run(mailfleet: Any, server: Any) -> Any:
    def with_data(*words: str) -> Any:
        return mailfleet(*words, "--data", str(server.data))

    return with_data


def test_a_domain_is_added_and_its_records_can_be_copied_whole(run: Any, server: Any) -> None:
    server.answer("POST /v1/domains", DOMAIN)
    result = run("domain", "add", "shop.example", "--ed25519")
    assert result.exit_code == 0
    assert "mf1._domainkey.shop.example  TXT" in result.stdout
    assert f"    {DKIM}\n" in result.stdout
    assert server.bodies("POST /v1/domains") == [{"domain": "shop.example", "ed25519": True}]
    assert json.loads(run("domain", "add", "shop.example", "--json").stdout) == DOMAIN


def test_domains_are_listed_shown_and_removed(run: Any, server: Any) -> None:
    server.answer("GET /v1/domains", {"items": [DOMAIN]})
    server.answer("GET /v1/domains/shop.example", DOMAIN)
    server.answer("DELETE /v1/domains/shop.example", Response(status_code=204))
    assert "bounce.shop.example" in run("domain", "list").stdout
    assert json.loads(run("domain", "list", "--json").stdout) == DOMAIN
    assert DKIM in run("domain", "show", "shop.example").stdout
    assert run("domain", "remove", "shop.example").stdout == "shop.example was removed.\n"


def test_a_conflict_is_told_in_the_words_of_the_server(run: Any, server: Any) -> None:
    server.answer(
        "POST /v1/domains",
        problem(409, "Not in this state", detail="it is there already", where="domain", mend="show it"),
    )
    result = run("domain", "add", "shop.example")
    assert result.exit_code == 1
    assert result.stderr == "error: domain: it is there already\n  mend: show it\n"


def test_a_password_is_shown_once(run: Any, server: Any) -> None:
    server.answer("POST /v1/credentials", CREDENTIAL)
    server.answer("GET /v1/credentials", {"items": [CREDENTIAL | {"password": None}]})
    server.answer("DELETE /v1/credentials/crd_1", Response(status_code=204))
    result = run("credential", "add", "app", "--domain", "shop.example", "--stream", "bulk")
    assert "pa55" in result.stdout
    assert server.bodies("POST /v1/credentials") == [
        {"username": "app", "stream": "bulk", "allowed_domains": ["shop.example"]}
    ]
    listed = run("credential", "list").stdout
    assert "every domain" in listed
    assert "pa55" not in listed
    assert run("credential", "remove", "crd_1").exit_code == 0


def test_tokens(run: Any, server: Any) -> None:
    server.answer("POST /v1/tokens", TOKEN)
    server.answer("GET /v1/tokens", {"items": []})
    server.answer("DELETE /v1/tokens/tok_1", Response(status_code=204))
    assert "s3cret" in run("token", "add", "crm").stdout
    assert run("token", "add", "crm", "--scope", "manage").exit_code == 0
    assert [body["scopes"] for body in server.bodies("POST /v1/tokens")] == [["send", "read"], ["manage"]]
    assert "mailfleet token add" in run("token", "list").stdout
    assert json.loads(run("token", "remove", "tok_1", "--json").stdout) == {"removed": "tok_1"}


def test_suppressions(run: Any, server: Any) -> None:
    server.answer("POST /v1/suppressions", SUPPRESSION)
    server.answer("GET /v1/suppressions", {"items": [SUPPRESSION], "next": "a"}, {"items": [SUPPRESSION], "next": None})
    server.answer("DELETE /v1/suppressions", Response(status_code=204))
    assert run("suppression", "add", "ann@example.org").stdout == "ann@example.org gets no more mail.\n"
    assert len(run("suppression", "list", "--json").stdout.splitlines()) == 2
    assert run("suppression", "remove", "ann@example.org", "--stream", "bulk").exit_code == 0
    assert server.queries("DELETE /v1/suppressions") == [{"address": "ann@example.org", "stream": "bulk"}]


def test_campaigns_are_listed_and_steered(run: Any, server: Any) -> None:
    server.answer("GET /v1/campaigns", {"items": [campaign_view()], "next": None})
    for verb, state in (("pause", "paused"), ("resume", "sending"), ("cancel", "cancelled")):
        server.answer(f"POST /v1/campaigns/cmp_0000000000001/{verb}", campaign_view(state=state))
    assert run("campaign", "list").stdout.splitlines()[1].split()[:4] == [
        "cmp_0000000000001",
        "Spring",
        "letter",
        "finished",
    ]
    assert "is paused." in run("campaign", "pause", "cmp_0000000000001", "--reason", "typo").stdout
    assert server.bodies("POST /v1/campaigns/cmp_0000000000001/pause") == [{"reason": "typo"}]
    assert "is sending." in run("campaign", "resume", "cmp_0000000000001").stdout
    assert json.loads(run("campaign", "cancel", "cmp_0000000000001", "--json").stdout)["state"] == "cancelled"


def test_deliveries_of_a_campaign(run: Any, server: Any) -> None:
    path = "GET /v1/campaigns/cmp_0000000000001/deliveries"
    server.answer(path, {"items": [delivery_view()], "next": None})
    result = run("campaign", "deliveries", "cmp_0000000000001", "--state", "bounced")
    assert "unknown1@gmail.com" in result.stdout
    assert server.queries(path) == [{"state": "bounced", "limit": "100"}]


def test_a_campaign_is_shown_with_its_report(run: Any, server: Any) -> None:
    server.answer("GET /v1/campaigns/cmp_0000000000001", campaign_view())
    server.answer("GET /v1/campaigns/cmp_0000000000001/report", {"rows": [report_row()]})
    shown = run("campaign", "show", "cmp_0000000000001").stdout
    assert "Shop <news@shop.example>: Spring" in shown
    assert "unknown-user" in shown
    assert json.loads(run("campaign", "show", "cmp_0000000000001", "--json").stdout) == campaign_view()
