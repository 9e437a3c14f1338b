"""Kills and signals, from outside, as they come."""

import json
import random
import re
import shutil
import signal
import time

import jax
import numpy as np
import pytest

from hybrid.runs import checkpoints, trained, workdir
from tests.launching import launch, start, tiny_flags, wait_until

# In one process of pytest, so that one run is left undisturbed.
pytestmark = [pytest.mark.end_to_end, pytest.mark.xdist_group('restart')]

STEPS = 60


def flags(data_dir, folder):
    return [
        *tiny_flags(data_dir, folder),
        f'--config.train.num_steps={STEPS}',
        '--config.train.eval_every_steps=20',
        '--config.train.checkpoint_every_steps=3',
        '--config.optimizer.ema_decay=0.99',
        '--config.data.balance=lds',
        '--config.evaluate.batch_size=16',
    ]


@pytest.fixture(scope='module')
def undisturbed(tiny_data_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp('undisturbed')
    status, _, err = launch(*flags(tiny_data_dir, folder))
    assert status == 0, err
    return folder


def rows(folder):
    """All rows of metrics.jsonl but for the speed."""
    lines = (folder / 'metrics.jsonl').read_text().splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if k != 'train/images_per_second'}
        for line in lines
    ]


def final_state(folder):
    config = workdir.load_config(folder)
    _, state = trained.restore(config, folder, 'last')
    assert int(state.step) == STEPS
    return jax.device_get(state)


def assert_same(folder, undisturbed):
    assert (folder / 'dataset.json').read_bytes() == (undisturbed / 'dataset.json').read_bytes()
    assert rows(folder) == rows(undisturbed)
    jax.tree.map(np.testing.assert_array_equal, final_state(folder), final_state(undisturbed))
    for split in ('validation', 'test'):
        for name in ('metrics.json', 'predictions.csv', 'evaluation.json'):
            path = f'evaluation/{split}/{name}'
            assert (folder / path).read_bytes() == (undisturbed / path).read_bytes()


def kill_again_and_again(folder, data_dir, times, seed):
    """Kills a run at random moments from its first checkpoint on; returns the steps reached."""
    rng = random.Random(seed)
    reached = []
    for number in range(times):
        before = [p.name for p in (folder / 'checkpoints').glob('*')] if number else []

        def progressed(before=before):
            now = [p.name for p in (folder / 'checkpoints').glob('*')]
            return bool(set(now) - set(before))

        process = start(*flags(data_dir, folder))
        wait_until(progressed, process)
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        _, err = process.communicate()
        assert process.returncode == -signal.SIGKILL, err
        assert (folder / 'metrics.jsonl').exists()
        saved = checkpoints.Checkpoints(folder, read_only=True)
        reached.append(max(saved.steps(), default=0))
        saved.close()
    return reached


def test_killed_twice_it_ends_bit_for_bit_where_it_would_have(undisturbed, tiny_data_dir, tmp_path):
    reached = kill_again_and_again(tmp_path, tiny_data_dir, times=2, seed=0)
    assert reached == sorted(reached)
    assert reached[-1] < STEPS
    status, _, err = launch(*flags(tiny_data_dir, tmp_path))
    assert status == 0, err
    if reached[-1]:
        assert f'continuing after step {reached[-1]} of {STEPS}' in err
        assert 'last bits' not in err
    assert_same(tmp_path, undisturbed)


@pytest.mark.slow
def test_killed_twenty_times(undisturbed, tiny_data_dir, tmp_path):
    kill_again_and_again(tmp_path, tiny_data_dir, times=20, seed=1)
    status, _, err = launch(*flags(tiny_data_dir, tmp_path))
    assert status == 0, err
    assert_same(tmp_path, undisturbed)


def test_sigterm_saves_and_leaves(undisturbed, tiny_data_dir, tmp_path):
    number = signal.SIGTERM
    process = start(*flags(tiny_data_dir, tmp_path))
    wait_until(lambda: (tmp_path / 'checkpoints' / '3').exists(), process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    last = err.splitlines()[-1]
    match = re.fullmatch(
        rf'{tmp_path}: stopped by {number.name} and saved after step (\d+) of {STEPS}; the same '
        'command continues from there',
        last,
    )
    assert match, err
    assert 'Traceback' not in err
    with checkpoints.Checkpoints(tmp_path, read_only=True) as saved:
        assert saved.step('last') == int(match[1])
    sessions = tmp_path / 'sessions.jsonl'
    sessions.write_text(sessions.read_text().replace('"machine": "', '"machine": "9 times '))
    status, _, err = launch(*flags(tiny_data_dir, tmp_path))
    assert status == 0, err
    assert f'{tmp_path}: so far trained with 9 times ' in err
    # Where it stopped the averages of a training row are cut in two; nothing else differs.
    evaluated = [row for row in rows(tmp_path) if 'epoch' in row]
    assert evaluated == [row for row in rows(undisturbed) if 'epoch' in row]
    jax.tree.map(np.testing.assert_array_equal, final_state(tmp_path), final_state(undisturbed))


def test_a_second_run_on_the_same_workdir_is_refused(tiny_data_dir, tmp_path):
    with workdir.lock(tmp_path):
        status, _, err = launch(*flags(tiny_data_dir, tmp_path))
    assert (status, err) == (1, f'error: {tmp_path}: another process is training there\n')


def test_a_full_disk_is_said_in_one_line_and_the_run_continues(
    undisturbed, tiny_data_dir, small_disk
):
    files = (undisturbed / 'checkpoints' / str(STEPS)).rglob('*')
    checkpoint = sum(512 * path.stat().st_blocks for path in files)
    # A third one is written before the first is removed.
    room = 5 * checkpoint // 2
    (small_disk / 'ballast').write_bytes(b'x' * (shutil.disk_usage(small_disk).free - room))
    status, _, err = launch(*flags(tiny_data_dir, small_disk))
    assert status == 1
    assert 'Traceback' not in err
    errors = [line for line in err.splitlines() if line.startswith('error:')]
    assert errors == [err.splitlines()[-1]]
    assert re.search('no space left on the device|the disk is full; make room', errors[0])
    (small_disk / 'ballast').unlink()
    status, _, err = launch(*flags(tiny_data_dir, small_disk))
    assert status == 0, err
    assert_same(small_disk, undisturbed)


def test_a_run_that_diverges_says_so_in_one_line_and_keeps_what_was_saved(tiny_data_dir, tmp_path):
    status, _, err = launch(
        *tiny_flags(tiny_data_dir, tmp_path),
        '--config.optimizer.learning_rate=1e25',
        '--config.optimizer.warmup=0.0',
        '--config.optimizer.gradient_clip=0.0',
        '--config.train.checkpoint_every_steps=1',
    )
    assert status == 1
    lines = err.splitlines()
    (error,) = [line for line in lines if line.startswith('error:')]
    assert error == lines[-1]
    bad = re.search(r'was not finite at step (\d+), which was not saved', error)
    assert bad, err
    assert 'Traceback' not in err
    with checkpoints.Checkpoints(tmp_path, read_only=True) as saved:
        assert saved.steps()[-1] == int(bad[1]) - 1
