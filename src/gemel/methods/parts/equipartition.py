"""SeLa's labels: an optimal transport between images and classes of equal size, by exact Sinkhorn iterations."""

from collections.abc import Callable
from math import log
from typing import NamedTuple

import torch
from torch import Tensor

from gemel.distributed import joined_rows
from gemel.methods.parts.precision import pieces
from gemel.methods.parts.whole_set import total

WHOLE_BYTES = 2**32
"""largest matrix that is held in float64; a larger one is held in float32"""

REACH = {torch.float64: 300.0, torch.float32: 30.0}
"""logarithm by which a class's scaling may change before the matrix is made anew: what had underflowed counts again"""

CHECKED = 10
"""the error is looked at in every tenth round"""

Scores = Callable[[slice], Tensor]
"""rows -> their log-probabilities, (m, K), float64"""


class Equipartition(NamedTuple):
    """Labels of equally large classes, and how they were found."""

    labels: Tensor
    """(n,) of this process's rows"""
    cost: float
    """mean over all rows of -log p at the label"""
    rounds: int
    error: float
    """Σ_i |c_i / c'_i - 1| over all rows, of the last round"""
    log_r: Tensor
    """(K,), logarithm of the classes' scalings"""
    log_c: Tensor
    """(n,), of the rows'"""


@torch.no_grad()
def equipartition(
    scores: Scores,
    count: int,
    *,
    exponent: float = 25.0,
    tolerance: float = 0.1,
    most: int = 10_000,
    dtype: torch.dtype | None = None,
) -> Equipartition:
    r"""Return argmax_k r_k P_ik c_i with P = p^λ, where r and c make r P c a transport of equal marginals.

    c = 1/N; repeat r = (1/K) / (P c), c' = (1/N) / (rᵀ P), c = c', until Σ_i |c_i / c'_i - 1| is at most the
    tolerance. Source: arXiv 1911.05371 and its released code.

    P is held once, as Q_ik = exp(λ log p_ik + u_k + v_i) with u the classes' scalings of a while ago and v such that a
    row's largest entry is 1; a round then reads Q once, the sums are in float64, and no scaling overflows. Beyond
    `WHOLE_BYTES` Q is in float32, N · K · 4 bytes over all processes. In every round each class has an entry that is at
    least 1/N of its row's largest, r taken into account: none vanishes before its scaling is taken into the matrix.

    Args:
        scores: log-probabilities of some of this process's rows; asked for a few times.
        count: n, rows of this process.
        exponent: λ, above 0.
        tolerance: of the error, which is a sum over all rows.
        most: rounds.
        dtype: of Q; None: by its size.
    """
    matrix = _Matrix(scores, count, exponent, dtype)
    everything = float(total(torch.tensor(float(count), dtype=torch.float64, device=matrix.device)))
    matrix.begin(log(everything))  # u is the first round's r: a = 1
    a, b = torch.ones_like(matrix.u), (-log(everything) - matrix.v).exp()  # r_k = a_k exp(u_k), c_i = b_i exp(v_i)
    rounds, error, sums = 0, torch.inf, matrix.u
    for rounds in range(1, most + 1):
        if rounds > 1:
            a = 1 / (len(a) * sums)
            if float(a.log().abs().max()) > REACH[matrix.dtype]:
                log_c = b.log() + matrix.v
                matrix.absorb(a)
                a, b = torch.ones_like(a), (log_c - matrix.v).exp()
        b, change, sums = matrix.round(a, b, everything)
        sums = total(sums)
        if rounds % CHECKED == 1:
            error = float(total(change))
            if error <= tolerance:
                break
    labels, cost = matrix.labels(a)
    cost = float(total(cost)) / everything
    return Equipartition(labels, cost, rounds, error, a.log() + matrix.u, b.log() + matrix.v)


class _Matrix:
    """Q of this process's rows, (n, K)."""

    def __init__(self, scores: Scores, count: int, exponent: float, dtype: torch.dtype | None) -> None:
        first = scores(slice(0, 1))
        classes, self.device = first.shape[1], first.device
        self.scores, self.exponent = scores, exponent
        self.dtype = dtype or (torch.float64 if 8 * count * classes <= WHOLE_BYTES else torch.float32)
        self.q = torch.empty(count, classes, dtype=self.dtype, device=self.device)
        self.u = torch.zeros(classes, dtype=torch.float64, device=self.device)
        self.v = torch.empty(count, dtype=torch.float64, device=self.device)
        self.parts = list(pieces(count, 8 * classes, self.device, least=32, caches=2))

    def begin(self, log_count: float) -> None:
        """Make the matrix with the first round's r = (1/K) / (P 1/N), from logarithms: nothing underflows yet."""
        sums = torch.full_like(self.u, -torch.inf)
        for part in self.parts:
            sums = torch.logaddexp(sums, (self.exponent * self.scores(part).double()).logsumexp(0))
        self.u = log_count - log(len(self.u)) - joined_rows(sums[None]).logsumexp(0)
        self._fill()

    def absorb(self, a: Tensor) -> None:
        """Take scalings of the classes into the matrix."""
        self.u += a.log()
        self._fill()

    def _fill(self) -> None:
        for part in self.parts:
            exponents = self.exponent * self.scores(part).double() + self.u
            largest = exponents.max(1).values
            self.v[part] = -largest
            self.q[part] = (exponents - largest[:, None]).exp_()

    def round(self, a: Tensor, b: Tensor, everything: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return b' = (1/N) / (Q a), Σ |b / b' - 1|, and Qᵀ b', reading Q once."""
        new, change, sums = torch.empty_like(b), b.new_zeros(()), torch.zeros_like(self.u)
        for part in self.parts:
            q = self.q[part].double()
            rows = 1 / (everything * (q @ a))
            change += (b[part] / rows - 1).abs().sum()
            sums += rows @ q
            new[part] = rows
        return new, change, sums

    def labels(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """Return argmax_k a_k Q_ik of each row, and the sum of -log p there."""
        found = torch.empty(len(self.v), dtype=torch.int64, device=self.device)
        cost = self.v.new_zeros(())
        for part in self.parts:
            found[part] = (self.q[part].double() * a).argmax(1)
            cost -= self.scores(part).double().gather(1, found[part][:, None]).sum()
        return found, cost
