"""Validation in the course of a training, on each of its datasets."""

from collections.abc import Sequence

from hybrid.data import records
from hybrid.data.parts import Part
from hybrid.runs import predictions
from hybrid.runs.trained import Trained
from hybrid.scores import validation


def validate(model: Trained, parts: Sequence[Part]) -> tuple[dict[str, float], validation.Chosen]:
    """Scores a state of a run on the validation split of each of its datasets.

    Args:
      model: The run at this state.
      parts: Its datasets. What is left out of their validation splits is not scored.

    Returns:
      What `validation.validation_metrics` gives; of several datasets what `validation.average`
      makes of it. And the scores that choose the best checkpoint, see
      `validation.selection_scores`; of several datasets their means.
    """
    split, learnt = model.config.data.validation_split, model.predicts
    of_each: dict[str, dict[str, float]] = {}
    chosen: dict[str, validation.Chosen] = {}
    for part in parts:
        rows, members = predictions.predict_members([model], part.builder, split)
        rows = {name: column[part.kept(split)] for name, column in rows.items()}
        labels = part.kept_columns(split)
        scores = validation.validation_metrics(rows, labels, model.config, members)
        of_each[part.name] = scores
        chosen[part.name] = validation.selection_scores(scores, labels, members, learnt)
    if len(parts) == 1:
        return of_each[parts[0].name], chosen[parts[0].name]
    counting = [chosen[part.name] for part in that_count(parts, split, learnt)]
    return validation.average(of_each), validation.average_chosen(counting)


def that_count(parts: Sequence[Part], split: str, learnt: Sequence[str]) -> list[Part]:
    """Those datasets of a run that choose its best checkpoint.

    They are those that have ages, if these are learnt, else those that have genders: errors in
    years and shares of wrong genders have no mean.
    """
    for kind in learnt:  # 'age' comes first.
        labelled = [
            part for part in parts if records.is_known(part.kept_columns(split), kind).any()
        ]
        if labelled:
            return labelled
    return []
