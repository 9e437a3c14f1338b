import io
import os
import tarfile

import pytest

from hybrid.datasets import image_sources
from hybrid.datasets.image_sources import Archive, Folder, RefusedError


def refusal(source, path: str) -> str:
    with pytest.raises(RefusedError) as of_size:
        source.size(path)
    with pytest.raises(RefusedError) as of_read:
        source.read(path)
    assert of_size.value.reason == of_read.value.reason
    return of_read.value.reason


@pytest.mark.parametrize(
    ('path', 'unsafe'),
    [
        ('a.jpg', False),
        ('00/a..b.jpg', False),
        ('./a', False),
        ('', True),
        ('.', True),
        ('/etc/passwd', True),
        ('//a', True),
        ('../a', True),
        ('a/../../b', True),
        ('a/..', True),
        ('a\0b', True),
    ],
)
def test_paths_that_may_lead_out(path, unsafe):
    assert image_sources.is_unsafe(path) == unsafe


def test_what_macos_puts_beside_an_image_is_none():
    names = ('a.jpg', 'b/A.JPEG', '._a.jpg', 'b/._a.jpg', '.a.png', 'a.txt', '._')
    found = [name for name in names if image_sources.is_image(name)]
    assert found == ['a.jpg', 'b/A.JPEG', '.a.png']


def test_a_folder_reads_what_is_in_it_and_nothing_else(tmp_path):
    root = tmp_path / 'root'
    (root / 'a').mkdir(parents=True)
    (root / 'a/b').write_bytes(b'inside')
    (root / 'c').symlink_to('a/b')
    (tmp_path / 'outside').write_bytes(b'secret')
    (tmp_path / 'root_too').mkdir()
    (tmp_path / 'root_too/d').write_bytes(b'secret')
    (root / 'link').symlink_to('../outside')
    (root / 'up').symlink_to('..')
    (root / 'too').symlink_to('../root_too')
    os.mkfifo(root / 'pipe')
    (tmp_path / 'linked').symlink_to('root')
    for folder in (root, tmp_path / 'linked'):
        source = Folder(folder)
        assert (source.size('a/b'), source.read('a/b'), source.read('c')) == (
            6,
            b'inside',
            b'inside',
        )
        for path in ('link', 'up/outside', 'too/d', '../outside', str(tmp_path / 'outside')):
            assert refusal(source, path) == 'unsafe_path'
        assert refusal(source, 'a') == refusal(source, 'pipe') == 'not_a_regular_file'
        assert refusal(source, 'x') == refusal(source, 'a/b/c') == 'missing_file'


@pytest.mark.parametrize(
    ('there', 'given'),
    [('UPPER.JPG', 'upper.jpg'), ('e\u0301.png', '\u00e9.png'), (' a.png', 'a.png')],
)
def test_a_file_of_nearly_that_name_is_pointed_out(tmp_path, there, given):
    (tmp_path / there).touch()
    if (tmp_path / given).exists():
        pytest.skip('the same name on this file system')
    source = Folder(tmp_path)
    with pytest.raises(RefusedError) as caught:
        source.read(given)
    assert (caught.value.reason, caught.value.detail) == ('missing_file', f'there is {there!r}')
    with pytest.raises(RefusedError) as caught:
        source.read('other.png')
    assert caught.value.detail == ''


def test_links_in_a_folder_of_ones_own_are_followed_and_confined(tmp_path):
    root, disk = tmp_path / 'root', tmp_path / 'disk'
    (disk / 'a').mkdir(parents=True)
    root.mkdir()
    (disk / 'a/b').write_bytes(b'far')
    (tmp_path / 'secret').write_bytes(b'secret')
    (disk / 'out').symlink_to('../secret')
    (disk / 'in').symlink_to('a/b')
    (root / 'img').symlink_to(disk)
    (root / 'file').symlink_to('../secret')
    (root / 'loop').symlink_to('loop')
    (root / 'there').symlink_to('back')
    (root / 'back').symlink_to('there')
    (root / 'deep').mkdir()
    (root / 'deep/img').symlink_to(disk)
    source = Folder(root, own_links=True)
    assert source.links == {'img': str(disk)}
    assert source.read('img/a/b') == source.read('img/in') == b'far'
    for path in ('img/out', 'file', 'deep/img/a/b', 'img/../../secret', '../disk/a/b'):
        assert refusal(source, path) == 'unsafe_path'
    assert refusal(Folder(root), 'img/a/b') == 'unsafe_path'
    assert source.seen.keys() == {'img/a/b', 'img/in'}
    assert refusal(source, 'img/no/x') == refusal(source, 'x' * 300) == 'missing_file'
    with pytest.raises(RefusedError, match=f'there is no folder {disk}/no'):
        source.size('img/no/x')
    assert source.seen['img/no/x'] == (-1, 0, '')
    for path in ('loop', 'loop/x', 'there/x'):
        assert refusal(source, path) == 'missing_file'
        assert source.seen[path] == (-1, 0, '')


def write(path, members, mode='w'):
    with tarfile.open(path, mode) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def test_an_archive_is_read_from_where_its_files_lie(tmp_path, monkeypatch):
    path = tmp_path / 'x.tar'
    long = 'd/' * 60 + 'long'
    members = [
        ('x/a', b'1' * 700),
        ('./x/b', b'22'),
        ('c', b''),
        (f'x/{long}', b'4' * 512),
        ('x/a', b'again'),
        ('x/big', b'5' * 2000),
    ]
    write(path, members)
    monkeypatch.setattr(image_sources, 'MAX_FILE_BYTES', 1000)
    source = Archive(path, 'x')
    assert [source.read(name) for name in ('a', 'b', 'c', long)] == [
        b'again',
        b'22',
        b'',
        b'4' * 512,
    ]
    assert (source.size('b'), source.size(long)) == (2, 512)
    assert refusal(source, 'big') == 'not_a_regular_file'
    assert refusal(source, 'x/a') == 'missing_file'
    assert source.refused.keys() == {'x/big'}


def test_a_truncated_damaged_or_compressed_archive_is_refused(tmp_path):
    good = tmp_path / 'good.tar'
    write(good, [(f'{k}', bytes([k]) * 600) for k in range(20)])
    content = good.read_bytes()
    end = 20 * (512 + 1024)
    assert content[end : end + 1024] == bytes(1024)
    damaged = bytearray(content)
    damaged[10 * 1536 + 20] ^= 1  # in a header
    negative = bytearray(content)
    negative[1536 + 124 : 1536 + 136] = b'\xff' * 11 + b'\x00'  # a size below nothing
    negative[1536 + 148 : 1536 + 156] = b' ' * 8
    negative[1536 + 148 : 1536 + 156] = b'%06o\0 ' % sum(negative[1536:2048])
    write(tmp_path / 'x.tar.gz', [('a', b'1')], 'w:gz')
    for bad in (
        *(content[:length] for length in (0, 100, 512, 1000, 1536, 2000, end - 10, end)),
        bytes(damaged),
        bytes(negative),
        b'no archive' * 200,
        (tmp_path / 'x.tar.gz').read_bytes(),
    ):
        path = tmp_path / 'bad.tar'
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=r'bad\.tar .* is truncated, damaged or compressed'):
            Archive(path, 'x')
    assert Archive(good, 'x').read('19') == b'\x13' * 600
