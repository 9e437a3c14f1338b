import io
import stat
import zipfile

import pytest

from hybrid.modes.serving import archives


def pack(files, **options):
    """A zip of contents by their names, or by their ZipInfo."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', **options) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return file.getvalue()


def read(content):
    return [(x.name, x.content, x.error) for x in archives.read(*archives.open_zip(content))]


def link(name, target):
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info, target


def test_photographs_are_read_and_the_rest_passed_over():
    names = ['a.jpg', 'sub/b.PNG', '../../c.jpg', '/d.jpeg', 'e.txt', '.f.jpg', '__MACOSX/a.jpg']
    content = pack([*((name, name) for name in names), ('folder.jpg/', b'')])
    shown = ['a.jpg', 'sub/b.PNG', '../../c.jpg', '/d.jpeg']
    assert read(content) == [(name, name.encode(), '') for name in shown]


def test_links_archives_and_encrypted_files_are_refused_each_in_a_sentence():
    nested = pack([('x.jpg', b'x')])
    content = pack(
        [link('l.jpg', '/etc/passwd'), ('n.zip', nested), ('o.tar.gz', b'x'), ('a.jpg', b'a')]
    )
    assert read(content) == [
        ('l.jpg', b'', 'a link, which is not followed'),
        ('n.zip', b'', 'an archive within the archive, which is not read'),
        ('o.tar.gz', b'', 'an archive within the archive, which is not read'),
        ('a.jpg', b'a', ''),
    ]
    # The flag that says so, in both heads of the only entry.
    encrypted = bytearray(pack([('a.jpg', b'secret')]))
    encrypted[6] |= 1
    encrypted[encrypted.index(b'PK\x01\x02') + 8] |= 1
    assert read(bytes(encrypted)) == [
        ('a.jpg', b'', 'encrypted, and there is nowhere to give a password')
    ]


def test_what_unpacks_to_too_much_is_not_unpacked(monkeypatch):
    monkeypatch.setattr(archives, 'MOST_BYTES', 1 << 20)
    bomb = pack([('a.jpg', bytes(2 << 20)), ('b.jpg', b'b')], compression=zipfile.ZIP_DEFLATED)
    assert len(bomb) < 10_000
    unread = 'unpacks to more than the 1 MB that are read'
    assert read(bomb) == [('a.jpg', b'', unread), ('b.jpg', b'b', '')]
    monkeypatch.setattr(archives, 'MOST_BYTES_TOGETHER', 2 << 20)
    with pytest.raises(
        ValueError, match=r'^The zip unpacks to 2 MB, more than the 2 MB that are r'
    ):
        archives.open_zip(bomb)


def test_an_entry_that_lies_about_its_size_is_damaged():
    content = bytearray(pack([('a.jpg', bytes(5000))], compression=zipfile.ZIP_DEFLATED))
    for place in (22, content.index(b'PK\x01\x02') + 24):
        content[place : place + 4] = (10).to_bytes(4, 'little')
    ((name, unpacked, error),) = read(bytes(content))
    assert (name, unpacked) == ('a.jpg', b'')
    assert error.startswith('cannot be unpacked: Bad CRC-32')


def test_what_would_be_unpacked_as_a_whole_is_refused():
    """Of these zipfile unpacks all there is, whatever size the entry tells."""
    for method in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        content = pack([('a.jpg', bytes(50_000)), ('b.jpg', b'b')], compression=method)
        said = 'compressed by another method than deflate, which is the only one that is read'
        assert read(content) == [('a.jpg', b'', said), ('b.jpg', b'', said)]
    info, target = link('.', 'x')
    assert read(pack([(info, target), ('a.jpg', b'a')]))[1:] == [('a.jpg', b'a', '')]


@pytest.mark.parametrize('count', [1001, 1101])
def test_the_number_of_entries_is_limited(count):
    content = pack([(f'{k}.jpg', b'') for k in range(count)])
    with pytest.raises(ValueError, match=r'^The zip has .*1,[01]0[01]? .*that are read\.$'):
        archives.open_zip(content)


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        (b'', 'This is no zip file, or a damaged one.'),
        (b'hello', 'This is no zip file, or a damaged one.'),
        (pack([('a.jpg', b'a')])[:-10], 'This is no zip file, or a damaged one.'),
        (pack([]), 'The zip has no photograph among its 0 entries.'),
        (pack([('a.txt', b'a')]), 'The zip has no photograph among its 1 entries.'),
    ],
    # By their bytes, which hold the time, the tests would be named differently in each process.
    ids=['nothing', 'text', 'cut short', 'no entry', 'no photograph'],
)
def test_what_is_no_zip_of_photographs_is_told_in_a_sentence(content, said):
    with pytest.raises(ValueError, match=said):
        archives.open_zip(content)
