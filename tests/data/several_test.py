import pytest

from hybrid import default_config
from hybrid.data import several
from hybrid.training import config_checks

ALIGNED = {'imdb_wiki/wiki': {'align': True}}


def config_of(dataset, **keys):
    config = default_config.get_config()
    change(config.data, {'dataset': dataset, **keys})
    return config


def change(data, keys):
    for name, value in keys.items():
        setattr(data, name, value)


def described(config):
    return [
        (one.data.dataset, one.data.manual_dir, one.data.parameters.to_dict(), one.data.weights)
        for one in several.each(config)
    ]


def test_a_config_of_one_dataset_is_left_as_it_is():
    config = config_of('face_csv/a', manual_dir='x,y', parameters={'align': True})
    config_checks.check_config(config)
    assert several.each(config) == [config]
    assert several.sections(config.data)[0] is config.data
    config.data.weights = '1,1'
    config_checks.check_config(config)
    with pytest.raises(ValueError, match=r'weights=1,1, but .*=face_csv/a is one dataset'):
        config_checks.check_training(config)


def test_each_dataset_gets_what_belongs_to_it():
    config = config_of(
        'utkface, imdb_wiki/wiki', manual_dir='/d', parameters=ALIGNED, weights='1,3'
    )
    config_checks.check_config(config)
    assert described(config) == [
        ('utkface', '/d', {}, ''),
        ('imdb_wiki/wiki', '/d', {'align': True}, ''),
    ]
    config.data.manual_dir = '/d, /e'
    assert [one.data.manual_dir for one in several.each(config)] == ['/d', '/e']
    assert several.weights(config.data) == [1, 3]
    assert [one.seed for one in several.each(config)] == [config.seed] * 2
    assert config.data.dataset == 'utkface, imdb_wiki/wiki'


@pytest.mark.parametrize(
    ('keys', 'message'),
    [
        ({'dataset': 'a,'}, 'config.data.dataset=a,: a comma without a dataset beside it'),
        ({'dataset': 'a,b,a'}, 'config.data.dataset=a,b,a names a dataset twice'),
        ({'manual_dir': 'x,y,z'}, 'manual_dir=x,y,z must be one folder for all 2 datasets'),
        ({'parameters': {'align': True}}, "'align' is not one of a, b with a dict; the parameters"),
        ({'parameters': {'a': 1}}, "'a' is not one of a, b with a dict"),
        ({'weights': '1'}, 'weights=1 must be 2 positive numbers, one for each dataset'),
        ({'weights': '1,0'}, 'weights=1,0 must be'),
        ({'weights': '1,nan'}, 'weights=1,nan must be'),
        ({'weights': 'a,b'}, 'weights=a,b must be'),
    ],
)
def test_what_does_not_go_together_is_one_line(keys, message):
    with pytest.raises(ValueError, match=message):
        config_checks.check_config(config_of(**{'dataset': 'a,b', **keys}))


def settled(config, **changed):
    before = config.data.copy_and_resolve_references()
    change(config.data, changed)
    several.settle(config.data, before, {f'data.{name}' for name in changed})
    config_checks.check_config(config)
    return described(config)


def test_other_datasets_do_not_get_what_belongs_to_those_of_the_run():
    def run(dataset='utkface,imdb_wiki/wiki,imdb_wiki/imdb'):
        parameters = ALIGNED if ',' in dataset else {'align': True}
        return config_of(dataset, manual_dir='u,w,i', parameters=parameters, weights='1,2,3')

    assert settled(run(), dataset='imdb_wiki/wiki') == [
        ('imdb_wiki/wiki', 'w', {'align': True}, '')
    ]
    assert settled(run(), dataset='utkface') == [('utkface', 'u', {}, '')]
    assert settled(run(), dataset='imdb_wiki/imdb,imdb_wiki/wiki') == [
        ('imdb_wiki/imdb', 'i', {}, ''),
        ('imdb_wiki/wiki', 'w', {'align': True}, ''),
    ]
    assert settled(run(), dataset='face_csv/x') == [('face_csv/x', '', {}, '')]
    assert settled(run(), dataset='face_csv/x', manual_dir='f', parameters={'folds': 5}) == [
        ('face_csv/x', 'f', {'folds': 5}, '')
    ]
    kept = run(dataset='imdb_wiki/wiki')
    before = kept.data.copy_and_resolve_references()
    change(kept.data, {'dataset': 'face_csv/x', 'parameters': {'align': False}})
    several.settle(kept.data, before, {'data.dataset', 'data.parameters.align'})
    assert kept.data.parameters.to_dict() == {'align': False}
    same = run()
    several.settle(same.data, run().data, {'train.num_steps'})
    assert same == run()

    def one():
        return config_of('face_csv/a', manual_dir='a', parameters={'align': True})

    assert settled(one(), dataset='face_csv/b') == [('face_csv/b', '', {}, '')]
    assert settled(one(), dataset='face_csv/b', manual_dir='b') == [('face_csv/b', 'b', {}, '')]
    assert settled(one(), dataset='face_csv/b,face_csv/a') == [
        ('face_csv/b', '', {}, ''),
        ('face_csv/a', 'a', {'align': True}, ''),
    ]
    variant = settled(config_of('utkface', manual_dir='u'), dataset='utkface/coral_21_60')
    assert variant == [('utkface/coral_21_60', 'u', {}, '')]
    same = [('face_csv/a', 'a', {'folds': 5}, '')]
    assert settled(one(), dataset='face_csv/a', parameters={'folds': 5}) == same


def test_parameters_of_several_datasets_are_refused_for_one():
    parameters = {'imdb_wiki/wiki': {'align': True}}
    with pytest.raises(ValueError, match=r'those of imdb_wiki/wiki, but .* is one dataset; --co'):
        config_checks.check_config(config_of(dataset='face_csv/mine', parameters=parameters))
