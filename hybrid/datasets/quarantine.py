"""The quarantine report: what of a source was not taken into the dataset, and why."""

import collections
import csv
import io
import json

from etils import epath


class Quarantine:
    """Collects the files (or rows) that are dropped and proves that the counts add up.

    The report lies beside the prepared data: `quarantine.csv` with one row per dropped file and
    `quarantine.json` with the counts.
    """

    def __init__(self):
        self._rows: list[tuple[str, str, str]] = []

    def drop(self, file: str, reason: str, detail: str = '') -> None:
        """Notes that `file` is dropped; `reason` is one of few words, `detail` is free text."""
        self._rows.append((file, reason, detail))

    @property
    def counts(self) -> dict[str, int]:
        """Number of dropped files by reason, in the order of the reasons' names."""
        return dict(sorted(collections.Counter(reason for _, reason, _ in self._rows).items()))

    def summary(self) -> str:
        """Says in one line how many were dropped and why, and the first of the commonest reason."""
        if not self._rows:
            return 'there is none'
        counts = self.counts
        reasons = ', '.join(f'{reason} {count:,}' for reason, count in counts.items())
        commonest = max(counts, key=counts.__getitem__)
        file, _, detail = next(row for row in self._rows if row[1] == commonest)
        first = file + (f' ({detail})' if detail else '')
        # Names in a damaged archive may be no text, and may hold what moves a terminal's cursor.
        shown = ''.join(c if c.isprintable() else ascii(c)[1:-1] for c in first)
        return f'{reasons}; the first {commonest} is {shown}'

    def write(self, directory: epath.PathLike, *, files: int, kept: int, **more: int) -> None:
        """Writes `quarantine.csv` and `quarantine.json` and prints the counts in one line.

        Args:
          directory: the folder of the prepared data; it exists.
          files: how many files (or rows) the source has.
          kept: how many of them are in the dataset.
          **more: further counts for quarantine.json, such as `parsed`.

        Raises:
          ValueError: `files` is not `kept` plus what was dropped.
        """
        counts = self.counts
        if files != kept + sum(counts.values()):
            raise ValueError(f'{files} files are not {kept} kept and {counts} dropped')
        report = {'files': files, **more, 'kept': kept, 'dropped': counts}
        table = io.StringIO()
        writer = csv.writer(table, lineterminator='\n')
        writer.writerow(('file', 'reason', 'detail'))
        writer.writerows(sorted(self._rows))
        # A damaged archive may hold names that are not text: they are escaped, not fatal.
        path = epath.Path(directory)
        (path / 'quarantine.csv').write_bytes(table.getvalue().encode('utf-8', 'backslashreplace'))
        (path / 'quarantine.json').write_text(json.dumps(report, indent=2) + '\n')
        before = ', '.join(f'{count:,} {name}' for name, count in {'files': files, **more}.items())
        details = f': {self.summary()}; quarantine.csv has all' if counts else ''
        print(f'{before}, {kept:,} kept, {sum(counts.values()):,} dropped{details}')
