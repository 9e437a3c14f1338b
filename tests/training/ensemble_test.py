import dataclasses
import functools
import sys

import jax
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from hybrid import devices
from hybrid.models.network import create_model
from hybrid.training import ensemble, learner, learners
from hybrid.training.groups import ONLY, create_groups, is_ensemble
from hybrid.training.optimizer import create_learning_rate_fn, create_optimizer
from hybrid.training.train_state import create_stacked_train_state, create_train_state
from hybrid.training.train_step import average, create_train_step
from tests.training.train_step_test import distance, make_batches, with_everything

# In one process of pytest, which compiles each program once.
pytestmark = pytest.mark.xdist_group('ensemble')

MEMBERS = 3


@pytest.fixture
def config(tiny_config):
    return with_everything(tiny_config)


@pytest.fixture(scope='module')
def steps(create_tiny_config):
    """`steps(devices, at_once)`, which compiles once."""
    config = with_everything(create_tiny_config())
    return functools.cache(functools.partial(Steps, config))


class Steps:
    """The step of one model and that of three, on a number of devices."""

    def __init__(self, config, count, at_once=MEMBERS):
        self.learning_rate_fn = create_learning_rate_fn(config.optimizer, 20)
        self.tx = create_optimizer(config.optimizer, self.learning_rate_fn)
        self.model = create_model(config.model)
        self.devices = jax.devices()[:count]
        self.sharding = NamedSharding(Mesh(np.array(self.devices), ('batch',)), PartitionSpec())
        step = create_train_step(self.model, self.tx, config)
        self.single, self.members = (
            jax.pmap(
                function,
                axis_name=devices.AXIS,
                in_axes=(None, 0),
                out_axes=(None, None),
                devices=self.devices,
            )
            for function in (step, ensemble.map_members(step, at_once))
        )
        self.initial = create_stacked_train_state(self.model, self.tx, config, range(MEMBERS))

    def place(self, state):
        return jax.device_put(jax.tree.map(np.array, state), self.sharding)

    def shard(self, batch):
        return {k: v.reshape(len(self.devices), -1, *v.shape[1:]) for k, v in batch.items()}


def member(state, number):
    return jax.tree.map(lambda x: x[number], state)


def gradient(before, after):
    """Out of AdamW's first moment, which is 0.9 of the old one and 0.1 of the clipped gradient."""
    moments = [optax.tree.get(state.opt_state, 'mu') for state in (before, after)]
    return jax.tree.map(lambda old, new: (new - 0.9 * old) / 0.1, *moments)


def test_members_start_as_models_of_their_own_do(config, steps):
    steps = steps(1)
    for number in range(MEMBERS):
        alone = create_train_state(steps.model, steps.tx, config, number)
        assert int(alone.member) == number
        jax.tree.map(np.testing.assert_array_equal, member(steps.initial, number), alone)


# Devices, and how many members at once if not all.
@pytest.mark.long
@pytest.mark.parametrize('which', [(4,), (4, 1)])
def test_a_step_of_all_is_each_members_own_at_every_state_of_a_run(config, steps, which):
    steps = steps(*which)
    state = steps.place(steps.initial)
    for batch in make_batches(config, 20):
        batch = steps.shard(batch)
        before = jax.device_get(state)
        state, metrics = steps.members(state, batch)
        after, losses = jax.device_get(state), average([metrics])['loss']
        for number in range(MEMBERS):
            alone, own = steps.single(steps.place(member(before, number)), batch)
            # Two programs, in which XLA adds in other orders.
            assert average([own])['loss'] == pytest.approx(losses[number], rel=5e-6)
            ours, theirs = member(after, number), jax.device_get(alone)
            assert distance(ours.params, theirs.params) < 1e-5
            start = member(before, number)
            assert distance(gradient(start, ours), gradient(start, theirs)) < 1e-3
            assert int(ours.step) == int(theirs.step)


@pytest.mark.long
@pytest.mark.parametrize('which', [(4,), (4, 1)])
def test_members_of_a_free_run_have_the_losses_of_runs_of_their_own(config, steps, which):
    steps = steps(*which)
    batches = [steps.shard(batch) for batch in make_batches(config, 20)]
    state, together = steps.place(steps.initial), []
    for batch in batches:
        state, metrics = steps.members(state, batch)
        together.append(average([metrics])['loss'])
    for number in range(MEMBERS):
        state, alone = steps.place(member(steps.initial, number)), []
        for batch in batches:
            state, metrics = steps.single(state, batch)
            alone.append(average([metrics])['loss'])
        np.testing.assert_allclose(np.stack(together)[:, number], alone, rtol=1e-5)


def test_members_that_wait_their_turn_get_what_they_get_side_by_side():
    def step(state, batch):
        return {'x': state['x'] + batch['y']}, {'sum': (state['x'] * batch['y']).sum()}

    states = {'x': np.arange(15, dtype=np.float32).reshape(5, 3)}
    batch = {'y': np.array([1, 2, 3], np.float32)}
    for at_once in (1, 2, 5, 6):
        new, metrics = ensemble.map_members(step, at_once)(states, batch)
        np.testing.assert_array_equal(new['x'], states['x'] + batch['y'])
        np.testing.assert_array_equal(metrics['sum'], states['x'] @ batch['y'])
    rows = ensemble.map_eval_members(lambda v, b: {'r': v['x'] + b['index']}, 2)(
        states, {'index': np.arange(3)}
    )
    np.testing.assert_array_equal(rows['r'], (states['x'] + np.arange(3)).T)
    np.testing.assert_array_equal(rows['index'], np.arange(3))


def test_at_once_is_all_but_on_cpus(config, monkeypatch):
    model = config.model
    for kernels, dtype, evaluated in (
        ('portable', 'float32', 1),
        ('onednn', 'float32', 1),
        ('portable', 'bfloat16', 1),
        ('onednn', 'bfloat16', 4),
    ):
        model.kernels, model.dtype = kernels, dtype
        assert ensemble.resolve_at_once(3, model) == (3, 3)
        assert ensemble.resolve_at_once(0, model) == (1, evaluated)
    model.kernels, model.dtype = 'auto', 'float32'
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
    assert ensemble.resolve_at_once(0, model) == (sys.maxsize, sys.maxsize)


@pytest.mark.long
def test_members_that_wait_their_turn_are_models_of_their_own_bit_for_bit(config):
    """On all devices; one of them is not finite from the first step on."""
    learning_rate_fn = create_learning_rate_fn(config.optimizer, 20)
    alone = learner.SingleModel(config, learning_rate_fn)
    config = config.copy_and_resolve_references()
    config.ensemble.size, config.ensemble.at_once = MEMBERS, 1
    made = ensemble.Ensemble(config, learning_rate_fn)
    start = jax.tree.map(np.array, made.create_state())
    start[ONLY].params['age_head']['output']['kernel'][1] = np.inf
    state = made.place(devices.replicate(start))
    jax.tree.map(np.testing.assert_array_equal, made.to_save(state), start)
    singles = [devices.replicate(ensemble.take_member(start, made.groups, n)) for n in made.members]
    pending: list = []
    own: list[list] = [[] for _ in singles]
    for batch in make_batches(config, 3):
        batch = devices.shard_batch(batch)
        state, metrics = made.train_step(state, batch)
        pending.append(metrics)
        for number, single in enumerate(singles):
            singles[number], metrics = alone.train_step(single, batch)
            own[number].append(metrics)
    row = made.summarize(pending, state)
    saved = made.to_save(state)
    for number, single in enumerate(singles):
        for name, value in alone.summarize(own[number], single).items():
            expected = np.nan if number == 1 else value
            np.testing.assert_equal(row[name.replace('/', f'/member_{number}/')], expected)
        member = ensemble.take_member(saved, made.groups, number)
        jax.tree.map(np.testing.assert_array_equal, member, single)
    # Files hold what they hold of members side by side; both forms are evaluated alike.
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), saved)
    assert shapes == made.abstract_state()
    for form in (state, saved):
        assert made.nonfinite_steps(form).tolist() == [-1, 0, -1]
    variables = [made.eval_variables(form) for form in (state, saved)]
    jax.tree.map(np.testing.assert_array_equal, *variables)


@pytest.mark.long
def test_a_member_that_is_not_finite_is_frozen_and_the_others_go_on(config, steps):
    steps = steps(1)
    batches = [steps.shard(batch) for batch in make_batches(config, 3)]
    sick = jax.tree.map(np.array, steps.initial)
    sick.params['age_head']['output']['kernel'][1] = np.inf
    state, healthy = steps.place(sick), steps.place(steps.initial)
    for batch in batches:
        state, metrics = steps.members(state, batch)
        healthy, _ = steps.members(healthy, batch)
    assert np.isfinite(average([metrics])['loss']).tolist() == [True, False, True]
    state = jax.device_get(state)
    assert state.nonfinite_step.tolist() == [-1, 0, -1]
    assert state.step.tolist() == [3, 0, 3]
    frozen = dataclasses.replace(member(state, 1), nonfinite_step=np.int32(-1))
    jax.tree.map(np.testing.assert_array_equal, frozen, member(sick, 1))
    for number in (0, 2):
        others = member(jax.device_get(healthy), number)
        jax.tree.map(np.testing.assert_array_equal, member(state, number), others)


def mixed(config):
    config.ensemble.groups = {
        'small': {'size': 2, 'model': {'encoder': {'width': 2}}},
        'gru': {'model': {'recurrent': {'cell': 'gru'}}},
    }
    return config


def test_groups_number_their_members_in_the_order_of_names(config):
    groups = create_groups(mixed(config))
    assert [(g.name, g.members) for g in groups] == [('gru', (0,)), ('small', (1, 2))]
    assert groups[0].config.model.recurrent.cell == 'gru'
    assert groups[0].config.model.encoder.width == config.model.encoder.width
    assert groups[1].config.model.encoder.width == 2
    assert groups[1].config.model.recurrent.cell == 'lstm'
    assert not is_ensemble(groups[1].config)
    assert config.model.recurrent.cell == 'lstm'


def test_one_model_two_of_it_and_groups(config):
    learning_rate_fn = create_learning_rate_fn(config.optimizer, 20)
    assert isinstance(learners.create(config, learning_rate_fn), learner.SingleModel)
    config.ensemble.size = 2
    made = learners.create(config, learning_rate_fn)
    assert (made.is_ensemble, made.members) == (True, (0, 1))
    config.ensemble.size = 1
    assert learners.create(mixed(config), learning_rate_fn).members == (0, 1, 2)


@pytest.mark.long
def test_a_mixed_ensemble_trains_its_groups_as_models_of_their_own(config):
    learning_rate_fn = create_learning_rate_fn(config.optimizer, 20)
    made = ensemble.Ensemble(mixed(config), learning_rate_fn)
    start = devices.replicate(made.create_state())
    apart = [ensemble.take_member(jax.device_get(start), made.groups, n) for n in range(3)]
    batch = devices.shard_batch(make_batches(config, 1)[0])
    state, metrics = made.train_step(made.place(start), batch)
    row = made.summarize([metrics], state)
    # The other group's step is compared with that of single models above.
    alone = learner.SingleModel(made.groups[0].config, learning_rate_fn)
    own, metrics = alone.train_step(devices.replicate(apart[0]), batch)
    for name, value in alone.summarize([metrics], own).items():
        key = name.replace('train/', 'train/member_0/')
        assert row[key] == pytest.approx(value, rel=1e-5), key
    ours = ensemble.take_member(jax.device_get(made.to_save(state)), made.groups, 0)
    assert distance(ours.params, jax.device_get(own.params)) < 1e-5
    losses = [row[f'train/member_{n}/loss'] for n in range(3)]
    assert row['train/loss'] == pytest.approx(np.mean(losses), rel=1e-6)


def test_frozen_members_do_not_count_in_averages(config, steps):
    config.ensemble.size = MEMBERS
    steps = steps(1)
    made = ensemble.Ensemble(config, steps.learning_rate_fn)
    state = jax.tree.map(np.array, steps.initial)
    state.params['age_head']['output']['kernel'][2] = np.nan
    batch = steps.shard(make_batches(config, 1)[0])
    # What made.train_step does on the devices of this process.
    state, metrics = steps.members(steps.place(state), batch)
    state, metrics = {ONLY: state}, {ONLY: metrics}
    row = made.summarize([metrics], state)
    assert made.nonfinite_steps(state).tolist() == [-1, -1, 0]
    assert np.isnan(row['train/member_2/loss'])
    losses = [row[f'train/member_{n}/loss'] for n in range(2)]
    assert row['train/loss'] == pytest.approx(np.mean(losses), rel=1e-6)


@pytest.mark.long
def test_apart_and_together_again(config):
    learning_rate_fn = create_learning_rate_fn(config.optimizer, 20)
    made = ensemble.Ensemble(mixed(config), learning_rate_fn)
    state = jax.device_get(made.create_state())
    apart = [ensemble.take_member(state, made.groups, number) for number in made.members]
    assert [int(s.member) for s in apart] == [0, 1, 2]
    again = ensemble.stack_members(apart, made.groups)
    jax.tree.map(np.testing.assert_array_equal, again, state)
