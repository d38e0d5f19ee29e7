"""A role that stands still without dying is ended and started again, and what it held is delivered."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from tests.behaviours.server import Server, wait_until


def test_a_stopped_process_is_replaced_and_its_deliveries_go_on(serve: Callable[..., Server]) -> None:
    server = serve({"delivery": {"lease_s": 10, "workers": 1}}).start()
    before = server.pids()["deliver-0"]
    os.kill(before, signal.SIGSTOP)
    delivery = server.message("ok.ann@gmail.com")
    wait_until(lambda: server.pids().get("deliver-0", before) != before)
    assert server.wait_delivery(delivery)["delivery"]["state"] == "delivered"
    assert "role hangs" in server.log("supervisor")
    assert {name: pid for name, pid in server.pids().items() if name != "deliver-0"}.keys() >= {
        "front",
        "jobs",
        "sandbox",
    }
