"""Settings that must stand before JAX is imported, the options --slow and --quick, real data."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from absl import flags

from tests import launching

ROOT = Path(__file__).resolve().parents[1]
QUICK_LEAVES_OUT = ('end_to_end', 'real_archive', 'long')

# Environment variables rather than jax.config, so that a launch.py started by a test has them too.
os.environ['XLA_FLAGS'] = ' '.join(
    [
        os.environ.get('XLA_FLAGS', ''),
        '--xla_force_host_platform_device_count=4',
        *launching.COMPILE_QUICKLY,
    ]
).strip()
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
# Only matters where JAX_PLATFORMS names a GPU: the default there is TF32.
os.environ.setdefault('JAX_DEFAULT_MATMUL_PRECISION', 'highest')
# Many tests compile the same narrow model. `pytest --cache-clear` empties the folder.
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(ROOT / '.pytest_cache/d/jax'))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.3')
os.environ.setdefault('MPLBACKEND', 'Agg')

# Grain reads absl flags, which nobody parses under pytest.
flags.FLAGS.mark_as_parsed()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption('--slow', action='store_true', help='also run the tests marked slow')
    parser.addoption(
        '--quick',
        action='store_true',
        help=f'leave out the tests marked slow, {", ".join(QUICK_LEAVES_OUT)}',
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out slow tests unless --slow is given, and those that --quick leaves out if it is."""
    if config.getoption('--slow') and config.getoption('--quick'):
        raise pytest.UsageError('--slow and --quick exclude each other: give one of them')
    unwanted = []
    if not config.getoption('--slow'):
        unwanted.append('slow')
    if config.getoption('--quick'):
        unwanted += QUICK_LEAVES_OUT
    kept, left_out = [], []
    for item in items:
        marker = next((name for name in unwanted if item.get_closest_marker(name)), None)
        if marker is None:
            kept.append(item)
        else:
            left_out.append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=left_out)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says which tests were left out: collecting is the workers' business, and they do not say."""
    if not terminalreporter.config.getoption('--slow'):
        terminalreporter.write_line('left out: tests marked slow, run them with --slow')
    if terminalreporter.config.getoption('--quick'):
        names = ', '.join(QUICK_LEAVES_OUT)
        terminalreporter.write_line(f'left out: tests marked {names}, run without --quick')


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """The folder of real data beside the checkout; a test that asks for it is skipped elsewhere."""
    folder = ROOT.parent / 'shared' / 'data'
    if not folder.is_dir():
        pytest.skip(f'no real data: {folder} does not exist')
    return folder


@pytest.fixture(scope='session')
def tiny_data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data_dir in which synthetic_faces/tiny is prepared."""
    from hybrid import datasets

    folder = tmp_path_factory.mktemp('data')
    datasets.prepare(datasets.create_builder('synthetic_faces/tiny', str(folder)))
    return folder


@pytest.fixture(scope='session')
def tiny_builder(tiny_data_dir: Path):
    """The prepared builder of synthetic_faces/tiny: 67, 23 and 41 examples, some labels unknown."""
    from hybrid import datasets

    return datasets.create_builder('synthetic_faces/tiny', str(tiny_data_dir))


@pytest.fixture(scope='session', autouse=True)
def tiny_encoder() -> None:
    """An encoder `tiny` of one block in each of two stages, for tests that train.

    Each block takes seconds of compiling, and two are of both kinds: with and without a convolution
    in the shortcut. Of 32 px they leave a sequence of 4 x 4 patches, ResNet-18 one patch.
    """
    from hybrid.models import encoders, resnet

    encoders.register('tiny', resnet.encoder((1, 1), 'basic'))


@pytest.fixture(scope='session')
def create_tiny_config(tiny_data_dir: Path):
    """Creates what `tiny_config` is, for fixtures of a wider scope."""
    from hybrid import default_config

    def create():
        config = default_config.get_config()
        config.data.dataset = 'synthetic_faces/tiny'
        config.data.data_dir = str(tiny_data_dir)
        config.data.resize_size = 36
        config.data.image_size = 32
        config.data.num_threads = 2
        config.model.encoder.name = 'tiny'
        config.model.encoder.width = 4
        config.model.recurrent.features = 8
        config.train.batch_size = 8
        config.train.num_steps = 6
        config.train.log_every_steps = 2
        config.train.eval_every_steps = 4
        config.evaluate.batch_size = 16
        return config

    return create


@pytest.fixture
def tiny_config(create_tiny_config):
    """A config that trains a narrow network on synthetic_faces/tiny in seconds."""
    return create_tiny_config()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 12 MiB, for a test of a full disk; needs the right to mount."""
    folder = tmp_path / 'small'
    folder.mkdir()
    command = ['mount', '-t', 'tmpfs', '-o', 'size=12m', 'tmpfs', str(folder)]
    if shutil.which('mount') is None or subprocess.run(command, check=False).returncode:
        pytest.skip('may not mount a small file system here')
    yield folder
    subprocess.run(['umount', str(folder)], check=True)


@pytest.fixture(scope='session')
def two_datasets_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data_dir in which face_csv/a and face_csv/b of `tests/two_datasets.py` are prepared."""
    from tests import two_datasets

    return two_datasets.prepare(tmp_path_factory.mktemp('two'))
