"""Files of what was fitted on validation: they say to which checkpoints it belongs.

A file keeps what was fitted for several, so that an evaluation of another checkpoint or of other
views does not take from predictions what they had.
"""

import contextlib
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from hybrid import files
from hybrid.runs import trained, workdir
from hybrid.runs.trained import Trained

# So many others are kept beside the latest.
_MOST = 7


def validation_split(model: Trained) -> str:
    """The split that a run was chosen on, whatever flags say: nothing is fitted on another one."""
    return str(workdir.load_config(model.folder).data.validation_split)


def source(models: Sequence[Trained], members: Sequence[int]) -> dict[str, Any]:
    """Says which members of which checkpoints something was fitted for.

    The scores on validation are part of it: runs that have replaced these in their folders had
    others.
    """
    scores = [dict(model.scores) for model in models]
    return trained.sources(models) | {'members': list(members), 'scores': scores}


def write(path: pathlib.Path, source: dict[str, Any], **values: Any) -> None:
    """Writes what was fitted, as JSON; the folder is made if there is none.

    What was fitted for other sources stays, up to a few of them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    others: list[dict[str, Any]] = []
    with contextlib.suppress(ValueError):  # A damaged file is replaced.
        others = [one for one in _records(path) if not _same(one.get('source'), source)]
    files.write_json(path, {'source': source, **values, 'others': others[:_MOST]})


def read(path: pathlib.Path, source: dict[str, Any]) -> dict[str, Any] | None:
    """Reads what `write` has written; None if there is no file, or one for other sources.

    Raises:
      ValueError: when it is damaged.
    """
    return next((one for one in _records(path) if _same(one.get('source'), source)), None)


def _records(path: pathlib.Path) -> list[dict[str, Any]]:
    """What a file holds, the latest first."""
    if not path.exists():
        return []
    latest = workdir.read_json(path, 'remove it, and evaluate the validation split')
    others = latest.pop('others', [])
    return [latest, *(one for one in others if isinstance(one, dict))]


def called(workdir: str) -> str:
    """The name of a workdir's folder, for which a path is one of many ways; '' of ''."""
    return os.path.basename(os.path.realpath(workdir)) if workdir else ''


def _same(one: Any, other: Any) -> bool:
    # What was written went through JSON, too.
    return bool(_identity(json.loads(json.dumps(one))) == _identity(json.loads(json.dumps(other))))


def _identity(source: Any) -> Any:
    """A source without what does not tell it from others.

    A checkpoint is known by its step, whatever it was asked for by, and a workdir by its name.
    """
    if not isinstance(source, dict):  # No record of ours.
        return source
    known = {key: value for key, value in source.items() if key != 'checkpoint'}
    if 'workdir' in known:
        known['workdir'] = called(known['workdir'])
    if isinstance(known.get('workdirs'), list):
        known['workdirs'] = [_identity(run) for run in known['workdirs']]
    return known
