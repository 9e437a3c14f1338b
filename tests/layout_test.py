"""The rooms of the house: imports go one way, and one file alone knows each large library."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / 'hybrid'
# From the top down: a wing imports only wings further down, and files of its own.
WINGS = [
    *('cli', 'api', 'modes', 'weights', 'runs', 'training', 'models', 'ops', 'data', 'photos'),
    *('datasets', 'scores', 'devices', 'files'),
]
MOST_ENTRIES = 20


def files():
    return sorted(PACKAGE.rglob('*.py'))


def imported(path):
    """What a file imports, as dotted names; names that are imported from a module included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f'{node.module}.{alias.name}' for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def wing(path):
    parts = path.relative_to(PACKAGE).with_suffix('').parts
    return parts[0] if parts[0] in WINGS else None


@pytest.mark.parametrize('path', files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    here = wing(path)
    for name in imported(path):
        package, _, rest = name.partition('.')
        there = rest.split('.')[0]
        if here is None or package != 'hybrid' or there not in WINGS:
            continue
        assert WINGS.index(there) >= WINGS.index(here), f'{path} imports {name}'


def test_the_house_is_small_enough_to_see_through():
    entries = [path.name for path in PACKAGE.iterdir() if path.name != '__pycache__']
    assert len(entries) <= MOST_ENTRIES, sorted(entries)


@pytest.mark.parametrize(
    ('words', 'only'),
    [(('jax.pmap', 'shard_map'), 'devices.py'), (('orbax',), 'runs/checkpoints.py')],
)
def test_one_file_alone_knows(words, only):
    for path in files():
        if str(path.relative_to(PACKAGE)) == only:
            continue
        found = [name for name in imported(path) if any(word in name for word in words)]
        assert not found, f'{path} imports {found}'


@pytest.mark.parametrize(
    ('folder', 'never'),
    [
        ('hybrid', {'benchmarks', 'tests', 'tools'}),
        ('tools', {'benchmarks', 'tests'}),
        ('benchmarks', {'tests', 'tools'}),
    ],
)
def test_programs_import_the_package_and_no_tests(folder, never):
    paths = sorted((PACKAGE.parent / folder).rglob('*.py'))
    assert paths
    for path in paths:
        assert not never & {name.split('.')[0] for name in imported(path)}, path
