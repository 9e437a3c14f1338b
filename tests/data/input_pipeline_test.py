import numpy as np
import pytest

from hybrid.data import input_pipeline, records

BATCH, SIZE = 8, 16


def train_iterator(builder, seed=0, index=0, count=1, **kwargs):
    return input_pipeline.create_train_iterator(
        builder,
        'train',
        batch_size=BATCH,
        resize_size=SIZE,
        seed=seed,
        process_index=index,
        process_count=count,
        num_threads=2,
        **kwargs,
    )


def evaluation(builder, split='test', batch_size=BATCH, index=0, count=1):
    return list(
        input_pipeline.evaluation_batches(
            builder,
            split,
            batch_size=batch_size,
            resize_size=SIZE,
            process_index=index,
            process_count=count,
            num_threads=2,
        )
    )


def equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_batches_hold_what_the_contract_says(tiny_builder):
    batch = next(train_iterator(tiny_builder))
    assert {k: (v.dtype.name, v.shape) for k, v in batch.items()} == {
        'image': ('uint8', (BATCH, SIZE, SIZE, 3)),
        **dict.fromkeys(('age', 'age_min', 'age_max'), ('float32', (BATCH,))),
        'gender': ('int32', (BATCH,)),
        'mask': ('float32', (BATCH,)),
        'position': ('int32', (BATCH,)),
    }
    np.testing.assert_array_equal(batch['position'], np.arange(BATCH))
    np.testing.assert_array_equal(batch['mask'], 1)


def test_an_epoch_sees_every_example_once_and_the_next_in_another_order(tiny_builder):
    columns = records.read_columns(tiny_builder, 'train')
    count = len(columns['id'])
    assert count % BATCH  # epochs and batches do not end together
    iterator = train_iterator(tiny_builder)
    ages = np.concatenate([next(iterator)['age'] for _ in range(2 * count // BATCH + 1)])
    first, second = ages[:count], ages[count : 2 * count]
    np.testing.assert_array_equal(np.sort(first), np.sort(columns['age']))
    np.testing.assert_array_equal(np.sort(second), np.sort(columns['age']))
    assert not np.array_equal(first, second, equal_nan=True)


def test_same_seed_same_batches_other_seed_others(tiny_builder):
    a, b, c = (train_iterator(tiny_builder, seed) for seed in (0, 0, 1))
    for _ in range(3):
        first = next(a)
        equal(first, next(b))
        assert not np.array_equal(first['image'], next(c)['image'])


@pytest.mark.parametrize('count', [2, 4])
def test_processes_share_the_same_global_batches(tiny_builder, count):
    whole = train_iterator(tiny_builder)
    parts = [train_iterator(tiny_builder, index=i, count=count) for i in range(count)]
    for _ in range(10):
        batch, shares = next(whole), [next(part) for part in parts]
        joined = {k: np.concatenate([share[k] for share in shares]) for k in batch}
        order = np.argsort(joined['position'])
        equal(batch, {k: v[order] for k, v in joined.items()})


def test_state_continues_after_the_batch_it_was_taken_at(tiny_builder):
    iterator = train_iterator(tiny_builder)
    batches = input_pipeline.prefetch_to_device(iterator, lambda batch: batch, size=3)
    drawn = [next(batches) for _ in range(12)]
    _, state = drawn[4]
    fresh = train_iterator(tiny_builder)
    fresh.set_state(state)
    for batch, _ in drawn[5:]:
        equal(batch, next(fresh))


def test_prefetch_yields_everything_in_order_and_passes_errors_on():
    assert [x for x, _ in input_pipeline.prefetch_to_device(iter([1, 2, 3]), str, 2)] == list('123')

    def broken():
        yield 1
        raise OSError('disk gone')

    batches = input_pipeline.prefetch_to_device(broken(), str, 2)
    assert next(batches) == ('1', None)
    with pytest.raises(OSError, match='disk gone'):
        next(batches)


@pytest.mark.parametrize('batch_size', [1, 8, 64])
@pytest.mark.parametrize('count', [1, 2])
def test_evaluation_sees_every_example_once(tiny_builder, batch_size, count):
    if batch_size % count:
        batch_size = count
    columns = records.read_columns(tiny_builder, 'test')
    total = len(columns['id'])
    shares = [
        evaluation(tiny_builder, batch_size=batch_size, index=i, count=count) for i in range(count)
    ]
    assert {len(share) for share in shares} == {-(-total // batch_size)}
    rows = [batch for share in shares for batch in share]
    joined = {k: np.concatenate([batch[k] for batch in rows]) for k in rows[0]}
    real = joined['mask'] == 1
    assert real.sum() == total
    np.testing.assert_array_equal(np.sort(joined['index'][real]), np.arange(total))
    order = np.argsort(joined['index'][real])
    np.testing.assert_array_equal(joined['age'][real][order], columns['age'])
    np.testing.assert_array_equal(joined['gender'][real][order], columns['gender'])
    np.testing.assert_array_equal(joined['index'][~real], -1)
    np.testing.assert_array_equal(joined['image'][~real], 0)


def test_resize_takes_the_middle_square():
    image = np.zeros((4, 8, 3), np.uint8)
    image[:, 2:6] = 100
    np.testing.assert_array_equal(input_pipeline.resize(image, 4), np.full((4, 4, 3), 100))
    np.testing.assert_array_equal(input_pipeline.resize(image, 2), np.full((2, 2, 3), 100))
    np.testing.assert_array_equal(input_pipeline.resize(image, 9), np.full((9, 9, 3), 100))


def test_shrinking_averages_over_the_area():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (12, 12, 3)).astype(np.uint8)
    means = image.reshape(4, 3, 4, 3, 3).astype(float).mean(axis=(1, 3))
    np.testing.assert_allclose(input_pipeline.resize(image, 4), means, atol=0.51)


def test_examples_are_decoded_once_if_all_of_them_fit(tiny_builder, monkeypatch):
    count = len(records.read_columns(tiny_builder, 'train')['id'])
    steps = 3 * count // BATCH
    plain, decoded = train_iterator(tiny_builder), []
    expected = [next(plain) for _ in range(steps)]
    resize = input_pipeline.resize

    def counted(image, size):
        decoded.append(size)
        return resize(image, size)

    monkeypatch.setattr(input_pipeline, 'resize', counted)
    bytes_needed = count * SIZE * SIZE * 3
    iterator = train_iterator(tiny_builder, cache_bytes=bytes_needed)
    for batch in expected:
        equal(next(iterator), batch)
    # At the end of the first epoch the second has been begun by what is read ahead.
    assert count <= len(decoded) <= count + 5 * BATCH < 3 * count - BATCH
    decoded.clear()
    iterator = train_iterator(tiny_builder, cache_bytes=bytes_needed - 1)
    for batch in expected:
        equal(next(iterator), batch)
    assert len(decoded) >= 3 * count - BATCH


def test_a_cached_iterator_goes_on_from_its_state(tiny_builder):
    plain = train_iterator(tiny_builder)
    for _ in range(5):
        next(plain)
    restored = train_iterator(tiny_builder, cache_bytes=1 << 30)
    restored.set_state(plain.get_state())
    for _ in range(20):
        equal(next(restored), next(plain))
