"""``mailfleet send`` against a server that speaks the API's shapes."""

from __future__ import annotations

import email.parser
import email.policy
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import campaign_view, problem, report_row

ACCEPTED = {
    "campaign": campaign_view(state="sending", delivered=0, bounced=0, pending=7, queued=7),
    "rows": 10, "invalid": 1, "duplicates": 2, "suppressed": 0, "problems": [], "problem_count": 0, "warnings": [], "previews": [],
}  # fmt: skip
BROKEN = {
    "line": 17, "code": "bad-address", "what": "there is no @ in it", "mend": "write it as name@domain", "field": "email",
    "value": "ann",
}  # fmt: skip


@pytest.fixture
def send(mailfleet: Any, server: Any, newsletter: tuple[Path, Path]) -> Any:
    def run(*words: str) -> Any:
        html, recipients = newsletter
        return mailfleet(
            "send", "--from", "Shop <news@shop.example>", "--subject", "Für {{ name }}", "--html", str(html),
            "--recipients", str(recipients), "--data", str(server.data), *words,
        )  # fmt: skip

    return run


def parts(server: Any) -> dict[str, Any]:
    """The multipart body as a stranger's parser reads it."""
    _, _, body = next(one for one in server.asked if one[0] == "POST /v1/campaigns")
    head = b"Content-Type: " + server.headers[-1]["content-type"].encode() + b"\r\n\r\n"
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    return {str(part.get_param("name", header="content-disposition")): part for part in message.iter_parts()}


def test_the_upload_is_the_campaign_then_the_list_as_it_is_on_disk(send: Any, server: Any, newsletter: Any) -> None:
    newsletter[1].write_bytes("\ufeffemail;name\r\n\r\nann@example.org;Änn\r\n".encode())
    server.answer("POST /v1/campaigns", ACCEPTED)
    result = send(
        "--campaign",
        "Spring",
        "--header",
        "X-Offer: {{ name }}",
        "--header",
        "X-Offer:2",
        "--tag",
        "a",
        "--reply-to",
        "ask@shop.example",
    )
    assert result.exit_code == 0, result.output
    found = parts(server)
    assert list(found) == ["campaign", "recipients"]
    request = json.loads(
        found["campaign"].get_content()
        if found["campaign"].is_multipart()
        else found["campaign"].get_payload(decode=True)
    )
    assert request["from"] == "Shop <news@shop.example>"
    assert request["subject"] == "Für {{ name }}"
    assert request["name"] == "Spring"
    assert request["headers"] == {"X-Offer": ["{{ name }}", "2"]}
    assert request["tags"] == ["a"]
    assert request["reply_to"] == "ask@shop.example"
    assert request["stream"] == "bulk"
    assert request["skip_invalid"] is False
    assert found["recipients"].get_content_type() == "text/csv"
    assert found["recipients"].get_filename() == "list.csv"
    assert found["recipients"].get_payload(decode=True).rstrip(b"\r\n") == newsletter[1].read_bytes().rstrip(b"\r\n")
    assert newsletter[1].read_bytes() in server.asked[-1][2]
    assert server.headers[-1]["idempotency-key"]
    assert int(server.headers[-1]["content-length"]) == len(server.asked[-1][2])


@pytest.mark.parametrize(
    ("suffix", "kind"), [(".ndjson", "application/x-ndjson"), (".json", "application/json"), (".TXT", "text/csv")]
)
def test_the_kind_of_the_list_is_told_by_its_name(
    send: Any, server: Any, newsletter: Any, suffix: str, kind: str
) -> None:
    server.answer("POST /v1/campaigns", ACCEPTED)
    other = newsletter[1].with_suffix(suffix)
    other.write_text("x\n")
    assert send("--recipients", str(other)).exit_code == 0
    assert parts(server)["recipients"].get_content_type() == kind


def test_acceptance_is_told_with_the_way_to_watch(send: Any, server: Any) -> None:
    server.answer("POST /v1/campaigns", ACCEPTED)
    result = send("--skip-invalid")
    assert "Accepted as cmp_0000000000001: 7 recipients." in result.stdout
    assert f"mailfleet campaign watch cmp_0000000000001 --data {server.data}" in result.stdout


def test_a_refused_list_names_every_row_and_exits_1(send: Any, server: Any) -> None:
    rows = [BROKEN, BROKEN | {"line": 4711, "value": "bob@\x1b[31mexample"}]
    server.answer(
        "POST /v1/campaigns",
        problem(
            422,
            "The list was refused",
            detail="2 rows cannot be used",
            problems=rows,
            mend="correct them, or set skip_invalid to send to the others",
        ),
    )
    result = send()
    assert result.exit_code == 1
    assert [line.split()[0] for line in result.stderr.splitlines()[2:4]] == ["17", "4711"]
    assert "\x1b" not in result.output
    assert "bob@\\x1b[31mexample" in result.stderr
    assert "mend: correct them, or add --skip-invalid to send to the others" in result.stderr
    assert "2 rows cannot be used" in result.stderr


def test_a_refused_list_in_json_is_one_object(send: Any, server: Any) -> None:
    server.answer("POST /v1/campaigns", problem(422, "refused", problems=[BROKEN]))
    result = send("--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["problems"] == [BROKEN]


def test_a_dry_run_prints_problems_warnings_and_counts_and_sends_nothing(send: Any, server: Any) -> None:
    warning = {
        "line": 0,
        "code": "size",
        "what": "the message has 120 kB; Gmail clips at 102 kB",
        "mend": "",
        "field": "",
        "value": "",
    }
    answer = ACCEPTED | {"campaign": None, "problems": [BROKEN], "problem_count": 3, "warnings": [warning]}
    server.answer("POST /v1/campaigns", answer)
    result = send("--dry-run")
    assert result.exit_code == 0
    assert "there is no @ in it" in result.stdout
    assert "... and 2 more" in result.stdout
    assert "Gmail clips" in result.stdout
    assert "Nothing was sent. 7 of 10 rows would get a copy." in result.stdout
    assert "add --skip-invalid" in result.stdout
    request = json.loads(parts(server)["campaign"].get_payload(decode=True))
    assert request["dry_run"] is True


def test_a_preview_writes_whole_messages_and_sends_nothing(send: Any, server: Any, tmp_path: Path) -> None:
    message = "From: a@shop.example\r\nSubject: =?utf-8?q?F=C3=BCr?=\r\n\r\nHello Änn\r\n"
    server.answer("POST /v1/campaigns", ACCEPTED | {"campaign": None, "previews": [message, message]})
    result = send("--preview", "2", "--out", str(tmp_path / "out"))
    assert result.exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0001.eml", "0002.eml"]
    assert (tmp_path / "out" / "0001.eml").read_bytes() == message.encode()
    request = json.loads(parts(server)["campaign"].get_payload(decode=True))
    assert (request["previews"], request["dry_run"]) == (2, True)


def test_waiting_for_what_is_not_sent_is_wrong_use(send: Any) -> None:
    assert send("--preview", "1", "--wait").exit_code == 2
    assert send("--dry-run", "--wait").exit_code == 2


def test_wait_json_ends_with_the_totals(send: Any, server: Any) -> None:
    server.answer("POST /v1/campaigns", ACCEPTED)
    server.answer("GET /v1/campaigns/cmp_0000000000001", campaign_view(state="sending", pending=3), campaign_view())
    result = send("--wait", "--json", "--skip-invalid")
    assert result.exit_code == 0
    last = json.loads(result.stdout.splitlines()[-1])
    assert last == {
        "campaign": "cmp_0000000000001", "state": "finished", "recipients": 10, "invalid": 1, "duplicates": 2, "suppressed": 0,
        "delivered": 5, "bounced": 2, "expired": 0, "cancelled": 0, "pending": 0, "seconds": 4.5,
    }  # fmt: skip


def test_wait_ends_with_a_report_by_outcome_class_and_provider(send: Any, server: Any) -> None:
    server.answer("POST /v1/campaigns", ACCEPTED)
    server.answer("GET /v1/campaigns/cmp_0000000000001", campaign_view())
    rows = [
        report_row(),
        report_row(state="delivered", bounce_class=None, provider="yahoo"),
        report_row(provider=None, mail_host=False),
    ]
    server.answer("GET /v1/campaigns/cmp_0000000000001/report", {"rows": rows})
    result = send("--wait")
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["rows", "read", "10"] in lines
    assert ["duplicates", "2", "left", "out"] in lines
    assert ["delivered", "5", "71.4", "%", "of", "recipients"] in lines
    assert ["provider", "delivered", "bounced"] in lines
    assert ["yahoo", "1", "0"] in lines
    assert ["no", "mail", "host", "0", "1"] in lines
    assert any(line[:3] == ["unknown-user", "2", "unknown1@gmail.com"] for line in lines)
    assert "mailfleet trace unknown1@gmail.com" in result.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--html", "none.html"], "none.html"),
        (["--recipients", "none.csv"], "--recipients"),
        (["--attach", "none.pdf"], "--attach"),
        (["--text", "none.txt"], "--text"),
        (["--header", "no colon"], "--header"),
        (["--at", "tomorrow"], "--at"),
        (["--at", "2026-01-31T09:00:00"], "--at"),
    ],
)
def test_what_cannot_be_used_is_named_before_anything_is_sent(
    send: Any, server: Any, words: list[str], said: str
) -> None:
    result = send(*words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert server.asked == []


def test_a_template_that_is_not_utf8_is_refused_by_line(send: Any, server: Any, newsletter: Any) -> None:
    newsletter[0].write_bytes(b"<p>one</p>\n<p>F\xfcr</p>\n")
    result = send()
    assert result.exit_code == 1
    assert "letter.html, line 2" in result.stderr
    assert "0xfc" in result.stderr
    assert server.asked == []


def test_an_empty_list_is_refused_before_anything_is_sent(send: Any, server: Any, newsletter: Any) -> None:
    newsletter[1].write_bytes(b"")
    assert send().exit_code == 1
    assert server.asked == []


def test_images_named_by_relative_path_travel_along_once(
    send: Any, server: Any, newsletter: Any, tmp_path: Path
) -> None:
    (tmp_path / "my logo.png").write_bytes(b"\x89PNG1")
    newsletter[0].write_text(
        "<img alt='a' src='my%20logo.png'><IMG SRC=\"./my logo.png\">"
        '<img src="cid:x"><img src="https://shop.example/a.png"><img src="{{ image }}">'
    )
    (tmp_path / "terms.pdf").write_bytes(b"%PDF")
    server.answer("POST /v1/campaigns", ACCEPTED)
    assert send("--attach", str(tmp_path / "terms.pdf")).exit_code == 0
    request = json.loads(parts(server)["campaign"].get_payload(decode=True))
    inline, attached = request["attachments"]
    assert inline["content_type"] == "image/png"
    assert request["html"].count(f"cid:{inline['content_id']}") == 2
    assert 'src="cid:x"' in request["html"]
    assert "{{ image }}" in request["html"]
    assert (attached["filename"], attached["content_type"]) == ("terms.pdf", "application/pdf")
    assert "content_id" not in attached


def test_images_that_are_not_there_are_named_by_line(send: Any, server: Any, newsletter: Any) -> None:
    newsletter[0].write_text('<p>\n<img src="gone.png">\n<img src="also/gone.png">')
    result = send()
    assert result.exit_code == 1
    assert [line.split()[0] for line in result.stderr.splitlines()[2:4]] == ["2", "3"]
    assert server.asked == []


def test_a_large_list_goes_out_in_chunks(send: Any, server: Any, newsletter: Any) -> None:
    with newsletter[1].open("wb") as file:
        file.write(b"email\n")
        file.writelines(b"a%d@example.org\n" % number for number in range(200_000))
    server.answer("POST /v1/campaigns", ACCEPTED)
    assert send().exit_code == 0
    assert newsletter[1].read_bytes() in server.asked[-1][2]
