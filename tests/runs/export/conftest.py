"""One export for all tests here: a random network with intervals and a temperature."""

import pathlib
from typing import NamedTuple

import numpy as np
import pytest

from hybrid.runs import calibration, fitted
from hybrid.runs.model import Model
from hybrid.scores import intervals
from tests import random_models


class Export(NamedTuple):
    """A folder, and the model that is in it."""

    folder: pathlib.Path
    model: Model


@pytest.fixture(scope='session')
def export(create_tiny_config, tmp_path_factory) -> Export:
    config = create_tiny_config()
    config.model.recurrent.cell = 'none'
    config.model.head.age = 'dex'
    config.evaluate.unsure_below = 0.6
    run = tmp_path_factory.mktemp('secret_name')
    models = [random_models.create(config, run, seed=3)]
    errors = np.linspace(0, 12, 200, dtype=np.float32)
    found = calibration.Calibration(1.5, intervals.Intervals((30.0,), (errors, 2 * errors)))
    views = {key: config.evaluate[key] for key in calibration.PREDICTING}
    source = fitted.source(models, [0]) | views
    fitted.write(run / calibration.FILE, source, **found.to_json())
    assert calibration.find(models, None) is not None
    model = Model(models)
    return Export(model.export(tmp_path_factory.mktemp('exported') / 'export'), model)
