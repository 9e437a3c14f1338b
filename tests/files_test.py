import json
import os
import pathlib

import pytest

from hybrid import files


def test_writing_is_whole_or_not_at_all(tmp_path):
    path = tmp_path / 'a.json'
    files.write_json(path, {'b': 1, 'a': [1.5, None]})
    assert path.read_text() == '{\n  "a": [\n    1.5,\n    null\n  ],\n  "b": 1\n}\n'
    with pytest.raises(TypeError):
        files.write_json(path, {'a': object()})
    assert json.loads(path.read_text()) == {'b': 1, 'a': [1.5, None]}
    assert [file.name for file in tmp_path.iterdir()] == ['a.json']


def test_the_home_folder_is_meant_by_a_tilde_of_its_own_only(monkeypatch):
    monkeypatch.setenv('HOME', '/home/me')
    assert str(files.expanded('~/a.jpg')) == '/home/me/a.jpg'
    assert str(files.expanded('~nobody-is-called-this.jpg')) == '~nobody-is-called-this.jpg'


def test_line_ends_and_bytes_stay_as_they_are(tmp_path):
    files.replace(tmp_path / 'text', 'é\r\n\n')
    files.replace(tmp_path / 'bytes', b'\xff\r\n')
    assert (tmp_path / 'text').read_bytes() == 'é\r\n\n'.encode()
    assert (tmp_path / 'bytes').read_bytes() == b'\xff\r\n'


def test_what_was_written_before_an_error_stays_beside_the_old_file(tmp_path):
    path = tmp_path / 'table.csv'
    path.write_text('old')

    def write():
        with files.replacing(path) as partial:
            partial.write_text('half')
            raise OSError('the disk is full')

    with pytest.raises(OSError, match='full'):
        write()
    assert path.read_text() == 'old'
    assert (tmp_path / 'table.csv.partial').read_text() == 'half'


def test_the_state_of_what_is_no_file_or_cannot_be_read(tmp_path, monkeypatch):
    (tmp_path / 'a').write_bytes(b'12345')
    os.utime(tmp_path / 'a', ns=(7, 9))
    assert files.file_state(tmp_path / 'a') == [5, 9]
    assert files.file_state(tmp_path) is None
    assert files.file_state(tmp_path / 'none') is None
    assert files.file_state(pathlib.Path('a\0b')) is None
    monkeypatch.setattr('os.access', lambda path, mode: mode != os.R_OK)  # Root may read anything.
    assert files.file_state(tmp_path / 'a') is None


def test_damaged_lines_of_json_are_passed_over(tmp_path):
    path = tmp_path / 'lines.jsonl'
    path.write_bytes(b'{"a": 1}\n{"a": \n\xff\x00\n[2]\n{"a": "\xc3\xa9"}\n{"a": 3')
    assert files.read_json_lines(path) == [{'a': 1}, {'a': 'é'}]
