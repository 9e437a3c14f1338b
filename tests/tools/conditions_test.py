from hybrid import files
from tools import conditions


def test_the_middle_strength_of_women_and_men_is_shown(tmp_path, monkeypatch):
    columns = ('age/mae', 'age/mae_minus_clean', 'gender/accuracy', 'gender/accuracy_minus_clean')
    header = ('condition', 'unit', 'strength', 'group', *columns)

    def case(condition, strength, women, men):
        of_groups = {'all': [9, 9, 9, 9], 'female': women, 'male': men}
        return [[condition, 'amount', strength, group, *of_groups[group]] for group in of_groups]

    rows = case('clean', '', [4, 0, 0.9, 0], [5, 0, 0.8, 0])
    for strength in range(5):
        scores = [5, strength / 10, 0.9, -strength / 100]
        rows += case('blur', strength, scores, [5, 1, 0.8, 0.01])
    monkeypatch.setattr(conditions, 'FOLDER', tmp_path)
    monkeypatch.setattr(conditions, 'PATH', tmp_path / 'elsewhere.json')
    files.write_json(conditions.PATH, {'test': {name: {'order': name == 'b'} for name in 'abc'}})
    for name in 'ab':
        files.replace(tmp_path / f'{name}.csv', files.to_csv(header, *rows))
    table = conditions.table()
    assert table[0] == '| women / men | MAE, `a` | MAE, `b` | gender, `a` | gender, `b` |'
    assert table[2:] == [
        '| unchanged | 4.00 / 5.00 | 4.00 / 5.00 | 90.0 / 80.0 | 90.0 / 80.0 |',
        '| blur, 2 (amount) | +0.20 / +1.00 | +0.20 / +1.00 | -2.0 / +1.0 | -2.0 / +1.0 |',
    ]
