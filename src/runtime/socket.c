/* SPDX-License-Identifier: MIT
 *
 * socket.c: the calls of socket.socket that must not block their thread.
 *
 * patch() puts these methods into the class socket.socket itself, so sockets
 * that exist already, and classes derived from it, have them too.  Each makes
 * the system call first, without blocking, and parks only when there is nothing
 * to be had.  A socket keeps its user's timeout where CPython keeps it, in the
 * object; the flags of its descriptor are left alone where MSG_DONTWAIT will do.
 *
 * The head of CPython's socket object is mirrored here.  patch() verifies the
 * mirror with a real socket (layout_ok) before it changes anything.
 *
 * Lock rules: none; two goroutines that use one socket meet in the kernel.
 */
#include "runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct {
    PyObject_HEAD
    int fd;
    int family, type, proto;
    PyObject *(*errorhandler)(void);
    int64_t timeout; /* nanoseconds; -1: blocking, 0: non-blocking */
} Socket;

/* Calls that move more than this let other threads run meanwhile. */
#define MUCH SCRATCH

#ifdef Py_GIL_DISABLED
#define NOWAIT_LOCKS 64
static Lock nowait_mu[NOWAIT_LOCKS];
#define LOCK_SOCKET(s) LOCK(&nowait_mu[((uintptr_t)(s) >> 6) % NOWAIT_LOCKS])
#define UNLOCK_SOCKET(s) UNLOCK(&nowait_mu[((uintptr_t)(s) >> 6) % NOWAIT_LOCKS])
#else
#define LOCK_SOCKET(s) ((void)0)
#define UNLOCK_SOCKET(s) ((void)0)
#endif

/* What its user set: another thread may be in call_nowait. */
static int64_t
timeout_of(Socket *s)
{
    LOCK_SOCKET(s);
    int64_t timeout = s->timeout;
    UNLOCK_SOCKET(s);
    return timeout;
}

/* ---- waiting ---------------------------------------------------------------------------- */

/* The call said EAGAIN: wait to try again.  -1 with an exception: it is a
 * non-blocking socket, the time is out, somebody closed it, ... */
static int
wait_ready(M *m, Socket *s, int mode, int64_t *began)
{
    int64_t timeout = timeout_of(s);
    if (timeout == 0) {
        errno = EAGAIN;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    if (*began == 0 && timeout > 0) {
        *began = clock_now();
    }
    int64_t left = time_left(timeout, *began);
    PollResult r = left == 0 ? POLL_TIMEOUT : netpoll_wait(m, (PollWant){s->fd, mode}, left, true);
    if (r == POLL_TIMEOUT) {
        PyErr_SetString(PyExc_TimeoutError, "timed out");
    }
    else if (r == POLL_CLOSED || (r == POLL_READY && s->fd < 0)) {
        errno = EBADF;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return r == POLL_READY ? 0 : -1;
}

/* After a system call that failed: 0 to make it again, -1 with an exception. */
static int
try_again(M *m, Socket *s, int mode, int flags, int64_t *began)
{
    if ((errno == EAGAIN || errno == EWOULDBLOCK) && !(flags & MSG_DONTWAIT)) {
        return wait_ready(m, s, mode, began);
    }
    if (errno == EINTR) {
        return PyErr_CheckSignals();
    }
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

/* ---- recv, send ---------------------------------------------------------------------------- */

/* One receive, which does not wait.  More than MUCH lets other threads run. */
static ssize_t
recv_now(int fd, char *buf, Py_ssize_t n, int flags)
{
    ssize_t got;
    if (n <= MUCH) {
        return recv(fd, buf, (size_t)n, flags | MSG_DONTWAIT);
    }
    int error;
    Py_BEGIN_ALLOW_THREADS;
    got = recv(fd, buf, (size_t)n, flags | MSG_DONTWAIT);
    error = errno;
    Py_END_ALLOW_THREADS;
    errno = error;
    return got;
}

/* Streams that give all they have to one call; unix ones stop at passed descriptors. */
static inline bool
short_read_drains(Socket *s, int flags)
{
    return s->type == SOCK_STREAM && flags == 0 && (s->family == AF_INET || s->family == AF_INET6);
}

static ssize_t
recv_some(M *m, Socket *s, char *buf, Py_ssize_t n, int flags)
{
    int64_t began = 0;
    bool drains = short_read_drains(s, flags);
    if (netpoll_turn(m) < 0) {
        return -1;
    }
    if (drains && s->timeout != 0 && n > 0 && netpoll_is_drained(m, s->fd) &&
        wait_ready(m, s, POLL_READ, &began) < 0) {
        return -1;
    }
    for (;;) {
        ssize_t got = recv_now(s->fd, buf, n, flags);
        if (LIKELY(got >= 0)) {
            if (drains && got < n) {
                netpoll_drained(m, s->fd);
            }
            return got;
        }
        if (try_again(m, s, POLL_READ, flags, &began) < 0) {
            return -1;
        }
    }
}

static ssize_t
send_now(int fd, const char *buf, Py_ssize_t n, int flags)
{
    ssize_t sent;
    if (n <= MUCH) {
        return send(fd, buf, (size_t)n, flags | MSG_DONTWAIT);
    }
    int error;
    Py_BEGIN_ALLOW_THREADS;
    sent = send(fd, buf, (size_t)n, flags | MSG_DONTWAIT);
    error = errno;
    Py_END_ALLOW_THREADS;
    errno = error;
    return sent;
}

static ssize_t
send_some(M *m, Socket *s, const char *buf, Py_ssize_t n, int flags, int64_t *began)
{
    if (netpoll_turn(m) < 0) {
        return -1;
    }
    for (;;) {
        ssize_t sent = send_now(s->fd, buf, n, flags);
        if (LIKELY(sent >= 0)) {
            return sent;
        }
        if (try_again(m, s, POLL_WRITE, flags, began) < 0) {
            return -1;
        }
    }
}

/* An int of the arguments, or its default. */
static int
int_arg(PyObject *const *args, Py_ssize_t nargs, Py_ssize_t i, Py_ssize_t *out)
{
    if (i >= nargs) {
        return 0;
    }
    *out = PyNumber_AsSsize_t(args[i], PyExc_OverflowError);
    return *out == -1 && PyErr_Occurred() ? -1 : 0;
}

static bool
count_ok(const char *who, Py_ssize_t nargs, Py_ssize_t least, Py_ssize_t most)
{
    if (nargs >= least && nargs <= most) {
        return true;
    }
    PyErr_Format(PyExc_TypeError, "%s() takes from %zd to %zd positional arguments, got %zd", who,
                 least, most, nargs);
    return false;
}

/* A goroutine that waits for data holds no memory for it. */
static PyObject *
recv_by_scratch(M *m, Socket *s, Py_ssize_t n, int flags)
{
    if (m->scratch == NULL && (m->scratch = malloc(SCRATCH)) == NULL) {
        return PyErr_NoMemory();
    }
    ssize_t got = recv_some(m, s, m->scratch, n, flags);
    return got < 0 ? NULL : PyBytes_FromStringAndSize(m->scratch, got);
}

static PyObject *
recv_in_place(M *m, Socket *s, Py_ssize_t n, int flags)
{
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, n);
    if (bytes == NULL) {
        return NULL;
    }
    ssize_t got = recv_some(m, s, PyBytes_AS_STRING(bytes), n, flags);
    if (got < 0) {
        Py_DECREF(bytes);
        return NULL;
    }
    if (got != n) {
        _PyBytes_Resize(&bytes, got);
    }
    return bytes;
}

static PyObject *
sock_recv(Socket *s, PyObject *const *args, Py_ssize_t nargs)
{
    M *m = getm();
    Py_ssize_t n = 0, flags = 0;
    if (m == NULL || !count_ok("recv", nargs, 1, 2) || int_arg(args, nargs, 0, &n) < 0 ||
        int_arg(args, nargs, 1, &flags) < 0) {
        return NULL;
    }
    if (n < 0) {
        PyErr_SetString(PyExc_ValueError, "negative buffersize in recv");
        return NULL;
    }
    return n <= SCRATCH ? recv_by_scratch(m, s, n, (int)flags) : recv_in_place(m, s, n, (int)flags);
}

static PyObject *
sock_recv_into(Socket *s, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"buffer", "nbytes", "flags", NULL};
    M *m = getm();
    Py_buffer view;
    Py_ssize_t n = 0;
    int flags = 0;
    if (m == NULL ||
        !PyArg_ParseTupleAndKeywords(args, kwargs, "w*|ni:recv_into", names, &view, &n, &flags)) {
        return NULL;
    }
    ssize_t got = -1;
    if (n < 0 || n > view.len) {
        PyErr_SetString(PyExc_ValueError, n < 0 ? "negative buffersize in recv_into"
                                                : "buffer too small for requested bytes");
    }
    else {
        got = recv_some(m, s, view.buf, n == 0 ? view.len : n, flags);
    }
    PyBuffer_Release(&view);
    return got < 0 ? NULL : PyLong_FromSsize_t(got);
}

/* (data, flags=0) of send and sendall. */
static int
send_args(const char *who, PyObject *const *args, Py_ssize_t nargs, Py_buffer *view, int *flags)
{
    Py_ssize_t f = 0;
    if (!count_ok(who, nargs, 1, 2) || int_arg(args, nargs, 1, &f) < 0) {
        return -1;
    }
    *flags = (int)f;
    if (PyUnicode_Check(args[0])) {
        PyErr_Format(PyExc_TypeError, "a bytes-like object is required, not '%.100s'",
                     Py_TYPE(args[0])->tp_name);
        return -1;
    }
    return PyObject_GetBuffer(args[0], view, PyBUF_SIMPLE);
}

static PyObject *
sock_send(Socket *s, PyObject *const *args, Py_ssize_t nargs)
{
    M *m = getm();
    Py_buffer view;
    int flags;
    int64_t began = 0;
    if (m == NULL || send_args("send", args, nargs, &view, &flags) < 0) {
        return NULL;
    }
    ssize_t sent = send_some(m, s, view.buf, view.len, flags, &began);
    PyBuffer_Release(&view);
    return sent < 0 ? NULL : PyLong_FromSsize_t(sent);
}

static PyObject *
sock_sendall(Socket *s, PyObject *const *args, Py_ssize_t nargs)
{
    M *m = getm();
    Py_buffer view;
    int flags;
    int64_t began = 0;
    if (m == NULL || send_args("sendall", args, nargs, &view, &flags) < 0) {
        return NULL;
    }
    const char *at = view.buf;
    Py_ssize_t left = view.len;
    ssize_t sent = 0;
    do {
        sent = send_some(m, s, at, left, flags, &began);
        at += sent;
        left -= sent;
    } while (sent >= 0 && left > 0);
    PyBuffer_Release(&view);
    if (sent < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* ---- every other call ------------------------------------------------------------------------ */

/* Call fn(*args) while the socket s is non-blocking for CPython.  Nobody else may
 * see it so: code that looks for signals in between is not preempted, and other
 * threads' calls come after it (CPython's SSL objects let in one at a time, too). */
static PyObject *
call_nowait(M *m, Socket *s, PyObject *fn, PyObject *const *args, Py_ssize_t nargs)
{
    G *g = current_g(m);
    LOCK_SOCKET(s);
    int64_t timeout = s->timeout;
    s->timeout = 0;
    g->in_call = true;
    PyObject *r = PyObject_Vectorcall(fn, args, (size_t)nargs, NULL);
    g->in_call = false;
    if (s->timeout == 0) {
        s->timeout = timeout;
    }
    UNLOCK_SOCKET(s);
    return r;
}

/* _sock_timeout(sock): its gettimeout(). */
static PyObject *
rt_sock_timeout(PyObject *mod, PyObject *sock)
{
    (void)mod;
    int64_t timeout = timeout_of((Socket *)sock);
    return timeout < 0 ? Py_NewRef(Py_None) : PyFloat_FromDouble((double)timeout / 1e9);
}

/* _sock_locked(fn, sock, *args): fn(sock, *args), which asks for or sets its timeout, while
 * no other thread is in call_nowait.  A value may convert itself by code of Python's, which
 * must not be preempted with the lock held. */
static PyObject *
rt_sock_locked(PyObject *mod, PyObject *const *args, Py_ssize_t nargs)
{
    M *m = getm();
    (void)mod;
    if (m == NULL || !count_ok("_sock_locked", nargs, 2, PY_SSIZE_T_MAX)) {
        return NULL;
    }
    G *g = current_g(m);
    LOCK_SOCKET(args[1]);
    g->in_call = true;
    PyObject *r = PyObject_Vectorcall(args[0], args + 1, (size_t)nargs - 1, NULL);
    g->in_call = false;
    UNLOCK_SOCKET(args[1]);
    return r;
}

static bool
would_block(void)
{
    return PyErr_ExceptionMatches(PyExc_BlockingIOError);
}

/* _sock_call(sock, mode, fn, *args): fn(*args) until it no longer would block. */
static PyObject *
rt_sock_call(PyObject *mod, PyObject *const *args, Py_ssize_t nargs)
{
    M *m = getm();
    (void)mod;
    if (m == NULL || !count_ok("_sock_call", nargs, 3, PY_SSIZE_T_MAX)) {
        return NULL;
    }
    Socket *s = (Socket *)args[0];
    int mode = (int)PyLong_AsLong(args[1]);
    int64_t began = 0;
    if (netpoll_turn(m) < 0) {
        return NULL;
    }
    for (;;) {
        PyObject *r = call_nowait(m, s, args[2], args + 3, nargs - 3);
        if (r != NULL || !would_block() || timeout_of(s) == 0) {
            return r;
        }
        PyErr_Clear();
        if (wait_ready(m, s, mode, &began) < 0) {
            return NULL;
        }
    }
}

/* _sock_nowait(sock, fn, *args): fn(*args) once, the socket being non-blocking. */
static PyObject *
rt_sock_nowait(PyObject *mod, PyObject *const *args, Py_ssize_t nargs)
{
    (void)mod;
    M *m = getm();
    if (m == NULL || !count_ok("_sock_nowait", nargs, 2, PY_SSIZE_T_MAX) || netpoll_turn(m) < 0) {
        return NULL;
    }
    return call_nowait(m, (Socket *)args[0], args[1], args + 2, nargs - 2);
}

/* _sock_wait(sock, mode, deadline): park; the deadline is time.now()'s, or None. */
static PyObject *
rt_sock_wait(PyObject *mod, PyObject *const *args, Py_ssize_t nargs)
{
    M *m = getm();
    (void)mod;
    if (m == NULL || !count_ok("_sock_wait", nargs, 3, 3)) {
        return NULL;
    }
    Socket *s = (Socket *)args[0];
    int64_t ns = -1;
    if (args[2] != Py_None) {
        double left = PyFloat_AsDouble(args[2]) - (double)clock_now() * 1e-9;
        ns = left > 0 ? (int64_t)(left * 1e9) : 0;
    }
    PollResult r = POLL_TIMEOUT;
    if (ns != 0) {
        r = netpoll_wait(m, (PollWant){s->fd, (int)PyLong_AsLong(args[1])}, ns, true);
    }
    if (r == POLL_CLOSED) {
        errno = EBADF;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return r == POLL_ERROR ? NULL : PyBool_FromLong(r == POLL_READY);
}

/* Whether the object's head is what we take it for: (sock, fd, timeout in ns). */
static PyObject *
rt_sock_layout_ok(PyObject *mod, PyObject *args)
{
    PyObject *o;
    int fd;
    long long timeout;
    (void)mod;
    if (!PyArg_ParseTuple(args, "OiL:_sock_layout_ok", &o, &fd, &timeout)) {
        return NULL;
    }
    Socket *s = (Socket *)o;
    return PyBool_FromLong(Py_TYPE(o)->tp_basicsize >= (Py_ssize_t)sizeof(Socket) && s->fd == fd &&
                           s->timeout == timeout);
}

/* Methods to be put into a class: they trust that self is a socket. */
static PyMethodDef methods[] = {
    METHOD("recv", sock_recv, METH_FASTCALL,
           PyDoc_STR("recv(bufsize, flags=0, /) -> bytes, parking the goroutine.")),
    METHOD("recv_into", sock_recv_into, METH_VARARGS | METH_KEYWORDS,
           PyDoc_STR("recv_into(buffer, nbytes=0, flags=0) -> int, parking the goroutine.")),
    METHOD("send", sock_send, METH_FASTCALL,
           PyDoc_STR("send(data, flags=0, /) -> int, parking the goroutine.")),
    METHOD("sendall", sock_sendall, METH_FASTCALL,
           PyDoc_STR("sendall(data, flags=0, /), parking the goroutine.")),
    {NULL, NULL, 0, NULL},
};

/* _sock_methods(cls) -> {name: method descriptor of cls} */
static PyObject *
rt_sock_methods(PyObject *mod, PyObject *cls)
{
    (void)mod;
    if (!PyType_Check(cls)) {
        PyErr_SetString(PyExc_TypeError, "_sock_methods: expected a class");
        return NULL;
    }
    PyObject *r = PyDict_New();
    for (PyMethodDef *d = methods; r != NULL && d->ml_name != NULL; d++) {
        PyObject *method = PyDescr_NewMethod((PyTypeObject *)cls, d);
        if (method == NULL || PyDict_SetItemString(r, d->ml_name, method) < 0) {
            Py_CLEAR(r);
        }
        Py_XDECREF(method);
    }
    return r;
}

static PyMethodDef functions[] = {
    METHOD("_sock_call", rt_sock_call, METH_FASTCALL, PyDoc_STR("For patch: call until ready.")),
    METHOD("_sock_nowait", rt_sock_nowait, METH_FASTCALL, PyDoc_STR("For patch: call once.")),
    METHOD("_sock_timeout", rt_sock_timeout, METH_O, PyDoc_STR("For patch: its gettimeout().")),
    METHOD("_sock_locked", rt_sock_locked, METH_FASTCALL,
           PyDoc_STR("_sock_locked(fn, sock, *args)\n--\n\nfn(sock, *args), about its timeout.")),
    METHOD("_sock_wait", rt_sock_wait, METH_FASTCALL, PyDoc_STR("For patch: wait until ready.")),
    METHOD("_sock_methods", rt_sock_methods, METH_O, PyDoc_STR("For patch: recv, send, ...")),
    METHOD("_sock_layout_ok", rt_sock_layout_ok, METH_VARARGS, PyDoc_STR("For patch: a check.")),
    {NULL, NULL, 0, NULL},
};

int
socket_add_functions(PyObject *mod)
{
    return PyModule_AddFunctions(mod, functions);
}
