"""The contract of an encoder, by one that is as unlike a ResNet as can be: it has no BatchNorm."""

import json

import flax.linen as nn
import jax
import numpy as np
import pytest

from hybrid import default_config
from hybrid.models import encoders
from hybrid.models.network import create_model
from hybrid.modes import evaluate, train
from hybrid.runs import checkpoints, workdir
from hybrid.training import finetuning
from hybrid.weights import initialization
from tests import random_models


class Plain(nn.Module):
    @nn.compact
    def __call__(self, images, *, train):
        x = nn.relu(nn.Conv(4, (4, 4), (4, 4), name='patches')(images))
        x = x + self.param('places', nn.initializers.normal(0.1), x.shape[1:])
        return nn.relu(nn.Conv(8, (2, 2), (2, 2), name='body')(x))


STAGES = {'stem': 'patches|places', 'body': 'body'}


def create_plain(settings, *, dtype, axis_name, frozen_stages, frozen_statistics, kernels):
    return Plain()  # It may name what every encoder is given: that is never more.


PLAIN = encoders.Encoder(create=create_plain, stages=STAGES)


@pytest.fixture
def config(tiny_config, monkeypatch):
    monkeypatch.setattr(encoders, 'ENCODERS', dict(encoders.ENCODERS))
    encoders.register('plain', PLAIN)
    tiny_config.model.encoder.name, tiny_config.model.encoder.width = 'plain', 64
    tiny_config.model.recurrent.cell = 'none'
    tiny_config.optimizer.ema_decay = 0.5
    tiny_config.train.num_steps = 4
    return tiny_config


@pytest.mark.long
def test_it_trains_continues_is_evaluated_frozen_and_started_from(config, tmp_path):
    config.finetune.freeze, config.finetune.layer_decay = 'stem', 0.5
    config.train.num_steps = 2
    # Nothing but the rate's schedule knows how long the training is.
    config.optimizer.schedule, config.optimizer.warmup = 'constant', 0.0
    half = train.train_and_evaluate(config, tmp_path / 'run')
    config.train.num_steps = 4
    state = train.train_and_evaluate(config, tmp_path / 'run', overwrite_config=True)
    whole = train.train_and_evaluate(config, tmp_path / 'whole')
    jax.tree.map(np.testing.assert_array_equal, state, whole)
    assert (int(half.step), int(state.step)) == (2, 4)
    assert (state.batch_stats, state.ema['batch_stats']) == ({}, {})
    for name in ('patches', 'places', 'body'):
        before, after = (jax.tree.leaves(s.params['encoder'][name]) for s in (half, state))
        same = all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
        assert same == (name != 'body'), name

    metrics = (tmp_path / 'run/evaluation/test/metrics.json').read_text()
    again = workdir.load_config(tmp_path / 'run', config)
    evaluate.evaluate([again], [tmp_path / 'run'], 'test', 'best')
    assert (tmp_path / 'run/evaluation/test/metrics.json').read_text() == metrics

    config.init_from = f'{tmp_path / "run"}@last'
    started, (record,) = initialization.start(config, jax.device_get(half))
    assert record['moving_averages']
    jax.tree.map(np.testing.assert_array_equal, started.params, jax.device_get(state.ema['params']))
    config.init_from_parts = 'encoder'
    started, (record,) = initialization.start(config, jax.device_get(half))
    assert record['loaded'] == [
        f'params/encoder/{name}'
        for name in ('body/bias', 'body/kernel', 'patches/bias', 'patches/kernel', 'places')
    ]
    np.testing.assert_array_equal(
        started.params['age_head']['output']['kernel'], half.params['age_head']['output']['kernel']
    )
    with checkpoints.Checkpoints(tmp_path / 'run', read_only=True) as saved:
        assert saved.steps()[-1] == 4


@pytest.mark.long
def test_members_without_batch_norm_train_beside_others(config, tmp_path):
    config.model.encoder.name, config.model.encoder.width = 'tiny', 64
    config.ensemble.groups = {
        'batch_norm': {'model': {'encoder': {'width': 4}}},
        'plain': {'size': 2, 'model': {'encoder': {'name': 'plain'}}},
    }
    config.train.num_steps, config.finetune.layer_decay = 2, 0.5
    state = train.train_and_evaluate(config, tmp_path)
    assert state['plain'][1].batch_stats == {}
    assert set(state['batch_norm'][0].batch_stats['encoder']) == {'bn1', 'layer1_0', 'layer2_0'}
    metrics = json.loads((tmp_path / 'evaluation/test/metrics.json').read_text())
    assert metrics['num_examples'] == 41
    # Each group goes by the stages of its own encoder, of which there are two and five.
    groups = finetuning.create(config), finetuning.Finetuning(config.finetune, PLAIN)
    assert [group.rate(0) for group in groups] == [0.5**4, 0.5]


def test_a_module_of_no_stage_is_refused(config):
    assert [PLAIN.stage_of(name) for name in ('patches', 'places', 'body')] == [0, 0, 1]
    message = r"module 'body2', which is part of none of its stages stem, body"
    with pytest.raises(ValueError, match=message):
        PLAIN.stage_of('body2')
    params = {'encoder': {'body2': {'kernel': np.ones(2)}}}
    with pytest.raises(ValueError, match=message):
        finetuning.create(config).split(params, 0)
    for name in ('conv2', 'layer5_0', 'layer1', 'norm'):
        with pytest.raises(ValueError, match=f"'{name}', which is part of none of its stages stem"):
            encoders.get('resnet18').stage_of(name)


def test_errors_name_the_stages_of_the_encoder_at_hand(config):
    config.finetune.freeze = 'layer1'
    with pytest.raises(ValueError, match=r"'layer1' is not one of '', stem, body, the .* plain"):
        finetuning.check(config)
    config.finetune.freeze = 'body'
    finetuning.check(config)


def test_keys_that_only_other_encoders_have_are_refused(config):
    create_model(config.model)
    for key, value in (('width', 4), ('stem', 'small'), ('zero_init_residual', False)):
        changed = config.model.copy_and_resolve_references()
        changed.encoder[key] = value
        message = rf'config\.model\.encoder\.{key}={value!r} must stay .*: plain does not have'
        with pytest.raises(ValueError, match=message):
            create_model(changed)


def test_keys_have_the_defaults_of_the_config():
    settings = default_config.get_config().model.encoder
    for encoder in encoders.ENCODERS.values():
        assert {key: settings[key] for key in encoder.keys} == encoder.keys
        assert set(encoder.meaning) <= set(encoder.keys)


def test_weights_for_an_encoder_that_reads_none_are_refused(config):
    config.model.encoder.pretrained = 'w.safetensors'
    with pytest.raises(ValueError, match='plain reads no pretrained weights; leave it empty'):
        initialization.check(config)


READ = {
    'resnet18': {'stem': 8, 'layer3': 32, 'layer4': 64},
    'tiny_dlib': {'stem': 6, 'layer1': 6, 'layer2': 9},
    'tiny_lite': {'stem': 32, 'stage1': 4, 'head': 1280},
}


@pytest.mark.parametrize('name', READ)
def test_stages_that_are_read_end_the_encoder(name):
    random_models.register()
    model = default_config.get_config().model
    model.encoder.update(name=name, width=8 if name == 'resnet18' else 64)
    encoder, modules = encoders.get(name), set[str]()

    def create(stages, **recurrent):
        model.sequence.stages = stages
        model.recurrent.update(recurrent)
        network = create_model(model)
        images = np.zeros((2, 64, 64, 3), np.float32)
        return jax.eval_shape(lambda: network.init(jax.random.key(0), images, train=False))

    for stages, channels in {'': [*READ[name].values()][-1], **READ[name]}.items():
        params = create(stages, cell='none')['params']
        assert params['age_head']['output']['kernel'].shape == (channels, 1)
        modules = modules or set(params['encoder'])
        # All modules of the stages up to that one, and no others.
        kept = [*encoders.computed(model).stages]
        assert kept == [*encoder.stages][: len(kept)]
        assert kept[-1] == (stages or [*encoder.stages][-1])
        numbers = {module: encoder.stage_of(module) for module in modules}
        assert set(params['encoder']) == {one for one in modules if numbers[one] < len(kept)}
    # The pooled maps of the CNN alone are joined; a recurrent network reads projected patches.
    _, middle, last = READ[name]
    both = f'{last}, {middle}'
    assert encoders.read_stages(model) == (last,)
    joined = create(both)['params']['age_head']['output']['kernel']
    assert joined.shape == (READ[name][last] + READ[name][middle], 1)
    params = create(both, cell='gru')['params']
    assert params['recurrent']['forward']['in']['kernel'].shape == (256, 256)
    assert encoders.read_stages(model) == (last, middle)
    params = create(both, cell='none', reduce='attention')['params']
    assert params['recurrent']['attention']['kernel'].shape == (256, 1)


def test_wrong_stages_are_refused(config):
    for stages in ('body,nose', 'stem,stem'):
        config.model.sequence.stages = stages
        for check in (lambda: create_model(config.model), lambda: finetuning.check(config)):
            with pytest.raises(ValueError, match=rf"stages='{stages}' must .* once: stem, body"):
                check()
    config.model.sequence.stages = 'body'
    with pytest.raises(ValueError, match="stages='body' must stay empty: plain gives"):
        create_model(config.model)


def test_fine_tuning_goes_by_the_stages_that_are_computed():
    config = default_config.get_config()
    config.model.sequence.stages, config.finetune.layer_decay = 'layer3,layer2', 0.5
    assert [finetuning.create(config).rate(stage) for stage in range(4)] == [0.125, 0.25, 0.5, 1]
    config.finetune.freeze = 'layer4'
    with pytest.raises(ValueError, match="'layer4' is not one of '', stem, layer1, layer2, layer3"):
        finetuning.check(config)


def test_a_name_is_taken_once(config):
    with pytest.raises(ValueError, match="an encoder 'plain' already"):
        encoders.register('plain', PLAIN)


def test_collections_are_declared_and_have_room():
    with pytest.raises(ValueError, match=r"collections \['cache'\], for which .* no room"):
        encoders.Encoder(create=Plain, stages=STAGES, collections=('cache',))
    PLAIN.check_collections(['params'])
    with pytest.raises(ValueError, match=r'variables in batch_stats, but .* collections=\(\)'):
        PLAIN.check_collections(['params', 'batch_stats'])
