"""The type of `--store`: a folder, or the address of a storage of objects."""

from pathlib import Path
from typing import Any

import click


class _Place(click.ParamType):
    """A folder as a path; an address (`s3://bucket/prefix`) stays text, since a path would lose one of its slashes."""

    name = "folder or URL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | Path:
        if str(value).startswith("memory://"):
            self.fail(
                f"{value} is in the memory of this command and gone when it ends. Give a folder, or an address such "
                "as s3://BUCKET/PREFIX. (In Python, serfuse.Store takes memory://.)",
                param,
                ctx,
            )
        return value if isinstance(value, Path) or "://" in value else Path(value)


STORE = _Place()
