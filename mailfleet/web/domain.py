"""The page of one sending domain: its checks, records, settings, logo and certificates."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mailfleet.base.errors import InputError
from mailfleet.engine.domain_options import MODES, ROLLOUTS
from mailfleet.engine.domain_views import DomainSettings
from mailfleet.mail.address import is_within
from mailfleet.mail.bimi import MAX_BYTES
from mailfleet.mail.dmarc import POLICIES
from mailfleet.web.certificates import certificates_of
from mailfleet.web.dmarc import DmarcPart
from mailfleet.web.domain_dns import ADOPT, LOOK, DnsPart
from mailfleet.web.domains import STATES
from mailfleet.web.forms import MAX_FORM_BYTES, Form, Troubles
from mailfleet.web.frame import Frame, Part
from mailfleet.web.sessions import Session

PLAN_WITHIN_S = 3.0


class DomainPage:
    """For one process."""

    def __init__(self, frame: Frame) -> None:
        self._frame, self._services = frame, frame.services
        self._dmarc, self._dns = DmarcPart(frame.services.dmarc), DnsPart(frame.services)

    async def show(self, request: Request) -> Response:
        """All of it; with what publishing would change, where that is asked for."""
        return await self._page(request, {}, {}, how=request.query_params.get("publish", ""))

    async def live(self, request: Request) -> Response:
        """One part, as it is now."""
        return await self._frame.live(request, self._live(request.path_params["domain"]))

    async def logo(self, request: Request) -> Response:
        """The logo itself."""
        domain, options = request.path_params["domain"], self._services.domain_options
        return await self._frame.file(request, lambda session: options.logo(session.actor, domain), "image/svg+xml")

    async def steer(self, request: Request) -> Response:
        """Check now; take the logo away."""
        domain, services = request.path_params["domain"], self._services

        async def no_logo(session: Session) -> None:
            await services.domain_options.set_logo(session.actor, domain, None)
            session.note = "The logo is shown no more. Put that into the DNS too."

        async def check(session: Session) -> None:
            found = Counter(one.state for one in (await services.domains.check(session.actor, domain)).checks)
            session.note = "Looked now: " + ", ".join(f"{found[state]} {state}" for state in STATES if found[state])

        moves = {"check": check, "remove-logo": no_logo}
        return await self._frame.steer(request, "manage", moves, _path(domain))

    async def set(self, request: Request) -> Response:
        """Change the settings."""
        domain = request.path_params["domain"]

        async def change(session: Session, form: Form) -> str:
            was = DomainSettings.model_validate_json(form["was"]) if "was" in form else None
            await self._services.domain_options.set(session.actor, domain, settings_of(form), was=was)
            return "The settings are changed. Put them into the DNS too."

        async def again(form: Form, troubles: Troubles) -> Response:
            return await self._page(request, form, troubles, status=422)

        return await self._frame.submit(request, "manage", change, _path(domain), again)

    async def set_logo(self, request: Request) -> Response:
        """Show another logo."""
        domain = request.path_params["domain"]

        async def change(session: Session, form: Form) -> str:
            data = form.files.get("logo", b"")
            if not data:
                raise InputError("no file was chosen", where="logo", mend="choose an SVG file")
            await self._services.domain_options.set_logo(session.actor, domain, data)
            return "The logo is changed. Put it into the DNS too."

        async def again(form: Form, troubles: Troubles) -> Response:
            trouble = next(iter(troubles.values()))
            return await self._page(request, {}, {}, status=422, logo_trouble=trouble)

        return await self._frame.submit(request, "manage", change, _path(domain), again)

    async def publish(self, request: Request) -> Response:
        """Put into the DNS what was shown."""
        domain = request.path_params["domain"]

        async def change(session: Session, form: Form) -> str:
            return await self._dns.publish(session, domain, form)

        async def again(form: Form, troubles: Troubles) -> Response:
            trouble, how = next(iter(troubles.values())), ADOPT if form.get("adopt") == "yes" else LOOK
            return await self._page(request, {}, {}, status=409, how=how, publish_trouble=trouble)

        return await self._frame.submit(request, "manage", change, f"{_path(domain)}#publish", again)

    async def rotate(self, request: Request) -> Response:
        """Change the key."""
        domain = request.path_params["domain"]

        async def change(session: Session, form: Form) -> str:
            return await self._dns.rotate(session, domain, form)

        async def again(form: Form, troubles: Troubles) -> Response:
            return await self._page(request, {}, {}, status=409, keys_trouble=next(iter(troubles.values())))

        return await self._frame.submit(request, "manage", change, f"{_path(domain)}#keys", again)

    async def judge(self, request: Request) -> Response:
        """Say whose a sender is."""
        domain = request.path_params["domain"]

        async def change(session: Session, form: Form) -> str:
            return await self._dmarc.judge(session, domain, form)

        return await self._frame.submit(request, "manage", change, f"{_path(domain)}#dmarc", self._dmarc_again(request))

    async def take_reports(self, request: Request) -> Response:
        """Take in DMARC reports."""

        async def change(session: Session, form: Form) -> str:
            return await self._dmarc.take(session, form)

        back = f"{_path(request.path_params['domain'])}#dmarc"
        return await self._frame.submit(request, "manage", change, back, self._dmarc_again(request))

    def _dmarc_again(self, request: Request) -> Callable[[Form, Troubles], Awaitable[Response]]:
        async def again(form: Form, troubles: Troubles) -> Response:
            trouble = next(iter(troubles.values()))
            return await self._page(request, {}, {}, status=422, dmarc_trouble=trouble)

        return again

    async def back(self, request: Request) -> Response:
        """Who asks again for the answer to a form sees the page."""
        return RedirectResponse(_path(request.path_params["domain"]), 303)

    async def _page(
        self,
        request: Request,
        typed: Mapping[str, str],
        troubles: Troubles,
        *,
        status: int = 200,
        how: str = "",
        **more: Any,
    ) -> Response:
        domain = request.path_params["domain"]

        async def plan(session: Session) -> dict[str, Any]:
            return await self._plan(session, domain, how)

        async def options(session: Session) -> dict[str, Any]:
            return await self._options(session, domain, typed)

        async def dmarc(session: Session) -> dict[str, Any]:
            return await self._dmarc.fill(session, domain)

        parts = {**self._live(domain), "plan": plan, "dmarc": dmarc, "options": options}
        places = ("logo", "dmarc", "publish", "keys")
        more = {"troubles": troubles} | {f"{place}_trouble": None for place in places} | more
        return await self._frame.page(request, "domain.html", parts, status, **more)

    def _live(self, domain: str) -> dict[str, Part]:
        async def standing(session: Session) -> dict[str, Any]:
            return await self._standing(session, domain)

        async def keys(session: Session) -> dict[str, Any]:
            return await self._dns.keys(session, domain)

        return {"domain_standing": standing, "domain_keys": keys}

    async def _standing(self, session: Session, domain: str) -> dict[str, Any]:
        actor, services = session.actor, self._services
        checks = await services.domains.standing(actor, domain)
        every = await certificates_of(self._frame, session)
        return {
            "domain": checks.domain,
            "checks": checks,
            "good": [one for one in checks.checks if one.state == "ok"],
            "not_good": sorted(
                (one for one in checks.checks if one.state != "ok"), key=lambda one: STATES.index(one.state)
            ),
            "certificates": [one for one in every if is_within(one["view"].host, checks.domain)],
            "may_manage": "manage" in actor.scopes,
        }

    async def _plan(self, session: Session, name: str, how: str) -> dict[str, Any]:
        """The records, each with how its check stands; others' are waited for a moment only. Then what is done with them."""
        domains, looked = self._services.domains, True
        try:
            async with asyncio.timeout(PLAN_WITHIN_S):
                plan = await domains.plan(session.actor, name)
        except TimeoutError:
            plan, looked = await domains.plan(session.actor, name, looks=False), False
        checks = await domains.standing(session.actor, name)
        states = {one.name: one.state for one in checks.checks}
        return {
            **await self._dns.fill(session, plan, checks.checks, how),
            "rotated": self._dns.rotated(session, plan.domain),
            "plan": plan,
            "looked": looked,
            "records": [{"record": one, "state": states.get(one.check, "")} for one in plan.records],
        }

    async def _options(self, session: Session, name: str, typed: Mapping[str, str]) -> dict[str, Any]:
        options = self._services.domain_options
        kept = await options.get(session.actor, name)
        shown = kept.model_dump() | {"mta_sts_mx": "\n".join(kept.mta_sts_mx)}
        return {
            "kept": kept,
            "was": typed.get("was", kept.model_dump_json()),
            "shown": {field: typed.get(field, str(value)) for field, value in shown.items()},
            "has_logo": bool(await options.logo(session.actor, name)),
            "policies": POLICIES,
            "modes": MODES,
            "rollouts": ROLLOUTS,
            "max_reports_bytes": MAX_FORM_BYTES,
            "max_logo_bytes": MAX_BYTES,
        }


def settings_of(form: Form) -> DomainSettings:
    """What a form says. Raises ``ValidationError``."""
    fields: dict[str, Any] = {name: form[name].strip() for name in DomainSettings.model_fields if name in form}
    if "mta_sts_mx" in fields:
        fields["mta_sts_mx"] = fields["mta_sts_mx"].replace(",", " ").split()
    return DomainSettings.model_validate(fields)


def _path(domain: str) -> str:
    return f"/domains/{domain}"
