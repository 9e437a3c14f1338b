"""Evaluation under conditions: the same split again and again, as other cameras would see it."""

import logging
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import tensorflow_datasets as tfds

from hybrid import devices, files
from hybrid.data import conditions, input_pipeline
from hybrid.datasets.progress import ProgressBar
from hybrid.runs import predictions, trained
from hybrid.runs.trained import Trained
from hybrid.scores import conditions as scores_lib
from hybrid.scores.rows import Rows
from hybrid.training.eval_step import predict_batches

_LOG = logging.getLogger(__name__)


def evaluate(
    models: Sequence[Trained],
    builder: tfds.core.DatasetBuilder,
    split: str,
    join: Callable[[Mapping[str, np.ndarray], Sequence[int]], Rows],
    output: pathlib.Path,
    title: str,
) -> None:
    """Evaluates a split under each of `conditions.CONDITIONS`, in all of its strengths.

    Writes conditions.csv, conditions.png and conditions.json, which says of what they are, and
    prints a table. The images are read once, and kept; for every model there is one program.

    Args:
      models: One, or several to be combined.
      builder: The prepared dataset.
      split: The split of it.
      join: Makes rows of what `predict_members` gives.
      output: The folder to write to.
      title: What stands over the table and the picture.
    """
    faces = _Faces(models, builder, split)
    cases = [(one, strength) for one in conditions.CONDITIONS for strength in one.strengths]
    passes = 1 + len(cases)
    _LOG.info('%s: %d times %s images, under conditions', split, passes, f'{faces.count:,}')
    main = devices.is_main_process()
    total = passes * faces.count * len(models)
    scores: list[scores_lib.Score] = []
    with ProgressBar(total=total, unit=' images', desc='conditions', disable=not main) as bar:

        def predict(condition: conditions.Condition | None, strength: float) -> Rows:
            numbers = conditions.to_arrays(condition, strength)
            predicted, members = predictions.predict_members(
                models, builder, split, lambda model: faces.predict(model, numbers, bar.update)
            )
            return join(predicted, members)

        clean = predict(None, 0.0)
        if main:
            scores += scores_lib.score(clean, scores_lib.Case(scores_lib.CLEAN, '', 0.0, clean))
        for condition, strength in cases:
            rows = predict(condition, strength)
            if main:
                case = scores_lib.Case(condition.name, condition.unit, strength, rows)
                scores += scores_lib.score(clean, case)
    if not main:
        return
    files.replace(output / 'conditions.csv', scores_lib.to_csv(scores))
    scores_lib.plot(scores, output / 'conditions.png', title)
    about = trained.sources(models) | {'dataset': builder.info.full_name, 'split': split}
    files.write_json(output / 'conditions.json', about | models[0].config.evaluate.to_dict())
    print(scores_lib.format_table(scores, title))
    print(f'{output}: conditions.csv and conditions.png')


class _Faces:
    """The images of a split at the sizes of the models, in memory, and what distorts them."""

    def __init__(self, models: Sequence[Trained], builder: tfds.core.DatasetBuilder, split: str):
        self.count = builder.info.splits[split].num_examples
        self._split = split
        self._batches: dict[tuple[int, int], list[input_pipeline.Batch]] = {}
        self._steps: dict[int, Any] = {}
        for model in models:
            data, key = model.config.data, self._key(model)
            if key not in self._batches:
                self._batches[key] = list(
                    input_pipeline.evaluation_batches(
                        builder,
                        split,
                        batch_size=key[1],
                        resize_size=key[0],
                        process_index=devices.process_index(),
                        process_count=devices.process_count(),
                        num_threads=data.num_threads,
                    )
                )
            if data.image_size not in self._steps:
                step = conditions.create_step(data.image_size)
                self._steps[data.image_size] = devices.compile_eval_step(step)

    def _key(self, model: Trained) -> tuple[int, int]:
        return model.config.data.resize_size, model.config.evaluate.batch_size

    def predict(
        self, model: Trained, numbers: Mapping[str, np.ndarray], update: Callable[[int], object]
    ) -> dict[str, np.ndarray]:
        """What `predict_split` gives, of the images under a condition.

        Args:
          model: One of the models.
          numbers: From `conditions.to_arrays`.
          update: Is told of so many images more.
        """
        distort = self._steps[model.config.data.image_size]
        placed_numbers = devices.replicate(numbers)

        def batches() -> Iterator[Mapping[str, jax.Array]]:
            left = self.count
            for batch in self._batches[self._key(model)]:
                yield distort(placed_numbers, devices.shard_batch(batch))
                update(min(left, self._key(model)[1]))
                left -= self._key(model)[1]

        return predict_batches(
            model.learner.eval_step, model.variables, batches(), self.count, self._split
        )
