import csv
import json

import pytest

from hybrid.datasets import quarantine


def test_report_holds_every_file_and_counts_that_add_up(tmp_path, capsys):
    dropped = quarantine.Quarantine()
    assert dropped.summary() == 'there is none'
    dropped.drop('b.jpg', 'unreadable_image', 'OSError: truncated, "very"')
    dropped.drop('a.jpg', 'malformed_name')
    dropped.drop('c.jpg', 'malformed_name')
    assert dropped.counts == {'malformed_name': 2, 'unreadable_image': 1}
    assert dropped.summary() == (
        'malformed_name 2, unreadable_image 1; the first malformed_name is a.jpg'
    )
    dropped.write(tmp_path, files=10, parsed=8, kept=7)
    assert json.loads((tmp_path / 'quarantine.json').read_text()) == {
        'files': 10,
        'parsed': 8,
        'kept': 7,
        'dropped': {'malformed_name': 2, 'unreadable_image': 1},
    }
    with (tmp_path / 'quarantine.csv').open(newline='') as file:
        assert list(csv.reader(file)) == [
            ['file', 'reason', 'detail'],
            ['a.jpg', 'malformed_name', ''],
            ['b.jpg', 'unreadable_image', 'OSError: truncated, "very"'],
            ['c.jpg', 'malformed_name', ''],
        ]
    assert capsys.readouterr().out == (
        '10 files, 8 parsed, 7 kept, 3 dropped: malformed_name 2, unreadable_image 1; '
        'the first malformed_name is a.jpg; quarantine.csv has all\n'
    )


def test_counts_that_do_not_add_up_are_refused_and_nothing_is_written(tmp_path):
    dropped = quarantine.Quarantine()
    dropped.drop('a.jpg', 'malformed_name')
    with pytest.raises(ValueError, match='10 files are not 8 kept'):
        dropped.write(tmp_path, files=10, kept=8)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_not_text_is_escaped(tmp_path):
    dropped = quarantine.Quarantine()
    dropped.drop('\udcff.jpg', 'malformed_name')
    dropped.write(tmp_path, files=1, kept=0)
    assert '\\udcff.jpg,malformed_name' in (tmp_path / 'quarantine.csv').read_text()
