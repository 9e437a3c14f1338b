"""Metadata and archives of IMDB-WIKI as published, with random images."""

import datetime
import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import scipy.io

from tests.utkface_archive import jpeg

NAN, INF = float('nan'), float('inf')


def row(path: str, **fields) -> dict:
    """A row that passes the filter: a woman born on 1950-03-02, photographed in 1990."""
    return {
        'full_path': path,
        'dob': datenum(datetime.date(1950, 3, 2)),
        'photo_taken': 1990,
        'gender': 0.0,
        'name': 'Jane Roe',
        'face_score': 2.5,
        'second_face_score': NAN,
        **fields,
    }


def datenum(date: datetime.date) -> int:
    """MATLAB's day number."""
    return date.toordinal() + 366


def mat_bytes(database: str, rows: Sequence[Mapping]) -> bytes:
    """The content of `imdb.mat` or `wiki.mat`: a struct of fields of shape (1, N)."""

    def cells(values) -> np.ndarray:
        cell = np.empty((1, len(rows)), object)
        cell[0, :] = values
        return cell

    struct = {
        'dob': np.array([[r['dob'] for r in rows]], np.int32),
        'photo_taken': np.array([[r['photo_taken'] for r in rows]], np.uint16),
        'full_path': cells([r['full_path'] for r in rows]),
        'gender': np.array([[r['gender'] for r in rows]], np.float64),
        'name': cells([r['name'] for r in rows]),
        'face_location': cells([np.array([[1.0, 1.0, 50.0, 50.0]])] * len(rows)),
        'face_score': np.array([[r['face_score'] for r in rows]], np.float64),
        'second_face_score': np.array([[r['second_face_score'] for r in rows]], np.float64),
    }
    if database == 'imdb':
        celebrities = sorted({r['name'] for r in rows})
        ids = [r.get('celeb_id', celebrities.index(r['name']) + 1) for r in rows]
        names = np.empty((1, len(celebrities)), object)
        names[0, :] = celebrities
        struct |= {'celeb_names': names, 'celeb_id': np.array([ids], np.uint16)}
    file = io.BytesIO()
    scipy.io.savemat(file, {database: struct}, format='5')
    return file.getvalue()


def write_tar(folder: Path, database: str, files: Mapping[str, bytes | tuple[bytes, str]]) -> Path:
    """Writes `<database>_crop.tar`; a tuple is a link: its type, and where it leads.

    Names get the archive's folder in front, unless they begin with a slash or a dot.
    """
    folder.mkdir(exist_ok=True, parents=True)
    path = folder / f'{database}_crop.tar'
    with tarfile.open(path, 'w') as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name if name[0] in '/.' else f'{database}_crop/{name}')
            if isinstance(content, tuple):
                member.type, member.linkname = content
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def write_database(folder: Path, database: str, rows: Sequence[Mapping]) -> dict[str, bytes]:
    """Writes an archive in which every row has its own image, and returns the images by path."""
    images = {r['full_path']: jpeg(k) for k, r in enumerate(rows)}
    write_tar(folder, database, {f'{database}.mat': mat_bytes(database, rows), **images})
    return images


def many_rows(count: int = 60, database: str = 'wiki') -> list[dict]:
    """Rows of as many persons, enough that no split is empty."""
    return [
        row(f'{k % 100:02d}/{1000 + k}_1950-03-02_{1970 + k % 40}.jpg', name=f'{database} {k}')
        for k in range(count)
    ]
