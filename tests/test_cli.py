"""The `medkern` command, as a user types it."""

from __future__ import annotations

import json

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
