"""Asking an authority for certificates (RFC 8555). Blocks: called in a thread, one order at a time.

``acme`` speaks the protocol; what it leaves out, TLS-ALPN-01 (RFC 8737), is added here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import josepy.errors
import requests
from acme import challenges, client, errors, messages
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from josepy.json_util import field
from josepy.jwa import ES256
from josepy.jwk import JWK, JWKEC

import mailfleet
from mailfleet.base.errors import MailfleetError

ORDER_S = 120
TIMEOUT_S = 30
NONCE_TRIES = 5
_LOST = ("accountDoesNotExist", "unauthorized")


class AcmeError(MailfleetError):
    """No certificate now. The message says why, in the authority's own words. ``retry_after``: the header of its answer."""

    retry_after = ""


class AccountLostError(AcmeError):
    """The authority does not know our account, or has closed it."""


class Asked(NamedTuple):
    """What the authority will come and look for. ``answer``: the key authorization; of DNS-01 the value of the TXT record."""

    host: str
    token: str
    answer: str


class Authority(NamedTuple):
    """Who is asked, and how. ``ca_file``: whom its own certificate is from; empty: the system's authorities."""

    directory: str
    contact: str
    agree_to_terms: bool
    ca_file: str = ""
    eab_key_id: str = ""
    eab_key: str = ""


class AcmeOrders:
    """With one account. ``key``: of the account, PEM. ``uri``: of the account, empty while there is none."""

    def __init__(self, authority: Authority, key: bytes, uri: str = "") -> None:
        self._authority, self.uri = authority, uri
        private = serialization.load_pem_private_key(key, password=None)
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        self._key = JWKEC(key=private)
        account = messages.RegistrationResource(uri=uri, body=messages.Registration()) if uri else None
        net = _Network(
            self._key,
            account=account,
            alg=ES256,
            verify_ssl=authority.ca_file or True,  # type: ignore[arg-type]  # requests takes a file as well
            user_agent=f"mailfleet/{mailfleet.__version__}",
            timeout=TIMEOUT_S,
        )
        self._client = client.ClientV2(read_directory(authority, net), net)
        self._net = net

    def register(self) -> str:
        """Make an account, or find ours again; returns its address. Raises ``AcmeError``."""
        authority = self._authority
        binding = None
        if authority.eab_key_id:
            binding = messages.ExternalAccountBinding.from_data(
                account_public_key=self._key.public_key(),
                kid=authority.eab_key_id,
                hmac_key=authority.eab_key,
                directory=self._client.directory,
            )
        new = messages.NewRegistration.from_data(
            email=authority.contact or None,
            terms_of_service_agreed=authority.agree_to_terms,
            external_account_binding=binding,
        )
        with told("no account", self._net):
            try:
                self.uri = str(self._client.new_account(new).uri)
            except errors.ConflictError as known:
                self.uri = known.location
                self._client.net.account = messages.RegistrationResource(uri=self.uri, body=new)
        return self.uri

    def begin(
        self, csr: bytes, kind: str, replaces: str = ""
    ) -> tuple[messages.OrderResource, list[tuple[messages.ChallengeBody, Asked]]]:
        """Order the certificate of a request (PEM). What is asked by way of ``kind`` is to be put in place before ``finish``.

        What the authority still holds for proved is not among it. ``replaces``: what the one before is called (RFC 9773 5), if
        there is one. Raises ``AcmeError`` and ``AccountLostError``.
        """
        with told("the order is refused", self._net, lost=True):
            order = self._order(csr, replaces if renewal_address(self._client.directory) else "")
        asked = []
        for authorization in order.authorizations:
            body = authorization.body
            if body.status == messages.STATUS_VALID:
                continue
            offered = {one.chall.typ: one for one in body.challenges}
            if kind not in offered:
                raise AcmeError(
                    f"the authority offers {', '.join(sorted(offered))} for {body.identifier.value}, not {kind}"
                )
            challenge = offered[kind]
            answer = challenge.chall.validation(self._key)
            text = answer if isinstance(answer, str) else answer.decode()
            asked.append((challenge, Asked(body.identifier.value, challenge.chall.encode("token"), text)))
        return order, asked

    def _order(self, csr: bytes, replaces: str) -> messages.OrderResource:
        """An authority may not take a certificate for replaced, as after an account was; then the order goes without it."""
        self._net.replaces = replaces
        try:
            return self._client.new_order(csr)
        except (messages.Error, errors.ConflictError) as error:
            if not replaces or (isinstance(error, messages.Error) and error.code == "rateLimited"):
                raise
        self._net.replaces = ""
        return self._client.new_order(csr)

    def finish(self, order: messages.OrderResource, asked: list[tuple[messages.ChallengeBody, Asked]]) -> str:
        """Say that all is in place, and wait for the certificate: the chain, PEM. Raises ``AcmeError``."""
        until = datetime.now() + timedelta(seconds=ORDER_S)  # noqa: DTZ005 - what the library compares it with
        with told("the authority did not accept the proof", self._net):
            for challenge, _ in asked:
                self._client.answer_challenge(challenge, challenge.chall.response(self._key))
            return str(self._client.poll_and_finalize(order, until).fullchain_pem)

    def close_account(self) -> None:
        """For good (RFC 8555 7.3.6); the authority knows it no more. Raises ``AcmeError``."""
        with told("the account cannot be closed"):
            self._client.deactivate_registration(
                messages.RegistrationResource(uri=self.uri, body=messages.Registration())
            )


class _Renewal(messages.NewOrder):
    """RFC 9773 5."""

    replaces: str = field("replaces")


class _Network(client.ClientNetwork):
    """The library tries a request again once when its nonce is refused; RFC 8555 6.5 sets no limit.

    ``replaces`` goes into orders, for which the library has no place. ``retry_after``: of the last answer, if it was a refusal.
    """

    replaces = ""
    retry_after = ""

    def post(self, url: str, obj: Any, *args: Any, **kwargs: Any) -> requests.Response:
        """As of the library."""
        if self.replaces and isinstance(obj, messages.NewOrder):
            obj = _Renewal(**dict(obj), replaces=self.replaces)
        for _ in range(NONCE_TRIES - 1):
            try:
                return super().post(url, obj, *args, **kwargs)
            except messages.Error as error:
                if error.code != "badNonce":
                    raise
        return super().post(url, obj, *args, **kwargs)

    def _send_request(self, method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:
        self.retry_after = ""
        answer = super()._send_request(method, url, *args, **kwargs)
        self.retry_after = "" if answer.ok else answer.headers.get("Retry-After", "")
        return answer


@challenges.ChallengeResponse.register
class TlsAlpn01Response(challenges.KeyAuthorizationChallengeResponse):
    """RFC 8737 3."""

    typ = "tls-alpn-01"


@challenges.Challenge.register
class TlsAlpn01(challenges.KeyAuthorizationChallenge):
    """RFC 8737 3."""

    response_cls = TlsAlpn01Response
    typ = "tls-alpn-01"

    def validation(self, account_key: JWK, **kwargs: Any) -> str:
        """The key authorization, whose SHA-256 stands in the certificate that is shown."""
        return self.key_authorization(account_key)


def read_directory(authority: Authority, net: client.ClientNetwork) -> messages.Directory:
    """What it can be asked for, and where (RFC 8555 7.1.1). Raises ``AcmeError``."""
    with told(f"{authority.directory} cannot be asked", net):
        try:
            return client.ClientV2.get_directory(authority.directory, net)
        except (TypeError, AttributeError):  # JSON, and no object
            raise AcmeError(f"{authority.directory} cannot be asked: it is no directory") from None


def renewal_address(directory: messages.Directory) -> str:
    """Below which an authority says when to renew (RFC 9773); empty where it does not."""
    try:
        return str(directory["renewalInfo"])
    except KeyError:
        return ""


@contextmanager
def told(what: str, net: client.ClientNetwork | None = None, *, lost: bool = False) -> Iterator[None]:
    """Whatever goes wrong, as an ``AcmeError`` in words for people. ``net``: over what it went."""
    try:
        with _in_words(what, lost=lost):
            yield
    except AcmeError as error:
        error.retry_after = getattr(net, "retry_after", "")
        raise


@contextmanager
def _in_words(what: str, *, lost: bool) -> Iterator[None]:
    try:
        yield
    except errors.ValidationError as error:
        reasons = [
            f"{one.body.identifier.value}: {challenge.error.detail}"
            for one in error.failed_authzrs
            for challenge in one.body.challenges
            if challenge.error is not None
        ]
        raise AcmeError(f"{what}: {'; '.join(reasons)}") from None
    except messages.Error as error:
        kind = AccountLostError if lost and error.code in _LOST else AcmeError
        raise kind(f"{what}: {error.detail or error.description or error.typ}") from None
    except errors.TimeoutError:
        raise AcmeError(f"{what}: no answer within {ORDER_S} s") from None
    except (errors.Error, josepy.errors.Error, requests.RequestException, OSError, ValueError) as error:
        raise AcmeError(f"{what}: {error}") from None
