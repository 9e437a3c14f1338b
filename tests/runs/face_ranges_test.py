import numpy as np
import pytest

from hybrid.data import input_pipeline
from hybrid.photos import quality
from hybrid.runs import face_ranges


def test_the_ranges_are_those_of_the_training_split(tiny_builder, tmp_path):
    assert face_ranges.load(tmp_path) == {}
    face_ranges.record(tmp_path, [tiny_builder], 'train', 36)
    images = input_pipeline.Examples(tiny_builder, 'train', 36).load(np.arange(67))['image']
    known = face_ranges.load(tmp_path)
    assert known == quality.ranges([quality.measure(image) for image in images])
    # Written once: a run that goes on keeps what it began with.
    face_ranges.record(tmp_path, [tiny_builder], 'test', 36)
    assert face_ranges.load(tmp_path) == known


@pytest.mark.parametrize('text', ['{', '[1]', '{"contrast": [1]}', '{"contrast": "ab"}'])
def test_a_damaged_file_is_named(tmp_path, text):
    (tmp_path / face_ranges.FILE).write_text(text)
    with pytest.raises(ValueError, match=r'face_ranges\.json is damaged .*; remove it'):
        face_ranges.load(tmp_path)
