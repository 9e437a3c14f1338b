"""Progress bars on standard error, with the time left."""

import sys
from typing import Any

from tqdm import tqdm


class ProgressBar(tqdm):
    """`tqdm` that counts in thousands and adds little to a log file.

    It is redrawn ten times a second on a terminal, and every ten seconds elsewhere, where each time
    stays in the file.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        mininterval = 0.1 if sys.stderr.isatty() else 10.0
        super().__init__(*args, **{'mininterval': mininterval, 'unit_scale': True, **kwargs})
