"""The buffer protocol of slices and arrays of numbers, from the contract: no copies.

What the buffer of arrays of arrays looks like (one dimension or two), and whether bool_
has one, is left open.
"""

from __future__ import annotations

import array
import ctypes
import gc
import hashlib
import io
import os
import socket
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

from goroutines.memory import (
    Array,
    Slice,
    append,
    array_of,
    byte,
    cap,
    clear,
    copy,
    float64,
    int32,
    int64,
    make,
    new,
    slice_of,
    string,
)

from .tools import FLOATS, INTS, SIZES, every_number, numbers, typed

FORMATS = {**{k: v[1] for k, v in INTS.items()}, **{k: v[1] for k, v in FLOATS.items()}}


@every_number
def test_memoryview(name: str) -> None:
    """A memoryview has the type's format, the slice's length, and writes through."""
    s = make(Slice[typed(name)], 3, 10)
    view = memoryview(s)
    assert view.format in [*FORMATS[name]]
    assert (view.itemsize, view.nbytes) == (SIZES[name], 3 * SIZES[name])
    assert (view.ndim, view.shape, view.strides) == (1, (3,), (SIZES[name],))
    assert not view.readonly
    assert view.c_contiguous
    view[1] = 5
    assert s[1] == 5
    s[2] = 7
    assert view.tolist() == [0, 5, 7]


@every_number
def test_memoryview_of_an_array(name: str) -> None:
    """Arrays have buffers too."""
    a = array_of(typed(name), 1, 2, 3)
    view = memoryview(a)
    assert view.tolist() == [1, 2, 3]
    assert view.itemsize == SIZES[name]
    view[0] = 9
    assert a[0] == 9


def test_only_the_slice() -> None:
    """The buffer is what lies between 0 and len of the slice, not its array."""
    s = numbers(10)
    view = memoryview(s[3:5])
    assert view.tolist() == [3, 4]
    view[0] = 30
    assert s[3] == 30
    with pytest.raises(IndexError):
        view[2]


def test_empty() -> None:
    """An empty slice has an empty buffer, wherever it lies."""
    for s in (make(Slice[byte], 0), make(Slice[byte], 0, 5), slice_of(byte, 1, 2)[2:]):
        assert memoryview(s).nbytes == 0
        assert bytes(s) == b""
        assert memoryview(s) == b""


def test_bytes() -> None:
    """bytes, bytearray, join, int.from_bytes and hash functions read it."""
    s = slice_of(byte, *b"abc")
    assert bytes(s) == bytearray(s) == b"abc"
    assert b"-".join([s, s[1:]]) == b"abc-bc"
    assert int.from_bytes(s, "big") == 0x616263
    assert hashlib.sha256(s).digest() == hashlib.sha256(b"abc").digest()
    assert zlib.crc32(s) == zlib.crc32(b"abc")
    data = bytearray(b"xy")
    data += s[:2]
    assert data == b"xyab"


def test_byte_order() -> None:
    """The bytes of numbers are the machine's."""
    assert bytes(slice_of(int32, 1, -2)) == struct.pack("=ii", 1, -2)
    assert bytes(slice_of(float64, 0.1)) == struct.pack("=d", 0.1)


def test_struct() -> None:
    """struct packs into a slice and unpacks from it."""
    s = make(Slice[byte], 16)
    struct.pack_into("<Ihd", s, 1, 7, -2, 0.5)
    assert struct.unpack_from("<Ihd", s, 1) == (7, -2, 0.5)
    with pytest.raises(struct.error):
        struct.pack_into("<q", s[:7], 0, 1)
    assert struct.unpack("<I", s[1:5]) == (7,)


def test_array_array() -> None:
    """array.array and slices exchange their elements through buffers."""
    s = slice_of(int64, 1, 2, 3)
    a = array.array("q")
    a.frombytes(memoryview(s).cast("B"))
    assert a.tolist() == [1, 2, 3]
    a[1] = 20
    memoryview(s).cast("B")[:] = memoryview(a).cast("B")
    assert list(s) == [1, 20, 3]
    assert array.array("q", s).tolist() == [1, 20, 3]


def test_ctypes() -> None:
    """ctypes sees the memory itself."""
    s = slice_of(int64, 1, 2, 3)
    there = (ctypes.c_int64 * 3).from_buffer(s)
    there[1] = 20
    assert list(s) == [1, 20, 3]
    s[2] = 30
    assert there[2] == 30


def test_slices_share_one_memory() -> None:
    """The addresses of slices of one array differ by their offsets."""
    s = make(Slice[int64], 10)

    def address(x: Any) -> int:
        return ctypes.addressof(ctypes.c_char.from_buffer(x))

    assert address(s[3:]) - address(s) == 24
    assert address(append(s[:2], 1)) == address(s)
    assert address(s) % 8 == 0
    assert address(make(Slice[byte], 1 << 20)) % 8 == 0


def test_read_into(tmp_path: Path) -> None:
    """readinto fills exactly the slice that it is given."""
    path = tmp_path / "data"
    path.write_bytes(b"0123456789")
    s = make(Slice[byte], 10)
    with path.open("rb") as file:
        assert file.readinto(s[2:5]) == 3
        assert file.readinto(s[8:]) == 2
    assert bytes(s) == b"\0\x00012\0\0\x0034"
    with path.open("rb", buffering=0) as raw:
        assert raw.readinto(s) == 10
    assert bytes(s) == b"0123456789"
    assert io.BytesIO(b"abc").readinto(s[:2]) == 2
    assert bytes(s[:3]) == b"ab2"


def test_write(tmp_path: Path) -> None:
    """Files and pipes write a slice as it is."""
    path = tmp_path / "data"
    path.write_bytes(slice_of(byte, *b"hello")[1:])
    with path.open("ab") as file:
        assert file.write(slice_of(int32, 1)) == 4
    assert path.read_bytes() == b"ello" + struct.pack("=i", 1)
    r, w = os.pipe()
    assert os.write(w, slice_of(byte, *b"xy")) == 2
    s = make(Slice[byte], 5)
    assert os.readv(r, [s[1:2], s[3:]]) == 2
    assert bytes(s) == b"\0x\0y\0"
    os.close(r)
    os.close(w)


def test_sockets() -> None:
    """recv_into and sendall work on slices."""
    a, b = socket.socketpair()
    with a, b:
        a.sendall(slice_of(byte, *b"hello world")[:5])
        s = make(Slice[byte], 3, 8)
        assert b.recv_into(s) == 3
        assert bytes(s) == b"hel"
        assert b.recv_into(s[3:8]) == 2
        assert bytes(s[:8]) == b"hello\0\0\0"
        a.sendmsg([slice_of(byte, 1), slice_of(byte, 2)])
        assert b.recvmsg_into([s[:1], s[2:]])[0] == 2
        assert bytes(s) == b"\1e\2"


def test_view_keeps_the_array_alive() -> None:
    """A view outlives every slice."""
    view = memoryview(slice_of(int64, 1, 2, 3)[1:])
    gc.collect()
    junk = [make(Slice[int64], 3) for _ in range(1000)]
    for s in junk:
        s[0] = s[1] = s[2] = -1
    assert view.tolist() == [2, 3]


def test_view_after_append_moved() -> None:
    """After append moved, a view still sees, and changes, the old array."""
    s = slice_of(int64, 1, 2, 3)
    old, view = s, memoryview(s)
    s = append(s, 4)
    s[0] = 100
    assert view.tolist() == [1, 2, 3]
    view[0] = 5
    assert (list(old), list(s)) == ([5, 2, 3], [100, 2, 3, 4])
    del old
    gc.collect()
    view[1] = 6
    assert view.tolist() == [5, 6, 3]


def test_append_under_a_view() -> None:
    """An exported buffer hinders no append, neither in place nor moving."""
    s = make(Slice[byte], 1, 4)
    view = memoryview(s)
    t = append(s, 1, 2)
    assert (len(view), list(t), cap(t)) == (1, [0, 1, 2], 4)
    view[0] = 9
    assert t[0] == 9
    u = append(t, *range(100))
    view[0] = 8
    assert (t[0], u[0]) == (8, 9)
    clear(t)
    assert view[0] == 0


def test_many_moves_under_views() -> None:
    """Every array that append left behind is seen by its own view."""
    s, views = make(Slice[int64], 0), []
    for i in range(2000):
        s = append(s, i)
        views.append(memoryview(s))
    for i, view in enumerate(views):
        assert view[i] == i
        assert len(view) == i + 1
    del s, views[:-1]
    gc.collect()
    assert views[-1].tolist() == list(range(2000))


def test_release() -> None:
    """Releasing a view leaves the slice as it is."""
    s = slice_of(int64, 1, 2)
    for _ in range(1000):
        with memoryview(s) as view:
            assert view[1] == 2
    with pytest.raises(ValueError):
        view[0]
    assert list(s) == [1, 2]


@pytest.mark.parametrize("T", [string, object], ids=["string", "object"])
def test_no_buffer_of_objects(T: Any) -> None:
    """Objects and strings are nobody else's memory."""
    for x in (make(Slice[T], 2), make(Slice[T], 0), new(Array[T, 2]).value):
        with pytest.raises((TypeError, BufferError)):
            memoryview(x)


def test_buffer_of_rows() -> None:
    """Rows of numbers lie one behind the other, if they have a buffer at all."""
    s = slice_of(Array[int64, 2], array_of(int64, 1, 2), array_of(int64, 3, 4))
    row = memoryview(s[1])
    assert row.tolist() == [3, 4]
    row[0] = 30
    assert list(s[1]) == [30, 4]
    try:
        view = memoryview(s)
    except (TypeError, BufferError):
        return
    assert view.nbytes == 32
    assert view.tobytes() == struct.pack("=4q", 1, 2, 30, 4)


def test_buffer_of_rows_of_objects() -> None:
    """Rows of objects have none."""
    with pytest.raises((TypeError, BufferError)):
        memoryview(make(Slice[Array[object, 2]], 2))
    with pytest.raises((TypeError, BufferError)):
        memoryview(make(Slice[Slice[int64]], 2))


def test_copy_through_views() -> None:
    """The other way round: what has a buffer is copied in through a view, overlapping too."""
    s = numbers(6)
    memoryview(s)[1:5] = memoryview(s)[0:4]
    assert list(s) == [0, 0, 1, 2, 3, 5]
    assert copy(s, s[2:]) == 4
    assert list(s) == [1, 2, 3, 5, 3, 5]


def test_buffer_interference() -> None:
    """A buffer that is exported while the owner is collected stays whole."""
    for _ in range(50):
        s: Any = make(Slice[byte], 5000)
        view = memoryview(s)
        holder = [s, view]
        holder.append(holder)
        del s, holder
        gc.collect()
        view[4999] = 1
        assert sum(view) == 1


# --- NumPy ------------------------------------------------------------------------------------


@every_number
def test_numpy(name: str) -> None:
    """NumPy works on the slice's memory, both ways, with the right dtype."""
    np = pytest.importorskip("numpy")
    s = make(Slice[typed(name)], 4, 10)
    a = np.asarray(s)
    assert a.dtype == np.dtype("uint8" if name == "byte" else name)
    assert a.shape == (4,)
    assert a.flags.writeable
    a[:] = [1, 2, 3, 4]
    assert list(s) == [1, 2, 3, 4]
    s[3] = 40
    assert a[3] == 40
    a[1:3] *= 2
    assert list(s) == [1, 4, 6, 40]
    assert np.frombuffer(s, a.dtype).sum() == 51


def test_numpy_outlives() -> None:
    """An ndarray keeps the memory, after the slice has moved or gone."""
    np = pytest.importorskip("numpy")
    s = numbers(3)
    a = np.asarray(s)
    s = append(s, 3)
    s[0] = 100
    del s
    gc.collect()
    junk = [numbers(3) for _ in range(100)]
    assert (a.tolist(), len(junk)) == ([0, 1, 2], 100)


def test_numpy_scalars() -> None:
    """NumPy's numbers are stored like Python's, and index."""
    np = pytest.importorskip("numpy")
    s = make(Slice[int64], 3)
    s[np.int64(1)] = np.int32(5)
    f = slice_of(float64, np.float64(0.5), np.float32(0.25))
    assert (list(s), list(f)) == ([0, 5, 0], [0.5, 0.25])
    with pytest.raises(TypeError):
        s[0] = np.float64(1.5)
    assert list(s[np.int64(1) :]) == [5, 0]


def test_numpy_array_of_arrays() -> None:
    """A slice of rows is either a two-dimensional ndarray or made one by NumPy: equal values."""
    np = pytest.importorskip("numpy")
    s = slice_of(Array[int64, 2], array_of(int64, 1, 2), array_of(int64, 3, 4))
    assert np.array(s).reshape(2, 2).tolist() == [[1, 2], [3, 4]]
