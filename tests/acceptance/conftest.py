"""What the acceptance tests measure is kept in docs/acceptance, where the docs tabulate it."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import medkern

FOLDER = Path(__file__).parents[2] / "docs" / "acceptance"


@pytest.fixture(scope="module")
def record(request: pytest.FixtureRequest) -> Iterator[Callable[..., None]]:
    """`record(section, numbers)` keeps numbers under a section of docs/acceptance/<name>.json, with
    <name> that of the test's module. Sections of tests that did not run stay as they are."""
    path = FOLDER / f"{request.module.__name__.rsplit('.', 1)[-1].removeprefix('test_')}.json"
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    start = time.process_time()

    def keep(section: str, numbers: Any) -> None:
        kept[section] = numbers

    yield keep
    kept["run"] = {
        "versions": {"medkern": medkern.__version__, "torch": torch.__version__},
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "cpu_seconds": round(time.process_time() - start),
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(kept, indent=1) + "\n")
