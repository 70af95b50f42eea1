"""How loops are compiled and kept on disk, and the one instruction numba does not offer.

Many processes may compile at once, be killed, or find the disk full. numba names the file of the code in
the index before it writes it, and asks nobody. Two processes that compile for different types then give
one file two meanings; where the second step is missing, the index names what an earlier version of the
program has left. Such an entry is never found to fit: each call loads it again, and keeps it.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable

LINE_BYTES, MOST_LINES = 64, 16
F = TypeVar("F", bound=Callable[..., Any])


# folders of loops, and of what loops call; with the modules of the package itself they are all that a loop may call
ROOMS = ("codec", "config/feature_kinds", "fold", "score")


def kernel(function: F, fastmath: bool | set[str] = False) -> F:
    """Compiles a loop: without the interpreter's lock, cached on disk, IEEE arithmetic as written (x / 0 = ±inf).

    `fastmath`: the rules of IEEE that may be broken all the same, in LLVM's words.
    """
    compiled: Any = njit(nogil=True, cache=True, error_model="numpy", fastmath=fastmath)(function)
    _keep_apart(compiled._cache)
    return cast(F, compiled)


def read_only(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A view for kernels that write nothing there: numba compiles once for writable memory and once for read-only one,
    and codecs give either."""
    view = np.ascontiguousarray(data).view()
    view.flags.writeable = False
    return view


def _keep_apart(cache: Any) -> None:
    """Gives each code a file of its own. A full disk costs the next start its time; this one has what is compiled."""
    file, save_overload = cache._cache_file, cache.save_overload
    # numba's own stamp is a hash of the loop's file: an edit of what it calls in another file would go unnoticed
    file._source_stamp = (file._source_stamp, _SOURCES)

    def save(key: Any, data: Any) -> None:
        folder = Path(file._cache_path)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            name = file._data_name(uuid.uuid4().int)
            file._save_data(name, data)
            known = {**file._load_index(), key: name}
            file._save_index(known)
            for old in folder.glob(f"{glob.escape(file._index_name.removesuffix('.nbi'))}.*.nbc"):
                if old.name not in known.values():
                    old.unlink(missing_ok=True)

    def saved(*arguments: Any) -> None:
        with contextlib.suppress(OSError):
            save_overload(*arguments)

    file.save, cache.save_overload = save, saved


def _digest() -> bytes:
    package = Path(__file__).parent
    sources = [*package.glob("*.py"), *(path for room in ROOMS for path in (package / room).rglob("*.py"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(sources))).digest()


_SOURCES = _digest()


def called_by_kernels(function: Callable[..., Any]) -> None:
    """Lets kernels call a plain function, which stays as it is for everybody else."""
    register_jitable(error_model="numpy")(function)


def inlined(function: F) -> F:
    """Compiles a part of kernels: it is copied into each that calls it, and cached with that one."""
    return cast(F, njit(nogil=True, error_model="numpy", forceinline=True)(function))


def inlined_text(text: str, name: str, names: dict[str, Any]) -> Callable[..., Any]:
    """As `inlined`, for the function `name` that `text` defines from `names`: a program that follows a table."""
    exec(text, names)
    function: Callable[..., Any] = inlined(names[name])
    return function


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
