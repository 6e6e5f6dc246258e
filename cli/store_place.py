"""The type of `--store`: a folder, or the address of a storage of objects."""

from pathlib import Path
from typing import Any

import click


class _Place(click.ParamType):
    """A folder as a path; an address (`s3://bucket/prefix`) stays text, since a path would lose one of its slashes."""

    name = "folder or URL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | Path:
        return value if isinstance(value, Path) or "://" in value else Path(value)


STORE = _Place()
