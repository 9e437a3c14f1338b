"""The metadata of IMDB-WIKI, MATLAB v5 structs `imdb` and `wiki`: ages, filter and persons."""

import datetime
import io
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import scipy.io

from hybrid.datasets import groups

# A datenum counts days from the year 0, Python's ordinals from the year 1.
_DATENUM_OFFSET = 366


class Metadata(NamedTuple):
    """What is known of each of N rows.

    Attributes:
      database: `imdb` or `wiki`.
      path: str [N], of the image, from the folder with the crops.
      birth: int64 [N], proleptic Gregorian ordinal of the birth date.
      age: float64 [N] years, when the photo was taken.
      gender: int64 [N], 0 male, 1 female, -1 unknown.
      face_score: float64 [N], -inf where no face was found.
      second_face_score: float64 [N], NaN where there is no second face.
      name: str [N], of the person.
      person: str [N], the person's id in the database.
    """

    database: str
    path: np.ndarray
    birth: np.ndarray
    age: np.ndarray
    gender: np.ndarray
    face_score: np.ndarray
    second_face_score: np.ndarray
    name: np.ndarray
    person: np.ndarray


def read_metadata(source: pathlib.Path | bytes, database: str) -> Metadata:
    """Reads `imdb.mat` or `wiki.mat`.

    The person is `celeb_id` where there is one, else what stands before the first underscore of the
    image's file name.

    Args:
      source: The file, or its content.
      database: `imdb` or `wiki`, the name of the struct in it.

    Raises:
      ValueError: when it is no MATLAB v5 file, or lacks the struct or a field of it.
    """
    shown = f'{database}.mat' if isinstance(source, bytes) else str(source)
    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else str(source)
        struct = scipy.io.loadmat(file, squeeze_me=True, variable_names=[database])[database]
        fields = {name: np.atleast_1d(struct[name].item()) for name in struct.dtype.names}
        path = _texts(fields['full_path'])
        gender = fields['gender'].astype(np.float64)
        dob = np.nan_to_num(fields['dob'].astype(np.float64))
        birth = np.clip(dob - _DATENUM_OFFSET, 1, datetime.date.max.toordinal()).astype(np.int64)
        taken = fields['photo_taken'].astype(np.float64)
        person = np.array([text.rpartition('/')[2].partition('_')[0] for text in path.tolist()])
        if 'celeb_id' in fields:
            celebrity = np.nan_to_num(fields['celeb_id'].astype(np.float64)).astype(np.int64)
            person = np.where(celebrity > 0, celebrity.astype(str), person)
        metadata = Metadata(
            database=database,
            path=path,
            birth=birth,
            age=age_at(birth, taken),
            # 0 is female there.
            gender=np.where(gender == 1, 0, np.where(gender == 0, 1, -1)),
            face_score=fields['face_score'].astype(np.float64),
            second_face_score=fields['second_face_score'].astype(np.float64),
            name=_texts(fields['name']),
            person=person,
        )
        if len({len(column) for column in metadata[1:]}) > 1:
            raise ValueError('its fields differ in length')
        return metadata
    except Exception as error:  # scipy raises all kinds of them on a damaged file.
        raise ValueError(
            f'{shown} is not the metadata of {database} as published (MATLAB v5, struct '
            f'{database}): {type(error).__name__}: {error}'
        ) from error


def _texts(values: np.ndarray) -> np.ndarray:
    """Strings of a cell array; MATLAB's empty ones come as empty arrays."""
    return np.array([value if isinstance(value, str) else '' for value in values.tolist()], str)


def age_at(birth: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Age in years when a photo was taken, meant to be in the middle of the year.

    Args:
      birth: [N], ordinals of the birth dates.
      taken: [N], years of the photos.

    Returns:
      float64 [N]: the difference of the years, less one for who is born in July or later.
    """
    months = (np.datetime64('0001-01-01') + (birth - 1).astype('m8[D]')).astype('M8[M]')
    months = months.astype(np.int64)  # since January 1970
    year, month = months // 12 + 1970, months % 12 + 1
    return taken - year - (month >= 7)


def refusals(
    metadata: Metadata,
    min_face_score: float,
    max_second_face_score: float,
    min_age: float,
    max_age: float,
) -> np.ndarray:
    """Returns why each row is left out, str [N]; '' where it is kept.

    A row has the first of these reasons: `no_face`, `second_face`, `low_score`, `gender_unknown`,
    `age_out_of_range`.
    """
    reasons = {
        'no_face': np.isneginf(metadata.face_score) | np.isnan(metadata.face_score),
        'second_face': metadata.second_face_score > max_second_face_score,
        'low_score': metadata.face_score < min_face_score,
        'gender_unknown': metadata.gender < 0,
        'age_out_of_range': ~((metadata.age >= min_age) & (metadata.age <= max_age)),
    }
    return np.select(list(reasons.values()), list(reasons), default='')


def group_persons(databases: Mapping[str, Metadata]) -> dict[str, np.ndarray]:
    """Finds out which rows show the same person, over all databases.

    Rows are joined that have the same id in their database, or the same name and birth date in any.

    Returns:
      For each database str [N], the same for all rows of a person: the smallest
      `name, birth ordinal` among them. It is the same from whichever databases it was found, unless
      a person has several names, so that persons are in the same split in all configs.
    """
    persons: list[str] = []
    names: list[str] = []
    for database, metadata in databases.items():
        ids = np.char.add(f'{database} ', metadata.person).tolist()
        persons += ids
        # Whoever has no name is joined with nobody.
        names += [
            f'{" ".join(name.split()).casefold() or person}, {birth}'
            for name, birth, person in zip(
                metadata.name.tolist(), metadata.birth.tolist(), ids, strict=True
            )
        ]
    found = groups.smallest(groups.join(np.array(persons), np.array(names)), names)
    ends = np.cumsum([len(metadata.path) for metadata in databases.values()])
    return dict(zip(databases, np.split(found, ends[:-1]), strict=True))
