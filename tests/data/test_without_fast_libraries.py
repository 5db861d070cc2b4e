"""Without numba and simplejpeg: the same pixels; with numba: compiled once for all processes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import write_photos

DRAW_ALL = """
import sys
for name in {missing}:
    sys.modules[name] = None  # an import of it fails, as where it is not installed
import numpy as np
import torch
import gemel
from gemel.data import jpeg
from gemel.data.compiled import is_compiled
from gemel.data.normalise import Normalise

assert is_compiled() != ("numba" in {missing})
assert (jpeg._decoder is None) == ("simplejpeg" in {missing})
files = sys.argv[2:]
views = {{}}
for name, size in (("byol", 64), ("swav", 96), ("byol", 32), ("glyph", 16)):
    drawn = gemel.views(files, {{"name": name, "size": size}}, seed=1)
    views |= {{f"{{name}} {{size}} {{number}}": view.numpy() for number, view in enumerate(drawn)}}
views["floats"] = Normalise((0.5, 0.4, 0.3), (0.2, 0.3, 0.1))(drawn[0]).numpy()
np.savez(sys.argv[1], **views)
"""

COMPILE = """
import json
import numpy as np
from gemel.data import normalise, resize

resize.resize(np.zeros((9, 12), np.uint8), 3, True, np.zeros((5, 15), np.uint8))
normalise.Normalise((0.5,) * 3, (0.5,) * 3)(normalise.torch.zeros((1, 3, 2, 2), dtype=normalise.torch.uint8))
stats = [function.stats for function in (resize.resize, normalise._look_up)]
print(json.dumps([[sum(each.cache_misses.values()), sum(each.cache_hits.values())] for each in stats]))
"""


def python(code: str, *words: object, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def test_views_have_the_same_pixels_without_the_fast_libraries(tmp_path: Path) -> None:
    files = write_photos(tmp_path / "photos", 12)
    found: list[Any] = []
    for number, missing in enumerate(([], ["numba", "simplejpeg"])):
        python(DRAW_ALL.format(missing=missing), tmp_path / f"{number}.npz", *files)
        found.append(np.load(tmp_path / f"{number}.npz"))
    fast, slow = found
    assert set(fast) == set(slow)
    for name in fast:
        difference = np.abs(fast[name].astype(float) - slow[name])
        if name.startswith(("glyph", "floats")):
            assert not difference.any(), name
        # a value that is off by one at 128 comes out far off after solarising
        assert (difference <= 2).mean() > 0.999, name
        assert difference.mean() < 0.1, name


def test_a_second_process_does_not_compile_again(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    first, second = (json.loads(python(COMPILE, NUMBA_CACHE_DIR=str(tmp_path))) for _ in range(2))
    assert all(misses > 0 for misses, _ in first), first
    assert all(misses == 0 < hits for misses, hits in second), second
