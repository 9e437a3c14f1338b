import pytest

from tests import finished_run


@pytest.fixture
def folder(tmp_path):
    """The workdir of a finished run."""
    finished_run.make(tmp_path / 'run')
    return tmp_path / 'run'
