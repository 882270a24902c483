"""The bugs that mutants.py plants: the mistakes that such kernels invite, a few of every family."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """A replacement in `file`, and the tests that must notice it.

    library: what is built from the harmed sources: "emulated", "native" or, for Python, None.
    """

    name: str
    file: str
    before: str
    after: str
    library: str | None = "emulated"
    tests: tuple[str, ...] = ("tests/test_emulated.py",)


def cpu(name: str, file: str, before: str, after: str, *tests: str) -> Mutant:
    return Mutant(name, f"csrc/{file}", before, after, "native", tests)


def python(name: str, file: str, before: str, after: str, *tests: str) -> Mutant:
    return Mutant(name, f"medkern/{file}", before, after, None, tests)


HAAR = (
    Mutant(
        "butterfly sign", "csrc/core/haar_modes.hpp", "v[q] - v[q | step]", "v[q | step] - v[q]"
    ),
    Mutant("one IEWA weight", "csrc/core/haar_modes.hpp", "corner == 0 ? k", "corner == 1 ? k"),
    Mutant("the last maximum wins", "csrc/core/haar_modes.hpp", "!(key <= best)", "!(key < best)"),
    Mutant(
        "lifting rounds up", "csrc/core/haar_modes.hpp", "x[q | step] + (d", "x[q | step] - (-d"
    ),
    Mutant("reflect copies the edge", "csrc/core/haar.hpp", "n > 1 ? n - 2 : 0", "n - 1"),
    Mutant(
        "a row past the end", "csrc/core/haar_blocks.hpp", "return 2 * k + bit < p", "return k < p"
    ),
    Mutant(
        "padding forgets axis 1",
        "csrc/core/haar_blocks.hpp",
        "axis < 2; ++axis) {\n      const int64_t i = 2",
        "axis < 1; ++axis) {\n      const int64_t i = 2",
    ),
    Mutant("unguarded tail", "csrc/cuda/grid_stride.cuh", "index < (count)", "index <= (count)"),
    Mutant(
        "the tail left out", "csrc/cuda/grid_stride.cuh", "index < (count)", "index < (count) - 1"
    ),
    Mutant("wrong mask", "csrc/cuda/haar.cuh", "if (!Base::writes_row(p, b, r)) return;", ""),
    Mutant(
        "copied rows not gathered",
        "csrc/cuda/haar.cuh",
        "if (!Base::row_is_copied(p, b, r)) {",
        "{",
    ),
    Mutant("vectors in odd rows", "csrc/cuda/haar_launch.cuh", "p.size[2] % 2 != 0", "false"),
    Mutant(
        "alignment unchecked",
        "csrc/cuda/haar_launch.cuh",
        "return elements % lanes == 0",
        "return elements == elements + 0 * lanes",
    ),
)

DISTANCES = (
    cpu(
        "one neighbour missing",
        "core/grid.hpp",
        "if (axes == 0 || axes > connectivity) continue;",
        "if (axes == 0 || axes > connectivity || (dz == 0 && dy == 1 && dx == -1)) continue;",
        "tests/test_geodesic.py",
    ),
    cpu(
        "spacing swapped",
        "core/grid.hpp",
        "y = dy * spacing[1], x = dx * spacing[2]",
        "y = dy * spacing[2], x = dx * spacing[1]",
        "tests/test_geodesic.py",
    ),
    cpu(
        "no ties in the tree of paths",
        "core/geodesic_parents.hpp",
        "if (!(item_.distance[q] <= item_.distance[p])",
        "if (!(item_.distance[q] < item_.distance[p])",
        "tests/test_geodesic.py",
    ),
    python(
        "the last class dropped",
        "ops/maps.py",
        "range(first, count)",
        "range(first, count - 1)",
        "tests/test_maps.py",
    ),
    cpu(
        "axes weighed by each other's spacing",
        "core/euclidean_kernels.hpp",
        "const double ratio = spacing[axis] / spacing[2];",
        "const double ratio = spacing[1 - axis] / spacing[2];",
        "tests/test_euclidean.py",
    ),
    cpu(
        "the other edge of a tie",
        "core/euclidean_kernels.hpp",
        "(a + b + 1) / 2",
        "(a + b) / 2",
        "tests/test_euclidean.py",
    ),
    cpu(
        "an improved voxel is settled twice and not again",
        "core/geodesic_tiles.hpp",
        "if (entry.distance > tile.distance[entry.voxel]) return;",
        "if (entry.distance >= tile.distance[entry.voxel]) return;",
        "tests/test_geodesic.py",
    ),
    cpu(
        "one neighbour of the barrier missing",
        "core/barrier_rows.hpp",
        "if (axes == 0 || axes > connectivity) continue;",
        "if (axes == 0 || axes > connectivity || (dy == 1 && dx == -1)) continue;",
        "tests/test_barrier.py",
    ),
    cpu(
        "voxels at the roof stay shut",
        "core/barrier_rows.hpp",
        "level <= roof && there < floor",
        "level < roof && there < floor",
        "tests/test_barrier.py",
    ),
    cpu(
        "voxels at the roof stay shut inside",
        "core/barrier_rows.hpp",
        "(level <= roof) & (there < floor)",
        "(level < roof) & (there < floor)",
        "tests/test_barrier.py",
    ),
    cpu(
        "floors sink without a limit",
        "core/barrier_sweep.hpp",
        "      floor = level;\n",
        "",
        "tests/test_barrier.py",
    ),
    cpu(
        "seeds wait to be reached",
        "core/barrier_bottleneck.hpp",
        "seeded_[voxel] || beside_reached(voxel)",
        "beside_reached(voxel)",
        "tests/test_barrier.py",
    ),
)

REGISTRATION = (
    cpu(
        "cubic tap mirrored",
        "core/warp_axis.hpp",
        "tap == 2 ? inner(1 - f)",
        "tap == 2 ? inner(f)",
        "tests/test_warp.py",
    ),
    cpu(
        "reflected slope unturned",
        "core/warp_axis.hpp",
        "slope = back ? -slope : slope;",
        "",
        "tests/test_warp.py",
    ),
    cpu(
        "a border has a slope",
        "core/warp_axis.hpp",
        "slope = (low | high) ? V{} : slope;",
        "",
        "tests/test_warp.py",
    ),
    cpu(
        "halves round up, not to even",
        "core/warp_axis.hpp",
        "(f > C(0.5)) | ((f == C(0.5)) & ((i & 1) == 1))",
        "f >= C(0.5)",
        "tests/test_warp.py",
    ),
    cpu(
        "displacement unscaled",
        "core/warp_taps.hpp",
        "start + load<C>(u + k) * static_cast<C>(p.scale[axis])",
        "start + load<C>(u + k)",
        "tests/test_warp.py",
    ),
    cpu(
        "no identity in the Jacobian",
        "core/field_kernels.hpp",
        "d[Axis] += 1;",
        "",
        "tests/test_field.py",
    ),
    cpu(
        "one-sided differences halved",
        "core/field_kernels.hpp",
        "x == 0 || x == last ? 1 / length",
        "x == 0 ? 1 / length",
        "tests/test_field.py",
    ),
    cpu(
        "a plane leaves the window late",
        "core/local_ncc_kernels.hpp",
        "z - reach_z - 1 : -1",
        "z - reach_z : -1",
        "tests/test_similarity.py",
    ),
    cpu(
        "gradients blind to a mean",
        "core/local_ncc_window.hpp",
        "(to[0] * sum_b + to[1] * sum_a) / -r.n",
        "(to[0] * sum_b) / -r.n",
        "tests/test_similarity.py",
    ),
    cpu(
        "Parzen tails too heavy",
        "core/joint_histogram_kernels.hpp",
        "step *= ratio * ratio;",
        "step *= ratio;",
        "tests/test_similarity.py",
    ),
    cpu(
        "Parzen slopes not normalised",
        "core/joint_histogram_kernels.hpp",
        "(static_cast<double>(j) - mean)",
        "static_cast<double>(j)",
        "tests/test_similarity.py",
    ),
)

FOURIER = (
    cpu(
        "first column counted twice",
        "core/fourier_loss_kernels.hpp",
        "if (first == 0) terms[0] *= C(0.5);",
        "",
        "tests/test_fourier.py",
    ),
    cpu(
        "Nyquist column counted twice",
        "core/fourier_loss_kernels.hpp",
        "if (stop == rest && p.width % 2 == 0) terms[stop - 1] *= C(0.5);",
        "",
        "tests/test_fourier.py",
    ),
    cpu(
        "Nyquist column's gradient doubled",
        "core/fourier_loss_kernels.hpp",
        "if (p.width % 2 == 0 && columns - 1 - at < lanes) counts[columns - 1 - at] = grad;",
        "",
        "tests/test_fourier.py",
    ),
    cpu(
        "phase gradient not turned",
        "core/fourier_bins.hpp",
        "V(-(ur * cross))",
        "V(ur * cross)",
        "tests/test_fourier.py",
    ),
    cpu(
        "modes k and -k swapped",
        "core/fourier_modes_kernels.hpp",
        "d.re_cos[i] + d.im_sin[i]",
        "d.re_cos[i] - d.im_sin[i]",
        "tests/test_augment.py",
    ),
    cpu(
        "half spectrum without its factor 2",
        "core/spectral.hpp",
        "? 2 * scale : scale",
        "? scale : scale",
        "tests/test_spectral.py",
    ),
    cpu(
        "conjugate left out",
        "core/spectral_mix.hpp",
        "sign_b = p.conj_b ? -1 : 1",
        "sign_b = 1",
        "tests/test_spectral.py",
    ),
    cpu(
        "a bin shifted",
        "core/spectral_tables.hpp",
        "set(axis.cos_row(k), y, weight * roots.cos(k, y))",
        "set(axis.cos_row(k), y, weight * roots.cos(k + 1, y))",
        "tests/test_spectral.py",
    ),
    cpu(
        "the middle sample counted twice",
        "core/spectral_tables.hpp",
        "(axis.quartered ? 4 : 2) * w == axis.size",
        "2 * w == axis.size",
        "tests/test_spectral.py",
    ),
    cpu(
        "odd modes fold as even ones",
        "core/spectral_kernels.hpp",
        "sums[1] = (a + b) - (c + d);",
        "sums[1] = (a + b) + (c + d);",
        "tests/test_spectral.py",
    ),
    cpu(
        "packed without a conjugate",
        "core/fourier_pack_kernels.hpp",
        "const X d_re = a_re - b_re, d_im = a_im + b_im;",
        "const X d_re = a_re - b_re, d_im = a_im - b_im;",
        "tests/test_half_spectrum.py",
    ),
    cpu(
        "rows not mirrored",
        "cpu/half_spectrum.cpp",
        "row * n + (k == 0 ? 0 : n - k)",
        "row * n + k",
        "tests/test_half_spectrum.py",
    ),
    cpu(
        "outer columns of no real image",
        "core/fourier_pack_kernels.hpp",
        "last_re = last[0] + last_mirror[0]",
        "last_re = last[0] + last[0]",
        "tests/test_half_spectrum.py",
    ),
    cpu(
        "positive frequencies turn the other way",
        "core/spectral_kernels.hpp",
        "plus[re + l] = c[re + l] + s[im + l];",
        "plus[re + l] = c[re + l] - s[im + l];",
        "tests/test_spectral.py",
    ),
    cpu(
        "GELU's slope without its density",
        "core/common/normal.hpp",
        "tail.ratio - tail.a * density",
        "tail.ratio",
        "tests/test_fourier_epilogue.py",
    ),
    Mutant(
        "no residual in the gradient of x",
        "csrc/cuda/fourier_epilogue.cu",
        "p.residual ? p.grad : EpilogueView{}",
        "EpilogueView{}",
    ),
    python(
        "weights transposed",
        "ops/kept_modes.py",
        "da = _mode_mix(grad, b.transpose(0, 1), ctx.conj_a, same)",
        "da = _mode_mix(grad, b, ctx.conj_a, same)",
        "tests/test_spectral.py",
    ),
)

SEGMENTATION = (
    cpu(
        "ignored voxels keep their mass",
        "core/segmentation_kernels.hpp",
        "t.ignores = valid - invalid < t.padded;",
        "t.ignores = false;",
        "tests/test_segmentation.py",
    ),
    cpu(
        "softmax gradient without its mean",
        "core/segmentation_kernels.hpp",
        "const V back = scale * sum;",
        "const V back{};",
        "tests/test_segmentation.py",
    ),
    cpu(
        "cross-entropy of class 0",
        "core/segmentation_kernels.hpp",
        "chosen = label == mine ?",
        "chosen = k == 0 ?",
        "tests/test_segmentation.py",
    ),
)

CONVLSTM = (
    Mutant(
        "no forget term in dc",
        "csrc/cuda/convlstm.cuh",
        "e.put<C>(p.d_c, d_c * s.f +",
        "e.put<C>(p.d_c, d_c +",
    ),
    cpu(
        "gates i and f swapped",
        "core/convlstm_cell.hpp",
        "s.i = sigmoid<C>(p ? a[0] + p[0] * old : a[0]);",
        "s.i = sigmoid<C>(p ? a[1] + p[0] * old : a[1]);",
        "tests/test_convlstm.py",
    ),
    cpu(
        "output gate peeps at the old cell",
        "core/convlstm_cell.hpp",
        "a[2] + p[2] * s.c",
        "a[2] + p[2] * old",
        "tests/test_convlstm.py",
    ),
    cpu(
        "no forget term in dc on the CPU",
        "core/convlstm_cell.hpp",
        "d_c = d_c * f;",
        "",
        "tests/test_convlstm.py",
    ),
    cpu(
        "output peephole left out on the way back",
        "core/convlstm_cell.hpp",
        "if (p) d_c += d[2] * p[2];",
        "",
        "tests/test_convlstm.py",
    ),
    python(
        "a reversed sequence off by one",
        "ops/convlstm_steps.py",
        "return self.steps - 1 - step if backwards else step",
        "return max(self.steps - 2 - step, 0) if backwards else step",
        "tests/test_convlstm.py",
    ),
)

MUTANTS = (*HAAR, *DISTANCES, *REGISTRATION, *FOURIER, *SEGMENTATION, *CONVLSTM)
