import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid.models import resnet
from hybrid.ops import convolution, im2col, pooling, shifts, taps, winograd
from hybrid.ops.convolution import Conv, choose, xla_convolution


def error(got, expected):
    got, expected = np.float64(got), np.float64(expected)
    assert got.shape == expected.shape
    # A gradient may be all zeros, where padding alone was seen.
    return np.abs(got - expected).max() / max(np.abs(expected).max(), 1e-30)


def draw(seed, case, dtype=jnp.float32):
    shape, kernel_shape, strides, padding = case
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    kernel = rng.normal(size=kernel_shape)
    rows, columns = taps.output_size(shape, kernel_shape, strides, padding)
    dy = rng.normal(size=(shape[0], rows, columns, kernel_shape[3]))
    return tuple(jnp.asarray(a, dtype) for a in (x, kernel, dy))


def passes(function, strides, padding, *arguments):
    """Outputs and both gradients, as one compiled function of x, kernel and dy."""

    @jax.jit
    def run(x, kernel, dy):
        y, pull = jax.vjp(
            lambda x, kernel: function(x, kernel, strides, padding, *arguments), x, kernel
        )
        return y, *pull(dy)

    return run


def shapes():
    """Twenty drawn convolutions, every other without padding, and ten at the edges."""
    rng = np.random.default_rng(0)
    for n in range(20):
        size = tuple(int(n) for n in rng.integers(1, 5, 2))
        most = 3 if n % 2 else 1
        pads = tuple(tuple(int(n) for n in rng.integers(0, most, 2)) for _ in range(2))
        area = [int(rng.integers(max(1, k - sum(p)), 12)) for k, p in zip(size, pads, strict=True)]
        batch, channels, features = (int(n) for n in rng.integers(1, 9, 3))
        strides = tuple(int(n) for n in rng.integers(1, 4, 2))
        yield (batch, *area, channels), (*size, channels, features), strides, pads
    one = ((1, 1), (1, 1))
    for height, width in ((1, 1), (2, 2), (3, 3), (5, 7), (4, 4), (6, 12), (9, 8), (16, 16)):
        yield (70, height, width, 3), (3, 3, 3, 5), (1, 1), one
    for side, stride in ((1, 1), (2, 1), (2, 2), (3, 1), (3, 2)):
        yield (150, side, side, 3), (3, 3, 3, 5), (stride, stride), one
    yield (6, 32, 32, 3), (7, 7, 3, 16), (2, 2), ((3, 3), (3, 3))
    yield (8, 17, 17, 64), (3, 3, 64, 16), (2, 2), one


CASES = list(shapes())


@pytest.mark.parametrize('case', CASES, ids=str)
def test_equals_xla_in_outputs_and_gradients(case):
    strides, padding = case[2:]
    arrays = draw(0, case)
    got = passes(convolution.convolution, strides, padding)(*arrays)
    # Float64 sums would be the judge; XLA's own float32 errors are below 1e-6 here.
    expected = passes(xla_convolution, strides, padding)(*arrays)
    assert error(got[0], expected[0]) <= 1e-5
    assert error(got[1], expected[1]) <= 1e-4
    assert error(got[2], expected[2]) <= 1e-4


def test_all_forms_were_among_the_shapes():
    chosen = [choose('forward', *case) for case in CASES]
    assert min(chosen.count(form) for form in ('winograd', 'shifts', 'im2col')) >= 5


@pytest.mark.long
@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize('form', convolution.FORMS)
def test_every_form_does_every_pass_that_it_has(form, dtype):
    """Also those that nothing chooses at these shapes."""
    cases = [c for c in CASES if form != 'winograd' or convolution.fits_winograd(*c[1:])]
    for case in cases[::3]:
        _, kernel_shape, strides, padding = case
        arrays = draw(0, case, dtype)
        x, kernel, dy = arrays
        exact = passes(xla_convolution, strides, padding)(*(a.astype(jnp.float32) for a in arrays))
        arguments = {
            'forward': (x, kernel),
            'input_gradient': (dy, kernel, x.shape),
            'kernel_gradient': (x, dy, kernel_shape),
        }
        for of_pass, expected in zip(convolution.PASSES, exact, strict=True):
            function = convolution.FORMS[form].get(of_pass)
            if function is not None:
                got = function(*arguments[of_pass], strides, padding)
                assert got.dtype == dtype
                tolerance = 1e-5 if of_pass == 'forward' else 1e-4
                assert error(got, expected) <= (tolerance if dtype == jnp.float32 else 2e-2)


def test_a_chunk_keeps_within_the_limit_and_divides_the_batch():
    limit = im2col._CHUNK_BYTES
    kernel_shape = (3, 3, 8, 4)  # 288 bytes a patch
    assert im2col.num_chunks(32, 10, kernel_shape) == 1
    assert im2col.num_chunks(8, limit // 2 // 288, kernel_shape) == 4
    assert im2col.num_chunks(7, limit // 2 // 288, kernel_shape) == 7
    assert im2col.num_chunks(3, 3 * limit // 288, kernel_shape) == 3
    assert im2col.num_chunks(8, limit, (1, 1, 8, 4)) == 1


def test_chunks_change_nothing(monkeypatch):
    case = (6, 9, 9, 4), (3, 3, 4, 5), (2, 2), ((1, 1), (1, 1))
    arrays = draw(0, case)
    whole = passes(convolution.convolution, *case[2:])(*arrays)
    monkeypatch.setattr(im2col, '_CHUNK_BYTES', 2 * 4 * 25 * 36)
    chunked = passes(convolution.convolution, *case[2:])(*arrays)
    for got, expected in zip(chunked, whole, strict=True):
        assert error(got, expected) <= 1e-6


@pytest.mark.parametrize('m', [2, 3, 4])
def test_winograd_matrices_are_a_correlation(m):
    a, g, b = winograd.matrices(m)
    rng = np.random.default_rng(0)
    row, taps = rng.normal(size=m + 2), rng.normal(size=3)
    np.testing.assert_allclose(
        a @ ((g @ taps) * (b @ row)), np.correlate(row, taps), rtol=0, atol=1e-13
    )


def test_winograd_has_the_smallest_tile_in_bfloat16():
    assert {winograd.tile_size(length, jnp.bfloat16) for length in range(1, 33)} == {2}


def test_winograd_tiles():
    sizes = {length: winograd.tile_size(length) for length in (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 32)}
    assert sizes == {1: 2, 2: 2, 3: 3, 4: 4, 5: 3, 6: 3, 7: 4, 8: 4, 12: 4, 16: 4, 32: 4}
    # A quarter of the arithmetic: 36 products for 16 outputs of nine taps.
    assert winograd.count(32, 16) == (36, 32)


def test_winograd_needs_a_stride_of_one_and_work_to_share_a_kernel():
    one = ((1, 1), (1, 1))
    wide = (3, 3, 64, 64)
    assert choose('forward', (32, 16, 16, 64), wide, (1, 1), one) == 'winograd'
    assert choose('forward', (32, 16, 16, 64), wide, (2, 2), one) != 'winograd'
    assert choose('forward', (32, 16, 16, 64), wide, (1, 1), ((0, 0), (0, 0))) == 'im2col'
    assert choose('forward', (32, 16, 16, 64), (5, 5, 64, 64), (1, 1), one) != 'winograd'
    # A copy of each tap's part of the kernel pays with more than a few images.
    assert choose('forward', (32, 2, 2, 512), (3, 3, 512, 512), (1, 1), one) == 'shifts'
    assert choose('forward', (1, 2, 2, 512), (3, 3, 512, 512), (1, 1), one) == 'im2col'
    assert choose('input_gradient', (1, 2, 2, 512), (3, 3, 512, 512), (1, 1), one) == 'shifts'


def test_in_bfloat16_onednn_convolves_but_for_small_maps_and_gradients_of_kernels():
    one = ((1, 1), (1, 1))
    wide, narrow = (3, 3, 64, 64), (1, 1, 64, 64)

    def chosen(side, kernel_shape, stride, padding=one, dtype=jnp.bfloat16):
        settings = (32, side, side, 64), kernel_shape, (stride, stride), padding
        return [choose(name, *settings, 'onednn', dtype) for name in convolution.PASSES]

    assert chosen(16, wide, 1) == ['direct', 'direct', 'winograd']
    assert chosen(16, wide, 2) == ['direct', 'shifts', 'im2col']
    assert chosen(4, wide, 1) == ['shifts'] * 3
    assert chosen(16, narrow, 1, ((0, 0), (0, 0))) == ['im2col', 'shifts', 'im2col']
    assert chosen(16, wide, 1, dtype=jnp.float32) == ['winograd'] * 3


def test_what_taps_see():
    one = ((1, 1), (1, 1))
    # The middle tap sees 4, four see 2, the corners 1 each; with a stride only four see any.
    assert shifts.count((1, 2, 2, 5), (3, 3, 5, 5), (1, 1), one) == 4 + 4 * 2 + 4
    assert shifts.count((1, 2, 2, 5), (3, 3, 5, 5), (2, 2), one) == 4
    assert shifts.count((1, 4, 4, 5), (1, 1, 5, 5), (2, 2), ((0, 0), (0, 0))) == 4


VMAPPED = [
    ((6, 2, 2, 4), (3, 3, 4, 5), (1, 1), ((1, 1), (1, 1))),
    ((40, 6, 6, 4), (3, 3, 4, 5), (1, 1), ((1, 1), (1, 1))),
    ((4, 9, 9, 3), (3, 3, 3, 6), (2, 2), ((1, 1), (1, 1))),
    ((4, 8, 8, 5), (1, 1, 5, 6), (2, 2), ((0, 0), (0, 0))),
]


@pytest.mark.parametrize('case', VMAPPED, ids=str)
@pytest.mark.parametrize('shared', [False, True])
def test_vmapped_over_kernels(case, shared):
    """Members with kernels of their own, on inputs of their own or the same ones."""
    members = [draw(seed, case) for seed in range(3)]
    x, kernel, dy = (jnp.stack(arrays) for arrays in zip(*members, strict=True))
    axes = (None if shared else 0, 0, 0)
    x = x[0] if shared else x
    run = jax.jit(jax.vmap(passes(convolution.convolution, *case[2:]), in_axes=axes))
    expected = jax.vmap(passes(xla_convolution, *case[2:]), in_axes=axes)(x, kernel, dy)
    for got, want, tolerance in zip(run(x, kernel, dy), expected, (1e-5, 1e-4, 1e-4), strict=True):
        assert error(got, want) <= tolerance
    assert ' convolution(' not in str(run.lower(x, kernel, dy).compile().as_text())


@pytest.mark.parametrize('case', VMAPPED, ids=str)
def test_vmapped_onednn_convolutions_are_not_grouped(case):
    members = [draw(seed, case, jnp.bfloat16) for seed in range(3)]
    arrays = [jnp.stack(arrays) for arrays in zip(*members, strict=True)]
    run = jax.jit(jax.vmap(passes(convolution.convolution, *case[2:], 'onednn')))
    exact = jax.vmap(passes(xla_convolution, *case[2:]))(*(a.astype(jnp.float32) for a in arrays))
    for got, want in zip(run(*arrays), exact, strict=True):
        assert error(got, want) <= 2e-2
    counts = re.findall(r'(?:feature|batch)_group_count = (\d+)', run.lower(*arrays).as_text())
    assert set(counts) <= {'1'}


@pytest.mark.parametrize('kernels', convolution.KERNELS)
@pytest.mark.parametrize('case', [*CASES[::4], *VMAPPED], ids=str)
def test_bfloat16(case, kernels):
    arrays = draw(0, case, jnp.bfloat16)
    got = passes(convolution.convolution, *case[2:], kernels)(*arrays)
    assert {a.dtype for a in got} == {jnp.dtype(jnp.bfloat16)}
    exact = (a.astype(jnp.float32) for a in arrays)
    expected = passes(xla_convolution, *case[2:])(*exact)
    for got_, want in zip(got, expected, strict=True):
        assert error(got_, want) <= 2e-2


@pytest.mark.parametrize('kernels', ['portable', 'onednn'])
@pytest.mark.parametrize('platform', ['cuda', 'tpu'])
@pytest.mark.parametrize('case', VMAPPED, ids=str)
def test_on_accelerators_it_is_a_convolution(case, platform, kernels):
    arrays = draw(0, case, jnp.bfloat16)
    run = passes(convolution.convolution, *case[2:], kernels)
    text = run.trace(*arrays).lower(lowering_platforms=(platform,)).as_text()
    plain = passes(xla_convolution, *case[2:]).trace(*arrays)
    plain = plain.lower(lowering_platforms=(platform,)).as_text()
    for operation in ('convolution', 'dot_general', 'while', 'slice'):
        count = text.count(f'stablehlo.{operation}')
        assert count == plain.count(f'stablehlo.{operation}') == 3 * (operation == 'convolution')
    on_cpu = run.lower(*arrays).as_text()
    assert 'stablehlo.dot_general' in on_cpu or kernels == 'onednn'
    assert 'stablehlo.convolution' not in on_cpu or kernels == 'onednn'


def test_module_equals_flax():
    padding = ((1, 1), (1, 1))
    ours = Conv(5, (3, 3), (2, 2), padding)
    flax = nn.Conv(5, (3, 3), (2, 2), padding, use_bias=False)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 3)), jnp.float32)
    variables, expected = (module.init(jax.random.key(0), x) for module in (ours, flax))
    jax.tree.map(np.testing.assert_array_equal, variables, expected)
    assert error(ours.apply(variables, x), flax.apply(variables, x)) <= 1e-6


@pytest.mark.long
def test_the_whole_encoder_equals_one_of_xlas_convolutions(monkeypatch):
    """With a smooth activation: at a ReLU's kink one rounding decides a gradient, in any form.

    Of XLA's own gradients in float32 some differ from float64's by 7e-3 for that reason.
    """
    monkeypatch.setattr(nn, 'relu', nn.softplus)
    encoder = resnet.ResNet(stage_sizes=(1, 1, 1, 1), width=8, zero_init_residual=False)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(40, 64, 64, 3)), jnp.float32)
    variables = jax.jit(functools.partial(encoder.init, train=False))(jax.random.key(0), x)
    # Not y**2, whose mean BatchNorm would leave nearly the same whatever comes before it.
    weights = jnp.asarray(rng.normal(size=(40, 2, 2, 64)), jnp.float32)

    def run():
        def loss(params):
            y, _ = encoder.apply(
                {**variables, 'params': params}, x, train=True, mutable=['batch_stats']
            )
            return (y * weights).mean(), y

        gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))
        (_, y), grads = gradients(variables['params'])
        return y, np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(grads)])

    y, grads = run()
    monkeypatch.setattr(convolution, 'convolution', lambda *a: xla_convolution(*a[:4]))
    monkeypatch.setattr(pooling, 'max_pool', pooling.xla_max_pool)
    expected_y, expected_grads = run()
    assert error(y, expected_y) <= 1e-5
    assert error(grads, expected_grads) <= 1e-4
