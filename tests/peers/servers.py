"""Private instances of Postfix, Exim and OpenSMTPD on a free loopback port, each in a folder of its own. Needs root.

Every one takes mail for any domain into one Maildir, except for local-parts that start with ``unknown``, which it refuses
with 550 at RCPT; takes STARTTLS with a certificate for ``localhost``; and takes messages up to ``MAX_MESSAGE_BYTES``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import trustme

from tests.peers import jail
from tests.ports import free_port

MAX_MESSAGE_BYTES = 5_000_000
_PATIENCE_S = 60.0
_BOX_ID = 64002


@dataclass(frozen=True)
class MailServer:
    """A running mail server. ``log()`` is what it wrote, for the eyes of whoever reads a failure."""

    name: str
    host: str
    port: int
    maildir: Path
    log: Callable[[], str]

    def messages(self) -> list[bytes]:
        """Every message in the Maildir, oldest first, as stored: LF line ends, the server's own header fields on top."""
        files = [path for path in (self.maildir / "new").glob("*") if path.is_file()]
        return [path.read_bytes() for path in sorted(files, key=lambda path: path.stat().st_mtime_ns)]

    def wait_for(self, count: int) -> list[bytes]:
        """``messages()`` once there are at least ``count``: accepted mail takes a moment to reach the Maildir."""
        give_up_at = time.monotonic() + _PATIENCE_S
        while len(found := self.messages()) < count:
            if time.monotonic() > give_up_at:
                raise AssertionError(f"{self.name} stored {len(found)} of {count} messages; its log:\n{self.log()}")
            time.sleep(0.05)
        return found

    def clear(self) -> None:
        """Forget all messages."""
        for path in (self.maildir / "new").glob("*"):
            path.unlink()


@contextlib.contextmanager
def run_postfix(leaves: Mapping[str, trustme.LeafCert] | None = None) -> Iterator[MailServer]:
    """Postfix from its Debian package, with its own configuration and queue.

    ``leaves``: other certificates that it shows to clients that ask for these names (SNI).
    """
    if not Path("/usr/sbin/postfix").exists():
        raise jail.MissingPeerError("Postfix")
    with _folder("postfix") as root:
        port = free_port()
        maildir = _maildir(root / "mail")
        etc, queue, data = root / "etc", root / "queue", root / "data"
        for folder in (etc, queue, data):
            folder.mkdir()
        shutil.chown(data, "postfix")
        chain, key = _certificate(root)
        (etc / "main.cf").write_text(
            _POSTFIX_MAIN.format(
                root=root, queue=queue, data=data, chain=chain, key=key, uid=_BOX_ID, size=MAX_MESSAGE_BYTES
            )
        )
        (etc / "master.cf").write_text(_POSTFIX_MASTER.format(port=port))
        if leaves:
            _by_name(etc, leaves)
        subprocess.run(["postfix", "-c", str(etc), "check"], check=True, capture_output=True, timeout=60)
        with (root / "output").open("wb") as output:
            process = subprocess.Popen(
                ["/usr/lib/postfix/sbin/master", "-c", str(etc), "-d"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={**os.environ, "MAIL_CONFIG": str(etc)},
            )
        with _running(
            process, MailServer("Postfix", "127.0.0.1", port, maildir, _logs(root / "log", root / "output"))
        ) as up:
            yield up


def _by_name(etc: Path, leaves: Mapping[str, trustme.LeafCert]) -> None:
    lines = []
    for name, leaf in leaves.items():
        file = etc / f"{name}.pem"
        file.write_bytes(leaf.private_key_and_cert_chain_pem.bytes())
        lines.append(f"{name} {file}\n")
    (etc / "names").write_text("".join(lines))
    with (etc / "main.cf").open("a") as main:
        main.write(f"tls_server_sni_maps = texthash:{etc}/names\n")


@contextlib.contextmanager
def run_exim() -> Iterator[MailServer]:
    """Exim, in a jail."""
    with _folder("exim") as root:
        port = free_port()
        jail.build(root, "exim", ["/usr/sbin/exim4"], {"Debian-exim": 64001, "box": _BOX_ID})
        maildir = _maildir(root / "mail")
        for folder in ("spool", "log"):
            (root / folder).mkdir()
            os.chown(root / folder, 64001, 64001)
        chain, key = _certificate(root)
        os.chown(key, 64001, 64001)
        (root / "etc/exim4").mkdir()
        # Where Debian's Exim looks by itself: named by -C it would run without its privileges
        (root / "etc/exim4/exim4.conf").write_text(
            _EXIM.format(port=port, chain=f"/{chain.name}", key=f"/{key.name}", size=MAX_MESSAGE_BYTES)
        )
        process = jail.start(root, "/usr/sbin/exim4", "-bdf", "-q1m")
        server = MailServer(
            "Exim", "127.0.0.1", port, maildir, _logs(root / "log/main", root / "log/panic", root / "output")
        )
        with _running(process, server) as up:
            yield up


@contextlib.contextmanager
def run_opensmtpd() -> Iterator[MailServer]:
    """OpenSMTPD, in a jail.

    Debian 12's OpenSMTPD offers STARTTLS and then fails every handshake (its key process does not work with OpenSSL 3), so
    this is also a mail host to which opportunistic TLS must fall back to clear text.
    """
    with _folder("opensmtpd") as root:
        port = free_port()
        programs = ["/usr/sbin/smtpd", "/usr/libexec/opensmtpd/mail.maildir", "/bin/sh"]
        jail.build(root, "opensmtpd", programs, {"opensmtpd": 64001, "opensmtpq": 64003, "box": _BOX_ID})
        maildir = _maildir(root / "mail")
        (root / "var/lib/opensmtpd/empty").mkdir(parents=True)
        (root / "var/spool/smtpd").mkdir(parents=True)
        (root / "var/spool/smtpd").chmod(0o711)
        chain, key = _certificate(root)
        (root / "etc/smtpd.conf").write_text(
            _OPENSMTPD.format(port=port, chain=f"/{chain.name}", key=f"/{key.name}", size=MAX_MESSAGE_BYTES)
        )
        (root / "etc/smtpd.conf").chmod(0o644)
        process = jail.start(root, "/usr/sbin/smtpd", "-d", "-f", "/etc/smtpd.conf")
        with _running(process, MailServer("OpenSMTPD", "127.0.0.1", port, maildir, _logs(root / "output"))) as up:
            yield up


@contextlib.contextmanager
def _folder(name: str) -> Iterator[Path]:
    # Not pytest's tmp_path: the servers' own users must be able to pass through.
    root = Path(tempfile.mkdtemp(prefix=f"mailfleet-{name}-"))
    root.chmod(0o755)
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextlib.contextmanager
def _running(process: subprocess.Popen[bytes], server: MailServer) -> Iterator[MailServer]:
    """Wait for the greeting; at the end stop the session of ``process`` and nothing else."""
    try:
        give_up_at = time.monotonic() + _PATIENCE_S
        while not _greets(server.port):
            if process.poll() is not None or time.monotonic() > give_up_at:
                raise AssertionError(f"{server.name} did not come up; its log:\n{server.log()}")
            time.sleep(0.05)
        yield server
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)


def _greets(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as probe:
        greeting = probe.recv(4)
        probe.sendall(b"QUIT\r\n")
        return greeting.startswith(b"220")
    return False


def _maildir(path: Path) -> Path:
    for folder in (path, *(path / name for name in ("new", "cur", "tmp"))):
        folder.mkdir(parents=True)
        os.chown(folder, _BOX_ID, _BOX_ID)
    return path


def _certificate(root: Path) -> tuple[Path, Path]:
    issued = trustme.CA().issue_cert("localhost", "127.0.0.1")
    chain, key = root / "chain.pem", root / "key.pem"
    chain.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    key.chmod(0o600)
    return chain, key


def _logs(*paths: Path) -> Callable[[], str]:
    return lambda: "\n".join(path.read_text(errors="replace") for path in paths if path.exists())


_POSTFIX_MAIN = """\
compatibility_level = 3.6
queue_directory = {queue}
data_directory = {data}
maillog_file_prefixes = {root}
maillog_file = {root}/log
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = peer.test
mydestination =
mynetworks =
alias_maps =
alias_database =
local_recipient_maps =
virtual_mailbox_domains = regexp:{{{{/./ any}}}}
virtual_mailbox_maps = static:mail/
virtual_mailbox_base = {root}
virtual_mailbox_limit = 0
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{uid}
message_size_limit = {size}
smtpd_relay_restrictions =
smtpd_recipient_restrictions =
    check_recipient_access regexp:{{{{/^unknown/ 550 5.1.1 User unknown}}}}, reject_unauth_destination
smtpd_tls_security_level = may
smtpd_tls_chain_files = {key}, {chain}
smtputf8_enable = yes
strict_smtputf8 = no
"""

_POSTFIX_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
postlog unix-dgram n - n - 1 postlogd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
"""

_EXIM = """\
primary_hostname = peer.test
spool_directory = /spool
log_file_path = /log/%s
pid_file_path = /run/exim.pid
keep_environment =
daemon_smtp_ports = {port}
local_interfaces = 127.0.0.1
message_size_limit = {size}
dsn_advertise_hosts = *
chunking_advertise_hosts = *
tls_advertise_hosts = *
tls_certificate = {chain}
tls_privatekey = {key}
rfc1413_query_timeout = 0s
smtp_accept_max = 200
smtp_accept_queue_per_connection = 0
acl_smtp_rcpt = check_rcpt
acl_smtp_data = accept

begin acl
check_rcpt:
  deny local_parts = ^unknown
       message = 5.1.1 User unknown
  accept

begin routers
any:
  driver = accept
  transport = keep

begin transports
keep:
  driver = appendfile
  directory = /mail
  maildir_format
  user = box
  group = box
  create_directory = false
  return_path_add
  envelope_to_add

begin retry
* * F,1h,1m
"""

_OPENSMTPD = """\
pki peer cert "{chain}"
pki peer key "{key}"
smtp max-message-size {size}
listen on 127.0.0.1 port {port} hostname peer.test tls pki peer
action "keep" maildir "/mail" virtual {{ "@" = "box" }}
match from any for any rcpt-to regex "^unknown" reject
match from any for any action "keep"
"""
