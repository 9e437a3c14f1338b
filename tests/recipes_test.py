"""Recipes: those of the package can be trained; a wrong one is an error of one line."""

import pathlib

import pytest

from hybrid import default_config, recipes
from hybrid.models import encoders
from hybrid.schema import flatten
from hybrid.training import config_checks, learners

FOLDER = pathlib.Path(__file__).resolve().parents[1] / 'configs'
START = (
    'from hybrid import recipes\n\n\ndef get_config():\n'
    "    config = recipes.get_config('quickstart')\n"
)


@pytest.mark.parametrize('name', recipes.names())
def test_every_recipe_has_the_keys_of_the_default_and_may_be_trained(name):
    config = recipes.get_config(name)
    config_checks.check_config(config)
    learners.create(config, lambda step: 0.1)
    config.ensemble.groups = config.data.parameters = {}
    assert flatten(config.to_dict()).keys() == flatten(default_config.get_config().to_dict()).keys()


def test_a_recipe_is_found_by_its_name_and_by_its_path(monkeypatch, tmp_path):
    assert recipes.names() == sorted(path.stem for path in FOLDER.glob('*.py'))
    assert recipes.find('quickstart') == FOLDER / 'quickstart.py'
    monkeypatch.chdir(FOLDER.parent)
    assert recipes.find('configs/quickstart.py').samefile(FOLDER / 'quickstart.py')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r'^quikstart: .* nearest is quickstart$'):
        recipes.find('quikstart')
    with pytest.raises(
        FileNotFoundError, match=r'^configs/quikstart\.py: .*configs/quickstart\.py'
    ):
        recipes.find('configs/quikstart.py')


def test_a_recipe_of_ones_own_may_start_from_another(tmp_path):
    (tmp_path / 'mine.py').write_text(f'{START}    config.seed = 5\n    return config\n')
    config = recipes.get_config(tmp_path / 'mine.py')
    assert (config.seed, config.model.encoder.width) == (5, 16)
    assert recipes.get_config('quickstart').seed == 0


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('def get_config(:\n', 'line 1: invalid syntax'),
        (
            f"{START}    config.train.batch_size = 'abc'\n    return config\n",
            r"line 6: config\.train\.batch_size = 'abc': must be of type int, 1 or more; .* is 64$",
        ),
        (
            f'{START}    config.train.batch_sise = 8\n    return config\n',
            r'line 6: .* = 8: no such key; the nearest is config\.train\.batch_size$',
        ),
        (f'{START}    return 1 / config.seed\n', r'line 6: return .*: ZeroDivisionError: '),
        (f'{START}\n', 'get_config.. returned None, which is no ConfigDict'),
        ('x = 1\n', 'AttributeError: module .* has no attribute .get_config'),
        (
            START.replace('quickstart', 'quikstart'),
            'line 5: .* FileNotFoundError: quikstart: no such recipe; the nearest is quickstart$',
        ),
    ],
)
def test_a_wrong_recipe_is_one_line_with_its_place(tmp_path, text, message):
    path = tmp_path / 'mine.py'
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        recipes.get_config(path)
    assert str(error.value).startswith(str(path))
    assert '\n' not in str(error.value)


REGISTERING = """
from hybrid import recipes
from hybrid.models import encoders

encoders.register('of_a_recipe', encoders.Encoder(create=lambda settings, **_: None, stages={}))
"""


def test_a_file_that_is_no_python_is_no_recipe(tmp_path):
    (tmp_path / 'config.json').write_text('{}')
    with pytest.raises(ValueError, match=r'config\.json: a recipe is a \.py file'):
        recipes.get_config(tmp_path / 'config.json')


def test_a_recipe_that_registers_something_may_be_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(encoders, 'ENCODERS', dict(encoders.ENCODERS))
    text = f"{REGISTERING}\n\ndef get_config():\n    return recipes.get_config('quickstart')\n"
    (tmp_path / 'mine.py').write_text(text)
    first, second = (recipes.get_config(tmp_path / 'mine.py') for _ in range(2))
    first.seed = 5
    assert second.seed == 0
    assert 'of_a_recipe' in encoders.ENCODERS


def test_a_mistake_is_named_with_its_line_also_by_a_relative_path(tmp_path, monkeypatch):
    (tmp_path / 'mine.py').write_text(f'{START}    config.train.batchsize = 3\n    return config\n')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r'^mine\.py, line 6: .*nearest is .*train\.batch_size'):
        recipes.get_config('mine.py')
    (tmp_path / 'unlocked.py').write_text(
        f'{START}    config.unlock()\n    config.train.num_epoch = 3\n    return config\n'
    )
    with pytest.raises(ValueError, match=r'config\.train\.num_epoch: no such key; .*num_epochs'):
        recipes.get_config('unlocked.py')
