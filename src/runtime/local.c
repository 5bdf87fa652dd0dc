/* SPDX-License-Identifier: MIT
 *
 * local.c: the `threading.local` of patched programs: attributes by goroutine.
 *
 * A local keeps a dictionary for each goroutine that used it, by the
 * goroutine's id.  A goroutine keeps weak references to the locals that it
 * used, and takes its dictionaries out of them when it ends, while it still
 * runs: what they hold may wait in its destructors.  A local that goes first
 * takes all its dictionaries with it.
 *
 * Locks: none of our own.  The dictionaries' keys are ints and the goroutine's
 * list is its alone, so CPython's own locking of dicts is enough.
 */
#include "runtime.h"

typedef struct {
    PyObject_HEAD
    PyObject *dicts; /* {G.id: dict} */
    PyObject *args, *kwargs;
    PyObject *weakrefs;
    int64_t last_id; /* whose dictionary `last` (borrowed) is; 0: nobody's */
    PyObject *last;
} Local;

static PyTypeObject *local_type;

/* Note in g that it has attributes in l. */
static int
remember(G *g, Local *l)
{
    if (g->locals == NULL && (g->locals = PyList_New(0)) == NULL) {
        return -1;
    }
    PyObject *ref = PyWeakref_NewRef((PyObject *)l, NULL);
    int r = ref == NULL ? -1 : PyList_Append(g->locals, ref);
    Py_XDECREF(ref);
    return r;
}

/* A first use in this goroutine: a subclass' __init__ runs again, as in CPython. */
static NOINLINE PyObject *
first_use(Local *l, G *g, PyObject *id)
{
    PyObject *dict = PyDict_New();
    if (dict == NULL || PyDict_SetItem(l->dicts, id, dict) < 0 || remember(g, l) < 0) {
        Py_XDECREF(dict);
        return NULL;
    }
    if (Py_TYPE(l)->tp_init != PyBaseObject_Type.tp_init &&
        Py_TYPE(l)->tp_init((PyObject *)l, l->args, l->kwargs) < 0) {
        PyObject *exc = take_raised();
        PyDict_DelItem(l->dicts, id);
        PyErr_Clear();
        set_raised(exc);
        Py_CLEAR(dict);
    }
    return dict;
}

/* The running goroutine's dictionary: a new reference, or NULL. */
static PyObject *
dict_of(Local *l)
{
    M *m = getm();
    if (m == NULL) {
        return NULL;
    }
    G *g = current_g(m);
#ifndef Py_GIL_DISABLED
    if (LIKELY(l->last_id == g->id)) {
        return Py_NewRef(l->last);
    }
#endif
    PyObject *id = PyLong_FromLongLong(g->id);
    if (id == NULL) {
        return NULL;
    }
    PyObject *dict = Py_XNewRef(PyDict_GetItemWithError(l->dicts, id));
    if (dict == NULL && !PyErr_Occurred()) {
        dict = first_use(l, g, id);
    }
    Py_DECREF(id);
#ifndef Py_GIL_DISABLED
    if (dict != NULL) {
        l->last_id = g->id;
        l->last = dict; /* l->dicts holds it */
    }
#endif
    return dict;
}

/* g, which runs, ends: give up what it has in all locals. */
void
locals_drop(G *g)
{
    PyObject *refs = g->locals;
    g->locals = NULL;
    if (refs == NULL) {
        return;
    }
    PyObject *id = PyLong_FromLongLong(g->id);
    for (Py_ssize_t i = 0; id != NULL && i < PyList_GET_SIZE(refs); i++) {
        Local *l = (Local *)weakref_target(PyList_GET_ITEM(refs, i));
        if (l != NULL) {
            PyObject *dict = Py_XNewRef(PyDict_GetItemWithError(l->dicts, id));
            if (l->last_id == g->id) {
                l->last_id = 0;
            }
            if (dict != NULL && PyDict_DelItem(l->dicts, id) < 0) {
                PyErr_Clear();
            }
            Py_XDECREF(dict);
        }
        Py_XDECREF(l);
    }
    Py_XDECREF(id);
    Py_DECREF(refs);
}

/* ---- the Python type ------------------------------------------------------------------- */

static PyObject *
Local_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    bool has_args = PyTuple_GET_SIZE(args) > 0 || (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0);
    if (has_args && type->tp_init == PyBaseObject_Type.tp_init) {
        PyErr_SetString(PyExc_TypeError, "Initialization arguments are not supported");
        return NULL;
    }
    M *m = getm();
    Local *l = m != NULL ? (Local *)type->tp_alloc(type, 0) : NULL;
    if (l == NULL) {
        return NULL;
    }
    l->args = Py_NewRef(args);
    l->kwargs = Py_XNewRef(kwargs);
    l->dicts = PyDict_New();
    /* The type's call runs __init__ here: no first_use in the maker. */
    PyObject *id = PyLong_FromLongLong(current_g(m)->id), *dict = PyDict_New();
    if (l->dicts == NULL || id == NULL || dict == NULL || PyDict_SetItem(l->dicts, id, dict) < 0 ||
        remember(current_g(m), l) < 0) {
        Py_CLEAR(l);
    }
    Py_XDECREF(id);
    Py_XDECREF(dict);
    return (PyObject *)l;
}

static int
is_dict_name(PyObject *name)
{
    return PyUnicode_Check(name) && PyUnicode_CompareWithASCIIString(name, "__dict__") == 0;
}

static PyObject *
Local_getattro(Local *l, PyObject *name)
{
    PyObject *dict = dict_of(l);
    if (dict == NULL || is_dict_name(name)) {
        return dict;
    }
    PyObject *r = _PyObject_GenericGetAttrWithDict((PyObject *)l, name, dict, 0);
    Py_DECREF(dict);
    return r;
}

static int
Local_setattro(Local *l, PyObject *name, PyObject *value)
{
    if (is_dict_name(name)) {
        PyErr_Format(PyExc_AttributeError, "'%.100s' object attribute '%U' is read-only",
                     Py_TYPE(l)->tp_name, name);
        return -1;
    }
    PyObject *dict = dict_of(l);
    if (dict == NULL) {
        return -1;
    }
    int r = _PyObject_GenericSetAttrWithDict((PyObject *)l, name, value, dict);
    Py_DECREF(dict);
    return r;
}

static int
Local_traverse(Local *l, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(l));
    Py_VISIT(l->dicts);
    Py_VISIT(l->args);
    Py_VISIT(l->kwargs);
    return 0;
}

static int
Local_clear(Local *l)
{
    l->last_id = 0;
    Py_CLEAR(l->args);
    Py_CLEAR(l->kwargs);
    if (l->dicts != NULL) {
        PyDict_Clear(l->dicts);
    }
    return 0;
}

static void
Local_dealloc(Local *l)
{
    PyTypeObject *type = Py_TYPE(l);
    PyObject_GC_UnTrack(l);
    if (l->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)l);
    }
    Local_clear(l);
    Py_CLEAR(l->dicts);
    type->tp_free(l);
    Py_DECREF(type);
}

static PyMemberDef local_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Local, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot local_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("As threading.local, with attributes by goroutine.")},
    {Py_tp_new, Local_new},
    {Py_tp_getattro, Local_getattro},
    {Py_tp_setattro, Local_setattro},
    {Py_tp_traverse, Local_traverse},
    {Py_tp_clear, Local_clear},
    {Py_tp_dealloc, Local_dealloc},
    {Py_tp_members, local_members},
    {0, NULL},
};

static PyType_Spec local_spec = {
    .name = "goroutines.patch.local",
    .basicsize = sizeof(Local),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = local_slots,
};

int
local_add_types(PyObject *mod)
{
    local_type = (PyTypeObject *)PyType_FromModuleAndSpec(mod, &local_spec, NULL);
    return local_type == NULL ? -1 : PyModule_AddObjectRef(mod, "local", (PyObject *)local_type);
}
