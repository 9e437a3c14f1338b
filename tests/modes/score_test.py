import gzip
import json

import numpy as np
import pytest

import hybrid
from hybrid import files
from hybrid.modes import score
from hybrid.scores import predictions_csv, report, rows

MINIMAL = (
    'id,age,gender,predicted_age,female_probability\n'
    'a,12,male,14,0.1\n'
    'b,17,female,26.5,0.9\n'
    'c,30,female,22,0.7\n'
    'd,45,,40,0.7\n'
)


def evaluation(members, size=60):
    """Rows as an evaluation has them, of an ensemble with so many members."""
    rng = np.random.default_rng(0)
    age = rng.uniform(1, 60, size).astype(np.float32)
    columns = {
        'id': [f'{k}.jpg' for k in range(size)],
        'age': np.where(rng.random(size) < 0.1, np.nan, age),
        'gender': rng.integers(-1, 2, size),
        'predicted_age': age + rng.normal(0, 6, size).astype(np.float32),
        'female_probability': rng.random(size).astype(np.float32),
        'constant_age': np.full(size, 31.5),
        'constant_gender': np.ones(size, np.int64),
        'ethnicity': rng.choice(['white', 'black', ''], size),
        'leak': rng.random(size) < 0.1,
    }
    for k in range(members):
        columns[f'member_{k}_age'] = columns['predicted_age'] + 2 * k - 1
        columns[f'member_{k}_female_probability'] = columns['female_probability']
    columns |= {'age_std': np.full(size, 1.0), 'gender_agreement': np.ones(size)}
    return rows.create(columns, ['ethnicity'])


def test_scored_anew_the_metrics_are_those_of_the_evaluation(tmp_path, capsys):
    first, again = tmp_path / 'evaluation/test', tmp_path / 'again'
    report.write_report(evaluation(members=2), first, 'test', best_member=1)
    about = {'dataset': 'faces', 'split': 'test', 'best_member_on_validation': 1}
    files.write_json(first / 'evaluation.json', about)
    scores = hybrid.score(first / 'predictions.csv', output=again)
    for name in ('metrics.json', 'predictions.csv', 'subgroups.csv', 'thresholds.csv'):
        assert (again / name).read_bytes() == (first / name).read_bytes(), name
    names = {path.name for path in first.iterdir()}
    assert {path.name for path in again.iterdir()} == names
    assert {'thresholds.png', 'subgroups.png', 'age_scatter.png'} < names
    assert 'minus_best_member/age/mae' in scores
    assert 'thresholds/18/challenge_25/false_negative_rate' in scores
    assert 'faces, test, scored anew: 60 examples' in capsys.readouterr().out
    assert json.loads((again / 'evaluation.json').read_text())['split'] == 'test'
    compressed = first / 'predictions.csv.gz'
    compressed.write_bytes(gzip.compress((first / 'predictions.csv').read_bytes()))
    assert hybrid.score(compressed, output=tmp_path / 'third') == pytest.approx(scores, nan_ok=True)
    assert 'faces, test, scored anew: 60 examples' in capsys.readouterr().out


def test_predictions_that_it_did_not_write_are_not_replaced(tmp_path):
    path, out = tmp_path / 'theirs.csv', tmp_path / 'out'
    path.write_text(MINIMAL)
    out.mkdir()
    (out / 'predictions.csv').write_text('raw answers')
    for about in (None, {'dataset': 'faces', 'split': 'test'}):
        if about:  # The evaluation of a run.
            files.write_json(out / 'evaluation.json', about)
        with pytest.raises(ValueError, match=r'holds a file predictions\.csv that --mode=score'):
            score.score(path, out)
    assert (out / 'predictions.csv').read_text() == 'raw answers'
    (out / 'predictions.csv').unlink()
    with pytest.raises(
        ValueError, match=r'holds a file evaluation\.json that --mode=score did not'
    ):
        score.score(path, out)


def test_an_interrupted_scoring_is_begun_again(tmp_path, monkeypatch):
    path, out = tmp_path / 'theirs.csv', tmp_path / 'out'
    path.write_text(MINIMAL)
    with monkeypatch.context() as patched:
        patched.setattr(report.plots, 'plot_age_scatter', interrupted)
        with pytest.raises(KeyboardInterrupt):
            score.score(path, out)
    assert (out / 'predictions.csv').exists()
    scores = score.score(path, out)
    np.testing.assert_equal(score.score(path, out), scores)


def interrupted(*arguments, **options):
    raise KeyboardInterrupt


def test_columns_of_members_come_all_or_none(tmp_path):
    columns = dict(evaluation(members=2).columns)
    lacking = {'age_std': 'age_std', 'gender_agreement': 'gender_agreement'}
    lacking |= {name: name for name in columns if name.startswith('member_1')}
    for name in lacking:
        kept = {key: column for key, column in columns.items() if key != name}
        path = tmp_path / 'theirs.csv'
        predictions_csv.write_predictions(rows.create(kept, ['ethnicity']), path)
        with pytest.raises(ValueError, match=f'members of an ensemble, but lacks {name}: add'):
            score.score(path, tmp_path / 'out')


def test_a_compressed_table_is_scored_under_its_name(tmp_path, capsys):
    path = tmp_path / 'theirs.csv.gz'
    path.write_bytes(gzip.compress(MINIMAL.encode()))
    assert score.score(path, tmp_path / 'out')['gender/accuracy'] == 1.0
    assert 'theirs, scored anew: 4 examples' in capsys.readouterr().out
    for number, (name, title) in enumerate({'A.CSV.GZ': 'A', 'b.txt': 'b'}.items()):
        data = MINIMAL.encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if number == 0 else data)
        score.score(tmp_path / name, tmp_path / f'out{number}')
        assert f'{title}, scored anew: 4 examples' in capsys.readouterr().out


def test_the_table_of_another_program(tmp_path):
    path = tmp_path / 'theirs.csv'
    path.write_text('\ufeff' + MINIMAL + '\n')
    scores = score.score(path, tmp_path / 'out')
    assert scores['age/mae'] == pytest.approx((2 + 9.5 + 8 + 5) / 4)
    assert scores['gender/accuracy'] == 1.0
    assert np.isnan(scores['constant/age/mae'])
    assert scores['constant/gender/num_examples'] == 0
    assert scores['thresholds/18/challenge_25/false_positive_rate'] == 0.5
    found = predictions_csv.read_predictions(tmp_path / 'out/predictions.csv')
    assert np.isnan(found['constant_age']).all()
    assert (found['constant_gender'] == -1).all()


@pytest.mark.parametrize(
    ('before', 'after', 'said'),
    [
        ('predicted_age', 'estimate', r"lacks the columns \['predicted_age'\]; it has \['id', "),
        (',', ';', r"lacks the columns \['id', 'age', .*it has \['id;age;.*'\], between commas"),
        (MINIMAL, MINIMAL.replace(',', ';').replace('.', ','), r"lacks the columns .*\['id;age;"),
        ('12,male', '12,M', "line 2: gender is 'M', and must be male, female or empty"),
        ('26.5', '"26,5"', r"line 3: predicted_age is '26,5', and must be a number such as 0\.5"),
        ('a,12', 'a,-1', r"age of 'a' is -1\.0: 1 cells are neither years from 0 on nor empty"),
        ('b,17', 'a,17', r"the id 'a' is in 2 rows; an example is scored once"),
        ('26.5', '-1', r"predicted_age of 'b' is -1\.0, which is no age: .* \(1 in all\)"),
        ('26.5', '999', r"predicted_age of 'b' is 999\.0, which is no age"),
        ('0.7', '70', r"female_probability of 'c' is 70\.0: 2 cells are neither from 0 to 1 nor"),
        (MINIMAL[47:], '', 'has no rows'),
        (MINIMAL, '\0', 'lacks the columns'),
        (MINIMAL, '\udcff', 'is no CSV in UTF-8'),
        ('12,male', '"1\n2",male', r"line 2: age is '1\\n2', and must be a number such as 0\.5"),
    ],
)
def test_what_is_no_table_is_refused_in_a_line(tmp_path, before, after, said):
    path = tmp_path / 'theirs.csv'
    path.write_text(MINIMAL.replace(before, after), errors='surrogateescape')
    with pytest.raises(ValueError, match=rf'theirs\.csv.*{said}'):
        score.score(path, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('added', 'cells', 'said'),
    [
        ('age_low', '3', 'has one of the columns age_low and age_high: add the other one'),
        ('age_max', '30', 'has one of the columns age_min and age_max: add the other one'),
        ('age_low,age_high', '9,5', r"age_low of 'a' is 9\.0, above age_high, which is 5\.0"),
        ('age_min,age_max', '29,20', r"age_min of 'a' is 29\.0, above age_max, which is 20\.0"),
    ],
)
def test_ends_come_in_pairs_and_in_order(tmp_path, added, cells, said):
    header, *lines = MINIMAL.splitlines()
    path = tmp_path / 'theirs.csv'
    path.write_text('\n'.join([f'{header},{added}', *(f'{line},{cells}' for line in lines)]))
    with pytest.raises(ValueError, match=rf'theirs\.csv.*{said}'):
        score.score(path, tmp_path / 'out')


def test_ranges_are_filled_in_where_the_age_is_not_known(tmp_path):
    path = tmp_path / 'theirs.csv'
    path.write_text(
        'id,age,age_min,age_max,gender,predicted_age,female_probability,leak\n'
        'a,12,,,male,14,0.1,FALSE\n'  # exact
        'b,,20,29,Female,26.5,0.9,TRUE\n'
        'c,,70,,,66,0.7,false\n'
    )
    table = score.read_table(path)
    assert table['age_min'].tolist() == [12, 20, 70]
    assert table['age_max'].tolist() == [12, 29, np.inf]
    assert table['leak'].tolist() == [False, True, False]
    scores = score.score(path, tmp_path / 'out')
    assert (scores['age/num_examples'], scores['age/mae']) == (1, 2)
    assert (scores['age/interval_num_examples'], scores['age/interval_error']) == (2, 2)
    # An exact age counts beside its range, and may not contradict it.
    text = path.read_text()
    path.write_text(text.replace('a,12,,', 'a,12,10,'))
    assert score.read_table(path)['age_max'].tolist() == [12, 29, np.inf]
    np.testing.assert_equal(score.score(path, tmp_path / 'again'), scores)
    path.write_text(text.replace('a,12,,', 'a,12,20,29'))
    with pytest.raises(ValueError, match=r"age of 'a' is 12\.0, which is not .*20\.0 and 29"):
        score.read_table(path)
    path.write_text(text.replace('TRUE', 'yes'))
    with pytest.raises(ValueError, match=r"line 3: leak is 'yes', and must be true or false"):
        score.read_table(path)


def test_empty_intervals_are_none_and_what_says_nothing_beside_the_table_neither(tmp_path, capsys):
    header, *lines = MINIMAL.splitlines()
    path = tmp_path / 'predictions.csv'
    for cells, level in ((',,', 0.8), (',0,90', 0.8), (',0,90', '0.8')):
        path.write_text('\n'.join([f'{header},age_low,age_high', *(x + cells for x in lines)]))
        about = {'unsure_below': None, 'interval_level': level}
        (tmp_path / 'evaluation.json').write_text(json.dumps(about))
        scores = score.score(path, tmp_path / 'out')
        assert scores.get('age/coverage') == (1.0 if cells == ',0,90' else None)
        told = 'coverage: of intervals that promise 80 %' in capsys.readouterr().out
        assert told == (cells == ',0,90' and level == 0.8)
    # Of a table of another name it says nothing.
    files.write_json(tmp_path / 'evaluation.json', {'dataset': 'ours', 'interval_level': 0.8})
    score.score(path.rename(tmp_path / 'theirs.csv'), tmp_path / 'out')
    told = capsys.readouterr().out
    assert 'theirs, scored anew' in told
    assert 'that promise 80 %' not in told
    assert 'dataset' not in json.loads((tmp_path / 'out/evaluation.json').read_text())


def test_a_column_of_names_is_no_subgroup(tmp_path):
    lines = [f'{k},{k},male,4,0.1,{k}.jpg' for k in range(101)]
    path = tmp_path / 'theirs.csv'
    path.write_text('\n'.join([MINIMAL.splitlines()[0] + ',path', *lines]))
    with pytest.raises(ValueError, match=r"column 'path' would be subgroups, but has 101 values"):
        score.score(path, tmp_path / 'out')
    columns = [f'c{k}' for k in range(7)]
    path.write_text(
        '\n'.join([','.join([MINIMAL.splitlines()[0], *columns]), 'a,12,male,14,0.1' + ',x' * 7])
    )
    with pytest.raises(ValueError, match=r'7 columns would be subgroups, and at most 6 .*: leave'):
        score.score(path, tmp_path / 'out')


def test_paths_that_do_not_fit(tmp_path):
    (tmp_path / 'a.csv').write_text(MINIMAL)
    with pytest.raises(ValueError, match=r'needs --input=FILE\.csv and --output=FOLDER'):
        score.score(tmp_path / 'a.csv', '')
    with pytest.raises(ValueError, match=r'holds --input=a\.csv: name another folder'):
        score.score(tmp_path / 'a.csv', tmp_path)
    with pytest.raises(NotADirectoryError, match='is a file; name a folder'):
        score.score(tmp_path / 'a.csv', tmp_path / 'a.csv')
    with pytest.raises(FileNotFoundError, match=r'--input=.*b\.csv: no such file'):
        score.score(tmp_path / 'b.csv', tmp_path / 'out')
