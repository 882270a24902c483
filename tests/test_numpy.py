"""medkern.numpy: the same bits as medkern on torch, without torch."""

import itertools
import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

import medkern as mk

mkn = pytest.importorskip(
    "medkern.numpy", reason="medkern._core is not compiled", exc_type=ImportError
)

FLOATS = (np.float16, np.float32, np.float64)
IMAGES = (np.uint8, np.int16)
PADS = ("zero", "replicate", "symmetric", "reflect", "periodic")
MODES = ("ll", "iewa", "all", "bands", "max_concat")
SIZES = {1: [(2,), (37,), (130,)], 2: [(2, 3), (5, 35), (6, 66)], 3: [(3, 4, 5), (2, 5, 67)]}
# Enough samples for two threads (65536 each), in a shape with odd axes.
LARGE = {1: (3, 61_003), 2: (2, 257, 341), 3: (2, 35, 45, 67)}


@pytest.fixture(params=[1, 2])
def threads(request):
    before = mkn.get_num_threads()
    mkn.set_num_threads(request.param)
    yield request.param
    mkn.set_num_threads(before)


def images(*shape, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    if np.issubdtype(dtype, np.floating):
        return rng.standard_normal(shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


def assert_same(got, tensor):
    """The bits, dtype and shape of torch's result, in a new C-contiguous array."""
    want = tensor.numpy()
    assert isinstance(got, np.ndarray)
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    assert got.tobytes() == np.ascontiguousarray(want).tobytes()


def check_all(x, ndim, pads=PADS):
    t = torch.from_numpy(x)
    size = x.shape[x.ndim - ndim :]
    for pad in pads:
        bands = mkn.haar_dwt(x, ndim=ndim, pad=pad)
        assert bands.flags.c_contiguous
        assert_same(bands, mk.haar_dwt(t, ndim=ndim, pad=pad))
        if np.issubdtype(x.dtype, np.floating):
            for mode in MODES:
                y = mkn.haar_pool(x, mode, ndim=ndim, pad=pad)
                assert y.flags.c_contiguous
                assert_same(y, mk.haar_pool(t, mode, ndim=ndim, pad=pad))
        coefficients = mkn.haar_wavedec(x, ndim=ndim, pad=pad)
        for ours, theirs in zip(coefficients, mk.haar_wavedec(t, ndim=ndim, pad=pad), strict=True):
            assert_same(ours, theirs)
        back = mkn.haar_waverec(coefficients, ndim=ndim, size=size)
        assert_same(
            back, mk.haar_waverec(mk.haar_wavedec(t, ndim=ndim, pad=pad), ndim=ndim, size=size)
        )
    back = mkn.haar_idwt(bands, ndim=ndim, size=size)
    assert_same(back, mk.haar_idwt(torch.from_numpy(bands), ndim=ndim, size=size))
    assert_same(mkn.haar_idwt(bands, ndim=ndim), mk.haar_idwt(torch.from_numpy(bands), ndim=ndim))


@pytest.mark.parametrize("dtype", [*FLOATS, *IMAGES], ids=lambda d: d.__name__)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_equals_torch(ndim, dtype):
    for size in SIZES[ndim]:
        check_all(images(2, 3, *size, dtype=dtype), ndim)


@pytest.mark.parametrize("dtype", [*FLOATS, *IMAGES], ids=lambda d: d.__name__)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_equals_torch_on_several_threads(ndim, dtype, threads):
    x = images(*LARGE[ndim], dtype=dtype)
    assert x.size >> 16 >= 2  # or only one thread would run
    check_all(x, ndim, pads=("reflect",))


def test_defaults_are_those_of_torch():
    x = images(2, 3, 7, 9)
    t = torch.from_numpy(x)
    assert_same(mkn.haar_dwt(x), mk.haar_dwt(t))
    assert_same(mkn.haar_pool(x), mk.haar_pool(t))
    assert_same(mkn.haar_waverec(mkn.haar_wavedec(x)), mk.haar_waverec(mk.haar_wavedec(t)))


def test_bad_samples_are_those_of_torch():
    x = images(2, 5, 39)
    x[0, 1, 3], x[1, 4, 38], x[0, 0, 20] = np.nan, np.inf, -np.inf
    for mode in MODES:
        got, want = mkn.haar_pool(x, mode), mk.haar_pool(torch.from_numpy(x), mode).numpy()
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (2, 3, 4), (0,), (0, 3), (3, 0)])
def test_leading_axes(lead):
    x = images(*lead, 5, 6)
    t = torch.from_numpy(x)
    for pad in ("symmetric", "zero"):
        bands = mkn.haar_dwt(x, pad=pad)
        assert bands.shape == (*lead, 4, 3, 3)
        assert_same(bands, mk.haar_dwt(t, pad=pad))
        assert_same(
            mkn.haar_idwt(bands, size=(5, 6)), mk.haar_idwt(torch.from_numpy(bands), size=(5, 6))
        )
        for mode in MODES:
            if lead or mode not in ("bands", "max_concat"):
                assert_same(mkn.haar_pool(x, mode, pad=pad), mk.haar_pool(t, mode, pad=pad))


# -- any memory --


def unaligned(x):
    memory = np.zeros(x.nbytes + 1, np.uint8)
    view = memory[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def packed(x):
    record = np.zeros(x.shape, dtype=[("tag", "u1"), ("value", x.dtype)])
    record["value"] = x
    return record["value"]


VIEWS = {
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "negative-strides": lambda x: x[..., ::-1, ::-1].copy()[..., ::-1, ::-1],
    "fortran": np.asfortranarray,
    "sliced": lambda x: np.repeat(x, 3, axis=-1)[..., ::3],
    "transposed": lambda x: np.ascontiguousarray(x.swapaxes(0, -1)).swapaxes(0, -1),
    "expanded": lambda x: np.broadcast_to(x[:1], x.shape),
    "unaligned": unaligned,
    "packed-records": packed,
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("dtype", [*FLOATS, *IMAGES], ids=lambda d: d.__name__)
def test_any_memory(view, dtype):
    x = VIEWS[view](images(2, 3, 7, 38, dtype=dtype))
    dense = np.array(x, dtype=dtype, order="C")
    np.testing.assert_array_equal(x, dense)
    bands = mkn.haar_dwt(x)
    assert bands.dtype.isnative
    assert bands.tobytes() == mkn.haar_dwt(dense).tobytes()
    coarse = VIEWS[view](bands)
    assert (
        mkn.haar_idwt(coarse).tobytes()
        == mkn.haar_idwt(np.array(coarse, dtype=bands.dtype)).tobytes()
    )
    if dtype in FLOATS:
        assert (
            mkn.haar_pool(x, "max_concat").tobytes() == mkn.haar_pool(dense, "max_concat").tobytes()
        )


def test_read_only_input_is_read_and_left_alone():
    x = images(1, 2, 6, 40)
    before = x.copy()
    x.flags.writeable = False
    y = mkn.haar_dwt(x)
    np.testing.assert_array_equal(x, before)
    assert y.flags.writeable
    assert not np.shares_memory(x, y)


def test_subclasses_come_back_as_plain_arrays():
    x = images(1, 1, 4, 4).view(type("Tagged", (np.ndarray,), {}))
    assert type(mkn.haar_dwt(x)) is np.ndarray


# -- errors --


def raises(kind, op, argument, got):
    text = rf"^medkern\.(numpy\.)?{op}: {argument} must .*, got {re.escape(str(got))}; \S"
    return pytest.raises(kind, match=text)


X = np.zeros((1, 2, 4, 6), np.float32)
ON_IMAGES = {"haar_dwt": mkn.haar_dwt, "haar_wavedec": mkn.haar_wavedec, "haar_pool": mkn.haar_pool}


@pytest.mark.parametrize("op", ON_IMAGES)
def test_image_errors(op):
    call = ON_IMAGES[op]
    for bad in ([[1.0]], torch.zeros(4, 4), None):
        with raises(TypeError, op, "x", type(bad).__name__):
            call(bad)
    for dtype in (np.int64, np.complex64, np.bool_, np.longdouble, np.int8, np.dtype("S4")):
        with raises(TypeError, op, "x", np.dtype(dtype)):
            call(X.astype(dtype))
    for ndim in (0, 4, -1, "2", None):
        with raises(ValueError, op, "ndim", repr(ndim)):
            call(X, ndim=ndim)
    with raises(ValueError, op, "pad", "'wrap'"):
        call(X, pad="wrap")
    for shape in ((), (4,), (1, 2, 0, 3), (1, 2, 3, 0)):
        with raises(ValueError, op, "x", shape):
            call(np.zeros(shape, np.float32))
    with raises(ValueError, op, "x", (3, 1)):
        call(np.zeros((3, 1), np.float32), pad="reflect")


def test_pool_errors():
    with raises(ValueError, "haar_pool", "mode", "'max'"):
        mkn.haar_pool(X, "max")
    for mode in ("bands", "max_concat"):
        with raises(ValueError, "haar_pool", "x", (4, 6)):
            mkn.haar_pool(X[0, 0], mode)
    for dtype in IMAGES:
        with raises(TypeError, "haar_pool", "x", np.dtype(dtype)):
            mkn.haar_pool(X.astype(dtype))


def test_inverse_errors():
    bands = np.zeros((1, 4, 3, 5), np.float32)
    with raises(TypeError, "haar_idwt", "bands", "list"):
        mkn.haar_idwt([1.0])
    for dtype in (np.uint8, np.int64, np.uint16):
        with raises(TypeError, "haar_idwt", "bands", np.dtype(dtype)):
            mkn.haar_idwt(bands.astype(dtype))
    for size in ((4, 10), (6, 11), (6,), (-6, 10)):
        with raises(ValueError, "haar_idwt", "size", size):
            mkn.haar_idwt(bands, size=size)
    with raises(ValueError, "haar_idwt", "bands", (1, 3, 3, 5)):
        mkn.haar_idwt(bands[:, :3])
    with raises(ValueError, "haar_waverec", "coefficients", "1 entries"):
        mkn.haar_waverec([X])
    with raises(TypeError, "haar_waverec", "coefficients", "float64, float32"):
        mkn.haar_waverec([np.zeros((3, 5)), np.zeros((3, 3, 5), np.float32)])
    with raises(ValueError, "haar_waverec", "coefficients", "0 entries"):
        mkn.haar_waverec([])
    with raises(TypeError, "haar_idwt", "size", 6):
        mkn.haar_idwt(bands, size=6)
    with raises(ValueError, "haar_wavedec", "levels", 3):
        mkn.haar_wavedec(X, 3)


@pytest.mark.parametrize(("count", "kind"), [(0, ValueError), (-1, ValueError), (1.0, TypeError)])
def test_thread_count_errors(count, kind):
    before = mkn.get_num_threads()
    with raises(kind, "set_num_threads", "count", count):
        mkn.set_num_threads(count)
    assert mkn.get_num_threads() == before


# The module under medkern.numpy is private, but a wrong call must raise rather than read outside.
FOUR = np.zeros((2, 3, 5, 7), np.float32)
FIVE = np.zeros((2, 3, 4, 3, 4), np.float32)
CORE = {
    "dwt-ndim-0": ("haar_dwt", (FOUR, 0, 1, 1)),
    "dwt-ndim-4": ("haar_dwt", (FOUR, 4, 1, 1)),
    "dwt-rank": ("haar_dwt", (FOUR[0], 2, 1, 1)),
    "dwt-empty": ("haar_dwt", (np.ascontiguousarray(FOUR[..., :0]), 2, 1, 1)),
    "dwt-strided": ("haar_dwt", (FOUR[..., ::2], 2, 1, 1)),
    "dwt-complex": ("haar_dwt", (FOUR.astype(np.complex64), 2, 1, 1)),
    "idwt-size-empty": ("haar_idwt", (FIVE, [], 1)),
    "idwt-size-4": ("haar_idwt", (FIVE, [1, 1, 5, 7], 1)),
    "idwt-size-big": ("haar_idwt", (FIVE, [5, 9], 1)),
    "idwt-size-negative": ("haar_idwt", (FIVE, [-5, 7], 1)),
    "idwt-bands": ("haar_idwt", (np.ascontiguousarray(FIVE[:, :, :3]), [5, 7], 1)),
    "pool-mode": ("haar_pool", (FOUR, "max", 2, 1, 1)),
    "pool-int": ("haar_pool", (FOUR.astype(np.int32), "ll", 2, 1, 1)),
}
CORE_INTEGERS = {
    "dwt-int64": ("haar_dwt", (FOUR.astype(np.int64), 2, 1, 1)),
    "dwt-int32": ("haar_dwt", (FOUR.astype(np.int32), 2, 1, 1)),
    "dwt-int8": ("haar_dwt", (FOUR.astype(np.int8), 2, 1, 1)),
    "idwt-int64": ("haar_idwt", (FIVE.astype(np.int64), [5, 7], 1)),
    "idwt-uint8": ("haar_idwt", (FIVE.astype(np.uint8), [5, 7], 1)),
    "idwt-uint16": ("haar_idwt", (FIVE.astype(np.uint16), [5, 7], 1)),
}


@pytest.mark.parametrize("call", CORE)
def test_bad_direct_call_raises(call):
    from medkern import _core

    name, args = CORE[call]
    with pytest.raises(ValueError, match=r"must|do not fit|wrong number"):
        getattr(_core, name)(*args)


@pytest.mark.parametrize("call", CORE_INTEGERS)
def test_bad_direct_call_with_integers_raises(call):
    from medkern import _core

    name, args = CORE_INTEGERS[call]
    with pytest.raises(ValueError, match="must be"):
        getattr(_core, name)(*args)


# -- processes --


def python(code, **environment):
    """Run code in a fresh interpreter and return what it printed."""
    import os

    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
        check=False,
    )
    assert run.returncode == 0, f"exit {run.returncode}: {run.stderr}"
    return run.stdout.strip()


def test_torch_is_never_imported():
    """Not by the import, nor by any function, nor by an error."""
    seen = python(
        """
        import sys
        import numpy as np
        import medkern.numpy as mkn
        x = np.random.default_rng(0).random((2, 3, 9, 11), dtype=np.float32)
        mkn.haar_idwt(mkn.haar_dwt(x))
        mkn.haar_waverec(mkn.haar_wavedec(x), size=(9, 11))
        for mode in ("ll", "iewa", "all", "bands", "max_concat"):
            mkn.haar_pool(x, mode)
        mkn.set_num_threads(mkn.get_num_threads())
        try:
            mkn.haar_dwt("x")
        except TypeError:
            pass
        print(sorted(name for name in sys.modules if name.split(".")[0] == "torch"))
        """
    )
    assert seen == "[]"


def test_works_where_torch_is_missing():
    python(
        """
        import sys

        class NoTorch:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] == "torch":
                    raise ModuleNotFoundError("torch is not installed here", name=name)

        sys.meta_path.insert(0, NoTorch())
        import numpy as np
        import medkern.numpy as mkn
        assert mkn.haar_pool(np.ones((2, 2)), "ll").item() == 2
        """
    )


def test_all_processors_of_the_process_are_used_at_first():
    count = python(
        """
        import os
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        import medkern.numpy as mkn
        print(mkn.get_num_threads())
        """
    )
    assert count == "1"


def test_fork_after_threads():
    """Children of a process that has computed on two threads compute on two threads themselves."""
    python(
        """
        import os, signal
        import numpy as np
        import medkern.numpy as mkn
        mkn.set_num_threads(2)
        x = np.random.default_rng(0).random((4, 3, 200, 200), dtype=np.float32)
        want = mkn.haar_dwt(x).tobytes()
        children = []
        for _ in range(3):
            child = os.fork()
            if child == 0:
                signal.alarm(60)  # a deadlock ends the child, which shows
                same = mkn.haar_dwt(x).tobytes() == want
                os._exit(0 if same else 3)
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(c, 0)[1]) for c in children]
        assert codes == [0, 0, 0], codes
        """
    )


def test_calls_from_several_threads_agree():
    from concurrent.futures import ThreadPoolExecutor

    inputs = [images(3, 130, 171, seed=i) for i in range(4)]
    want = [mkn.haar_dwt(x).tobytes() for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            got = pool.map(lambda x: mkn.haar_dwt(x).tobytes(), inputs)
            assert list(got) == want


def test_the_interpreter_runs_while_a_kernel_does():
    """The GIL is released: another thread counts on during one long call."""
    import threading

    x = np.zeros((64, 512, 512), np.float64)
    mkn.haar_dwt(x[:2])
    ticks, done = itertools.count(), threading.Event()

    def count():
        while not done.wait(0.0005):
            next(ticks)

    counter = threading.Thread(target=count)
    counter.start()
    before = next(ticks)
    mkn.haar_dwt(x)
    after = next(ticks)
    done.set()
    counter.join()
    assert after - before > 10


def test_failing_to_start_a_thread_does_not_end_the_process():
    """Without memory for a thread's stack the call raises or runs on fewer threads."""
    python(
        """
        import resource, threading
        import numpy as np
        import medkern.numpy as mkn
        mkn.set_num_threads(2)
        x = np.ones((2, 256, 512), np.float32)
        want = mkn.haar_dwt(x)
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        # Room for the result, none for a stack of 8 MB.
        resource.setrlimit(resource.RLIMIT_AS, (used + (3 << 20), -1))
        try:
            assert (mkn.haar_dwt(x) == want).all()
        except (MemoryError, RuntimeError):
            pass
        """
    )


# -- geodesic distances: torch-free, the same bits as the op --


def test_geodesic_functions_equal_the_ops():
    rng = np.random.default_rng(0)
    image = (rng.random((2, 3, 17, 9)) * 255).astype(np.float32)
    seeds = rng.random((2, 4, 17, 9)) < 0.02
    seeds[:, :, 3, 4] = True
    mask = rng.random((2, 1, 17, 9)) < 0.9
    mask[:, :, 3, 4] = True
    options = {"spacing": [(1.0, 2.5), (0.5, 1.0)], "channel_norm": "linf", "mask": mask}
    wanted = {"return_labels": True, "return_predecessors": True, "return_info": True}
    ours = mkn.geodesic_distance(image, seeds, lam=0.3, **options, **wanted)
    theirs = mk.geodesic_distance(image, seeds, lam=0.3, **options, **wanted)
    for a, b in zip(ours[:3], theirs[:3], strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype
    assert ours.info.method == theirs.info.method
    for a, b in zip(ours.info[1:], theirs.info[1:], strict=True):
        np.testing.assert_array_equal(a, b)
    volume = rng.integers(0, 255, (5, 6, 7), dtype=np.uint8)
    starts = np.full((5, 6, 7), np.inf)
    starts[1, 2, 3] = 4.0
    a = mkn.intensity_distance(volume, starts, ndim=3, connectivity=6)
    np.testing.assert_array_equal(a, mk.intensity_distance(volume, starts, ndim=3, connectivity=6))
    a = mkn.chamfer_distance(starts < 9, spacing=(3.0, 1.0, 1.0))
    np.testing.assert_array_equal(a, mk.chamfer_distance(starts < 9, spacing=(3.0, 1.0, 1.0)))
    assert mkn.geodesic_distance(np.ones((0, 1, 4, 4)), np.ones((0, 2, 4, 4), bool)).shape == (
        0,
        2,
        4,
        4,
    )


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        ((np.ones((4, 4)), np.zeros((4, 4), bool)), {}, ValueError, "seeds must hold a seed, got"),
        ((np.ones((4, 4)), np.ones((4, 5), bool)), {}, ValueError, "seeds must be"),
        (
            (np.full((4, 4), np.nan), np.ones((4, 4), bool)),
            {},
            ValueError,
            "image must have no NaN",
        ),
        ((np.ones((4, 4)), np.ones((4, 4), int)), {}, TypeError, "seeds must be one of bool"),
        ((np.ones((4, 4)), np.ones((4, 4), bool)), {"lam": 2}, ValueError, "lam must be"),
        (
            (np.ones((4, 4)), np.ones((4, 4), bool)),
            {"mask": np.zeros((4, 4), bool)},
            ValueError,
            "seeds must hold a seed inside the mask",
        ),
    ],
)
def test_geodesic_errors(arguments, options, error, text):
    with pytest.raises(error, match=f"geodesic_distance: {text}"):
        mkn.geodesic_distance(*arguments, **options)
    with pytest.raises(TypeError, match="unexpected keyword argument 'lam'"):
        mkn.chamfer_distance(arguments[1], lam=1.0)
    with pytest.raises(TypeError, match="unexpected keyword argument 'metric'"):
        mkn.intensity_distance(*arguments, metric="l2")
