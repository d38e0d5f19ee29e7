"""Reading a TOML file of ours or of a user against its model."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from mailfleet.base.errors import ConfigError

M = TypeVar("M", bound=BaseModel)


def read_data(path: Path, model: type[M], *, unread: str = "correct it, or restore it", wrong: str = "correct it") -> M:
    """Its whole content. ``unread`` and ``wrong``: how to mend a file that is no TOML, or not as it should be.

    Raises ``ConfigError`` naming the file and the entry.
    """
    try:
        return model.model_validate(tomllib.loads(path.read_text("utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path), mend=unread) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{path}: {'.'.join(str(part) for part in first['loc'])}"
        raise ConfigError(first["msg"], where=where, mend=wrong) from None
