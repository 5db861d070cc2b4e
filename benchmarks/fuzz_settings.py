"""Random settings, from the schema and beyond it, through the three doors: flags, YAML, Python."""

import contextlib
import io
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import yaml
from fuzz_files import Findings, write_files
from hypothesis import HealthCheck, Phase, given
from hypothesis import seed as hypothesis_seed
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gemel import backbones, methods
from gemel.api.pretrain import ready
from gemel.cli.main import main
from gemel.errors import UserError, is_out_of_memory
from gemel.settings.recipes import OPTIMIZERS, VIEWS
from gemel.settings.schema import plain, schema_of
from gemel.settings.tree import Launch, Settings, layer_of_call

SECONDS = 60
"""that one case may take"""

IN_A_PROCESS = 50
"""every so many-th case runs as a process of its own, too"""

SMALL = {"image_size": 32, "workers": 1, "threads": 2, "batch_size": 24}
"""right values above these are made small: they would only take long"""

LARGE = [2e6, 2 * 10**6, 2**31, 2**63, 2**64, 10**12, 10**18, 10**400, -(10**400), 1e308, [10**7, 10**7], [10**18]]
"""numbers, some of them allowed, at which arithmetic or memory may end"""

CHEAP = {
    "epochs": 1, "image_size": 16, "batch_size": 8, "classes": 4, "workers": 0, "threads": 1, "method.hidden": 8,
    "backbone": "convnet", "backbone.widths": [8], "backbone.strides": [2],
}  # fmt: skip
"""below every random setting, so that what is right is quick"""


def known_keys() -> dict[str, Any]:
    """Every setting of gemel, of its methods, views, optimisers and of one network, with its default."""
    schemas = [("", Settings), ("", Launch), ("backbone.", schema_of(backbones.find("convnet")))]
    schemas += [("method.", schema_of(methods.find(name))) for name in methods.available()]
    for section, table in (("views", VIEWS), ("optimizer", OPTIMIZERS)):
        schemas += [(f"{section}.", schema) for schema in table.values()]
    fields = {f"{prefix}{name}": field for prefix, schema in schemas for name, field in schema.model_fields.items()}
    left_out = ("debug", "dry_run", "images", "rescan", "name", "backbone.name")
    return {key: plain(field.default) for key, field in sorted(fields.items()) if key not in left_out}


def scalars() -> st.SearchStrategy[Any]:
    """Numbers of every size, texts of every alphabet, words that mean something."""
    words = ["none", "null", "nan", "-inf", "1e400", "0x10", "1_000", "1:30:00", "", " ", "~", "/", ".", "..", "a\0b",
             "\udcff", "photo", "glyph", "lars", "adamw", "sgd", "twist", "barlow_twins/small", "twist/x/y", "resnet18",
             "folders", "own", "timm", "tensorboard", "16", "bf16", "yes", "x" * 5000, "./x.py", "=", "{}", "[]", "α\n"]  # fmt: skip  # noqa: E501
    return st.one_of(
        st.sampled_from(words),
        st.integers(-3, 40),
        st.integers(),
        st.sampled_from(LARGE),
        st.floats(),
        st.floats(0, 1),
        st.booleans(),
        st.none(),
        st.text(max_size=12),
        st.dates(),
    )


def values() -> st.SearchStrategy[Any]:
    """Scalars, and nests of them."""
    nested = st.recursive(
        scalars(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    )
    return scalars() | nested


def near(default: Any) -> st.SearchStrategy[Any]:
    """Values that are mostly right: the default, or a number like it."""
    if isinstance(default, bool) or not isinstance(default, int | float):
        return st.just(default)
    return st.just(default) | (st.integers(1, 9) if isinstance(default, int) else st.floats(0.01, 0.99))


def cases() -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    """(door, settings by dotted key): one to four of them, mostly known ones."""
    defaults = known_keys()
    known = st.sampled_from(list(defaults))
    strange = st.text(max_size=8) | st.sampled_from(
        ["accumulate", "epohcs", "views.flp", "optimizer", "a.b.c", "method.x"]
    )
    right = known.flatmap(lambda key: st.tuples(st.just(key), near(defaults[key])))
    one = st.one_of(
        right, right, st.tuples(known, values()), st.tuples(known, st.sampled_from(LARGE)), st.tuples(strange, values())
    )
    return st.tuples(
        st.sampled_from(["flags", "YAML", "Python"]),
        st.lists(one, min_size=1, max_size=4).map(lambda rows: tame(dict(rows))),
    )


def tame(settings: dict[str, Any]) -> dict[str, Any]:
    """What would be accepted and take hours becomes small."""
    return {
        key: min(value, SMALL[key]) if key in SMALL and type(value) is int and value < 5000 else value
        for key, value in settings.items()
    }


def campaign(folder: Path, count: int, seed: int, found: Findings) -> dict[str, Counter[int]]:
    """Exit codes by door."""
    images = folder / "whole"
    write_files(images, 24 * 8, seed)
    for path in [path for path in images.rglob("*.*") if int(path.stem) % 8 != 7]:
        path.unlink()  # those whose ending alone is wrong stay: 24 images
    codes: dict[str, Counter[int]] = {}
    place = folder / "here"
    place.mkdir()
    number = 0

    @hypothesis_seed(seed)
    @hypothesis_settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases())
    def run(case: tuple[str, dict[str, Any]]) -> None:
        nonlocal number
        number += 1
        door, settings = case
        config = folder / "settings.yaml"
        code, told = answer(door, settings, images, config)
        codes.setdefault(door, Counter())[code] += 1
        shown = f"{door} {ascii(settings)[:300]}"
        found.check(code in (0, 2), f"left with {code}: {shown}: {told[-300:]}")
        found.check("Traceback" not in told, f"traceback: {shown}")
        found.check(code != 2 or 0 < len(told) < 20_000, f"a message of {len(told)} letters: {shown}")
        left = sorted(str(path) for path in place.rglob("*"))
        found.check(not left, f"written: {left[:3]}: {shown}")
        if number % IN_A_PROCESS == 0 and door != "Python":
            again = subprocess.run(
                [sys.executable, "-m", "gemel", *words_of(door, settings, images, config)],
                capture_output=True, check=False,
            )  # fmt: skip
            codes.setdefault("a process", Counter())[again.returncode] += 1
            found.check(again.returncode == code, f"a process left with {again.returncode}, not {code}: {shown}")
            found.check(b"Traceback" not in again.stderr, f"traceback in a process: {shown}")

    before = Path.cwd()
    os.chdir(place)
    try:
        run()
    finally:
        os.chdir(before)
    return codes


def words_of(door: str, settings: dict[str, Any], images: Path, config: Path) -> list[str]:
    """The command that hands the settings over."""
    if door == "YAML":
        config.write_text(yaml.safe_dump({**CHEAP, **settings}), encoding="utf-8")
        return ["pretrain", str(images), "--config", str(config), "--dry-run"]
    words = [f"--{key}={flag_text(value)}" for key, value in {**CHEAP, **settings}.items()]
    return ["pretrain", str(images), *words, "--dry-run"]


def flag_text(value: Any) -> str:
    """A value as a shell would hand it over: no zero bytes, halves of characters only as bytes."""
    if isinstance(value, list):
        return ",".join(map(flag_text, value))
    text = str(value).replace("\0", "")
    return os.fsdecode(text.encode("utf-8", "surrogateescape" if "\udcff" in text else "replace"))


def answer(door: str, settings: dict[str, Any], images: Path, config: Path) -> tuple[int, str]:
    """Exit code, and what was printed."""
    with captured() as told, deadline():
        try:
            if door == "Python":
                ready(layer_of_call({"images": images, **CHEAP, **settings}), say=lambda line: None)
                return 0, ""
            main(words_of(door, settings, images, config))
        except SystemExit as left:
            return int(left.code or 0), told.getvalue() if left.code else ""
        except UserError as error:
            return 2, str(error)
        except (MemoryError, RuntimeError) as error:
            return (2 if is_out_of_memory(error) else 1), f"{type(error).__name__}: {error}"
        except BaseException as error:  # noqa: BLE001  that there is none is what is tested
            return 1, f"{type(error).__name__}: {error}"
    return 0, ""


@contextlib.contextmanager
def captured() -> Generator[io.StringIO]:
    """Errors as they would stand on a terminal."""
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        yield errors


@contextlib.contextmanager
def deadline() -> Generator[None]:
    """A case that hangs is a fault, not a campaign that hangs."""

    def late(_number: int, _frame: object) -> None:
        raise AssertionError(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
