"""What torchrun starts on each process: several command lines one after the other, what each said and left with kept.

python torchrun_job.py FOLDER: cases.json of names and words; NAME.RANK.json for each.
"""

import contextlib
import io
import json
import os
import sys
from pathlib import Path

from gemel.cli import main


def run_all(folder: Path) -> None:
    for name, words in json.loads((folder / "cases.json").read_text()).items():
        out, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            try:
                code = main(words)
            except SystemExit as leave:
                code = leave.code
        told = {"code": code or 0, "out": out.getvalue(), "errors": errors.getvalue()}
        (folder / f"{name}.{os.environ['RANK']}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    run_all(Path(sys.argv[1]))
