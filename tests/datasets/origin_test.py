import os
import shutil
import time

import pytest

from hybrid.datasets import image_sources, origin
from hybrid.datasets.image_sources import Folder


@pytest.fixture
def made(tmp_path):
    """A manual_dir with a table, an archive and images, one of which is missing; what it made."""
    source, data = tmp_path / 'source', tmp_path / 'data'
    (source / 'img').mkdir(parents=True)
    data.mkdir()
    (source / 'faces.csv').write_text('a,b\n')
    (source / 'x.tar').write_bytes(b'archive')
    for k in range(4):
        (source / f'img/{k}.jpg').write_bytes(bytes([k]) * (10 + k))
    folder = Folder(source / 'img')
    for k in range(4):
        folder.read(f'{k}.jpg')
    with pytest.raises(image_sources.RefusedError):
        folder.read('missing.jpg')
    with pytest.raises(image_sources.RefusedError):
        folder.read('../faces.csv')
    made_from = origin.Origin(source)
    made_from.add_table(source / 'faces.csv', meaning='ab')
    made_from.add_archive(source / 'x.tar')
    made_from.add_images(source / 'img', folder.seen, listed='tree')
    made_from.write(data)
    return source, data


def refusal(data, source) -> str:
    with pytest.raises(ValueError, match='was made from other files than those in') as error:
        origin.check(data, source)
    assert '\n' not in str(error.value)
    return str(error.value).removeprefix(f'{data} was made from other files than those in {source}')


def test_what_is_written_down(made):
    source, data = made
    lines = (data / 'sources.csv').read_text().splitlines()
    assert lines[0] == 'kind,name,size,modified,digest'
    modified = (source / 'img/2.jpg').stat().st_mtime_ns
    digest = image_sources.digest(b'\2' * 12)
    assert len(digest) == 16
    assert f'image,img/2.jpg,12,{modified},{digest}' in lines
    assert 'image,img/missing.jpg,-1,0,' in lines
    assert [line.split(',')[:2] for line in lines[1:5]] == [
        *(['table', 'faces.csv'], ['meaning', 'faces.csv'], ['archive', 'x.tar'], ['tree', 'img']),
    ]
    assert len(lines) == 10


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (lambda d: (d / 'img/1.jpg').write_bytes(b'x'), ': img/1.jpg had another size. To prepare'),
        (lambda d: (d / 'img/1.jpg').write_bytes(b'x' * 11), ': img/1.jpg had another content'),
        (lambda d: (d / 'img/1.jpg').unlink(), ': img/1.jpg is gone. '),
        (lambda d: (d / 'img/missing.jpg').touch(), ': img/missing.jpg was not there. '),
        (lambda d: (d / 'img/new.PNG').touch(), ': img/new.PNG was not there. '),
        (lambda d: (d / 'x.tar').write_bytes(b'another'), ': x.tar had another content'),
        (lambda d: (d / 'x.tar').write_bytes(b''), ': x.tar had another size'),
        (lambda d: (d / 'faces.csv').write_text('a,c\n'), ': faces.csv had another content'),
        (
            lambda d: [(d / f'img/{k}.jpg').write_bytes(b'') for k in (1, 2, 3)],
            ': img/1.jpg had another size, and 2 more differ. To prepare these, remove that folder',
        ),
    ],
)
def test_other_files_are_refused_and_said(made, change, said):
    source, data = made
    change(source)
    message = refusal(data, source)
    assert message.startswith(said)
    assert message.endswith('to use it as it is, say --config.data.manual_dir=')


@pytest.mark.parametrize(
    'change',
    [
        lambda d: None,
        lambda d: (d / 'img/Thumbs.db').touch(),
        lambda d: (d / 'img/notes.txt').touch(),
        lambda d: (d / 'x.tar').unlink(),
        lambda d: (d / 'faces.csv').unlink(),
        lambda d: shutil.rmtree(d / 'img'),
    ],
)
def test_what_changes_no_image_is_not_refused(made, change):
    source, data = made
    before = (data / 'sources.csv').read_bytes()
    change(source)
    origin.check(data, source)
    assert (data / 'sources.csv').read_bytes() == before


def test_a_copy_is_compared_by_content_once(made, tmp_path, monkeypatch):
    source, data = made
    copy = tmp_path / 'copy'
    shutil.copytree(source, copy)
    later = time.time() + 5
    for path in copy.rglob('*.jpg'):
        os.utime(path, (later, later))
    origin.check(data, copy)
    looked = []
    look = origin._look

    def counted(path):
        looked.append(path.name)
        return look(path)

    monkeypatch.setattr(origin, '_look', counted)
    origin.check(data, copy)
    assert looked == ['faces.csv']
    (data / 'sources.csv').chmod(0o400)
    (copy / 'img/0.jpg').write_bytes(b'x' * 10)
    assert refusal(data, copy).startswith(': img/0.jpg had another content')


def test_a_table_may_say_the_same_in_other_words(made):
    source, data = made
    (source / 'faces.csv').write_text('a;b\n')
    origin.check(data, source, lambda folder: 'ab')
    origin.check(data, source)  # It is written down.
    (source / 'faces.csv').write_text('a;c\n')
    with pytest.raises(ValueError, match=r'faces\.csv had another content'):
        origin.check(data, source, lambda folder: 'ac')


def test_without_images_or_without_a_record_the_dataset_is_used_as_it_is(made, tmp_path, capsys):
    source, data = made
    elsewhere = tmp_path / 'elsewhere'
    origin.check(data, elsewhere)
    said = f'{elsewhere} holds no image that {data} was made from; that is used as it is\n'
    assert capsys.readouterr().out == said
    (data / 'sources.csv').write_text('kind,name\ntable\n')
    with pytest.raises(ValueError, match=r'sources\.csv is damaged: remove it'):
        origin.check(data, source)
    (data / 'sources.csv').unlink()
    (source / 'img/1.jpg').unlink()
    origin.check(data, source)


def test_of_a_large_file_blocks_all_over_it_are_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(origin, 'MAX_FILE_BYTES', 2**20)
    monkeypatch.setattr(origin, '_BLOCKS', 4)
    path = tmp_path / 'large'
    content = bytearray(3 * 2**20)
    path.write_bytes(content)
    before = origin._look(path)
    content[-1] = 1
    path.write_bytes(content)
    assert origin._look(path).digest != before.digest
    assert origin._look(path).size == before.size == 3 * 2**20


def test_names_need_not_be_text(tmp_path):
    name = os.fsdecode(b'\xff.jpg')
    (tmp_path / name).write_bytes(b'1')
    folder = Folder(tmp_path)
    folder.read(name)
    made_from = origin.Origin(tmp_path)
    made_from.add_images(tmp_path, folder.seen, listed='')
    made_from.write(tmp_path)
    origin.check(tmp_path, tmp_path)
    (tmp_path / name).write_bytes(b'22')
    with pytest.raises(ValueError, match='had another size'):
        origin.check(tmp_path, tmp_path)
