import numpy as np
import pytest

from hybrid import default_config
from hybrid.data import input_pipeline, mixture, parts

BATCH, SIZE = 8, 16


@pytest.fixture(scope='module')
def both(two_datasets_dir):
    config = default_config.get_config()
    config.data.dataset, config.data.data_dir = 'face_csv/a,face_csv/b', str(two_datasets_dir)
    found = parts.open_all(config)
    gone = ({'a3.jpg', 'a40.jpg'}, {'b0.jpg'})
    return [
        part.leave_out({split: np.isin(c['id'], list(ids)) for split, c in part.columns.items()})
        for part, ids in zip(found, gone, strict=True)
    ]


def train_iterator(both, weights=None, index=0, count=1, cache_bytes=0, seed=0):
    return mixture.create_train_iterator(
        both,
        'train',
        weights=weights,
        batch_size=BATCH,
        resize_size=SIZE,
        seed=seed,
        process_index=index,
        process_count=count,
        num_threads=2,
        prefetch=2,
        cache_bytes=cache_bytes,
    )


def equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def drawn(order, count):
    return np.array([order[place] for place in range(count)])


@pytest.mark.parametrize(
    ('sizes', 'weights', 'expected'),
    [
        ((3, 40), None, [3, 40]),
        ((10, 90), [1, 1], [50, 50]),
        ((10, 90), [2, 2], [50, 50]),
        ((5, 5, 5), [1, 2, 4], [2, 4, 9]),
        ((5, 5), [1e9, 1], [9, 1]),
        ((1, 1, 1), [1, 1e6, 1], [1, 1, 1]),
    ],
)
def test_shares_are_as_weights_say_and_an_epoch_as_long_as_all_together(sizes, weights, expected):
    assert mixture.shares(sizes, weights).tolist() == expected


def test_by_default_an_epoch_has_every_example_once():
    sizes = (30, 70)
    indices = drawn(mixture.create_order(sizes, None, seed=3), 300)
    for epoch in range(3):
        of_epoch = indices[100 * epoch : 100 * epoch + 100]
        np.testing.assert_array_equal(np.sort(of_epoch), np.arange(100))
    assert not np.array_equal(indices[:100], indices[100:200])
    np.testing.assert_array_equal(
        indices[:100][indices[:100] < 30], drawn(input_pipeline.shuffled(30, 3), 30)
    )


@pytest.mark.parametrize('weights', [None, [1, 1], [1, 4]])
def test_every_batch_has_its_share_of_each_dataset(weights):
    sizes = (30, 70)
    share = 0.3 if weights is None else weights[0] / sum(weights)
    indices = drawn(mixture.create_order(sizes, weights, seed=0), 200)
    is_first = indices < 30
    assert is_first.sum() == round(200 * share)
    of_batches = is_first.reshape(-1, BATCH).sum(axis=1)
    assert np.abs(of_batches - share * BATCH).max() <= 1
    # Each of the examples comes again only when all have come.
    first = indices[is_first]
    for start in range(0, len(first) - 29, 30):
        np.testing.assert_array_equal(np.sort(first[start : start + 30]), np.arange(30))


def test_batches_hold_labels_of_both_and_nothing_that_is_left_out(both):
    iterator = train_iterator(both)
    count = 21 + 16
    batches = [next(iterator) for _ in range(-(-count // BATCH))]
    joined = {k: np.concatenate([batch[k] for batch in batches])[:count] for k in batches[0]}
    of_both = [part.kept_columns('train') for part in both]
    for name in ('age_min', 'age_max', 'gender'):
        expected = np.concatenate([columns[name] for columns in of_both])
        np.testing.assert_array_equal(np.sort(joined[name]), np.sort(expected))
    is_range = joined['age_min'] < joined['age_max']
    assert is_range.sum() == 16
    assert np.isnan(joined['age'][is_range]).all()
    assert (joined['gender'][is_range] == -1).all()
    np.testing.assert_array_equal(batches[0]['position'], np.arange(BATCH))
    assert batches[0]['image'].dtype == np.uint8
    assert batches[0]['gender'].dtype == np.int32
    # Every image goes with its own labels.
    source = input_pipeline.Examples(both[1].builder, 'train', SIZE)
    place = both[1].columns['train']['id'].tolist().index('b7.jpg')
    alone = source.load(np.array([place]))
    (here,) = np.flatnonzero(is_range & (joined['age_min'] == 27))
    np.testing.assert_array_equal(joined['image'][here], alone['image'][0])


@pytest.mark.parametrize('weights', [None, [3, 1]])
def test_processes_share_the_same_global_batches(both, weights):
    whole = train_iterator(both, weights)
    shares = [train_iterator(both, weights, index=i, count=2) for i in range(2)]
    for _ in range(8):
        batch, of_processes = next(whole), [next(share) for share in shares]
        joined = {k: np.concatenate([share[k] for share in of_processes]) for k in batch}
        order = np.argsort(joined['position'])
        equal(batch, {k: v[order] for k, v in joined.items()})


@pytest.mark.parametrize('cache_bytes', [0, 20_000, 1 << 30])
def test_it_goes_on_exactly_where_it_was_whatever_is_kept_in_memory(both, cache_bytes):
    plain = train_iterator(both, [1, 1])
    for _ in range(5):
        next(plain)
    state = plain.get_state()
    restored = train_iterator(both, [1, 1], cache_bytes=cache_bytes)
    restored.set_state(state)
    for _ in range(8):
        equal(next(restored), next(plain))


def test_another_seed_is_another_order(both):
    one, other = next(train_iterator(both)), next(train_iterator(both, seed=1))
    assert not np.array_equal(one['image'], other['image'])
