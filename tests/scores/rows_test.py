import csv
import gzip
import math

import numpy as np
import pytest

from hybrid.scores import metrics, predictions_csv, rows
from tests.scores.report_test import create, table


def test_predictions_round_trip_exactly(tmp_path):
    columns = table(3000)
    # Any float32 there is, of either sign and any exponent but inf and NaN.
    bits = np.random.default_rng(1).integers(0, 2**32, 3000, dtype=np.uint32)
    wild = bits.view(np.float32)
    columns['female_probability'] = np.where(np.isfinite(wild), wild, 0)
    path = tmp_path / 'predictions.csv'
    expected = create(columns)
    predictions_csv.write_predictions(expected, path)
    read = predictions_csv.read_predictions(path)
    assert (list(read), read.subgroups) == (list(expected), ('ethnicity',))
    for name, column in expected.items():
        assert read[name].dtype.kind == column.dtype.kind
        np.testing.assert_array_equal(read[name], column, err_msg=name)


def test_damaged_predictions_are_named(tmp_path):
    path = tmp_path / 'predictions.csv'
    predictions_csv.write_predictions(create(table()), path)
    good = path.read_text()
    path.write_text(good.replace('predicted_age', 'age', 1))
    with pytest.raises(ValueError, match=r"predictions.csv has the column 'age' twice"):
        predictions_csv.read_predictions(path)
    path.write_text(good[:-12])
    with pytest.raises(ValueError, match=r'predictions.csv, line 41 must have 9 cells, not 7'):
        predictions_csv.read_predictions(path)
    path.write_text(good.replace(',female,31.5', ',woman,31.5').replace(',female,', ',woman,'))
    with pytest.raises(
        ValueError, match=r"predictions.csv, line 2: gender is 'woman', and must be male, "
    ):
        predictions_csv.read_predictions(path)
    path.write_text('')
    with pytest.raises(ValueError, match='empty'):
        predictions_csv.read_predictions(path)
    path.write_bytes(b'id,age\n\xff,3\n')
    with pytest.raises(ValueError, match=r'predictions\.csv is no CSV in UTF-8: evaluate again'):
        predictions_csv.read_predictions(path)
    path.write_text(good.replace('\n', f'\n{"a" * 99}', 1))
    limit = csv.field_size_limit(50)  # Of the process.
    try:
        with pytest.raises(ValueError, match=r'line 2 is no CSV \(field larger than field limit'):
            predictions_csv.read_predictions(path)
    finally:
        csv.field_size_limit(limit)


def test_compressed_predictions_are_the_same_and_damaged_ones_are_named(tmp_path):
    path = tmp_path / 'a.csv.gz'
    expected = create(table())
    predictions_csv.write_predictions(expected, path)
    compressed = path.read_bytes()
    assert gzip.decompress(compressed).decode() == predictions_csv.to_csv(expected)
    assert compressed[4:8] == bytes(4)  # no time, so that the bytes are the same later
    for name, column in predictions_csv.read_predictions(path).items():
        np.testing.assert_array_equal(column, expected[name], err_msg=name)
    plain = tmp_path / 'plain.csv.gz'
    plain.write_text(predictions_csv.to_csv(expected))
    path.write_bytes(compressed[:-20])
    for damaged in (plain, path):
        with pytest.raises(ValueError, match=rf'{damaged.name} is damaged, or not compressed by'):
            predictions_csv.read_predictions(damaged)
    path.write_bytes(compressed[:200] + bytes(40) + compressed[240:])
    with pytest.raises(ValueError, match=r'a\.csv\.gz is damaged'):
        predictions_csv.read_predictions(path)


def of_ensemble(members=2):
    """Rows in which member k says k years more, and is surer by k / 10, than the ensemble."""
    columns = table()
    columns['age_std'] = columns['gender_agreement'] = columns['age_width'] = np.ones(40)
    for k in range(members):
        columns[f'member_{k}_age'] = columns['predicted_age'] + k
        columns[f'member_{k}_female_probability'] = columns['female_probability'] + k / 10
        columns[f'member_{k}_age_width'] = np.full(40, 2.5 + k)
    return columns


def test_numbers_that_heads_predict_are_numbers_and_no_subgroups(tmp_path):
    written = create(of_ensemble())
    predictions_csv.write_predictions(written, tmp_path / 'predictions.csv')
    read = predictions_csv.read_predictions(tmp_path / 'predictions.csv')
    assert read.subgroups == written.subgroups == ('ethnicity',)
    for name in ('age_width', 'member_1_age_width', 'member_1_age', 'age_std'):
        assert read[name].dtype == np.float32
        np.testing.assert_array_equal(read[name], written[name])
    kinds = {name.split('/')[0] for name in metrics.compute_metrics(read) if name[:3] == 'by_'}
    assert kinds == {'by_age', 'by_gender', 'by_ethnicity'}
    alone = metrics.compute_metrics(create(table()))
    assert metrics.compute_metrics(read) == pytest.approx(alone, rel=0, abs=0, nan_ok=True)


def test_a_member_is_seen_as_a_model_of_its_own():
    all_together = create(of_ensemble(12))
    assert all_together.members == list(range(12))
    own = all_together.of_member(11)
    assert own.members == []
    assert list(own)[-3:] == ['predicted_age', 'female_probability', 'age_width']
    assert {'age_std', 'gender_agreement', 'member_3_age'}.isdisjoint(own)
    np.testing.assert_array_equal(own['predicted_age'], all_together['member_11_age'])
    assert own['age_width'][0] == 13.5
    assert own.subgroups == ('ethnicity',)


def test_only_what_is_declared_a_subgroup_is_one():
    with pytest.raises(ValueError, match=r"column 'camera' is: declare it in .*or name it"):
        create(table() | {'camera': ['x'] * 40})
    with pytest.raises(ValueError, match=r"column 'member_0_mood' is"):
        create(table() | {'member_0_mood': np.zeros(40)})
    with pytest.raises(ValueError, match=r"may not be called 'age_width': that is what the model"):
        rows.create(table() | {'age_width': ['x'] * 40}, ['ethnicity', 'age_width'])
    with pytest.raises(ValueError, match=r"lack the columns \['camera'\]"):
        rows.create(table(), ['ethnicity', 'camera'])
    camera = rows.create(table() | {'camera': range(40)}, ['ethnicity', 'camera'])
    assert camera['camera'].tolist() == [str(k) for k in range(40)]


def test_some_rows_and_rows_in_the_order_of_ids():
    written = create(table())
    mask = np.arange(40) < 3
    assert written.take(mask).num_examples == 3
    ids = written.by_id()['id']
    assert ids.tolist() == sorted(written['id'].tolist())
    clean = written.without_leaks()
    assert clean.num_examples == 40 - np.count_nonzero(written['leak'])
    assert not clean['leak'].any()
    without = {name: column for name, column in table().items() if name != 'leak'}
    assert create(without).without_leaks().num_examples == 40


@pytest.mark.parametrize('name', ['predicted_age', 'female_probability', 'member_1_age_width'])
@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_non_finite_prediction_names_the_first_id(name, value):
    columns = of_ensemble()
    columns[name][6] = columns[name][8] = value
    with pytest.raises(ValueError, match=rf'{name} of example .*6.* is {value}: 2 of 40 rows'):
        create(columns)


def test_wrong_rows_are_refused():
    columns = table()
    del columns['constant_age']
    with pytest.raises(ValueError, match='constant_age'):
        create(columns)
    with pytest.raises(ValueError, match='differ in length'):
        create(table() | {'age': [1, 2]})
    with pytest.raises(ValueError, match=r'gender of example .*0.* is 2'):
        create(table() | {'gender': [2] * 40})
