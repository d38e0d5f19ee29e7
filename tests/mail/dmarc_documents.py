"""DMARC aggregate reports as receivers write them, for tests."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from email.message import EmailMessage
from typing import Any
from xml.sax.saxutils import escape

DAY_S = 86_400
BEGIN_S = 1_767_139_200  # 2025-12-31
NAMESPACE = ' xmlns="urn:ietf:params:xml:ns:dmarc-2.0"'


def record(
    ip: str = "192.0.2.1",
    count: Any = 3,
    *,
    dkim: str = "pass",
    spf: str = "fail",
    header_from: str = "shop.example",
    disposition: str = "none",
    reasons: Iterable[str] = (),
    signatures: Iterable[tuple[str, str, str]] = (("shop.example", "s1", "pass"),),
    spf_seen: Iterable[tuple[str, str]] = (("bounce.shop.example", "fail"),),
) -> str:
    """One record. ``signatures``: ``(domain, selector, result)``; ``spf_seen``: ``(domain, result)``."""
    said = "".join(f"<reason><type>{one}</type><comment>x</comment></reason>" for one in reasons)
    results = "".join(
        f"<dkim><domain>{escape(domain)}</domain><selector>{escape(selector)}</selector><result>{result}</result></dkim>"
        for domain, selector, result in signatures
    )
    results += "".join(
        f"<spf><domain>{escape(domain)}</domain><scope>mfrom</scope><result>{result}</result></spf>"
        for domain, result in spf_seen
    )
    return f"""  <record>
    <row>
      <source_ip>{ip}</source_ip>
      <count>{count}</count>
      <policy_evaluated><disposition>{disposition}</disposition><dkim>{dkim}</dkim><spf>{spf}</spf>{said}</policy_evaluated>
    </row>
    <identifiers><header_from>{escape(header_from)}</header_from><envelope_from>bounce.shop.example</envelope_from></identifiers>
    <auth_results>{results}</auth_results>
  </record>
"""


def report(
    *records: str,
    domain: str = "shop.example",
    reporter: str = "google.com",
    report_id: str = "17256",
    begin_s: Any = BEGIN_S,
    end_s: Any = None,
    policy: str = "none",
    more: str = "",
    namespace: str = NAMESPACE,
) -> str:
    """A whole document. ``more``: further elements of the policy."""
    end_s = end_s if end_s is not None else begin_s + DAY_S - 1
    return f"""<?xml version="1.0" encoding="UTF-8" ?>
<feedback{namespace}>
  <version>1.0</version>
  <report_metadata>
    <org_name>{escape(reporter)}</org_name>
    <email>noreply-dmarc-support@{escape(reporter)}</email>
    <report_id>{escape(report_id)}</report_id>
    <date_range><begin>{begin_s}</begin><end>{end_s}</end></date_range>
  </report_metadata>
  <policy_published>
    <domain>{escape(domain)}</domain><adkim>r</adkim><aspf>r</aspf><p>{policy}</p>{more}
  </policy_published>
{"".join(records)}</feedback>
"""


def mailed(text: str, *, name: str = "google.com!shop.example!1!2.xml.gz", kind: str = "gzip") -> bytes:
    """The message that carries it."""
    message = EmailMessage()
    message["From"] = "noreply-dmarc-support@google.com"
    message["To"] = "dmarc@shop.example"
    message["Subject"] = "Report Domain: shop.example Submitter: google.com Report-ID: 17256"
    message.set_content("This is a report.")
    message.add_attachment(gzip.compress(text.encode()), maintype="application", subtype=kind, filename=name)
    return message.as_bytes()
