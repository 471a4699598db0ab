"""Every test runs under its own id key and on few threads, so that results do not depend on the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before timm: it lets torchvision import beside a CPU build of torch.
import echofm  # noqa: F401

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True, scope="session")
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setenv("ECHOFM_HOME", str(tmp_path_factory.mktemp("echofm-home")))
    # As below, but for matplotlib, whose list of fonts takes long to make.
    patch.setenv("MPLCONFIGDIR", os.environ.get("MPLCONFIGDIR") or str(Path("~/.cache/matplotlib").expanduser()))
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    patch.setenv("PYTHONPATH", str(ROOT))
    # Hypothesis also draws constants out of the modules that are loaded: other imports would make other examples.
    patch.setattr("hypothesis.internal.conjecture.providers.is_local_module_file", lambda path: False, raising=False)
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features kept by one test must not stand in for those of another."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def real_clips() -> Path:
    """Folder of five real clips that may be tried but never shipped; the test skips where it is absent."""
    folder = Path(os.environ.get("ECHOFM_REAL_CLIPS", ROOT.parent / "shared" / "real"))
    if not folder.is_dir():
        pytest.skip("../shared/real is not here")
    return folder
