"""README.md and docs/: their commands run, in the order of each page, and their links lead on.

A block of a page may be preceded by a comment that a reader does not see: `<!-- not run: WHY -->`,
or `<!-- stops: TEXT -->` where it needs what the tests do not have: then the last of its commands
has to get as far as an error that says TEXT. Everything else runs, on tiny drawn faces.
"""

import os
import re
import shlex
import subprocess
import sys

import cv2
import numpy as np
import pytest
import yaml

from tests.launching import ROOT, launch, tiny_flags

PAGES = [
    ROOT / 'README.md',
    *sorted((ROOT / 'results').glob('*.md')),
    *sorted((ROOT / 'docs').glob('*.md')),
]
BLOCK = re.compile(
    r'(?:<!-- (not run|stops): ([^>]*?) -->\n)?```(bash|python)\n(.*?)```', re.DOTALL
)
# What installs is looked at below; what follows it on the line, every page runs.
BY_CI = ('python3 -m venv', 'source ')
# Python of a page runs with recipes made tiny, and with the encoder of tests/launching.py.
PRELUDE = """
import hybrid
from hybrid.models import encoders, resnet
encoders.register('tiny', resnet.encoder((1, 1), 'basic'))
recipes = hybrid.get_config
def get_config(name):
    config = recipes(name)
    config.update_from_flattened_dict({overrides!r})
    return config
hybrid.get_config = get_config
"""


def read_blocks(page):
    """(kind, text, what it is expected to stop with) of each block of a page that is to be run."""
    found = []
    for directive, text, kind, body in BLOCK.findall(page.read_text()):
        if directive != 'not run':
            found.append((kind, body, text if directive == 'stops' else ''))
    return found


def read_commands(body):
    """The commands of a block of bash, as lists of arguments."""
    lines = body.replace('\\\n', ' ').splitlines()
    return [shlex.split(line) for line in lines if line and not line.startswith(('#', *BY_CI))]


def to_tiny(arguments, data_dir):
    """Makes a command of a page run in seconds."""
    mode = next((a[7:] for a in arguments if a.startswith('--mode=')), 'train')
    if any(argument.startswith('--help') for argument in arguments):
        return arguments
    tiny = tiny_flags(data_dir, '')
    if mode == 'train':
        more = [flag for flag in tiny if not flag.startswith('--workdir')]
    else:
        more = [flag for flag in tiny if flag.startswith('--config.data.data_dir')]
        if mode in ('prepare', 'audit') or '--config.data.dataset=synthetic_faces' in arguments:
            more += [flag for flag in tiny if flag.startswith('--config.data.dataset')]
    if any('face_csv' in argument for argument in arguments):
        more = [flag for flag in more if not flag.startswith('--config.data.dataset')]
    if mode in ('predict', 'export', 'unstack', 'stack'):
        more = []
    return [*arguments, *more]


@pytest.fixture
def folder(tmp_path, tiny_builder, tiny_data_dir):
    """Where a reader might stand: some runs, a folder of faces, one of photographs."""
    faces = tmp_path / 'FACES'
    faces.mkdir()
    (tmp_path / 'PHOTOS').mkdir()
    lines = ['path,age,gender,group']
    for k, face in enumerate(tiny_builder.as_data_source('train')):
        name = f'{k}.png'
        cv2.imwrite(str(faces / name), face['image'][..., ::-1])
        age = '' if np.isnan(face['age']) else f'{face["age"]:g}'
        lines.append(f'{name},{age},{("male", "female", "")[face["gender"]]},{k // 2}')
    (faces / 'faces.csv').write_text('\n'.join(lines) + '\n')
    for name in ('face.jpg', 'face1.jpg', 'face2.jpg', 'PHOTOS/party.jpg', 'party.jpg'):
        cv2.imwrite(str(tmp_path / name), face['image'][..., ::-1])
    return tmp_path


def used_runs(page):
    """The workdirs that a page names."""
    return set(re.findall(r'runs/[\w]+', page.read_text()))


@pytest.mark.end_to_end
@pytest.mark.parametrize(
    'page', [page for page in PAGES if read_blocks(page)], ids=lambda page: page.stem
)
def test_what_a_page_says_can_be_done(page, folder, tiny_data_dir):
    # The runs that a reader has by then, from this page or another.
    for name in sorted(used_runs(page) & {'runs/quickstart', 'runs/a', 'runs/b'}):
        flags = to_tiny([f'--workdir={name}'], tiny_data_dir)
        status, _, said = launch(*flags, cwd=folder)
        assert status == 0, said
    overrides = {
        key.removeprefix('--config.'): yaml.safe_load(value)
        for key, value in (flag.split('=', 1) for flag in tiny_flags(tiny_data_dir, ''))
        if key != '--workdir'
    }
    for kind, body, stops in read_blocks(page):
        if kind == 'python':
            program = PRELUDE.format(overrides=overrides) + body
            result = subprocess.run(
                [sys.executable, '-c', program],
                cwd=folder,
                env={**os.environ, 'PYTHONPATH': str(ROOT)},
                capture_output=True,
                text=True,
                timeout=300,
            )
            assert result.returncode == 0, result.stderr
            continue
        commands = read_commands(body)
        for number, (program, *arguments) in enumerate(commands):
            assert (program, *arguments[:2]) == ('python', '-m', 'hybrid'), arguments
            status, _, said = launch(*to_tiny(arguments[2:], tiny_data_dir), cwd=folder)
            if stops and number == len(commands) - 1:
                assert status == 1
                assert stops in said.splitlines()[-1]
            else:
                assert status == 0, f'{" ".join(arguments)}\n{said}'


def test_the_first_command_installs_what_ci_does():
    """CI runs the second command word for word; the first one is it without the tests."""
    text = (ROOT / 'README.md').read_text()
    first, second = (line for line in text.splitlines() if line.startswith('python3 -m venv'))
    install, run = first.rsplit(' && ', 1)
    assert second == install.replace('-e .', "-e '.[test]'") + ' && .venv/bin/python -m pytest -q'
    assert run == '.venv/bin/python launch.py'


def anchors(page):
    """What the headings of a page are called in links."""
    headings = re.findall(r'^#+ (.*)$', page.read_text(), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize(
    'page',
    [*PAGES, ROOT / 'CONTRIBUTING.md', ROOT / 'CHANGELOG.md'],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_links_lead_somewhere(page):
    for link in re.findall(r'\]\(([^)\s]+)\)', page.read_text()):
        if link.startswith(('https://', 'http://')):
            continue
        path, _, anchor = link.partition('#')
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(target), link
