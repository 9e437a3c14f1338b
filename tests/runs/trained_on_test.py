import numpy as np
import pytest

from hybrid.data import parts
from hybrid.datasets import origin
from hybrid.default_config import get_config
from hybrid.runs import dataset_record, trained_on
from tests.datasets.face_csv_test import write_faces
from tests.utkface_archive import jpeg

SPLITS = ('train', 'validation', 'test')


def write_files(folder, first):
    rows = [(jpeg(first + k), f'{k}.jpg', 30, 'm', split) for k, split in enumerate(SPLITS)]
    return write_faces(folder, rows, 'path,age,gender,split')


def write_pixels(folder, first):
    pixels = np.random.default_rng(first).integers(0, 256, (len(SPLITS), 24 * 24)).astype(str)
    rows = [f'30,0,{s},{" ".join(values)}' for s, values in zip(SPLITS, pixels, strict=True)]
    folder.mkdir(exist_ok=True)
    (folder / 'faces.csv').write_text('\n'.join(['age,gender,split,pixels', *rows]))
    return folder


@pytest.mark.parametrize('write', [write_files, write_pixels])
def test_a_run_goes_on_with_the_same_pictures_prepared_anew_and_with_no_others(tmp_path, write):
    def record(first, data_dir):
        config = get_config()
        config.data.dataset, config.data.data_dir = 'face_csv', str(tmp_path / data_dir)
        config.data.manual_dir = str(write(tmp_path / f'of {first}', first))
        (part,) = found = parts.open_all(config)
        described = trained_on.describe(found, 'train')
        assert described['pictures'] == origin.pictures(part.builder.data_path) != ''
        return described

    run = tmp_path / 'run'
    (run / 'checkpoints/3').mkdir(parents=True)
    began = record(0, 'data')
    dataset_record.save(run, began)
    assert record(0, 'again') == began
    other = record(10, 'other')
    for split in SPLITS:
        assert other['splits'][split]['sha256'] == began['splits'][split]['sha256']
    with pytest.raises(ValueError, match=r"split 'train' of face_csv/default/1\.0\.0 had other im"):
        dataset_record.check_continues(run, other)
