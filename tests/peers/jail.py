"""A folder to chroot a mail server into: its unpacked package, the shared libraries it needs, users of its own.

Exim and OpenSMTPD look for users, queue and helpers under fixed names, so this is how a private instance of them is had.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterable
from pathlib import Path

PEERS = Path(__file__).resolve().parents[2] / ".cache" / "peers"
_LIBRARY = re.compile(r"(?:=> )?(/\S+) \(0x")
_DEVICES = {"null": (1, 3), "zero": (1, 5), "random": (1, 8), "urandom": (1, 9)}


class MissingPeerError(RuntimeError):
    """A mail server that the tests deliver to is not on this machine."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not on this machine: run scripts/install-mail-peers")


def build(root: Path, peer: str, programs: Iterable[str], users: dict[str, int]) -> None:
    """Fill the empty folder ``root`` for ``peer`` (a folder of ``.cache/peers``).

    ``programs`` are absolute paths: those that the package has are taken from it, others from this machine. ``users`` maps
    names to ids, each with a group of the same name and number.
    """
    package = PEERS / peer
    if not (package / "complete").exists():
        raise MissingPeerError(peer)
    for folder in ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "etc", "dev", "run", "var/log", "proc"):
        (root / folder).mkdir(parents=True)
    (root / "tmp").mkdir(mode=0o1777)
    (root / "tmp").chmod(0o1777)
    for link in ("bin", "sbin", "lib", "lib64"):
        (root / link).symlink_to(f"usr/{link}")
    (root / "var/run").symlink_to("../run")
    for folder in ("usr/bin", "usr/sbin", "usr/lib", "usr/libexec", "lib"):
        if (package / folder).is_dir():
            target = root / (folder if folder.startswith("usr/") else f"usr/{folder}")
            shutil.copytree(package / folder, target, symlinks=True, dirs_exist_ok=True)
    for program in programs:
        _add_program(root, package, program)
    _add_etc(root, users)
    for name, (major, minor) in _DEVICES.items():
        os.mknod(root / "dev" / name, 0o666 | stat.S_IFCHR, os.makedev(major, minor))
        (root / "dev" / name).chmod(0o666)


def start(root: Path, *command: str) -> subprocess.Popen[bytes]:
    """Run ``command`` inside, in a session of its own, its output in ``root/output``."""
    with (root / "output").open("ab") as output:
        return subprocess.Popen(
            ["chroot", str(root), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={"PATH": "/usr/sbin:/usr/bin"},
            start_new_session=True,
        )


def _add_program(root: Path, package: Path, program: str) -> None:
    inside = root / program.lstrip("/")
    if not inside.exists():
        shutil.copy2(Path(program).resolve(), inside)
    machine = f"usr/lib/{os.uname().machine}-linux-gnu"
    environment = {**os.environ, "LD_LIBRARY_PATH": f"{package / machine}:{package / machine.removeprefix('usr/')}"}
    listing = subprocess.run(["ldd", inside], env=environment, capture_output=True, text=True, check=True).stdout
    for path in map(Path, _LIBRARY.findall(listing)):
        target = root / machine / path.name
        if path.name.startswith("ld-"):
            target = root / "usr" / path.relative_to("/")
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path.resolve(), target)


def _add_etc(root: Path, users: dict[str, int]) -> None:
    accounts = {"root": 0, **users}
    etc = root / "etc"
    (etc / "passwd").write_text(
        "".join(f"{name}:x:{uid}:{uid}::/home/{name}:/bin/sh\n" for name, uid in accounts.items())
    )
    for name, uid in users.items():
        home = root / "home" / name
        home.mkdir(parents=True)
        os.chown(home, uid, uid)
    (etc / "group").write_text("".join(f"{name}:x:{uid}:\n" for name, uid in accounts.items()))
    (etc / "hosts").write_text("127.0.0.1 localhost peer.test\n::1 localhost\n")
    (etc / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files\n")
    (etc / "services").write_text("smtp 25/tcp\n")
