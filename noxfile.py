"""Checks in fresh environments: `nox -l` lists them, `nox` runs lint, tests and docs."""

from __future__ import annotations

import os
from pathlib import Path

import nox

nox.options.sessions = ["lint", "tests", "docs"]
nox.options.reuse_existing_virtualenvs = True
nox.needs_version = ">=2024.4.15"

TORCH = os.environ.get("TORCH", "torch==2.13.0")
TORCH_INDEX = os.environ.get("TORCH_INDEX", "https://download.pytorch.org/whl/cpu")
OLDEST_TORCH = "torch==2.11.0"


def install(session: nox.Session, extras: str, torch: str = TORCH) -> None:
    """torch first, from the CPU index: the build compiles against what is installed."""
    session.install("--extra-index-url", TORCH_INDEX, torch)
    session.install(f".[{extras}]")


def run_tests(session: nox.Session) -> None:
    session.run("pytest", "tests", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """All tests and docstring examples, against the installed package."""
    install(session, "test")
    run_tests(session)
    session.run("pytest", "--pyargs", "medkern", "--doctest-modules")


@nox.session
def min_versions(session: nox.Session) -> None:
    """The tests with the oldest torch that is supported."""
    install(session, "test", OLDEST_TORCH)
    run_tests(session)


@nox.session
def lint(session: nox.Session) -> None:
    """ruff, ruff format, clang-format and mypy; changes nothing."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    sources = [str(path) for path in sorted(Path("csrc").rglob("*.[ch]pp"))]
    session.run("clang-format", "--dry-run", "--Werror", *sources)
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation, warnings as errors, and every example in it."""
    install(session, "docs")
    session.run("sphinx-build", "-W", "--keep-going", "docs", "docs/_build/html")
    session.run("python", "docs/check_examples.py", "README.md", "docs")


@nox.session
def bench(session: nox.Session) -> None:
    """The quick benchmark; further options after --."""
    install(session, "bench")
    session.run("medkern", "bench", "--quick", *session.posargs)


@nox.session(venv_backend="none")
@nox.parametrize("preset", ["asan", "tsan"])
def sanitizers(session: nox.Session, preset: str) -> None:
    """The C++ tests under the address, undefined-behaviour and thread sanitizers."""
    session.run("cmake", "--preset", preset)
    session.run("cmake", "--build", "--preset", preset)
    session.run("ctest", "--preset", preset)
