"""A page in the browser that shows what a model says of photographs: nothing leaves the machine."""

import errno
import importlib.resources
import pathlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from ml_collections import ConfigDict

from hybrid.modes.pages import blocks, card
from hybrid.modes.serving import answers, server
from hybrid.runs import member_weights, trained
from hybrid.runs.face_rows import FACES_IN_A_PHOTOGRAPH
from hybrid.runs.model import Model

_TYPES = {'.html': 'text/html', '.css': 'text/css', '.js': 'text/javascript'}
_CARD, _LIMIT = '<!-- the model card -->', '{{most_bytes}}'


class Loaded(answers.Predictor, Protocol):
    """A model that was loaded, from a workdir or from elsewhere."""

    def predict(self, images: Any) -> Any:
        """Predicts for crops of faces."""
        ...


def demo(
    configs: Sequence[ConfigDict],
    folders: Sequence[pathlib.Path],
    checkpoint: str,
    port: int,
) -> None:
    """Does `--mode=demo`: serves the page until it is interrupted.

    Args:
      configs: The workdirs' configs with overrides.
      folders: The workdirs.
      checkpoint: `best` or `last`.
      port: Of 127.0.0.1.

    Raises:
      FileNotFoundError: when there is no such checkpoint, or no face detector.
      ValueError: for what is wrong with a config or a workdir.
      OSError: when the port is taken, or may not be used.
    """
    models = trained.restore_all(configs, folders, checkpoint)
    evaluated = member_weights.combined_folder(folders) if len(folders) > 1 else None
    source = member_weights.predictor(models, member_weights.find(models))
    record = card.describe(folders, evaluated, source)
    serve(Model(models), blocks.to_html(card.create(record)), port)


def serve(model: Loaded, card_html: str, port: int) -> None:
    """Serves the page until it is interrupted; for the rest see `create_server`."""
    with create_server(model, card_html, port) as serving:
        print(f'{serving.url} shows the page, to this machine alone; Ctrl-C ends it', flush=True)
        try:
            serving.serve_forever()
        except KeyboardInterrupt:
            print('ended')


def create_server(model: Loaded, card_html: str, port: int) -> server.Server:
    """Gets a model ready, so that the first answer is quick, and makes the server.

    Args:
      model: What predicts; several threads may use it.
      card_html: The model card, as HTML.
      port: The port; 0 takes any that is free.

    Raises:
      FileNotFoundError: when there is no face detector; says where to get it.
      OSError: when the port is taken, or may not be used.
    """
    empty = np.zeros((64, 64, 3), np.uint8)
    model.predict_photos([empty])
    model.predict([empty] * FACES_IN_A_PHOTOGRAPH)
    try:
        return server.Server(model, files(card_html), port)
    except OSError as error:
        reasons = {
            errno.EADDRINUSE: 'is taken by another program; name another one',
            errno.EACCES: 'may not be used by you; name one from 1024 on',
        }
        if error.errno not in reasons:
            raise
        raise OSError(f'--port={port} {reasons[error.errno]}') from None


def files(card_html: str) -> dict[str, tuple[str, bytes]]:
    """The page and what belongs to it: paths, with the type and the content of each."""

    def read(package: str, name: str) -> str:
        return importlib.resources.files(package).joinpath(name).read_text(encoding='utf-8')

    page = read('hybrid.modes.serving', 'demo.html').replace(_CARD, card_html)
    script = read('hybrid.modes.serving', 'demo.js').replace(_LIMIT, str(server.MOST_BYTES))
    style = read('hybrid.modes.pages', 'page.css') + read('hybrid.modes.serving', 'demo.css')
    found = {'/': ('.html', page), '/demo.js': ('.js', script), '/demo.css': ('.css', style)}
    return {
        path: (f'{_TYPES[ending]}; charset=utf-8', text.encode())
        for path, (ending, text) in found.items()
    }
