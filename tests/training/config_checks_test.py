"""What a config may say. Errors that need a dataset or devices are in modes/train_test.py."""

import subprocess
import sys
from pathlib import Path

import pytest

from hybrid import default_config
from hybrid.training import config_checks

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def config():
    return default_config.get_config()


@pytest.mark.parametrize(
    ('key', 'value', 'message'),
    [
        ('seed', -1, r'config\.seed=-1 must be in 0\.\.4294967295'),
        ('init_from_parts', 'heads', 'one of all, encoder'),
        ('data.train_split', '', "train_split='' must name a split"),
        ('data.image_size', 0, '1 or more'),
        ('data.image_size', 145, r'must be at most config\.data\.resize_size=144'),
        ('data.image_size', 127, 'less by an even number'),
        ('data.normalization', 'zscore', 'one of unit, symmetric, standardize, imagenet'),
        ('augment.flip', 2.0, r'config\.augment\.flip=2\.0 must be in 0\.\.1'),
        ('model.encoder.name', 'resnet20', 'one of .*resnet18, resnet34, resnet50, resnet101'),
        ('model.encoder.stem', 'large', 'one of imagenet, medium, small'),
        ('model.encoder.bottleneck_stride', '2x2', 'one of 1x1, 3x3'),
        ('model.encoder.width', 0, '1 or more'),
        ('model.sequence.order', 'spiral', 'one of raster, serpentine, column'),
        ('model.recurrent.cell', 'rnn', 'one of lstm, gru, dense, none'),
        ('model.recurrent.reduce', 'median', 'one of last, mean, max, attention'),
        ('model.recurrent.features', 0, '1 or more'),
        ('model.head.dropout', 1.0, '0 or more and less than 1'),
        ('model.head.hidden', -1, '0 or more'),
        ('model.head.age_scale', 0.0, 'more than 0'),
        ('model.dtype', 'float16', 'one of float32, bfloat16'),
        ('model.kernels', 'mkl', 'one of auto, portable, onednn, xla'),
        ('ensemble.at_once', -1, '0 or more'),
        ('ensemble.weights', 'test', 'one of uniform, validation'),
        ('finetune.freeze', 'layer5', "one of '', stem, layer1, layer2, layer3, layer4"),
        ('finetune.freeze_steps', 5, r'needs config\.finetune\.freeze'),
        ('finetune.encoder_rate', 0.0, 'more than 0'),
        ('finetune.layer_decay', 1.5, 'more than 0 and at most 1'),
        ('finetune.batch_norm', 'off', 'one of train, frozen'),
        ('loss.age', 'l2', 'one of mse, l1, huber'),
        ('loss.forget_steps', 9, r'needs config\.loss\.forget_rate'),
        ('loss.forget_rate', 0.01, r'of config\.train\.batch_size=64 is less than one loss'),
        ('optimizer.name', 'lion', 'one of adamw, sgd'),
        ('optimizer.schedule', 'step', 'one of cosine, constant, one_cycle'),
        ('optimizer.warmup', 1.5, '0 or more and less than 1'),
        ('optimizer.gradient_clip', -1.0, '0 or more'),
        ('optimizer.learning_rate', float('inf'), 'a finite number'),
        ('train.log_every_steps', 0, '1 or more'),
        ('detect.threshold', 1.5, 'more than 0 and less than 1'),
        ('detect.max_size', 8, '32 or more'),
        ('video.every', 0, '1 or more'),
        ('video.max_frames', 0, '1 or more'),
        ('video.max_seconds', 0.0, 'more than 0'),
    ],
)
def test_a_wrong_value_names_the_key_the_value_and_what_it_may_be(config, key, value, message):
    config.update_from_flattened_dict({key: value})
    with pytest.raises(ValueError, match=message) as error:
        config_checks.check_config(config)
    assert str(error.value).startswith(f'config.{key}={value!r} ')


@pytest.mark.parametrize(
    ('groups', 'size', 'message'),
    [
        ({'a': {'size': 0}}, 1, r'config\.ensemble\.groups\.a\.size=0 must be in 1\.\.1024'),
        ({'a/b': {'size': 1}}, 1, r'groups\.a/b: the name of a group must be a text without /'),
        ({'': {'size': 1}}, 1, r'groups\.: the name of a group must be'),
        ({1: {'size': 2}}, 1, r'groups\.1: the name of a group must be a text'),
        ({'a': 2}, 1, r"config\.ensemble\.groups\.a=2 must be \{'size'"),
        ({'a': {'model': {'kernels': 'xla'}}}, 1, r'groups\.a\.model\.kernels: all groups have'),
        ({'a': {'members': 2}}, 1, r"config\.ensemble\.groups\.a=\{'members': 2\} must be"),
        ({'a': {'model': {'encodr': {}}}}, 1, r'a\.model\.encodr: no such key; .* encoder, '),
        (
            {'a': {'model': {'recurrent': {'cel': 'gru'}}}},
            1,
            r'a\.model\.recurrent\.cel: no .*cell',
        ),
        ({'a': {'model': {'recurrent': 'gru'}}}, 1, r"recurrent='gru' must be a dict of .*cell"),
        ({'a': {'model': {'encoder': {'width': 'x'}}}}, 1, r"a\.model\.encoder\.width='x' must be"),
        (
            {'a': {'model': {'recurrent': {'cell': 'rnn'}}}},
            1,
            r"a\.model.*cell='rnn' is not one of",
        ),
        ({'a': {'size': 2}}, 3, r'config\.ensemble\.size=3, but .* have 2 members'),
    ],
)
def test_what_is_wrong_with_a_group_is_said(config, groups, size, message):
    config.ensemble.groups, config.ensemble.size = groups, size
    with pytest.raises(ValueError, match=message):
        config_checks.check_config(config)


def test_keys_that_only_another_encoder_has_are_refused_at_once(config):
    config.model.encoder.update(name='efficientnet_lite0', width=32)
    with pytest.raises(ValueError, match=r'width=32 must stay 64: efficientnet_lite0 does not ha'):
        config_checks.check_config(config)
    config.model.encoder.name = 'resnet18'
    lite = {'name': 'efficientnet_lite0'}
    config.ensemble.groups = {'a': {'model': {'encoder': lite}}, 'b': {}}
    with pytest.raises(ValueError, match=r'ensemble\.groups\.a: config.*width=32 must stay 64'):
        config_checks.check_config(config)
    config.ensemble.groups.a.model.encoder.width = 64
    config_checks.check_config(config)


def test_a_training_that_would_do_nothing_is_refused_but_not_an_earlier_run(config):
    config_checks.check_training(config)
    config.augment.resample = config.data.image_size
    config_checks.check_config(config)
    with pytest.raises(ValueError, match=r'resample=128 must be less than .*image_size=128'):
        config_checks.check_training(config)
    config.augment.enabled = False
    config.train.num_epochs = 0.0
    with pytest.raises(ValueError, match=r'num_epochs=0 and config\.train\.num_steps=0: set one'):
        config_checks.check_training(config)
    config.train.num_steps = 1
    config_checks.check_training(config)


def test_a_share_of_losses_may_count_those_of_mixed_images(config):
    config.augment.mixup, config.augment.share = 0.2, 0.5
    config.loss.forget_rate = 0.01  # Of 64 images, each of which may have two losses.
    config_checks.check_config(config)
    config.augment.share = 0.0
    with pytest.raises(ValueError, match='is less than one loss'):
        config_checks.check_config(config)


def test_checking_a_config_does_not_start_jax():
    """XLA's flags and `jax.distributed` come after the check, and must come before the start."""
    program = (
        'from hybrid import default_config\n'
        'from hybrid.training import config_checks\n'
        'config_checks.check_config(default_config.get_config())\n'
        'from jax._src import xla_bridge\n'
        'assert not xla_bridge._backends\n'
    )
    subprocess.run([sys.executable, '-c', program], cwd=ROOT, check=True)
