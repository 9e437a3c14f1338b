"""Measures an export on the CPU: faces a second of onnxruntime beside ours, and sizes of files.

  python benchmarks/export.py --workdir=runs/quickstart
  python benchmarks/export.py --workdir=W --batch=1,32,128 --rounds=20

The model computes in float32. `ours` is the predictor behind --mode=predict, with the views that
the workdir's config says; `onnx`, `fp16` and `stablehlo` are the files of its export. All take
turns, on faces of noise. A ratio is faces a second over those of ours.
"""

import pathlib
import tempfile

import jax
import numpy as np
from jax_hybrid import settle
from report import Step, Table, alternate, create_parser, numbers

from hybrid import default_config
from hybrid.runs import trained, workdir
from hybrid.runs.export import folder
from hybrid.runs.export.predict import MODEL, Runner
from hybrid.runs.predictor import Predictor


def main() -> None:
    """Measures and prints."""
    parser = create_parser(__doc__, rounds=10)
    parser.add_argument('--workdir', required=True, type=pathlib.Path)
    parser.add_argument('--batch', type=numbers, default='1,32,128', help='faces in a batch')
    options = parser.parse_args()
    config = workdir.load_config(options.workdir, default_config.get_config())
    config.model.dtype, config.model.kernels = 'float32', 'auto'
    settle(config)
    models = trained.restore_all([config], [options.workdir], '')
    predictor = Predictor(models)
    size, most = predictor.face_sizes[0], predictor.most
    names = ['ours', 'onnx', 'fp16', 'stablehlo']
    table = Table([*names, *(f'{name} / ours' for name in names[1:])], 'faces/s, ratios')
    with tempfile.TemporaryDirectory() as scratch:
        exported = folder.write(models, pathlib.Path(scratch) / 'export')
        full, half = (Runner(exported, name) for name in (MODEL, folder.HALF))
        content = bytearray((exported / folder.STABLEHLO).read_bytes())
        program = jax.jit(jax.export.deserialize(content).call)
        sizes = {path.name: path.stat().st_size for path in exported.iterdir()}

    def ours(faces: np.ndarray) -> None:
        for start in range(0, len(faces), most):
            predictor([faces[start : start + most]])

    rng = np.random.default_rng(0)
    for batch in options.batch:
        faces = rng.integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
        predictor.prepare(batch)
        steps: list[Step] = [
            lambda faces=faces: ours(faces),
            lambda faces=faces: full(faces),
            lambda faces=faces: half(faces),
            lambda faces=faces: jax.block_until_ready(program(faces)),
        ]
        rates = [batch / seconds for seconds in alternate(steps, options.rounds)]
        ratios = {
            f'{name} / ours': rate / rates[0]
            for name, rate in zip(names[1:], rates[1:], strict=True)
        }
        table.add({'name': f'batches of {batch}', **dict(zip(names, rates, strict=True)), **ratios})
    table.add({'name': ', '.join(f'{k} {v / 1e6:.1f} MB' for k, v in sorted(sizes.items()))})
    table.end(options.json)


if __name__ == '__main__':
    main()
