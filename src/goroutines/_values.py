"""What values look like in text, and how they come back from a pickle.

``repr`` gives what makes such a value, and ``str`` what Go's ``fmt.Println`` prints of it.
"""

from __future__ import annotations

import contextlib
import math
import struct
from typing import Any

from goroutines import _runtime

# As plain objects: what they hold is known when the program runs only.
make: Any = _runtime.make
Map: Any = _runtime.Map
Pointer: Any = _runtime.Pointer
Slice: Any = _runtime.Slice

WHOLE = 100  # elements that a repr shows all
EDGE = 5  # of longer ones: at each end


def represent(value: Any) -> str:
    """Return what makes an equal value; of a long slice or array, its ends."""
    kind = value._type
    if isinstance(value, Pointer):
        return f"<{kind} to {value.value!r}>"
    if isinstance(value, Map):
        return f"{kind}({dict(value.items())!r})"
    n = len(value)
    if n <= WHOLE:
        return f"{kind}({list(value)!r})" if n else f"{kind}()"
    first, last = (
        ", ".join(repr(value[i]) for i in ends) for ends in (range(EDGE), range(n - EDGE, n))
    )
    return f"<{kind} of {n}: [{first}, ..., {last}]>"


def _short(value: float) -> float:
    """Return the shortest decimal that is the same float32, as a float."""
    for digits in range(1, 10):
        short = float(f"{value:.{digits}g}")
        if struct.pack("f", short) == struct.pack("f", value):
            return short
    return value


def _number(value: float) -> str:
    """As Go's %v: the shortest digits, with an exponent below -4 and from 6 on."""
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if math.isnan(value):
        return "NaN"
    exact = repr(value)
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        return exact.removesuffix(".0")
    digits = exact.lstrip("-").partition("e")[0].replace(".", "").strip("0")
    return f"{value:.{len(digits) - 1}e}"


def _text(kind: object, value: object) -> str:
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return _number(_short(value) if kind is _runtime.float32 else value)
    return str(value)


def text(value: Any) -> str:
    """Return what Go prints."""
    args = value._type.__args__
    if isinstance(value, Map):
        items: list[Any] = list(value.items())
        with contextlib.suppress(TypeError):  # keys that have no order stay as they are
            items.sort(key=lambda item: item[0])
        shown = (f"{_text(args[0], k)}:{_text(args[1], v)}" for k, v in items)
        return f"map[{' '.join(shown)}]"
    return f"[{' '.join(_text(args[0], v) for v in value)}]"


def rebuild(kind: Any, n: int, data: bytes = b"") -> Any:
    """Make a value of n elements again, of its bytes if it holds numbers."""
    if kind.__origin__ is Pointer:
        return _runtime.new(kind.__args__[0])
    value: Any = make(kind, n) if kind.__origin__ is Slice else kind()
    if data:
        memoryview(value).cast("B")[:] = data
    return value
