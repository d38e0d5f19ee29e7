"""``mailfleet serve``: starts the roles of this node as child processes, restarts what dies, stops everything in bounded time.

Children are forked from this process, which stays small and single-threaded, so that a start costs one import of the
program. Each child holds the reading end of a pipe; when the supervisor dies, however it dies, the pipe closes and the
child stops by itself.
"""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import resource
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from mailfleet.app import banner, logs
from mailfleet.app.compose import node_of
from mailfleet.app.folder import DataFolder
from mailfleet.app.roles import Role, bootstrap, roles_of
from mailfleet.base.errors import BusyError, ConfigError
from mailfleet.config.settings import Settings
from mailfleet.store.migrate import check_alone, upgrade

log = structlog.get_logger()

STOP_WITHIN_S = 30.0
FIRST_RESTART_S, MAX_RESTART_S = 0.2, 30.0
STEADY_AFTER_S = 60.0
EXIT_CONFIG = 78  # sysexits.h EX_CONFIG: starting again would not help
_SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}


@dataclass(slots=True)
class _Child:
    role: Role
    pid: int = 0
    started_s: float = 0
    restart_s: float = 0  # when to start it again; 0 while it runs
    crashes: int = 0
    pulse: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, 8))  # shared: when its loop last turned, monotonic

    def beat(self) -> None:
        """Note that it is alive; called in the child."""
        self.pulse[:] = struct.pack("d", time.monotonic())

    def silent_s(self, now_s: float) -> float:
        """For how long its loop has not turned."""
        return now_s - float(struct.unpack("d", self.pulse[:])[0])


def serve(settings: Settings) -> int:
    """Run until told to stop; returns the exit status. Raises ``ConfigError`` for what no start can mend."""
    folder = DataFolder(settings.data.resolve())
    folder.prepare(sandbox=settings.sandbox.enabled)
    logs.set_up(folder.logs, "supervisor", settings.server.log_level)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536)), hard))
    with folder.held() as lock:
        place = folder.place(settings.database.url)
        upgrade(place)
        check_alone(place, node_of(folder))
        status = _run_once(lambda: bootstrap(settings, folder))
        if status:
            return 1
        return _Supervisor(settings, folder, lock).run()


class _Supervisor:
    def __init__(self, settings: Settings, folder: DataFolder, lock: int) -> None:
        self._settings, self._folder, self._lock = settings, folder, lock
        self._children = [_Child(role) for role in roles_of(settings)]
        self._lifeline_read, self._lifeline_write = os.pipe()
        self._started = time.time()
        self._told = False
        self._failed = False
        self._looked_s = time.monotonic()

    def run(self) -> int:
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        gc.freeze()  # what is shared with the children stays shared
        gc.set_threshold(20_000, 20, 50)
        for child in self._children:
            self._start(child)
        stopping = False
        while not stopping:
            found = signal.sigtimedwait(_SIGNALS, 0.1)
            stopping = found is not None and found.si_signo != signal.SIGCHLD
            self._reap()
            stopping = stopping or self._failed
            now_s = time.monotonic()
            self._end_hung(now_s)
            for child in self._children:
                if child.restart_s and now_s >= child.restart_s and not stopping:
                    self._start(child)
            self._tell()
        return self._stop()

    def _start(self, child: _Child) -> None:
        _flush()
        child.beat()  # the time until its loop turns counts from now on
        try:
            pid = os.fork()
        except OSError as error:  # no memory, or no process to be had: the others go on meanwhile
            child.restart_s = time.monotonic() + MAX_RESTART_S
            log.error("role cannot be started", role=child.role.name, reason=error.strerror, in_s=MAX_RESTART_S)
            return
        if pid == 0:
            _child_main(child, self._settings, self._folder, self._lifeline_read, (self._lock, self._lifeline_write))
        child.pid, child.started_s, child.restart_s = pid, time.monotonic(), 0
        try:
            _overwrite(self._folder.run / f"{child.role.name}.pid", f"{pid}\n".encode())
        except OSError as error:  # nothing of ours reads it: no reason to end, least of all while the disk is full
            log.error("the process id cannot be written down", role=child.role.name, reason=error.strerror)
        log.info("role started", role=child.role.name, pid=pid)

    def _reap(self) -> None:
        for child in self._children:
            if not child.pid:
                continue
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if not pid:
                continue
            child.pid = 0
            code = os.waitstatus_to_exitcode(status)
            if code == EXIT_CONFIG:
                self._failed = True
                continue
            now_s = time.monotonic()
            child.crashes = 0 if now_s - child.started_s > STEADY_AFTER_S else child.crashes
            wait_s = min(MAX_RESTART_S, FIRST_RESTART_S * 2**child.crashes)
            child.crashes += 1
            child.restart_s = now_s + wait_s
            why = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
            log.error("role ended, starting it again", role=child.role.name, why=why, in_s=wait_s)

    def _end_hung(self, now_s: float) -> None:
        """Kill a role whose event loop has stood still for ``lease_s``: the next run recovers what it held.

        When this process itself was not running (a suspended machine), nobody is judged by that time.
        """
        woke_late, self._looked_s = now_s - self._looked_s > 5, now_s
        for child in self._children:
            if not child.pid:
                continue
            if woke_late:
                child.beat()
            elif child.silent_s(now_s) > self._settings.delivery.lease_s:
                log.error("role hangs, ending it", role=child.role.name, silent_s=round(child.silent_s(now_s)))
                child.beat()  # so that it is said once
                os.kill(child.pid, signal.SIGKILL)

    def _tell(self) -> None:
        """Say where to go, once, when the entrances are open."""
        if self._told:
            return
        with contextlib.suppress(FileNotFoundError):
            if self._folder.connection.stat().st_mtime >= self._started:
                self._told = True
                banner.show(self._settings, self._folder)

    def _stop(self) -> int:
        deadline_s = time.monotonic() + STOP_WITHIN_S
        for last in (False, True):
            _stop_children(
                [child for child in self._children if child.pid and child.role.stops_last is last], deadline_s
            )
        os.close(self._lifeline_write)
        log.info("stopped")
        return 1 if self._failed else 0


def _stop_children(children: list[_Child], deadline_s: float) -> None:
    """SIGTERM to all of them at once, SIGKILL to whoever is still there at the deadline."""
    for child in children:
        os.kill(child.pid, signal.SIGTERM)
    while any(child.pid for child in children) and time.monotonic() < deadline_s:
        signal.sigtimedwait({signal.SIGCHLD}, 0.1)
        for child in children:
            if child.pid and os.waitpid(child.pid, os.WNOHANG)[0]:
                child.pid = 0
    for child in children:
        if child.pid:
            log.error("role did not stop in time", role=child.role.name)
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            child.pid = 0


def _child_main(child: _Child, settings: Settings, folder: DataFolder, lifeline: int, close: tuple[int, ...]) -> None:
    """The life of a child; never returns."""
    role, status = child.role, 1
    try:
        for descriptor in close:
            os.close(descriptor)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor passes it on
        logs.set_up(folder.logs, role.name, settings.server.log_level)
        with contextlib.suppress(OSError):
            Path("/proc/self/comm").write_text(f"mf-{role.name}"[:15])
        role.run(settings, folder, lifeline, child.beat)
        status = 0
    except ConfigError as error:
        sys.stderr.write(f"mailfleet: {error}\n")
        status = EXIT_CONFIG
    except BaseException:
        structlog.get_logger().error("role crashed", role=role.name, exc_info=True)
    finally:
        _flush()
        os._exit(status)


def _overwrite(path: Path, data: bytes) -> None:
    """Replace what is in a small file where it lies: that takes no room on a full disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        os.ftruncate(descriptor, os.pwrite(descriptor, data, 0))
    finally:
        os.close(descriptor)


def _flush() -> None:
    """Write out what is buffered, so that no child writes it a second time; a terminal or file that takes nothing is no matter."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()


def _run_once(work: Callable[[], None]) -> int:
    """Run ``work`` in a child and wait, so that no thread of it is left in this process when the roles are forked."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except ConfigError as error:
            sys.stderr.write(f"mailfleet: {error}\n")
        except (BusyError, OSError) as error:
            sys.stderr.write(f"mailfleet: cannot start on this data folder now: {error}\n")
        except BaseException:
            traceback.print_exc()
        finally:
            _flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
