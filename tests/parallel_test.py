import jax
import numpy as np
import pytest

from hybrid import parallel


def test_batches_are_spread_in_order_and_rows_come_back():
    devices = jax.device_count()
    batch = {'x': np.arange(devices * 6, dtype=np.float32).reshape(devices * 3, 2)}
    placed = parallel.shard_batch(batch)
    assert placed['x'].shape == (devices, 3, 2)
    np.testing.assert_array_equal(np.asarray(placed['x']).reshape(-1, 2), batch['x'])
    step = parallel.compile_eval_step(lambda state, b: {'y': b['x'] * state})
    state = parallel.replicate(np.float32(2))
    rows = parallel.gather_rows([step(state, placed), step(state, placed)])
    np.testing.assert_array_equal(rows['y'], 2 * np.concatenate([batch['x'], batch['x']]))


def test_train_step_reduces_over_devices_and_consumes_the_state():
    step = parallel.compile_train_step(
        lambda state, b: (state + jax.lax.psum(b['x'].sum(), parallel.AXIS), {'seen': state})
    )
    batch = {'x': np.ones((2 * jax.device_count(),), np.float32)}
    state = parallel.replicate(np.float32(1))
    new, metrics = step(state, parallel.shard_batch(batch))
    assert float(new) == 1 + 2 * jax.device_count()
    assert float(metrics['seen']) == 1
    assert state.is_deleted()


def test_replicate_copies():
    source = np.zeros(3, np.float32)
    placed = parallel.replicate(source)
    source += 1
    np.testing.assert_array_equal(placed, 0)


def test_batch_sizes_that_devices_do_not_divide():
    parallel.check_batch_size(8, 'config.train.batch_size')
    with pytest.raises(ValueError, match=r'config\.train\.batch_size=6 .* 4 devices; 4 can'):
        parallel.check_batch_size(6, 'config.train.batch_size')
    with pytest.raises(ValueError, match='=0 cannot'):
        parallel.check_batch_size(0, 'config.train.batch_size')


def test_one_process():
    assert (parallel.process_index(), parallel.process_count()) == (0, 1)
    assert parallel.is_main_process()
    parallel.wait_for_all('nobody else')
