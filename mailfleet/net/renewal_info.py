"""Asking an authority when it wants a certificate renewed (RFC 9773). Blocks: called in a thread.

``ClientV2.renewal_time`` of ``acme`` asks as well, but keeps the window to itself, draws another moment each time, lets an answer
that is none through as any exception, and says nothing of ``Retry-After`` where it is refused. Its session and directory are used.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode

import requests
from acme import client
from cryptography import x509

import mailfleet
from mailfleet.base.errors import InputError
from mailfleet.net.acme_orders import TIMEOUT_S, AcmeError, Authority, read_directory, renewal_address, told
from mailfleet.policy.renewal_info import Suggestion, read_again_s, read_window

MOST_BYTES = 65_536


def ask_renewal(authority: Authority, chain: str, now_ms: int) -> Suggestion:
    """About the first certificate of a chain (PEM). What goes wrong is in the answer."""
    own_id = certificate_id(chain)
    if not own_id:
        return Suggestion(problem="the certificate does not say whose key signed it")
    net = client.ClientNetwork(
        verify_ssl=authority.ca_file or True,  # type: ignore[arg-type]  # requests takes a file as well
        user_agent=f"mailfleet/{mailfleet.__version__}",
        timeout=TIMEOUT_S,
    )
    try:
        address = renewal_address(read_directory(authority, net))
        if not address:
            return Suggestion()
        with told(f"{address} cannot be asked"):
            status, retry_after, body = _get(net, f"{address.rstrip('/')}/{own_id}")
    except AcmeError as error:
        return Suggestion(problem=str(error))
    again_s = read_again_s(retry_after, now_ms)
    if status != 200:
        return Suggestion(None, again_s, f"{address} answers {status}")
    try:
        return Suggestion(read_window(body), again_s)
    except InputError as error:
        return Suggestion(None, again_s, f"the answer of {address} cannot be used: {error.what}")


def certificate_id(chain: str) -> str:
    """What the first certificate of a chain (PEM) is called among authorities (RFC 9773 4.1); empty where it has no such name."""
    certificate = x509.load_pem_x509_certificate(chain.encode())
    try:
        key_id = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        return ""
    number = certificate.serial_number
    serial = number.to_bytes(number.bit_length() // 8 + 1, "big")  # as in DER: the first bit is the sign
    return ".".join(urlsafe_b64encode(part).decode().rstrip("=") for part in (key_id, serial)) if key_id else ""


def _get(net: client.ClientNetwork, address: str) -> tuple[int, str, bytes]:
    """Status, ``Retry-After`` and body, whatever the status."""
    headers = {"User-Agent": net.user_agent}
    with net.session.get(address, headers=headers, verify=net.verify_ssl, timeout=TIMEOUT_S, stream=True) as answer:
        body = b""
        for part in answer.iter_content(MOST_BYTES):
            body += part
            if len(body) > MOST_BYTES:
                raise requests.RequestException(f"{address} answers with more than {MOST_BYTES} bytes")
        return answer.status_code, answer.headers.get("Retry-After", ""), body
