"""Query parameters that several operations share."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from mailfleet.engine.views import DeliveryState

After = Annotated[
    str | None, Query(max_length=500, description="The `next` of the page before; leave it out for the first page.")
]
Limit = Annotated[int, Query(ge=1, le=500, description="Most items in the answer.")]
StateFilter = Annotated[DeliveryState | None, Query(description="Only deliveries in this state.")]
RecipientFilter = Annotated[str | None, Query(max_length=400, description="Only deliveries to this address.")]
