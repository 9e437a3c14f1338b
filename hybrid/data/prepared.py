"""The dataset that a config names: finds it, prepares it if need be, and names its subgroups."""

import functools
import logging
import os
from collections.abc import Iterable

import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from hybrid import datasets, devices
from hybrid.datasets import geometry
from hybrid.photos import aligner

_LOG = logging.getLogger(__name__)


def create_prepared_builder(config: ConfigDict) -> tfds.core.DatasetBuilder:
    """Returns the builder of the dataset that a config names, and prepares it if it was not.

    Of several processes one goes first; the others find its files, or prepare their own where they
    do not share its disk.

    Raises:
      FileNotFoundError: when files that must be obtained by hand are not there.
      ValueError: when there is no such dataset, it has no such parameter, or those files or the
        prepared ones are damaged.
    """
    builder = _create_builder(config.data, config.data.data_dir)
    create_aligner = functools.partial(aligner.Aligner, config.detect)
    if devices.is_main_process():
        datasets.prepare(builder, config.data.manual_dir, create_aligner)
        _check_aligned(builder, config.detect)
    devices.wait_for_all('dataset')
    if not devices.is_main_process():
        builder = _create_builder(config.data, config.data.data_dir)
        # On a disk of its own.
        datasets.prepare(builder, config.data.manual_dir, create_aligner)
    return builder


def _check_aligned(builder: tfds.core.DatasetBuilder, detect: ConfigDict) -> None:
    """Warns if the faces of a dataset were aligned with other settings than those of a config."""
    if not getattr(builder.builder_config, 'align', False):
        return
    record = geometry.of(builder)
    for key, now in aligner.settings(detect).items():
        if record.get(key, now) != now:
            _LOG.warning(
                '%s was aligned with another config.detect.%s (%s there, %s now), and is used as '
                'it is. To align the faces anew, remove that folder',
                *(
                    builder.data_dir,
                    aligner.KEYS.get(key, key),
                    str(record[key])[:12],
                    str(now)[:12],
                ),
            )
            return


def find_prepared(data: ConfigDict, data_dirs: Iterable[str]) -> tfds.core.DatasetBuilder | None:
    """Returns the builder of a dataset if it is prepared in one of several folders, else None.

    Args:
      data: A run's `config.data`.
      data_dirs: The folders, in the order in which they are looked into.
    """
    for data_dir in dict.fromkeys(map(os.path.expanduser, data_dirs)):
        builder = _create_builder(data, data_dir)
        if builder.data_path.exists() and builder.is_prepared():
            return builder
    return None


def subgroup_names(features: tfds.features.FeaturesDict) -> dict[str, list[str]]:
    """Returns the class labels of a dataset other than gender, such as ethnicity, and their names.

    They say to which subgroup an example belongs; evaluation gives the scores of each, and nothing
    is trained on them.
    """
    return {
        name: feature.names
        for name, feature in features.items()
        if isinstance(feature, tfds.features.ClassLabel) and name != 'gender'
    }


def _create_builder(data: ConfigDict, data_dir: str) -> tfds.core.DatasetBuilder:
    return datasets.create_builder(data.dataset, data_dir, data.parameters.to_dict())
