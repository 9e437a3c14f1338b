import io
import tarfile

import pytest

from hybrid import datasets
from hybrid.datasets.utkface import source_files
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


def test_source_prefers_the_archive(tmp_path):
    assert source_files.find_source(tmp_path) is None
    (tmp_path / 'UTKFace').mkdir()
    assert source_files.find_source(tmp_path) == tmp_path / 'UTKFace'
    (tmp_path / 'UTKFace.tar.gz').touch()
    assert source_files.find_source(tmp_path) == tmp_path / 'UTKFace.tar.gz'


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
