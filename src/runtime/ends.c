/* SPDX-License-Identifier: MIT
 *
 * ends.c: the two ends of a channel as narrower types.
 *
 * An end is a view: it holds its channel, and each of its methods is the
 * channel's.  It exists so that a signature can say Go's `<-chan T` or
 * `chan<- T`, and so that the other half is not there to be misused.
 */
#include "runtime.h"

typedef struct {
    PyObject_HEAD
    PyObject *chan;
} End;

static PyTypeObject *receiver_type, *sender_type;

static PyObject *
end_new(PyTypeObject *type, PyObject *chan)
{
    End *e = (End *)type->tp_alloc(type, 0);
    if (e != NULL) {
        e->chan = Py_NewRef(chan);
    }
    return (PyObject *)e;
}

PyObject *
chan_get_receiver(PyObject *chan, void *unused)
{
    (void)unused;
    return end_new(receiver_type, chan);
}

PyObject *
chan_get_sender(PyObject *chan, void *unused)
{
    (void)unused;
    return end_new(sender_type, chan);
}

static int
end_traverse(End *e, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(e));
    Py_VISIT(e->chan);
    return 0;
}

static void
end_dealloc(End *e)
{
    PyTypeObject *type = Py_TYPE(e);
    PyObject_GC_UnTrack(e);
    Py_TRASHCAN_BEGIN(e, end_dealloc) Py_CLEAR(e->chan);
    type->tp_free(e);
    Py_DECREF(type);
    Py_TRASHCAN_END
}

static PyObject *
end_getattr(End *e, void *name)
{
    return PyObject_GetAttrString(e->chan, name);
}

static Py_ssize_t
end_len(End *e)
{
    return PyObject_Size(e->chan);
}

static int
end_bool(End *e)
{
    (void)e;
    return 1;
}

static PyObject *
end_iter(End *e)
{
    return PyObject_GetIter(e->chan);
}

static PyObject *
end_repr(End *e)
{
    return PyUnicode_FromFormat("<%s of %R>", strrchr(Py_TYPE(e)->tp_name, '.') + 1, e->chan);
}

static PyObject *
end_compare(PyObject *a, PyObject *b, int op)
{
    if ((op != Py_EQ && op != Py_NE) || Py_TYPE(a) != Py_TYPE(b)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    bool same = ((End *)a)->chan == ((End *)b)->chan;
    return PyBool_FromLong(same == (op == Py_EQ));
}

static Py_hash_t
end_hash(End *e)
{
    return PyObject_Hash(e->chan);
}

/* The channel's bound method or value, looked up on each use. */
#define VIA(name, doc) {name, (getter)end_getattr, NULL, doc, (void *)name}

static PyGetSetDef receiver_getset[] = {
    VIA("recv", "Chan.recv"), VIA("recv_ok", "Chan.recv_ok"), VIA("try_recv", "Chan.try_recv"),
    VIA("cap", "Chan.cap"),   VIA("closed", "Chan.closed"),   {NULL, NULL, NULL, NULL, NULL},
};

static PyGetSetDef sender_getset[] = {
    VIA("send", "Chan.send"), VIA("try_send", "Chan.try_send"), VIA("close", "Chan.close"),
    VIA("cap", "Chan.cap"),   VIA("closed", "Chan.closed"),     {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef end_methods[] = {
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL, NULL, 0, NULL},
};

#define COMMON_SLOTS                                                                               \
    {Py_tp_traverse, end_traverse}, {Py_tp_dealloc, end_dealloc}, {Py_sq_length, end_len},         \
        {Py_nb_bool, end_bool}, {Py_tp_repr, end_repr}, {Py_tp_richcompare, end_compare},          \
        {Py_tp_hash, end_hash},                                                                    \
    {                                                                                              \
        Py_tp_methods, end_methods                                                                 \
    }

static PyType_Slot receiver_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("The receiving end of a channel (Go's `<-chan T`).")},
    {Py_tp_getset, receiver_getset},
    {Py_tp_iter, end_iter},
    COMMON_SLOTS,
    {0, NULL},
};

static PyType_Slot sender_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("The sending end of a channel (Go's `chan<- T`).")},
    {Py_tp_getset, sender_getset},
    COMMON_SLOTS,
    {0, NULL},
};

#define END_FLAGS                                                                                  \
    (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |                 \
     Py_TPFLAGS_IMMUTABLETYPE)

static PyType_Spec receiver_spec = {"goroutines.Receiver", sizeof(End), 0, END_FLAGS,
                                    receiver_slots};
static PyType_Spec sender_spec = {"goroutines.Sender", sizeof(End), 0, END_FLAGS, sender_slots};

/* The channel behind a channel or an end of it, borrowed; NULL with TypeError. */
Chan *
chan_arg(PyObject *o, const char *who)
{
    if (Py_TYPE(o) == chan_type) {
        return (Chan *)o;
    }
    if (Py_TYPE(o) == receiver_type || Py_TYPE(o) == sender_type) {
        bool wants_send = strcmp(who, "send") == 0;
        if (wants_send == (Py_TYPE(o) == sender_type)) {
            return (Chan *)((End *)o)->chan;
        }
    }
    PyErr_Format(PyExc_TypeError, "%s: expected a Chan, not %.100s", who, Py_TYPE(o)->tp_name);
    return NULL;
}

int
ends_add_types(PyObject *mod)
{
    receiver_type = (PyTypeObject *)PyType_FromModuleAndSpec(mod, &receiver_spec, NULL);
    sender_type = (PyTypeObject *)PyType_FromModuleAndSpec(mod, &sender_spec, NULL);
    if (receiver_type == NULL || sender_type == NULL ||
        PyModule_AddObjectRef(mod, "Receiver", (PyObject *)receiver_type) < 0) {
        return -1;
    }
    return PyModule_AddObjectRef(mod, "Sender", (PyObject *)sender_type);
}
