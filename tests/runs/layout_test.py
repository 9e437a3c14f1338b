import jax
import numpy as np
import pytest

from hybrid.runs import layout

STATE = {
    'member': np.int32(3),
    'opt_state': [{'mu': np.ones(4, np.float32)}],
    'params': {'opt_state': {'kernel': np.zeros((2, 3), np.float32)}},
}


def test_every_array_is_described_by_its_path():
    assert layout.describe(STATE) == {
        'member': 'int32[]',
        'opt_state/0/mu': 'float32[4]',
        'params/opt_state/kernel': 'float32[2, 3]',
    }


@pytest.mark.parametrize('groups', [(), ('gru', 'opt_state')])
def test_the_optimisers_state_is_left_out_and_nothing_that_is_called_like_it(groups):
    state = dict.fromkeys(groups, STATE) if groups else STATE
    one = {
        'member': jax.ShapeDtypeStruct((), np.int32),
        'params': {'opt_state': {'kernel': jax.ShapeDtypeStruct((2, 3), np.float32)}},
    }
    found = layout.without_optimizer(layout.describe(state))
    assert found == (dict.fromkeys(groups, one) if groups else one)


def test_the_first_array_that_differs_is_named(tmp_path):
    saved = layout.describe(STATE)
    layout.check(tmp_path, saved, dict(saved))
    with pytest.raises(ValueError, match=r'opt_state/0/mu is float32\[4\] there, and absent by'):
        layout.check(tmp_path, saved, {'member': 'int32[]'})
    with pytest.raises(ValueError, match=r'a is absent there, and int32\[\] by the config'):
        layout.check(tmp_path, saved, saved | {'a': 'int32[]'})
