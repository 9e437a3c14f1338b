"""Flags: what is wrong is said in one line, at once. Whole runs are in end_to_end_test.py."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hybrid import cli, default_config, options

ROOT = Path(__file__).resolve().parents[1]


# How the program is started: from a checkout, and from anywhere.
PROGRAMS = {'python launch.py': [str(ROOT / 'launch.py')], 'python -m hybrid': ['-m', 'hybrid']}


def launch(
    *flags: str,
    folder: Path = ROOT,
    env: dict[str, str] | None = None,
    program: str = 'python launch.py',
) -> subprocess.CompletedProcess:
    env = {'PYTHONPATH': str(ROOT), **(env or {})}
    return subprocess.run(
        [sys.executable, *PROGRAMS[program], *flags],
        cwd=folder,
        env={**os.environ, **env},
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


@pytest.fixture
def quick(tmp_path):
    """An environment in which what is slow to import cannot be imported."""
    for name in ('jax', 'flax', 'tensorflow_datasets', 'matplotlib', 'scipy', 'cv2'):
        (tmp_path / f'{name}.py').write_text('raise RuntimeError(__name__)\n')
    return {'PYTHONPATH': f'{tmp_path}{os.pathsep}{ROOT}'}


@pytest.mark.parametrize('program', PROGRAMS)
def test_help_names_the_flags_without_importing_what_is_slow(quick, program):
    result = launch('--help', env=quick, program=program)
    assert (result.returncode, result.stderr) == (0, '')
    for part in (program, '--config', '--workdir', '--mode', 'prepare|train|evaluate'):
        assert part in result.stdout
    for part in ('ensemble_quickstart', '\n  train  ', f'{program} --help=train.batch_size'):
        assert part in result.stdout
    (other,) = PROGRAMS.keys() - {program}
    assert other not in result.stdout


@pytest.mark.parametrize('topic', ['train.batch_size', '--config.train.batch_size'])
def test_help_of_a_key_and_of_a_section(quick, topic):
    result = launch(f'--help={topic}', env=quick)
    assert (result.returncode, result.stderr) == (0, '')
    first, second = result.stdout.splitlines()
    assert first == '--config.train.batch_size=64  (int; 1 or more)'
    assert second.startswith('    The examples in a batch, ')
    section = launch('--help=train', env=quick).stdout
    assert section.startswith('train: How long a training is')
    assert result.stdout in section
    assert '--config.train.num_steps=0' in section


def test_help_of_a_key_names_what_is_registered():
    result = launch('--help=model.recurrent.cell')
    assert '=lstm  (str; one of lstm, gru, dense, none)\n' in result.stdout
    assert_refused(launch('--help=train.batch'), '--help=train.batch: no such key', 'batch_size')


@pytest.mark.parametrize('program', PROGRAMS)
def test_both_programs_say_the_same_of_a_wrong_flag(tmp_path, program):
    flags = ['--config=quickstart', '--config.train.batch_sise=32']
    result = launch(*flags, folder=tmp_path, program=program)
    assert_refused(result, 'nearest is --config.train.batch_size')
    assert list(tmp_path.iterdir()) == []


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
            ['--config=quikstart'],
            ['--config=quikstart: no such recipe', 'nearest is quickstart'],
        ),
        (['--config.train.batch_size=0'], ['config.train.batch_size=0 must be 1 or more']),
        (['--config.loss.age', 'l2'], ["config.loss.age='l2' is not one of mse, l1, huber"]),
        (
            ['--config.model.encoder.name=resnet20', '--config=configs/ensemble_quickstart.py'],
            ["config.model.encoder.name='resnet20' is not one of ", 'resnet18, '],
        ),
        (
            ['--config=ensemble_quickstart', '--config.ensemble.groups.gru.size=0'],
            ['config.ensemble.groups.gru.size=0 must be'],
        ),
        (['--config.data.parameters.n=3'], ['parameters.n=3: the config has no such entry']),
    ],
)
def test_a_wrong_flag_is_one_line_with_what_was_meant(flags, parts):
    assert_refused(launch(*flags), *parts)


@pytest.mark.parametrize(
    'value',
    ['{"align": true, "csv": "a"}', "{'align': True, 'csv': 'a'}", '{"align":true,"csv":"a"}'],
)
def test_a_dict_may_be_json_or_python(value):
    for words in ([f'--config.data.parameters={value}'], ['--config.data.parameters', value]):
        rest, changes = options._split(['launch.py', *words])
        assert rest == ['launch.py']
        config = default_config.get_config()
        options._apply(config, changes)
        assert config.data.parameters.to_dict() == {'align': True, 'csv': 'a'}


def test_an_empty_value_takes_away_what_a_key_of_several_held():
    config = default_config.get_config()
    words = ('--config.model.encoder.allow_missing=layer4', '--config.model.encoder.allow_missing=')
    assert options._apply(config, list(words)) == {'model.encoder.allow_missing': ()}
    config.evaluate.scales = (0.9, 1.1)
    options._apply(config, ['--config.evaluate.scales='])
    assert config.evaluate.scales == config.model.encoder.allow_missing == ()
    options._apply(config, ['--config.evaluate.scales=', '--config.evaluate.scales=0.8'])
    assert config.evaluate.scales == (0.8,)


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
    tiny_config.model.encoder.name = 'resnet18'  # `tiny` is known to these tests alone.
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


def test_a_notebook_lives_on_after_a_mistake_and_the_next_run_starts_from_the_defaults():
    program = f"""
import logging, runpy, signal, sys, threading
sys.modules['ipykernel'] = sys
sys.path.insert(0, {str(ROOT)!r})
from absl import logging as absl_logging
hooks = lambda: (threading.excepthook, sys.unraisablehook, signal.getsignal(signal.SIGTERM),
                 absl_logging.get_verbosity(), logging.getLogger('asyncio').level)
before = hooks()
for flags in ['--mode=predict --workdir=/nowhere --config.train.batch_size=4',
              '--mode=nonsense', '--config.train.batch_size=0']:
    sys.argv = ['launch.py', *flags.split()]
    try:
        runpy.run_path({str(ROOT / 'launch.py')!r}, run_name='__main__')
    except SystemExit as error:
        print('exit', error.code)
print(hooks() == before, logging.getLogger('hybrid').handlers)
"""
    result = subprocess.run(
        [sys.executable, '-c', program], capture_output=True, text=True, timeout=120
    )
    assert result.stdout.splitlines()[::2] == ['exit 1', 'exit 1']
    assert result.stdout.splitlines()[1].startswith('exit error: flag --mode=nonsense')
    assert result.stdout.splitlines()[-1] == 'True []'
    first, last = result.stderr.splitlines()
    assert first.startswith('error: /nowhere/config.json does not exist')
    # Without --mode the program trains: the mode of the first run is forgotten.
    assert last == 'error: config.train.batch_size=0 must be 1 or more'


@pytest.mark.parametrize(
    ('error', 'line'),
    [
        (OverflowError('too\nlarge'), 'OverflowError: too large; --debug shows where in'),
        (KeyError('age'), "KeyError: 'age'; --debug shows"),
        (ValueError('config.seed=x'), 'config.seed=x'),
        (MemoryError('17 GiB'), 'not enough memory (17 GiB); a smaller batch size may help'),
        (OSError(errno.ENOSPC, 'No space'), '[Errno 28] No space: the disk is full; make room'),
    ],
)
def test_every_error_is_one_line(error, line):
    text = cli.explain(error)
    assert text.startswith(line)
    assert '\n' not in text
