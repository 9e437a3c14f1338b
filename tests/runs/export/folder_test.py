import dataclasses
import hashlib
import importlib.util
import json
import os
import pathlib
import platform

import numpy as np
import onnx
import pytest
import safetensors

from hybrid.modes import export as mode
from hybrid.runs.export import folder

NAMES = {
    *('model.json', 'model.onnx', 'model_fp16.onnx', 'model.stablehlo', 'weights.safetensors'),
    'predict.py',
}


def test_what_is_in_the_folder(export):
    assert {path.name for path in export.folder.iterdir()} == NAMES
    record = json.loads((export.folder / 'model.json').read_text())
    assert set(record['files']) == NAMES - {'model.json'}
    for name, entry in record['files'].items():
        content = (export.folder / name).read_bytes()
        assert entry == {
            'bytes': len(content),
            'sha256': hashlib.sha256(content).hexdigest(),
        }
    program = pathlib.Path(folder.__file__).with_name('predict.py')
    assert (export.folder / 'predict.py').read_bytes() == program.read_bytes()


def test_model_json_says_what_a_user_has_to_know(export):
    record = json.loads((export.folder / 'model.json').read_text())
    assert record['input'] | {'pixels': '', 'resize': ''} == {
        **{'name': 'image', 'size': 36, 'shape': ['batch', 36, 36, 3]},
        **{'pixels': '', 'resize': ''},
    }
    assert list(record['outputs'].items()) == sorted(
        {
            **{name: [] for name in ('age', 'age_low', 'age_high', 'age_width')},
            **{'age_probabilities': [101], 'female_probability': []},
        }.items()
    )
    assert all(record['meanings'].values())
    assert record['genders'] == ['male', 'female']
    assert record['temperature'] == 1.5
    assert record['intervals'] == {
        **{'level': 0.9, 'errors': 'absolute', 'fitted_on': 'validation', 'num_examples': 400},
        'from_ages': [0, 30],
    }
    (member,) = record['members']
    assert (member['step'], member['checkpoint'], member['age_head']) == (7, 'best', 'dex')
    (dataset,) = record['datasets']
    assert dataset['name'] == 'synthetic_faces/tiny/1.0.0'
    assert dataset['licence'] == 'drawn-faces-without-terms'
    assert 'nobody has rights in them' in dataset['terms']


def test_the_files_name_no_folder_and_no_machine(export):
    known = [str(export.folder.parent), str(export.model.folders[0]), 'secret_name']
    known += [str(pathlib.Path.home()) + '/', str(folder.pathlib.Path(folder.__file__).parent)]
    known += [platform.node(), str(pathlib.Path.cwd())]
    for path in export.folder.iterdir():
        content = path.read_bytes()
        for text in filter(None, known):
            assert text.encode() not in content, (path.name, text)


def test_onnx_has_what_runtimes_want(export):
    for name, dtype in (('model.onnx', 'FLOAT'), ('model_fp16.onnx', 'FLOAT16')):
        model = onnx.load(export.folder / name)
        onnx.checker.check_model(model, full_check=True)
        assert model.opset_import[0].version == 17
        (image,) = model.graph.input
        assert image.name == 'image'
        assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
        assert image.type.tensor_type.shape.dim[0].dim_param == 'batch'
        assert {o.type.tensor_type.elem_type for o in model.graph.output} == {1}
        kinds = {node.op_type for node in model.graph.node}
        assert 'Conv' in kinds
        assert 'BatchNormalization' not in kinds
        stored = {x.data_type for x in model.graph.initializer if x.name.startswith('member_0.')}
        assert stored == {getattr(onnx.TensorProto, dtype)}
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties['terms_of_the_training_data'].startswith(
        'synthetic_faces/tiny/1.0.0: The faces are'
    )


def test_the_arrays_are_those_of_the_network(export):
    (model,) = export.model.models
    with safetensors.safe_open(export.folder / 'weights.safetensors', 'numpy') as file:
        names = set(file.keys())
        kernel = file.get_tensor('member_0.encoder.layer1_0.conv1.kernel')
        mean = file.get_tensor('member_0.encoder.bn1.mean')
        assert json.loads(file.metadata()['hybrid'])['format'] == 'hybrid export 1'
    assert {name.split('.')[1] for name in names} == {'encoder', 'age_head', 'gender_head'}
    encoder = model.variables['params']['encoder']
    np.testing.assert_array_equal(kernel, encoder['layer1_0']['conv1']['kernel'])
    np.testing.assert_array_equal(mean, model.variables['batch_stats']['encoder']['bn1']['mean'])


def test_an_export_is_written_anew_and_nothing_else_is(export, tmp_path):
    target = tmp_path / 'made' / 'export'
    once = mode.write(export.model.models, target)
    assert {path.name for path in once.iterdir()} == NAMES | {'README.md'}
    # The same model gives the same bytes, but that JAX numbers its functions as they come.
    for name in NAMES - {'model.stablehlo', 'model.json'}:
        assert (once / name).read_bytes() == (export.folder / name).read_bytes()
    card = (once / 'README.md').read_text()
    assert '"onnx"]\n' in card
    assert 'python predict.py face1.jpg face2.jpg --output=predictions.csv' in card
    assert mode.write(export.model.models, target) == once
    (once / 'mine.txt').write_text('kept')
    with pytest.raises(ValueError, match=r'holds mine\.txt, which is no part of an export'):
        folder.check(once)
    own = tmp_path / 'own'
    own.mkdir()
    (own / '.DS_Store').touch()  # As Finder makes in a folder that was looked at.
    assert folder.check(own) == own
    (own / 'README.md').write_text('kept')
    with pytest.raises(ValueError, match=r'holds README\.md, which is no part of an export'):
        folder.check(own)
    # Nor is somebody else's model an export, whatever its files are called.
    (own / 'model.onnx').write_text('theirs')
    (own / 'model.json').write_text('{"format": "another"}')
    with pytest.raises(ValueError, match=r'holds README\.md, which is no part of an export'):
        folder.check(own)
    # What an export that was interrupted has left may be replaced.
    (own / 'unfinished.json').write_text('{}')
    (own / 'model.onnx.partial').write_text('killed')
    assert folder.check(own) == own
    (own / 'unfinished.json').rename(own / 'unfinished.json.partial')
    assert folder.check(own) == own
    with pytest.raises(NotADirectoryError, match='is a file; name a folder'):
        folder.check(once / 'mine.txt')
    # The run's own folder is no export.
    with pytest.raises(ValueError, match=r'holds .*, which is no part of an export'):
        folder.check(os.fspath(export.model.folders[0]))


def test_it_is_said_why_ages_have_no_intervals(export, tmp_path, caplog):
    (model,) = export.model.models
    config = model.config.copy_and_resolve_references()
    config.evaluate.flip_average = True  # For which nothing was fitted.
    with caplog.at_level('INFO', 'hybrid'):
        folder.write([dataclasses.replace(model, config=config)], tmp_path / 'export')
    assert 'ages have no intervals yet: --mode=evaluate --split=validation' in caplog.text
    record = json.loads((tmp_path / 'export/model.json').read_text())
    assert (record['intervals'], record['temperature']) == (None, None)
    assert 'age_low' not in record['outputs']
    assert record['members'][0]['views']['flip_average'] is True


def test_without_onnx_it_is_said_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(RuntimeError, match=r"onnx, which is not installed: pip install -e '.\[ex"):
        folder.check(tmp_path / 'export')
