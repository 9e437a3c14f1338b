import math
import re
import subprocess

import cv2
import numpy as np
import pytest

from hybrid.datasets.face_csv import pixels, table
from hybrid.datasets.image_sources import Folder
from tests.launching import ROOT


def read(tmp_path, text: str):
    path = tmp_path / 'faces.csv'
    path.write_bytes(text.encode())
    return table.read_table(path, Folder(tmp_path).locate)


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
    unknown = ['nan', 'None', 'N/A', '?', '-', 'Unknown', 'u']
    lines = [f'{k},,{word}' for k, word in enumerate(unknown)]
    faces = read(tmp_path, '\n'.join(['path,age,gender', *lines]) + '\n')
    assert [face.gender for face in faces] == [-1] * 7
    (face,) = read(tmp_path, 'path,age,gender\na,1,f\n')
    assert face[:6] == (2, 'a', 1.0, 1, '', '')
    assert (face.id, face.box, face.whole, face.photo) == ('a', None, True, 'a')
    assert (face.age_min, face.age_max) == (1.0, 1.0)


def test_a_column_photo_says_what_a_face_was_cut_out_of(tmp_path, capsys):
    text = 'path,photo,age,gender\na_0.png,a.jpg,1,f\na_1.png,./a.jpg,1,f\n./b.png,,2,m\n'
    assert [face.photo for face in read(tmp_path, text)] == ['a.jpg', 'a.jpg', 'b.png']
    output = capsys.readouterr().out
    assert output == f"{tmp_path}/faces.csv: faces with the same 'photo' stay in one split\n"


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', "line 0: columns without names; there must be 'path', 'age', 'gender'"),
        ('path,age\na,1\n', "line 1: columns 'path', 'age'; there must be"),
        ('path,age,gender,Age\n', "line 1: columns 'path', 'age', 'gender', 'age'; there must be"),
        ('path,age,gender,grop\n', "line 1: column 'grop': is it meant to be 'group'?"),
        ('file,age,Sex\n', "instead of age; rename 'file' to 'path', 'sex' to 'gender'"),
        ('path,age,gender\n', 'has no line but the first'),
        ('path,age,gender\na,1,f\nb,x,f\n', "line 3: age 'x' is no number of years"),
        ('path,age,gender\na,-1,f\n', "line 2: age '-1' is no number of years"),
        ('path,age,gender\na,29-20,f\n', "line 2: age '29-20' is no number of years"),
        ('path,age,gender\na,9-Mar,f\n', "line 2: age '9-Mar' looks like a date"),
        (
            'path,age_min,gender\na,1,f\n',
            'line 1: there is a column age_min, but none age_max',
        ),
        ('path,age_min,age_max,gender\na,9,3,f\n', "line 2: age_min '9' is above age_max '3'"),
        ('path,age_min,age_max,gender\na,x,3,f\n', "line 2: age_min 'x' is no number of years"),
        (
            'path,age,gender,age_min,age_max\na,35,f,20,29\n',
            "line 2: the age is not between age_min '20' and age_max '29'",
        ),
        ('path,age,gender\na,200,f\n', "line 2: age '200' is no number of years"),
        ('path,age,gender\na,1,1\n', "line 2: gender '1' is none of male, female"),
        ('path,age,gender\na,1,0\n', 'write one of these instead of 0 and 1'),
        ('path,age,gender\n,1,f\n', 'line 2: the path is empty'),
        ('path,age,gender\na,1\n', 'line 2: 2 cells, but 3 columns'),
        ('path,age,gender\na,1,f,f\n', 'line 2: 4 cells, but 3 columns'),
        (',path,age,gender\n0,a,1,f,f\n', 'line 2: 5 cells, but 4 columns'),
        ('path,age,gender\na,1,f\na\\b,1,f\na/b,1,f\n', "line 4: 'a/b' is on line 3 too"),
        ('path,age,gender\na,1,f\nb,1,f\na,2,m\n', "line 4: 'a' is on line 2 too"),
        ('path,age,gender,split\na,1,f,\n', "line 2: split '' is no name of a split"),
        ('path,age,gender,split\na,1,f,all\n', "line 2: split 'all' is no name of a split"),
        ('path,age,gender,split\na,1,f,../x\n', "line 2: split '../x' is no name of a split"),
        ('path,age,gender,split\na,1,f,0\n', "split '0' is no name of a split, such as train or"),
        ('path,age,gender\n"a"b,1,f\n', 'line 2: '),
    ],
)
def test_an_error_names_the_file_and_the_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=re.escape(f'faces.csv{", " * (message[:4] == "line")}')):
        read(tmp_path, text)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        read(tmp_path, text)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    'text',
    [
        'path, age, gender\na, 1, f\nb, 2.5, m\n',
        'Path,AGE,Gender\na,1,f\nb,2.5,m\n',
        'path;age;gender\na;1;f\nb;2,5;m\n',
        'path\tage\tgender\na\t1\tf\nb\t2.5\tm\n',
        'path|age|gender\r\na|1|f\r\nb|2.5|m\r\n',
        'path,age,gender\ra,1,f\rb,2.5,m\r',
        'sep=;\n\npath;age;gender\na;1;f\nb;2,5;m\n',
        '"path", "age", "gender"\n"a", "1", "f"\n"b", "2,5", "m"\n',
        ',path,age,gender\n0,a,1,f\n1,b,2.5,m\n',
        'path,age,gender,\na,1,f,\nb,2.5,m,\n',
        ',path,,age,gender,,\n0,a,x,1,f,,\n1,b,,2.5,m,,\n',
        'path,age,gender\na,1,f,,\n\n,,\nb,2.5,m\n,,,,\n',
    ],
)
@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
def test_tables_as_programs_write_them(tmp_path, text, encoding):
    path = tmp_path / 'faces.csv'
    path.write_bytes(text.encode(encoding))
    faces = table.read_table(path)
    assert [face[1:6] for face in faces] == [('a', 1.0, 1, '', ''), ('b', 2.5, 0, '', '')]
    lines = re.split('\r\n|\r|\n', text)
    assert faces[0].line == next(k for k, line in enumerate(lines, 1) if '1' in line)


def test_a_comma_between_two_ages_is_not_taken_for_decimals(tmp_path):
    with pytest.raises(ValueError, match=r"line 2: age '25,32' is no number .* \(25, 32\)"):
        read(tmp_path, 'path,age,gender\na,"25,32",f\n')
    semicolons = 'path;age;gender\na;25,32;f\nb;{};m\n'
    assert [x.age for x in read(tmp_path, semicolons.format('31,07'))] == [25.32, 31.07]
    # All of them may be ranges, or another one is.
    for other in ('8,13', '4-6', '(4, 6)'):
        with pytest.raises(ValueError, match=r'line 2: .* the age 25,32 .* Write 25\.32 or 25-32'):
            read(tmp_path, semicolons.format(other))


def test_paths_of_other_systems_and_absolute_ones_are_found_in_the_folder(tmp_path):
    (tmp_path / 'odd\\name').touch()
    text = f'path,age,gender\nimg\\0.jpg,1,f\n{tmp_path}/img/1.jpg,1,f\nodd\\name,1,f\n/etc/x,1,f\n'
    paths = [face.path for face in read(tmp_path, text)]
    assert paths == ['img/0.jpg', 'img/1.jpg', 'odd\\name', '/etc/x']


def test_what_is_no_text_says_how_to_save_it(tmp_path):
    path = tmp_path / 'faces.csv'
    for content, message in (
        (b'PK\x03\x04...', 'is a workbook, not a table in text: save it as "CSV UTF-8"'),
        ('path,age'.encode('utf-16-le'), r'is not UTF-8 text \(it holds NUL bytes\): save it as'),
        (b'path,age,gender\n\xe9,1,f\n', 'is not UTF-8 text .*: save it as "CSV UTF-8"'),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            table.read_table(path)


def test_images_that_are_in_the_table_are_drawn(tmp_path, capsys):
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    row = ' '.join(map(str, image.ravel()))
    path = tmp_path / 'faces.csv'
    path.write_text(
        f'age,ethnicity,gender,img_name,pixels\n1,2,0,x.jpg,{row}\n34,0,1,x.jpg,{row}\n'
    )
    drawn: dict[str, np.ndarray] = {}
    faces = table.read_table(path, drawn=drawn)
    assert [face[1:4] for face in faces] == [('000002_x.jpg', 1.0, 0), ('000003_x.jpg', 34.0, 1)]
    source = pixels.Drawn(drawn)
    decoded = cv2.imdecode(np.frombuffer(source.read('000003_x.jpg'), np.uint8), -1)
    np.testing.assert_array_equal(decoded, image)
    assert "in 'gender' 0 is male and 1 is female" in capsys.readouterr().out
    # One of 200 x 200, a longer cell than Python's csv reads by itself.
    path.write_text(f'age,gender,pixels\n1,0,{" ".join(["255"] * 40_000)}\n')
    table.read_table(path, drawn=drawn)
    assert drawn['000002'].shape == (200, 200)
    for cell, message in (
        ('1 2 3', '3 pixels are no square image'),
        ('', '0 pixels are no square image'),
        ('1 2 3 256', 'pixels must be whole numbers from 0 to 255'),
        ('1 2 3 x', 'pixels must be whole numbers from 0 to 255'),
        ('1 2 3 -1', 'pixels must be whole numbers from 0 to 255'),
    ):
        path.write_text(f'age,gender,pixels\n1,0,{cell}\n')
        with pytest.raises(ValueError, match=f'line 2: {message}'):
            table.read_table(path)


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
    faces = table.read_table(folder / 'faces.csv')
    assert [face[:6] for face in faces] == [
        (2, '0_MariaCallas_35_f.jpg', 35.0, 1, 'MariaCallas', ''),
        (3, '12_GlennClose_62_f.jpg', 62.0, 1, 'GlennClose', ''),
    ]


def labels_by_the_manual(name, folder):
    """Runs the line of the manual that begins in the folder; path, age, gender, group, split."""
    (line,) = [x for x in (ROOT / 'docs/data.md').read_text().splitlines() if f'cd {name}' in x]
    subprocess.run(['bash', '-c', line], cwd=folder.parent, check=True)
    return [
        (face.path, (face.age_min, face.age_max), *face[3:6])
        for face in table.read_table(folder / 'faces.csv')
    ]


def test_the_lines_of_the_manual_make_tables_of_fairface_and_adience(tmp_path):
    (tmp_path / 'FairFace').mkdir()
    lines = ['file,age,gender,race,service_test']
    lines += [f'train/{k}.jpg,20-29,Male,White,True' for k in range(1, 11)]
    (tmp_path / 'FairFace/fairface_label_train.csv').write_text('\n'.join(lines) + '\n')
    lines = [lines[0], 'val/1.jpg,more than 70,Female,East Asian,False', 'val/2.jpg,0-2,Male,,']
    (tmp_path / 'FairFace/fairface_label_val.csv').write_text('\n'.join(lines) + '\n')
    faces = labels_by_the_manual('FairFace', tmp_path / 'FairFace')
    assert len(faces) == 12
    assert faces[0] == ('train/1.jpg', (20, 29), 0, '', 'train')
    assert [face[4] for face in faces[:10]].count('validation') == 1
    assert faces[10] == ('val/1.jpg', (70, math.inf), 1, '', 'test')
    assert faces[11] == ('val/2.jpg', (0, 2), 0, '', 'test')

    (tmp_path / 'Adience').mkdir()
    head = 'user_id\toriginal_image\tface_id\tage\tgender\tx\n'
    rows = ['30@N03\ta.jpg\t1\t(25, 32)\tf\t0\n', '30@N03\tb.jpg\t2\tNone\tu\t0\n']
    (tmp_path / 'Adience/fold_0_data.txt').write_text(head + ''.join(rows))
    (tmp_path / 'Adience/fold_1_data.txt').write_text(head + '7@N1\tc.jpg\t3\t35\t\t0\n')
    (tmp_path / 'Adience/fold_frontal_0_data.txt').write_text(head + rows[0])
    faces = labels_by_the_manual('Adience', tmp_path / 'Adience')
    path = 'aligned/30@N03/landmark_aligned_face.1.a.jpg'
    assert faces[0] == (path, (25, 32), 1, '30@N03', '')
    assert [face[2] for face in faces] == [1, -1, -1]
    assert math.isnan(faces[1][1][0])
    assert faces[2][1] == (35, 35)


def test_one_end_of_ranges_needs_the_other_and_a_name_that_is_almost_right_is_asked_about(tmp_path):
    with pytest.raises(ValueError, match='there is a column age_min, but none age_max: add it'):
        read(tmp_path, 'path,age,gender,age_min\na,,m,3\n')
    with pytest.raises(ValueError, match="column 'agemax': is it meant to be 'age_max'"):
        read(tmp_path, 'path,age,gender,agemax\na,,m,3\n')


def test_ends_of_ranges_may_stand_in_columns_of_their_own(tmp_path):
    text = 'path,gender,age_min,age_max\na,m,20,29\nb,f,70,\nc,f,,2\nd,m,,\ne,m,35,35\nf,m,60,inf\n'
    faces = read(tmp_path, text)
    bounds = [(face.age_min, face.age_max) for face in faces]
    assert bounds[:3] + bounds[4:] == [(20, 29), (70, math.inf), (0, 2), (35, 35), (60, math.inf)]
    assert [face.age for face in faces if face.age == face.age] == [35]
    assert all(map(math.isnan, bounds[3]))
    # Beside an age they may be wider, and where there is none they count.
    text = 'path,age,gender,age_min,age_max\na,25,m,20,29\nb,,m,20,29\nc,3-9,m,,\n'
    bounds = [(face.age_min, face.age_max) for face in read(tmp_path, text)]
    assert bounds == [(25, 25), (20, 29), (3, 9)]
