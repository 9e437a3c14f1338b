"""Several datasets in a config, `data.dataset='utkface,imdb_wiki/wiki'`, and what belongs to each.

A config of one dataset is what it was; the functions here give it back as it is.
"""

import math
from collections.abc import Iterable

from ml_collections import ConfigDict


def names(data: ConfigDict) -> list[str]:
    """The names of the datasets that a `config.data` names, in their order."""
    return [name.strip() for name in data.dataset.split(',')]


def sections(data: ConfigDict) -> list[ConfigDict]:
    """A `config.data` for each dataset alone: with its own parameters and its own manual_dir.

    Args:
      data: The `config.data` of one dataset or several; such as `check` lets pass.
    """
    found = names(data)
    if len(found) == 1:
        return [data]
    folders = data.manual_dir.split(',')
    folders = folders * len(found) if len(folders) == 1 else folders
    parts = []
    for name, folder in zip(found, folders, strict=True):
        part = data.copy_and_resolve_references()
        part.dataset, part.manual_dir, part.weights = name, folder.strip(), ''
        part.parameters = ConfigDict(data.parameters.get(name, {}))
        parts.append(part)
    return parts


def each(config: ConfigDict) -> list[ConfigDict]:
    """A config for each dataset alone, which differs in `config.data` as `sections` says."""
    parts = sections(config.data)
    return [config] if len(parts) == 1 else [with_section(config, part) for part in parts]


def with_section(config: ConfigDict, data: ConfigDict) -> ConfigDict:
    """A copy of a config with another `config.data`."""
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.data = data
    return config


def settle(data: ConfigDict, before: ConfigDict, changed: Iterable[str]) -> None:
    """Takes out of a run's config what belongs to its own datasets, if others were put there.

    Args:
      data: The `config.data` of the run with overrides; is changed in place.
      before: A copy of what it was without.
      changed: The keys that were overridden, such as `data.dataset`.
    """
    found, own = names(data), sections(before)
    if found == [part.dataset for part in own]:
        return
    parts = {part.dataset: part for part in own if part.dataset in found}
    if not any(f'{key}.'.startswith('data.parameters.') for key in changed):
        parameters = {name: part.parameters for name, part in parts.items() if part.parameters}
        data.parameters = ConfigDict(parameters if len(found) > 1 else parameters.get(found[0], {}))
    if 'data.manual_dir' not in changed:
        # A variant of a dataset is made of the same files, if another folder is not known.
        known = {_made_of(part.dataset): part.manual_dir for part in own}
        known |= {name: part.manual_dir for name, part in parts.items()}
        folders = [known.get(name, known.get(_made_of(name), '')) for name in found]
        data.manual_dir = folders[0] if len(set(folders)) == 1 else ','.join(folders)
    if 'data.weights' not in changed:
        data.weights = ''


def _made_of(name: str) -> str:
    """The name of a dataset's files: its variants share them, one's own tables do not."""
    builder = name.split('/')[0]
    return name if builder == 'face_csv' else builder


def weights(data: ConfigDict) -> list[float] | None:
    """The weight of each dataset; None where they are to be weighted by their sizes."""
    return [float(text) for text in data.weights.split(',')] if data.weights else None


def check(data: ConfigDict) -> None:
    """Checks that a `config.data` says of several datasets what it says of each.

    Raises:
      ValueError: naming the key, its value and what it may be.
    """
    found = names(data)
    if len(found) == 1:
        for name, value in data.parameters.items():
            if isinstance(value, ConfigDict):
                raise ValueError(
                    f'config.data.parameters has those of {name}, but config.data.dataset='
                    f'{data.dataset} is one dataset; --config.data.parameters={{}} takes its own '
                    'defaults'
                )
        return
    place = f'config.data.dataset={data.dataset}'
    if not all(found):
        raise ValueError(f'{place}: a comma without a dataset beside it')
    if len(set(found)) < len(found):
        raise ValueError(f'{place} names a dataset twice')
    if data.manual_dir.count(',') not in (0, len(found) - 1):
        raise ValueError(
            f'config.data.manual_dir={data.manual_dir} must be one folder for all {len(found)} '
            'datasets, or one for each, separated by commas'
        )
    for name, own in data.parameters.items():
        if name not in found or not isinstance(own, ConfigDict):
            raise ValueError(
                f'config.data.parameters: {name!r} is not one of {", ".join(found)} with a dict; '
                f'the parameters of several datasets are by their names: {{"{found[-1]}": {{...}}}}'
            )
    _check_weights(data, len(found))


def _check_weights(data: ConfigDict, count: int) -> None:
    try:
        values = weights(data)
    except ValueError:
        values = [math.nan]
    if values is not None and not (
        len(values) == count and all(0 < value < math.inf for value in values)
    ):
        raise ValueError(
            f'config.data.weights={data.weights} must be {count} positive numbers, one for each '
            "dataset, separated by commas; '' weights them by their sizes"
        )
