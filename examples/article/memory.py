"""Go's memory, statement for statement: new, make, arrays, slices, maps, reuse.

    python memory.py

Each line is what the Go program prints, lengths and capacities too. The Go statement stands
behind the Python one where they differ.
"""

from __future__ import annotations

from goroutines import sync
from goroutines.memory import (
    Array,
    Map,
    Slice,
    append,
    array_of,
    byte,
    cap,
    clear,
    copy,
    delete,
    int64,
    make,
    new,
    slice_of,
    string,
)


class Point:
    def __init__(self, x: int = 0, y: int = 0) -> None:
        self.x, self.y = x, y


def go_bool(value: bool) -> str:
    return str(value).lower()


def show(name: str, s: Slice[int]) -> None:
    print(f"{name}: len={len(s)} cap={cap(s)} {s}")  # fmt.Printf("%s: len=%d cap=%d %v\n", ...)


def allocation() -> None:
    print("-- new and make")
    p = new(int64)  # p := new(int)
    print(p.value)  # *p: zeroed
    p.value = 42  # *p = 42
    q = p
    q.value += 1  # the same place
    print(p.value, go_bool(p == q))
    points = make(Slice[Point], 2)  # make([]*Point, 2)
    points[0] = Point(1, 2)
    print(points[0].x, go_bool(points[1] is None))
    show("make", make(Slice[int64], 5))
    show("make with cap", make(Slice[int64], 0, 10))


def arrays() -> None:
    print("-- arrays")
    a = Array[int64, 5]()  # var a [5]int
    a[2] = 7
    print(a, len(a), cap(a))
    b = array_of(int64, 1, 2, 3, 4, 5)  # [...]int{1, 2, 3, 4, 5}
    print(b, go_bool(a == b), go_bool(b == array_of(int64, 1, 2, 3, 4, 5)))
    grid = Array[Array[int64, 3], 2]()  # var grid [2][3]int
    grid[1][2] = 9
    print(grid)


def slices() -> None:
    print("-- slices")
    a = array_of(int64, 0, 1, 2, 3, 4, 5, 6, 7)
    s = a[2:5]
    show("a[2:5]", s)
    s[0] = 20  # the array's element
    print(a[2])
    show("s[:6]", s[:6])  # up to cap, beyond len
    show("a[2:5:6]", a[2:5:6])  # three indices: the capacity ends at 6
    try:
        s[3] = 1
    except IndexError as error:  # a panic, which recover() gives
        print("runtime error:", error)
    try:
        s[:7]
    except IndexError as error:
        print("runtime error:", error)


def growth() -> None:
    print("-- append")
    s = Slice[int64]()  # var s []int
    show("nil", s)
    last = -1
    for i in range(2000):
        s = append(s, i)
        if cap(s) != last:
            last = cap(s)
            print(f"len={len(s)} cap={last}")
    whole = slice_of(int64, 1, 2, 3, 4)
    part = append(whole[:2], 30)  # there is room: whole[2] is overwritten
    show("whole", whole)
    part = append(part, 40, 50)  # none left: part moves
    part[0] = 10
    show("whole", whole)
    show("part", part)
    apart = append(whole[:2:2], 99)  # cap 2, so that append must move
    show("apart", apart)
    show("whole", whole)


def copying() -> None:
    print("-- copy")
    src = slice_of(int64, 1, 2, 3, 4, 5)
    dst = make(Slice[int64], 3)
    print(copy(dst, src), dst)
    print(copy(src[1:], src), src)  # overlapping
    buf = make(Slice[byte], 5)
    print(copy(buf, "hello, world"), string(buf))
    clear(dst)
    print(dst)
    src = append(src[:1], *src[2:])  # src = append(src[:1], src[2:]...)
    show("without src[1]", src)


def maps() -> None:
    print("-- maps")
    ages = make(Map[string, int64])  # make(map[string]int)
    ages["ann"] = 31
    ages["bob"] = 27
    ages["eve"] += 1  # from the zero value
    print(ages, len(ages))
    print(ages["nobody"], len(ages))
    age, ok = ages.get_ok("ann")  # age, ok := ages["ann"]
    print(age, go_bool(ok))
    delete(ages, "ann")
    delete(ages, "nobody")
    print(ages)
    clear(ages)
    print(ages, len(ages))


def reuse() -> None:
    print("-- reuse")
    made = 0

    def fresh() -> Slice[int]:
        nonlocal made
        made += 1
        return make(Slice[byte], 0, 4096)

    pool = sync.Pool(fresh)
    for i in range(1000):
        buf = pool.get()
        line = append(buf[:0], *f"request {i}".encode())
        pool.put(line)
    print("buffers made:", made)


def main() -> None:
    allocation()
    arrays()
    slices()
    growth()
    copying()
    maps()
    reuse()


if __name__ == "__main__":
    main()
