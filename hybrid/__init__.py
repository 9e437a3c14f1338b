"""Age and gender from faces: the hybrid CNN-RNN in JAX, alone or as an ensemble.

    import hybrid

    model = hybrid.load('runs/quickstart')
    faces = model.predict(['anna.jpg', 'ben.png'])
    print(faces.age, faces.gender, faces.female_probability)

`hybrid.train`, `hybrid.evaluate`, `hybrid.score` and `hybrid.get_config` do from Python what
`--mode=train`, `--mode=evaluate` and `--mode=score` do. `hybrid/api.py` has their documentation.
JAX is imported with the first call.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybrid.api import evaluate, get_config, load, score, train
    from hybrid.runs.face_rows import Predictions
    from hybrid.runs.model import Model

__version__ = '0.1.0'
__all__ = ['Model', 'Predictions', 'evaluate', 'get_config', 'load', 'score', 'train']


def __getattr__(name: str) -> Any:
    """Imports what is asked for when it is asked for, see PEP 562."""
    if name not in __all__:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    places = {'Model': 'hybrid.runs.model', 'Predictions': 'hybrid.runs.face_rows'}
    return getattr(importlib.import_module(places.get(name, 'hybrid.api')), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
