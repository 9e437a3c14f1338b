"""A trained model outside of this program: as ONNX, as StableHLO, as plain arrays.

`folder.py` writes an export and says what is in it; `loaded.py` and the export's own `predict.py`
use one, without JAX. Nothing is imported here, so that these two stay light.
"""
