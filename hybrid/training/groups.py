"""The groups of an ensemble: members of one architecture, as `config.ensemble` describes them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

# The name of the only group of an ensemble whose members all have `config.model`.
ONLY = 'members'


@dataclasses.dataclass(frozen=True)
class Group:
    """Members of one architecture.

    Attributes:
      name: Key of the group in `config.ensemble.groups` and in the state.
      members: Their numbers in the ensemble.
      config: The run's, with the group's model as `config.model`, and of a single model.
    """

    name: str
    members: tuple[int, ...]
    config: ConfigDict


def is_ensemble(config: ConfigDict) -> bool:
    """Whether a config describes an ensemble."""
    return config.ensemble.size > 1 or bool(config.ensemble.groups)


def create_groups(config: ConfigDict) -> list[Group]:
    """The groups of an ensemble, in the order of their names, in which members are numbered."""
    described = config.ensemble.groups.to_dict() or {ONLY: {'size': config.ensemble.size}}
    groups: list[Group] = []
    first = 0
    for name in sorted(described):
        count, changes = described[name].get('size', 1), described[name].get('model', {})
        members = tuple(range(first, first + count))
        groups.append(Group(name, members, _with_model(config, changes)))
        first += count
    return groups


def all_groups(config: ConfigDict) -> list[Group]:
    """The groups of an ensemble; for a single model one group, whose name is ''."""
    return create_groups(config) if is_ensemble(config) else [Group('', (0,), config)]


def _with_model(config: ConfigDict, changes: Mapping[str, Any]) -> ConfigDict:
    """The config of a single model that differs from `config.model` in some keys."""
    config = config.copy_and_resolve_references()
    config.lock()
    config.model.update(changes)
    with config.unlocked():
        config.ensemble = ConfigDict({**config.ensemble.to_dict(), 'size': 1, 'groups': {}})
    return config
