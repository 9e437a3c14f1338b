"""What a recipe said when a result was recorded, where it says something else today."""

import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from hybrid import recipes
from hybrid.default_config import SCHEMA
from hybrid.runs import workdir as workdir_lib
from hybrid.schema import flatten


def changed_keys(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the keys of a flat config that have other values in another one, with their own.

    Of keys whose values are dicts, nothing is said.
    """
    keys = [key for key in now if key in SCHEMA.keys and key not in workdir_lib.MACHINE_KEYS]
    before = dict(then)
    if 'train.num_epochs' in then:  # The whole config of a training.
        # What the record is older than behaved as the default says, but for a few keys.
        before = {key: SCHEMA.keys[key].default for key in keys}
        before = {**before, **workdir_lib.FORMER_VALUES, **then}
    return {
        key: before[key]
        for key in sorted(set(keys) & set(before))
        if isinstance(before[key], str | int | float | tuple | list)
        and _plain(before[key]) != _plain(now[key])
    }


def _plain(value: Any) -> Any:
    """The value as JSON has it."""
    return list(value) if isinstance(value, tuple) else value


def of_its_time(record: Mapping[str, Any], given: Sequence[str] | None = None) -> list[str]:
    """Returns flags for what the recipe of a record says now and did not say then.

    Args:
      record: The content of results/NAME.json.
      given: Flags that are given anyway, those of the recorded command unless they are named.
    """
    flags = shlex.split(record['command']) if given is None else given
    recipe = next((flag for flag in flags if flag.startswith('--config=')), '--config=quickstart')
    name = pathlib.PurePosixPath(recipe.partition('=')[2]).stem
    if name not in recipes.names():  # A recipe of one's own, or one that is gone.
        return []
    now = flatten(recipes.get_config(name).to_dict())
    names = {flag.split('=')[0] for flag in flags}
    changed = changed_keys(record['config'], now)
    return [
        f'--config.{k}={",".join(map(str, v)) if isinstance(v, tuple | list) else v}'
        for k, v in changed.items()
        if f'--config.{k}' not in names
    ]
