import gzip
import io
import stat
import tarfile
import tracemalloc
import zipfile

import pytest

from hybrid import datasets
from hybrid.datasets import origin, quarantine
from hybrid.datasets.utkface import layouts, source_files
from tests.utkface_archive import (
    jpeg,
    many_faces,
    name_of,
    prepare,
    quarantined,
    read,
    read_all,
    report,
    write_archive,
)


def test_source_prefers_the_archive(tmp_path, capsys):
    assert layouts.find_source(tmp_path) is None
    (tmp_path / 'UTKFace').mkdir()
    assert layouts.find_source(tmp_path) == (tmp_path / 'UTKFace', True)
    (tmp_path / 'UTKFace.tar.gz').touch()
    assert layouts.find_source(tmp_path) == (tmp_path / 'UTKFace.tar.gz', True)
    assert capsys.readouterr().out == ''


FILES = {name_of(k, k): bytes([k]) for k in range(3)}


def put(folder, names=tuple(FILES)):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(FILES.get(name, b''))


def put_zip(path, members):
    with zipfile.ZipFile(path, 'w') as file:
        for name, content in members.items():
            file.writestr(name, content)


def put_archive(folder, name, mode='w:gz'):
    with tarfile.open(folder / name, mode) as tar:
        for member, content in FILES.items():
            info = tarfile.TarInfo(f'UTKFace/{member}')
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def kaggle(folder):
    """As Kaggle's copy: the same files in several folders."""
    inner = {
        f'{at}/{n}': c for at in ('UTKFace', 'x/UTKFace', 'crop_part1') for n, c in FILES.items()
    }
    put_zip(folder / 'archive.zip', {**inner, '__MACOSX/UTKFace/._1_0.jpg': b'', 'README': b''})


def with_macos_files(folder):
    """As macOS leaves them on disks that are not its own."""
    put(folder / 'archive/UTKFace', [*FILES, *(f'._{name}' for name in FILES)])


def of_windows(folder):
    members = {f'a\\UTKFace\\{name}': content for name, content in FILES.items()}
    put_zip(folder / 'archive (2).zip', members)


@pytest.mark.parametrize(
    ('make', 'found'),
    [
        (put, '.'),
        (lambda d: put(d / 'archive/UTKFace'), 'archive/UTKFace'),
        (with_macos_files, 'archive/UTKFace'),
        (kaggle, 'archive.zip'),
        (lambda d: put_zip(d / 'UTKFace.zip', FILES), 'UTKFace.zip'),
        (of_windows, 'archive (2).zip'),
        (lambda d: put_archive(d, 'UTKFace.tgz'), 'UTKFace.tgz'),
        (lambda d: put_archive(d, 'UTKFace (1).tar.gz'), 'UTKFace (1).tar.gz'),
        (lambda d: put_archive(d, 'utkface.tar', 'w'), 'utkface.tar'),
    ],
)
def test_layouts_that_people_have(tmp_path, make, found, capsys):
    make(tmp_path)
    source = layouts.find_source(tmp_path)
    assert source is not None
    assert source.path == tmp_path / found
    assert capsys.readouterr().out == f'{tmp_path}: UTKFace is read from {found}\n'
    dropped, made_from = quarantine.Quarantine(), origin.Origin(tmp_path)
    assert dict(source_files.read_files(source, dropped, made_from)) == FILES
    assert dropped.counts == {}
    made_from.write(tmp_path)
    origin.check(tmp_path, tmp_path)
    put(tmp_path / 'archive/UTKFace' if source.below else tmp_path, [name_of(9, 9)])
    if source.path.is_dir():
        with pytest.raises(ValueError, match='was not there'):
            origin.check(tmp_path, tmp_path)


@pytest.mark.parametrize(
    ('names', 'said'),
    [
        ((), 'it holds nothing.'),
        (('a', 'b', 'c', 'd'), 'it holds a, b, c and 1 more.'),
        (('part1.tar.gz', 'z'), 'but holds part1.tar.gz: the photographs; the aligned faces, UTKF'),
        (('crop_part1',), 'but holds crop_part1: a part of the aligned faces; to take it alone'),
        (('UTKFace.7z',), 'but holds UTKFace.7z: extract it, so that there is a folder UTKFace/.'),
        (('UTKFace.tar.gz.crdownload',), 'its download has not ended.'),
        (('1_0_0_20170109000000000.jpg',), 'called as the photographs are, without .chip; if it'),
    ],
)
def test_what_is_there_instead_is_named(tmp_path, names, said):
    put(tmp_path, names)
    assert layouts.find_source(tmp_path) is None
    message = layouts.missing(tmp_path)
    assert message.startswith(f'{tmp_path} lacks UTKFace.tar.gz and UTKFace/')
    assert said in message
    assert '\n' not in message


def test_bad_zips_are_one_clear_error_or_a_line_each(tmp_path, monkeypatch):
    link = zipfile.ZipInfo(f'UTKFace/{name_of(8, 8)}')
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = tmp_path / 'UTKFace.zip'
    with zipfile.ZipFile(path, 'w') as file:
        for name, content in FILES.items():
            file.writestr(f'UTKFace/{name}', content)
        file.writestr(link, '/etc/passwd')
        file.writestr(f'UTKFace/../../{name_of(9, 9)}', b'x')

    def read():
        dropped = quarantine.Quarantine()
        source = layouts.Source(path)
        return dict(source_files.read_files(source, dropped, origin.Origin(tmp_path))), dropped

    files, dropped = read()
    assert files == FILES
    assert dropped.counts == {'not_a_regular_file': 1, 'unsafe_path': 1}
    good = path.read_bytes()
    for bad, message in (
        (good[:200], 'is truncated, damaged or of an unknown kind'),
        (good.replace(b'\x02PK', b'\x03PK'), 'is truncated, damaged or of an unknown kind'),
        (b'<!DOCTYPE html>', 'is a web page, not an archive: get it again'),
        (b'Rar!....', 'is truncated or damaged'),
    ):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=message):
            read()
    path.write_bytes(good)
    monkeypatch.setattr(source_files, 'MAX_TOTAL_BYTES', 2)
    with pytest.raises(ValueError, match='is not UTKFace: it unpacks to more than 2 bytes'):
        read()


def test_what_is_small_and_unpacks_to_much_is_not_unpacked(tmp_path):
    name = f'UTKFace/{name_of(8, 8)}'
    sparse = tarfile.TarInfo(name)  # 400 bytes that stand for 32 MiB of zeros.
    sparse.type, sparse.size = tarfile.GNUTYPE_SPARSE, 0
    header = bytearray(sparse.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b'00200000000\0'
    header[148:156] = b' ' * 8
    header[148:156] = f'{sum(header[:512]):06o}\0 '.encode()
    path = tmp_path / 'UTKFace.tar.gz'
    path.write_bytes(gzip.compress(bytes(header) + bytes(1024)))
    dropped = quarantine.Quarantine()
    source = layouts.Source(path)
    assert not dict(source_files.read_files(source, dropped, origin.Origin(tmp_path)))
    assert dropped.counts == {'not_a_regular_file': 1}
    path = tmp_path / 'UTKFace.zip'
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, bytes(2**23))
    content = path.read_bytes()
    path.write_bytes(content.replace((2**23).to_bytes(4, 'little'), (100).to_bytes(4, 'little')))
    tracemalloc.start()
    with pytest.raises(ValueError, match=r'is truncated, damaged .*Bad CRC'):
        dict(source_files.read_files(layouts.Source(path), dropped, origin.Origin(tmp_path)))
    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.stop()
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_BZIP2) as file:
        file.writestr(name, bytes(2**20))
    with pytest.raises(ValueError, match='it is compressed neither by deflate nor not at all'):
        dict(source_files.read_files(layouts.Source(path), dropped, origin.Origin(tmp_path)))


def test_folder_and_archive_give_the_same_data(tmp_path):
    files = {**many_faces(), 'notes.txt': b'x', name_of(1, 500): jpeg(0)[:-50]}
    write_archive(tmp_path / 'archive', files)
    folder = tmp_path / 'folder' / 'UTKFace'
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    builders = [
        prepare(tmp_path / kind, tmp_path / f'data_{kind}') for kind in ('archive', 'folder')
    ]
    assert report(builders[0]) == report(builders[1])
    assert quarantined(builders[0]) == quarantined(builders[1])
    for split in ('train', 'validation', 'test'):
        assert read(builders[0], split) == read(builders[1], split)


def test_bad_members_are_refused_with_a_line_each(tmp_path):
    faces = many_faces()
    outside, absolute, link = name_of(1, 900), name_of(1, 901), name_of(1, 902)
    hard_link, fifo, repeated = name_of(1, 903), name_of(1, 904), next(iter(faces))
    manual_dir = tmp_path / 'manual'
    manual_dir.mkdir()
    with tarfile.open(manual_dir / 'UTKFace.tar.gz', 'w:gz') as tar:

        def add(path: str, content: bytes = b'', kind: bytes = tarfile.REGTYPE, to: str = ''):
            member = tarfile.TarInfo(path)
            member.size, member.type, member.linkname = len(content), kind, to
            tar.addfile(member, io.BytesIO(content))

        add('UTKFace', kind=tarfile.DIRTYPE)
        for name, content in faces.items():
            add(f'UTKFace/{name}', content)
        add(f'UTKFace/../../{outside}', jpeg(900))
        add(f'/{absolute}', jpeg(901))
        add(f'UTKFace/{link}', kind=tarfile.SYMTYPE, to='/etc/passwd')
        add(f'UTKFace/{hard_link}', kind=tarfile.LNKTYPE, to=f'UTKFace/{repeated}')
        add(f'UTKFace/{fifo}', kind=tarfile.FIFOTYPE)
        add(f'UTKFace/again/{repeated}', jpeg(905))
    before = sorted(path for path in tmp_path.rglob('*'))
    builder = prepare(manual_dir, tmp_path / 'data')
    rows = read_all(builder)
    assert set(rows) == set(faces)
    assert rows[repeated]['image'] == faces[repeated]
    assert quarantined(builder) == {
        f'UTKFace/../../{outside}': 'unsafe_path',
        f'/{absolute}': 'unsafe_path',
        f'UTKFace/{link}': 'not_a_regular_file',
        f'UTKFace/{hard_link}': 'not_a_regular_file',
        f'UTKFace/{fifo}': 'not_a_regular_file',
        f'UTKFace/again/{repeated}': 'repeated_name',
    }
    data = tmp_path / 'data'
    after = [path for path in tmp_path.rglob('*') if path != data and data not in path.parents]
    assert sorted(after) == before


@pytest.mark.parametrize('kept_share', [0.0, 0.001, 0.3, 0.5, 0.9, 0.999])
def test_a_truncated_archive_is_one_clear_error(tmp_path, kept_share):
    path = write_archive(tmp_path, many_faces(20))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept_share)])
    builder = datasets.create_builder('utkface', str(tmp_path / 'data'))
    with pytest.raises(ValueError, match=r'UTKFace\.tar\.gz .* is truncated or damaged'):
        datasets.prepare(builder, str(tmp_path))
    assert not builder.data_path.exists()


def test_a_damaged_archive_is_one_clear_error(tmp_path):
    path = write_archive(tmp_path, many_faces(20))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    builder = datasets.create_builder('utkface', str(tmp_path / 'data'))
    with pytest.raises(ValueError, match=r'UTKFace\.tar\.gz .* is truncated or damaged'):
        datasets.prepare(builder, str(tmp_path))
