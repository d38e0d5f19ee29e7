"""Fetching a domain's MTA-STS policy over HTTPS (RFC 8461 3.3): certificate checked, nothing followed, no more than its bytes."""

from __future__ import annotations

import ssl

from mailfleet.base.errors import MailfleetError
from mailfleet.mail.mta_sts import MAX_POLICY_BYTES, WELL_KNOWN
from mailfleet.net.https_exchange import HttpsError, HttpsExchange
from mailfleet.net.resolver import Resolver
from mailfleet.policy.tls_results import FetchFailure


class PolicyFetchError(MailfleetError):
    """There is no policy to be had now. The message says why, for people; ``why`` for programs."""

    def __init__(self, words: str, why: FetchFailure = "fetch") -> None:
        self.why = why
        super().__init__(words)


class PolicyFetcher:
    """For one process. ``port`` is 443 except in test networks."""

    def __init__(
        self, resolver: Resolver, context: ssl.SSLContext, *, port: int = 443, ipv6: bool, loopback_only: bool = False
    ) -> None:
        self._https, self._port = HttpsExchange(resolver, context, ipv6=ipv6, loopback_only=loopback_only), port

    async def fetch(self, domain: str) -> str:
        """The text of the policy. Raises ``PolicyFetchError``."""
        host = f"mta-sts.{domain}"
        try:
            answer = await self._https.ask(
                "GET", host, self._port, WELL_KNOWN, "Accept: text/plain\r\n", max_bytes=MAX_POLICY_BYTES
            )
        except HttpsError as error:
            raise PolicyFetchError(str(error), "certificate" if error.certificate else "fetch") from None
        if answer.status != 200:  # RFC 8461 3.3: a redirect is not followed
            raise PolicyFetchError(f"{host} answers {answer.words} to {WELL_KNOWN}")
        if len(answer.body) > MAX_POLICY_BYTES:
            raise PolicyFetchError(f"the policy of {host} is larger than {MAX_POLICY_BYTES} bytes", "policy")
        return answer.body.decode("utf-8", "replace")
