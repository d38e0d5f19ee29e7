"""Settings: which source wins, and a clear error for everything that cannot work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mailfleet.base.errors import ConfigError
from mailfleet.config.listen import split_host_port
from mailfleet.config.settings import load, worker_count


@pytest.fixture(autouse=True)
def nothing_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine, no file in the working folder."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("MAILFLEET_")]:
        monkeypatch.delenv(name)


def written(tmp_path: Path, text: str | bytes, name: str = "some.toml") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# Who wins


def test_defaults_file_environment_flags(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert load().server.hostname == ""
    path = written(tmp_path, 'data = "from-file"\n[server]\nhostname = "file.example"\nlog_level = "debug"\n')
    assert load(path).server.hostname == "file.example"
    assert load(path).data == Path("from-file")
    monkeypatch.setenv("MAILFLEET_SERVER__HOSTNAME", "env.example")
    monkeypatch.setenv("MAILFLEET_DATA", "from-env")
    assert load(path).server.hostname == "env.example"
    assert load(path).server.log_level == "debug", "the rest of the section stays the file's"
    assert load(path).data == Path("from-env")
    assert load(path, data=tmp_path / "flag").data == tmp_path / "flag"


def test_the_sandbox_flag_wins_over_everything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = written(tmp_path, "[sandbox]\nenabled = false\nseed = 9\n")
    assert not load(path).sandbox.enabled
    assert load(path, sandbox=True).sandbox.enabled
    assert load(path, sandbox=True).sandbox.seed == 9
    monkeypatch.setenv("MAILFLEET_SANDBOX__ENABLED", "false")
    monkeypatch.setenv("MAILFLEET_SANDBOX__SEED", "11")
    asked_for = load(path, sandbox=True)
    assert asked_for.sandbox.enabled, "who asks for the sandbox must never reach a real mailbox"
    assert asked_for.sandbox.seed == 11


def test_the_files_that_are_taken_without_asking(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    written(data, "[delivery]\nremote_port = 1\n", "mailfleet.toml")
    assert load().delivery.remote_port == 1
    assert load(data=tmp_path / "elsewhere").delivery.remote_port == 25
    written(tmp_path, "[delivery]\nremote_port = 2\n", "mailfleet.toml")
    assert load().delivery.remote_port == 2


def test_time_runs_faster_only_in_the_sandbox(tmp_path: Path) -> None:
    assert load().time_scale == 1
    assert load(sandbox=True).time_scale == 1440
    assert load(written(tmp_path, "[delivery]\ntime_scale = 60\n")).time_scale == 60


def test_settings_do_not_change_under_way() -> None:
    with pytest.raises(Exception, match="frozen"):
        load().server.hostname = "other"  # type: ignore[misc]  # that it is refused is the test


# What cannot work


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("[server]\nhostnam = 'x'\n", "server.hostnam"),
        ("[servr]\nhostname = 'x'\n", "servr"),
        ("colour = 'red'\n", "colour"),
        (
            "[retry.bulk]\nfirst_delay_s = 1\nmax_delay_s = 1\nexpire_after_s = 1\ndelay_dsn_after_s = 1\nextra = 1\n",
            "retry.bulk.extra",
        ),
    ],
)
def test_an_unknown_key_is_named(tmp_path: Path, text: str, name: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.where == f"{path}: {name}"
    assert "spelling" in caught.value.mend


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("[server]\nhttp_listen = '8025'\n", "server.http_listen", "host:port"),
        ("[server]\nhttp_listen = '127.0.0.1:99999'\n", "server.http_listen", "host:port"),
        ("[server]\nlog_level = 'loud'\n", "server.log_level", "debug"),
        ("[delivery]\nremote_port = 0\n", "delivery.remote_port", "greater than or equal to 1"),
        ("[delivery]\nworkers = 'many'\n", "delivery.workers", "integer"),
        ("[delivery]\nsource_ipv4 = 'eth0'\n", "delivery.source_ipv4", "eth0"),
        ("[delivery]\ntime_scale = 0.5\n", "delivery.time_scale", "greater than or equal to 1"),
        ("[retry.bulk]\nfirst_delay_s = 0\n", "retry.bulk.first_delay_s", "greater than 0"),
        ("[dns]\nnameservers = '127.0.0.1'\n", "dns.nameservers", "list"),
        ("sandbox = 3\n", "sandbox", "Sandbox"),
    ],
)
def test_a_bad_value_is_named_with_what_was_given(tmp_path: Path, text: str, name: str, said: str) -> None:
    path = written(tmp_path, text)
    for sandbox in (False, True):
        with pytest.raises(ConfigError) as caught:
            load(path, sandbox=sandbox)
        assert caught.value.where == f"{path}: {name}"
        assert said in str(caught.value)
        assert caught.value.mend


@pytest.mark.parametrize(
    "text",
    [
        "[server\n",
        "hostname = \n",
        "a = 1\na = 2\n",
        '[server]\nhostname = "m\u00fcnchen.example"\n'.encode("latin-1"),
        b"\xff\xfe[\x00s\x00",
        b"\x00",
    ],
)
def test_what_is_not_toml(tmp_path: Path, text: str | bytes) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError, match="not valid TOML") as caught:
        load(path)
    assert caught.value.where == str(path)
    assert "example.toml" in caught.value.mend


def test_a_file_that_is_not_there_or_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "missing.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "where"),
    [
        ("MAILFLEET_SERVER__LOG_LEVEL", "loud", "MAILFLEET_SERVER__LOG_LEVEL"),
        ("MAILFLEET_SERVER__COLOUR", "red", "MAILFLEET_SERVER__COLOUR"),
        ("MAILFLEET_SERVR__HOSTNAME", "x", "MAILFLEET_SERVR__HOSTNAME"),
        ("MAILFLEET_DNS__NAMESERVERS", "127.0.0.1", "environment"),
        ("MAILFLEET_DNS__NAMESERVERS", '{"a": 1}', "MAILFLEET_DNS__NAMESERVERS"),
        ("MAILFLEET_SANDBOX", "yes", "environment"),
        ("MAILFLEET_SANDBOX", "3", "MAILFLEET_SANDBOX"),
    ],
)
def test_the_environment_is_held_to_the_same(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, where: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        load()
    assert where in caught.value.where
    assert caught.value.mend


def test_the_environment_is_blamed_beside_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MAILFLEET_DELIVERY__REMOTE_PORT", "none")
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, "[delivery]\nremote_port = 25\n"))
    assert caught.value.where == "MAILFLEET_DELIVERY__REMOTE_PORT"


def test_what_the_client_reads_from_the_environment_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILFLEET_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("MAILFLEET_TOKEN", "mf_x")
    monkeypatch.setenv("MAILFLEET_SERVICE_HOST", "10.0.0.1")
    load()


def test_lists_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILFLEET_DNS__NAMESERVERS", '["127.0.0.1:5354"]')
    assert load().dns.nameservers == ["127.0.0.1:5354"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [("127.0.0.1:25", ("127.0.0.1", 25)), ("[::1]:8025", ("::1", 8025)), ("localhost:0", ("localhost", 0))],
)
def test_where_to_listen(text: str, parts: tuple[str, int]) -> None:
    assert split_host_port(text) == parts


@pytest.mark.parametrize(
    "text", ["", "localhost", ":25", "localhost:", "localhost:-1", "localhost:65536", "localhost:²"]
)
def test_where_nobody_can_listen(text: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        split_host_port(text)


def test_one_delivery_process_per_core_unless_told(tmp_path: Path) -> None:
    assert worker_count(load()) >= 1
    assert worker_count(load(written(tmp_path, "[delivery]\nworkers = 3\n"))) == 3
