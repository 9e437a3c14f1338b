import importlib
import pathlib

import optax
import pytest

from hybrid import default_config
from hybrid.config_checks import check_config
from hybrid.runs import workdir
from hybrid.training import learners

FOLDER = pathlib.Path(__file__).resolve().parents[1] / 'configs'


@pytest.mark.parametrize('name', sorted(path.stem for path in FOLDER.glob('*.py')))
def test_every_config_has_the_keys_of_the_default_and_may_be_trained(name):
    config = importlib.import_module(f'configs.{name}').get_config()
    keys = workdir.flatten(default_config.get_config().to_dict()).keys()
    groups = config.ensemble.groups
    config.ensemble.groups = {}
    assert workdir.flatten(config.to_dict()).keys() == keys
    check_config(config)
    config.ensemble.groups = groups
    learners.create(config, optax.identity())
