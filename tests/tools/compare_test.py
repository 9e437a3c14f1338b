import gzip

import pytest

from tools import compare, kept, record


def test_runs_are_compared_by_workdir_or_by_the_name_of_kept_predictions(
    folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(kept, 'RESULTS', tmp_path)
    made = folder / 'evaluation/test/predictions.csv'
    assert compare.find_predictions(str(folder), 'test') == made
    record.copy_predictions(folder, ['test'], 'a')
    copied = tmp_path / 'predictions/a.test.csv.gz'
    assert compare.find_predictions('a', 'test') == copied
    assert gzip.decompress(copied.read_bytes()) == made.read_bytes()
    with pytest.raises(ValueError, match=r'neither a/evaluation/train/predictions.csv nor .*/a\.t'):
        compare.find_predictions('a', 'train')
