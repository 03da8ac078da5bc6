"""Exact search by matrix product and top-k in torch, on CPU or GPU. Knows nothing of FAISS.

It measures the recall of approximate indexes, and holds the rows that `LiveIndex` adds. Candidates are chosen in
float32 and scored in float64, so a score depends on the two vectors alone, not on the batch or the vector's position.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, Shaped

from indexers.files import EXACT_KIND, Header, IndexFile, Write, write_index_file
from indexers.protocol import EXACT, BadVectorsError, IndexersError, IndexFileError, IndexSpec, Metric, Neighbours
from indexers.vectors import (
    as_rows,
    as_vectors,
    check_k,
    chunk_rows,
    contains,
    positions_in_chunks,
    positions_of,
    sorted_vectors,
    top_k,
)

SCORES_AT_ONCE = 1 << 22
QUERIES_AT_ONCE = 1024

MARGIN = 16
"""Candidates beyond k that are scored again, so that float32 rounding at the edge costs nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class ExactIndex:
    """An index that is searched without approximation (see `indexers.protocol.Index`).

    Its rows are ascending; its prepared vectors, in that order, lie on the device that searches them.
    """

    spec: IndexSpec
    rows: Int64[np.ndarray, " n"]
    vectors: Float32[torch.Tensor, "n dim"]

    @classmethod
    def empty(cls, dim: int, metric: Metric, device: str = "cpu") -> "ExactIndex":
        """Return an index of no vectors."""
        spec = IndexSpec(EXACT, metric)
        return cls.build(spec, np.empty(0, dtype=np.int64), np.empty((0, dim), dtype=np.float32), device)

    @classmethod
    def build(
        cls,
        spec: IndexSpec,
        rows: Shaped[np.ndarray, "..."],
        vectors: Shaped[np.ndarray, "..."],
        device: str = "cpu",
    ) -> "ExactIndex":
        """Build it from n row numbers and (n, dim) vectors, converted in chunks.

        Raises BadVectorsError for vectors or row numbers that cannot be used, IndexersError for another recipe.
        """
        if spec.factory != EXACT:
            raise IndexersError(f"{spec.factory!r} was given; this index is {EXACT!r}. Use indexers.build.")
        ascending, dim, read = sorted_vectors(rows, vectors, spec.metric)
        held = torch.empty((len(ascending), dim), dtype=torch.float32, device=device)
        for positions in positions_in_chunks(len(ascending), dim):
            held[torch.from_numpy(positions).to(device)] = torch.tensor(read(positions), device=device)
        return cls(spec, ascending, held)

    @classmethod
    def from_file(cls, file: IndexFile, device: str = "cpu") -> "ExactIndex":
        """Open a saved index. Raises IndexFileError if its sizes contradict its header."""
        count, dim = file.header.count, file.header.dim
        if file.payload.size != 4 * count * dim:
            raise IndexFileError(f"{file.path} contradicts its own header. Build the index again.")
        values = np.array(file.payload).view("<f4").astype(np.float32, copy=False)
        return cls(file.header.spec, file.rows, torch.from_numpy(values.reshape(count, dim)).to(device))

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.vectors.shape[1]

    @property
    def effort(self) -> Mapping[str, int]:
        """Nothing to tune."""
        return {}

    def __len__(self) -> int:
        """Return the number of vectors."""
        return len(self.rows)

    def with_effort(self, search: Mapping[str, int]) -> "ExactIndex":
        """Return the same index: it takes any search parameters, and ignores them."""
        del search
        return self

    def replaced(self, rows: Shaped[np.ndarray, "..."], vectors: Shaped[np.ndarray, "..."]) -> "ExactIndex":
        """Return an index that also holds these rows; where a row was held, its new vector replaces the old one."""
        added = type(self).build(self.spec, rows, vectors, str(self.vectors.device))
        if added.dim != self.dim:
            raise BadVectorsError(
                f"vectors have shape {vectors.shape}; this index takes (n, {self.dim}). Re-encode them."
            )
        kept = self.without(added.rows)
        merged = np.concatenate([kept.rows, added.rows])
        order = np.argsort(merged, kind="stable")
        return type(self)(self.spec, merged[order], torch.cat([kept.vectors, added.vectors])[torch.from_numpy(order)])

    def without(self, rows: Shaped[np.ndarray, "..."]) -> "ExactIndex":
        """Return an index that lacks these rows; rows that it does not hold are ignored."""
        kept = np.flatnonzero(~contains(np.sort(as_rows(rows)), self.rows))
        if len(kept) == len(self):
            return self
        return type(self)(self.spec, self.rows[kept], self.vectors[torch.from_numpy(kept)])

    def search(
        self,
        queries: Shaped[np.ndarray, "..."],
        k: int,
        *,
        allowed: Shaped[np.ndarray, "..."] | None = None,
        search: Mapping[str, int] | None = None,
    ) -> Neighbours:
        """Return the k best rows of each query, equal scores by lower row number. `search` is ignored.

        See `Index.search`.
        """
        check_k(k)
        prepared = torch.tensor(as_vectors(queries, self.dim, self.spec.metric, "queries"))
        positions = None if allowed is None else torch.from_numpy(positions_of(self.rows, allowed))
        reachable = min(k + MARGIN, len(self) if positions is None else len(positions))
        step = max(1, min(QUERIES_AT_ONCE, SCORES_AT_ONCE // max(1, reachable * self.dim)))
        rows = np.empty((len(prepared), reachable), dtype=np.int64)
        scores = np.empty((len(prepared), reachable), dtype=np.float32)
        if reachable:
            for start in range(0, len(prepared), step):
                part = prepared[start : start + step].to(self.vectors.device)
                candidates = self._candidates(part, reachable, positions)
                rows[start : start + step] = self.rows[candidates.cpu().numpy()]
                scores[start : start + step] = self._scores(part, candidates).cpu().numpy()
        return top_k(rows, scores, k)

    def _candidates(
        self, queries: Float32[torch.Tensor, "q dim"], count: int, positions: Int64[torch.Tensor, " p"] | None
    ) -> Int64[torch.Tensor, "q count"]:
        step = max(1, SCORES_AT_ONCE // len(queries))
        best = torch.empty((len(queries), 0), dtype=torch.int64, device=queries.device)
        for places, vectors in self._chunks(step, positions):
            scores = queries @ vectors.T
            if self.spec.metric == "l2":
                # Half of (|q|^2 - distance^2), which ranks like minus the distance.
                scores -= 0.5 * vectors.square().sum(dim=1)
            best = torch.cat([best, _keys(scores, places)], dim=1)
            best = best.topk(min(count, best.shape[1]), dim=1).values
        return LAST_POSITION - (best & LAST_POSITION)

    def _chunks(
        self, step: int, positions: Int64[torch.Tensor, " p"] | None
    ) -> Iterator[tuple[Int64[torch.Tensor, " c"], Float32[torch.Tensor, "c dim"]]]:
        device = self.vectors.device
        for start in range(0, len(self) if positions is None else len(positions), step):
            if positions is None:
                vectors = self.vectors[start : start + step]
                yield torch.arange(start, start + len(vectors), device=device), vectors
            else:
                places = positions[start : start + step].to(device)
                yield places, self.vectors[places]

    def _scores(
        self, queries: Float32[torch.Tensor, "q dim"], candidates: Int64[torch.Tensor, "q m"]
    ) -> Float[torch.Tensor, "q m"]:
        vectors = self.vectors[candidates].double()
        if self.spec.metric == "l2":
            return -(vectors - queries.double()[:, None]).square().sum(dim=2).sqrt()
        return (vectors * queries.double()[:, None]).sum(dim=2)

    def save(self, path: Path) -> str:
        """Write it to one file, atomically. Returns the SHA-256 of the file, in hex."""

        def payload(write: Write) -> None:
            for part in torch.split(self.vectors, chunk_rows(self.dim)):
                write(part.cpu().numpy().astype("<f4", copy=False).data)

        return write_index_file(path, Header(EXACT_KIND, self.spec, self.dim, len(self)), self.rows, payload)


LAST_POSITION = 0xFFFF_FFFF


def _keys(scores: Float32[torch.Tensor, "q c"], places: Int64[torch.Tensor, " c"]) -> Int64[torch.Tensor, "q c"]:
    # One integer holds score and position: higher score first, then lower position. Top-k alone leaves ties to chance.
    bits = (scores + 0.0).view(torch.int32)  # adding zero makes -0.0 equal to 0.0
    ordered = bits ^ ((bits >> 31) & 0x7FFF_FFFF)
    return (ordered.to(torch.int64) << 32) | (LAST_POSITION - places)
