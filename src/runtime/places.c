/* SPDX-License-Identifier: MIT
 *
 * places.c: how much of a frame's evaluation stack is in use, up to CPython 3.13.
 *
 * A frame that has called C code keeps its stack pointer in a register.  But how
 * deep the stack is at an instruction is the same each time it is reached, and
 * `_leaks.measure` works it out from the code.  What it said is kept: programs
 * wait at few places.
 *
 * All of this belongs to the one search that is under way (leak.c).  Places are
 * added while no Python code may run, and measured afterwards.
 */
#include "frames.h"

#if PY_VERSION_HEX < 0x030E0000

#define NOT_MEASURED (-2)
#define PLACES_MOST 20000
#define BUCKETS 1024

typedef struct Entry Entry;
struct Entry {
    Place place;
    Entry *next; /* in its bucket */
};

static Entry *buckets[BUCKETS];
static int nplaces;
static bool some_are_new;

static Entry **
bucket_of(const PyCodeObject *code, int lasti)
{
    return &buckets[(((uintptr_t)code >> 4) * 31 + (uintptr_t)lasti) % BUCKETS];
}

/* Where f is; NULL: not measured yet. */
const Place *
place_of(PyFrameData *f)
{
    PyCodeObject *code = frame_code(f);
    int lasti = frame_lasti(f);
    Entry **bucket = bucket_of(code, lasti);
    for (Entry *e = *bucket; e != NULL; e = e->next) {
        if (e->place.code == code && e->place.lasti == lasti) {
            return e->place.slots == NOT_MEASURED ? NULL : &e->place;
        }
    }
    Entry *e = malloc(sizeof(Entry));
    if (e != NULL) {
        Py_INCREF(code);
        e->place = (Place){.code = code, .lasti = lasti, .slots = NOT_MEASURED};
        e->next = *bucket;
        *bucket = e;
        nplaces++;
        some_are_new = true;
    }
    return NULL;
}

static void
measure(Place *p)
{
    int slots = -1, held = 0;
    PyObject *r = PyObject_CallFunction(sched.leak_measure, "Oi", p->code, p->lasti);
    if (r == NULL || !PyArg_ParseTuple(r, "ii", &slots, &held)) {
        PyErr_WriteUnraisable(sched.leak_measure);
        slots = -1;
    }
    Py_XDECREF(r);
    p->held = held;
    p->slots = slots;
}

/* Have Python look at the code of all new places.  Whether there were any. */
bool
places_measure(void)
{
    bool any = some_are_new;
    some_are_new = false;
    for (int i = 0; any && i < BUCKETS; i++) {
        for (Entry *e = buckets[i]; e != NULL; e = e->next) {
            if (e->place.slots == NOT_MEASURED) {
                measure(&e->place);
            }
        }
    }
    return any;
}

/* Forget all if they are very many: of code that is made anew all the time. */
void
places_trim(void)
{
    for (int i = 0; nplaces >= PLACES_MOST && i < BUCKETS; i++) {
        while (buckets[i] != NULL) {
            Entry *e = buckets[i];
            buckets[i] = e->next;
            Py_DECREF(e->place.code);
            free(e);
        }
    }
    nplaces = nplaces >= PLACES_MOST ? 0 : nplaces;
}

#else

const Place *
place_of(PyFrameData *f)
{
    (void)f;
    return NULL; /* frames tell it themselves */
}

bool
places_measure(void)
{
    return false;
}

void
places_trim(void)
{
}

#endif
