"""A report of finished runs as one HTML file, or the model card of a run."""

import logging
import pathlib
from collections.abc import Sequence

from ml_collections import ConfigDict

from hybrid import files
from hybrid.default_config import get_config
from hybrid.modes.pages import blocks, card, comparison_page, run_page, run_record, worst
from hybrid.modes.pages.blocks import Block, Contents, Heading, Paragraph
from hybrid.modes.pages.run_record import Evaluation, Run
from hybrid.runs import member_weights, workdir

_LOG = logging.getLogger(__name__)
_FOR_YOUR_EYES = (
    'This page shows faces of the dataset, for your own eyes. Do not hand it on or publish it: '
    'without --faces it is made again without them.'
)


def report(
    folders: Sequence[pathlib.Path],
    output: pathlib.Path | None,
    faces: bool = False,
    data: ConfigDict | None = None,
) -> None:
    """Does `--mode=report`.

    Args:
      folders: Workdirs, or folders with the evaluation of several.
      output: The .html file for the report, or a .md file for the model card. A report of several
        workdirs compares them; a card describes them combined.
      faces: Whether the report shows the faces on which the model errs most.
      data: A `config.data` that may say where prepared datasets lie, if not where the runs had
        them, and which dataset a run was evaluated on besides its own.

    Raises:
      FileExistsError: when the card's file is there already.
      FileNotFoundError: when one is no workdir, or the faces are not there.
      ValueError: when a file of one is damaged, or the output cannot be that.
    """
    _check(output, faces)
    assert output is not None
    if output.suffix == '.md':
        evaluated = member_weights.combined_folder(folders) if len(folders) > 1 else None
        card.write(output, folders, evaluated=evaluated)
    else:
        files.replace(output, create_page(folders, faces, data))
    _LOG.info('%s, %s kB', output, f'{max(output.stat().st_size // 1000, 1):,}')


def create_page(
    folders: Sequence[pathlib.Path], faces: bool = False, data: ConfigDict | None = None
) -> str:
    """The report as HTML; the arguments and errors are those of `report`."""
    runs = _with_own_names([run_record.read(folder) for folder in folders])

    def read_faces(run: Run, evaluation: Evaluation, ids: list[str]) -> worst.Faces | None:
        folder = (run.parts or [run])[0].folder
        own = workdir.load_config(folder, get_config()).data
        return worst.read_faces(evaluation, ids, [own, data] if data else [own])

    pages = [
        run_page.create(run, f'run{number}', read_faces if faces else None)
        for number, run in enumerate(runs)
    ]
    *most, last = [run.name for run in runs]
    title = f'{", ".join(most)} and {last}' if most else last
    warning: list[Block] = [Paragraph(_FOR_YOUR_EYES, note=True)] if faces else []
    if len(runs) == 1:
        head, *rest = pages[0]
        return blocks.to_page(title, [head, *warning, *rest])
    links = [('Comparison', 'comparison')]
    links += [(run.name, f'run{number}') for number, run in enumerate(runs)]
    whole: list[Block] = [Heading(1, title), *warning, Contents(links)]
    whole += comparison_page.create(runs)
    for page in pages:
        whole += blocks.deeper(page)
    return blocks.to_page(title, whole)


def _with_own_names(runs: Sequence[Run]) -> list[Run]:
    """Runs whose folders have the same name get numbers."""
    names = [run.name for run in runs]
    return [
        run.replace(name=f'{run.name} ({names[: k + 1].count(run.name)})')
        if names.count(run.name) > 1
        else run
        for k, run in enumerate(runs)
    ]


def _check(output: pathlib.Path | None, faces: bool) -> None:
    if output is None or output.suffix not in ('.html', '.md'):
        raise ValueError(
            f'--output={output or ""}: name a file that ends in .html, for the report, or in .md, '
            'for the model card'
        )
    if faces and output.suffix == '.md':
        raise ValueError(
            '--faces: a model card shows no faces; name an --output that ends in .html'
        )
    if output.suffix == '.md' and output.is_file():
        raise FileExistsError(
            f'--output={output} exists, and a model card may hold what people have added to it; '
            'remove it, or name another file'
        )
    files.check_file(output)
