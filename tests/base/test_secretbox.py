"""Secrets at rest: what opens, what does not, and the file of the master key."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.base.errors import ConfigError
from mailfleet.base.secretbox import SecretBox, secret_hash

BOX = SecretBox(bytes(range(32)))


@given(st.binary(max_size=300), st.text(max_size=30))
def test_what_was_sealed_opens(secret: bytes, label: str) -> None:
    sealed = BOX.seal(secret, label)
    assert BOX.open(sealed, label) == secret
    assert len(secret) < 8 or secret not in sealed


def test_sealing_twice_gives_two_texts() -> None:
    assert BOX.seal(b"same", "x") != BOX.seal(b"same", "x")


def test_another_label_another_key_or_changed_bytes_do_not_open() -> None:
    sealed = BOX.seal(b"the private key", "dkim:a.example:s1")
    with pytest.raises(ConfigError, match=r"dkim:b\.example:s1"):
        BOX.open(sealed, "dkim:b.example:s1")
    with pytest.raises(ConfigError, match=r"master\.key"):
        SecretBox(bytes(32)).open(sealed, "dkim:a.example:s1")
    for index in range(len(sealed)):
        broken = sealed[:index] + bytes([sealed[index] ^ 1]) + sealed[index + 1 :]
        with pytest.raises(ConfigError):
            BOX.open(broken, "dkim:a.example:s1")


@given(st.binary(max_size=64))
def test_garbage_is_a_config_error(garbage: bytes) -> None:
    with pytest.raises(ConfigError) as caught:
        BOX.open(garbage, "x")
    assert caught.value.mend


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_key_of_another_size(size: int) -> None:
    with pytest.raises(ConfigError, match="32 bytes"):
        SecretBox(bytes(size))


def test_the_first_use_makes_a_key_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "master.key"
    sealed = SecretBox.open_file(path).seal(b"secret", "x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_size == 32
    assert SecretBox.open_file(path).open(sealed, "x") == b"secret"
    assert [entry.name for entry in path.parent.iterdir()] == ["master.key"]


def test_a_first_use_that_was_killed_half_way_does_not_stand_in_the_way(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    path.with_name(f"master.key.{os.getpid()}.new").write_bytes(b"half")
    SecretBox.open_file(path)
    assert path.stat().st_size == 32


def test_a_cut_key_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    path.write_bytes(b"too short")
    with pytest.raises(ConfigError, match="backup"):
        SecretBox.open_file(path)


RACE = """
import sys, pathlib
from mailfleet.base.secretbox import SecretBox
print(flush=True)
sys.stdin.readline()
print(SecretBox.open_file(pathlib.Path(sys.argv[1])).mac(b"who am I", "race").hex())
"""


def test_processes_that_race_agree_on_one_key(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for racer in racers:
        assert racer.stdout
        racer.stdout.readline()
    for racer in racers:
        assert racer.stdin
        racer.stdin.write("go\n")
        racer.stdin.flush()
    answers = {racer.communicate()[0].strip() for racer in racers}
    assert answers == {SecretBox.open_file(path).mac(b"who am I", "race").hex()}
    assert [entry.name for entry in tmp_path.iterdir()] == ["master.key"]


def test_a_tag_belongs_to_its_message_label_and_key() -> None:
    tag = BOX.mac(b"dlv_1", "return-path")
    assert len(tag) == 10
    assert (
        len(
            {
                tag,
                BOX.mac(b"dlv_2", "return-path"),
                BOX.mac(b"dlv_1", "click"),
                SecretBox(bytes(32)).mac(b"dlv_1", "return-path"),
            }
        )
        == 4
    )
    assert BOX.mac(b"dlv_1", "return-path", 5) == tag[:5]


def test_what_is_kept_of_a_generated_secret() -> None:
    assert secret_hash("mf_a") == secret_hash("mf_a") != secret_hash("mf_b")
    assert len(secret_hash("mf_a")) == 32
