"""How the folds' inner loops are compiled, and the one instruction numba does not offer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from stream_ad.compiled import cached

LINE_BYTES, MOST_LINES = 64, 16
F = TypeVar("F", bound=Callable[..., Any])


def _digest() -> bytes:
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).digest()


_SOURCES = _digest()


def kernel(function: F) -> F:
    """Compiles a loop: without the interpreter's lock, cached on disk, IEEE arithmetic as written (x / 0 = ±inf)."""
    compiled: Any = njit(nogil=True, cache=True, error_model="numpy")(function)
    # numba's own stamp is a hash of the loop's file: an edit of what it calls in another file would go unnoticed
    compiled._cache._cache_file._source_stamp = _SOURCES
    return cached(cast(F, compiled))


def _prefetch(typing: Any, array: Any, row: Any) -> Any:
    """Asks for the cache lines of `array[row]`, the first 16 of them; a hint, never a fault, for any `row`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, value=arguments[0])
        stride = cgutils.unpack_tuple(builder, view.strides)[0]
        index = context.cast(builder, arguments[1], signature.args[1], types.intp)
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        address = builder.gep(builder.bitcast(view.data, byte), [builder.mul(index, stride)])
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [byte, word, word, word]), "llvm.prefetch.p0"
        )
        lines = builder.sdiv(builder.add(stride, stride.type(LINE_BYTES - 1)), stride.type(LINE_BYTES))
        few = builder.icmp_signed("<", lines, lines.type(MOST_LINES))
        with cgutils.for_range(builder, builder.select(few, lines, lines.type(MOST_LINES))) as loop:
            line = builder.gep(address, [builder.mul(loop.index, loop.index.type(LINE_BYTES))])
            builder.call(function, [line, word(1), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(array, row), generate


prefetch = intrinsic(_prefetch)
