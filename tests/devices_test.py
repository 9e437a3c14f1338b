import os
import threading

import jax
import numpy as np
import pytest

from hybrid import devices


def test_determinism_is_required_before_jax_starts_or_was_by_the_user(monkeypatch):
    monkeypatch.setenv('XLA_FLAGS', '--a=b')
    assert not devices.require_determinism(late=True)
    assert os.environ['XLA_FLAGS'] == '--a=b'
    for late in (False, False, True):
        assert devices.require_determinism(late)
        assert os.environ['XLA_FLAGS'] == '--a=b --xla_gpu_deterministic_ops=true'


def test_flags_may_be_in_a_file(monkeypatch, tmp_path):
    path = tmp_path / 'flags.txt'
    path.write_text('--a=b\n')
    monkeypatch.setenv('XLA_FLAGS', str(path))
    with pytest.raises(ValueError, match=r'flags\.txt names a file: add --xla_gpu_det.* to that'):
        devices.require_determinism()
    assert not devices.require_determinism(late=True)
    path.write_text('--a=b\n--xla_gpu_deterministic_ops=true\n')
    for late in (False, True):
        assert devices.require_determinism(late)
    assert os.environ['XLA_FLAGS'] == str(path)


def test_batches_are_spread_in_order_and_rows_come_back():
    count = jax.device_count()
    batch = {'x': np.arange(count * 6, dtype=np.float32).reshape(count * 3, 2)}
    placed = devices.shard_batch(batch)
    assert placed['x'].shape == (count, 3, 2)
    np.testing.assert_array_equal(np.asarray(placed['x']).reshape(-1, 2), batch['x'])
    step = devices.compile_eval_step(lambda state, b: {'y': b['x'] * state})
    state = devices.replicate(np.float32(2))
    rows = devices.gather_rows([step(state, placed), step(state, placed)])
    np.testing.assert_array_equal(rows['y'], 2 * np.concatenate([batch['x'], batch['x']]))


def test_train_step_reduces_over_devices_and_consumes_the_state():
    step = devices.compile_train_step(
        lambda state, b: (state + jax.lax.psum(b['x'].sum(), devices.AXIS), {'seen': state})
    )
    batch = {'x': np.ones((2 * jax.device_count(),), np.float32)}
    state = devices.replicate(np.float32(1))
    new, metrics = step(state, devices.shard_batch(batch))
    assert float(new) == 1 + 2 * jax.device_count()
    assert float(metrics['seen']) == 1
    assert state.is_deleted()


def test_what_was_compiled_ahead_is_not_compiled_again():
    compiled = []

    def listen(event: str, duration_secs: float, **details: str | int) -> None:
        if event.endswith('backend_compile_duration'):
            compiled.append(threading.current_thread())

    step = devices.compile_train_step(lambda state, b: (state + b['x'].sum(), {'seen': state}))
    state = devices.replicate(np.ones(3, np.float32))
    like = jax.ShapeDtypeStruct(state.shape, state.dtype, sharding=devices.replicated())
    batch = devices.shard_batch({'x': np.ones(2 * jax.device_count(), np.float32)})
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        step.compile_ahead(like, batch)
        state, _ = step(state, batch)
        step.compile_ahead(state, batch)
        step(state, batch)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert len(compiled) == 1
    assert compiled[0] is not threading.current_thread()


def test_programs_are_compiled_side_by_side():
    both = threading.Barrier(2, timeout=60)

    class Mapped:
        def lower(self) -> 'Mapped':
            return self

        def compile(self) -> None:
            both.wait()  # For the other, which none could do alone.

        def __call__(self) -> str:
            return 'taken'

    programs = [devices.Program(Mapped()) for _ in range(2)]
    for program in programs:
        program.compile_ahead()
    assert [program() for program in programs] == ['taken', 'taken']


def test_replicate_copies():
    source = np.zeros(3, np.float32)
    placed = devices.replicate(source)
    source += 1
    np.testing.assert_array_equal(placed, 0)


def test_batch_sizes_that_devices_do_not_divide():
    devices.check_batch_size(8, 'config.train.batch_size')
    with pytest.raises(ValueError, match=r'config\.train\.batch_size=6 .* 4 devices; 4 can'):
        devices.check_batch_size(6, 'config.train.batch_size')
    with pytest.raises(ValueError, match='=0 cannot'):
        devices.check_batch_size(0, 'config.train.batch_size')


def test_one_process():
    assert (devices.process_index(), devices.process_count()) == (0, 1)
    assert devices.is_main_process()
    devices.wait_for_all('nobody else')
