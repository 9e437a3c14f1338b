import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hybrid import default_config, devices
from hybrid.models import encoders, resnet
from hybrid.models.network import create_model
from hybrid.modes import train
from hybrid.runs import checkpoints
from hybrid.training import ensemble, finetuning, learner
from hybrid.training.eval_step import create_eval_step
from hybrid.training.optimizer import create_learning_rate_fn, create_optimizer
from hybrid.training.train_state import abstract_train_state
from hybrid.training.train_step import create_train_step
from tests.modes.train_test import Killed, kill_at
from tests.training.train_step_test import Runner, make_batches
from tests.weights.initialization_test import create_state

ENCODER = ('conv1', 'bn1', 'layer1_0', 'layer2_0', 'layer3_1', 'layer4_0')
# One kernel a module is enough to see what an update does to it.
PARAMS = {
    'encoder': {name: {'kernel': jnp.full((2, 2), 0.5)} for name in ENCODER},
    'age_head': {'kernel': jnp.full((2, 2), 0.5)},
}


@pytest.fixture
def config():
    return default_config.get_config()


@pytest.fixture
def small_config(tiny_config, monkeypatch):
    """The less there is, the less has to be compiled."""
    monkeypatch.setitem(encoders.ENCODERS, 'resnet18', resnet.encoder((1,), 'basic'))
    tiny_config.model.encoder.name = 'resnet18'
    tiny_config.model.recurrent.cell = 'none'
    tiny_config.augment.enabled = False
    return tiny_config


def create(config, rate=1.0):
    return create_optimizer(config.optimizer, lambda step: rate, finetuning.create(config))


def gradients(seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), PARAMS)


def run(tx, steps, params=PARAMS):
    """The updates of so many steps."""
    state, updates = tx.init(params), []
    for number in range(steps):
        update, state = tx.update(gradients(number), state, params)
        params = optax.apply_updates(params, update)
        updates.append(update)
    return updates, state


def modules(tree):
    """{'conv1': ..., 'age_head': ...}."""
    return {**tree['encoder'], 'age_head': tree['age_head']}


def test_by_default_the_optimiser_is_what_it_was(config):
    plain = create_optimizer(config.optimizer, lambda step: 1.0)
    ours = create(config)
    for one, other in zip(run(plain, 2), run(ours, 2), strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize('name', ['adamw', 'sgd'])
def test_rates_of_the_encoder_and_of_its_depth(config, name):
    config.optimizer.name, config.optimizer.weight_decay = name, 0.1
    (plain,), _ = run(create(config), 1)
    config.finetune.encoder_rate, config.finetune.layer_decay = 0.5, 0.8
    (ours,), _ = run(create(config), 1)
    powers = {'conv1': 4, 'bn1': 4, 'layer1_0': 3, 'layer2_0': 2, 'layer3_1': 1, 'layer4_0': 0}
    for module, power in powers.items():
        expected = 0.5 * 0.8**power * plain['encoder'][module]['kernel']
        np.testing.assert_allclose(ours['encoder'][module]['kernel'], expected, rtol=1e-6)
    np.testing.assert_array_equal(ours['age_head']['kernel'], plain['age_head']['kernel'])


def test_what_is_frozen_for_good_does_not_move_and_has_no_state(config):
    config.optimizer.weight_decay = 0.1
    config.finetune.freeze = 'layer2'
    updates, state = run(create(config), 2)
    for update in updates:
        for name, values in modules(update).items():
            frozen = name in ('conv1', 'bn1', 'layer1_0', 'layer2_0')
            assert (np.asarray(values['kernel']) == 0).all() == frozen, name
    # Two moments of layer3, layer4 and the head; the counts are scalars.
    assert sum(x.ndim > 0 for x in jax.tree.leaves(state)) == 2 * 3


def test_clipping_goes_by_the_norm_of_what_learns(config):
    config.optimizer.name, config.optimizer.momentum = 'sgd', 0.0
    config.optimizer.weight_decay, config.optimizer.gradient_clip = 0.0, 0.1
    for steps in (0, 1):
        config.finetune.freeze, config.finetune.freeze_steps = 'layer4', steps
        updates, _ = run(create(config), 2)
        gradient = gradients(0)['age_head']['kernel']
        expected = -0.1 * gradient / np.linalg.norm(gradient)
        np.testing.assert_allclose(updates[0]['age_head']['kernel'], expected, rtol=1e-5)
    everything = gradients(1)
    expected = -0.1 * everything['age_head']['kernel'] / optax.tree.norm(everything)
    np.testing.assert_allclose(updates[1]['age_head']['kernel'], expected, rtol=1e-5)


def test_what_is_frozen_for_some_steps_then_begins_as_at_a_first_step(config):
    config.optimizer.weight_decay, config.optimizer.gradient_clip = 0.1, 0.0
    plain, _ = run(create(config), 5)
    config.finetune.freeze, config.finetune.freeze_steps = 'layer1', 3
    ours, _ = run(create(config), 5)
    for number, (update, other) in enumerate(zip(ours, plain, strict=True)):
        for name, values in modules(update).items():
            if name not in ('conv1', 'bn1', 'layer1_0'):
                other_values = modules(other)[name]
                np.testing.assert_array_equal(values['kernel'], other_values['kernel'])
            elif number < 3:
                np.testing.assert_array_equal(values['kernel'], 0)
    # AdamW's first step has the size of the rate, with the sign of the gradient.
    decay = 0.1 * 0.5
    expected = -np.sign(gradients(3)['encoder']['conv1']['kernel']) - decay
    np.testing.assert_allclose(ours[3]['encoder']['conv1']['kernel'], expected, rtol=1e-3)


def test_the_overview_says_what_learns_and_how_fast(config):
    table = learner.parameter_table(PARAMS, finetuning.create(config))
    assert 'Rate' not in table
    assert 'frozen' not in table
    config.finetune.batch_norm = 'frozen'
    table = learner.parameter_table(PARAMS, finetuning.create(config))
    assert table.splitlines()[-1] == 'BatchNorm runs by its statistics, which are frozen'
    config.finetune.freeze, config.finetune.layer_decay = 'stem', 0.5

    def rates():
        lines = learner.parameter_table(PARAMS, finetuning.create(config)).splitlines()
        cells = [[cell.strip() for cell in line.split('|')[1:-1]] for line in lines if '|' in line]
        assert cells[0] == ['Name', 'Shape', 'Dtype', 'Size', 'Rate']
        return {cell[0].split('/')[-2]: cell[-1] for cell in cells[1:]}

    assert rates() == {
        **{'conv1': 'frozen', 'bn1': 'frozen', 'layer1_0': '0.125', 'layer2_0': '0.25'},
        **{'layer3_1': '0.5', 'layer4_0': '1', 'age_head': '1'},
    }
    config.finetune.freeze_steps = 70
    assert rates()['bn1'] == 'frozen 70 steps, 0.0625'


@pytest.mark.parametrize(
    ('key', 'value', 'message'),
    [
        ('freeze', 'layer5', r"config\.finetune\.freeze='layer5' is not one of '', stem, layer1"),
        ('freeze_steps', 5, r'freeze_steps=5 needs config\.finetune\.freeze'),
    ],
)
def test_wrong_values_name_the_key(config, key, value, message):
    finetuning.check(config)
    config.finetune[key] = value
    with pytest.raises(ValueError, match=message):
        finetuning.check(config)


def test_parameters_are_parted_and_joined(config):
    finetune = finetuning.create(config)
    learning, frozen = finetune.split(PARAMS, 2)
    assert sorted(frozen) == ['bn1', 'conv1', 'layer1_0']
    assert sorted(learning['encoder']) == ['layer2_0', 'layer3_1', 'layer4_0']
    jax.tree.map(np.testing.assert_array_equal, finetuning.merge(learning, frozen), PARAMS)
    assert finetune.split(PARAMS, 0) == (PARAMS, {})


def test_frozen_batch_norms_run_by_their_statistics_and_keep_them():
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32)
    plain = resnet.ResNet(stage_sizes=(1,), width=2, stem='small', zero_init_residual=False)
    variables = plain.init(jax.random.key(0), images, train=False)

    def train(**frozen):
        model = dataclasses.replace(plain, **frozen)
        return model.apply(variables, images, train=True, mutable=['batch_stats'])

    evaluated = plain.apply(variables, images, train=False)
    before = variables['batch_stats']
    for frozen in ({'frozen_stages': 2}, {'frozen_statistics': True}):
        out, updates = train(**frozen)
        np.testing.assert_array_equal(out, evaluated)
        jax.tree.map(np.testing.assert_array_equal, updates['batch_stats'], before)
    out, updates = train(frozen_stages=1)
    after = updates['batch_stats']
    jax.tree.map(np.testing.assert_array_equal, after['bn1'], before['bn1'])
    assert not np.allclose(after['layer1_0']['bn1']['mean'], before['layer1_0']['bn1']['mean'])
    assert not np.allclose(out, train()[0])


@pytest.mark.long
def test_a_step_leaves_frozen_stages_as_they_are(small_config):
    small_config.finetune.freeze = 'stem'
    small_config.model.encoder.zero_init_residual = False
    batches = make_batches(small_config, 2)
    ours = Runner(small_config, 2)
    before = jax.device_get(ours.initial)
    after, rows = ours.run(ours.initial, batches)
    for collection in ('params', 'batch_stats'):
        old, new = (getattr(state, collection)['encoder'] for state in (before, after))
        for name in old:
            same = all(
                np.array_equal(x, y)
                for x, y in zip(jax.tree.leaves(old[name]), jax.tree.leaves(new[name]), strict=True)
            )
            assert same == (name in ('conv1', 'bn1')), (collection, name)
    # What is logged is the norm of the gradients that there are.
    assert rows[0]['train/grad_norm'] > 0


@pytest.mark.long
def test_members_are_frozen_for_some_steps_and_their_state_is_saved(
    small_config, tmp_path, monkeypatch
):
    monkeypatch.setitem(encoders.ENCODERS, 'resnet18', resnet.encoder((), 'basic'))
    small_config.ensemble.size = 2
    small_config.finetune.freeze, small_config.finetune.freeze_steps = 'stem', 1
    small_config.optimizer.schedule, small_config.optimizer.warmup = 'constant', 0.0
    learning_rate_fn = create_learning_rate_fn(small_config.optimizer, 4)
    members = ensemble.Ensemble(small_config, learning_rate_fn)
    state = create_state(small_config)
    state['members'].step[:], state['members'].nonfinite_step[:] = 0, -1
    for count in jax.tree.leaves(state['members'].opt_state):
        count[:] = 0
    state = devices.replicate(state)
    assert 'frozen 1 steps, 1' in members.overview(state)

    state = members.place(state)

    def kernels(state):
        params = jax.device_get(members.to_save(state)['members'].params)
        return params['encoder']['conv1']['kernel'], params['age_head']['output']['kernel']

    seen = [kernels(state)]
    for number, batch in enumerate(make_batches(small_config, 2), start=1):
        state, _ = members.train_step(state, devices.shard_batch(batch), number)
        seen.append(kernels(state))
        for member in range(2):
            encoder, head = (
                not np.array_equal(new[member], old[member])
                for new, old in zip(seen[-1], seen[-2], strict=True)
            )
            assert (encoder, head) == (number > 1, True)
    # AdamW's first step is as long as the learning rate, not three times as long.
    steps = np.abs(seen[2][0] - seen[1][0])
    assert steps.max() <= 1.1 * small_config.optimizer.learning_rate

    with checkpoints.Checkpoints(tmp_path) as saved:
        saved.save(2, members.to_save(state), {}, small_config.to_dict())
        saved.wait()
        target = checkpoints.abstract(members.abstract_state(), devices.replicated())
        restored, _ = saved.restore(2, target)
    jax.tree.map(np.testing.assert_array_equal, restored, members.to_save(state))


@pytest.mark.slow
def test_killed_while_frozen_or_after_it_ends_bit_for_bit_the_same(
    small_config, tmp_path, monkeypatch
):
    small_config.finetune.freeze, small_config.finetune.freeze_steps = 'stem', 2
    small_config.finetune.layer_decay = 0.5
    small_config.train.num_steps, small_config.train.checkpoint_every_steps = 4, 1
    small_config.data.validation_split = small_config.data.test_split = ''
    whole = train.train_and_evaluate(small_config, tmp_path / 'whole')
    for step in (1, 2):  # a row each, so that the second dies in step 4
        with monkeypatch.context() as patch:
            kill_at(patch, step)
            with pytest.raises(Killed):
                train.train_and_evaluate(small_config, tmp_path / 'parts')
        with checkpoints.Checkpoints(tmp_path / 'parts', read_only=True) as saved:
            assert saved.steps()[-1] in ((1,) if step == 1 else (2, 3))
    parts = train.train_and_evaluate(small_config, tmp_path / 'parts')
    jax.tree.map(np.testing.assert_array_equal, parts, whole)
    assert int(parts.step) == 4


@pytest.mark.long
def test_frozen_stages_cost_no_backward_pass(small_config):
    """By the number of operations of the programs, not by time."""
    small_config.model.encoder.width = 16
    size, batch_size = small_config.data.resize_size, 8

    def shaped(dtype, *shape):
        return jax.ShapeDtypeStruct((1, batch_size, *shape), dtype)

    batch = {'image': shaped(np.uint8, size, size, 3), 'gender': shaped(np.int32)}
    batch |= {'age': shaped(np.float32), 'mask': shaped(np.float32), 'position': shaped(np.int32)}

    def count(step, *arguments, out_axes):
        mapped = jax.pmap(
            step,
            axis_name=devices.AXIS,
            in_axes=(None, 0),
            out_axes=out_axes,
            devices=jax.devices()[:1],
        )
        return mapped.lower(*arguments).cost_analysis()['flops']

    counts = []
    for freeze in ('', 'layer1'):
        small_config.finetune.freeze = freeze
        finetune = finetuning.create(small_config)
        model = create_model(small_config.model, frozen_stages=finetune.frozen_stages)
        tx = create_optimizer(small_config.optimizer, lambda step: 1.0, finetune)
        state = abstract_train_state(model, tx, small_config)
        step = create_train_step(model, tx, small_config)
        counts.append(count(step, state, batch, out_axes=(None, None)))
    variables = {'params': state.params, 'batch_stats': state.batch_stats}
    batch['index'] = batch.pop('position')
    forward = count(create_eval_step(model, small_config), variables, batch, out_axes=0)
    everything, heads = counts
    # The stem's input needs no gradient.
    assert everything > 2 * forward
    assert forward < heads < 1.1 * forward
