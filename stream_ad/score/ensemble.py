"""Several scorers that judge together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from stream_ad import registry
from stream_ad.batch import Explanation
from stream_ad.config.features import FeatureSpec
from stream_ad.config.parts import SCORER
from stream_ad.errors import ConfigError
from stream_ad.protocols import Bundled, Scorer, Trainable, is_rowwise
from stream_ad.score import ensemble_kernel
from stream_ad.score.bundle import Bundle, Manifest
from stream_ad.score.options import EnsembleOptions
from stream_ad.score.reconstruction.options import NetworkOptions
from stream_ad.score.scaling import LIMIT, blocks
from stream_ad.score.train import Fitted, Progress

# Upper tail probabilities at which a member's held-back scores are known. Those that fewer than `LEAST_ROWS` rows
# reach, and the last in any case, lie on an exponential tail.
TAILS = (0.9, 0.7, *(0.5 * 0.6**step for step in range(12)), 1e-7)
LEAST_ROWS = 10
TAIL = 0.05  # of the rows: where the exponential tail is fitted
LEAST_STEP = 1e-3  # between two scores of a tail
CHUNK = 128  # rows of one matrix product on the CPU


class Ensemble:
    """Scores a row by the root mean square of its members' surprises, calibrated.

    A member's surprise is -log of the probability, by its own held-back scores, that a row scores as high. Members
    that learn nothing weigh as much together as those that learn: they follow the stream where the others are frozen.
    The root mean square lies between Fisher's sum of logarithms (1932), which asks all members, and their maximum
    (Bonferroni), which asks the most surprised one; ADR 0012 has the measurement.
    """

    Options = EnsembleOptions

    def __init__(self, members: Sequence[Scorer], weights: Sequence[float], tensors: Mapping[str, Tensor]) -> None:
        self.members, self.weights = members, weights
        self.tails, self.calibration = tensors["tails"], tensors["calibration"]
        self.fused: ensemble_kernel.Fusion | None = None

    @classmethod
    def shapes(cls, architecture: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = {}
        for at, name, own in _members(architecture):
            found |= {f"{at}.{tensor}": shape for tensor, shape in _class(name).shapes(own).items()}
        return found | {"tails": (len(architecture["members"]), len(TAILS)), "calibration": (2,)}

    @classmethod
    def of(cls, bundle: Bundle, device: torch.device) -> Self:
        members = []
        for at, name, own in _members(bundle.manifest.architecture):
            tensors = {
                tensor.removeprefix(f"{at}."): values
                for tensor, values in bundle.tensors.items()
                if tensor.startswith(f"{at}.")
            }
            manifest = replace(bundle.manifest, kind=name, architecture=own)
            members.append(_class(name).of(replace(bundle, manifest=manifest, tensors=tensors), device))
        weights = _weights(bundle.manifest.architecture["members"])
        model = cls(members, weights, {name: bundle.tensors[name].to(device) for name in ("tails", "calibration")})
        if device.type == "cpu":
            model.fuse()
        return model

    def fuse(self) -> None:
        """Has scores fused by one loop on the CPU from here on. The tensors must not change any more."""
        self.fused = ensemble_kernel.Fusion(
            np.array(self.weights), self.tails.contiguous().numpy(), -np.log(TAILS), self.calibration.numpy()
        )

    @classmethod
    def compose(
        cls, x: Tensor, held: Tensor, spec: FeatureSpec, options: EnsembleOptions, progress: Progress
    ) -> Fitted:
        """Every member learns for itself; the curve is that of the last one with several epochs."""
        architecture: dict[str, Any] = {"w": x.shape[1], "f": x.shape[2], "members": list(options.members)}
        tensors: dict[str, Tensor] = {}
        curve: tuple[tuple[float, float], ...] = ()
        losses = 0.0, 0.0
        for at, name in enumerate(options.members):
            part = _class(name)
            if not issubclass(part, Trainable):
                continue
            own = SCORER.adapted(options.model_copy(update={"scorer": name}))
            fitted = part.fit(x, held, own, progress if isinstance(own, NetworkOptions) else _silent)
            architecture |= {f"{at}.{key}": one for key, one in fitted.architecture.items() if key not in ("w", "f")}
            tensors |= {f"{at}.{tensor}": values for tensor, values in fitted.tensors.items()}
            if len(fitted.curve) >= len(curve):
                curve, losses = fitted.curve, (fitted.held_loss, fitted.baseline_loss)
        tensors["tails"] = torch.zeros(len(options.members), len(TAILS), dtype=torch.float64)
        tensors["calibration"] = torch.tensor([0.0, 1.0], dtype=torch.float64)
        manifest = Manifest("ensemble", architecture, spec.to_json(), "", 0, 0, 0, {}, {}, 0)
        draft = cls.of(Bundle("", manifest, tensors), torch.device("cpu"))
        scores = [torch.cat([_scores(member, block) for block in blocks(held)]) for member in draft.members]
        draft.tails[:] = torch.stack([_tail(one) for one in scores])
        surprise = draft._surprise(scores)
        surprise = surprise[surprise.isfinite()]
        draft.calibration[:] = torch.stack([surprise.mean(), surprise.std().clamp(min=0.05)])
        return Fitted(architecture, tensors, curve or ((0.0, 0.0),), *losses)

    @property
    def rowwise(self) -> bool:
        """On the CPU each product has a shape of its own choice; on CUDA the engine gives chunks of one size."""
        return self.tails.device.type == "cpu"

    @torch.inference_mode()
    def score(self, x: Tensor) -> Tensor:
        """float32 [n,w,f] -> [n]; a row without values scores 0."""
        scores = [_scores(member, x) for member in self.members]
        if self.fused is not None:
            fused = np.empty(len(x), np.float32)
            ensemble_kernel.fuse(x.numpy().reshape(len(x), -1), torch.stack(scores).numpy(), self.fused, fused)
            return torch.from_numpy(fused)
        surprise = self._surprise(scores)
        score = (surprise - self.calibration[0]) / self.calibration[1]
        known = (x == x).flatten(1).any(1)
        return torch.where(known, score.clamp(-LIMIT, LIMIT), 0.0).float()

    def explain(self, x: Tensor) -> Explanation:
        """A member's contributions count by its share of the surprise; what was expected is said by the first one."""
        parts = self._parts([_scores(member, x) for member in self.members])
        parts = torch.where(parts.sum(0) > 0.0, parts, parts.new_tensor(self.weights)[:, None])  # none is surprised
        share = (parts / parts.sum(0)).cpu().numpy()
        told = [member.explain(x) for member in self.members]
        contribution = np.sum([one[:, None, None] * own.contribution for one, own in zip(share, told, strict=True)], 0)
        return Explanation(contribution.astype(np.float32), told[0].expected, told[0].spread)

    def _surprise(self, scores: Sequence[Tensor]) -> Tensor:
        return self._parts(scores).sum(0).sqrt()

    def _parts(self, scores: Sequence[Tensor]) -> Tensor:
        """Scores [n] of each member -> what each adds to the square of the surprise, [members,n]."""
        weighted = [
            weight * _log_tail(score.double(), tail).square()
            for weight, score, tail in zip(self.weights, scores, self.tails, strict=True)
        ]
        return torch.stack(weighted)


def _silent(epoch: int, loss: float, held_loss: float) -> None:
    """For members that learn in one step: progress counts epochs."""


def _members(architecture: Mapping[str, Any]) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Place, name and own architecture of each member."""
    for at, name in enumerate(architecture["members"]):
        own = {key.removeprefix(f"{at}."): one for key, one in architecture.items() if key.startswith(f"{at}.")}
        yield at, name, {"w": architecture["w"], "f": architecture["f"], **own}


def _class(name: str) -> type[Bundled]:
    if name == "ensemble":
        raise ConfigError("train.members: an ensemble is no member of another one")
    return registry.bundled(name)


def _weights(names: Sequence[str]) -> list[float]:
    learns = np.array([issubclass(_class(name), Trainable) for name in names])
    weight = np.full(len(names), 1.0 / len(names))
    if learns.any() and not learns.all():
        weight = np.where(learns, 0.5 / learns.sum(), 0.5 / (~learns).sum())
    return [float(one) for one in weight]


def _scores(member: Scorer, x: Tensor) -> Tensor:
    """[n,w,f] -> [n]. On the CPU a member that is not row by row gets chunks of one size."""
    if x.device.type != "cpu" or is_rowwise(member) or not len(x):
        return member.score(x)
    padded = torch.cat([x, x.new_full((-len(x) % CHUNK, *x.shape[1:]), torch.nan)])
    return torch.cat([member.score(chunk) for chunk in torch.split(padded, CHUNK)])[: len(x)]


def _tail(score: Tensor) -> Tensor:
    """Held-back scores [h] -> the score [len(TAILS)] that each share of them exceeds, ascending."""
    score = score[score.isfinite()].double().sort().values
    start = score.quantile(1.0 - TAIL)
    scale = float((score[score > start] - start).mean().nan_to_num(1.0).clamp(min=0.05))
    found: list[float] = []
    for tail in TAILS:
        if tail * len(score) >= LEAST_ROWS:
            at = float(score.quantile(1.0 - tail))
        else:
            at = found[-1] + scale * float(np.log(TAILS[len(found) - 1] / tail))
        found.append(max(at, found[-1] + LEAST_STEP) if found else at)
    return torch.tensor(found, dtype=torch.float64)


def _log_tail(score: Tensor, tail: Tensor) -> Tensor:
    """-log of the share of held-back rows that score higher: linear between the known ones, and beyond the last."""
    known = -torch.tensor(TAILS, dtype=torch.float64, device=tail.device).log()
    at = torch.searchsorted(tail, score).clamp(1, len(TAILS) - 1)
    slope = (known[at] - known[at - 1]) / (tail[at] - tail[at - 1]).clamp(min=LEAST_STEP)
    return (known[at - 1] + slope * (score - tail[at - 1])).clamp(min=0.0)
