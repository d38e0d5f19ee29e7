"""What every section of the settings is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A section: no key that nobody knows, and no change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)
