"""The end of the closing pass: the map of a run's images, and the explorer as one file."""

from gemel.data.picture_sheets import COLUMNS, all_sheets, side_of
from gemel.evaluations.base import Progress
from gemel.evaluations.features import Seen
from gemel.evaluations.image_map.image_map import map_table, write_map
from gemel.reports.explorer import BUDGET, IN_A_FILE, PictureFacts, write_explorer
from gemel.runs.run import Run


def write_map_and_page(run: Run, seen: Seen, tell: Progress | None = None) -> None:
    """Write evaluations/map.parquet and explorer.html; `tell` is told how far the pictures are."""
    table = map_table(seen)
    write_map(run, table)
    indices = table["index"].to_numpy()[:IN_A_FILE]
    made = all_sheets(seen.source, indices, side_of(seen.source, len(indices)), BUDGET, tell)
    write_explorer(run, table, PictureFacts(made.side, made.kind, COLUMNS), made.sheets)
