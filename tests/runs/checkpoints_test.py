import errno
import os
import shutil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid import devices
from hybrid.runs import checkpoints, recovery
from hybrid.runs.damage import DamagedCheckpointError


def state(value):
    return devices.replicate({'w': np.full((3, 4), value, np.float32), 'step': np.int32(value)})


def restore_latest(saved, like):
    restored = recovery.restore_latest(saved, checkpoints.abstract(like, devices.replicated()))
    assert restored is not None
    return restored


def save(saved, step, mae=None):
    saved.save(
        step, state(step), {'next_index': 8 * step}, {'seed': 1}, {} if mae is None else {None: mae}
    )


@pytest.mark.parametrize('group', [False, True])
def test_variables_are_read_without_the_optimisers_state(tmp_path, group):
    one: dict[str, Any] = {
        'member': np.int32(3),
        'opt_state': [{'mu': np.ones(4, np.float32)}, {'count': np.int32(5)}],
        'params': {'opt_state': {'kernel': np.arange(6, dtype=np.float32).reshape(2, 3)}},
    }
    saved_state = {'opt_state': one} if group else one
    with checkpoints.Checkpoints(tmp_path) as saved:
        saved.save(1, devices.replicate(saved_state), {}, {})
        saved.wait()
    with checkpoints.Checkpoints(tmp_path, read_only=True) as saved:
        read = saved.variables(1)
    read = read['opt_state'] if group else read
    assert read.keys() == {'member', 'params'}
    assert read['member'] == 3
    kernel = read['params']['opt_state']['kernel']
    assert isinstance(kernel, np.ndarray)
    np.testing.assert_array_equal(kernel, one['params']['opt_state']['kernel'])


def test_best_and_latest_are_kept(tmp_path):
    saved = checkpoints.Checkpoints(tmp_path)
    for step, mae in [(1, 5.0), (2, 3.0), (3, None), (4, 4.0), (5, None), (6, 3.5)]:
        save(saved, step, mae)
    saved.wait()
    assert saved.steps() == [2, 5, 6]
    assert (saved.step('best'), saved.step('last')) == (2, 6)
    saved.close()


def test_restore_gives_back_bits_and_place_in_the_data(tmp_path):
    saved = checkpoints.Checkpoints(tmp_path)
    save(saved, 7, 1.0)
    saved.close()
    reader = checkpoints.Checkpoints(tmp_path, read_only=True)
    target = checkpoints.abstract(state(0), devices.replicated())
    restored, data_state = reader.restore(reader.step('last'), target)
    jax.tree.map(np.testing.assert_array_equal, restored, state(7))
    assert data_state == {'next_index': 56}
    assert restored['w'].sharding == devices.replicated()


def test_scores_of_members_are_kept_with_the_checkpoint_that_they_are_of(tmp_path):
    saved = checkpoints.Checkpoints(tmp_path)
    saved.save(1, state(1), {}, {}, {None: 3.0, 0: 4.0, 2: 5.0})
    saved.save(2, state(2), {}, {}, {0: 1.0})
    saved.wait()
    assert saved.scores(1) == {None: 3.0, 0: 4.0, 2: 5.0}
    # Without a score of the whole there is none of members either.
    assert saved.scores(2) == {}
    assert saved.step('best') == 1
    saved.close()


def test_training_on_at_once_does_not_change_what_is_saved(tmp_path):
    """The step consumes the state whose saving is still under way."""
    step = devices.compile_train_step(lambda s, b: (jax.tree.map(lambda x: x * 2 + 1, s), {}))
    batch = {'x': np.zeros((4,), np.float32)}
    big = np.arange(2_000_000, dtype=np.float32)
    current = devices.replicate({'w': big})
    saved = checkpoints.Checkpoints(tmp_path)
    saved.save(1, current, {}, {}, {None: 1.0})
    for _ in range(5):
        current, _ = step(current, devices.shard_batch(batch))
    jax.block_until_ready(current)
    saved.wait()
    target = checkpoints.abstract({'w': jnp.asarray(big)}, devices.replicated())
    restored, _ = saved.restore(1, target)
    np.testing.assert_array_equal(restored['w'], big)
    saved.close()


def test_what_is_missing_is_said(tmp_path):
    reader = checkpoints.Checkpoints(tmp_path / 'nowhere', read_only=True)
    assert reader.steps() == []
    with pytest.raises(FileNotFoundError, match='no checkpoint there'):
        reader.step('best')
    with pytest.raises(ValueError, match='--checkpoint=first is not one of best, last'):
        reader.step('first')
    assert not (tmp_path / 'nowhere').exists()
    saved = checkpoints.Checkpoints(tmp_path)
    save(saved, 1)
    saved.wait()
    with pytest.raises(FileNotFoundError, match='no checkpoint was validated yet'):
        saved.step('best')
    saved.close()


@pytest.mark.parametrize('part', ['state/manifest.ocdbt', 'data/metadata', 'metrics/metrics'])
@pytest.mark.parametrize('how', ['empty', 'half', 'no entries'])
def test_a_damaged_checkpoint_is_passed_over(tmp_path, part, how, caplog):
    saved = checkpoints.Checkpoints(tmp_path)
    save(saved, 1, 1.0)
    save(saved, 2, 0.5)
    saved.close()
    path = tmp_path / 'checkpoints' / '2' / part
    content = path.read_bytes()
    damaged = {'empty': b'', 'half': content[: len(content) // 2], 'no entries': b'{}'}
    path.write_bytes(damaged[how])
    target = checkpoints.abstract(state(0), devices.replicated())
    message = r'checkpoints/2\b.* is damaged \(.*\); rename the folder of that checkpoint'
    with (
        pytest.raises(DamagedCheckpointError, match=message),
        checkpoints.Checkpoints(tmp_path, read_only=True) as reader,
    ):
        reader.restore(2, target)
    saved = checkpoints.Checkpoints(tmp_path)
    step, restored, data_state = restore_latest(saved, state(0))
    assert (step, data_state) == (1, {'next_index': 8})
    jax.tree.map(np.testing.assert_array_equal, restored, state(1))
    assert 'checkpoints/2' in caplog.text
    assert 'damaged' in caplog.text
    assert 'rename' not in caplog.text  # A training does that itself.
    # The step can be saved again, and what was damaged is still there to be looked at.
    save(saved, 2, 0.5)
    saved.wait()
    assert restore_latest(saved, state(0))[0] == 2
    assert (tmp_path / 'checkpoints' / 'damaged-2-0').is_dir()
    saved.close()


def damage(folder, step, part='state/manifest.ocdbt'):
    (folder / 'checkpoints' / str(step) / part).write_bytes(b'')


def test_when_nothing_can_be_read_nothing_is_touched(tmp_path):
    saved = checkpoints.Checkpoints(tmp_path)
    save(saved, 1, 1.0)
    save(saved, 2, 2.0)
    saved.close()
    damage(tmp_path, 1)
    damage(tmp_path, 2)
    with checkpoints.Checkpoints(tmp_path) as again:
        with pytest.raises(DamagedCheckpointError, match=r'can be read \(steps \[2, 1\]'):
            restore_latest(again, state(0))
        assert again.steps() == [1, 2]


def test_damage_can_come_again(tmp_path):
    for time in range(2):
        with checkpoints.Checkpoints(tmp_path) as saved:
            if not time:
                save(saved, 1, 1.0)
            save(saved, 2, 0.5)
        damage(tmp_path, 2, 'metrics/metrics')
        with pytest.raises(DamagedCheckpointError, match=r'2/metrics/metrics is damaged'):
            checkpoints.Checkpoints(tmp_path, read_only=True)
        with checkpoints.Checkpoints(tmp_path) as saved:
            assert restore_latest(saved, state(0))[0] == 1
    assert sorted(p.name for p in (tmp_path / 'checkpoints').glob('damaged*')) == [
        'damaged-2-0',
        'damaged-2-1',
    ]


def test_the_metrics_of_what_was_not_saved_to_its_end_do_not_matter(tmp_path):
    with checkpoints.Checkpoints(tmp_path) as saved:
        save(saved, 1, 1.0)
    torn = tmp_path / 'checkpoints/2.orbax-checkpoint-tmp/metrics/metrics'
    torn.parent.mkdir(parents=True)
    torn.touch()
    for read_only in (True, False):
        with checkpoints.Checkpoints(tmp_path, read_only=read_only) as saved:
            assert saved.steps() == [1]


def test_a_run_does_not_begin_anew_because_all_metrics_are_damaged(tmp_path):
    with checkpoints.Checkpoints(tmp_path) as saved:
        save(saved, 1, 1.0)
    damage(tmp_path, 1, 'metrics/metrics')
    with pytest.raises(DamagedCheckpointError, match='those of all checkpoints there; rename'):
        checkpoints.Checkpoints(tmp_path)
    assert [path.name for path in (tmp_path / 'checkpoints').glob('*1*')] == ['1']


def test_a_damaged_best_gives_way_to_the_next_best(tmp_path):
    with checkpoints.Checkpoints(tmp_path) as saved:
        for step, score in [(1, 1.0), (2, 3.0), (3, 2.0)]:
            save(saved, step, score)
        saved.wait()
        damage(tmp_path, 1)
        target = checkpoints.abstract(state(0), devices.replicated())
        step, restored = recovery.restore_best(saved, target)
        assert step == 3
        jax.tree.map(np.testing.assert_array_equal, restored, state(3))


def test_a_save_that_was_cut_off_is_not_seen(tmp_path):
    saved = checkpoints.Checkpoints(tmp_path)
    save(saved, 1, 1.0)
    saved.close()
    cut_off = tmp_path / 'checkpoints' / '2.orbax-checkpoint-tmp'
    shutil.copytree(tmp_path / 'checkpoints' / '1', cut_off)
    saved = checkpoints.Checkpoints(tmp_path)
    assert saved.steps() == [1]
    saved.close()


def test_a_full_disk_leaves_the_last_checkpoint_usable_and_says_so(small_disk):
    (small_disk / 'ballast').write_bytes(b'x' * 9_000_000)
    big = {'w': np.random.default_rng(0).random((700, 700), np.float32)}
    saved = checkpoints.Checkpoints(small_disk)
    saved.save(1, devices.replicate(big), {'next_index': 8}, {}, {None: 1.0})
    saved.wait()
    message = r'could not be saved \(no space left on the device\); the one of step 1 is whole'
    saved.save(2, devices.replicate(big), {}, {}, {None: 0.5})
    with pytest.raises(checkpoints.SaveError, match=message):
        saved.wait()
    saved.close()
    again = checkpoints.Checkpoints(small_disk)
    step, restored, data_state = restore_latest(again, devices.replicate(big))
    assert (step, data_state) == (1, {'next_index': 8})
    np.testing.assert_array_equal(restored['w'], big['w'])
    again.close()


def test_nothing_to_restore(tmp_path):
    saved = checkpoints.Checkpoints(tmp_path)
    target = checkpoints.abstract(state(0), devices.replicated())
    assert recovery.restore_latest(saved, target) is None
    saved.close()


def test_a_checkpoint_that_does_not_fit_is_refused_by_name(tmp_path):
    saved = checkpoints.Checkpoints(tmp_path)
    save(saved, 1)
    saved.wait()
    other = {'w': np.zeros((3, 5), np.float32), 'step': np.int32(0)}
    for wrong, name in (
        (other, r'w is float32\[3, 4\] there, and float32\[3, 5\] by the config'),
        ({'v': other['w']}, r'step is int32\[\] there, and absent by'),
    ):
        target = checkpoints.abstract(devices.replicate(wrong), devices.replicated())
        with pytest.raises(ValueError, match=rf'checkpoints/1 does not fit this config: {name}'):
            saved.restore(1, target)
    saved.close()


@pytest.mark.parametrize(
    'reason',
    [
        MemoryError('std::bad_alloc'),
        PermissionError(errno.EACCES, 'Permission denied'),
        OSError(errno.EMFILE, 'Too many open files'),
        RuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 4 bytes'),
    ],
)
def test_what_cannot_be_read_here_and_now_is_not_called_damaged(tmp_path, reason, monkeypatch):
    with checkpoints.Checkpoints(tmp_path) as saved:
        save(saved, 1)
        saved.wait()

        def restore(*unused, **also_unused):
            try:
                raise reason
            except type(reason) as error:
                raise ValueError('Orbax says something else') from error

        with monkeypatch.context() as patch:
            patch.setattr(saved._manager, 'restore', restore)
            with pytest.raises(OSError, match='need not mean that it is damaged'):
                restore_latest(saved, state(0))
        assert restore_latest(saved, state(0))[0] == 1


def test_a_folder_whose_name_is_no_text_is_refused_before_anything_is_made(tmp_path):
    folder = tmp_path / os.fsdecode(b'l\xe4ufe')
    with pytest.raises(ValueError, match=r'l\\xe4ufe/checkpoints: .* set LC_ALL=C.UTF-8'):
        checkpoints.Checkpoints(folder)
    assert not folder.exists()
