"""The closing pass over a run's images: classes, rejected files, scores, faults of images, pictures for the report."""

import numpy as np

from gemel.data.listing import printable
from gemel.data.sources import Source
from gemel.distributed import rank, wait_for_all
from gemel.evaluations.base import Evaluation, Progress, Subject
from gemel.evaluations.bottleneck import bottleneck
from gemel.evaluations.data_check import check_run
from gemel.evaluations.familiar import write_familiar
from gemel.evaluations.features import Seen, see
from gemel.evaluations.gallery import gallery
from gemel.evaluations.image_map.explorer_page import write_map_and_page
from gemel.evaluations.networks import open_subject
from gemel.evaluations.protocols.cluster import Cluster
from gemel.evaluations.protocols.knn import Knn
from gemel.evaluations.run_protocol import judge
from gemel.evaluations.tables import class_table
from gemel.runs.run import BOTTLENECK, GALLERY, Run
from gemel.settings.recipes import VIEWS


def close(run: Run, source: Source, tell: Progress | None = None) -> Seen:
    """Open every image of the run once, and write what follows from it; an interrupted pass is continued.

    Memory, for ImageNet (N = 1.28 million) and C = 32,768 classes of a ResNet-50 (width 2048):

    | what | bytes | |
    |---|---|---|
    | features, 4·N·width | 10.5 GB | on the disk, mapped; read in chunks |
    | eight most likely classes, 64·N | 82 MB | on the disk, mapped |
    | paths and labels, table of classes | 0.9 GB | 250 bytes a path in three lists, 8·N |
    | classes x labels (1,000), 4 arrays of 8 bytes | 1.0 GB | for accuracy: matching needs the table dense |
    | check of the images, sample of 50,000 | 1.1 GB | features, their normalised copy, thumbnails, distances |
    | k-means and k-NN, sample of 50,000 | 1.2 GB | features, scikit-learn's copy, float64 for distances |
    | map of the images, sample of 200,000 | 0.4 GB | 64 directions of their features, neighbours, paths |
    | network, activations, libraries | 1 GB | |

    These are not needed at one time: `benchmarks/closing.py` measures the peak. All N·C probabilities would take
    168 GB, twice.
    """
    wait_for_all()  # the first process writes the backbone
    subject = open_subject(run)
    seen = see(subject, source, tell=tell)
    _evaluate(run, subject, source, seen)
    if rank() != 0:
        return seen
    run.write_rejected({printable(source.path(index)): reason for index, reason in seen.rejected.items()})
    if seen.top is not None:
        run.write_classes(class_table(subject, seen, top=1))
        write_familiar(run, seen)
    views = run.setting("views")
    found = bottleneck(subject, source, seen.indices, VIEWS[views["name"]].model_validate(views))
    if found is not None:
        run.write_json(BOTTLENECK, found)
    check_run(run, source, seen, tell)
    write_map_and_page(run, seen, tell)
    run.write_json(GALLERY, gallery(seen))
    return seen


def _evaluate(run: Run, subject: Subject, source: Source, seen: Seen) -> None:
    """Judge the classes and the features, where there are labels of two classes at least."""
    labels = np.empty(0, np.int64) if seen.labels is None else seen.labels[seen.labels >= 0]
    if len(np.unique(labels)) < 2:  # one label would agree with any classes
        return
    evaluations: list[Evaluation] = [Cluster(), Knn(k=(min(20, len(labels) - 1),))]
    for evaluation in evaluations:
        judge(subject, evaluation, source, None, labels=run.setting("labels"))
