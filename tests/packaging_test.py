"""What pip reads: pyproject.toml and constraints.txt, and what importing the package costs."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import hybrid

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
CONFIGURATION = (
    *('pyproject.toml', 'constraints.txt', '.pre-commit-config.yaml'),
    *('.github/workflows/ci.yml', 'CITATION.cff'),
)
EXTRAS = PROJECT['optional-dependencies']
CITATION = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
PINS = [
    Requirement(line)
    for line in (ROOT / 'constraints.txt').read_text().splitlines()
    if not line.startswith('#')
]


def pins_on(python_version: str) -> dict[str, str]:
    """Returns {package: version} of the pins that hold on a Python; fails where two hold."""
    pins: dict[str, str] = {}
    for pin in PINS:
        if pin.marker and not pin.marker.evaluate({'python_version': python_version}):
            continue
        assert canonicalize_name(pin.name) not in pins, pin
        (specifier,) = pin.specifier
        assert specifier.operator == '==', pin
        pins[canonicalize_name(pin.name)] = specifier.version
    return pins


@pytest.mark.parametrize('python_version', ['3.11', '3.12', '3.13', '3.14'])
def test_every_dependency_has_one_pin_within_its_bounds(python_version: str) -> None:
    pins = pins_on(python_version)
    for text in PROJECT['dependencies'] + EXTRAS['test']:
        requirement = Requirement(text)
        version = pins[canonicalize_name(requirement.name)]
        assert version in requirement.specifier, f'{text} is pinned to {version}'


def test_python_311_has_the_last_jax_that_supports_it() -> None:
    pins = {version: pins_on(version) for version in ('3.11', '3.12', '3.13', '3.14')}
    assert pins['3.11']['jax'].startswith('0.10.')
    for python_version, pinned in pins.items():
        assert pinned['jax'] == pinned['jaxlib']
        assert pinned['jax'] == pins['3.12']['jax'] or python_version == '3.11'


@pytest.mark.parametrize('name', CONFIGURATION)
def test_no_host_is_named(name: str) -> None:
    found = re.findall(r'\w+://\S*|\S+\.(?:com|dev|io|net|org)\b', (ROOT / name).read_text())
    assert found == []


def test_versions_agree() -> None:
    version = hybrid.__version__
    assert CITATION['version'] == version
    headings = re.findall(r'^## (\S+)', (ROOT / 'CHANGELOG.md').read_text(), re.MULTILINE)
    assert version in headings[:2]


def test_the_citation_is_of_this_project_and_complete() -> None:
    # The keys that version 1.2.0 of the Citation File Format requires.
    assert {'authors', 'cff-version', 'message', 'title'} <= CITATION.keys()
    assert CITATION['cff-version'] == '1.2.0'
    assert CITATION['title'].startswith(PROJECT['name'])
    assert CITATION['license'] == PROJECT['license']
    for reference in CITATION['references']:
        assert {'authors', 'title', 'type', 'year', 'doi'} <= reference.keys()


def test_the_workflow_runs_ci_on_the_oldest_and_a_newer_python() -> None:
    workflow = yaml.safe_load((ROOT / '.github/workflows/ci.yml').read_text())
    *_, python, run = workflow['jobs']['ci']['steps']
    assert run == {'run': 'bash .ci/run'}
    versions = python['with']['python-version'].split()
    assert f'>={versions[0]}' == PROJECT['requires-python']
    assert len(versions) == 2


def run(*arguments: str, folder: Path, path: Path) -> subprocess.CompletedProcess:
    """Runs Python in a folder, with another folder first on its path."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, 'PYTHONPATH': str(path)},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope='module')
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel of a copy of the checkout, where building may leave files."""
    source, target = tmp_path_factory.mktemp('source'), tmp_path_factory.mktemp('wheel')
    for folder in ('hybrid', 'configs'):
        shutil.copytree(
            ROOT / folder, source / folder, ignore=shutil.ignore_patterns('__pycache__')
        )
    for name in ('pyproject.toml', 'setup.py', 'README.md', 'LICENSE'):
        shutil.copy(ROOT / name, source)
    command = ['-m', 'pip', 'wheel', '-q', '--no-deps', '--no-build-isolation', '--no-index']
    built = run(*command, '-w', str(target), str(source), folder=source, path=source)
    assert built.returncode == 0, built.stderr
    (path,) = target.glob('*.whl')
    assert path.name == f'hybrid-{hybrid.__version__}-py3-none-any.whl'
    return zipfile.ZipFile(path)


def test_a_wheel_holds_the_package_and_the_recipes_in_it(wheel: zipfile.ZipFile) -> None:
    files = {name for name in wheel.namelist() if '.dist-info/' not in name}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / 'hybrid').rglob('*.py')}
    recipes = {f'hybrid/configs/{path.name}' for path in (ROOT / 'configs').glob('*.py')}
    assert {name for name in files if name.endswith('.py')} == modules | recipes
    assert {name.split('/')[0] for name in files} == {'hybrid'}
    data = ('datasets/utkface/README.md', 'modes/pages/page.css', 'modes/serving/demo.html')
    assert {f'hybrid/{name}' for name in data} <= files


def test_an_installed_package_knows_its_recipes(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    package, empty = tmp_path / 'installed', tmp_path / 'empty'
    wheel.extractall(package)
    empty.mkdir()
    program = (
        'from hybrid import recipes\n'
        'for name in recipes.names(): print(name, recipes.get_config(name).data.dataset)\n'
        "print(recipes.find('quickstart'))\n"
    )
    result = run('-c', program, folder=empty, path=package)
    assert (result.returncode, result.stderr) == (0, '')
    *loaded, found = result.stdout.splitlines()
    names = [line.split()[0] for line in loaded]
    assert names == sorted(path.stem for path in (ROOT / 'configs').glob('*.py'))
    assert 'utkface_coral_21_60 utkface/coral_21_60' in loaded
    assert found == str(package / 'hybrid/configs/quickstart.py')


def test_an_installed_package_runs_anywhere(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    package, empty = tmp_path / 'installed', tmp_path / 'empty'
    wheel.extractall(package)
    empty.mkdir()
    help_ = run('-m', 'hybrid', '--config=quickstart', '--help', folder=empty, path=package)
    assert help_.returncode == 0
    assert 'python -m hybrid --help=train' in help_.stdout
    # It reads the recipe, and gets as far as the dataset.
    flags = ['--config=ensemble_quickstart', '--config.data.dataset=faces', '--mode=prepare']
    refused = run('-m', 'hybrid', *flags, folder=empty, path=package)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: data.dataset='faces': no dataset 'faces'.")
    assert list(empty.iterdir()) == []


def test_importing_the_package_imports_nothing_heavy() -> None:
    program = 'import sys, hybrid; print(*sorted({m.split(".")[0] for m in sys.modules}))'
    output = subprocess.run(
        [sys.executable, '-c', program], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    heavy = {'jax', 'flax', 'numpy', 'tensorflow', 'tensorflow_datasets', 'torch'}
    assert heavy & set(output.split()) == set()
    assert 'hybrid' in output.split()
