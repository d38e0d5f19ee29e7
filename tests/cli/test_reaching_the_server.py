"""Where commands look for the server, and what they say when it is not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import PlainTextResponse

from mailfleet.cli.client import data_folder, find_connection

QUEUE = {"queued": 0, "deferred": 0, "leased": 0, "sites": []}


def test_without_a_data_folder_the_file_looked_for_and_the_way_to_start_are_named(mailfleet: Any) -> None:
    result = mailfleet("queue", "--data", "elsewhere")
    assert result.exit_code == 3
    assert "elsewhere/connection.json" in result.stderr
    assert "mailfleet serve --sandbox --data elsewhere" in result.stderr
    assert result.stdout == ""


def test_a_server_that_went_away_is_named_with_the_file_that_told_of_it(mailfleet: Any, tmp_path: Path) -> None:
    (tmp_path / "connection.json").write_text('{"http": "http://127.0.0.1:9", "token": "t"}')
    result = mailfleet("queue", "--data", str(tmp_path))
    assert result.exit_code == 3
    assert "http://127.0.0.1:9" in result.stderr
    assert "connection.json" in result.stderr


@pytest.mark.parametrize("written", ["", "{", "[]", '{"http": "http://127.0.0.1:1"}', "\xff"])
def test_a_broken_connection_file_is_unreachable_too(mailfleet: Any, tmp_path: Path, written: str) -> None:
    (tmp_path / "connection.json").write_bytes(written.encode("latin-1"))
    result = mailfleet("queue", "--data", str(tmp_path))
    assert result.exit_code == 3
    assert "does not say where the server is" in result.stderr


def test_with_json_an_error_is_one_object_on_standard_output(mailfleet: Any) -> None:
    result = mailfleet("queue", "--json")
    assert result.exit_code == 3
    told = json.loads(result.stdout)
    assert told["where"] == "data/connection.json"
    assert told["mend"]
    assert result.stderr == ""


def test_url_and_token_from_the_environment(mailfleet: Any, server: Any) -> None:
    server.answer("GET /v1/queue", QUEUE)
    env = {"MAILFLEET_URL": f"http://127.0.0.1:{server.port}/", "MAILFLEET_TOKEN": "secret-token"}
    result = mailfleet("queue", env=env)
    assert result.exit_code == 0
    assert result.stdout == "The queue is empty.\n"


def test_a_url_without_a_token_is_said(mailfleet: Any) -> None:
    result = mailfleet("queue", env={"MAILFLEET_URL": "http://127.0.0.1:1"})
    assert result.exit_code == 3
    assert "MAILFLEET_TOKEN" in result.stderr


def test_data_on_the_command_line_wins_over_the_environment(mailfleet: Any, server: Any) -> None:
    server.answer("GET /v1/queue", QUEUE)
    env = {"MAILFLEET_URL": "http://127.0.0.1:9", "MAILFLEET_TOKEN": "x", "MAILFLEET_DATA": "nowhere"}
    assert mailfleet("queue", "--data", str(server.data), env=env).exit_code == 0


def test_the_data_folder_of_the_settings_file_is_found(mailfleet: Any, tmp_path: Path) -> None:
    assert data_folder(None) == Path("data")
    (tmp_path / "mailfleet.toml").write_text('data = "/srv/mail"\n')
    assert data_folder(None) == Path("/srv/mail")
    assert data_folder(Path("given")) == Path("given")


def test_the_data_folder_of_the_environment_is_found(mailfleet: Any, server: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("MAILFLEET_DATA", str(server.data))
    assert find_connection(None).url == f"http://127.0.0.1:{server.port}"


def test_a_token_that_is_not_accepted_is_unreachable_and_never_shown(mailfleet: Any, server: Any) -> None:
    env = {"MAILFLEET_URL": f"http://127.0.0.1:{server.port}", "MAILFLEET_TOKEN": "wrong-token"}
    result = mailfleet("queue", env=env)
    assert result.exit_code == 3
    assert "does not accept the token" in result.stderr
    assert "wrong-token" not in result.output


def test_something_else_that_answers_there_is_told_apart(mailfleet: Any, server: Any) -> None:
    server.answer("GET /v1/queue", PlainTextResponse("<html>hello"))
    result = mailfleet("queue", "--data", str(server.data))
    assert result.exit_code == 3
    assert "does not speak the Mailfleet API" in result.stderr


def test_a_busy_server_is_tried_again_when_it_says(mailfleet: Any, server: Any) -> None:
    busy = PlainTextResponse("", 429, {"Retry-After": "0"})
    server.answer("GET /v1/queue", busy, QUEUE)
    result = mailfleet("queue", "--data", str(server.data))
    assert result.exit_code == 0
    assert "busy" in result.stderr


def test_a_wrong_option_exits_2(mailfleet: Any) -> None:
    assert mailfleet("queue", "--colour").exit_code == 2
    assert mailfleet("qeueu").exit_code == 2


def test_exit_codes_are_in_the_help(mailfleet: Any) -> None:
    result = mailfleet("--help")
    assert result.exit_code == 0
    assert "Exit codes:" in result.stdout
    assert "130  interrupted" in result.stdout
