"""Runs ``mailfleet`` in a process of its own without the 1.9 s of computing that its imports cost each time.

One process imports the program and waits; every run is a fork of it with arguments, environment, folder and standard streams of
its own. What the interpreter or the loader reads at a start (``LD_PRELOAD``, a terminal) needs a real start: ``subprocess``.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

_ROOM = 1 << 20  # the longest request, octets
_IMPORTED = ("mailfleet.cli.app", "mailfleet.app.supervisor")


class Forked:
    """A run: what ``subprocess.Popen`` offers of ``pid``, ``returncode``, ``poll``, ``wait``, ``terminate`` and ``kill``."""

    def __init__(self, pid: int, arguments: Sequence[str], ended: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._arguments = list(arguments)
        self._ended = ended  # the exit code comes here

    def poll(self) -> int | None:
        """The exit code, negative for a signal; none while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code. Raises ``subprocess.TimeoutExpired``."""
        if self.returncode is None:
            if not select.select([self._ended], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self._arguments, timeout or 0)
            self.returncode = int(os.read(self._ended, 16) or -signal.SIGKILL)
            os.close(self._ended)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Tell it ``number``, if it runs."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


def start(
    arguments: Sequence[str], cwd: Path, env: Mapping[str, str], streams: tuple[int, int, int], *, session: bool = False
) -> Forked:
    """Run ``mailfleet`` with ``arguments``; ``streams`` are its standard input, output and error."""
    request = json.dumps({"arguments": list(arguments), "cwd": str(cwd), "env": dict(env), "session": session}).encode()
    assert len(request) < _ROOM, "more than a fork server takes: start a process"
    door = _door()
    ended, tell = os.pipe()
    try:
        socket.send_fds(door, [request], [*streams, tell])
    finally:
        os.close(tell)
    return Forked(int(door.recv(16)), arguments, ended)


def run(
    arguments: Sequence[str], cwd: Path, env: Mapping[str, str], text: str | None, timeout: float
) -> subprocess.CompletedProcess[str]:
    """As ``subprocess.run`` with ``capture_output``. Raises ``subprocess.TimeoutExpired``."""
    with contextlib.ExitStack() as files:
        given, out, err = (
            files.enter_context(os.fdopen(os.memfd_create(name), "r+b")) for name in ("in", "out", "err")
        )
        given.write((text or "").encode())
        given.seek(0)
        ran = start(arguments, cwd, env, (given.fileno(), out.fileno(), err.fileno()))
        try:
            code = ran.wait(timeout)
        except subprocess.TimeoutExpired:
            ran.kill()
            raise
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(list(arguments), code, out.read().decode(), err.read().decode())


@cache
def _door() -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    root = Path(__file__).parents[2]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MAILFLEET_")}
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(theirs.fileno())],
            cwd=root,
            env={**kept, "NO_COLOR": "1", "PYTHONPATH": str(root)},
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )

    def end() -> None:
        ours.close()  # it ends when nobody can ask any more
        process.wait()

    atexit.register(end)
    return ours


def _serve(door: socket.socket) -> None:
    """Fork for every request; returns in the child alone, as the program that was asked for."""
    running: dict[int, int] = {}
    bell, ring = socket.socketpair()
    bell.setblocking(False)
    ring.setblocking(False)
    signal.set_wakeup_fd(ring.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready = select.select([door, bell], [], [])[0]
        if bell in ready:
            bell.recv(4096)
            for pid in list(running):
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    os.write(running[pid], str(os.waitstatus_to_exitcode(status)).encode())
                    os.close(running.pop(pid))
        if door not in ready:
            continue
        request, fds, _, _ = socket.recv_fds(door, _ROOM, 4)
        if not request:
            sys.exit()
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for held in (door, bell, ring):
                held.close()
            for fd in running.values():
                os.close(fd)
            os.close(fds.pop())
            _become(json.loads(request), fds)
            return
        for fd in fds[:3]:
            os.close(fd)
        running[pid] = fds[3]
        door.send(str(pid).encode())


def _become(request: dict[str, object], streams: list[int]) -> None:
    """What a start of the interpreter would have found."""
    if request["session"]:
        os.setsid()
    os.chdir(str(request["cwd"]))
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
    for fd in streams:
        if fd > 2:
            os.close(fd)
    env, arguments = request["env"], request["arguments"]
    assert isinstance(env, dict)
    assert isinstance(arguments, list)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    sys.argv = ["mailfleet", *arguments]
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False, buffering=1)  # noqa: SIM115


def _main() -> None:
    import gc
    from importlib import import_module

    for name in _IMPORTED:
        import_module(name)
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
    from mailfleet.cli import main

    main()


if __name__ == "__main__":
    _main()
