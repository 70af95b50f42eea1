"""Half-space trees (Tan, Ting & Liu 2011): river learns them, torch scores with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from river.anomaly import HalfSpaceTrees as RiverTrees
from torch import Tensor

from stream_ad.batch import Explanation
from stream_ad.score.bundle import Bundle
from stream_ad.score.density.options import TreesOptions
from stream_ad.score.scaling import Calibration, Scaler, blocks, robust_spread, shares
from stream_ad.score.train import Fitted, Progress

MOST_HEIGHT = 24  # that a bundle may have; each one more doubles the tree
LEARNT_ROWS = 10_000  # at most, evenly spaced: river learns row by row, which is slow


class HalfSpaceTrees:
    """Scores a row by how little of the training data lies near the features of its newest lag.

    The trees are complete, so a bundle holds them as arrays by depth: node i has the children
    2i+1 and 2i+2. River wants values in 0..1; they get the logistic function of the scaled
    feature, and 0.5, the median, where it is missing.
    """

    Options = TreesOptions

    def __init__(self, architecture: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors
        self.height: int = architecture["height"]
        self.scaler = Scaler.of(tensors)
        self.calibration = Calibration(tensors["calibration"])
        self.window: int = architecture["window"]
        trees, nodes = tensors["mass"].shape
        device = tensors["mass"].device
        self.first_branch = torch.arange(trees, device=device) * tensors["feature"].shape[1]
        self.first_node = torch.arange(trees, device=device) * nodes
        self.feature = tensors["feature"].reshape(-1)
        self.threshold = tensors["threshold"].reshape(-1)
        self.mass = tensors["mass"].reshape(-1)

    @classmethod
    def shapes(cls, architecture: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        f, trees, height = architecture["f"], architecture["trees"], architecture["height"]
        if not 0 < height <= MOST_HEIGHT:
            raise ValueError(f"trees {height} nodes high")
        return {
            "scaler.centre": (f,),
            "scaler.spread": (f,),
            "calibration": (2,),
            "spread": (f,),
            "feature": (trees, 2**height - 1),
            "threshold": (trees, 2**height - 1),
            "mass": (trees, 2 ** (height + 1) - 1),
        }

    @classmethod
    def of(cls, bundle: Bundle, device: torch.device) -> Self:
        return cls(bundle.manifest.architecture, {name: t.to(device) for name, t in bundle.tensors.items()})

    @classmethod
    def fit(cls, x: Tensor, held: Tensor, options: TreesOptions, progress: Progress) -> Fitted:
        _, w, f = x.shape
        scaler = Scaler.learn(x.numpy())
        rows = _unit(scaler, x[:: -(-len(x) // LEARNT_ROWS)])
        # one window of river's: its masses are those of all rows, counted once
        trees = RiverTrees(n_trees=options.trees, height=options.height, window_size=len(rows), seed=options.seed)
        for row in rows.tolist():
            trees.learn_one(dict(enumerate(row)))
        architecture = {"w": w, "f": f, "trees": options.trees, "height": options.height, "window": len(rows)}
        residual = held[:, -1] - scaler.centre
        spread = torch.from_numpy(robust_spread(residual.numpy()))
        tensors = {
            **scaler.tensors(),
            **exported(trees),
            "calibration": torch.tensor([0.0, 1.0]),
            "spread": torch.where(spread.isfinite() & (spread > 0), spread, scaler.spread),
        }
        model = cls(architecture, tensors)
        error = torch.cat([model._error(_unit(scaler, block)) for block in blocks(held)])
        tensors["calibration"] = Calibration.learn(error).constants
        baseline = model._error(torch.full((1, f), 0.5, dtype=torch.float64))
        loss = float(error.mean())
        progress(0, loss, loss)
        return Fitted(architecture, tensors, ((loss, loss),), loss, float(baseline))

    @torch.inference_mode()
    def score(self, x: Tensor) -> Tensor:
        """float32 [n,w,f] -> [n]; a row whose newest lag is missing altogether scores 0."""
        newest = x[:, -1]
        return self.calibration.score(self._error(_unit(self.scaler, x))) * (newest == newest).any(1)

    @torch.inference_mode()
    def explain(self, x: Tensor) -> Explanation:
        """The contribution of a feature is the fall of the error when the feature is replaced by its median, times its
        scaled deviation: the trees hardly tell 20 deviations from 2, of which a row has several."""
        newest = ((x[:, -1] - self.scaler.centre) / self.scaler.spread).abs().nan_to_num(0.0).clamp(max=30.0)
        unit = _unit(self.scaler, x)
        error = self._error(unit).log()
        parts = torch.zeros_like(x)
        for j in range(x.shape[2]):
            without = unit.clone()
            without[:, j] = 0.5
            parts[:, -1, j] = (error - self._error(without).log()).clamp(min=0.0).float() * newest[:, j]
        return Explanation(
            contribution=shares(parts).cpu().numpy(),
            expected=self.scaler.centre.expand(x.shape).contiguous().cpu().numpy(),
            spread=self.tensors["spread"].cpu().numpy(),
        )

    def anomaly(self, unit: Tensor) -> Tensor:
        """float64 [n,f] in 0..1 -> [n], what river's `score_one` gives."""
        n, f = unit.shape
        flat = unit.reshape(-1)
        start = (torch.arange(n, device=unit.device) * f)[:, None]
        node = torch.zeros((n, len(self.first_node)), dtype=torch.int64, device=unit.device)
        total = torch.zeros(node.shape, dtype=torch.float64, device=unit.device)
        walking = torch.ones_like(node, dtype=torch.bool)
        for depth in range(self.height + 1):
            mass = self.mass[node + self.first_node]
            total += mass * walking * float(2**depth)
            walking &= mass >= 0.1 * self.window
            if depth < self.height:
                branch = node + self.first_branch
                left = flat[start + self.feature[branch]] < self.threshold[branch]
                node = 2 * node + torch.where(left, 1, 2)
        most = len(self.first_node) * self.window * (2 ** (self.height + 1) - 1)
        score: Tensor = 1.0 - total.sum(1) / most
        return score

    def _error(self, unit: Tensor) -> Tensor:
        """[n,f] -> [n]: one over the share of the mass, whose logarithm still grows where rows are very rare."""
        return (1.0 / (1.0 - self.anomaly(unit) + 1e-4)).float()


def exported(trees: RiverTrees) -> dict[str, Tensor]:
    """River's linked nodes as arrays by depth."""
    branches, leaves = 2**trees.height - 1, 2**trees.height
    feature = torch.zeros((trees.n_trees, branches), dtype=torch.int64)
    threshold = torch.zeros((trees.n_trees, branches), dtype=torch.float64)
    mass = torch.zeros((trees.n_trees, branches + leaves), dtype=torch.float64)
    for index, root in enumerate(trees.trees):
        nodes = [root]
        for position in range(branches + leaves):
            node = nodes[position]
            mass[index, position] = node.r_mass
            if position < branches:
                feature[index, position], threshold[index, position] = node.feature, node.threshold
                nodes += node.children
    return {"feature": feature, "threshold": threshold, "mass": mass}


def _unit(scaler: Scaler, x: Tensor) -> Tensor:
    """Newest lag of x [n,w,f] -> float64 [n,f] in 0..1."""
    z = ((x[:, -1] - scaler.centre) / scaler.spread).clamp(-30.0, 30.0).nan_to_num(0.0)
    return torch.sigmoid(z.double())
