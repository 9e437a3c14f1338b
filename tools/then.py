"""What a recipe said when a result was recorded, where it says something else today."""

import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from hybrid import recipes
from hybrid.runs import workdir as workdir_lib
from hybrid.schema import flatten


def changed_keys(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the keys of a flat config that have other values in another one, with their own.

    Of keys with several values, such as tuples, nothing is said.
    """
    # A record that is older than the age heads has none of their keys.
    head = 'model.head.age'
    before: dict[str, Any] = {head: workdir_lib.FORMER_VALUES[head], **then}
    return {
        key: value
        for key, value in sorted(before.items())
        if key in now and now[key] != value and isinstance(value, str | int | float)
    }


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
    return [f'--config.{k}={v}' for k, v in changed.items() if f'--config.{k}' not in names]
