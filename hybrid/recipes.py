"""Recipes: the configs that come with the package, and those in files of your own.

A recipe is a Python file with a function `get_config()`. It starts from the default config, or from
another recipe:

    from hybrid import recipes


    def get_config():
        config = recipes.get_config('quickstart')
        config.train.num_epochs = 2.0
        return config
"""

import importlib.util
import os
import pathlib
import re
import traceback
import types

from ml_collections import ConfigDict

from hybrid import default_config, files
from hybrid.schema import nearest

_PACKAGE = pathlib.Path(__file__).resolve().parent
# A wheel carries the folder configs/ of the repository inside the package.
FOLDER = _PACKAGE / 'configs' if (_PACKAGE / 'configs').is_dir() else _PACKAGE.parent / 'configs'
# Recipes that have been run, by file and content.
_LOADED: dict[tuple[pathlib.Path, bytes], types.ModuleType] = {}


def names() -> list[str]:
    """Returns the names of the recipes that come with the package."""
    return sorted(path.stem for path in FOLDER.glob('*.py'))


def find(name: str | os.PathLike[str]) -> pathlib.Path:
    """Returns the file of a recipe.

    Args:
      name: The name of a recipe of the package, such as 'quickstart', or the path of a file.

    Raises:
      FileNotFoundError: if there is no such recipe; names the nearest.
      ValueError: if the file is no Python.
    """
    path = files.expanded(name)
    if path.suffix == '.py' or path.name != str(name):
        known = [os.path.relpath(file) for file in sorted(FOLDER.glob('*.py'))]
    else:
        path, known = FOLDER / f'{name}.py', names()
    if path.is_file() and path.suffix != '.py':
        raise ValueError(
            f'{path}: a recipe is a .py file with a function get_config; the settings of a run are '
            'taken by --workdir'
        )
    if not path.is_file():
        raise FileNotFoundError(
            f'{name}: no such recipe; the nearest is {nearest(str(name), known)}'
        )
    return path


def get_config(name: str | os.PathLike[str]) -> ConfigDict:
    """Builds the config of a recipe.

    Args:
      name: The name of a recipe of the package, such as 'quickstart', or the path of a file.

    Raises:
      FileNotFoundError: if there is no such recipe; names the nearest.
      ValueError: if the file cannot be run or returns no config; names the file and the line.
    """
    path = find(name)
    # A recipe may register an encoder or a dataset, which can be done once.
    key = path.resolve(), path.read_bytes()
    if key in _LOADED:
        return _LOADED[key].get_config()
    spec = importlib.util.spec_from_file_location(f'recipe_{path.stem}', path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config()
    except Exception as error:
        raise ValueError(_explain(path, error)) from error
    if not isinstance(config, ConfigDict):
        raise ValueError(f'{path}: get_config() returned {config!r}, which is no ConfigDict')
    default_config.SCHEMA.check_names(config, str(path))
    _LOADED[key] = module
    return config


def _explain(path: pathlib.Path, error: Exception) -> str:
    """Says in one line where and why a recipe failed."""
    if isinstance(error, SyntaxError):
        return f'{path}, line {error.lineno}: {error.msg}'
    message = ' '.join(f'{type(error).__name__}: {error}'.split())
    lines = [
        at
        for at in traceback.extract_tb(error.__traceback__)
        if at.filename == os.path.abspath(path)
    ]
    if not lines:
        return f'{path}: {message}'
    code = lines[-1].line or ''
    assignment = re.match(r'\w+\.([\w.]+) *=', code)
    # What ConfigDict says of a key or a type that it refuses; the schema knows what was meant.
    if assignment and re.search('config is locked|Could not override field', message):
        message = default_config.SCHEMA.explain(assignment[1])
    return f'{path}, line {lines[-1].lineno}: {code}: {message}'
