"""Keys, choices and limits, with a small schema whose answers are known."""

import pytest
from ml_collections import ConfigDict

from hybrid.schema import Key, Schema

NETS = {'small': 1, 'large': 2}


def more_nets():
    return ['huge']


@pytest.fixture
def schema():
    sections = {'net': 'The network.', 'net.rnn': 'Its RNN.'}
    keys = [
        Key('seed', 3, 'The seed.', at_least=0, at_most=9),
        Key('net.name', 'small', 'Which one.', choices=('', f'{__name__}:NETS')),
        Key('net.rnn.rate', 0.5, 'How fast.', more_than=0, less_than=1),
        Key('net.rnn.blocks', (), 'Some names.'),
        Key('free', {}, 'Anything.'),
    ]
    return Schema(sections, keys)


def test_defaults_are_a_locked_config_with_their_types(schema):
    config = schema.create()
    assert config.to_dict() == {
        'seed': 3,
        'net': {'name': 'small', 'rnn': {'rate': 0.5, 'blocks': ()}},
        'free': {},
    }
    with pytest.raises(AttributeError):
        config.net.nam = 'large'
    config.free = {'a': 1}
    assert schema.create().free.to_dict() == {}
    schema.check(config)


@pytest.mark.parametrize(
    ('key', 'value', 'message'),
    [
        ('seed', 10, r'^config\.seed=10 must be in 0\.\.9$'),
        ('seed', True, r'^config\.seed=True must be of type int$'),
        ('seed', 1.0, r'^config\.seed=1\.0 must be of type int$'),
        ('net.name', 'tiny', r"^config\.net\.name='tiny' is not one of '', small, large$"),
        ('net.name', None, r'^config\.net\.name=None must be of type str$'),
        ('net.rnn.rate', 1.0, r'rate=1\.0 must be more than 0 and less than 1$'),
        ('net.rnn.rate', float('nan'), r'rate=nan must be more than 0 and less than 1$'),
        ('net.rnn.blocks', 'a', r"blocks='a' must be of type tuple$"),
    ],
)
def test_a_wrong_value_is_refused_with_what_it_may_be(schema, key, value, message):
    values = schema.create().to_dict()
    *sections, name = key.split('.')
    section = values
    for part in sections:
        section = section[part]
    section[name] = value
    with pytest.raises(ValueError, match=message):
        schema.check(ConfigDict(values))


def test_a_missing_key_and_an_infinite_number_are_refused(schema):
    with pytest.raises(ValueError, match=r'config\.net\.name is missing'):
        schema.check(ConfigDict({'seed': 1, 'net': {}}))
    assert Key('x', 1.0, '', at_least=0).problem(float('inf')) == 'must be a finite number'
    assert Key('x', 1.0, '', at_least=0).problem(2) is None


def test_what_is_registered_later_is_allowed(schema, monkeypatch):
    key = schema.keys['net.name']
    assert key.problem('new') is not None
    monkeypatch.setitem(NETS, 'new', 3)
    assert key.problem('new') is None
    assert Key('n', 'huge', '', choices=(f'{__name__}:more_nets',)).all_choices() == ('huge',)


def test_changes_of_a_section_are_checked(schema):
    schema.check_changes({'name': 'large', 'rnn': {'rate': 0.1, 'blocks': ['a']}}, 'net', 'x')
    for changes, message in (
        ({'rnn': {'rate': 2}}, r'^x\.rnn\.rate=2 must be more than 0 and less than 1$'),
        ({'rnn': 2}, r'^x\.rnn=2 must be a dict of some of blocks, rate$'),
        ({'nam': 'large'}, r'^x\.nam: no such key; there are name, rnn$'),
    ):
        with pytest.raises(ValueError, match=message):
            schema.check_changes(changes, 'net', 'x')


def test_names_are_explained(schema):
    assert schema.wrong_name('seed') is None
    assert schema.wrong_name('free.whatever') is None
    assert schema.wrong_name('net') == 'a group of keys; set one of net.name, ' + (
        'net.rnn.rate, net.rnn.blocks'
    )
    assert schema.wrong_name('net.nam', '--') == 'no such key; the nearest is --net.name'
    assert schema.explain('seed') == 'must be of type int, in 0..9; the default is 3'


def test_a_key_and_a_section_are_described(schema):
    rate = '--config.net.rnn.rate=0.5  (float; more than 0 and less than 1)\n    How fast.'
    blocks = '--config.net.rnn.blocks=()  (tuple)\n    Some names.'
    assert schema.describe('net.rnn.rate') == rate
    assert schema.describe('net.rnn') == f'net.rnn: Its RNN.\n\n{rate}\n\n{blocks}'
    assert schema.describe('net').endswith(f'{rate}\n\n{blocks}')
    with pytest.raises(ValueError, match=r'^--help=net\.rn: .* the nearest is net\.rnn$'):
        schema.describe('net.rn')
    assert [line.split()[0] for line in schema.overview().splitlines()] == ['seed', 'free', 'net']
