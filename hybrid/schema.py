"""What a config may hold: each key with its default, its type, its limits and its comment.

`hybrid/default_config.py` has the table of all keys. This file makes a ConfigDict from such a
table, checks one against it, and prints what it says about a key.
"""

import dataclasses
import difflib
import importlib
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

# The types that are accepted where a default has another one.
_ACCEPTED: dict[type, tuple[type, ...]] = {
    float: (float, int),
    tuple: (tuple, list),  # JSON has no tuples
    dict: (dict, ConfigDict),
}


@dataclasses.dataclass(frozen=True)
class Key:
    """One key of a config.

    Attributes:
      name: Its place in the config, with dots, such as `train.batch_size`.
      default: Its value in the default config, which also decides the type. A dict is free: its
        owner checks what it holds.
      help: What it is for, in whole sentences.
      choices: The only values that are allowed. One that is written `MODULE:NAME` stands for all
        names in that registry (a dict or a sequence, or a function that returns one). The module
        is imported when a value is checked, so whatever has been registered by then is allowed.
      at_least: Lowest value of a number.
      more_than: A number must be greater than this.
      at_most: Highest value of a number.
      less_than: A number must be smaller than this.
    """

    name: str
    default: Any
    help: str
    _: dataclasses.KW_ONLY
    choices: tuple[str, ...] = ()
    at_least: float | None = None
    more_than: float | None = None
    at_most: float | None = None
    less_than: float | None = None

    @property
    def type_name(self) -> str:
        """The name of the type that a value must have."""
        return type(self.default).__name__

    def all_choices(self) -> tuple[str, ...]:
        """The values that are allowed, those of registries included; empty if any is."""
        found: list[str] = []
        for choice in self.choices:
            module, colon, name = choice.partition(':')
            registry: Any = (choice,)
            if colon:
                registry = getattr(importlib.import_module(module), name)
                registry = registry() if callable(registry) else registry
            found.extend(registry)
        return tuple(found)

    def limits(self) -> str:
        """The choices or the range in words; '' if there are none."""
        if self.choices:
            return f'one of {", ".join(choice or repr("") for choice in self.all_choices())}'
        if self.at_least is not None and self.at_most is not None:
            return f'in {self.at_least}..{self.at_most}'
        parts = (
            (self.at_least, '{} or more'),
            (self.more_than, 'more than {}'),
            (self.at_most, 'at most {}'),
            (self.less_than, 'less than {}'),
        )
        return ' and '.join(text.format(limit) for limit, text in parts if limit is not None)

    def wanted(self) -> str:
        """Says what a value must be, to follow `KEY=VALUE: `."""
        limits = self.limits()
        return (
            f'must be of type {self.type_name}{", " if limits else ""}{limits}; the default is '
            f'{self.default!r}'
        )

    def problem(self, value: Any) -> str | None:
        """Says what is wrong with a value, to follow `KEY=VALUE`; None if it is fine."""
        kind = type(self.default)
        is_other_bool = isinstance(value, bool) and kind is not bool  # bool is a kind of int
        if is_other_bool or not isinstance(value, _ACCEPTED.get(kind, kind)):
            return f'must be of type {self.type_name}'
        if self.choices and value not in self.all_choices():
            return f'is not {self.limits()}'
        if kind not in (int, float):
            return None
        number: Any = value
        inside = (
            (self.at_least is None or number >= self.at_least)
            and (self.more_than is None or number > self.more_than)
            and (self.at_most is None or number <= self.at_most)
            and (self.less_than is None or number < self.less_than)
        )
        if not inside:
            return f'must be {self.limits()}'
        return None if math.isfinite(number) else 'must be a finite number'


class Schema:
    """All keys of a config.

    Args:
      sections: What each section is about, by its name with dots, in the order of the help.
      keys: All keys, in that order too.
    """

    def __init__(self, sections: Mapping[str, str], keys: Sequence[Key]):
        self.sections = dict(sections)
        self.keys = {key.name: key for key in keys}

    def create(self) -> ConfigDict:
        """Returns a config with all defaults, locked: a key that is misspelt is an error."""
        config = ConfigDict()
        for section in self.sections:
            parent, _, name = section.rpartition('.')
            _get(config, parent)[name] = ConfigDict()
        for key in self.keys.values():
            parent, _, name = key.name.rpartition('.')
            _get(config, parent)[name] = ConfigDict() if key.default == {} else key.default
        return config.lock()

    def check(self, config: ConfigDict) -> None:
        """Checks every value.

        Raises:
          ValueError: naming the key, its value and what it may be.
        """
        for key in self.keys.values():
            try:
                value = _get(config, key.name)
            except (AttributeError, KeyError):
                raise ValueError(
                    f'config.{key.name} is missing; a config starts from '
                    'hybrid.default_config.get_config()'
                ) from None
            if problem := key.problem(value):
                raise ValueError(f'config.{key.name}={value!r} {problem}')

    def check_changes(self, changes: Any, section: str, place: str) -> None:
        """Checks a nested dict that changes some keys of a section.

        Args:
          changes: Such as `{'recurrent': {'cell': 'gru'}}`.
          section: The section that it changes, such as `model`.
          place: How the dict is called in errors.

        Raises:
          ValueError: naming the key, its value and what it may be.
        """
        names = self._names_in(section)
        if not isinstance(changes, (dict, ConfigDict)):
            raise ValueError(f'{place}={changes!r} must be a dict of some of {", ".join(names)}')
        for name, value in changes.items():
            if name not in names:
                raise ValueError(f'{place}.{name}: no such key; there are {", ".join(names)}')
            key = self.keys.get(f'{section}.{name}')
            if key is None:
                self.check_changes(value, f'{section}.{name}', f'{place}.{name}')
            elif problem := key.problem(value):
                raise ValueError(f'{place}.{name}={value!r} {problem}')

    def wrong_name(self, name: str, prefix: str = 'config.') -> str | None:
        """Says why a name is not that of a key; None if it is, or lies in a key that is a dict.

        Args:
          name: What may be a key.
          prefix: How keys begin where the name was found.
        """
        parents = [name[:end] for end, letter in enumerate(name) if letter == '.']
        if name in self.keys or any(
            parent in self.keys and self.keys[parent].default == {} for parent in parents
        ):
            return None
        if name in self.sections:
            members = [key for key in self.keys if key.startswith(f'{name}.')]
            return f'a group of keys; set one of {", ".join(members)}'
        return f'no such key; the nearest is {prefix}{nearest(name, self.keys)}'

    def check_names(self, config: ConfigDict, place: str) -> None:
        """Checks that a config has no other keys than these; one that was unlocked may.

        Raises:
          ValueError: naming `place`, the key, and what was probably meant.
        """
        for name in flatten(config.to_dict()):
            if wrong := self.wrong_name(name):
                raise ValueError(f'{place}: config.{name}: {wrong}')

    def explain(self, name: str, prefix: str = 'config.') -> str:
        """Says why there is no such key, or what its values may be."""
        wrong = self.wrong_name(name, prefix)
        return wrong or (self.keys[name].wanted() if name in self.keys else 'must fit its group')

    def describe(self, name: str) -> str:
        """Describes a key, or a section with all keys in it, for people to read.

        Raises:
          ValueError: naming the nearest key or section, if there is none of that name.
        """
        if name in self.keys:
            return _describe(self.keys[name])
        if name not in self.sections:
            known = nearest(name, [*self.keys, *self.sections])
            raise ValueError(f'--help={name}: no such key or section; the nearest is {known}')
        parts = [f'{name}: {self.sections[name]}']
        parts += [_describe(key) for key in self.keys.values() if key.name.startswith(f'{name}.')]
        return '\n\n'.join(parts)

    def overview(self) -> str:
        """Names the sections, and the keys that are in none, one on a line."""
        rows = {key: key_.help.split('. ')[0] for key, key_ in self.keys.items() if '.' not in key}
        rows |= {name: text for name, text in self.sections.items() if '.' not in name}
        return '\n'.join(
            textwrap.fill(text, 100, initial_indent=f'  {name:16} ', subsequent_indent=' ' * 19)
            for name, text in rows.items()
        )

    def _names_in(self, section: str) -> list[str]:
        """The names directly in a section, sorted: keys and further sections."""
        start = f'{section}.'
        names = [name for name in (*self.keys, *self.sections) if name.startswith(start)]
        return sorted({name.removeprefix(start).split('.')[0] for name in names})


def flatten(config: dict[str, Any], prefix: str = '') -> dict[str, Any]:
    """{'a': {'b': 1}} to {'a.b': 1}."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f'{prefix}{name}.')
        else:
            flat[f'{prefix}{name}'] = value
    return flat


def nearest(wrong: str, known: Iterable[str]) -> str:
    """Returns the known name that looks most like the wrong one."""
    return difflib.get_close_matches(wrong, known, n=1, cutoff=0.0)[0]


def _get(config: Any, name: str) -> Any:
    for part in filter(None, name.split('.')):
        config = config[part]
    return config


def _describe(key: Key) -> str:
    limits = key.limits()
    first = f'--config.{key.name}={key.default}  ({key.type_name}{"; " if limits else ""}{limits})'
    return '\n'.join(
        [first, *textwrap.wrap(key.help, 92, initial_indent=' ' * 4, subsequent_indent=' ' * 4)]
    )
