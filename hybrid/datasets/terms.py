"""The terms under which datasets may be used, as far as they are known here."""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Terms:
    """The terms of a dataset.

    Attributes:
      title: What people call the dataset.
      licence: A name for the terms, for the field `license_name` of the Hugging Face hub.
      link: Where they are to be read; '' if nowhere.
      text: What they say, in a sentence or two.
    """

    title: str
    licence: str
    link: str
    text: str


_KNOWN = {
    'utkface': Terms(
        'UTKFace',
        'utkface-non-commercial-research',
        'https://susanqq.github.io/UTKFace/',
        'UTKFace is for non-commercial research only, and its images may not be published again: '
        'https://susanqq.github.io/UTKFace/. Read there what that means for a model before you '
        'hand this one on.',
    ),
    'imdb_wiki': Terms(
        'IMDB-WIKI',
        'imdb-wiki-academic-research',
        'https://data.vision.ee.ethz.ch/cvl/rrothe/imdb-wiki/',
        'IMDB-WIKI is for academic research only: '
        'https://data.vision.ee.ethz.ch/cvl/rrothe/imdb-wiki/. Read there what that means for a '
        'model before you hand this one on.',
    ),
    'synthetic_faces': Terms(
        'drawn faces',
        'drawn-faces-without-terms',
        '',
        'The faces are drawn by the program that trained the model, and nobody has rights in them. '
        'What is learnt from them says nothing about people.',
    ),
}


def of(dataset: str) -> Terms:
    """The terms of a dataset, by its name, such as `utkface/default/1.0.0`."""
    name = dataset.split('/')[0]
    own = '/'.join(dataset.split('/')[:2])
    return _KNOWN.get(
        name,
        Terms(
            own.removeprefix('face_csv/'),
            'terms-of-the-training-data',
            '',
            f'The terms of {own} are those that its owner has set. Put them here before you hand '
            'the model on.',
        ),
    )


def together(datasets: Sequence[str]) -> list[Terms]:
    """The terms of several datasets, each once, in their order."""
    return list(dict.fromkeys(map(of, datasets)))


def licence_name(datasets: Sequence[str]) -> str:
    """One name for the terms of several datasets, all of which hold."""
    return '-and-'.join(dict.fromkeys(terms.licence for terms in map(of, datasets)))
