/* SPDX-License-Identifier: MIT
 *
 * goroutine.c: the Python face of a G.
 *
 * The object is the G.  It is not tracked by the garbage collector: while it
 * lives the runtime itself holds it (it is a root), and when it ends it drops
 * all that it held, so no cycle can run through it.  One that waits for ever is
 * ended by leak.c.
 */
#include "runtime.h"

PyTypeObject *g_type;

#define FREE_GS 256 /* kept by each M for the next go() */

static void
G_dealloc(G *g)
{
    PyTypeObject *type = Py_TYPE(g);
    INVARIANT(g->status == G_DEAD);
    if (g->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)g);
    }
    slice_free(g);
    Py_CLEAR(g->fn);
    Py_CLEAR(g->args);
    Py_CLEAR(g->kwnames);
    Py_CLEAR(g->name);
    Py_CLEAR(g->pending);
    Py_CLEAR(g->birth_code);
    Py_CLEAR(g->ps.context);
    Py_CLEAR(g->waitgroup);
    M *m = tls_m;
    if (m != NULL && m->nfreeg < FREE_GS) {
        g->schedlink = m->freeg;
        m->freeg = g;
        m->nfreeg++;
    }
    else {
        type->tp_free(g);
    }
    Py_DECREF(type);
}

/* ---- attributes --------------------------------------------------------------------- */

const char *
g_state_name(G *g)
{
    static const char *const names[] = {"runnable", "running", "waiting", "dead"};
    return names[g->status];
}

static PyObject *
G_state(G *g, void *unused)
{
    (void)unused;
    return PyUnicode_FromString(g_state_name(g));
}

static PyObject *
G_wait_reason(G *g, void *unused)
{
    (void)unused;
    if (g->status != G_WAITING) {
        Py_RETURN_NONE;
    }
    return PyUnicode_FromString(wait_reason_name[g->reason]);
}

static PyObject *
G_done(G *g, void *unused)
{
    (void)unused;
    return PyBool_FromLong(g->status == G_DEAD);
}

static PyObject *
G_name(G *g, void *unused)
{
    (void)unused;
    LOCK(&g->mu);
    PyObject *name = Py_XNewRef(g->name);
    UNLOCK(&g->mu);
    if (name != NULL) {
        return name;
    }
    if (g == sched.maing) {
        return PyUnicode_FromString("main");
    }
    return PyUnicode_FromFormat("%s %lld", g->thread_main ? "thread" : "goroutine",
                                (long long)g_shown_id(g));
}

static PyObject *
G_get_id(G *g, void *unused)
{
    (void)unused;
    return PyLong_FromLongLong(g_shown_id(g));
}

static int
G_set_name(G *g, PyObject *value, void *unused)
{
    (void)unused;
    if (value == NULL || !PyUnicode_Check(value)) {
        PyErr_Format(PyExc_TypeError, "Goroutine.name must be a str, not %.100s",
                     value == NULL ? "deleted" : Py_TYPE(value)->tp_name);
        return -1;
    }
    LOCK(&g->mu);
    PyObject *old = g->name;
    g->name = Py_NewRef(value);
    UNLOCK(&g->mu);
    Py_XDECREF(old);
    return 0;
}

static int
birth_line(G *g)
{
    return PyCode_Addr2Line((PyCodeObject *)g->birth_code, g->birth_lasti);
}

/* "file:line" of the go() call, or None. */
PyObject *
g_created_by(G *g)
{
    if (g->birth_code == NULL) {
        Py_RETURN_NONE;
    }
    return PyUnicode_FromFormat("%U:%d", ((PyCodeObject *)g->birth_code)->co_filename,
                                birth_line(g));
}

static PyObject *
G_created_by(G *g, void *unused)
{
    (void)unused;
    return g_created_by(g);
}

static PyObject *
G_parent(G *g, void *unused)
{
    (void)unused;
    if (g->birth_code == NULL) {
        Py_RETURN_NONE;
    }
    return Py_BuildValue("OL", ((PyCodeObject *)g->birth_code)->co_qualname,
                         (long long)g->parent_id);
}

static PyObject *
G_repr(G *g)
{
    PyObject *name = G_name(g, NULL);
    if (name == NULL) {
        return NULL;
    }
    bool waits = g->status == G_WAITING;
    PyObject *r = PyUnicode_FromFormat("<Goroutine %lld %R %s%s%s>", (long long)g_shown_id(g), name,
                                       g_state_name(g), waits ? ": " : "",
                                       waits ? wait_reason_name[g->reason] : "");
    Py_DECREF(name);
    return r;
}

/* ---- methods --------------------------------------------------------------------------- */

static PyObject *
G_join(G *g, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"timeout", NULL};
    PyObject *timeout = NULL;
    int64_t ns;
    M *m = getm();
    if (m == NULL || !PyArg_ParseTupleAndKeywords(args, kwargs, "|O:join", names, &timeout) ||
        timeout_arg(timeout, &ns) < 0) {
        return NULL;
    }
    if (g == m->curg) {
        PyErr_Format(PyExc_RuntimeError, "join: %R cannot wait for its own end", g);
        return NULL;
    }
    if (join(m, g, ns, WAIT_JOIN) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Where a goroutine is, innermost first; the codes are owned. */
typedef struct {
    G *g;
    int n, cap;
    struct {
        PyCodeObject *code;
        int lasti;
    } *at;
} Trail;

/* Fill t, from its thread or while that cannot run Python; it allocates no object. */
static int
walk(PyObject *unused, void *arg)
{
    Trail *t = arg;
    G *g = t->g;
    (void)unused;
    if (g->status == G_DEAD || !g->started) {
        return 0;
    }
    PyFrameData *f = g->m->loaded == g ? pystate_current_frame(g->m->ts) : g->ps.frame;
    for (; f != NULL; f = f->previous) {
        if (frame_is_entry(f)) {
            continue;
        }
        if (t->n == t->cap) {
            int cap = 2 * t->cap + 32;
            void *at = realloc(t->at, (size_t)cap * sizeof(*t->at));
            if (at == NULL) {
                break;
            }
            t->at = at;
            t->cap = cap;
        }
        t->at[t->n].code = (PyCodeObject *)Py_NewRef((PyObject *)frame_code(f));
        t->at[t->n++].lasti = frame_lasti(f);
    }
    return 0; /* see no other object */
}

static void
find_trail(Trail *t)
{
#ifdef Py_GIL_DISABLED
    if (t->g->m != tls_m) {
        PyUnstable_GC_VisitObjects(walk, t); /* calls it once, with all threads stopped */
        return;
    }
#endif
    walk(NULL, t);
}

/* [(code, line)], innermost first. */
PyObject *
g_frames(G *g)
{
    Trail t = {.g = g};
    find_trail(&t);
    PyObject *list = PyList_New(t.n);
    for (int i = 0; i < t.n; i++) {
        PyCodeObject *code = t.at[i].code;
        PyObject *item = NULL;
        if (list != NULL) {
            item = Py_BuildValue("Oi", code, PyCode_Addr2Line(code, t.at[i].lasti));
        }
        if (item != NULL) {
            PyList_SET_ITEM(list, i, item);
        }
        else {
            Py_CLEAR(list);
        }
        Py_DECREF(code);
    }
    free(t.at);
    return list;
}

static PyObject *
G_frames(G *g, PyObject *unused)
{
    (void)unused;
    return g_frames(g);
}

static PyGetSetDef g_getset[] = {
    {"id", (getter)G_get_id, NULL, PyDoc_STR("Its number; main is 1."), NULL},
    {"name", (getter)G_name, (setter)G_set_name,
     PyDoc_STR("Its name: \"main\", \"goroutine 7\" or what was set."), NULL},
    {"state", (getter)G_state, NULL,
     PyDoc_STR("\"runnable\", \"running\", \"waiting\" or \"dead\"."), NULL},
    {"wait_reason", (getter)G_wait_reason, NULL,
     PyDoc_STR("What it waits for, in Go's words (\"chan receive\"), or None."), NULL},
    {"done", (getter)G_done, NULL, PyDoc_STR("Whether it has ended."), NULL},
    {"created_by", (getter)G_created_by, NULL,
     PyDoc_STR("\"file:line\" of the go() call; None for main and plain threads."), NULL},
    {"stack_bytes", (getter)g_stack_bytes, NULL,
     PyDoc_STR("Bytes that its C stack and its Python frames take now."), NULL},
    {"_parent", (getter)G_parent, NULL,
     PyDoc_STR("(qualified name of the creating function, creator's id), or None."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef g_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(G, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef g_methods[] = {
    {"join", (PyCFunction)(void (*)(void))G_join, METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("join($self, timeout=None)\n--\n\n"
               "Wait until it has ended; raises nothing of its own.\n\n"
               "Raises TimeoutError when the time (seconds) runs out, RuntimeError when a\n"
               "goroutine joins itself.")},
    {"_frames", (PyCFunction)G_frames, METH_NOARGS,
     PyDoc_STR("_frames($self)\n--\n\n[(code, line), ...] of its stack, innermost first.")},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot g_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("A goroutine, started by go().")},
    {Py_tp_dealloc, G_dealloc},
    {Py_tp_repr, G_repr},
    {Py_tp_getset, g_getset},
    {Py_tp_members, g_members},
    {Py_tp_methods, g_methods},
    {0, NULL},
};

static PyType_Spec g_spec = {
    .name = "goroutines.Goroutine",
    .basicsize = sizeof(G),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = g_slots,
};

int
goroutine_add_type(PyObject *mod)
{
    g_type = (PyTypeObject *)PyType_FromModuleAndSpec(mod, &g_spec, NULL);
    return g_type == NULL ? -1 : PyModule_AddObjectRef(mod, "Goroutine", (PyObject *)g_type);
}

/* ---- all of them -------------------------------------------------------------------------- */

/* A list of main and every goroutine that is not dead, by id. */
PyObject *
all_goroutines(void)
{
    PyObject *list = PyList_New(0);
    if (list == NULL) {
        return NULL;
    }
    int failed = 0;
    if (sched.maing != NULL && sched.maing->thread_main) {
        failed = PyList_Append(list, (PyObject *)sched.maing);
    }
    LOCK_SCHED();
    for (M *m = sched.ms; m != NULL && !failed; m = m->next) {
        LOCK(&m->mu);
        for (G *g = m->allgs; g != NULL && !failed; g = g->allnext) {
            if (!g->system) {
                failed = PyList_Append(list, (PyObject *)g);
            }
        }
        UNLOCK(&m->mu);
    }
    UNLOCK_SCHED();
    if (failed) {
        Py_CLEAR(list);
    }
    return list;
}
