/* SPDX-License-Identifier: MIT
 *
 * map.c: Map[K, V], typed keys and values over a dict, which is also what makes it safe
 * between threads.  What is stored is canonical: an int32 key is an int that fits, an
 * array a copy, which nobody else can change.  Unlike Go's, the order is that of insertion.
 *
 * As in Go a map may change while it is iterated: an iterator has the keys of its beginning
 * and leaves out those that are gone when it comes to them.
 */
#include "memory.h"

static int
dict_get(PyObject *dict, PyObject *key, PyObject **v)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyDict_GetItemRef(dict, key, v);
#else
    *v = Py_XNewRef(PyDict_GetItemWithError(dict, key));
    return *v != NULL ? 1 : PyErr_Occurred() ? -1 : 0;
#endif
}

static Map *
map_new(Type *type, PyObject *dict)
{
    Map *m = PyObject_GC_New(Map, &Map_Type);
    if (m == NULL) {
        Py_XDECREF(dict);
        return NULL;
    }
    m->type = (Type *)Py_NewRef((PyObject *)type);
    m->dict = dict;
    PyObject_GC_Track(m);
    return m;
}

PyObject *
map_nil(Type *type)
{
    return (PyObject *)map_new(type, NULL);
}

/* ---- in and out --------------------------------------------------------------------------------- */

/* What is given to the outside: a map's arrays are its own. */
static PyObject *
given(PyObject *v)
{
    if (v == NULL || Py_TYPE(v) != &Array_Type) {
        return v;
    }
    PyObject *copy = array_copy((Array *)v);
    Py_DECREF(v);
    return copy;
}

/* 1 and a new reference; 0: no such key; -1 with an exception. */
static int
map_load(Map *m, PyObject *key, PyObject **v)
{
    *v = NULL;
    PyObject *k = elem_canonical(m->type->key, key);
    if (k == NULL) {
        return -1;
    }
    int found = m->dict != NULL ? dict_get(m->dict, k, v) : 0;
    Py_DECREF(k);
    if (found > 0 && (*v = given(*v)) == NULL) {
        return -1;
    }
    return found;
}

static PyObject *
Map_subscript(PyObject *o, PyObject *key)
{
    PyObject *v;
    int found = map_load((Map *)o, key, &v);
    return found < 0 ? NULL : found > 0 ? v : elem_zero(((Map *)o)->type->sub);
}

static PyObject *
Map_get_ok(PyObject *o, PyObject *key)
{
    PyObject *v;
    int found = map_load((Map *)o, key, &v);
    if (found == 0) {
        v = elem_zero(((Map *)o)->type->sub);
    }
    return found < 0 || v == NULL ? NULL : Py_BuildValue("(NO)", v, found ? Py_True : Py_False);
}

static int
Map_contains(PyObject *o, PyObject *key)
{
    PyObject *v;
    int found = map_load((Map *)o, key, &v);
    Py_XDECREF(v);
    return found;
}

static int
map_store(Map *m, PyObject *key, PyObject *value)
{
    PyObject *k = elem_canonical(m->type->key, key);
    PyObject *v = k != NULL ? elem_canonical(m->type->sub, value) : NULL;
    int r = -1;
    if (v != NULL && m->dict == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "assignment to entry in nil map");
    }
    else if (v != NULL) {
        r = PyDict_SetItem(m->dict, k, v);
    }
    Py_XDECREF(k);
    Py_XDECREF(v);
    return r;
}

/* Whether the key was there; -1 with an exception. */
static int
map_remove(Map *m, PyObject *key)
{
    PyObject *k = elem_canonical(m->type->key, key);
    if (k == NULL) {
        return -1;
    }
    int r = m->dict != NULL ? PyDict_DelItem(m->dict, k) : 0;
    Py_DECREF(k);
    if (r == 0) {
        return m->dict != NULL;
    }
    if (!PyErr_ExceptionMatches(PyExc_KeyError)) {
        return -1;
    }
    PyErr_Clear();
    return 0;
}

static int
Map_ass_subscript(PyObject *o, PyObject *key, PyObject *value)
{
    if (value != NULL) {
        return map_store((Map *)o, key, value);
    }
    int had = map_remove((Map *)o, key);
    if (had == 0) {
        PyErr_SetObject(PyExc_KeyError, key);
    }
    return had > 0 ? 0 : -1;
}

PyObject *
map_delete(Map *m, PyObject *key)
{
    if (map_remove(m, key) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

int
map_clear(Map *m)
{
    if (m->dict != NULL) {
        PyDict_Clear(m->dict);
    }
    return 0;
}

/* ---- making ---------------------------------------------------------------------------------------- */

static int
fill_map(Map *m, PyObject *items)
{
    PyObject *plain = PyDict_New(); /* whatever dict() takes: mappings, pairs */
    PyObject *none = plain != NULL ? PyObject_CallMethod(plain, "update", "O", items) : NULL;
    PyObject *key, *value;
    Py_ssize_t pos = 0;
    int r = none != NULL ? 0 : -1;
    while (r == 0 && PyDict_Next(plain, &pos, &key, &value)) {
        r = map_store(m, key, value); /* nobody else has `plain` */
    }
    Py_XDECREF(plain);
    Py_XDECREF(none);
    return r;
}

PyObject *
map_make(Type *type, PyObject *items)
{
    PyObject *dict = PyDict_New();
    Map *m = dict != NULL ? map_new(type, dict) : NULL;
    if (m != NULL && items != NULL && fill_map(m, items) < 0) {
        Py_CLEAR(m);
    }
    return (PyObject *)m;
}

/* ---- iteration ---------------------------------------------------------------------------------------- */

typedef enum { KEYS, VALUES, ITEMS } What;

typedef struct {
    PyObject_HEAD
    Map *map;
    PyObject *keys; /* a list that nobody changes */
    Py_ssize_t next;
    What what;
} MapIter;

static PyTypeObject MapIter_Type;

static PyObject *
map_iter(PyObject *o, What what)
{
    Map *m = (Map *)o;
    MapIter *it = PyObject_GC_New(MapIter, &MapIter_Type);
    if (it == NULL) {
        return NULL;
    }
    it->map = (Map *)Py_NewRef(o);
    it->keys = m->dict != NULL ? PyDict_Keys(m->dict) : PyList_New(0);
    it->next = 0;
    it->what = what;
    PyObject_GC_Track(it);
    if (it->keys == NULL) {
        Py_CLEAR(it);
    }
    return (PyObject *)it;
}

static PyObject *
Map_iter(PyObject *o)
{
    return map_iter(o, KEYS);
}

static PyObject *
Map_keys(PyObject *o, PyObject *unused)
{
    (void)unused;
    return map_iter(o, KEYS);
}

static PyObject *
Map_values(PyObject *o, PyObject *unused)
{
    (void)unused;
    return map_iter(o, VALUES);
}

static PyObject *
Map_items(PyObject *o, PyObject *unused)
{
    (void)unused;
    return map_iter(o, ITEMS);
}

/* Takes the references. */
static PyObject *
key_or_value(What what, PyObject *k, PyObject *v)
{
    k = given(k);
    v = k != NULL ? given(v) : v;
    if (k == NULL || v == NULL) {
        Py_XDECREF(k);
        Py_XDECREF(v);
        return NULL;
    }
    if (what == ITEMS) {
        return Py_BuildValue("(NN)", k, v);
    }
    Py_DECREF(what == KEYS ? v : k);
    return what == KEYS ? k : v;
}

static PyObject *
MapIter_next(MapIter *it)
{
    for (;;) {
        Py_ssize_t i = it->next; /* read once: other threads may use the same iterator */
        if (i >= PyList_GET_SIZE(it->keys)) {
            return NULL;
        }
        it->next = i + 1;
        PyObject *k = Py_NewRef(PyList_GET_ITEM(it->keys, i)), *v;
        int found = dict_get(it->map->dict, k, &v);
        if (found > 0) {
            return key_or_value(it->what, k, v);
        }
        Py_DECREF(k);
        if (found < 0) {
            return NULL;
        }
    }
}

static int
MapIter_traverse(MapIter *it, visitproc visit, void *arg)
{
    Py_VISIT(it->map);
    Py_VISIT(it->keys);
    return 0;
}

static void
MapIter_dealloc(MapIter *it)
{
    PyObject_GC_UnTrack(it);
    Py_DECREF(it->map);
    Py_XDECREF(it->keys);
    PyObject_GC_Del(it);
}

static PyTypeObject MapIter_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "goroutines.memory.MapIterator",
    .tp_basicsize = sizeof(MapIter),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = (iternextfunc)MapIter_next,
    .tp_traverse = (traverseproc)MapIter_traverse,
    .tp_dealloc = (destructor)MapIter_dealloc,
};

/* ---- the Python type ------------------------------------------------------------------------------------- */

static Py_ssize_t
Map_len(PyObject *o)
{
    Map *m = (Map *)o;
    return m->dict != NULL ? PyDict_Size(m->dict) : 0;
}

static PyObject *
Map_compare(PyObject *a, PyObject *b, int op)
{
    Map *m = (Map *)a, *n = (Map *)b;
    if (Py_TYPE(b) != &Map_Type || (op != Py_EQ && op != Py_NE)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    int equal = type_equal(m->type, n->type) && Map_len(a) == Map_len(b);
    if (equal && Map_len(a) > 0) {
        equal = PyObject_RichCompareBool(m->dict, n->dict, Py_EQ);
    }
    return equal < 0 ? NULL : PyBool_FromLong(equal == (op == Py_EQ));
}

/* Made empty, then filled, since it may hold itself. */
static PyObject *
Map_reduce(PyObject *o, PyObject *unused)
{
    (void)unused;
    Map *m = (Map *)o;
    if (m->dict == NULL) {
        return Py_BuildValue("O()O", m->type, Py_None);
    }
    PyObject *items = map_iter(o, ITEMS);
    return items == NULL ? NULL : Py_BuildValue("O()OON", m->type, Py_None, Py_None, items);
}

static int
Map_traverse(Map *m, visitproc visit, void *arg)
{
    Py_VISIT(m->type);
    Py_VISIT(m->dict);
    return 0;
}

/* The dict in a cycle gives way by itself. */
static void
Map_dealloc(Map *m)
{
    PyObject_GC_UnTrack(m);
    Py_XDECREF(m->dict);
    Py_DECREF(m->type);
    PyObject_GC_Del(m);
}

static PyObject *
Map_get_type(PyObject *o, void *unused)
{
    (void)unused;
    return Py_NewRef((PyObject *)((Map *)o)->type);
}

static PyMethodDef Map_methods[] = {
    METHOD("get_ok", Map_get_ok, METH_O,
           PyDoc_STR("get_ok($self, key, /)\n--\n\n"
                     "(value, True), or (V's zero value, False): Go's `v, ok := m[key]`.")),
    METHOD("keys", Map_keys, METH_NOARGS, PyDoc_STR("keys($self)\n--\n\nIterate over the keys.")),
    METHOD("values", Map_values, METH_NOARGS,
           PyDoc_STR("values($self)\n--\n\nIterate over the values.")),
    METHOD("items", Map_items, METH_NOARGS,
           PyDoc_STR("items($self)\n--\n\nIterate over (key, value): Go's `range m`.")),
    METHOD("__reduce__", Map_reduce, METH_NOARGS, NULL),
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef Map_getset[] = {
    {"_type", Map_get_type, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMappingMethods Map_mapping = {Map_len, Map_subscript, Map_ass_subscript};
static PySequenceMethods Map_sequence = {.sq_contains = Map_contains};

PyTypeObject Map_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "goroutines.memory.Map",
    .tp_doc = PyDoc_STR(
        "Map[K, V]: keys of type K, values of type V, as Go's map[K]V.  Map[K, V]() is empty,\n"
        "Map[K, V](items) has a mapping's items or an iterable's pairs.\n\n"
        "m[key] of a key that is not there is V's zero value.  Keys are what Go can compare;\n"
        "the order is that of insertion; a map may change while it is iterated.  Compared by\n"
        "content, never hashed.  Raises TypeError and OverflowError for what does not fit."),
    .tp_basicsize = sizeof(Map),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_MAPPING,
    .tp_repr = value_repr,
    .tp_str = value_str,
    .tp_hash = PyObject_HashNotImplemented,
    .tp_richcompare = Map_compare,
    .tp_iter = Map_iter,
    .tp_as_mapping = &Map_mapping,
    .tp_as_sequence = &Map_sequence,
    .tp_traverse = (traverseproc)Map_traverse,
    .tp_dealloc = (destructor)Map_dealloc,
    .tp_methods = Map_methods,
    .tp_getset = Map_getset,
};

int
map_init(void)
{
    return PyType_Ready(&MapIter_Type);
}
