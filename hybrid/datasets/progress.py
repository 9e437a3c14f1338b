"""Progress bars on standard error or in a notebook, with the time left."""

import sys
import warnings
from typing import Any

with warnings.catch_warnings():  # In a notebook without ipywidgets: the bar is text there, too.
    warnings.filterwarnings('ignore', module='tqdm')
    from tqdm.auto import tqdm


class ProgressBar(tqdm):
    """`tqdm` that counts in thousands and adds little to a log file.

    It is redrawn ten times a second on a terminal, twice a second in a notebook, and every ten
    seconds elsewhere, where each time stays in the file.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        mininterval = 0.5 if 'ipykernel' in sys.modules else 10.0
        if sys.stderr.isatty():
            mininterval = 0.1
        super().__init__(*args, **{'mininterval': mininterval, 'unit_scale': True, **kwargs})
