import math
import re
import subprocess

import pytest

from hybrid.datasets.face_csv import table
from tests.launching import ROOT


def read(tmp_path, text: str):
    path = tmp_path / 'faces.csv'
    path.write_bytes(text.encode())
    return table.read_table(path)


def test_labels_may_be_missing_and_columns_come_in_any_order(tmp_path, capsys):
    text = (
        '\ufeffgender,path,note,age,group,split\r\n'
        'Female,a/1.jpg,x,31.5,p1,train\r\n'
        ',"b,2.jpg","two\nlines",,,val\r\n'
        'm, c.jpg ,,0,p1,train\r\n'
    )
    faces = read(tmp_path, text)
    assert faces[0][:6] == (2, 'a/1.jpg', 31.5, 1, 'p1', 'train')
    assert faces[1][1:2] + faces[1][3:6] == ('b,2.jpg', -1, '', 'val')
    assert math.isnan(faces[1].age)
    assert faces[2][:6] == (5, 'c.jpg', 0.0, 0, 'p1', 'train')
    assert "column 'note' is passed over" in capsys.readouterr().out
    (face,) = read(tmp_path, 'path,age,gender\na,1,f\n')
    assert face[:6] == (2, 'a', 1.0, 1, '', '')
    assert (face.id, face.box, face.whole, face.photo) == ('a', None, True, 'a')


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', 'line 1: columns ; there must be path, age, gender'),
        ('path,age\na,1\n', 'line 1: columns path, age; there must be'),
        ('path,age,gender,age\n', 'line 1: columns path, age, gender, age; there must be'),
        ('path,age,gender,grop\n', "line 1: column 'grop': is it meant to be 'group'?"),
        ('path,age,gender,Split\n', "line 1: column 'Split': is it meant to be 'split'?"),
        ('path,age,gender\n', 'has no line but the first'),
        ('path,age,gender\na,1,f\nb,x,f\n', "line 3: age 'x' is no number of years"),
        ('path,age,gender\na,-1,f\n', "line 2: age '-1' is no number of years"),
        ('path,age,gender\na,20-29,f\n', "line 2: age '20-29' is no number of years"),
        ('path,age,gender\na,nan,f\n', "line 2: age 'nan' is no number of years"),
        ('path,age,gender\na,200,f\n', "line 2: age '200' is no number of years"),
        ('path,age,gender\na,1,1\n', "line 2: gender '1' is none of male, female"),
        ('path,age,gender\n,1,f\n', 'line 2: the path is empty'),
        ('path,age,gender\na,1\n', 'line 2: as many cells as columns are needed'),
        ('path,age,gender\na,1,f,f\n', 'line 2: as many cells as columns are needed'),
        ('path,age,gender\na,1,f\nb,1,f\na,2,m\n', "line 4: 'a' is on line 2 too"),
        ('path,age,gender,split\na,1,f,\n', "line 2: split '' is no name of a split"),
        ('path,age,gender,split\na,1,f,all\n', "line 2: split 'all' is no name of a split"),
        ('path,age,gender,split\na,1,f,../x\n', "line 2: split '../x' is no name of a split"),
        ('path,age,gender\n"a"b,1,f\n', 'line 2: '),
    ],
)
def test_an_error_names_the_file_and_the_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=re.escape(f'faces.csv{", " * (message[:4] == "line")}')):
        read(tmp_path, text)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        read(tmp_path, text)
    assert '\n' not in str(error.value)


def test_a_missing_table_says_what_there_is(tmp_path):
    (tmp_path / 'other.csv').touch()
    with pytest.raises(FileNotFoundError, match=r'faces\.csv is missing.*other\.csv'):
        table.read_table(tmp_path / 'faces.csv')
    (tmp_path / 'latin.csv').write_bytes(b'path,age,gender\n\xe9.jpg,1,f\n')
    with pytest.raises(ValueError, match=r'latin\.csv is not UTF-8 text'):
        table.read_table(tmp_path / 'latin.csv')


def test_the_line_of_the_manual_makes_a_table_of_agedb(tmp_path):
    (line,) = [x for x in (ROOT / 'docs/data.md').read_text().splitlines() if 'cd AgeDB' in x]
    folder = tmp_path / 'AgeDB'
    folder.mkdir()
    for name in ('0_MariaCallas_35_f.jpg', '12_GlennClose_62_f.jpg', 'x_1.jpg', 'notes.txt'):
        (folder / name).touch()
    subprocess.run(['bash', '-c', line], cwd=tmp_path, check=True)
    assert [face[:6] for face in table.read_table(folder / 'faces.csv')] == [
        (2, '0_MariaCallas_35_f.jpg', 35.0, 1, 'MariaCallas', ''),
        (3, '12_GlennClose_62_f.jpg', 62.0, 1, 'GlennClose', ''),
    ]
