"""gemel methods, gemel settings and gemel recipe: what there is to choose from."""


def methods() -> None:
    """List the methods and their recipes."""
    from gemel import methods as room

    for name in room.available():
        method = room.find(name)
        print(f"{name}: {method.title}")
        for recipe, values in method.recipes.items():
            print(f"  {name}/{recipe}: {values.source}")


def settings(method: str) -> None:
    """List every setting of a method: key, range, default, meaning.

    Args:
        method: its name, or a Python file
    """
    from gemel import methods as room
    from gemel.settings.recipes import OPTIMIZERS, VIEWS
    from gemel.settings.schema import describe, schema_of
    from gemel.settings.tree import Settings

    tables = {
        "gemel": describe(Settings),
        f"the method {method}": describe(schema_of(room.find(method, named=True)), "method."),
    }
    for section, schemas in (("views", VIEWS), ("optimizer", OPTIMIZERS)):
        for name, schema in schemas.items():
            tables[f"--{section} {name}"] = describe(schema, f"{section}.")
    for title, rows in tables.items():
        print(f"\n{title}")
        for key, kind, default, meaning in rows:
            print(f"  --{key if '.' in key else key.replace('_', '-'):28} {kind:34} {default:24} {meaning}")


def recipe(recipe: str) -> None:
    """Print a recipe as YAML: gemel recipe barlow_twins > mine.yaml.

    Args:
        recipe: METHOD or METHOD/RECIPE
    """
    from gemel import methods as room
    from gemel.settings.recipes import split_name
    from gemel.settings.tree import render

    variant, found = room.find_recipe(recipe, named=True)
    name = split_name(recipe)[0]
    values = found.model_dump(exclude={"source", "images", "method"})
    values = {"method": {"name": name, "recipe": variant, **found.method}, **values}
    print(f"# {name}/{variant}: {found.source}\n# gemel pretrain IMAGES --config THIS_FILE\n{render(values)}", end="")
