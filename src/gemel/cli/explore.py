"""gemel explore."""


def explore(run: str, *, port: int = 0) -> None:
    """Show the map and the classes of a run in the browser; edits go back into the run.

    Args:
        run: folder of a run
        port: of 127.0.0.1; left out: a free one
    """
    import gemel

    gemel.explore(run, port=port)
