import numpy as np
import pytest

from hybrid import files
from tests.finished_run import rows
from tools import worst


def test_the_worst_of_runs_evaluated_together_are_shown_in_the_data_of_the_first(folder, tmp_path):
    test = folder / 'evaluation/test'
    assert worst.trained_in(folder, test) == folder
    workdirs = [{'workdir': str(folder)}, {'workdir': '/other'}]
    files.write_json(test / 'evaluation.json', {'workdirs': workdirs})
    assert worst.trained_in(tmp_path / 'A+B', test) == folder
    files.write_json(test / 'evaluation.json', {'checkpoint': 'best'})
    with pytest.raises(
        ValueError, match=r'A-no-flip has no config.json and holds no evaluation of'
    ):
        worst.trained_in(tmp_path / 'A-no-flip', test)


def test_the_worst_come_first_and_unknown_ages_not_at_all():
    predicted = rows([20, np.nan, 40, 50], [21, 90, 30, 47], [0, 1, 0, -1], [0.1, 0.9, 0.2, 0.3])
    table_rows = predicted
    assert worst.worst_rows(table_rows, 2).tolist() == [2, 3]
    assert worst.worst_rows(table_rows, 9).tolist() == [2, 3, 0]
    assert worst.caption(table_rows, 3) == '50 years, unknown\npredicted 47, female 30 %\nface 3'
