"""Files of what was fitted on validation: they say to which checkpoints it belongs."""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from hybrid import files
from hybrid.runs import trained, workdir
from hybrid.runs.trained import Trained


def source(models: Sequence[Trained], members: Sequence[int]) -> dict[str, Any]:
    """Says which members of which checkpoints something was fitted for.

    The scores on validation are part of it: runs that have replaced these in their folders had
    others.
    """
    scores = [dict(model.scores) for model in models]
    return trained.sources(models) | {'members': list(members), 'scores': scores}


def write(path: pathlib.Path, source: dict[str, Any], **values: Any) -> None:
    """Writes what was fitted, as JSON; the folder is made if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, {'source': source, **values})


def read(path: pathlib.Path, source: dict[str, Any]) -> dict[str, Any] | None:
    """Reads what `write` has written; None if there is no file, or one for another source.

    Raises:
      ValueError: when it is damaged.
    """
    if not path.exists():
        return None
    record = workdir.read_json(path)
    # What was written went through JSON, too.
    known = _by_names(record.get('source')) == _by_names(json.loads(json.dumps(source)))
    return record if known else None


def _by_names(source: Any) -> Any:
    """Names workdirs as their folders are called, for which a path is one of many ways."""
    try:
        named = [
            run | {'workdir': os.path.basename(os.path.realpath(run['workdir']))}
            for run in source['workdirs']
        ]
    except (KeyError, TypeError):  # One workdir, or no record of ours.
        return source
    return source | {'workdirs': named}
