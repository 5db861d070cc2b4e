"""What the user changed by hand, as it applies to the images of a source: other classes, and none."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from gemel.data.listing import printable
from gemel.evaluations.features import Seen
from gemel.runs.edits import Edits, read_edits
from gemel.runs.run import Run


class HandEdits(NamedTuple):
    """Changes to rows of a table of classes."""

    classes: dict[int, int]
    """number of the class of each row that was moved"""
    wrong: frozenset[int]
    """rows of images that belong to no class"""
    names: dict[int, str]
    """of all named classes; numbers beyond the method's classes are groups that only hold moved images"""

    def kind_of(self, row: int) -> str:
        """Return what was done to a row: wrong, moved or nothing."""
        return "wrong" if row in self.wrong else "moved" if row in self.classes else ""


def hand_edits(run: Run, seen: Seen, names: Mapping[int, str]) -> HandEdits:
    """Return the edits of a run's folder for what was seen.

    An image is known by its file, by its path in tables where it has none. A name that no class has yet is given to a
    class without a name where more than half of the class's images were moved to it; else it is a further class.
    """
    edits = read_edits(run)
    assert seen.top is not None
    if not edits.moved and not edits.wrong:
        return HandEdits({}, frozenset(), dict(names))
    names = dict(names) | _names_of_majorities(run, edits, names)
    numbers = _numbers(edits, names, seen.top.class_count)
    names |= {number: target for target, number in numbers.items() if number >= seen.top.class_count}
    of_file = _by_file(run, edits)
    classes, wrong = dict[int, int](), set[int]()
    for row, index in enumerate(seen.indices.tolist()):
        file = seen.source.file(index)
        path = printable(seen.source.path(index)) if file is None else of_file.get(printable(file), "")
        target = edits.moved.get(path)
        if target is not None:
            classes[row] = numbers[target]
        if edits.wrong.get(path):
            wrong.add(row)
    return HandEdits(classes, frozenset(wrong), names)


def _numbers(edits: Edits, names: Mapping[int, str], count: int) -> dict[str, int]:
    """Return the number of each class that images were moved to."""
    lowest = {name: number for number, name in sorted(names.items(), reverse=True)}
    found, further = dict[str, int](), count
    for target in sorted({target for target in edits.moved.values() if target is not None}):
        if target in lowest:
            found[target] = lowest[target]
        elif target.isdecimal() and target == str(int(target)) and int(target) < count and int(target) not in names:
            found[target] = int(target)
        else:
            found[target], further = further, further + 1
    return found


def _names_of_majorities(run: Run, edits: Edits, names: Mapping[int, str]) -> dict[int, str]:
    """Return names for classes without one, most of whose images were moved to a class that has no number yet."""
    table = run.map()
    if table is None:
        return {}
    given, sizes, moved = set(names.values()), Counter[int](), Counter[tuple[int, str]]()
    for path, likely in zip(table["path"].to_pylist(), table["class"].to_pylist(), strict=True):
        if not likely:
            continue
        sizes[likely[0]] += 1
        target = edits.moved.get(path)
        if target is not None and not target.isdecimal() and target not in given:
            moved[likely[0], target] += 1
    return {
        number: target for (number, target), count in moved.items() if number not in names and 2 * count > sizes[number]
    }


def _by_file(run: Run, edits: Edits) -> dict[str, str]:
    """Return the path in the run's tables of each file that was changed."""
    table = run.map()
    if table is None:
        return {}
    pairs = zip(table["file"].to_pylist(), table["path"].to_pylist(), strict=True)
    return {file: path for file, path in pairs if file is not None and (path in edits.moved or path in edits.wrong)}
