"""Flags: what is wrong is said in one line, at once. Whole runs are in end_to_end_test.py."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def launch(
    *flags: str, folder: Path = ROOT, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(ROOT / 'launch.py'), *flags],
        cwd=folder,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=120,
    )


def assert_refused(result: subprocess.CompletedProcess, *parts: str) -> None:
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith('error: ')
    for part in parts:
        assert part in line
    assert result.stdout == ''


def test_help_names_the_flags_without_importing_what_is_slow(tmp_path):
    for name in ('jax', 'flax', 'tensorflow_datasets', 'matplotlib', 'scipy', 'cv2'):
        (tmp_path / f'{name}.py').write_text('raise RuntimeError(__name__)\n')
    result = launch('--help', env={'PYTHONPATH': str(tmp_path)})
    assert result.returncode == 0
    assert result.stderr == ''
    for part in ('python launch.py', '--config', '--workdir', '--mode', 'prepare|train|evaluate'):
        assert part in result.stdout


@pytest.mark.parametrize(
    ('flags', 'parts'),
    [
        (['--config.sead=1'], ['--config.sead=1', '--config.seed']),
        (
            ['--config.train.batch_sise=32'],
            ['--config.train.batch_sise=32', 'nearest is --config.train.batch_size'],
        ),
        (
            ['--config.model.recurent.cell', 'gru'],
            ['--config.model.recurent.cell', 'nearest is --config.model.recurrent.cell'],
        ),
        (['--config.train.batch_size=abc'], ['--config.train.batch_size=abc', 'type int', '64']),
        (['--config.augment.enabled=maybe'], ['--config.augment.enabled=maybe', 'type bool']),
        (['--config.model.encoder=resnet50'], ['a group of keys', 'model.encoder.name']),
        (['--wrokdir=runs/a'], ['wrokdir', 'workdir']),
        (['--mode=evalute'], ['--mode=evalute', 'prepare|train|evaluate']),
        (['--checkpoint=newest'], ['--checkpoint=newest', 'best|last']),
        (['evaluate'], ['evaluate: unexpected argument', '--name=value']),
        (['--mode=evaluate'], ['--mode=evaluate needs --workdir']),
        (['--mode=evaluate', '--workdir=a,'], ['--workdir=a,: a comma without a workdir']),
        (['--mode=predict', '--workdir=a,b,./a'], ['--workdir=a,b,./a names a workdir twice']),
        (
            ['--config=configs/quickstrat.py'],
            ['--config=configs/quickstrat.py', 'nearest is configs/quickstart.py'],
        ),
        (
            ['--config=configs/quickstrat.py', '--config.seed=1'],
            ['--config=configs/quickstrat.py', 'nearest is configs/quickstart.py'],
        ),
        (
            ['--config.seed=1', '--config=configs/quickstart.py'],
            ['--config.seed=1', 'put --config first'],
        ),
    ],
)
def test_a_wrong_flag_is_one_line_with_what_was_meant(flags, parts):
    assert_refused(launch(*flags), *parts)


def test_a_config_file_with_an_error_is_one_line(tmp_path):
    text = 'from hybrid import default_config as default\n\n\n'
    text += 'def get_config():\n    config = default.get_config()\n'
    (tmp_path / 'mistyped.py').write_text(
        f"{text}    config.train.batch_size = 'abc'\n    return config\n"
    )
    assert_refused(launch(f'--config={tmp_path}/mistyped.py'), 'batch_size', 'abc', 'int')
    (tmp_path / 'broken.py').write_text('def get_config(:\n')
    assert_refused(launch(f'--config={tmp_path}/broken.py'), 'broken.py, line 1')


def test_evaluation_of_what_is_no_workdir_is_refused(tmp_path):
    path = tmp_path / 'config.json'
    evaluate = ('--mode=evaluate', f'--workdir={tmp_path}')
    assert_refused(launch(*evaluate), f'{path} does not exist', '--workdir')
    path.write_text('{"seed": 0,')
    assert_refused(launch(*evaluate), f'{path} is not valid JSON')


@pytest.fixture
def workdir(tmp_path, tiny_config):
    """A workdir whose training was killed before it saved anything."""
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'config.json').write_text(json.dumps(tiny_config.to_dict()))
    return tmp_path / 'run'


def test_another_config_in_the_workdir_is_refused(workdir):
    before = (workdir / 'config.json').read_bytes()
    result = launch(f'--workdir={workdir}', '--config.seed=1')
    assert_refused(result, f'{workdir}/config.json', '--workdir', '--overwrite_config')
    assert [path.name for path in workdir.iterdir()] == ['config.json']
    assert (workdir / 'config.json').read_bytes() == before


def test_overrides_without_config_change_what_the_workdir_holds(workdir):
    evaluate = ('--mode=evaluate', f'--workdir={workdir}')
    unknown = launch(*evaluate, '--config.data.dataset=synthetic_face')
    assert_refused(unknown, "'synthetic_face'", "Did you mean 'synthetic_faces'")
    # The rest is the workdir's, not the default's: its dataset is prepared, and is the tiny one.
    split = launch(*evaluate, '--split=tset', '--config.evaluate.batch_size=8')
    assert_refused(split, 'synthetic_faces/tiny', "'tset'", 'test, train, validation')


def test_overrides_without_config_change_the_default(tmp_path):
    flags = ['--mode=prepare', '--config.data.dataset=synthetic_faces/tiny']
    result = launch(*flags, f'--config.data.data_dir={tmp_path}/data', folder=tmp_path)
    assert (result.returncode, result.stderr) == (0, '')
    assert result.stdout.splitlines() == [
        f'preparing synthetic_faces/tiny/1.0.0 in {tmp_path}/data',
        'prepared: train 67, validation 23, test 41 examples',
        f'synthetic_faces/tiny/1.0.0 is in {tmp_path}/data/synthetic_faces/tiny/1.0.0: '
        'train 67, validation 23, test 41 examples',
    ]
    assert [path.name for path in tmp_path.iterdir()] == ['data']
