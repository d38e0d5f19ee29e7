"""The one settings schema. The example file, the reference page, validation and (later) the form all come from it.

Order, weakest first: the defaults here, ``mailfleet.toml``, environment variables ``MAILFLEET_SECTION__KEY``, command-line
flags. Unknown keys are refused, so a setting that validates is a setting that does something.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, field_serializer
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from mailfleet.base.errors import ConfigError
from mailfleet.base.redact import without_passwords
from mailfleet.config.digest import DigestSettings
from mailfleet.config.https import Acme, Https
from mailfleet.config.listen import Listen
from mailfleet.config.retry import Retry
from mailfleet.config.section import Section
from mailfleet.config.tls_reports import TlsReports


def _ip_or_empty(value: str) -> str:
    if value:
        ipaddress.ip_address(value)
    return value


IpAddress = Annotated[str, AfterValidator(_ip_or_empty)]


def _database_url(value: str) -> str:
    if value and not value.startswith(("postgresql://", "postgres://")):
        raise ValueError("write it as postgresql://USER:PASSWORD@HOST:5432/DATABASE, or leave it empty")
    return value


class DatabaseSettings(Section):
    """Where everything that is queued, sent and known is kept."""

    url: Annotated[str, AfterValidator(_database_url)] = Field(
        "",
        repr=False,
        description="A PostgreSQL server, as postgresql://USER:PASSWORD@HOST:5432/DATABASE; letters like @ and / in the password "
        "are percent-encoded. Empty keeps everything in the data folder. Better given as MAILFLEET_DATABASE__URL, "
        "so that the password is in no file.",
    )

    @field_serializer("url")
    def _without_password(self, value: str) -> str:
        return without_passwords(value)


class Server(Section):
    """The node as a whole."""

    hostname: str = Field(
        "", description="This machine's public host name; empty takes the system's. Used in EHLO, Received and DSNs."
    )
    http_listen: Listen = Field(
        "127.0.0.1:8025", description="Where the API and the control room answer. Port 0 takes a free one."
    )
    http_max_connections: int = Field(
        1000,
        ge=1,
        description="Most open HTTP connections; one more takes the place of the one that has been silent longest.",
    )
    http_idle_timeout_s: float = Field(
        60, gt=0, description="A client that sends no request, or stops within one, for this long is disconnected."
    )
    log_level: str = Field(
        "info", pattern="^(debug|info|warning|error)$", description="Least severe level that is logged."
    )
    min_free_disk_mb: int = Field(200, ge=0, description="Below this much free disk new mail is answered 451 or 429.")
    http_max_buffered_mb: int = Field(
        256,
        ge=1,
        description="Bytes of HTTP bodies held in memory over all requests; above it 429. Lists stream and do not count.",
    )
    metrics_open: bool = Field(
        False, description="Answer /metrics without a token. Off, it takes a token with the scope read."
    )


class Submission(Section):
    """SMTP in, from your own applications (RFC 6409)."""

    listen: Listen = Field(
        "127.0.0.1:2587", description="Submission with STARTTLS. Port 0 takes a free one, empty listens nowhere."
    )
    tls_listen: Listen = Field(
        "", description="Submission with implicit TLS (RFC 8314), port 465 in production; empty listens nowhere."
    )
    tls_cert: str = Field(
        "", description="PEM file with the certificate chain; empty makes a self-signed one in the data folder."
    )
    tls_key: str = Field("", description="PEM file with the private key of tls_cert.")
    auth_without_tls_on_loopback: bool = Field(
        False, description="Let clients on this machine log in without TLS. On in the sandbox."
    )
    max_message_bytes: int = Field(52_428_800, ge=1024, description="Largest message taken, announced by SIZE. Bytes.")
    max_recipients: int = Field(
        1000, ge=1, description="Most recipients in one transaction; RFC 5321 asks for at least 100."
    )
    max_connections: int = Field(
        1000,
        ge=1,
        description="Most open connections; one more takes the place of the oldest that has not logged in, or is answered 421.",
    )
    max_connections_per_ip: int = Field(100, ge=1, description="Most open connections from one address.")
    max_buffered_mb: int = Field(
        256, ge=1, description="Message bytes held in memory over all connections; above it DATA is answered 451."
    )
    idle_timeout_s: float = Field(
        300, gt=0, description="A client that sends no command for this long is answered 421 (RFC 5321 4.5.3.2.7)."
    )
    message_timeout_s: float = Field(
        600, gt=0, description="Longest time one message may take to arrive, however steadily it drips."
    )
    max_errors: int = Field(20, ge=1, description="After this many refused commands the connection is closed with 421.")


class Dns(Section):
    """How names are resolved."""

    nameservers: list[str] = Field(
        [], description='Resolvers as "address" or "address:port"; empty takes the system\'s.'
    )
    timeout_s: float = Field(
        5, gt=0, description="Wait for one resolver's answer. Each question is asked up to three times."
    )
    authoritative_port: int = Field(
        53, ge=1, le=65535, description="Port of authoritative name servers. Other than 53 only in test networks."
    )
    validator: str = Field(
        "", description='A resolver that validates DNSSEC, as "address" or "address:port"; empty asks none.'
    )
    ttl_s: int = Field(300, ge=1, le=86400, description="TTL of the records that Mailfleet publishes.")
    tlsa: bool = Field(
        True,
        description="Name the server's key in its plan (TLSA) where the zone is signed; off takes the records out when published.",
    )
    hold_bulk: bool = Field(
        True, description="Take no campaign from a domain whose checks found that providers will refuse its bulk mail."
    )


class Delivery(Section):
    """SMTP out."""

    workers: int = Field(0, ge=0, le=64, description="Delivery processes; 0 means one per core.")
    remote_port: int = Field(
        25, ge=1, le=65535, description="Port of every mail host. Other than 25 only in test networks."
    )
    source_ipv4: IpAddress = Field("", description="Local IPv4 address to send from; empty lets the system choose.")
    source_ipv6: IpAddress = Field("", description="Local IPv6 address to send from; empty lets the system choose.")
    ipv6: bool = Field(True, description="Use IPv6 addresses of mail hosts too.")
    ehlo_name: str = Field(
        "", description="Name said in EHLO; empty takes server.hostname. Must agree with the PTR record."
    )
    loopback_only: bool = Field(
        False, description="Refuse to connect anywhere but this machine. Always on in the sandbox."
    )
    mta_sts: bool = Field(True, description="Keep to the MTA-STS policies of recipient domains (RFC 8461).")
    dane: bool = Field(
        True,
        description="Keep to the TLSA records of mail hosts (RFC 7672), where dns.validator names a resolver to trust.",
    )
    tls_demands: dict[str, Literal["required", "verified"]] = Field(
        {}, description='TLS that you demand for recipient domains, for example {"partner.example" = "verified"}.'
    )
    tls_ca_file: str = Field("", description="More certificate authorities (PEM) beside the system's, for mail hosts.")
    policy_port: int = Field(
        443, ge=1, le=65535, description="Port of MTA-STS policies. Other than 443 only in test networks."
    )
    providers_file: str = Field(
        "",
        description="Your own limits towards providers, over the shipped ones; empty: providers.toml in the data folder, if there.",
    )
    shaping: bool = Field(
        True, description="Hold back by itself where a provider pushes back (mailfleet/config/data/shaping.toml)."
    )
    connections_per_site: int = Field(
        10, ge=1, description="Most connections at once to one site, per delivery process that owns it."
    )
    messages_per_connection: int = Field(
        100, ge=1, description="After this many messages a connection is closed and a new one opened."
    )
    commands_behind_message: bool = Field(
        True,
        description="Send the commands of the next message in one piece with the one before it, where the host offers"
        " PIPELINING (RFC 2920): a round trip less for each. Switched off by itself for a site that does not take it.",
    )
    idle_connection_s: float = Field(5, ge=0, description="An idle connection is kept this long for the next message.")
    connect_timeout_s: float = Field(30, gt=0, description="TCP connect.")
    greeting_timeout_s: float = Field(300, gt=0, description="Initial 220 (RFC 5321 4.5.3.2.1).")
    command_timeout_s: float = Field(300, gt=0, description="EHLO, MAIL, RCPT (RFC 5321 4.5.3.2.2 and .3).")
    data_timeout_s: float = Field(
        180, gt=0, description="DATA initiation and each block sent (RFC 5321 4.5.3.2.4 and .5)."
    )
    final_timeout_s: float = Field(600, gt=0, description="Reply after the final dot (RFC 5321 4.5.3.2.6).")
    lease_s: float = Field(
        60,
        gt=1,
        description="A process whose event loop stands still for this long is killed and started again; its claims go back.",
    )
    time_scale: float = Field(
        1,
        ge=1,
        description="Divides every retry delay and expiry. 1 outside tests; the sandbox uses sandbox.time_scale.",
    )


class Sandbox(Section):
    """Simulated mailbox providers on loopback (``serve --sandbox``)."""

    enabled: bool = Field(False, description="Route every delivery to simulated providers and nothing else.")
    seed: int = Field(1, description="Decides who is unknown, full, greylisted: the same seed gives the same outcomes.")
    time_scale: float = Field(
        1440, ge=1, description="How much faster retry time runs; at 1440 a day of retries takes a minute."
    )
    smtp_port: int = Field(2600, ge=1, le=65535, description="Port on which the simulated providers answer.")
    dns_port: int = Field(5354, ge=1, le=65535, description="Port of the sandbox's DNS server.")
    address_base: str = Field("127.0.10.0", description="The providers take loopback addresses from here upwards.")
    model: str = Field(
        "",
        description="A rehearsal's model (typical, strict ... or a file) by which providers take mail; empty: they take all.",
    )
    keep_mail_mb: int = Field(
        2048, ge=1, description="Disk for accepted mail; above it the oldest can no longer be read back."
    )


class Reputation(Section):
    """What follows from rates of bounces and complaints."""

    brakes: bool = Field(
        True,
        description="Hold bulk mail back at the providers' thresholds: complaints 0.10 and 0.30 %, bounces 5 and 10 %.",
    )


class Blocklists(Section):
    """Watching block lists."""

    watch: bool = Field(True, description="Ask the shipped lists about sources and sending domains.")
    file: str = Field("", description="Your own lists, and changes to the shipped ones.")


class Settings(BaseSettings):
    """All settings. Build it with ``load``."""

    model_config = SettingsConfigDict(env_prefix="MAILFLEET_", env_nested_delimiter="__", extra="forbid", frozen=True)

    data: Path = Field(
        Path("data"), description="The one folder that holds everything: database, keys, journals, logs."
    )
    server: Server = Server()
    database: DatabaseSettings = DatabaseSettings()
    submission: Submission = Submission()
    https: Https = Https()
    acme: Acme = Acme()
    dns: Dns = Dns()
    delivery: Delivery = Delivery()
    retry: Retry = Retry()
    reputation: Reputation = Reputation()
    blocklists: Blocklists = Blocklists()
    digest: DigestSettings = DigestSettings()
    tls_reports: TlsReports = TlsReports()
    sandbox: Sandbox = Sandbox()

    @property
    def at_home(self) -> bool:
        """Whether nothing may leave this machine."""
        return self.sandbox.enabled or self.delivery.loopback_only

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over file: ``load`` passes the file as init arguments."""
        return (env_settings, init_settings)

    @property
    def time_scale(self) -> float:
        """The scale in force for retry delays and expiry."""
        return self.sandbox.time_scale if self.sandbox.enabled else self.delivery.time_scale


def load(config: Path | None = None, *, data: Path | None = None, sandbox: bool = False) -> Settings:
    """Read settings. ``config`` must exist when given; else ``./mailfleet.toml``, then ``DATA/mailfleet.toml`` are taken if there.

    Raises ``ConfigError`` naming the setting and what it may be.
    """
    path = config or _first_existing(Path("mailfleet.toml"), (data or Path("data")) / "mailfleet.toml")
    values = _read(path) if path is not None else {}
    _refuse_unknown_sections()
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise _as_config_error(error, path) from None
    except SettingsError as error:
        mend = "name a setting MAILFLEET_SECTION__KEY, and write a list as JSON"
        raise ConfigError(str(error), where="environment", mend=mend) from None
    changed: dict[str, Any] = {}
    if sandbox:  # last, so that no file and no environment can take back what was asked for
        changed["sandbox"] = settings.sandbox.model_copy(update={"enabled": True})
    if data is not None:
        changed["data"] = data
    return settings.model_copy(update=changed) if changed else settings


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError("there is no such file", where=str(path), mend="check the path given to --config") from None
    except OSError as error:
        what = f"the settings cannot be read: {error.strerror}"
        raise ConfigError(what, where=str(path), mend="give a file that this user may read") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"not valid TOML: {error}", where=str(path), mend="see docs/reference/mailfleet.example.toml"
        ) from None


def _refuse_unknown_sections() -> None:
    """``MAILFLEET_SERVR__HOSTNAME`` would be passed over. Names without ``__`` are left alone: other programs make such ones."""
    for name in os.environ:
        prefix, _, rest = name.upper().partition("_")
        section, nested, _ = rest.partition("__")
        if prefix == "MAILFLEET" and nested and section.lower() not in Settings.model_fields:
            raise ConfigError(
                f"there is no section {section.lower()}", where=name, mend="remove it or correct its spelling"
            )


def _as_config_error(error: ValidationError, path: Path | None) -> ConfigError:
    first = error.errors()[0]
    variable = "__".join(("MAILFLEET_" + str(first["loc"][0]), *(str(part) for part in first["loc"][1:]))).upper()
    if variable in (name.upper() for name in os.environ):
        where = variable
    else:
        where = f"{path or 'environment'}: {'.'.join(str(part) for part in first['loc'])}"
    unknown = first["type"] == "extra_forbidden"
    mend = "remove it or correct its spelling" if unknown else without_passwords(f"you gave {first['input']!r}")
    return ConfigError(first["msg"], where=where, mend=mend)


def _first_existing(*paths: Path) -> Path | None:
    return next((path for path in paths if path.exists()), None)


def worker_count(settings: Settings) -> int:
    """How many delivery processes run."""
    return settings.delivery.workers or os.cpu_count() or 1
