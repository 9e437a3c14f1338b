"""Stages of blocks: which are computed, follow the batch, and drop blocks."""

import functools

import flax.linen as nn
import jax
import numpy as np
import pytest

from hybrid.models import staged

SEEN: list[tuple] = []


class Block(staged.StageBlock):
    """Adds 1, and notes how it was called."""

    added: int

    @nn.compact
    def __call__(self, x, *, train, dropout_keys=None):
        SEEN.append((self.name, self.drop_path, train))
        if dropout_keys is not None:
            SEEN[-1] += (str(jax.random.key_data(dropout_keys)),)
        return x + self.added


class Tiny(staged.StagedEncoder):
    sizes: tuple[int, ...] = (2, 1, 2)

    @nn.compact
    def __call__(self, images, *, train, dropout_keys=None):
        stages = {
            f'layer{number}': [functools.partial(Block, added=10**number)] * size
            for number, size in enumerate(self.sizes, start=1)
        }
        maps = self.run_stages(images, stages, train=train, dropout_keys=dropout_keys)
        return self.select(maps)


def run(train=False, dropout_keys=None, **settings):
    SEEN.clear()
    images = np.zeros((1, 1, 1, 3), np.float32)
    out = Tiny(**settings).apply({}, images, train=train, dropout_keys=dropout_keys)
    return [float(x.max()) for x in out] if isinstance(out, tuple) else float(out.max())


def test_without_names_the_last_map_is_given():
    assert run() == 2120
    assert [name for name, *_ in SEEN] == [
        *('layer1_0', 'layer1_1', 'layer2_0', 'layer3_0', 'layer3_1')
    ]
    assert run(sizes=()) == 0


@pytest.mark.parametrize(
    ('read', 'maps', 'blocks'),
    [
        (('stem',), [0], 0),
        (('layer1', 'stem'), [20, 0], 2),
        (('layer3', 'layer1'), [2120, 20], 5),
    ],
)
def test_named_maps_are_given_and_nothing_after_the_last_is_computed(read, maps, blocks):
    assert run(read=read) == maps
    assert len(SEEN) == blocks


@pytest.mark.parametrize(
    ('settings', 'rates', 'follow'),
    [
        ({}, [0, 0.1, 0.2, 0.3, 0.4], [True] * 5),
        # Of the frozen stages, the first is the stem.
        ({'frozen_stages': 2}, [0, 0, 0.2, 0.3, 0.4], [False, False, True, True, True]),
        ({'frozen_statistics': True}, [0, 0.1, 0.2, 0.3, 0.4], [False] * 5),
    ],
)
def test_frozen_stages_neither_drop_blocks_nor_follow_the_batch(settings, rates, follow):
    run(train=True, drop_path=0.4, **settings)
    assert [rate for _, rate, _ in SEEN] == pytest.approx(rates)
    assert [train for _, _, train in SEEN] == follow
    run(train=False, drop_path=0.4, **settings)
    assert {(rate, train) for _, rate, train in SEEN} == {(0, False)}


def test_each_block_has_keys_of_its_own():
    run(train=True, drop_path=0.4, dropout_keys=jax.random.split(jax.random.key(0), 2))
    assert len({keys for *_, keys in SEEN}) == 5
