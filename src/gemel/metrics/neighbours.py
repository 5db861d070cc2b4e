"""k nearest neighbours by cosine, exact, and their weighted vote: the protocol of DINO's k-NN evaluation.

`nearest` and `knn_votes` never wait for a GPU: they need no number of it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from gemel.errors import UserError

CHUNK_BYTES = 2**27
"""similarities, and rows of the bank, that are held at a time, unless the caller says otherwise"""

BLOCK = 16
"""rows of the bank whose largest similarity stands for all of them in the first round of the search"""


def nearest(
    queries: Tensor, bank: Tensor, k: int, *, leave_one_out: bool = False, chunk: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return the k rows of the bank with the largest cosine to each query: s_ij = <q_i, b_j> / (|q_i| |b_j|).

    Exact; of equally near rows any may be taken. A row of zeros has the similarity 0 to everything. Queries and bank
    may be larger than memory (mapped from files): a part of each is read at a time.

    Args:
        queries: (n, D), any floating type; halves are widened to float32.
        bank: (m, D), on the same device.
        k: 1..m, or 1..m-1 with `leave_one_out`.
        leave_one_out: queries and bank are the same rows, and no row is its own neighbour.
        chunk: rows at a time; by default as many as keep the similarities below `CHUNK_BYTES`.

    Returns:
        similarities (n, k), largest first, and rows of the bank (n, k), int64.

    Raises:
        UserError: shapes that do not fit, k out of range, or features that are not finite (on the CPU; on another
            device the caller must check, see `knn_accuracies`).
    """
    for rows, name in ((queries, "queries"), (bank, "bank")):
        if rows.ndim != 2 or not rows.numel():
            raise UserError(f"{name} of shape {tuple(rows.shape)}; give features (rows, width), at least one")
        if rows.device.type == "cpu":
            _check_finite(rows, name)
    if queries.shape[1] != bank.shape[1]:
        raise UserError(f"queries of width {queries.shape[1]} in a bank of width {bank.shape[1]}; use one encoder")
    if leave_one_out and len(queries) != len(bank):
        raise UserError(f"leave-one-out compares a bank with itself, not {len(queries)} queries with {len(bank)} rows")
    if not 1 <= k <= len(bank) - leave_one_out:
        raise UserError(f"{k} neighbours out of {len(bank) - leave_one_out}; lower k to at most that, at least to 1")
    kind = torch.promote_types(torch.promote_types(queries.dtype, bank.dtype), torch.float32)
    similarity = torch.full((len(queries), k), -torch.inf, dtype=kind, device=queries.device)
    index = torch.zeros(len(queries), k, dtype=torch.int64, device=queries.device)
    rows = chunk or max(1, CHUNK_BYTES // (kind.itemsize * bank.shape[1]))
    for first in range(0, len(bank), rows):
        part = normalize(bank[first : first + rows].detach().to(kind), dim=1)
        _search(queries.detach(), part, first, similarity, index, leave_one_out=leave_one_out, chunk=chunk)
    return similarity, index


def _search(
    queries: Tensor,
    bank: Tensor,
    first: int,
    similarity: Tensor,
    index: Tensor,
    *,
    leave_one_out: bool,
    chunk: int | None,
) -> None:
    """Merge one chunk of the bank, (m, D) from row `first` on, into the nearest rows so far."""
    count, k = len(bank), similarity.shape[1]
    bank = (pad(bank, (0, 0, 0, -count % BLOCK)) if count % BLOCK else bank).T  # (D, M), M a multiple of BLOCK
    fitting = CHUNK_BYTES // (bank.element_size() * bank.shape[1])
    size = chunk or min(1024, max(1, fitting // 64 * 64))  # whole tiles of the product
    held = bank.new_empty(min(size, len(queries)), bank.shape[1])  # once: fresh memory costs a third of the product
    for start in range(0, len(queries), size):
        part = slice(start, start + size)
        near = normalize(queries[part].to(bank.dtype), dim=1)
        scores = torch.mm(near, bank, out=held[: len(near)])  # (chunk, M)
        scores[:, count:] = -torch.inf
        if leave_one_out:  # row i of the chunk is row start + i - first of this part of the bank, if it has that
            low, high = max(0, first - start), min(len(near), first + count - start)
            if low < high:
                scores[low:high, low + start - first :].diagonal().fill_(-torch.inf)
        found, rows = _largest(scores, min(k, count))
        found, rows = torch.cat([similarity[part], found], dim=1), torch.cat([index[part], rows + first], dim=1)
        similarity[part], order = found.topk(k, dim=1)
        index[part] = rows.gather(1, order)


def _largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest of each row, (n, k) in any order, and their columns.

    Block j holds the columns j, j + S, j + 2S, ... The k largest lie in the k blocks with the largest maxima: were
    one in another block, those k maxima, all at least as large, would come before it.
    """
    stride = scores.shape[1] // BLOCK
    if stride <= 2 * k:
        return scores.topk(k, dim=1, sorted=False)
    blocks = scores.unflatten(1, (BLOCK, stride))  # (n, BLOCK, S)
    best = blocks.amax(dim=1).topk(k, dim=1, sorted=False).indices  # (n, k)
    candidates = blocks.gather(2, best[:, None].expand(-1, BLOCK, -1)).flatten(1)  # (n, BLOCK k)
    found, position = candidates.topk(k, dim=1, sorted=False)
    return found, best.gather(1, position % k) + position // k * stride


def knn_votes(similarity: Tensor, index: Tensor, labels: Tensor, *, k: int, temperature: float = 0.07) -> Tensor:
    """Return the class with the most votes: score of c = Σ_{j among the k nearest, y_j = c} exp(s_j / T).

    Args:
        similarity: (n, K), largest first, as `nearest` returns it.
        index: (n, K), rows of the bank.
        labels: (m,) of the bank's rows, any integers; neighbours with -1 (unknown) do not vote.
        k: neighbours that vote, 1..K.
        temperature: T > 0; small ones leave the decision to the nearest.

    Returns:
        (n,) predicted labels; of equal scores the lowest wins; -1 where no neighbour has a label.

    Raises:
        UserError: k or T out of range.

    >>> near, labels = torch.tensor([[0.9, 0.8, 0.79]]), torch.tensor([0, 1, 1])
    >>> knn_votes(near, torch.tensor([[0, 1, 2]]), labels, k=3)
    tensor([0])
    >>> knn_votes(near, torch.tensor([[0, 1, 2]]), labels, k=3, temperature=1.0)
    tensor([1])
    """
    return _ranked_votes(similarity, index, labels, k, temperature, count=1)[:, 0]


def knn_accuracy(
    queries: Tensor,
    bank: Tensor,
    query_labels: Tensor,
    bank_labels: Tensor,
    *,
    k: int = 20,
    temperature: float = 0.07,
    leave_one_out: bool = False,
) -> dict[str, float]:
    """Return `knn_accuracies` of one k."""
    both = queries, bank, query_labels, bank_labels
    return knn_accuracies(*both, ks=(k,), temperature=temperature, leave_one_out=leave_one_out)[k]


def knn_accuracies(
    queries: Tensor,
    bank: Tensor,
    query_labels: Tensor,
    bank_labels: Tensor,
    *,
    ks: Sequence[int],
    temperature: float = 0.07,
    leave_one_out: bool = False,
) -> dict[int, dict[str, float]]:
    """Return the share of queries whose label wins the weighted vote of the k nearest rows of the bank (`knn_votes`).

    Rows whose label is -1 (unknown) are left out, of the queries and of the bank. The neighbours are searched once,
    for the largest k.

    Args:
        queries: (n, D) features.
        bank: (m, D) features.
        query_labels: (n,).
        bank_labels: (m,).
        ks: numbers of neighbours.
        temperature: T of the vote.
        leave_one_out: queries and bank are the same rows, and no row is its own neighbour.

    Returns:
        for each k `top1`, and `top5` where the bank has at least 5 classes: the label is among the five with most
        votes (and has one: fewer than five classes may be among the neighbours). 0..1.

    Raises:
        UserError: as `nearest` and `knn_votes`, lengths that differ, or no known label.
    """
    queries, query_labels = _known(queries, query_labels, "queries")
    bank, bank_labels = _known(bank, bank_labels, "bank")
    classes = len(bank_labels.unique())
    similarity, index = nearest(queries, bank, max(ks), leave_one_out=leave_one_out)
    found: dict[int, dict[str, float]] = {}
    for k in ks:
        ranked = _ranked_votes(similarity, index, bank_labels, k, temperature, count=5 if classes >= 5 else 1)
        hits = ranked == query_labels.to(ranked.device)[:, None]  # (n, 1 or 5)
        found[k] = {"top1": hits[:, 0].double().mean().item()}
        if classes >= 5:
            found[k]["top5"] = hits.any(dim=1).double().mean().item()
    return found


def _known(features: Tensor, labels: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Return the rows with a label; where all have one, nothing is copied."""
    if len(features) != len(labels):
        raise UserError(f"{len(labels)} labels for {len(features)} rows of the {name}; give one label a row")
    known = labels != -1
    if not known.any():
        raise UserError(f"no row of the {name} has a label (-1 means unknown); give labels")
    if features.device.type != "cpu":
        _check_finite(features, name)
    return (features, labels) if known.all() else (features[known.to(features.device)], labels[known])


def _check_finite(rows: Tensor, name: str) -> None:
    # in parts: a mapped file may be larger than memory
    if not all(bool(part.isfinite().all()) for part in rows.split(max(1, CHUNK_BYTES // (8 * rows.shape[1])))):
        raise UserError(f"the {name} hold NaN or infinity: the encoder has diverged; train anew at a smaller rate")


def _ranked_votes(similarity: Tensor, index: Tensor, labels: Tensor, k: int, temperature: float, count: int) -> Tensor:
    """Return the labels with the most votes, best first, (n, count); -1 where fewer have any vote."""
    if not 1 <= k <= similarity.shape[1]:
        raise UserError(f"votes of {k} neighbours out of {similarity.shape[1]}; lower k to at most that, at least to 1")
    if not temperature > 0:
        raise UserError(f"temperature {temperature}; it must be above 0 (0.07 is customary)")
    near = similarity[:, :k] if similarity.dtype == torch.float64 else similarity[:, :k].float()
    labels = labels.to(index.device)
    ranked = torch.full((len(near), count), -1, dtype=labels.dtype, device=index.device)
    size = max(1, CHUNK_BYTES // (32 * k))
    for start in range(0, len(near), size):
        part = slice(start, start + size)
        # sorted by label, a class is a run; its votes are added up in one of k slots, the lowest label's first
        names, order = labels[index[part, :k]].sort(dim=1, stable=True)  # (chunk, k)
        slots = pad((names[:, 1:] != names[:, :-1]).cumsum(1), (1, 0))
        # divided by the largest, which changes no order: exp(1 / 0.01) overflows float32; the bound keeps votes above 0
        votes = ((near[part] - near[part].amax(dim=1, keepdim=True)) / temperature).exp()
        votes = votes.clamp_min(torch.finfo(near.dtype).tiny).gather(1, order).masked_fill(names == -1, 0)
        scores = torch.zeros_like(votes).scatter_add_(1, slots, votes)
        names = torch.zeros_like(names).scatter_(1, slots, names)
        for rank in range(min(count, k)):
            most, winner = scores.max(dim=1, keepdim=True)  # the first of several equal ones
            ranked[part, rank] = names.gather(1, winner).masked_fill(most == 0, -1)[:, 0]
            scores.scatter_(1, winner, 0)
    return ranked
