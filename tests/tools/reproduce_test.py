import pathlib

import pytest

from hybrid import files, recipes
from hybrid.schema import flatten
from tools import record, reproduce, then


def test_a_command_is_run_again_elsewhere(folder):
    kept = record.record(folder, folder)
    flags = '--config=configs/a.py --workdir=b --config.data.manual_dir=utkface'
    command = f'python launch.py {flags} \'--config.p={{"n": 3}}\' '
    command += '--config.model.encoder.pretrained=w.npz'
    more = ['--config.model.encoder.pretrained=/w.npz', '--config.data.data_dir=/d']
    repeated = reproduce.arguments(kept | {'command': command}, pathlib.Path('/out'), more)
    assert repeated == ['--config=configs/a.py', '--config.p={"n": 3}', '--workdir=/out', *more]
    by_module = {'command': command.replace('launch.py', '-m hybrid')}
    again = reproduce.arguments(kept | by_module, pathlib.Path('/out'), more)
    assert again == repeated
    for change, message in (
        ({'command': 'python x.py'}, 'is not a start of launch'),
        ({'runs': ['a', 'b']}, 'reproduce a, b, then run'),
        ({'evaluated': {}}, 'is another evaluation'),
    ):
        with pytest.raises(ValueError, match=message):
            reproduce.arguments(kept | change, folder, [])


def test_what_a_recipe_has_changed_since_is_as_it_was():
    whole = flatten(recipes.get_config('quickstart').to_dict())
    config = whole | {'train.num_epochs': 4.0, 'seed': 3, 'gone': 1, 'model.kernels': 'shifts'}
    command = 'python launch.py --config=configs/quickstart.py --config.seed=3'
    kept = {'command': command, 'config': config}
    assert then.of_its_time(kept) == ['--config.train.num_epochs=4.0']
    flags = ['--config.seed=1', '--config.train.num_epochs=1']
    assert then.of_its_time(kept, flags) == []
    # Older than its recipe's age head and views, which then were what the default says.
    older = {'train.num_epochs': whole['train.num_epochs'], 'data.prefetch': whole['data.prefetch']}
    now = older | {'model.head.age': 'dex', 'evaluate.scales': (0.9, 1.1)}
    changed = then.changed_keys(older, now)
    assert changed == {'model.head.age': 'regression', 'evaluate.scales': ()}
    assert then.changed_keys(now | {'evaluate.scales': [0.9, 1.1]}, now) == {}
    config |= {'evaluate.scales': [0.9, 1.1]}
    assert then.of_its_time(kept, flags) == ['--config.evaluate.scales=0.9,1.1']
    config['evaluate.scales'] = []
    own = {'command': 'python launch.py --config=mine.py', 'config': config}
    assert then.of_its_time(own) == []


def test_reproduced_scores_are_compared_on_the_same_examples(folder):
    kept = record.record(folder, folder)
    assert reproduce.changed_keys(kept, folder) == {}
    kept['config']['loss'] = 'l1'
    assert reproduce.changed_keys(kept, folder) == {'loss': ('l1', 'mse')}
    kept['splits']['test']['metrics']['age/mae'] -= 0.25
    off = reproduce.differences(kept, folder)
    assert off == {'test': {'age/mae': 0.25, 'age/rmse': 0.0, 'gender/accuracy': 0.0}}
    files.write_json(folder / 'dataset.json', {'splits': {'test': {'sha256': 'b'}}})
    with pytest.raises(ValueError, match="split 'test' has the hash b, and had a"):
        reproduce.differences(kept, folder)
