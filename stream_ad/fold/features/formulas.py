"""The formulas of the feature kinds, compiled: one function for each state, with a branch for each formula.

This module makes the text of these functions from the table of kinds when it is imported, so no kind can be left out.
Functions without a file are not cached, but the loop that they are inlined into is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from stream_ad.config.feature_kinds import BY_FEATURE
from stream_ad.config.feature_kinds.given import FORMULAS
from stream_ad.config.feature_kinds.row import State
from stream_ad.kernel import called_by_kernels, inlined_text

NUMBER = {feature: number for number, feature in enumerate(BY_FEATURE)}  # of the branch
AROUND: dict[str, Callable[[float], float]] = {"": float, "_sin": math.sin, "_cos": math.cos}

for function in FORMULAS:
    called_by_kernels(function)


def computed(*states: State) -> Callable[..., Any]:
    """(number, what goes with the states, parameter) -> the feature."""
    names: dict[str, Any] = {"nan": math.nan}
    lines = ["def computed(number, given, parameter):"]
    for (of, feature), kind in BY_FEATURE.items():
        if kind.state in states:
            n = NUMBER[of, feature]
            names |= {f"formula{n}": kind.formula, f"around{n}": AROUND[feature.removeprefix(kind.name)]}
            arguments = "given, parameter" if kind.takes_parameter else "given"
            lines += [f"    if number == {n}:", f"        return around{n}(formula{n}({arguments}))"]
    return inlined_text("\n".join([*lines, "    return nan"]), "computed", names)
