"""One checker behind three doors: layers, messages, and the same run again from run.yaml."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, PositiveInt

from gemel.errors import UserError
from gemel.settings.recipes import OPTIMIZERS, VIEWS
from gemel.settings.schema import checked, convert, describe, mistakes_in, plain, schema_of
from gemel.settings.tree import (
    SECTIONS,
    Launch,
    Layer,
    Settings,
    common_mistakes,
    in_force,
    layer_of_call,
    layer_of_file,
    layer_of_flags,
    merge,
    nest,
    render,
    written_out,
)
from gemel.settings.view_presets import VIEW_FAMILIES

METHODS = ["barlow_twins", "twist"]


def flags(words: str) -> Layer:
    return layer_of_flags(words.split(), ["images"], Settings, Launch).readable()


def doors(values: dict[str, Any], folder: Path) -> list[Layer]:
    """The same settings by flags, by YAML and by a call."""
    words = " ".join(f"--{key} {value}" for key, value in values.items())
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump(values))
    return [flags(words), layer_of_file(str(file)), layer_of_call(values)]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("epochs", -5, "must be greater than 0, not -5"),
        ("epohcs", 3, "is not an option of gemel; did you mean"),
        ("batch_size", "many", "must be a valid integer, not many"),
        ("classes", 1, "must be greater than or equal to 2, not 1"),
        ("max_rejected", 1.5, "must be less than or equal to 1, not 1.5"),
        ("method", "twits", "is unknown; there are barlow_twins, twist; did you mean twist?"),
        ("optimizer", "lasr", "did you mean lars?"),
        ("optimizer.lrr", 3, "is not an option of any optimizer; did you mean"),
        ("views.flip", 2, "must be less than or equal to 1, not 2"),
        ("precision", "64", "must be '32', 'bf16' or '16', not 64"),
        ("epochs", 10**40, "must be less than or equal to 1000000"),
    ],
)
def test_same_message_at_every_door(key: str, value: Any, message: str, tmp_path: Path) -> None:
    for layer in doors({key: value}, tmp_path):
        found = common_mistakes(layer, METHODS)
        assert len(found) == 1, found
        assert message in found[0]
        assert key.replace("_", "-") in found[0] or key in found[0], "the name is spelt as the user typed it"


def test_all_mistakes_at_once() -> None:
    words = "photos --epochs -1 --batch-sise 3 --optimizer lars --optimizer.lrr 3 --classes 1"
    assert len(common_mistakes(flags(words), METHODS)) == 4


def test_option_of_another_kind() -> None:
    (message,) = common_mistakes(flags("--optimizer adamw --optimizer.trust 0.1"), METHODS)
    assert "--optimizer.trust is not an option of the adamw optimizer" in message


@pytest.mark.parametrize("words", ["photos more", "--epochs", "--epochs --seed 3"])
def test_flags_that_cannot_be_read(words: str) -> None:
    with pytest.raises(UserError):
        flags(words)


@pytest.mark.parametrize("text", ["- a\n- b\n", "3", "a: [", "1: 2", "epochs: 3\n\x00"])
def test_file_that_is_no_mapping(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=r"mine\.yaml"):
        layer_of_file(str(file)).readable()


def test_flags_become_nested() -> None:
    layer = flags("photos --method twist/resnet50 --optimizer sgd --optimizer.lr=0.3 --views.scale 0.2,1 --dry-run")
    assert layer.values == {
        "images": "photos",
        "method": {"name": "twist", "recipe": "resnet50"},
        "optimizer": {"name": "sgd", "lr": "0.3"},
        "views": {"scale": "0.2,1"},
        "dry_run": True,
    }


def test_later_layers_win_and_a_new_name_starts_afresh() -> None:
    recipe = {"epochs": 3, "optimizer": {"name": "lars", "lr": 0.2, "trust": 0.01}}
    assert merge(recipe, {"optimizer": {"lr": 0.4}})["optimizer"] == {"name": "lars", "lr": 0.4, "trust": 0.01}
    assert merge(recipe, {"optimizer": {"name": "adamw"}})["optimizer"] == {"name": "adamw"}
    assert merge(recipe, {"epochs": None})["epochs"] == 3
    assert recipe["optimizer"] == {"name": "lars", "lr": 0.2, "trust": 0.01}, "layers are not changed"


def test_classes_have_one_place() -> None:
    assert nest({"method": "twist", "method.classes": 7}) == {"method": {"name": "twist"}, "classes": 7}


@pytest.mark.parametrize(
    ("words", "twice"),
    [
        ("--epochs 3 --epochs 5", "--epochs is given twice: 3 and 5"),
        ("--batch-size 3 --batch_size 5", "--batch-size is given twice: 3 and 5"),
        ("photos --images others", "--images is given twice: others and photos"),
        ("--optimizer.lr 1 --optimizer.lr=2", "--optimizer.lr is given twice: 1 and 2"),
        ("--method twist --method barlow_twins", "--method.name is given twice: twist and barlow_twins"),
        ("--method twist/small --method.recipe resnet50", "--method.recipe is given twice: small and resnet50"),
        ("--classes 3 --method.classes 4", "--classes is given twice: 3 and 4"),
        ("--overwrite --no-overwrite", "--overwrite is given twice: True and no"),
    ],
)
def test_nothing_given_twice_is_lost(words: str, twice: str) -> None:
    assert layer_of_flags(words.split(), ["images"], Settings, Launch).mistakes == (twice,)


def test_a_key_and_its_other_spelling_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("classes: 3\nmethod: {name: twist, classes: 4}\nviews.flip: 0.1\nviews: {flip: 0.2}\n")
    first, second = layer_of_file(str(file)).mistakes
    assert "classes in" in first
    assert first.endswith("is given twice: 3 and 4")
    assert second.endswith("is given twice: 0.1 and 0.2")


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ("--overwrite photos", {"overwrite": True, "images": "photos"}),
        ("--overwrite no photos", {"overwrite": "no", "images": "photos"}),
        ("--no-overwrite photos", {"overwrite": "no", "images": "photos"}),
        ("--overwrite=no photos", {"overwrite": "no", "images": "photos"}),
        ("--views.gray_first photos", {"views": {"gray_first": True}, "images": "photos"}),
        ("--no-views.gray_first photos", {"views": {"gray_first": "no"}, "images": "photos"}),
        ("--method.teacher --epochs 3", {"method": {"teacher": True}, "epochs": "3"}),
        ("--no-method.teacher photos", {"method": {"teacher": "no"}, "images": "photos"}),
        ("-- --photos", {"images": "--photos"}),
    ],
)
def test_switches_take_no_word_that_is_not_theirs(words: str, values: dict[str, Any]) -> None:
    layer = flags(words)
    assert layer.values == values
    assert common_mistakes(layer, METHODS) == []


def test_a_yes_is_no_number(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("epochs: yes\nlabels: no\noptimizer: {name: sgd, lr: on}\n")
    told = common_mistakes(layer_of_file(str(file)), METHODS)
    assert [one.partition(" ")[0] for one in told] == ["epochs", "labels", "optimizer.lr"]
    assert all("needs a value" in one for one in told)


def test_a_flag_is_repeated_for_each_value_of_a_list() -> None:
    def command(*, rename: Sequence[str] = (), k: tuple[PositiveInt, ...] = (20,)) -> None: ...

    schema = schema_of(command)
    layer = layer_of_flags(["--rename", "3=cat, big", "--k", "1,20", "--rename", "4=dog"], [], schema)
    assert convert(schema, layer.values, "") == {"rename": ["3=cat, big", "4=dog"], "k": (1, 20)}


def test_words_for_sections_are_plain_in_other_commands() -> None:
    def command(*, method: str = "twist") -> None: ...

    layer = layer_of_flags(["a", "b", "--method", "twist/x", "c"], ["runs..."], schema_of(command))
    assert layer.values == {"runs": ["a", "b", "c"], "method": "twist/x"}


TWIST = {"method": {"name": "twist"}}


@pytest.mark.parametrize(
    ("lower", "upper", "merged", "dropped"),
    [
        ({"method.alpha": 1.7}, {"method": "twist"}, {"method": {"name": "twist", "alpha": 1.7}}, []),
        ({"method.alpha": 1.7}, {"method": "mine.py"}, {"method": {"name": "mine.py"}}, ["method.alpha"]),
        ({"method": "mine.py", "method.alpha": 1.7}, {"method": "twist"}, TWIST, ["method.alpha"]),
        ({"method": "mine.py", "classes": 9}, {"method": "twist"}, TWIST, ["classes"]),
        ({"backbone.stem": "small"}, {"backbone": "x"}, TWIST | {"backbone": {"stem": "small", "name": "x"}}, []),
        ({"backbone": "y", "backbone.stem": "small"}, {"backbone": "x"}, TWIST | {"backbone": {"name": "x"}},
         ["backbone.stem"]),
        ({"then.optimizer": "sgd", "then.optimizer.lr": 1}, {"then.optimizer": "lars"},
         TWIST | {"then": {"optimizer": {"name": "lars"}}}, ["then.optimizer.lr"]),
        ({"views.flip": 0}, {"views.name": "byol"}, TWIST | {"views": {"flip": 0, "name": "byol"}}, []),
        ({"views": "dino", "views.flip": 0}, {"views": "byol"}, TWIST | {"views": {"name": "byol"}}, ["views.flip"]),
    ],
)  # fmt: skip
def test_options_belong_to_the_name_in_force(
    lower: dict[str, Any], upper: dict[str, Any], merged: dict[str, Any], dropped: list[str]
) -> None:
    layers, said = in_force(TWIST, [layer_of_call(lower), layer_of_call(upper)])
    assert merge(TWIST, *(layer.values for layer in layers)) == merged
    assert [keys for keys, _ in said] == dropped


def test_of_a_papers_views_what_is_given_beside_the_name_wins() -> None:
    views = written_out({"views": {"name": "simclr", "flip": 0.1}, "then": {"views": {"name": "byol"}}})
    assert views["views"] == {**VIEW_FAMILIES["simclr"].model_dump(), "flip": 0.1}
    assert views["then"]["views"] == VIEW_FAMILIES["byol"].model_dump()


def test_a_call_is_checked_as_flags_are() -> None:
    @checked
    def command(run: str, *, top: PositiveInt = 3, naming: Literal["one", "two"] = "one") -> tuple[str, int, str]:
        return run, top, naming

    assert command(run="a", top="4") == ("a", 4, "one")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError) as caught:
        command("a", tpo=3, top=0, naming="three")  # pyright: ignore[reportCallIssue, reportArgumentType]
    assert caught.value.mistakes == (
        "tpo is not an option of command; did you mean top?",
        "top must be greater than 0, not 0",
        "naming must be 'one' or 'two', not three",
    )


@pytest.mark.parametrize("given", ["1", "1,2,3", [1], [1, 2, 3]])
def test_how_many_values_a_pair_takes_is_told(given: object) -> None:
    @checked
    def command(*, pair: tuple[PositiveInt, PositiveInt] = (1, 2)) -> tuple[int, int]:
        return pair

    assert command(pair="3,4") == (3, 4)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match=r"^pair takes 2 values \(integer > 0, integer > 0\), not "):
        command(pair=given)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="pair must be greater than 0, not 0"):
        command(pair="3,0")  # pyright: ignore[reportArgumentType]


def test_numbers_are_read_leniently(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("optimizer: {name: adamw, lr: 1e-3}\nepochs: '4'\n")  # YAML hands 1e-3 over as text
    layer = layer_of_file(str(file))
    assert common_mistakes(layer, METHODS) == []
    assert convert(Settings, layer.values, "")["optimizer"]["lr"] == 0.001


@pytest.mark.parametrize("schema", [Settings, *VIEWS.values(), *OPTIMIZERS.values()])
def test_every_setting_is_explained(schema: Any) -> None:
    for key, kind, _, meaning in describe(schema):
        assert kind, key
        assert meaning, f"{key} has no help"


@pytest.mark.parametrize("name", [*VIEWS, *OPTIMIZERS])
def test_save_and_read_again(name: str) -> None:
    schema: Any = {**VIEWS, **OPTIMIZERS}[name]
    assert schema(**yaml.safe_load(render(plain(schema())))) == schema()


class Sample:
    """A class whose constructor is the schema.

    Args:
        width: how wide; told
            over two lines
        rate: how fast
    """

    def __init__(self, backbone: object, *, width: PositiveInt = 3, rate: Annotated[float, Field(gt=0)]) -> None: ...


def test_constructor_is_the_schema() -> None:
    schema = schema_of(Sample)
    assert [row[0] for row in describe(schema)] == ["width", "rate"]
    assert describe(schema)[0] == ("width", "integer > 0", "3", "how wide; told over two lines")
    assert convert(schema, {"rate": "2"}, "sample") == {"width": 3, "rate": 2.0}
    with pytest.raises(UserError, match=r"sample\.width must be greater than 0, not -1"):
        convert(schema, {"rate": 2, "width": -1}, "sample")
    found = mistakes_in({"widht": 3}, schema.model_fields, lambda key: f"--{key}", section="s", title="sample")
    assert found == ["--s.widht is not an option of sample; did you mean --s.width?"]


@given(
    st.dictionaries(
        st.sampled_from(
            [*Settings.model_fields, *SECTIONS, "views.flip", "optimizer.lr", "optimizer.name", "then.views.name", "x",
             "views.x", "method.name", "then.x.y"]
        ),
        st.one_of(
            st.integers(), st.floats(), st.text(), st.booleans(), st.lists(st.integers(), max_size=3), st.none(),
            st.sampled_from(["byol", "photo", "sgd", "twist/small"]),
            st.dictionaries(
                st.one_of(st.sampled_from(["name", "lr", "views", "optimizer"]), st.integers()),
                st.one_of(st.text(), st.none(), st.dictionaries(st.text(), st.integers(), max_size=2)), max_size=3,
            ),
        ),
    )
)  # fmt: skip
def test_anything_is_checked_without_a_crash(values: dict[str, Any]) -> None:
    layer = layer_of_call(values)
    for mistake in (*layer.mistakes, *common_mistakes(layer, METHODS)):
        assert isinstance(mistake, str)
    layers, _ = in_force(TWIST, [layer, layer_of_call({"optimizer": "sgd", "views": "dino", "then.views": "photo"})])
    written_out(merge(TWIST, *(one.values for one in layers)))
