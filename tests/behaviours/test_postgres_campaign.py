"""A whole server on PostgreSQL: a campaign, a message by HTTP and one by SMTP, all accounted for; and what a start refuses."""

from __future__ import annotations

import random
import smtplib
import ssl
from collections.abc import Callable
from email.message import EmailMessage

import pytest

from tests.behaviours.server import Server, wait_until
from tests.behaviours.test_killed_at_random_moments import check_accounts, check_nothing_is_left_open
from tests.store.cluster import Cluster

RECIPIENTS = 1500
MANNERS = ("ok",) * 30 + ("grey", "unknown", "later", "full-clears", "ratelimit")
DOMAINS = ("gmail.com", "outlook.com", "yahoo.com", "workspace.example", "one.example", "two.example")

Serve = Callable[..., Server]


def on_server(cluster: Cluster, name: str) -> dict[str, dict[str, object]]:
    return {"database": {"url": cluster.create(name)}, "sandbox": {"time_scale": 2880}}


@pytest.mark.timeout(180)
def test_everything_that_is_sent_arrives_and_is_told(serve: Serve, cluster: Cluster) -> None:
    server = serve(on_server(cluster, "campaign")).start()
    rng = random.Random(3)
    people = [f"{rng.choice(MANNERS)}-{number}@{rng.choice(DOMAINS)}" for number in range(RECIPIENTS)]
    campaign = server.campaign([{"email": one, "name": one[:4]} for one in people])["campaign"]
    view = server.wait_campaign(campaign, 120)
    check_accounts(server, campaign, view, people)
    sent = server.post(
        "/v1/messages", {"from": "a@shop.example", "to": ["ok.api@gmail.com"], "subject": "hi", "text": "x"}
    )
    delivery = sent["deliveries"][0]["delivery"]
    host, _, port = server.connection["smtp"].rpartition(":")
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@shop.example", "ok.smtp@gmail.com", "by SMTP"
    message.set_content("hello")
    with smtplib.SMTP(host, int(port)) as client:
        client.starttls(context=ssl._create_unverified_context())
        client.login(server.connection["smtp_user"], server.connection["smtp_password"])
        client.send_message(message)
    for what in (delivery, "ok.smtp@gmail.com"):
        wait_until(lambda what=what: "delivered" in server.cli("trace", what).out, 60, server.output)  # type: ignore[misc]
    assert "mailfleet.db" not in {path.name for path in server.data.iterdir()}
    server.restart()
    assert server.get(f"/v1/campaigns/{campaign}")["delivered"] == view["delivered"]
    check_nothing_is_left_open(server)
    assert cluster.password not in server.output()
    assert all(cluster.password not in path.read_text(errors="replace") for path in (server.data / "log").glob("*"))


def refused(server: Server) -> str:
    process = server.launch()
    assert process.wait(60) != 0
    server.process = None
    return server.output()


def test_a_start_that_cannot_work_says_what_to_do(serve: Serve, cluster: Cluster) -> None:
    url = cluster.url("nothing_here")
    server = serve({"database": {"url": url}})
    told = refused(server)
    assert "nothing_here" in told
    assert "does not exist" in told
    server.change("database", "url", url.replace(cluster.password, "wrong-secret"))
    told = refused(server)
    assert "password authentication failed" in told
    server.change("database", "url", url.replace(str(cluster.port), "9"))
    told = refused(server)
    assert "cannot be reached" in told
    server.change("database", "url", "mysql://ann:wrong-secret@db/x")
    told = refused(server)
    assert "postgresql://USER:PASSWORD@HOST" in told
    assert cluster.password not in told
    assert "wrong-secret" not in told


def test_two_servers_on_one_database_are_one_too_many(serve: Serve, cluster: Cluster) -> None:
    settings = on_server(cluster, "twice")
    serve(settings).start()
    assert "another mailfleet serve uses this database" in refused(serve(settings))


def test_the_queue_of_a_sandbox_is_never_served_live(serve: Serve, cluster: Cluster) -> None:
    """Whatever folder leads to it."""
    settings = on_server(cluster, "tried")
    assert serve(settings).start().stop() == 0
    told = refused(serve({"database": settings["database"]}, live=True))
    assert "this database is sandbox, not live" in told
