"""From a study's name and the user's settings to a list of runs: errors are reported together, nothing is written."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from gemel.errors import UserError
from gemel.reports.run_summary import flat
from gemel.runs.files import read_json, write_text
from gemel.runs.run import RUN_FILE
from gemel.settings.recipes import Description
from gemel.settings.tree import Launch, Layer, layer_of_call, merge
from gemel.studies.base import Study, Variation


class StudyLaunch(Description):
    """Options of a study beside the settings of its runs."""

    seeds: Annotated[int, Field(ge=1, le=1000)] | None = None
    """runs of each variation, seeds 0, 1, 2, ...; else the study's own number"""
    full: bool = False
    """the papers' size instead of minutes"""
    out: str | None = None
    """folder of the runs, the tables and the page; else runs/studies/NAME"""
    tables: str | None = None
    """folder for NAME.md, NAME.csv and NAME.svg; else that of --out"""
    dry_run: bool = False
    """check every setting, print the runs, write nothing"""


class Planned(NamedTuple):
    """One run of a study."""

    variation: Variation
    seed: int
    folder: Path
    layers: tuple[Layer, ...]
    """of settings: of all runs, of the variation, of the user"""

    @property
    def asked(self) -> dict[str, str]:
        """Every setting that the study or the user names, as text by dotted name."""
        return dict(flat(merge(*(layer.values for layer in self.layers))))


def plan(study: Study, launch: StudyLaunch, out: Path, overrides: Layer) -> list[Planned]:
    """Return the runs, all variations of the first seed first: an interrupted study covers the whole axis.

    Raises:
        UserError: the user sets what the study varies or chooses itself.
    """
    scale = study.full if launch.full else study.small
    _check_overrides(overrides, scale.variations)
    planned: list[Planned] = []
    for seed in range(launch.seeds or study.seeds):
        for variation in scale.variations:
            settings, varied = layer_of_call(scale.settings), layer_of_call(variation.settings)
            folder = out / variation.name / f"seed-{seed}"
            planned.append(Planned(variation, seed, folder, (settings, varied, overrides)))
    return planned


def check_settings(planned: Sequence[Planned], study: Study) -> None:
    """Check the settings of every variation, and that the images can be opened and have labels to evaluate by.

    Raises:
        UserError: with every error of any run.
    """
    if study.compute is not None:
        return
    from gemel.request.validate import asked_for

    found: dict[str, list[str]] = {}
    variations = {one.variation.name: one.layers for one in planned}
    for name, layers in variations.items():
        try:
            source = asked_for(layers).source
            if study.evaluations and source.labels is None:
                raise UserError(f"{source.name} has no labels to judge by; give --labels folders or FILE.csv")
        except UserError as error:
            for mistake in error.mistakes:
                found.setdefault(mistake, []).append(name)
    if found:
        raise UserError(
            *(
                mistake if len(names) == len(variations) else f"{mistake} (in {', '.join(names)})"
                for mistake, names in found.items()
            )
        )


def check_against_earlier(planned: Sequence[Planned], out: Path) -> None:
    """Refuse to mix runs of different settings in one table.

    Raises:
        UserError: the folder holds runs that were asked for with other settings.
    """
    earlier = _earlier(out)
    mistakes: list[str] = []
    for one in planned:
        before = earlier.get(one.variation.name)
        if before is None or before == one.asked or not (one.folder / RUN_FILE).is_file():
            continue
        keys = [key for key in dict.fromkeys([*before, *one.asked]) if before.get(key) != one.asked.get(key)]
        told = ", ".join(f"{key} {before.get(key, 'left open')}, now {one.asked.get(key, 'left open')}" for key in keys)
        mistakes.append(f"{one.folder} is a run of other settings ({told}); name another folder with --out")
    if mistakes:
        raise UserError(*mistakes)


def remember(planned: Sequence[Planned], out: Path) -> None:
    """Write each variation's settings to plan.json."""
    asked = _earlier(out) | {one.variation.name: one.asked for one in planned}
    write_text(out / "plan.json", json.dumps(asked, indent=1))


def _earlier(out: Path) -> dict[str, dict[str, str]]:
    file = out / "plan.json"
    return read_json(file) if file.is_file() else {}


def _check_overrides(overrides: Layer, variations: Sequence[Variation]) -> None:
    given = dict(flat(overrides.values))
    mistakes = [
        f"{overrides.spell(key)} belongs to one run; a study takes {', '.join(_words())}"
        for key in given
        if key in Launch.model_fields
    ]
    if "seed" in given:
        mistakes.append(f"{overrides.spell('seed')} is one run's; {overrides.spell('seeds')} says how many")
    varied: Mapping[str, Any] = {key: 0 for one in variations for key, _ in flat(layer_of_call(one.settings).values)}
    mistakes += [
        f"{overrides.spell(key)} is what the study varies ({', '.join(one.name for one in variations)}); leave it out"
        for key in given
        if key in varied
    ]
    if mistakes:
        raise UserError(*mistakes)


def _words() -> list[str]:
    return [f"--{name.replace('_', '-')}" for name in StudyLaunch.model_fields]
