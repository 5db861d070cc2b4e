"""Which method finds the classes best from the same features, or by one network?

The small scale trains heads on the features of a frozen network; --images and --classes take other vectors.
"""

from gemel.studies.base import Scale, Study
from gemel.studies.class_finders import COLUMNS, PIXELS, REMARKS, variations

_FULL = {
    "images": "cifar10",
    "image_size": 32,
    "epochs": 200,
    "batch_size": 256,
    "backbone": {"name": "resnet18", "stem": "small"},
}

STUDY = Study(
    question="Which of the methods that find classes without labels agrees best with the labels?",
    small=Scale({"images": "digits", "train": "heads", "threads": 2}, variations(remarks=REMARKS)),
    full=Scale(_FULL, variations("small")),
    columns=COLUMNS,
    evaluations=(PIXELS,),
    published=({"table": "TWIST Table 2 unsupervised classification"}, {"table": "Self-Classifier README"}),
)
