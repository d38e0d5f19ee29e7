"""What keeps a server from starting says so in words, changes nothing, and disturbs nobody who runs."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

from tests.behaviours.server import Server
from tests.ports import free_port


def ends_with_words(server: Server) -> str:
    """Start a server that cannot; what it said."""
    server.launch()
    return words_at_the_end(server)


def words_at_the_end(server: Server) -> str:
    """What a server said that could not start. A traceback is no words."""
    assert server.process is not None
    assert server.process.wait(120) not in (0, None)
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
    "sandbox.smtp_port": "{}",
}


def test_a_port_in_use_is_named_with_its_setting(serve: Callable[..., Server]) -> None:
    with contextlib.ExitStack() as taken:
        servers = {}
        for setting, form in PORTS.items():
            section, key = setting.split(".")
            port = free_port()
            server = servers[setting] = serve({section: {key: form.format(port)}}, folder=setting)
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                holder = taken.enter_context(socket.socket(type=kind))
                holder.bind((f"{server.block}.2" if key == "smtp_port" else "127.0.0.1", port))
                if kind == socket.SOCK_STREAM:
                    holder.listen()
            server.launch()
        for setting, server in servers.items():
            said = words_at_the_end(server)
            assert setting in said, said
            assert str(server.setting(*setting.split("."))).rpartition(":")[2] in said
    servers["submission.listen"].start()  # free again: the same folder serves


def test_what_the_settings_name_and_nobody_can_read_ends_the_start(serve: Callable[..., Server]) -> None:
    wrong = {
        "delivery.tls_ca_file": ("/nowhere.pem", "delivery.tls_ca_file: cannot be read"),
        "delivery.providers_file": ("/nowhere.toml", "/nowhere.toml: cannot be read"),
        "blocklists.file": ("/nowhere.toml", "/nowhere.toml: cannot be read"),
        "dns.validator": ("abc", "dns.validator: 'abc' is not an address of a name server"),
    }
    for setting, (value, says) in wrong.items():
        section, key = setting.split(".")
        server = serve({section: {key: value}}, live=True, folder=setting)
        server.launch()
        assert says in words_at_the_end(server), setting
