"""SIGTERM and SIGINT as a request to stop: finish the step, save, leave."""

import signal
import types


class Interruption:
    """While active, takes the first SIGTERM or SIGINT as a request; a second one ends the program.

    Usage: `with Interruption() as interruption: ... if interruption.requested: save and leave`.
    Only the main thread can have it; elsewhere it does nothing.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.name = ''
        self._previous: dict[signal.Signals, object] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal came."""
        return bool(self.name)

    def check(self) -> None:
        """Raises RuntimeError if a signal came."""
        if self.requested:
            raise RuntimeError(f'stopped by {self.name}')

    def __enter__(self) -> 'Interruption':
        try:
            for number in self.SIGNALS:
                self._previous[number] = signal.signal(number, self._handle)
        except ValueError:  # Not the main thread.
            pass
        return self

    def __exit__(self, *unused: object) -> None:
        self._restore()

    def _handle(self, number: int, frame: types.FrameType | None) -> None:
        del frame
        self.name = signal.Signals(number).name
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous = {}
