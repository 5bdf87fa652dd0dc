/* SPDX-License-Identifier: MIT
 *
 * malloc.h: the face of the allocator (malloc.c, mheap.c).
 *
 * Any thread may call these, with or without the GIL, attached to Python or
 * not; they never call Python, never set an exception and never switch.
 */
#ifndef GOROUTINES_MALLOC_H
#define GOROUTINES_MALLOC_H

#include "runtime.h"

/* A block of at least `size` bytes, or NULL: the system has no more.  With `zero` all
 * mem_usable() bytes of it are 0.  A size of 0 gives a block of its own too.
 *
 * Alignment follows from Go's sizes: 16 bytes from 16 bytes up (but 8 for 17 to 24 bytes, a
 * block of 24), 32 from 241 up, 64 from 481 up and for every block whose size is a multiple
 * of 64. */
HIDDEN void *mem_alloc(size_t size, bool zero);

/* From any thread, not only the one that allocated.  NULL is fine. */
HIDDEN void mem_free(void *p);

/* The same by who knows that all bytes from p + dirty on are still zero, as mem_alloc gave
 * them: of a block above 32 KiB they need not be zeroed again. */
HIDDEN void mem_free_clean(void *p, size_t dirty);

/* The size of the block p: mem_round() of what was asked for. */
HIDDEN size_t mem_usable(const void *p);

/* What mem_alloc(size) really gives, Go's roundupsize: an append grows a slice to that. */
HIDDEN size_t mem_round(size_t size);

/* Once, at import, before all others.  -1: the system refused, errno says why. */
HIDDEN int mem_init(void);

/* Take back what the caches of all threads hold, and give the system what is not needed: at
 * the end of a full collection, since its destructors have freed. */
HIDDEN void mem_trim(void);

/* mstats.c: the functions for runtime.py and for tests. */
HIDDEN int mem_add_functions(PyObject *mod);
/* A collection began or ended: counted for read_mem_stats. */
HIDDEN void mem_note_collection(bool start);

#endif
