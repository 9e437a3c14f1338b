"""Where a model comes from: architecture, data and splits, and how to train it again."""

import pathlib
import shlex
from collections.abc import Mapping
from typing import Any

from hybrid.datasets import geometry, terms
from hybrid.modes.pages import run_record
from hybrid.modes.pages.blocks import Block, Code, Heading, Items, Listing, Paragraph, Table
from hybrid.modes.pages.run_record import Run

_TITLES = (
    ('resnet', 'a ResNet-'),
    ('efficientnet_lite', 'an EfficientNet-Lite'),
    ('dlib_resnet', "dlib's ResNet for faces"),
)
_CELLS = {'lstm': 'an LSTM', 'gru': 'a GRU', 'dense': 'a layer at each position'}


def architecture(run: Run) -> str:
    """Such as `a ResNet-18 with an LSTM, on faces of 96 x 96 pixels`."""
    if run.parts:
        each = dict.fromkeys(map(architecture, run.parts))
        return f'{len(run.parts)} models together ({"; ".join(each)})'
    config = run.config
    if not config:
        return 'several models together'
    encoder, cell = config.get('model.encoder.name', ''), config.get('model.recurrent.cell', 'none')
    known = (a + encoder.removeprefix(b) for b, a in _TITLES if encoder.startswith(b))
    text = next(known, f'the encoder {encoder}')
    text += '' if cell == 'none' else f' with {_CELLS.get(cell, cell)}'
    members = config.get('ensemble.size', 1)
    groups = {key.split('.')[2] for key in config if key.startswith('ensemble.groups.')}
    if groups:
        text = f'an ensemble of {len(groups)} kinds of networks ({", ".join(sorted(groups))})'
    elif members > 1:
        text = f'an ensemble of {members} members, each {text}'
    size = config.get('data.image_size')
    return f'{text}, on faces of {size} x {size} pixels' if size else text


def version(run: Run) -> str:
    """The version of this program that trained a run; '' where none was recorded."""
    recorded = run.session.get('versions', {}).get('hybrid')
    return recorded or run.dataset.get('hybrid_version', '')


def framing(run: Run) -> str:
    """How faces have to be cut for the model, such as `aligned as UTKFace's are`."""
    cuts = (one.get('geometry') or geometry.of_name(one['name']) for one in run.datasets)
    return ' or '.join(dict.fromkeys(map(geometry.describe, cuts)))


def data(run: Run) -> list[Block]:
    """The terms of the data, the splits with their hashes, and the weights it started from."""
    names = [one['name'] for one in run.datasets]
    if not names:
        return [Paragraph('Nothing was recorded of the data.')]
    blocks: list[Block] = [Paragraph(one.text) for one in terms.together(names)]
    blocks += split_tables(run)
    entries = (entry for part in (run, *run.parts) for entry in part.sources)
    starts = dict.fromkeys(tuple(started_from(entry)) for entry in entries)
    return blocks + [Paragraph(start) for start in starts]


def started_from(entry: Mapping[str, Any]) -> list[str]:
    """What a run started from, in a sentence, from an entry of pretrained.json."""
    source = str(entry.get('source', ''))
    source = source if source.startswith('hf://') else pathlib.PurePath(source).name
    text: list[str] = ['It started from ', Code(source)]
    if entry.get('sha256'):
        text += [' (sha256 ', Code(entry['sha256']), ')']
    loaded, missing = (len(entry.get(name, ())) for name in ('loaded', 'missing'))
    text.append(f': {loaded} arrays were taken, {missing} were initialised. ')
    text.append('The terms of what these were trained on hold, too.')
    return text


def split_tables(run: Run) -> list[Block]:
    """The splits of the datasets with their sizes and the hashes of their ids and labels."""
    rows = dict.fromkeys(  # Runs that are combined may have the same ones.
        (run_record.short(one['name']), split, entry['sha256'], f'{entry["num_examples"]:,}')
        for one in run.datasets
        for split, entry in one.get('splits', {}).items()
    )
    if not rows:
        return []
    lines = [(name, split, Code(sha256), count) for name, split, sha256, count in rows]
    said = 'The hashes are of the ids and labels of each split, sorted (sha256).'
    return [Table(['dataset', 'split', 'sha256', 'faces'], lines, num_names=3), Paragraph(said)]


def reproduction(run: Run) -> list[Block]:
    """How to train it again."""
    blocks: list[Block] = [Heading(2, 'How to reproduce it')]
    for one in run.parts or [run]:
        if run.parts:
            blocks.append(Heading(3, one.name))
        session = one.session
        if not session:
            blocks.append(Paragraph('Nothing was recorded of how it was trained.'))
            continue
        command = session['command']
        if command.startswith(('python launch.py', 'python -m hybrid')):
            blocks.append(Listing(with_placeholders(command), 'bash'))
        else:
            blocks.append(Paragraph('It was trained from a program of its own, not by a command.'))
        seconds = session['seconds']
        took = 'of unknown duration, because it was killed at least once'
        if seconds is not None:
            took = f'{seconds / 60:,.0f} minutes' if seconds >= 90 else f'{seconds:,.0f} seconds'
        versions = session['versions']
        facts: list[list[str]] = [
            ['Commit ', Code(session['commit'] or 'unknown'), f', {versions_text(versions)}.'],
            [f'{session["machine"]}, {took}.'],
        ]
        if 'seed' in one.config:
            facts[0][-1] = f', seed {one.config["seed"]}, {versions_text(versions)}.'
        blocks.append(Items(facts))
    return blocks


def versions_text(versions: Mapping[str, str]) -> str:
    """Such as `python 3.13.0, jax 0.12.0`."""
    return ', '.join(f'{name} {version}' for name, version in versions.items())


def with_placeholders(command: str) -> str:
    """A clean command in which folders are names to be filled in, one flag on a line."""
    filled = {'--workdir': 'WORKDIR', '--config.data.manual_dir': 'DIR'}
    words: list[str] = []
    for word in shlex.split(command):
        name, equals, value = word.partition('=')
        if name == '--config.data.data_dir':
            continue
        words.append(f'{name}={filled[name]}' if equals and value and name in filled else word)
    flags = next((k for k, word in enumerate(words) if word.startswith('--')), len(words))
    return ' \\\n  '.join([shlex.join(words[:flags]), *map(shlex.quote, words[flags:])])
