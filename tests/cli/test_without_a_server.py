"""``explain``, ``sandbox`` and ``settings`` need no server."""

from __future__ import annotations

import gzip
import json
import tomllib
from pathlib import Path
from typing import Any

from mailfleet.sandbox.journal import MESSAGE, Decision, JournalWriter
from mailfleet.sandbox.published import publish
from mailfleet.sandbox.spool import SpoolWriter

MAIL = b"From: Shop <news@shop.example>\r\nSubject: =?utf-8?q?F=C3=BCr_dich?=\r\nMessage-ID: <1@shop.example>\r\n\r\nHello\r\n"


def test_replies_are_explained_line_by_line(mailfleet: Any) -> None:
    replies = "gmail\t550 5.1.1 The email account that you tried to reach does not exist.\n\n452 4.2.2 Mailbox full\n250 2.0.0 ok\n"
    result = mailfleet("explain", "reply", "--json", stdin=replies)
    assert result.exit_code == 0
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [one["verdict"] for one in found] == ["bounce", "defer", "deliver"]
    assert found[0]["class"] == "unknown-user"
    assert found[0]["fault"] == "recipient"
    assert found[0]["suppress"] is True
    assert found[0]["rule"]


def test_what_is_no_reply_keeps_its_place_and_exits_1(mailfleet: Any) -> None:
    result = mailfleet("explain", "reply", "--json", stdin=b"hello\n550 5.1.1 User unknown\n\xff\xfe\n")
    assert result.exit_code == 1
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert found[0]["where"] == "line 1"
    assert found[1]["class"] == "unknown-user"
    assert "error" in found[2]


def test_explanations_for_people(mailfleet: Any) -> None:
    result = mailfleet("explain", "reply", stdin="550 5.1.1 User unknown\x1b[2J\n")
    assert result.stdout.startswith("bounce  unknown-user")
    assert "suppress" in result.stdout
    assert "\x1b" not in result.stdout


def decide(data: Path, recipient: str, code: int, reason: str, **more: Any) -> None:
    writer = JournalWriter(data)
    writer.append(
        [
            Decision(
                at_ms=1_769_850_000_000,
                provider="gmail",
                client="127.0.0.1",
                sender="b@shop.example",
                recipient=recipient,
                message_id="<1@shop.example>",
                phase=MESSAGE,
                code=code,
                enhanced="",
                reason=reason,
                **more,
            )
        ]
    )
    writer.close()


def test_the_sandbox_tells_what_its_providers_did(mailfleet: Any, tmp_path: Path) -> None:
    decide(tmp_path, "ann@gmail.com", 250, "")
    decide(tmp_path, "unknown1@gmail.com", 550, "unknown-user")
    result = mailfleet("sandbox", "report", "--json", "--data", str(tmp_path))
    found = json.loads(result.stdout)
    assert found["providers"]["gmail"]["accepted"] == 1
    assert found["providers"]["gmail"]["refused"] == {"unknown-user": 1}
    shown = mailfleet("sandbox", "report", "--data", str(tmp_path)).stdout
    assert any(line.split()[:3] == ["gmail", "1", "1"] for line in shown.splitlines())
    assert any(line.split() == ["gmail", "unknown-user", "1"] for line in shown.splitlines())


def test_the_inbox_is_listed_and_saved_byte_for_byte(mailfleet: Any, tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path, 1_000_000)
    place = spool.append(MAIL)
    spool.close()
    decide(tmp_path, "ann@gmail.com", 250, "", segment=place.segment, offset=place.offset, length=place.length)
    data = ("--data", str(tmp_path))
    listed = json.loads(mailfleet("sandbox", "inbox", "--json", *data).stdout)
    assert listed["recipient"] == "ann@gmail.com"
    assert listed["subject"] == "Für dich"
    assert "Für dich" in mailfleet("sandbox", "inbox", *data).stdout
    assert (
        "No mail was accepted for bob@gmail.com."
        in mailfleet("sandbox", "inbox", "--address", "bob@gmail.com", *data).stdout
    )
    result = mailfleet("sandbox", "inbox", "--save", str(tmp_path / "out"), "--json", *data)
    assert json.loads(result.stdout)["saved"] == 1
    assert [path.read_bytes() for path in (tmp_path / "out").iterdir()] == [MAIL]


def test_dmarc_reports_are_written_and_listed(mailfleet: Any, tmp_path: Path) -> None:
    publish(tmp_path, "_dmarc.shop.example", "TXT", "v=DMARC1; p=none")
    for domain in ("shop.example", "nobody.example", ""):
        decide(tmp_path, "ann@gmail.com", 250, "", signature="ok", header_from=domain, dkim=f"pass {domain or 'x'} s1")
    decide(tmp_path, "unknown@gmail.com", 550, "unknown-user")
    arguments = ("sandbox", "dmarc-reports", str(tmp_path / "out"), "--data", str(tmp_path))
    found = json.loads(mailfleet(*arguments, "--json").stdout)
    (one,) = found["files"]
    assert Path(one["file"]).parent == tmp_path / "out"
    assert gzip.decompress(Path(one["file"]).read_bytes()).startswith(b"<?xml")
    assert (one["provider"], one["domain"], one["messages"], one["passed"]) == ("gmail", "shop.example", 1, 1)
    assert found["left_out"] == {"no_policy": {"nobody.example": 1}, "no_domain": 1, "not_seen": 1}
    shown = mailfleet(*arguments).stdout
    assert any(line.split()[:2] == ["gmail", "shop.example"] for line in shown.splitlines())
    assert "1 not in any report: no DMARC policy is found for nobody.example" in shown
    (tmp_path / "file").write_text("")
    wrong = mailfleet("sandbox", "dmarc-reports", str(tmp_path / "file"), "--data", str(tmp_path))
    assert wrong.exit_code == 2
    assert "cannot write there" in wrong.stderr


def test_without_a_sandbox_the_way_to_start_one_is_told(mailfleet: Any) -> None:
    result = mailfleet("sandbox", "report")
    assert result.exit_code == 1
    assert "mailfleet serve --sandbox --data data" in result.stderr


def test_the_example_settings_are_usable_as_they_are(mailfleet: Any, tmp_path: Path) -> None:
    (tmp_path / "mailfleet.toml").write_text(mailfleet("settings", "example").stdout)
    result = mailfleet("settings", "check", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["server"]["http_listen"] == "127.0.0.1:8025"


def test_a_setting_that_does_not_exist_is_named(mailfleet: Any, tmp_path: Path) -> None:
    (tmp_path / "mailfleet.toml").write_text("[delivery]\nremote_prot = 26\n")
    result = mailfleet("settings", "check")
    assert result.exit_code == 1
    assert "delivery.remote_prot" in result.stderr


def test_the_settings_of_the_example_are_valid_toml_when_all_are_uncommented(mailfleet: Any) -> None:
    lines = mailfleet("settings", "example").stdout.splitlines()
    opened = [
        line.removeprefix("# ") if " = " in line and line.split(" = ")[0].removeprefix("# ").isidentifier() else line
        for line in lines
    ]
    assert tomllib.loads("\n".join(opened))["retry"]["bulk"]["first_delay_s"] == 300


def test_serve_refuses_settings_that_cannot_work(mailfleet: Any, tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("[server\n")
    result = mailfleet("serve", "--config", "broken.toml")
    assert result.exit_code == 1
    assert "not valid TOML" in result.stderr
