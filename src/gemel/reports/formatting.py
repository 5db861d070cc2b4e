"""Numbers and names for a reader."""

import math

NAMES = {
    "acc": "clustering accuracy",
    "class_entropy": "effective number of classes",
    "classes_per_image": "effective number of classes per image",
    "lr": "learning rate",
    "images_per_second": "images a second",
    "data_wait": "time spent waiting for views",
    "rankme": "effective rank (RankMe)",
    "embedding_std": "spread of the embeddings",
}
PARTS = {
    "nmi": "NMI",
    "ari": "ARI",
    "ami": "AMI",
    "f": "F",
    "knn": "k-NN",
    "kmeans": "k-means",
    "cluster": "clustering",
    "std": "spread",
    "acc": "accuracy",
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "miou": "mean IoU",
    "top1": "top-1 accuracy",
    "top5": "top-5 accuracy",
}
"""Words within a name, or a whole name: `kmeans_nmi`."""
FRACTIONS = ("acc", "agreement", "knn", "top", "mean_per", "purity", "precision", "recall")
"""Scores whose name holds one of these words are shares of the images: they read best in per cent."""

INFINITE = "not finite"


def words(name: str) -> str:
    """Return the name of a column, score or setting in words.

    >>> words("class_agreement"), words("kmeans_nmi")
    ('class agreement', 'k-means NMI')
    """
    return NAMES.get(name) or score_name(name)


def score_name(name: str) -> str:
    """Return a score's name as it stands beside its protocol: `acc` of a clustering is its accuracy."""
    return " ".join(PARTS.get(part, part) for part in name.split("_"))


def sentence(text: str) -> str:
    """Capitalise the first letter, but of names with their own spelling ("k-NN", "NMI").

    >>> sentence("class entropy"), sentence("k-NN")
    ('Class entropy', 'k-NN')
    """
    return text[:1].upper() + text[1:] if text.partition(" ")[0].isalpha() else text


def number(value: float, digits: int = 4) -> str:
    """Return a number with a few digits and a true minus sign.

    >>> number(-1.23456), number(1797), number(0.00000123), number(float("nan"))
    ('−1.235', '1,797', '1.23e−6', 'not finite')
    """
    if not math.isfinite(value):
        return INFINITE
    size = abs(value)
    if size >= 1000 or value == int(value):
        text = f"{value:,.0f}" if size < 1e7 else f"{value:.3g}"
    elif size >= 0.001:
        text = f"{value:.{digits}g}"
    else:
        text = f"{value:.3g}"
    return text.replace("e-0", "e-").replace("e+0", "e").replace("e+", "e").replace("-", "−")


def percent(fraction: float) -> str:
    """Return a fraction in per cent.

    >>> percent(0.9836), percent(1.0)
    ('98.4 %', '100 %')
    """
    if not math.isfinite(fraction):
        return INFINITE
    return "100 %" if fraction == 1 else f"{100 * fraction:.1f} %".replace("-", "−")


def score(name: str, value: float) -> str:
    """Return a score: shares of right answers in per cent, other fractions with three digits, the rest as numbers."""
    if 0 <= value <= 1 and any(part in name.lower() for part in FRACTIONS):
        return percent(value)
    return f"{value:.3f}".replace("-", "−") if abs(value) <= 1 else number(value)


def duration(seconds: float) -> str:
    """Return a duration in its two largest units.

    >>> duration(42.3), duration(3725), duration(200000)
    ('42 s', '1 h 2 min', '2 d 7 h')
    """
    whole = round(seconds)
    for size, unit, smaller_size, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller_size
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def plural(count: int, noun: str, many: str | None = None) -> str:
    """Return a count with its noun: `plural(1, "class", "classes")` is "1 class"."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"
