"""The `medkern` command, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medkern import cli


def test_info_says_what_runs(capsys):
    assert cli.main(["info"]) == 0
    text = capsys.readouterr().out
    assert "cpu: ready" in text
    assert "active: " in text


def test_info_as_json(capsys):
    assert cli.main(["info", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["backends"]["native"]["cpu"] == "ready"
    assert report["isa"]["active"] in report["isa"]["available"]
    assert report["versions"]["torch"]
    assert "haar_pool" in report["ops"]


def test_demo_draws_a_real_image(tmp_path, capsys):
    pytest.importorskip("nibabel")
    plt = pytest.importorskip("matplotlib.pyplot")
    out = tmp_path / "panel.png"
    assert cli.main(["demo", "--out", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    pixels = plt.imread(out)
    assert pixels.shape[0] > 300
    assert pixels.shape[1] > 900
    assert np.std(pixels[..., :3]) > 0.1


def test_demo_draws_the_distances_from_one_click(tmp_path, capsys):
    pytest.importorskip("nibabel")
    plt = pytest.importorskip("matplotlib.pyplot")
    assert cli.main(["demo", "--out", str(tmp_path / "panel.png")]) == 0
    second = tmp_path / "panel-distances.png"
    assert str(second) in capsys.readouterr().out
    assert plt.imread(second).shape[1] > 900


def test_demo_of_a_picture_of_ones_own(tmp_path):
    plt = pytest.importorskip("matplotlib.pyplot")
    pixels = np.zeros((20, 30))
    pixels[5:15, 8:20] = 1
    plt.imsave(tmp_path / "mine.png", pixels, cmap="gray")
    out = tmp_path / "out.png"
    mine = ["demo", "--image", str(tmp_path / "mine.png"), "--out", str(out)]
    assert cli.main([*mine, "--points", "10,9", "25,2"]) == 0
    assert [f.name for f in tmp_path.glob("out*")] == ["out.png"]


def test_demo_of_nifti_and_dicom_files(tmp_path):
    pytest.importorskip("matplotlib")
    nibabel = pytest.importorskip("nibabel")
    demo = pytest.importorskip("medkern.demo")
    volume = np.arange(4 * 5 * 3, dtype=np.int16).reshape(4, 5, 3)  # [W, H, D]
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "x.nii.gz")
    plane = demo.read_file(tmp_path / "x.nii.gz").numpy()
    middle = volume[:, :, 1].T
    np.testing.assert_allclose(plane, (middle - middle.min()) / np.ptp(middle), atol=1e-6)
    helper = pytest.importorskip("pydicom.data")
    plane = demo.read_file(Path(helper.get_testdata_file("CT_small.dcm", download=False)))
    assert plane.shape == (128, 128)
    assert plane.aminmax() == (0, 1)


def test_demo_of_a_point_outside(tmp_path, capsys):
    pytest.importorskip("nibabel")
    pytest.importorskip("matplotlib")
    out = tmp_path / "x.png"
    assert cli.main(["demo", "--points", "5,4000", "--out", str(out)]) == 1
    assert "points must be inside the image" in capsys.readouterr().err
    assert not out.exists()
    with pytest.raises(SystemExit):
        cli.main(["demo", "--points", "5"])
    assert "argument --points: invalid _xy value: '5'" in capsys.readouterr().err


def test_demo_of_an_unknown_image(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    assert cli.main(["demo", "--image", "cat", "--out", str(tmp_path / "x.png")]) == 1
    assert "got 'cat'" in capsys.readouterr().err


def test_missing_extra_says_what_to_install(monkeypatch, capsys):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "medkern.demo", raising=False)
    assert cli.main(["demo"]) == 1
    assert "pip install 'medkern[bench]'" in capsys.readouterr().err


def test_no_command_prints_help(capsys):
    assert cli.main([]) == 2
    assert "bench" in capsys.readouterr().out


def test_bench_lists_its_cases(capsys):
    pytest.importorskip("rich")
    assert cli.main(["bench", "--list"]) == 0
    assert "haar_dwt/8x64x128x128/float32" in capsys.readouterr().out
