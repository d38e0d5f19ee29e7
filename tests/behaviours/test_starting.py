"""What keeps a server from starting says so in words, changes nothing, and disturbs nobody who runs."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from tests.behaviours.server import Server, free_port


def ends_with_words(server: Server, patience_s: float = 60) -> str:
    """Start a server that cannot; what it said. A traceback is no words."""
    process = server.launch()
    assert process.wait(patience_s) not in (0, None)
    said = (server.folder / "output").read_text()
    assert "Traceback" not in said
    return said


def test_two_servers_in_one_folder(serve: Callable[..., Server]) -> None:
    first = serve(folder="one").start()
    before, connection = first.pids(), first.connection
    second = serve(folder="one")
    said = ends_with_words(second)
    assert "another mailfleet serve is running here" in said
    assert str(first.data) in said
    assert "stop it first, or give another --data" in said
    assert first.pids() == before
    assert first.connection == connection
    assert first.wait_delivery(first.message("ok-still@gmail.com"))["delivery"]["state"] == "delivered"


def test_a_sandbox_folder_is_not_served_live(serve: Callable[..., Server]) -> None:
    with serve(folder="one"):
        pass
    live = serve(live=True, folder="one")
    said = ends_with_words(live)
    assert "this data folder is sandbox, not live" in said
    assert "add --sandbox, or give another --data" in said


def test_a_live_folder_is_not_served_as_a_sandbox(serve: Callable[..., Server]) -> None:
    with serve(live=True, folder="one"):
        pass
    said = ends_with_words(serve(folder="one"))
    assert "this data folder is live, not sandbox" in said


PORTS = {
    "server.http_listen": "127.0.0.1:{}",
    "submission.listen": "127.0.0.1:{}",
    "submission.tls_listen": "127.0.0.1:{}",
    "sandbox.dns_port": "{}",
}


@pytest.mark.parametrize("setting", PORTS)
def test_a_port_in_use_is_named_with_its_setting(serve: Callable[..., Server], setting: str) -> None:
    section, key = setting.split(".")
    with socket.socket() as taken, socket.socket(type=socket.SOCK_DGRAM) as taken_udp:
        port = free_port()
        taken.bind(("127.0.0.1", port))
        taken_udp.bind(("127.0.0.1", port))
        taken.listen()
        server = serve({section: {key: PORTS[setting].format(port)}})
        said = ends_with_words(server)
        assert setting in said, said
        assert str(port) in said
    server.start()  # free again: the same folder serves


def test_the_providers_port_in_use_is_named_with_its_setting(serve: Callable[..., Server]) -> None:
    server = serve()
    with socket.socket() as taken:
        taken.bind((f"{server.block}.2", server.setting("sandbox", "smtp_port")))
        taken.listen()
        said = ends_with_words(server)
        assert "sandbox.smtp_port" in said, said
        assert str(server.setting("sandbox", "smtp_port")) in said
