import json
import logging

import pytest

from hybrid.datasets import geometry
from hybrid.runs import dataset_record

ALIGNED = {'geometry': 'aligned', 'template': 1, 'size': 224, 'detector_sha256': 'a'}


def test_chips_and_aligned_faces_are_framed_alike_and_all_others_are_not():
    records: list[geometry.Geometry] = [
        *(geometry.AS_GIVEN, ALIGNED, ALIGNED | {'template': 2}),
        *({'geometry': 'box', 'margin': margin, 'size': 9} for margin in (0.02, 0.4)),
    ]
    for k, one in enumerate(records):
        assert [geometry.differ(one, other) for other in records] == [k != n for n in range(5)]
    assert not geometry.differ(geometry.UTKFACE_CHIPS, ALIGNED | {'size': 112, 'template': 1})


def test_a_record_is_read_back_and_a_damaged_one_is_said(tmp_path):
    assert geometry.read(tmp_path) is None
    geometry.write(tmp_path, ALIGNED)
    assert geometry.read(tmp_path) == ALIGNED
    for text in ('{', '[]', '{"size": 3}'):
        (tmp_path / geometry.FILE).write_text(text)
        with pytest.raises(ValueError, match=r'geometry\.json is damaged'):
            geometry.read(tmp_path)


def test_what_is_older_than_the_record_is_told_by_its_name(tmp_path, tiny_builder):
    assert geometry.of(tiny_builder) == geometry.AS_GIVEN
    for name, expected in (
        ('utkface/coral_21_60/1.0.0', geometry.UTKFACE_CHIPS),
        ('imdb_wiki/wiki/1.0.0', geometry.AS_GIVEN),
    ):
        (tmp_path / 'dataset.json').write_text(json.dumps({'name': name, 'splits': {}}))
        assert dataset_record.load_geometry(tmp_path) == expected


def test_one_line_warns_of_faces_that_are_framed_otherwise(caplog):
    caplog.set_level(logging.WARNING)
    geometry.warn('runs/a', geometry.UTKFACE_CHIPS, 'face_csv/mine', ALIGNED)
    assert not caplog.messages
    geometry.warn('runs/a', ALIGNED, 'imdb_wiki/wiki/1.0.0', geometry.AS_GIVEN)
    geometry.warn('runs/a', ALIGNED, 'x', {'geometry': 'box', 'margin': 0.02})
    first, second = caplog.messages
    assert first.startswith(
        "runs/a was trained on faces aligned as UTKFace's are; those of imdb_wiki/wiki/1.0.0 are "
        'taken as they came. Expect worse predictions; '
    )
    assert 'those of x are cut by boxes with a margin of 0.02.' in second
    assert '\n' not in first + second
