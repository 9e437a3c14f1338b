from typing import Any

from tools import rows


def test_members_are_named_by_their_groups():
    config = {
        'ensemble.groups.lstm.size': 2,
        'ensemble.groups.cnn.model.recurrent.cell': 'none',
        'ensemble.size': 1,
    }
    assert rows.member_names({'config': config}) == ['cnn', 'lstm', 'lstm']
    assert rows.member_names({'config': {'ensemble.size': 3}}) == []
    assert rows.member_names({'runs': ['a', 'b']}) == ['a', 'b']


def test_the_curve_of_every_run_is_a_row(folder, tmp_path):
    curve = [
        {'step': 5, 'epoch': 0.99, 'validation/age/mae': 2.5, 'validation/gender/accuracy': 0.8},
        {'step': 10, 'epoch': 2.0, 'validation/age/mae': 2.25, 'validation/gender/accuracy': 0.9},
        {'step': 12, 'epoch': 2.4, 'validation/age/mae': 1.25, 'validation/gender/accuracy': 0.9},
    ]
    runs: list[dict[str, Any]] = [
        {'label': 'A', 'validation_curve': curve},
        {'label': 'B', 'validation_curve': curve[1:]},
    ]
    # Another evaluation of a run has its curve too, and a combination none: neither is a row.
    others: list[dict[str, Any]] = [runs[0] | {'evaluated': {}}, {'label': 'A and B'}]
    assert rows.curves_table([*others, *runs]) == [
        '| epoch | 1 | 2 |',
        '|---|---|---|',
        '| A | 2.50 / 80.0 | 2.25 / 90.0 |',
        '| B |  | 2.25 / 90.0 |',
    ]
