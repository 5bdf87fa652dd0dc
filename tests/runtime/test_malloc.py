"""The allocator: sizes, zeros, reuse, threads, fork, and memory that goes back to the system.

Where a test reads or writes the memory of a block it does so through ctypes: the functions of
the core give addresses.
"""

from __future__ import annotations

import ctypes
import gc
import os
import random
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from goroutines import _runtime, runtime

from ..conftest import Finished, run_program, scaled, until

KIB, MIB = 1024, 1024 * 1024
PAGE = 8 * KIB
MAX_SMALL = 32 * KIB
# The first and the last size of several classes, and what is a run of pages.
SIZES = [0, 1, 8, 9, 16, 17, 24, 25, 63, 64, 65, 511, 512, 513, 1024, 1025, 4096, 9000, 32767,
         32768, 32769, 65536, 65537, MIB - 1, MIB, 3 * MIB + 5]  # fmt: skip

ASAN = "libasan" in os.environ.get("LD_PRELOAD", "")
SHOWS_RSS = pytest.mark.skipif(
    ASAN or not Path("/proc/self/statm").exists(),
    reason="needs /proc and no ASan",
)


def allocated(size: int, zero: bool = True) -> int:
    """Return the address of a new block."""
    address = _runtime._debug_mem_alloc(size, zero)
    assert address is not None
    return address


def usable(address: int) -> int:
    return _runtime._debug_mem_usable(address)


def fill(address: int, byte: int) -> None:
    ctypes.memset(address, byte, usable(address))


def content(address: int) -> bytes:
    return ctypes.string_at(address, usable(address))


def in_threads(n: int, fn: Callable[[int], None]) -> None:
    """Run fn(0) to fn(n - 1) in threads of their own; what one raises is raised here."""
    errors: list[BaseException] = []

    def guarded(i: int) -> None:
        try:
            fn(i)
        except BaseException as e:  # noqa: BLE001 - raised below
            errors.append(e)

    threads = [threading.Thread(target=guarded, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.fixture(autouse=True)
def heap_is_sound() -> Iterator[None]:
    """Look at the whole heap after each test, which must have freed what it allocated."""
    gc.collect()  # what tests of the values left
    before = runtime.read_mem_stats().heap_objects
    yield
    _runtime._debug_heap_check()
    assert runtime.read_mem_stats().heap_objects == before


# ---- sizes ----------------------------------------------------------------------------------


def test_sizes_waste_a_sixth_at_most() -> None:
    """A block is little larger than asked for, mostly by less than an eighth."""
    waste = []
    for size in range(1, MAX_SMALL + 1):
        rounded = _runtime._debug_mem_round(size)
        assert size <= rounded <= MAX_SMALL
        assert rounded - size <= max(15, rounded // 6)
        waste.append((rounded - size) / rounded)
    assert sum(waste) / len(waste) < 1 / 16


def test_sizes_are_those_that_a_slice_grows_to() -> None:
    """cap() of a slice shows the classes, so they are Go's; beyond, pages."""
    sizes = [s.size for s in runtime.read_mem_stats().by_size]
    assert sizes == sorted(set(sizes))
    assert sizes[:12] == [8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 144, 160]
    assert {416, 704, 896, 1408, 2688, 3200, 4864, 6784, 9472, 13568, 27264} <= set(sizes)
    assert (len(sizes), sizes[-1]) == (67, MAX_SMALL)
    assert _runtime._debug_mem_round(MAX_SMALL + 1) == 5 * PAGE
    assert _runtime._debug_mem_round(MIB) == MIB
    assert _runtime._debug_mem_round(2**62 + 1) >= 2**62 + 1


@pytest.mark.parametrize("size", SIZES)
def test_a_block_has_the_size_that_was_told(size: int) -> None:
    """usable() is what round() said, and all of it can be written."""
    address = allocated(size)
    assert usable(address) == _runtime._debug_mem_round(size) >= max(size, 1)
    fill(address, 0xA5)
    assert content(address) == b"\xa5" * usable(address)
    _runtime._debug_mem_free(address)


def test_alignment() -> None:
    """16 bytes from 16 up but for blocks of 24; 64 from 481 up and for multiples of 64."""
    for size in [*range(1, 2000), *range(2000, 70_000, 911)]:
        addresses = [allocated(size) for _ in range(3)]
        block = usable(addresses[0])
        align = 64 if size > 480 or block % 64 == 0 else 32 if size > 240 else 16
        align = 8 if block in (8, 24) else align
        assert [a % align for a in addresses] == [0, 0, 0]
        for address in addresses:
            _runtime._debug_mem_free(address)


def test_absurd_sizes_are_refused() -> None:
    """What no machine has is None, and leaves the heap as it was."""
    before = runtime.read_mem_stats()
    for size in (2**46, 2**47 - 1, 2**48, 2**62, sys.maxsize):
        assert _runtime._debug_mem_alloc(size) is None
        assert _runtime._debug_mem_alloc(size, False) is None
    after = runtime.read_mem_stats()
    assert (after.mallocs, after.heap_sys) == (before.mallocs, before.heap_sys)


def test_a_block_larger_than_an_arena() -> None:
    """It may span several of the heap's mappings, and its neighbours stay whole."""
    small = [allocated(40 * KIB) for _ in range(20)]
    large = [allocated(size) for size in (63 * MIB, 150 * MIB, 64 * MIB)]
    for address in large:
        end = address + usable(address)
        for place in {address, min(address + 64 * MIB, end - 1), end - 1}:
            assert ctypes.string_at(place, 1) == b"\0"
            ctypes.memset(place, 0xEE, 1)
    _runtime._debug_heap_check()
    assert not any(any(content(address)) for address in small)
    for address in large + small:
        _runtime._debug_mem_free(address)
    again = allocated(270 * MIB)
    assert ctypes.string_at(again, MIB) == bytes(MIB)
    _runtime._debug_mem_free(again)


@pytest.mark.skipif(ASAN, reason="ASan needs more address space than that")
def test_out_of_memory() -> None:
    """Without address space there are no blocks; what was freed can be had again."""
    program = """\
    import resource
    from pathlib import Path
    from goroutines import _runtime as r

    used = next(int(line.split()[1]) * 1024 for line in
                Path("/proc/self/status").read_text().splitlines() if line.startswith("VmSize"))
    resource.setrlimit(resource.RLIMIT_AS, (used + 300 * 2**20, resource.RLIM_INFINITY))
    for size in (2**20, 30_000, 5 * 10**6, 200):
        count = 0
        blocks = []
        while count < 300_000 and (a := r._debug_mem_alloc(size)) is not None:
            blocks.append(a)
            count += 1
        assert blocks, size
        assert size < 1000 or count < 300_000
        r._debug_heap_check()
        for a in blocks:
            r._debug_mem_free(a)
        r._debug_heap_check()
    print("ok")
    """
    done = run_program(textwrap.dedent(program))
    assert (done.returncode, done.stdout) == (0, "ok\n"), done


def test_freeing_nothing() -> None:
    """NULL may be freed."""
    _runtime._debug_mem_free(0)


# ---- zeros, and who has which memory --------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_memory_is_zero_when_used_again(size: int) -> None:
    """What was written to a block before does not show in the next one."""
    for _ in range(3):
        blocks = [allocated(size) for _ in range(5)]
        for address in blocks:
            assert content(address).count(0) == usable(address)
            fill(address, 0xFF)
        for address in blocks:
            _runtime._debug_mem_free(address)


def test_memory_that_came_back_from_the_system_is_zero() -> None:
    """Runs of pages of which the system took some are zero in all their parts."""
    for _ in range(3):
        blocks = [allocated(size) for size in (MIB, 5 * MIB, 40 * KIB, 9 * MIB)]
        for address in blocks:
            assert not any(content(address))
            fill(address, 0xFF)
        for address in blocks:
            _runtime._debug_mem_free(address)
        _runtime._debug_mem_trim()
        one = allocated(12 * MIB)
        assert not any(content(one))
        fill(one, 0xFF)
        _runtime._debug_mem_free(one)


@pytest.mark.parametrize("size", [1000, 64 * KIB, 100 * KIB, MIB, 3 * MIB])
def test_what_was_not_written_to_is_not_zeroed_again(size: int) -> None:
    """Who frees may say from where on a block is zero; the next one is zero all the same."""
    for written in (0, 1, 8 * KIB, 8 * KIB + 1, size // 2, size):
        address = allocated(size)
        ctypes.memset(address, 0xFF, min(written, size))
        _runtime._debug_mem_free(address, written)
        beside = allocated(size // 2)
        assert not any(content(beside))
        address = allocated(size)
        assert not any(content(address))
        fill(address, 0xFF)
        _runtime._debug_mem_free(beside, 0)
        _runtime._debug_mem_free(address)


def random_size(rng: random.Random) -> int:
    """Mostly small, now and then some megabytes."""
    return rng.randrange(1 << rng.randrange(1, 23 if rng.random() < 0.02 else 15))


def play(rng: random.Random, rounds: int) -> None:
    """Allocate and free at random; each block must keep what was written to it."""
    alive: dict[int, tuple[int, int]] = {}
    for _ in range(rounds):
        if alive and rng.random() < 0.49:
            address = rng.choice(list(alive))
            byte, size = alive.pop(address)
            assert content(address) == bytes([byte]) * size
            _runtime._debug_mem_free(address)
        else:
            zero = rng.random() < 0.7
            address = allocated(random_size(rng), zero)
            size = usable(address)
            if zero:
                assert not any(content(address))
            byte = rng.randrange(1, 256)
            fill(address, byte)
            alive[address] = (byte, size)
    for address, (byte, size) in alive.items():
        assert content(address) == bytes([byte]) * size
        _runtime._debug_mem_free(address)


@pytest.mark.parametrize("seed", range(4))
def test_random_use_against_a_model(seed: int) -> None:
    """No two blocks overlap, zeros are zeros, and the heap is sound at any time."""
    rng = random.Random(seed)
    for _ in range(5):
        play(rng, scaled(600))
        _runtime._debug_heap_check()
        if rng.random() < 0.5:
            _runtime._debug_mem_trim()


# ---- threads --------------------------------------------------------------------------------


def test_threads_at_random() -> None:
    """Several threads allocate and free at once, while another looks at the heap."""
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            _runtime._debug_heap_check()
            _runtime._debug_mem_trim()

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        in_threads(4, lambda i: play(random.Random(i), scaled(500)))
    finally:
        over.set()
        watcher.join()


def test_blocks_freed_by_another_thread() -> None:
    """What one thread allocates another may free, and use again."""
    blocks: list[int] = [allocated(size) for size in SIZES for _ in range(200 if size < MIB else 2)]
    in_threads(1, lambda _: [_runtime._debug_mem_free(a) for a in blocks] and None)
    made: list[int] = []
    in_threads(3, lambda _: made.extend(allocated(200) for _ in range(500)))
    assert len(set(made)) == 1500
    for address in made:
        _runtime._debug_mem_free(address)


def test_a_thread_that_ends_gives_its_cache_back() -> None:
    """Nothing is lost in the caches of many short threads."""

    def use(_: int) -> None:
        for address in [allocated(s) for s in (8, 100, 1000, 10_000, 30_000) for _ in range(20)]:
            fill(address, 1)
            _runtime._debug_mem_free(address)

    def all_given_back() -> bool:
        stats = runtime.read_mem_stats()
        return stats.heap_inuse <= before.heap_inuse and stats.mcache_inuse <= before.mcache_inuse

    use(0)
    _runtime._debug_mem_trim()
    before = runtime.read_mem_stats()
    for _ in range(10):
        in_threads(8, use)
    until(all_given_back, "the end of the threads, which comes after join")


# ---- fork -----------------------------------------------------------------------------------


def test_fork_while_threads_allocate() -> None:
    """The child has a sound heap and can use it, whatever other threads were doing."""
    program = """\
    import os, threading, random
    from goroutines import _runtime as r
    over = threading.Event()

    def work(seed):
        rng = random.Random(seed)
        mine = []
        while not over.is_set():
            mine.append(r._debug_mem_alloc(rng.randrange(1 << rng.randrange(1, 18))))
            if len(mine) > 50:
                for a in mine:
                    r._debug_mem_free(a)
                mine.clear()
        for a in mine:
            r._debug_mem_free(a)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for t in threads:
        t.start()
    for _ in range(20):
        pid = os.fork()
        if pid == 0:
            try:
                r._debug_heap_check()
                work_of_child = [r._debug_mem_alloc(n) for n in range(0, 100_000, 997)]
                for a in work_of_child:
                    r._debug_mem_free(a)
                r._debug_mem_trim()
                r._debug_heap_check()
                os._exit(0)
            except BaseException as e:
                print(e, flush=True)
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    over.set()
    for t in threads:
        t.join()
    r._debug_heap_check()
    print("ok")
    """
    done = run_program(textwrap.dedent(program), flags=["-W", "ignore"])
    assert (done.returncode, done.stdout) == (0, "ok\n"), done


# ---- giving memory back ---------------------------------------------------------------------


def test_freed_memory_goes_back() -> None:
    """Of what was freed little stays beside a tenth of what is in use."""
    stays = allocated(20 * MIB)
    before = runtime.read_mem_stats()
    rng = random.Random(1)
    blocks = [allocated(1 << rng.randrange(4, 21)) for _ in range(2000)]
    full = runtime.read_mem_stats()
    for address in blocks:
        fill(address, 1)
    rng.shuffle(blocks)
    for address in blocks:
        _runtime._debug_mem_free(address)
    after = runtime.read_mem_stats()
    assert full.heap_inuse > before.heap_inuse + 20 * MIB
    assert after.heap_inuse < before.heap_inuse + 3 * MIB
    assert after.heap_idle - after.heap_released <= after.heap_inuse // 10 + MIB
    _runtime._debug_mem_free(stays)


@SHOWS_RSS
def test_memory_in_use_falls_back() -> None:
    """The process is about as small after freeing 256 MiB of mixed sizes as it was before."""
    program = """\
    import ctypes, random
    from pathlib import Path
    from goroutines import _runtime as r

    def rss():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    rng = random.Random(7)
    sizes = [1 << rng.randrange(4, 21) for _ in range(3000)]
    blocks = [None] * len(sizes)
    before = rss()
    for _ in range(2):
        for i, size in enumerate(sizes):
            blocks[i] = r._debug_mem_alloc(size)
            ctypes.memset(blocks[i], 1, size)
        full = rss()
        rng.shuffle(blocks)
        for a in blocks:
            r._debug_mem_free(a)
        after = rss()
        assert full > before + 200 * 2**20, (before, full)
        assert after < before + 3 * 2**20, (before, after)
    print("ok")
    """
    done = run_program(textwrap.dedent(program))
    assert (done.returncode, done.stdout) == (0, "ok\n"), done


def test_a_loop_keeps_its_memory() -> None:
    """Who allocates and frees the same again has no page faults for it."""
    _runtime._debug_mem_trim()
    released = []
    for _ in range(5):
        address = allocated(8 * MIB)
        fill(address, 1)
        _runtime._debug_mem_free(address)
        stats = runtime.read_mem_stats()
        released.append(stats.heap_released)
    assert released[-1] == released[-2] == released[-3]
    assert stats.heap_idle - stats.heap_released >= 8 * MIB


def test_a_collection_gives_memory_back() -> None:
    """runtime.gc empties caches and forgets, in some rounds, what loops used."""
    for address in [allocated(n) for n in range(8, 30_000, 8)]:
        _runtime._debug_mem_free(address)
    for _ in range(3):
        _runtime._debug_mem_free(allocated(8 * MIB))
    for _ in range(16):
        runtime.gc()
    stats = runtime.read_mem_stats()
    assert stats.heap_idle - stats.heap_released <= stats.heap_inuse // 10 + 16 * KIB


# ---- mistakes of those who use it -----------------------------------------------------------


def misused(body: str, check: bool = True) -> Finished:
    program = f"from goroutines._runtime import *\nimport ctypes\n{textwrap.dedent(body)}"
    prelude = "from goroutines._runtime import _debug_mem_alloc as alloc, _debug_mem_free as free\n"
    return run_program(prelude + program, env={"GODEBUG": f"malloccheck={int(check)}"})


def assert_dies(done: Finished, what: str) -> None:
    assert done.returncode != 0
    assert what in done.stderr or (ASAN and "use-after-poison" in done.stderr)


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("size", [100, 100_000])
def test_freeing_twice_ends_the_process(check: bool, size: int) -> None:
    """At once, whether blocks are checked or not."""
    done = misused(f"a = alloc({size}); free(a); free(a)", check)
    assert_dies(done, "freed twice")


@pytest.mark.parametrize("check", [True, False])
def test_freeing_a_foreign_address_ends_the_process(check: bool) -> None:
    """What was never allocated here is not put into a list."""
    done = misused("b = ctypes.create_string_buffer(500); free(ctypes.addressof(b) & ~63)", check)
    assert_dies(done, "never allocated here")


@pytest.mark.parametrize("where", ["a - 1", "a + 112", "a + 143", "a - 24"])
def test_writing_beside_a_block_is_found(where: str) -> None:
    """The red zones before and behind a block are looked at when it is freed."""
    done = misused(f"a = alloc(100); ctypes.memset({where}, 1, 1); free(a)")
    assert_dies(done, "somebody wrote beyond the end of a block, or before it")


def test_writing_after_free_is_found() -> None:
    """The poison of a freed block must be there when its place is used again."""
    done = misused("a = alloc(100); free(a); ctypes.memset(a + 50, 1, 1); alloc(100)")
    assert_dies(done, "written to after it was freed")


def test_a_block_that_is_not_as_clean_as_said_is_found() -> None:
    """The promise of mem_free_clean is looked at."""
    done = misused("a = alloc(100); ctypes.memset(a + 50, 1, 1); free(a, 51); print('ok')")
    assert (done.returncode, done.stdout) == (0, "ok\n"), done
    done = misused("a = alloc(100); ctypes.memset(a + 50, 1, 1); free(a, 50)")
    assert_dies(done, "not zero where it was said to be")


def test_checked_blocks_work() -> None:
    """With red zones everything else is the same."""
    done = misused(
        """\
        import random
        rng = random.Random(3)
        alive = {}
        for _ in range(3000):
            if alive and rng.random() < 0.5:
                a, size = alive.popitem()
                assert ctypes.string_at(a, size) == b"x" * size
                free(a)
            else:
                size = rng.randrange(1 << rng.randrange(1, 18))
                a = alloc(size)
                assert ctypes.string_at(a, size) == bytes(size)
                ctypes.memset(a, ord("x"), size)
                alive[a] = size
        assert alloc(2**62) is None
        from goroutines import _runtime
        _runtime._debug_mem_trim()
        _runtime._debug_heap_check()
        print("ok")
        """
    )
    assert (done.returncode, done.stdout) == (0, "ok\n"), done
