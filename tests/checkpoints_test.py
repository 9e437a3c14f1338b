import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid import checkpoints, parallel


def state(value):
    return parallel.replicate({'w': np.full((3, 4), value, np.float32), 'step': np.int32(value)})


def save(saved, step, mae=None):
    saved.save(step, state(step), {'next_index': 8 * step}, {'seed': 1}, mae)


def test_best_and_latest_are_kept(tmp_path):
    saved = checkpoints.Checkpoints(tmp_path)
    for step, mae in [(1, 5.0), (2, 3.0), (3, None), (4, 4.0), (5, None), (6, 3.5)]:
        save(saved, step, mae)
    saved.wait()
    assert saved.steps() == [2, 6]
    assert (saved.step('best'), saved.step('last')) == (2, 6)
    saved.close()


def test_restore_gives_back_bits_and_place_in_the_data(tmp_path):
    saved = checkpoints.Checkpoints(tmp_path)
    save(saved, 7, 1.0)
    saved.close()
    reader = checkpoints.Checkpoints(tmp_path, read_only=True)
    target = checkpoints.abstract(state(0), parallel.replicated())
    restored, data_state = reader.restore(reader.step('last'), target)
    jax.tree.map(np.testing.assert_array_equal, restored, state(7))
    assert data_state == {'next_index': 56}
    assert restored['w'].sharding == parallel.replicated()


def test_training_on_at_once_does_not_change_what_is_saved(tmp_path):
    """The step consumes the state whose saving is still under way."""
    step = parallel.compile_train_step(lambda s, b: (jax.tree.map(lambda x: x * 2 + 1, s), {}))
    batch = {'x': np.zeros((4,), np.float32)}
    big = np.arange(2_000_000, dtype=np.float32)
    current = parallel.replicate({'w': big})
    saved = checkpoints.Checkpoints(tmp_path)
    saved.save(1, current, {}, {}, 1.0)
    for _ in range(5):
        current, _ = step(current, parallel.shard_batch(batch))
    jax.block_until_ready(current)
    saved.wait()
    target = checkpoints.abstract({'w': jnp.asarray(big)}, parallel.replicated())
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


def test_a_checkpoint_that_does_not_fit_is_refused_by_name(tmp_path):
    saved = checkpoints.Checkpoints(tmp_path)
    save(saved, 1)
    saved.wait()
    other = {'w': np.zeros((3, 5), np.float32), 'step': np.int32(0)}
    for wrong in (other, {'v': other['w']}):
        target = checkpoints.abstract(parallel.replicate(wrong), parallel.replicated())
        with pytest.raises(ValueError, match=r'checkpoints/1 does not fit this config'):
            saved.restore(1, target)
    saved.close()
