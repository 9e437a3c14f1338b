import jax
import jax.numpy as jnp
import numpy as np

from hybrid.models.network import create_model
from hybrid.training.optimizer import create_learning_rate_fn, create_optimizer
from hybrid.training.train_state import (
    abstract_train_state,
    create_key,
    create_stacked_train_state,
    create_train_state,
    example_keys,
    num_params,
)


def data(keys):
    return np.asarray(jax.random.key_data(keys))


def test_keys_differ_in_every_number_and_are_threefry():
    base = (0, 3, 1, 2)
    keys = {tuple(data(create_key(*base)))}
    for i in range(4):
        other = list(base)
        other[i] += 1
        keys.add(tuple(data(create_key(*other))))
    assert len(keys) == 5
    assert 'fry' in str(jax.random.key_impl(create_key(*base)))


def test_example_keys_follow_the_position():
    key = create_key(0, 0, 0, 0)
    whole = data(example_keys(key, jnp.arange(6)))
    np.testing.assert_array_equal(data(example_keys(key, jnp.array([4, 1]))), whole[[4, 1]])
    assert len(np.unique(whole, axis=0)) == 6


def test_seed_and_member_decide_the_initialisation(tiny_config):
    model = create_model(tiny_config.model)
    tx = create_optimizer(tiny_config.optimizer, create_learning_rate_fn(tiny_config.optimizer, 10))

    def kernel(seed, member):
        tiny_config.seed = seed
        state = create_train_state(model, tx, tiny_config, member)
        assert int(state.member) == member
        return np.asarray(state.params['encoder']['conv1']['kernel'])

    first = kernel(0, 0)
    np.testing.assert_array_equal(kernel(0, 0), first)
    assert not np.allclose(kernel(1, 0), first)
    assert not np.allclose(kernel(0, 1), first)


def test_num_params():
    assert num_params({'a': np.zeros((2, 3)), 'b': {'c': np.zeros(4)}}) == 10


def test_the_abstract_state_is_that_of_what_is_created(tiny_config):
    model = create_model(tiny_config.model)
    tiny_config.optimizer.ema_decay = 0.9
    tx = create_optimizer(tiny_config.optimizer, create_learning_rate_fn(tiny_config.optimizer, 10))

    def shapes(tree):
        return jax.tree.map(lambda x: (x.shape, x.dtype), tree)

    one = create_train_state(model, tx, tiny_config)
    assert shapes(abstract_train_state(model, tx, tiny_config)) == shapes(one)
    three = create_stacked_train_state(model, tx, tiny_config, range(3))
    assert shapes(abstract_train_state(model, tx, tiny_config, 3)) == shapes(three)
