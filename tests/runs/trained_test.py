from typing import Any

import pytest

from hybrid.runs import dataset_record, trained


def model(folder, config, **splits):
    """A workdir that was trained on splits of the given hashes; what it learned is not read."""
    config = config.copy_and_resolve_references()
    for role in ('train', 'validation', 'test'):
        config.data[f'{role}_split'] = next((n for n in splits if n.startswith(role)), '')
    record = {name: {'num_examples': 9, 'sha256': value} for name, value in splits.items()}
    folder.mkdir()
    dataset_record.save(folder, {'name': 'x', 'splits': record})
    nothing: Any = None
    return trained.Trained(folder, config, nothing, {}, 'best', 1)


def test_runs_on_the_same_examples_may_be_combined(tiny_config, tmp_path):
    trained.check_same_splits(
        [
            model(tmp_path / 'a', tiny_config, train='1', validation='2', test='3'),
            model(tmp_path / 'b', tiny_config, train='1', test='3'),
            model(tmp_path / 'c', tiny_config, train_all='1', validation='2', test='3'),
        ]
    )


@pytest.mark.parametrize(
    ('first', 'second', 'names'),
    [
        ({'train': '1', 'test': '3'}, {'train': '2', 'test': '3'}, "'train'"),
        # Of another name, so that no hash of the same name gives it away.
        ({'train_a': '1', 'test': '3'}, {'train_b': '2', 'test': '3'}, "'train_a' and 'train_b'"),
        ({'train': '1', 'test_a': '3'}, {'train': '1', 'test_b': '4'}, "'test_a' and 'test_b'"),
    ],
)
def test_runs_on_other_examples_may_not(tiny_config, tmp_path, first, second, names):
    models = [
        model(tmp_path / 'a', tiny_config, **first),
        model(tmp_path / 'b', tiny_config, **second),
    ]
    with pytest.raises(
        ValueError, match=f'a and .*b cannot be combined: their splits {names} diff'
    ):
        trained.check_same_splits(models)


def test_all_pairs_are_compared(tiny_config, tmp_path):
    models = [
        model(tmp_path / 'a', tiny_config, train='1'),
        model(tmp_path / 'b', tiny_config, train='1', test='3'),
        model(tmp_path / 'c', tiny_config, train='1', test='4'),
    ]
    with pytest.raises(ValueError, match=r"b and .*c cannot be combined: their splits 'test'"):
        trained.check_same_splits(models)
