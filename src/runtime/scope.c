/* SPDX-License-Identifier: MIT
 *
 * scope.c: context.scope: a context that ends every wait of a block.
 *
 * A goroutine's scopes are a chain, g->scope the innermost.  The Python side
 * has a context call _cancel() when it is done.  That marks the scope, and if its
 * goroutine waits just then, claims it with WAKE_SCOPE; otherwise the next
 * park_check finds the mark.  As with every waker only one gets the claim: a
 * wait that has succeeded delivers, and the end is told at the next wait.
 *
 * A shield hides the scopes around it.  A goroutine without scopes pays for
 * all this with one look at g->scope for each park.
 *
 * Locks: g->mu guards the chain and the marks of its scopes.  It is a leaf.
 */
#include "runtime.h"

struct Scope {
    PyObject_HEAD
    PyObject *ctx; /* owned: its _error() is what the waits raise */
    G *g;          /* owned: whose block it is, while in it */
    Scope *outer;  /* owned */
    bool shield;
    bool ended;
};

/* The innermost scope that is over and not behind a shield, or NULL. */
static Scope *
ended_scope(G *g)
{
    if (g->insists) {
        return NULL;
    }
    for (Scope *s = g->scope; s != NULL; s = s->shield ? NULL : s->outer) {
        if (s->ended) {
            return s;
        }
    }
    return NULL;
}

bool
scope_ended(G *g)
{
    LOCK(&g->mu);
    bool ended = ended_scope(g) != NULL;
    UNLOCK(&g->mu);
    return ended;
}

/* Raise the error of the scope that ended g's wait; always -1. */
int
scope_raise(G *g)
{
    LOCK(&g->mu);
    Scope *s = ended_scope(g);
    PyObject *ctx = s != NULL ? Py_NewRef(s->ctx) : NULL;
    UNLOCK(&g->mu);
    if (ctx == NULL) {
        throw_("a goroutine was woken for a scope that has not ended");
    }
    PyObject *exc = PyObject_CallMethod(ctx, "_error", NULL);
    if (exc != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
        Py_DECREF(exc);
    }
    Py_DECREF(ctx);
    return -1;
}

/* For waits that must be sat out: no scope and no end of run() cuts them short.
 * Returns what it was, to be put back. */
bool
g_insist(G *g, bool on)
{
    LOCK(&g->mu);
    bool was = g->insists;
    g->insists = on;
    UNLOCK(&g->mu);
    return was;
}

/* A goroutine ends inside of blocks: of a generator that outlives it, say. */
void
scope_drop(G *g)
{
    while (g->scope != NULL) {
        LOCK(&g->mu);
        Scope *s = g->scope;
        g->scope = s->outer;
        s->outer = NULL;
        s->g = NULL;
        UNLOCK(&g->mu);
        Py_DECREF(s);
        Py_DECREF(g);
    }
}

static PyObject *
Scope_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"ctx", "shield", NULL};
    PyObject *ctx;
    int shield = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|p:Scope", names, &ctx, &shield)) {
        return NULL;
    }
    Scope *s = (Scope *)type->tp_alloc(type, 0);
    if (s != NULL) {
        s->ctx = Py_NewRef(ctx);
        s->shield = shield;
    }
    return (PyObject *)s;
}

static PyObject *
Scope_enter(Scope *s, PyObject *unused)
{
    M *m = getm();
    (void)unused;
    if (m == NULL) {
        return NULL;
    }
    G *g = current_g(m);
    if (s->g != NULL) {
        PyErr_Format(PyExc_RuntimeError, "scope of %R is in use already: make one for each block",
                     s->ctx);
        return NULL;
    }
    LOCK(&g->mu);
    s->g = (G *)Py_NewRef((PyObject *)g);
    s->outer = g->scope;
    g->scope = (Scope *)Py_NewRef((PyObject *)s);
    UNLOCK(&g->mu);
    Py_RETURN_NONE;
}

static PyObject *
Scope_exit(Scope *s, PyObject *unused)
{
    M *m = getm();
    (void)unused;
    if (m == NULL) {
        return NULL;
    }
    G *g = current_g(m);
    if (g->scope != s) {
        PyErr_Format(PyExc_RuntimeError,
                     "scope of %R left %s: leave scopes in the goroutine that entered them, the "
                     "innermost first",
                     s->ctx,
                     s->g == NULL ? "twice"
                     : s->g == g  ? "out of order"
                                  : "elsewhere");
        return NULL;
    }
    LOCK(&g->mu);
    g->scope = s->outer;
    s->outer = NULL;
    s->g = NULL;
    UNLOCK(&g->mu);
    Py_DECREF(s);
    Py_DECREF(g);
    Py_RETURN_NONE;
}

/* The context is done: from any thread.  Its children have this method. */
static PyObject *
Scope_cancel(Scope *s, PyObject *end)
{
    (void)end;
    G *g = s->g;
    if (g == NULL) {
        s->ended = true;
        Py_RETURN_NONE;
    }
    Py_INCREF(g);
    LOCK(&g->mu);
    s->ended = true;
    bool woken = s->g == g && ended_scope(g) != NULL && g_claim(g, WAKE_SCOPE);
    UNLOCK(&g->mu);
    if (woken) {
        goready(g);
    }
    Py_DECREF(g);
    Py_RETURN_NONE;
}

static int
Scope_traverse(Scope *s, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(s));
    Py_VISIT(s->ctx);
    return 0;
}

static void
Scope_dealloc(Scope *s)
{
    PyTypeObject *type = Py_TYPE(s);
    PyObject_GC_UnTrack(s);
    Py_CLEAR(s->ctx);
    type->tp_free(s);
    Py_DECREF(type);
}

static PyMethodDef scope_methods[] = {
    METHOD("enter", Scope_enter, METH_NOARGS, PyDoc_STR("The block of this goroutine begins.")),
    METHOD("exit", Scope_exit, METH_NOARGS, PyDoc_STR("The block ends.")),
    METHOD("_cancel", Scope_cancel, METH_O, PyDoc_STR("The context is done: end the waits.")),
    {NULL, NULL, 0, NULL},
};

static PyType_Slot scope_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("Scope(ctx, shield=False)\n--\n\nThe core of context.scope.")},
    {Py_tp_new, Scope_new},
    {Py_tp_traverse, Scope_traverse},
    {Py_tp_dealloc, Scope_dealloc},
    {Py_tp_methods, scope_methods},
    {0, NULL},
};

static PyType_Spec scope_spec = {
    .name = "goroutines._runtime.Scope",
    .basicsize = sizeof(Scope),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = scope_slots,
};

int
scope_add_types(PyObject *mod)
{
    PyObject *type = PyType_FromModuleAndSpec(mod, &scope_spec, NULL);
    if (type == NULL) {
        return -1;
    }
    int r = PyModule_AddObjectRef(mod, "Scope", type);
    Py_DECREF(type);
    return r;
}
