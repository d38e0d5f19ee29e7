"""Tables of certificates: for which hosts, from whom, and what authorities have asked."""

from __future__ import annotations

from sqlalchemy import Column, LargeBinary, Table

from mailfleet.store.columns import int_column, key_text, metadata, text_column

certificate = Table(
    "certificate",
    metadata,
    key_text("host"),  # may begin with *.
    text_column("issuer"),  # acme | authority | own
    text_column("chain", ""),  # PEM, the host's own certificate first; empty until there is one
    Column("sealed_key", LargeBinary),
    Column("sealed_next", LargeBinary),  # the key after this one, while the DNS is told of it
    int_column("next_since_ms", 0),
    int_column("not_before_ms", 0),
    int_column("not_after_ms", 0),
    int_column("changed_ms"),
    int_column("failures", 0),  # in a row
    text_column("problem", ""),
    int_column("next_try_ms", 0),
    int_column("next_ask_ms", 0),  # when its authority is asked about it; 0: at a time of the host's own
)

acme_account = Table(
    "acme_account",
    metadata,
    key_text("directory"),
    text_column("uri"),
    Column("sealed_key", LargeBinary, nullable=False),
    int_column("created_ms"),
)

acme_challenge = Table(  # what an authority will come and ask, and our answer
    "acme_challenge",
    metadata,
    key_text("kind"),  # http-01 | tls-alpn-01 | dns-01
    key_text("host"),
    key_text("token"),
    text_column("answer"),
    int_column("created_ms"),
)

TABLES = (certificate, acme_account, acme_challenge)
