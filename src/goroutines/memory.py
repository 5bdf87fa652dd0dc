"""Go's values and its built-ins for them: new, make, append, copy, cap, clear.

Slices, arrays and maps with typed elements in memory of the runtime's own allocator. A
`Slice` is a window on an array, so slicing shares, and `append` writes in place while there
is room; both as in Go, and so are the lengths, the capacities and what an index out of range
says. Slices and arrays of numbers are buffers: NumPy, ``memoryview``, ``socket.recv_into``
and ``readinto`` use them without a copy.

Names that hide built-ins of Python (`copy` hides none, `len` is Python's own) are those of
Go: import the module, or the names that you need.
"""

from __future__ import annotations

from builtins import len

from goroutines._runtime import (
    Array,
    Map,
    Pointer,
    Slice,
    append,
    array_of,
    bool_,
    byte,
    cap,
    clear,
    copy,
    delete,
    extend,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    make,
    new,
    slice_of,
    string,
    uint8,
    uint16,
    uint32,
    uint64,
)

__all__ = [
    "Array",
    "Map",
    "Pointer",
    "Slice",
    "append",
    "array_of",
    "bool_",
    "byte",
    "cap",
    "clear",
    "copy",
    "delete",
    "extend",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "len",
    "make",
    "new",
    "slice_of",
    "string",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
]
