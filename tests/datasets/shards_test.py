import threading

import pytest

from hybrid.datasets import quarantine, shards
from hybrid.datasets.image_sources import RefusedError


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith('images')]


def test_order_is_of_the_ids_and_shards_are_cut_by_size(monkeypatch):
    monkeypatch.setattr(shards, 'SHARD_BYTES', 100)
    items = [shards.Item(f'{k}', 30, k) for k in range(50)]
    shuffled = shards.shuffle('train', items)
    assert shuffled == shards.shuffle('train', reversed(items))
    assert sorted(shuffled) == sorted(items) != shuffled
    assert shuffled != shards.shuffle('test', items)
    assert [len(shard) for shard in shards.cut(shuffled)] == [4] * 12 + [2]
    assert shards.cut([]) == [[]]


def test_what_is_refused_is_dropped_and_an_empty_split_an_error(capsys):
    def load(item):
        if item.row % 10 == 3:
            raise RefusedError('damaged', f'row {item.row}')
        return {'row': item.row}

    items = {
        'train': [shards.Item(f'{k}', 1, k) for k in range(100)],
        'test': [shards.Item('x', 1, 3)],
    }
    dropped = quarantine.Quarantine()
    made = shards.Shards('here', items, load, dropped)
    assert 'if interrupted, this starts again from nothing' in capsys.readouterr().out
    generators = made.generators()
    rows = [example['row'] for generate in generators['train'] for _, example in generate()]
    assert sorted(rows) == [k for k in range(100) if k % 10 != 3]
    assert made.kept == {'train': 90, 'test': 0}
    said = (
        "here: no example is left for split 'test', of 101 in all; dropped: damaged 11; the first"
    )
    with pytest.raises(ValueError, match=said):
        [list(generate()) for generate in generators['test']]
    assert dropped.counts == {'damaged': 11}
    assert threads() == []
    del items['test']
    generators = shards.Shards('here', items, load, dropped).generators()
    assert len([list(generate()) for generate in generators['train']]) == 1
    assert threads() == []
    with pytest.raises(ValueError, match='here: none of its images can be used: damaged 21; the'):
        shards.Shards('here', {'train': [], 'test': []}, load, dropped)
