"""The loop, its checkpoints, the command, folders of images, and two processes."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from medkern import cli, recipes
from medkern.train import Options, Training, Watcher, checkpoint
from medkern.train.cli import load_model, run
from medkern.train.folder import FolderData
from medkern.train.loop import check_sizes
from medkern.train.recipe import Step
from medkern.train.stopping import Stopped, stop_requests

SCRIPT = Path(__file__).with_name("toy_recipe.py")
_spec = importlib.util.spec_from_file_location("toy_recipe", SCRIPT)
toy = importlib.util.module_from_spec(_spec)
sys.modules["toy_recipe"] = toy
_spec.loader.exec_module(toy)
Toy, PlainToy = toy.Toy, toy.PlainToy


def state_of(training: Training) -> dict[str, Any]:
    """Everything that a resumed run must share with an uninterrupted one."""
    history = [(r.epoch, r.losses, r.metrics) for r in training.progress.history]
    return {
        "model": {n: t.clone() for n, t in training.model.state_dict().items()},
        "optimizer": training.optimizer.state_dict(),
        "scheduler": training.scheduler.state_dict(),
        "history": history,
        "best": training.progress.best.epoch,
    }


def assert_same(a: Any, b: Any) -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for name in a:
            assert_same(a[name], b[name])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


class StopAt(Watcher):
    """Sends this process a signal after so many steps."""

    def __init__(self, step: int) -> None:
        self.left = step

    def step(self, losses: dict[str, float]) -> None:
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)


# The loop.


def test_it_learns():
    training = Training(Toy(Options(epochs=40)))
    progress = training.run()
    assert [record.epoch for record in progress.history] == list(range(1, 41))
    first, last = progress.history[0], progress.history[-1]
    assert last.losses["square"] < 0.1 * first.losses["square"]
    assert progress.best.metrics["error"] == min(r.metrics["error"] for r in progress.history)
    assert last.ms_per_step > 0
    assert training.scheduler.last_epoch == 40 * 4


def test_the_same_seed_gives_the_same_bits():
    def weights(seed: int) -> dict[str, Any]:
        training = Training(Toy(Options(epochs=2, seed=seed)))
        training.run()
        return state_of(training)

    assert_same(weights(1), weights(1))
    assert not torch.equal(weights(1)["model"]["0.weight"], weights(2)["model"]["0.weight"])


@pytest.mark.parametrize("step", [1, 4, 6, 8])
def test_a_resumed_run_is_the_uninterrupted_one(step, tmp_path):
    """In the middle of an epoch (1, 6) and at its end (4, 8): same weights, moments, history."""
    whole = Training(Toy(Options(epochs=3)))
    whole.run()
    stopped = Training(Toy(Options(epochs=3)), tmp_path)
    with pytest.raises(Stopped) as caught:
        stopped.run(StopAt(step))
    assert caught.value.exit_code == 130
    torch.manual_seed(123)  # whatever the new process drew before
    resumed = Training(Toy(Options(epochs=3)), tmp_path)
    resumed.load()
    done = resumed.progress
    assert 4 * done.epoch + done.step == step
    resumed.run()
    assert_same(state_of(resumed), state_of(whole))


def test_a_finished_run_goes_on_with_more_epochs(tmp_path):
    Training(Toy(Options(epochs=1)), tmp_path).run()
    longer = Training(Toy(Options(epochs=2)), tmp_path)
    longer.load()
    assert len(longer.run().history) == 2


@pytest.mark.parametrize(
    ("changed", "words"), [({"seed": 5}, "seed must be that of the checkpoint, 0, got 5")]
)
def test_resuming_with_other_settings_is_refused(changed, words, tmp_path):
    Training(Toy(Options(epochs=1)), tmp_path).run()
    other = Training(Toy(Options(epochs=1, **changed)), tmp_path)
    with pytest.raises(ValueError, match=words):
        other.load()


def test_augmentation_depends_on_seed_epoch_and_item_alone():
    training = Training(Toy())
    batches = list(training.batches(1, 0))
    again = list(training.batches(1, 2))
    assert_same(batches[2:], again)
    workers = list(Training(Toy(Options(workers=1))).batches(1, 2))
    assert_same(workers, again)
    assert not torch.equal(next(training.batches(0, 0))["x"], batches[0]["x"])


def test_steps_know_where_they_are():
    seen = []

    class Curious(PlainToy):
        def loss(self, model, batch, step: Step):
            seen.append((step.index, step.epoch, step.progress, torch.rand(1).item()))
            return super().loss(model, batch, step)

    Training(Curious(Options(epochs=2))).run()
    assert [s[0] for s in seen] == list(range(8))
    assert [s[1] for s in seen] == [0] * 4 + [1] * 4
    assert [s[2] for s in seen] == [i / 8 for i in range(8)]
    assert len({s[3] for s in seen}) == 8


def test_plateau_schedulers_see_the_metric():
    class Plateau(PlainToy):
        def scheduler(self, optimizer, steps):  # an error that falls is no improvement to "max"
            return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", 0.5, patience=0)

    training = Training(Plateau(Options(epochs=3)))
    training.run()
    assert training.scheduler.last_epoch == 3
    assert training.optimizer.param_groups[0]["lr"] == Toy.learning_rate / 4


def test_a_loss_that_is_not_finite_ends_the_run():
    class Bad(PlainToy):
        def loss(self, model, batch, step):
            found = super().loss(model, batch, step)
            return {"loss": found["loss"] * (float("nan") if step.index == 5 else 1)}

    with pytest.raises(FloatingPointError, match=r"loss must stay finite, got nan in step 5 \(ep"):
        Training(Bad()).run()


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ((10, 16, 1), "batch size must be at most the number of training items, 10, got 16"),
        ((10, 5, 2), "batch size must be a multiple of the 2 processes, got 5"),
    ],
)
def test_sizes_that_do_not_fit(sizes, words):
    with pytest.raises(ValueError, match=words):
        check_sizes(*sizes)


# Checkpoints.


def test_a_crash_while_writing_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "new" / "checkpoint.pt"
    checkpoint.save({"medkern": "0", "x": torch.ones(2)}, path)

    def crash(state: Any, file: Any) -> None:
        file.write(b"half of it")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", crash)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save({"medkern": "0", "x": torch.zeros(2)}, path)
    assert checkpoint.load(path)["x"].tolist() == [1, 1]
    assert [p.name for p in path.parent.iterdir()] == ["checkpoint.pt"]


def test_a_file_that_is_no_checkpoint(tmp_path):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="checkpoint must be a whole file of medkern train"):
        checkpoint.load(path)
    torch.save({"x": 1}, path)
    with pytest.raises(ValueError, match="checkpoint must be one of medkern train"):
        checkpoint.load(path)


# Stopping.


@pytest.fixture
def interruptible():
    """SIGINT as in the foreground: a shell has processes in its background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_second_signal_is_not_held_back(interruptible):
    with stop_requests() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def script(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(number, tmp_path):
    out = str(tmp_path / "run")
    done = script("toy", "--out", out, TOY_SIGNAL="5", TOY_NUMBER=str(int(number)))
    assert done.returncode == 128 + number
    again = f"medkern train toy --out {out} --resume"
    assert f"stopped ({number.name}) and saved; go on with: {again}" in done.stdout
    assert "Traceback" not in done.stderr
    kept = checkpoint.load(Path(out) / "checkpoint.pt")["progress"]
    assert (kept["epoch"], kept["step"]) == (1, 2)


# The command.


def test_what_a_run_leaves(tmp_path, capsys):
    out = tmp_path / "run"
    assert run(Toy, ["--quick", "--out", str(out), "--seed", "3", "--noise", "0.02"]) == 0
    assert {p.name for p in out.iterdir()} == {
        "metrics.json",
        "curves.png",
        "panel.png",
        "checkpoint.pt",
    }
    results = json.loads((out / "metrics.json").read_text())
    assert results["settings"]["seed"] == 3
    assert results["settings"]["own"] == {"noise": 0.02}
    assert len(results["history"]) == Toy.quick_epochs
    assert results["passed"]
    assert results["best"]["error"] <= Toy.threshold
    assert results["ms_per_step"] > 0
    assert plt.imread(out / "curves.png").std() > 0.01
    text = capsys.readouterr().out
    assert "toy: a line through points (noise 0.02)" in text
    assert "at most 0.5 expected: passed" in text
    assert f"wrote {out}/metrics.json" in text


def test_every_option(tmp_path, capsys):
    out = ["--out", str(tmp_path / "run"), "--no-progress"]
    common = ["--device", "cpu", "--batch-size", "8", "--workers", "1", "--backend", "reference"]
    common += ["--learning-rate", "0.02"]
    assert run(PlainToy, [*out, *common, "--epochs", "2"]) == 0
    results = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert results["settings"] | {"own": {}} == {
        "recipe": "plain",
        "seed": 0,
        "epochs": 2,
        "batch_size": 8,
        "learning_rate": 0.02,
        "quick": False,
        "data": None,
        "backend": "reference",
        "device": "cpu",
        "own": {},
    }
    assert run(PlainToy, [*out, *common, "--epochs", "2"]) == 1
    assert "out must be a folder without a run" in capsys.readouterr().err
    assert run(PlainToy, [*out, *common, "--epochs", "3", "--resume"]) == 0
    assert "after 2 epochs and 0 steps" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run(PlainToy, ["--epochs", "0"])
    assert "must be at least 1, got 0" in capsys.readouterr().err


def test_quick_fails_below_the_threshold(tmp_path, capsys):
    assert run(Toy, ["--quick", "--epochs", "1", "--out", str(tmp_path)]) == 1
    assert "missed" in capsys.readouterr().out


def test_the_reference_backend_is_forced_while_training(tmp_path):
    seen = set()

    class Looking(PlainToy):
        def loss(self, model, batch, step):
            import medkern

            seen.add(medkern.explain("haar_pool", torch.ones(1, 1, 2, 2)).runs)
            return super().loss(model, batch, step)

    run(Looking, ["--epochs", "1", "--out", str(tmp_path / "a"), "--backend", "reference"])
    assert seen == {"reference"}


def test_help_lists_the_recipes(capsys):
    assert cli.main(["train", "--help"]) == 0
    text = capsys.readouterr().out
    for name in recipes.names():
        assert recipes.load(name).summary in text
    assert cli.main(["train"]) == 2
    assert cli.main(["train", "cooking"]) == 2
    assert "name must be one of" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        cli.main(["train", "points", "--help"])
    assert caught.value.code == 0
    assert "--map" in capsys.readouterr().out


def test_the_model_of_a_run(tmp_path, monkeypatch):
    run(Toy, ["--epochs", "2", "--out", str(tmp_path / "run")])
    monkeypatch.setattr(recipes, "load", lambda name: Toy)
    model = load_model(tmp_path / "run")
    best = checkpoint.load(tmp_path / "run" / "checkpoint.pt")["progress"]["best"]["model"]
    assert_same(dict(model.state_dict()), dict(best))
    assert not model.training


# Two processes.


def test_two_processes_do_what_one_does(tmp_path):
    alone, two = tmp_path / "alone", tmp_path / "two"
    assert script("plain", "--epochs", "3", "--out", str(alone)).returncode == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*torchrun, str(SCRIPT), "plain", "--epochs", "3", "--out", str(two)],
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote") == 1
    results = [json.loads((p / "metrics.json").read_text()) for p in (alone, two)]
    assert [r["processes"] for r in results] == [1, 2]
    for one, other in zip(*(r["history"] for r in results), strict=True):
        assert other["losses"] == pytest.approx(one["losses"], rel=1e-5)
        assert other["metrics"] == pytest.approx(one["metrics"], rel=1e-5)
    weights = [checkpoint.load(p / "checkpoint.pt")["model"] for p in (alone, two)]
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], rtol=1e-5, atol=1e-6)


# Folders of images.


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, pixels)
    elif path.suffix == ".png":
        pytest.importorskip("PIL.Image").fromarray(pixels).save(path)
    else:
        nibabel = pytest.importorskip("nibabel")
        nibabel.save(nibabel.Nifti1Image(pixels.transpose(), np.eye(4)), path)


def fill(root: Path, suffix: str, count: int = 5, shape: tuple[int, ...] = (8, 16)) -> None:
    random = np.random.default_rng(0)
    for i in range(count):
        write(root / "images" / f"case{i}{suffix}", random.integers(0, 256, shape, np.uint8))
        write(root / "labels" / f"case{i}{suffix}", random.integers(0, 3, shape, np.uint8))


@pytest.mark.parametrize("suffix", [".png", ".npy", ".nii", ".nii.gz"])
def test_folders_of_every_format(suffix, tmp_path):
    fill(tmp_path, suffix)
    train = FolderData(tmp_path, classes=3)
    assert (len(train), len(FolderData(tmp_path, "validation", classes=3))) == (4, 1)
    item = train[1]
    assert item["image"].shape == (1, 8, 16)
    assert item["image"].dtype == torch.float32
    assert item["label"].dtype == torch.int64
    assert 0 <= item["image"].min() <= item["image"].max() <= 1


def test_a_folder_holds_what_was_written(tmp_path):
    pixels = np.arange(128, dtype=np.int16).reshape(8, 16) * 10 - 100
    labels = (pixels > 0).astype(np.uint8)
    for i in range(2):
        write(tmp_path / "images" / f"{i}.npy", pixels)
        write(tmp_path / "labels" / f"{i}.png", labels)  # formats may differ
    item = FolderData(tmp_path, classes=2)[0]
    np.testing.assert_allclose(item["image"][0], (pixels + 100) / 1270, atol=1e-6)
    assert (item["label"].numpy() == labels).all()


def test_volumes_are_slices_in_two_dimensions(tmp_path):
    fill(tmp_path, ".nii", count=2, shape=(3, 8, 16))
    flat = FolderData(tmp_path, classes=3)
    assert len(flat) == 6
    assert flat[4]["image"].shape == (1, 8, 16)
    deep = FolderData(tmp_path, classes=3, ndim=3)
    assert deep[1]["image"].shape == (1, 3, 8, 16)
    assert torch.equal(deep[1]["label"][1], flat[4]["label"])


def test_colour_pictures_and_a_validation_folder(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (8, 16, 3), np.uint8)
    for root in (tmp_path, tmp_path / "validation"):
        write(root / "images" / "a.png", colours)
        write(root / "labels" / "a.png", colours[..., 0] // 128)
    rgb = FolderData(tmp_path, classes=2, channels=3)[0]["image"]
    np.testing.assert_allclose(rgb, colours.transpose(2, 0, 1) / 255, atol=1e-6)
    grey = FolderData(tmp_path, "validation", classes=2)[0]["image"]
    np.testing.assert_allclose(grey[0], colours.mean(-1) / 255, atol=1e-6)


def damage_mask(root: Path) -> None:
    (root / "labels" / "case2.npy").unlink()


def damage_shape(root: Path) -> None:
    write(root / "labels" / "case1.npy", np.zeros((8, 8), np.uint8))


def damage_size(root: Path) -> None:
    write(root / "images" / "case3.npy", np.zeros((4, 4), np.uint8))
    write(root / "labels" / "case3.npy", np.zeros((4, 4), np.uint8))


def damage_label(root: Path) -> None:
    write(root / "labels" / "case0.npy", np.full((8, 16), 7, np.uint8))


def damage_values(root: Path) -> None:
    write(root / "images" / "case0.npy", np.full((8, 16), np.nan, np.float32))


def damage_channels(root: Path) -> None:
    write(root / "images" / "case0.npy", np.zeros((2, 2, 8, 16), np.float32))


def damage_file(root: Path) -> None:
    (root / "images" / "case0.npy").write_bytes(b"no array")


def damage_all(root: Path) -> None:
    for path in (root / "images").iterdir():
        path.unlink()


def damage_folder(root: Path) -> None:
    (root / "images").rename(root / "pictures")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_mask, r"data must have a file for every image in labels, got none for case2\.npy"),
        (damage_shape, r"case1\.npy must have the shape of its image, \(8, 16\), got \(8, 8\)"),
        (damage_size, r"case3\.npy must have one size, \(8, 16\) as case0\.npy, got \(4, 4\)"),
        (damage_label, r"case0\.npy must hold labels from 0 to 2, got 7 to 7; number"),
        (damage_values, r"case0\.npy must be finite, got NaN or inf"),
        (
            damage_channels,
            r"must hold 1 channel\(s\) and 2 spatial axes, got shape \(2, 2, 8, 16\)",
        ),
        (damage_file, r"case0\.npy must be a file that can be read"),
        (damage_all, r"data must hold images for train, got none in .*images"),
        (damage_folder, r"data must be a folder with a folder `images` in it"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(damage, words, tmp_path):
    fill(tmp_path, ".npy")
    damage(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        FolderData(tmp_path, classes=3)
