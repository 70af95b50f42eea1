"""Networks that reconstruct a window: how they are trained, how they score and explain."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, Self, TypeAlias, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from stream_ad.batch import Explanation
from stream_ad.score.bundle import Bundle
from stream_ad.score.reconstruction.fused import Fused, Layer
from stream_ad.score.reconstruction.options import NetworkOptions
from stream_ad.score.scaling import LINEAR, Calibration, Scaler, blocks, lag_weights, robust_spread, row_error, shares
from stream_ad.score.train import Fitted, Progress

LEARNING_RATE = 2e-3
LINE = 16  # floats of a cache line
HIDE = 0.1  # of the inputs are hidden in training, so that a value is predicted by its neighbours (Vincent 2008)
TRIM = 0.02  # of a batch's rows, the worst, teach nothing after the first epoch: they may be anomalies
PATIENCE = 3  # epochs without a better held-back loss
_SURPRISING = 2.0  # an entry with a larger scaled error is hidden when expected values are computed

Options = TypeVar("Options", bound=NetworkOptions)
Losses: TypeAlias = tuple[Tensor, Tensor]  # what is minimised, and the mean error of a row in it


def mlp(weights: Mapping[str, Tensor], name: str, depth: int) -> list[Layer]:
    """`depth` dense layers with ReLU between them."""
    return [
        Layer(weights[f"{name}{layer}.weight"], weights[f"{name}{layer}.bias"], layer < depth - 1)
        for layer in range(depth)
    ]


def forward(z: Tensor, layers: Sequence[Layer]) -> Tensor:
    """[n,in] -> [n,out]. Columns are padded to full cache lines: otherwise, in narrow products, a row's last bits
    depend on its place among the rows."""
    for weight, bias, relu in layers:
        fill = (0, -z.shape[1] % LINE)
        z = functional.linear(functional.pad(z, fill), functional.pad(weight, fill), bias)
        if relu:
            z = z.relu()
    return z


def mlp_shapes(name: str, widths: Sequence[int]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(len(widths) - 1):
        shapes[f"{name}{layer}.weight"] = (widths[layer + 1], widths[layer])
        shapes[f"{name}{layer}.bias"] = (widths[layer + 1],)
    return shapes


class Reconstruction(ABC, Generic[Options]):
    """Scores a row by how badly its window is reconstructed: weighted mean squared error, calibrated."""

    def __init__(self, architecture: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        self.architecture, self.tensors = architecture, tensors
        self.w: int = architecture["w"]
        self.depth = len(architecture["hidden"])
        self.weight = lag_weights(self.w, architecture["f"]).to(tensors["scaler.centre"].device)
        self.scaler = Scaler.of(tensors)
        self.calibration = Calibration(tensors["calibration"])
        self.fused: Fused | None = None

    @classmethod
    @abstractmethod
    def weight_shapes(cls, architecture: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        """Of the weights that are learnt by gradient."""

    @abstractmethod
    def layers(self) -> list[Layer]:
        """The layers between scaled windows [n,w*f] and their reconstruction."""

    def reconstruct(self, z: Tensor) -> Tensor:
        """[n,w*f] -> [n,w*f]. Pure."""
        return forward(z, self.layers())

    @abstractmethod
    def loss(self, z: Tensor, target: Tensor, share: Tensor, keep: float, generator: torch.Generator) -> Losses:
        """Of a batch: z [b,w*f] the input, share [b,w*f] the weight of each squared error,
        keep the fraction of rows, the best ones, that count."""

    @classmethod
    def extra(cls, options: Options) -> dict[str, Any]:
        """What the architecture holds beyond w, f and hidden."""
        return {}

    def finish(self, held: Tensor) -> dict[str, Tensor]:
        """Further tensors, computed once the weights are learnt."""
        return {}

    def error(self, x: Tensor, z: Tensor) -> Tensor:
        """Error of each row, [n]; x only says which entries are present."""
        return row_error(x, z, self.reconstruct(z), self.weight)

    @classmethod
    def shapes(cls, architecture: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        f = architecture["f"]
        fixed: dict[str, tuple[int, ...]] = {
            "scaler.centre": (f,),
            "scaler.spread": (f,),
            "calibration": (2,),
            "spread": (f,),
        }
        return fixed | cls.weight_shapes(architecture)

    @classmethod
    def of(cls, bundle: Bundle, device: torch.device) -> Self:
        model = cls(bundle.manifest.architecture, {name: t.to(device) for name, t in bundle.tensors.items()})
        if device.type == "cpu":
            model.fuse()
        return model

    def fuse(self) -> None:
        """Has `score` run as one loop on the CPU from here on. The weights must not change any more."""
        self.fused = Fused.of(self.scaler, self.layers(), self.weight, self.calibration)

    @property
    def rowwise(self) -> bool:
        return self.fused is not None

    @torch.inference_mode()
    def score(self, x: Tensor) -> Tensor:
        """float32 [n,w,f] -> [n]; a row in which nothing is present scores 0."""
        if self.fused is not None:
            return self.fused.score(x)
        return self.calibration.score(self.error(x, self.scaler.squash(x)))

    @torch.inference_mode()
    def explain(self, x: Tensor) -> Explanation:
        """Compares the row with a second reconstruction, for which surprising values are hidden. Otherwise these would
        change what is expected of themselves and of their neighbours."""
        z = self.scaler.squash(x)
        difference = (self.reconstruct(z) - z).nan_to_num(0.0)
        hidden = (difference.abs() > _SURPRISING) | (z.abs() > LINEAR)
        expected = self.reconstruct(torch.where(hidden, 0.0, z)).clamp(-LINEAR, LINEAR)
        parts = ((expected - z).nan_to_num(0.0).square() * self.weight).reshape(x.shape) * (x == x)
        return Explanation(
            contribution=shares(parts).cpu().numpy(),
            expected=self.scaler.expand(expected, self.w).cpu().numpy(),
            spread=self.tensors["spread"].cpu().numpy(),
        )

    @classmethod
    def fit(cls, x: Tensor, held: Tensor, options: Options, progress: Progress) -> Fitted:
        """Adam on shuffled batches of the earlier rows, stopped by the later ones; keeps the best epoch."""
        _, w, f = x.shape
        architecture = {"w": w, "f": f, "hidden": list(options.hidden), **cls.extra(options)}
        generator = torch.Generator().manual_seed(options.seed)
        weights = _initial(cls.weight_shapes(architecture), generator)
        scaler = Scaler.learn(x.numpy())
        unset = {"calibration": torch.tensor([0.0, 1.0]), "spread": torch.ones(f)}
        model = cls(architecture, scaler.tensors() | unset | weights)
        optimiser = torch.optim.Adam(weights.values(), lr=LEARNING_RATE)
        best, best_loss, curve = {name: t.detach() for name, t in weights.items()}, float("inf"), []
        for epoch in range(options.epochs):
            total = 0.0
            order = torch.randperm(len(x), generator=generator)
            for rows in blocks(order):
                batch = x[rows]
                target = scaler.squash(batch)
                present = (batch == batch).reshape(target.shape)
                share = present * model.weight
                share = share / share.sum(1, keepdim=True).clamp(min=1e-30)
                shown = torch.rand(target.shape, generator=generator) >= HIDE
                optimiser.zero_grad()
                loss, error = model.loss(target * shown, target, share, 1.0 if epoch == 0 else 1.0 - TRIM, generator)
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(weights.values(), 5.0)
                optimiser.step()
                total += float(error.detach()) * len(rows)
            held_loss = _typical(model._errors(held))
            curve.append((total / len(x), held_loss))
            progress(epoch, *curve[-1])
            if held_loss < best_loss:
                best, best_loss = {name: tensor.detach().clone() for name, tensor in weights.items()}, held_loss
            elif min(loss for _, loss in curve[-PATIENCE:]) > best_loss:
                break
        tensors = scaler.tensors() | unset | best
        model = cls(architecture, tensors)
        tensors |= model.finish(held)
        model = cls(architecture, tensors)
        tensors["calibration"] = Calibration.learn(model._errors(held)).constants
        tensors["spread"] = model._spread(held)
        zero = torch.zeros(1)
        baseline = [
            row_error(rows, z := scaler.squash(rows), zero.expand_as(z).contiguous(), model.weight)
            for rows in blocks(held)
        ]
        return Fitted(architecture, tensors, tuple(curve), best_loss, _typical(torch.cat(baseline)))

    @torch.inference_mode()
    def _errors(self, x: Tensor) -> Tensor:
        return torch.cat([self.error(rows, self.scaler.squash(rows)) for rows in blocks(x)])

    @torch.inference_mode()
    def _spread(self, x: Tensor) -> Tensor:
        """[f] of observed less expected at the newest lag."""
        parts = [
            rows[:, -1] - self.scaler.expand(self.reconstruct(self.scaler.squash(rows)), self.w)[:, -1]
            for rows in blocks(x)
        ]
        spread = torch.from_numpy(robust_spread(torch.cat(parts).numpy()))
        floor = 1e-3 * self.scaler.spread
        return torch.where(spread.isfinite(), torch.maximum(spread, floor), self.scaler.spread)


def trimmed_mean(error: Tensor, keep: float) -> Tensor:
    """Mean of the smallest `keep` of the rows."""
    count = max(1, round(len(error) * keep))
    return (error if count == len(error) else error.topk(count, largest=False, sorted=False).values).mean()


def _typical(error: Tensor) -> float:
    """Held-back loss, trimmed as the training loss: the held-back time has anomalies too."""
    return float(trimmed_mean(error, 1.0 - TRIM))


def _initial(shapes: Mapping[str, tuple[int, ...]], generator: torch.Generator) -> dict[str, Tensor]:
    """He's uniform initialisation for weights, zero for biases."""
    weights = {}
    for name, shape in shapes.items():
        tensor = torch.zeros(shape)
        if len(shape) == 2:
            bound = (3.0 / shape[1]) ** 0.5
            tensor.uniform_(-bound, bound, generator=generator)
        weights[name] = tensor.requires_grad_()
    return weights
