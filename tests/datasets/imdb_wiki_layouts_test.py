import pytest

from hybrid.datasets.imdb_wiki import layouts
from tests.imdb_wiki_archive import many_rows, mat_bytes, write_tar


@pytest.mark.parametrize(
    ('found', 'mat'),
    [
        ('wiki_crop', 'wiki_crop/wiki.mat'),
        ('wiki_crop/wiki_crop', 'wiki_crop/wiki.mat'),
        ('archive/wiki_crop', 'archive/wiki_crop/wiki.mat'),
        ('.', 'wiki.mat'),
        ('wiki_crop (1).tar', 'wiki.mat'),
    ],
)
def test_layouts_that_people_have(tmp_path, found, mat, capsys):
    rows = many_rows(2)
    path = tmp_path / found
    if found.endswith('.tar'):
        write_tar(tmp_path, 'wiki', {rows[0]['full_path']: b'face'}).rename(path)
    else:
        (path / '00').mkdir(parents=True)
        (path / rows[0]['full_path']).write_bytes(b'face')
    (tmp_path / mat).write_bytes(mat_bytes('wiki', rows))
    database = layouts.find_database(tmp_path, 'wiki')
    assert (database.path, database.table) == (path, tmp_path / mat)
    assert database.images.read(rows[0]['full_path']) == b'face'
    assert list(getattr(database.images, 'seen', {})) in ([], [rows[0]['full_path']])
    said = '' if found == 'wiki_crop' else f'{tmp_path}: wiki is read from {found}\n'
    assert capsys.readouterr().out == said


@pytest.mark.parametrize(
    ('name', 'said'),
    [
        ('wiki_crop.tar.gz', 'holds wiki_crop.tar.gz: gunzip it, for images are read from where'),
        ('archive.zip', 'holds archive.zip: extract it, so that there is a folder wiki_crop/.'),
        ('wiki.tar.gz', 'the whole photographs; "faces only", wiki_crop.tar, is needed.'),
        ('wiki_crop.tar.part', 'holds wiki_crop.tar.part: its download has not ended.'),
        ('imdb_crop.tar', 'it holds imdb_crop.tar.'),
    ],
)
def test_what_is_there_instead_is_named(tmp_path, name, said):
    (tmp_path / name).touch()
    with pytest.raises(FileNotFoundError) as error:
        layouts.find_database(tmp_path, 'wiki', 'Get it.')
    first, second = str(error.value).split('\n')
    assert first.startswith(f'{tmp_path} lacks wiki_crop.tar and wiki_crop/')
    assert said in first
    assert second == 'Get it.'
