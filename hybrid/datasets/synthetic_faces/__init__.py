"""Drawn faces whose age and gender are visible: the embedded default dataset."""

from hybrid.datasets.synthetic_faces.synthetic_faces_dataset_builder import Builder as Builder
