/* SPDX-License-Identifier: MIT
 *
 * type.c: what values are: int32, classes, Slice[T], Array[T, n], Map[K, V], Pointer[T].
 *
 * The basic types are one object each; all others are made at each subscript and compared
 * by what they consist of.  Slice[T] and Pointer[T] of basic types are made once, since
 * `make(Slice[byte], n)` stands in loops.  Python's int, float, bool and str stand for
 * Go's int (64 bits), float64, bool and string.
 *
 * The classes are static and have a metaclass, so that Slice[T] is one indirect call.
 */
#include "memory.h"

#define BASIC(kind_, name_, format_, size_, go_size_, min_, max_)                                  \
    [kind_] = {PyObject_HEAD_INIT(&Type_Type).kind = kind_,                                        \
               .name = name_,                                                                      \
               .format = {format_},                                                                \
               .size = size_,                                                                      \
               .go_size = go_size_,                                                                \
               .min = min_,                                                                        \
               .max = max_,                                                                        \
               .has_refs = kind_ == K_STRING,                                                      \
               .forever = true}

Type basic[] = {
    BASIC(K_INT8, "int8", 'b', 1, 1, INT8_MIN, INT8_MAX),
    BASIC(K_INT16, "int16", 'h', 2, 2, INT16_MIN, INT16_MAX),
    BASIC(K_INT32, "int32", 'i', 4, 4, INT32_MIN, INT32_MAX),
    BASIC(K_INT64, "int64", 'q', 8, 8, INT64_MIN, INT64_MAX),
    BASIC(K_UINT8, "uint8", 'B', 1, 1, 0, UINT8_MAX),
    BASIC(K_UINT16, "uint16", 'H', 2, 2, 0, UINT16_MAX),
    BASIC(K_UINT32, "uint32", 'I', 4, 4, 0, UINT32_MAX),
    BASIC(K_UINT64, "uint64", 'Q', 8, 8, 0, UINT64_MAX),
    BASIC(K_FLOAT32, "float32", 'f', 4, 4, 0, 0),
    BASIC(K_FLOAT64, "float64", 'd', 8, 8, 0, 0),
    BASIC(K_BOOL, "bool_", '?', 1, 1, 0, 1),
    BASIC(K_STRING, "string", 0, sizeof(PyObject *), 16, 0, 0),
};
#define NBASIC (int)(sizeof(basic) / sizeof(basic[0]))

/* Slice[T] and Pointer[T] of these; static, so that no thread counts references to them. */
static Type slices_of[NBASIC] = {[0 ... NBASIC - 1] = {PyObject_HEAD_INIT(&Type_Type)}};
static Type pointers_to[NBASIC] = {[0 ... NBASIC - 1] = {PyObject_HEAD_INIT(&Type_Type)}};

static PyObject *union_type; /* types.UnionType */

/* ---- making types ---------------------------------------------------------------------------- */

/* Of zeroed memory; takes the reference sub. */
static void
type_init(Type *t, Kind kind, Type *sub)
{
    t->kind = kind;
    t->sub = sub;
    t->size = sizeof(PyObject *);
    t->go_size = kind == K_SLICE ? 24 : 8;
    t->has_refs = true;
}

static Type *
type_new(Kind kind, Type *sub, Type *key)
{
    int depth = sub != NULL ? sub->depth + 1 : 0;
    depth = key != NULL && key->depth >= depth ? key->depth + 1 : depth;
    if (depth > MAX_DEPTH) {
        PyErr_SetString(PyExc_ValueError, "types are nested too deeply");
        return NULL;
    }
    Type *t = PyObject_GC_New(Type, &Type_Type);
    if (t == NULL) {
        return NULL;
    }
    memset((char *)t + sizeof(PyObject), 0, sizeof(Type) - sizeof(PyObject));
    type_init(t, kind, (Type *)Py_XNewRef((PyObject *)sub));
    t->key = (Type *)Py_XNewRef((PyObject *)key);
    t->depth = depth;
    PyObject_GC_Track(t);
    return t;
}

Type *
slice_type(Type *elem)
{
    if (elem->slice_of != NULL) {
        return (Type *)Py_NewRef((PyObject *)elem->slice_of);
    }
    return type_new(K_SLICE, elem, NULL);
}

Type *
pointer_type(Type *elem)
{
    return elem->pointer_to != NULL ? (Type *)Py_NewRef((PyObject *)elem->pointer_to)
                                    : type_new(K_POINTER, elem, NULL);
}

Type *
array_type(Type *elem, Py_ssize_t n)
{
    Py_ssize_t size, go_size;
    if (n < 0 || __builtin_mul_overflow(n, elem->size, &size) ||
        __builtin_mul_overflow(n, elem->go_size, &go_size) || go_size > MAX_BYTES) {
        PyErr_Format(PyExc_ValueError, "Array: a length of %zd is out of range", n);
        return NULL;
    }
    Type *t = type_new(K_ARRAY, elem, NULL);
    if (t != NULL) {
        t->n = n;
        t->size = size;
        t->go_size = go_size;
        t->has_refs = elem->has_refs;
    }
    return t;
}

static bool
hashable(const Type *t)
{
    return t->kind == K_ARRAY ? hashable(t->sub) : t->kind != K_SLICE && t->kind != K_MAP;
}

static Type *
map_type(Type *key, Type *value)
{
    if (!hashable(key)) {
        PyErr_Format(PyExc_TypeError, "invalid map key type %S: Go cannot compare it", key);
        return NULL;
    }
    return type_new(K_MAP, value, key);
}

static Type *
class_type(PyObject *cls)
{
    Type *t = type_new(K_OBJECT, NULL, NULL);
    if (t != NULL) {
        t->cls = Py_NewRef(cls);
        t->go_size = cls == (PyObject *)&PyBaseObject_Type ? 16 : 8; /* any, or a pointer */
    }
    return t;
}

/* X of `X | None`, other unions as they are; a new reference. */
static PyObject *
without_none(PyObject *u)
{
    PyObject *args = PyObject_GetAttrString(u, "__args__");
    if (args == NULL || !PyTuple_Check(args)) {
        return args;
    }
    PyObject *found = NULL;
    int others = 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(args); i++) {
        PyObject *arg = PyTuple_GET_ITEM(args, i);
        if (arg != (PyObject *)Py_TYPE(Py_None) && arg != Py_None) {
            found = arg;
            others++;
        }
    }
    Py_INCREF(others == 1 ? found : u);
    PyObject *result = others == 1 ? found : u;
    Py_DECREF(args);
    return result;
}

/* What the word belongs to, where asking for the class would import typing. */
static bool
is_a(PyObject *o, const char *class_name)
{
    const char *dot = strrchr(Py_TYPE(o)->tp_name, '.');
    return strcmp(dot != NULL ? dot + 1 : Py_TYPE(o)->tp_name, class_name) == 0;
}

/* Chan[int] and list[int] hold what their classes say. */
static Type *
type_of_alias(PyObject *o)
{
    PyObject *origin = PyObject_GetAttrString(o, "__origin__");
    if (origin == NULL) {
        return NULL;
    }
    Type *t = type_of(origin);
    Py_DECREF(origin);
    return t;
}

static Type *
type_of_union(PyObject *o)
{
    PyObject *one = without_none(o);
    if (one == NULL) {
        return NULL;
    }
    Type *t = one == o ? class_type(o) : type_of(one);
    Py_DECREF(one);
    return t;
}

/* The Type that a user's word for it means: a new reference, or NULL with TypeError. */
Type *
type_of(PyObject *o)
{
    static PyTypeObject *const builtin[] = {&PyLong_Type, &PyFloat_Type, &PyBool_Type,
                                            &PyUnicode_Type};
    static const Kind builtin_kind[] = {K_INT64, K_FLOAT64, K_BOOL, K_STRING};
    if (is_type(o)) {
        return (Type *)Py_NewRef(o);
    }
    for (int i = 0; i < 4; i++) {
        if (o == (PyObject *)builtin[i]) {
            return (Type *)Py_NewRef((PyObject *)&basic[builtin_kind[i]]);
        }
    }
    if (Py_TYPE(o) == &Py_GenericAliasType || is_a(o, "_GenericAlias")) {
        return type_of_alias(o);
    }
    if ((PyObject *)Py_TYPE(o) == union_type || is_a(o, "_UnionGenericAlias")) {
        return type_of_union(o);
    }
    if (is_a(o, "_AnyMeta") || is_a(o, "TypeVar")) {
        return class_type((PyObject *)&PyBaseObject_Type);
    }
    if (Py_TYPE(o) == &Meta_Type) {
        PyErr_Format(PyExc_TypeError, "%s needs its element type: %s[...]",
                     strrchr(((PyTypeObject *)o)->tp_name, '.') + 1,
                     strrchr(((PyTypeObject *)o)->tp_name, '.') + 1);
        return NULL;
    }
    if (!PyType_Check(o)) {
        PyErr_Format(PyExc_TypeError,
                     "%R is no type for elements: take int32 or another of goroutines.memory, "
                     "or a class",
                     o);
        return NULL;
    }
    return class_type(o);
}

/* ---- Slice[T], Array[T, n], Map[K, V], Pointer[T] ------------------------------------------------ */

static int
two_arguments(PyObject *item, const char *form)
{
    if (PyTuple_Check(item) && PyTuple_GET_SIZE(item) == 2) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "%s takes two arguments, not %R", form, item);
    return -1;
}

static Py_ssize_t
array_length(PyObject *o)
{
    if (!PyIndex_Check(o)) {
        PyErr_Format(PyExc_TypeError, "Array[T, n]: n must be an int, not %.100s",
                     Py_TYPE(o)->tp_name);
        return -1;
    }
    Py_ssize_t n = PyNumber_AsSsize_t(o, NULL);
    if (n < 0 && !PyErr_Occurred()) {
        PyErr_Format(PyExc_ValueError, "Array[T, n]: n must not be negative: %zd", n);
    }
    return n;
}

static Type *
subscript_array(PyObject *item)
{
    if (two_arguments(item, "Array[T, n]") < 0) {
        return NULL;
    }
    Type *elem = type_of(PyTuple_GET_ITEM(item, 0));
    Py_ssize_t n = elem != NULL ? array_length(PyTuple_GET_ITEM(item, 1)) : -1;
    Type *t = n >= 0 ? array_type(elem, n) : NULL;
    Py_XDECREF(elem);
    return t;
}

static Type *
subscript_map(PyObject *item)
{
    if (two_arguments(item, "Map[K, V]") < 0) {
        return NULL;
    }
    Type *key = type_of(PyTuple_GET_ITEM(item, 0));
    Type *value = key != NULL ? type_of(PyTuple_GET_ITEM(item, 1)) : NULL;
    Type *t = value != NULL ? map_type(key, value) : NULL;
    Py_XDECREF(key);
    Py_XDECREF(value);
    return t;
}

static PyObject *
Meta_subscript(PyTypeObject *cls, PyObject *item)
{
    if (cls == &Array_Type) {
        return (PyObject *)subscript_array(item);
    }
    if (cls == &Map_Type) {
        return (PyObject *)subscript_map(item);
    }
    if (cls != &Slice_Type && cls != &Pointer_Type) {
        PyErr_Format(PyExc_TypeError, "%R takes no type", cls);
        return NULL;
    }
    Type *elem = type_of(item);
    if (elem == NULL) {
        return NULL;
    }
    Type *t = cls == &Slice_Type ? slice_type(elem) : pointer_type(elem);
    Py_DECREF(elem);
    return (PyObject *)t;
}

static PyObject *
no_bare_call(PyTypeObject *cls, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    PyErr_Format(PyExc_TypeError,
                 "%s is made of a type with its elements', by make(), new() or a call: "
                 "Slice[int32](values), Array[int32, 3](), Map[str, int]()",
                 cls->tp_name);
    return NULL;
}

static PyMappingMethods Meta_mapping = {.mp_subscript = (binaryfunc)Meta_subscript};

PyTypeObject Meta_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "goroutines.memory.Meta",
    .tp_basicsize = 0, /* PyType_Type's */
    .tp_base = &PyType_Type,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_as_mapping = &Meta_mapping,
};

/* ---- comparison, name --------------------------------------------------------------------------- */

bool
type_equal(const Type *a, const Type *b)
{
    if (a == b) {
        return true;
    }
    if (a->kind != b->kind || a->name != NULL || a->n != b->n) {
        return false;
    }
    if (a->kind != K_OBJECT) {
        return type_equal(a->sub, b->sub) && (a->kind != K_MAP || type_equal(a->key, b->key));
    }
    if (a->cls == b->cls || (PyObject *)Py_TYPE(a->cls) != union_type) {
        return a->cls == b->cls;
    }
    int equal = PyObject_RichCompareBool(a->cls, b->cls, Py_EQ);
    if (equal < 0) {
        PyErr_Clear(); /* a class with a metaclass that will not be compared */
    }
    return equal > 0;
}

static PyObject *
Type_compare(Type *a, PyObject *b, int op)
{
    if (!is_type(b) || (op != Py_EQ && op != Py_NE)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    return PyBool_FromLong(type_equal(a, (Type *)b) == (op == Py_EQ));
}

static Py_hash_t
Type_hash(Type *t)
{
    Py_uhash_t h = (Py_uhash_t)t->kind * 1000003u + (Py_uhash_t)t->n;
    if (t->name != NULL) {
        return (Py_hash_t)h;
    }
    Py_hash_t part = t->kind == K_OBJECT ? PyObject_Hash(t->cls) : Type_hash(t->sub);
    if (part == -1) {
        return -1;
    }
    h = (h ^ (Py_uhash_t)part) * 1000003u;
    if (t->kind == K_MAP) {
        h = (h ^ (Py_uhash_t)Type_hash(t->key)) * 1000003u;
    }
    return (Py_hash_t)h != -1 ? (Py_hash_t)h : -2;
}

/* As the user wrote it, or shorter. */
PyObject *
type_name(Type *t)
{
    switch (t->kind) {
    case K_OBJECT:
        return PyType_Check(t->cls) ? PyObject_GetAttrString(t->cls, "__qualname__")
                                    : PyObject_Repr(t->cls);
    case K_SLICE:
        return PyUnicode_FromFormat("Slice[%S]", t->sub);
    case K_POINTER:
        return PyUnicode_FromFormat("Pointer[%S]", t->sub);
    case K_ARRAY:
        return PyUnicode_FromFormat("Array[%S, %zd]", t->sub, t->n);
    case K_MAP:
        return PyUnicode_FromFormat("Map[%S, %S]", t->key, t->sub);
    default:
        return PyUnicode_FromString(t->name);
    }
}

/* ---- the Python type ------------------------------------------------------------------------------ */

static PyObject *
too_many(Type *t, Py_ssize_t nargs)
{
    PyErr_Format(PyExc_TypeError, "%S() takes at most one argument, got %zd", t, nargs);
    return NULL;
}

static PyObject *
Type_call(Type *t, PyObject *args, PyObject *kwargs)
{
    Py_ssize_t nargs = PyTuple_GET_SIZE(args);
    PyObject *arg = nargs > 0 ? PyTuple_GET_ITEM(args, 0) : NULL;
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0) {
        PyErr_Format(PyExc_TypeError, "%S() takes no keyword arguments", t);
        return NULL;
    }
    if (nargs > 1) {
        return too_many(t, nargs);
    }
    switch (t->kind) {
    case K_SLICE:
        return slice_from(t, arg);
    case K_ARRAY:
        return array_make(t, arg);
    case K_MAP:
        return map_make(t, arg);
    case K_POINTER:
    case K_OBJECT:
        PyErr_Format(PyExc_TypeError, "%S cannot be called: new(%S) makes one", t, t->sub);
        return NULL;
    default:
        return arg != NULL ? elem_convert(t, arg) : elem_zero(t);
    }
}

PyObject *
type_origin(const Type *t)
{
    static PyTypeObject *const classes[] = {
        [K_SLICE] = &Slice_Type,
        [K_MAP] = &Map_Type,
        [K_POINTER] = &Pointer_Type,
        [K_ARRAY] = &Array_Type,
    };
    return t->kind == K_OBJECT ? t->cls : t->sub != NULL ? (PyObject *)classes[t->kind] : Py_None;
}

static PyObject *
Type_get_origin(Type *t, void *unused)
{
    (void)unused;
    return Py_NewRef(type_origin(t));
}

/* What the user wrote for an element type: classes are not shown as Types. */
static PyObject *
shown(Type *t)
{
    return t->kind == K_OBJECT ? t->cls : (PyObject *)t;
}

static PyObject *
Type_get_args(Type *t, void *unused)
{
    (void)unused;
    switch (t->kind) {
    case K_SLICE:
    case K_POINTER:
        return PyTuple_Pack(1, shown(t->sub));
    case K_ARRAY:
        return Py_BuildValue("(On)", shown(t->sub), t->n);
    case K_MAP:
        return PyTuple_Pack(2, shown(t->key), shown(t->sub));
    default:
        return PyTuple_New(0);
    }
}

static PyObject *
Type_get_name(Type *t, void *unused)
{
    (void)unused;
    return type_name(t);
}

static PyObject *
Type_get_module(Type *t, void *unused)
{
    (void)t;
    (void)unused;
    return PyUnicode_FromString("goroutines.memory");
}

static PyObject *
Type_reduce(Type *t, PyObject *unused)
{
    (void)unused;
    if (t->name != NULL) {
        return PyUnicode_FromString(t->name);
    }
    PyObject *args = Type_get_args(t, NULL), *result = NULL;
    PyObject *operator = PyImport_ImportModule("operator");
    PyObject *getitem = operator != NULL ? PyObject_GetAttrString(operator, "getitem") : NULL;
    if (args != NULL && getitem != NULL) {
        PyObject *item = PyTuple_GET_SIZE(args) == 1 ? PyTuple_GET_ITEM(args, 0) : args;
        result = Py_BuildValue("O(OO)", getitem, type_origin(t), item);
    }
    Py_XDECREF(args);
    Py_XDECREF(operator);
    Py_XDECREF(getitem);
    return result;
}

static PyObject *
Type_instancecheck(Type *t, PyObject *o)
{
    if (t->sub == NULL) {
        PyErr_Format(PyExc_TypeError,
                     "isinstance: %S is how elements are stored, and no class of values", t);
        return NULL;
    }
    if ((PyObject *)Py_TYPE(o) != type_origin(t)) {
        Py_RETURN_FALSE;
    }
    Type *its = Py_TYPE(o) == &Map_Type ? ((Map *)o)->type : ((Header *)o)->type;
    return PyBool_FromLong(type_equal(t, its));
}

/* Slice[int32] | None, for annotations. */
static PyObject *
Type_or(PyObject *a, PyObject *b)
{
    PyObject *typing = PyImport_ImportModule("typing");
    PyObject *form = typing != NULL ? PyObject_GetAttrString(typing, "Union") : NULL;
    PyObject *both = form != NULL ? PyTuple_Pack(2, a, b) : NULL;
    PyObject *result = both != NULL ? PyObject_GetItem(form, both) : NULL;
    Py_XDECREF(typing);
    Py_XDECREF(form);
    Py_XDECREF(both);
    return result;
}

static int
Type_traverse(Type *t, visitproc visit, void *arg)
{
    Py_VISIT(t->sub);
    Py_VISIT(t->key);
    Py_VISIT(t->cls);
    return 0;
}

static int
Type_clear(Type *t)
{
    (void)t; /* the class in a cycle is what gives way */
    return 0;
}

static int
Type_is_gc(PyObject *t)
{
    return !((Type *)t)->forever;
}

static void
Type_dealloc(Type *t)
{
    PyObject_GC_UnTrack(t);
    Py_XDECREF(t->sub);
    Py_XDECREF(t->key);
    Py_XDECREF(t->cls);
    PyObject_GC_Del(t);
}

static PyMethodDef Type_methods[] = {
    METHOD("__reduce__", Type_reduce, METH_NOARGS, NULL),
    METHOD("__instancecheck__", Type_instancecheck, METH_O, NULL),
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef Type_getset[] = {
    {"__origin__", (getter)Type_get_origin, NULL, NULL, NULL},
    {"__args__", (getter)Type_get_args, NULL, NULL, NULL},
    {"__name__", (getter)Type_get_name, NULL, NULL, NULL},
    {"__qualname__", (getter)Type_get_name, NULL, NULL, NULL},
    {"__module__", (getter)Type_get_module, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyNumberMethods Type_number = {.nb_or = Type_or};

PyTypeObject Type_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "goroutines.memory.Type",
    .tp_doc = PyDoc_STR("A type of goroutines.memory: int32, Slice[int32], Array[byte, 4], ..."),
    .tp_basicsize = sizeof(Type),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_repr = (reprfunc)type_name,
    .tp_hash = (hashfunc)Type_hash,
    .tp_call = (ternaryfunc)Type_call,
    .tp_richcompare = (richcmpfunc)Type_compare,
    .tp_as_number = &Type_number,
    .tp_traverse = (traverseproc)Type_traverse,
    .tp_clear = (inquiry)Type_clear,
    .tp_is_gc = Type_is_gc,
    .tp_dealloc = (destructor)Type_dealloc,
    .tp_methods = Type_methods,
    .tp_getset = Type_getset,
};

/* ---- set-up ------------------------------------------------------------------------------------------ */

static PyObject *
attribute_of(const char *module, const char *name)
{
    PyObject *mod = PyImport_ImportModule(module);
    PyObject *found = mod != NULL ? PyObject_GetAttrString(mod, name) : NULL;
    Py_XDECREF(mod);
    return found;
}

static int
add_basic(PyObject *mod, Type *t)
{
    t->slice_of = &slices_of[t->kind];
    t->pointer_to = &pointers_to[t->kind];
    type_init(t->slice_of, K_SLICE, t);
    type_init(t->pointer_to, K_POINTER, t);
    t->slice_of->depth = t->pointer_to->depth = 1;
    t->forever = t->slice_of->forever = t->pointer_to->forever = true;
    return PyModule_AddObjectRef(mod, t->name, (PyObject *)t);
}

int
types_init(PyObject *mod)
{
    PyTypeObject *const values[] = {&Slice_Type, &Array_Type, &Map_Type, &Pointer_Type};
    Py_SET_TYPE(&Meta_Type, &PyType_Type);
    if (PyType_Ready(&Meta_Type) < 0 || PyType_Ready(&Type_Type) < 0 ||
        (union_type = attribute_of("types", "UnionType")) == NULL) {
        return -1;
    }
    for (int i = 0; i < 4; i++) {
        Py_SET_TYPE(values[i], &Meta_Type);
        values[i]->tp_new = no_bare_call;
        if (PyType_Ready(values[i]) < 0 ||
            PyModule_AddObjectRef(mod, strrchr(values[i]->tp_name, '.') + 1,
                                  (PyObject *)values[i]) < 0) {
            return -1;
        }
    }
    for (int i = 0; i < NBASIC; i++) {
        if (add_basic(mod, &basic[i]) < 0) {
            return -1;
        }
    }
    return PyModule_AddObjectRef(mod, "byte", (PyObject *)&basic[K_UINT8]);
}
