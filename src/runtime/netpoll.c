/* SPDX-License-Identifier: MIT
 *
 * netpoll.c: goroutines that wait for descriptors; how a thread without work
 * sleeps, and how others rouse it.
 *
 * Each thread has a poller of its own, and a PollDesc for each descriptor that
 * a goroutine of it ever waited for, with the waiters of each direction.  All
 * waiters of a direction are woken by an event, and try again: who waits has
 * just been told EAGAIN.  Descriptors are edge-triggered, so an event that comes
 * while nobody waits is kept in `ready` for who comes next.
 *
 * Who owns a descriptor (our sockets) calls netpoll_closed before closing it,
 * and so may say that it was `added` before.  For any other the poller is told
 * anew before each wait: its number may belong to another file by now.
 *
 * The contract of a backend (netpoll_epoll.c, netpoll_kqueue.c), all called by
 * the M's own thread but for backend_break:
 *
 *   int  backend_open(M *m)              make m->wakefd; -1 with errno
 *   void backend_close(M *m)
 *   void backend_break(M *m)             any thread: end m's present or next wait
 *   int  backend_add(M *m, int fd)       tell of fd from now on, and of what is
 *            ready now; -1 with errno, EPERM if it is always ready (a file)
 *   int  backend_wait(M *m, int64_t ns, const sigset_t *mask, PollEvent *out)
 *            wait at most ns nanoseconds (FOREVER: no limit) for an event, a
 *            break or a signal; `mask`, if given, is the signal mask while
 *            waiting; at most POLL_EVENTS go to out; called without the GIL
 *
 * Signals.  Python's C handler only notes a signal; the main thread must then
 * run the handler.  Were the signal to come between our look at that note and
 * the wait, the thread would sleep on.  So the main thread blocks all signals,
 * looks, and waits with its old mask, which the kernel puts in place and takes
 * away in one step with the waiting.  A signal that comes in between goes to
 * another thread, if there is one that lets it in, and that one only notes it:
 * beside other threads main therefore looks again twice a second.
 *
 * Who is asleep is said by m->sleeping, set before the last look at the inbox
 * and cleared by the waker, who alone then calls netpoll_break: one system
 * call for a sleep, however many wakers there are.
 */
#include "runtime.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <time.h>

#include "netpoll.h"

struct PollDesc {
    WaitQ waiters[3]; /* to read, to write, for priority data */
    bool added;       /* the poller was told, and the owner has not closed it */
    uint8_t ready;    /* modes told of while nobody waited for them */
    bool drained;     /* all was read since the last event: netpoll_drained */
    bool ends;        /* the end, an error or priority data were told of */
};

/* ---- waiting for a descriptor ----------------------------------------------------- */

/* With m->pollmu held; NULL: no memory. */
static PollDesc *
desc_of(M *m, int fd)
{
    if (fd >= m->npolls) {
        int n = fd < 64 ? 64 : fd + fd / 2;
        PollDesc **polls = realloc(m->polls, (size_t)n * sizeof(*polls));
        if (polls == NULL) {
            return NULL;
        }
        memset(polls + m->npolls, 0, (size_t)(n - m->npolls) * sizeof(*polls));
        m->polls = polls;
        m->npolls = n;
    }
    if (m->polls[fd] == NULL) {
        m->polls[fd] = calloc(1, sizeof(PollDesc));
    }
    return m->polls[fd];
}

/* fd's desc, with the poller told.  -1 with errno. */
static int
desc_prepare(M *m, int fd, bool added, PollDesc **out)
{
    if (fd < 0) {
        errno = EBADF;
        return -1;
    }
    if (netpoll_open(m) < 0) {
        return -1;
    }
    PollDesc *d = desc_of(m, fd);
    if (d == NULL) {
        errno = ENOMEM;
        return -1;
    }
    *out = d;
    if (added && d->added) {
        return 0;
    }
    d->drained = d->ends = false;
    d->ready = 0;
    d->added = backend_add(m, fd) == 0;
    return d->added ? 0 : -1;
}

static void
count_waiters(M *m, int n)
{
    m->npollwait += n;
    COUNT(&sched.npollwait, n);
}

static const int mode_of[3] = {POLL_READ, POLL_WRITE, POLL_PRIO};

typedef struct {
    Sudog *sgs;
    WaitQ **queues; /* in which each stands */
    Py_ssize_t n;
} Waiting;

/* m->pollmu is held.  POLL_READY: they wait; POLL_AT_ONCE: there is no need to. */
static PollResult
enqueue_wants(M *m, const PollWant *wants, Py_ssize_t n, bool added, Waiting *w)
{
    G *g = m->curg;
    w->n = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        PollDesc *d;
        if (desc_prepare(m, wants[i].fd, added, &d) < 0) {
            return errno == EPERM ? POLL_REFUSED : POLL_ERROR;
        }
        if (d->ready & wants[i].modes) {
            d->ready &= (uint8_t)~wants[i].modes;
            return POLL_AT_ONCE;
        }
        for (int k = 0; k < 3; k++) {
            if (wants[i].modes & mode_of[k]) {
                Sudog *sg = &w->sgs[w->n];
                sg->g = g;
                sg->closed = false;
                w->queues[w->n++] = &d->waiters[k];
                waitq_push(&d->waiters[k], sg);
            }
        }
    }
    return POLL_READY;
}

static void
dequeue_wants(Waiting *w)
{
    for (Py_ssize_t i = 0; i < w->n; i++) {
        waitq_remove(w->queues[i], &w->sgs[i]);
    }
}

/* May raise: POLL_ERROR, with an exception. */
static PollResult
wait_in_queues(M *m, const PollWant *wants, Py_ssize_t n, int64_t ns, bool added, Waiting *w)
{
    G *g = m->curg;
    LOCK(&m->pollmu);
    PollResult r = enqueue_wants(m, wants, n, added, w);
    if (r != POLL_READY) {
        int error = errno;
        dequeue_wants(w);
        UNLOCK(&m->pollmu);
        if (r == POLL_AT_ONCE) {
            return POLL_READY;
        }
        if (r == POLL_ERROR) {
            errno = error;
            PyErr_SetFromErrno(PyExc_OSError);
        }
        return r;
    }
    g_will_wait(g); /* wakers need pollmu: none has seen its Sudogs yet */
    UNLOCK(&m->pollmu);
    count_waiters(m, 1);
    Wake how = gopark(m, g, ns, WAIT_IO);
    count_waiters(m, -1);
    LOCK(&m->pollmu);
    dequeue_wants(w);
    UNLOCK(&m->pollmu);
    if (how == WAKE_READY) {
        return g->fired->closed ? POLL_CLOSED : POLL_READY;
    }
    if (how == WAKE_TIMEOUT) {
        return POLL_TIMEOUT;
    }
    wake_error(g, how, "poll", NULL);
    return POLL_ERROR;
}

/* Park until the descriptor may be ready (it may not be: try again), at most
 * ns nanoseconds (-1: no limit).  `added`: netpoll.c's opening comment. */
PollResult
netpoll_wait(M *m, PollWant want, int64_t ns, bool added)
{
    WaitQ *queue;
    Waiting w = {&m->curg->sg, &queue, 0};
    INVARIANT(want.modes == POLL_READ || want.modes == POLL_WRITE || want.modes == POLL_PRIO);
    if (park_check(m, m->curg) < 0) {
        return POLL_ERROR;
    }
    return wait_in_queues(m, &want, 1, ns, added, &w);
}

/* The same for any of several, each with any of its modes. */
PollResult
netpoll_wait_any(M *m, const PollWant *wants, Py_ssize_t n, int64_t ns)
{
    if (park_check(m, m->curg) < 0) {
        return POLL_ERROR;
    }
    size_t most = 3 * (size_t)(n > 0 ? n : 1);
    Waiting w = {calloc(most, sizeof(Sudog)), calloc(most, sizeof(WaitQ *)), 0};
    PollResult r = POLL_ERROR;
    if (w.sgs == NULL || w.queues == NULL) {
        PyErr_NoMemory();
    }
    else {
        r = wait_in_queues(m, wants, n, ns, false, &w);
    }
    free(w.sgs);
    free(w.queues);
    return r;
}

/* Of a stream, less was read than asked for: there is no more until the next
 * event.  Not if the end was told of, which comes as no event of its own. */
void
netpoll_drained(M *m, int fd)
{
    PollDesc *d = fd >= 0 && fd < m->npolls ? m->polls[fd] : NULL;
    if (d != NULL && d->added && !d->ends) {
        d->drained = true;
        d->ready &= (uint8_t)~POLL_READ;
    }
}

/* A call would find nothing: the caller can as well wait first. */
bool
netpoll_is_drained(M *m, int fd)
{
    PollDesc *d = fd >= 0 && fd < m->npolls ? m->polls[fd] : NULL;
    return d != NULL && d->added && d->drained;
}

#define BUDGET 64

/* To be called before an I/O call: a descriptor that is always ready must not
 * keep all others waiting.  -1 with an exception that was meant for us. */
int
netpoll_turn(M *m)
{
    if (m->io_switch != m->nswitch) {
        m->io_switch = m->nswitch;
        m->io_left = BUDGET;
    }
    if (LIKELY(--m->io_left > 0) || m->curg == NULL) {
        return 0;
    }
    m->io_left = BUDGET;
    return gosched(m);
}

/* Wake who waits for these modes; keep for later those that nobody waits for. */
static void
wake_modes(PollDesc *d, int modes, G **wake)
{
    for (int k = 0; k < 3; k++) {
        if (modes & mode_of[k]) {
            if (waitq_has_waiter(&d->waiters[k])) {
                waitq_wake_all(&d->waiters[k], wake);
            }
            else {
                d->ready |= (uint8_t)mode_of[k];
            }
        }
    }
}

/* A new file has this number: what pollers were told of it is of another. */
void
netpoll_fresh(int fd)
{
    LOCK_SCHED();
    for (M *m = sched.ms; m != NULL; m = m->next) {
        LOCK(&m->pollmu);
        if (fd >= 0 && fd < m->npolls && m->polls[fd] != NULL) {
            m->polls[fd]->added = false;
        }
        UNLOCK(&m->pollmu);
    }
    UNLOCK_SCHED();
}

/* Wake who waits for fd anywhere: to look again, or with POLL_CLOSED. */
static void
wake_waiters(int fd, bool closed)
{
    G *wake = NULL;
    LOCK_SCHED();
    for (M *m = sched.ms; m != NULL; m = m->next) {
        LOCK(&m->pollmu);
        PollDesc *d = fd >= 0 && fd < m->npolls ? m->polls[fd] : NULL;
        for (int k = 0; d != NULL && k < 3; k++) {
            for (Sudog *sg = d->waiters[k].first; sg != NULL; sg = sg->next) {
                sg->closed = closed;
            }
        }
        if (d != NULL) {
            d->added = d->added && !closed;
            d->drained = false;
            wake_modes(d, POLL_READ | POLL_WRITE | POLL_PRIO, &wake);
        }
        UNLOCK(&m->pollmu);
    }
    UNLOCK_SCHED();
    goready_all(wake);
}

/* The owner is about to close fd. */
void
netpoll_closed(int fd)
{
    wake_waiters(fd, true);
}

/* Something came to fd that the poller is not told of. */
void
netpoll_wake(int fd)
{
    wake_waiters(fd, false);
}

/* ---- events ------------------------------------------------------------------------ */

static bool
ready_all(M *m, const PollEvent *events, int n)
{
    G *wake = NULL;
    LOCK(&m->pollmu);
    for (int i = 0; i < n; i++) {
        int fd = events[i].fd;
        PollDesc *d = fd < m->npolls ? m->polls[fd] : NULL;
        if (d != NULL) {
            d->drained = d->drained && !(events[i].modes & POLL_READ);
            d->ends = d->ends || events[i].modes & POLL_ENDS;
            wake_modes(d, events[i].modes, &wake);
        }
    }
    UNLOCK(&m->pollmu);
    goready_all(wake);
    return wake != NULL;
}

/* Take events without waiting.  True if somebody was woken. */
bool
netpoll_look(M *m)
{
    PollEvent events[POLL_EVENTS];
    return m->npollwait > 0 && ready_all(m, events, backend_wait(m, 0, NULL, events));
}

/* Whether m, which sleeps, is about to wake for an event.  From any thread, with
 * sched.mu held. */
bool
netpoll_pending(M *m)
{
    struct pollfd fd = {.fd = m->pollfd, .events = POLLIN};
    return m->npollwait > 0 && fd.fd >= 0 && poll(&fd, 1, 0) > 0;
}

/* ---- sleep ------------------------------------------------------------------------- */

/* With the main thread's signals held back, is there a handler to run? */
static bool
main_has_signal(M *m)
{
    return m->is_main && signals_pending(m->ts);
}

/* To be called before m->sleeping is set: a waker uses the descriptor.  -1 with
 * errno: there is none to be had, and the thread will sleep in naps. */
int
netpoll_open(M *m)
{
    return m->wakefd >= 0 ? 0 : backend_open(m);
}

#define NAP ((int64_t)1000000)

static void
nap(int64_t ns)
{
    struct timespec ts = {0, (long)(ns < NAP ? ns : NAP)};
    nanosleep(&ts, NULL);
}

#define LOOK_AGAIN ((int64_t)500 * 1000000)

/* Sleep with the GIL released.  1: there are signal handlers to run, else 0. */
int
netpoll_sleep(M *m, int64_t ns)
{
    sigset_t all, old;
    if (m->is_main) {
        if (ns > LOOK_AGAIN && has_other_threads(m->ts)) {
            ns = LOOK_AGAIN;
        }
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
    }
    bool signal = main_has_signal(m);
    if (!signal) {
        PollEvent events[POLL_EVENTS];
        PyThreadState *ts = PyEval_SaveThread();
        int n = 0;
        if (LIKELY(m->wakefd >= 0)) {
            n = backend_wait(m, ns, m->is_main ? &old : NULL, events);
        }
        else {
            nap(ns);
        }
        if (n > 0) {
            atomic_store(&m->sleeping, false); /* there is work, and others ask */
        }
        PyEval_RestoreThread(ts);
        ready_all(m, events, n);
        signal = main_has_signal(m);
    }
    if (m->is_main) {
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        signal = signal || main_has_signal(m);
    }
    return signal;
}

void
netpoll_break(M *m)
{
    if (LIKELY(m->wakefd >= 0)) {
        backend_break(m);
    }
}

void
netpoll_close(M *m)
{
    if (m->wakefd >= 0) {
        backend_close(m);
        m->wakefd = m->pollfd = -1;
    }
    for (int i = 0; i < m->npolls; i++) {
        free(m->polls[i]);
    }
    free(m->polls);
    m->polls = NULL;
    m->npolls = 0;
    m->npollwait = 0;
}

/* ---- for Python ------------------------------------------------------------------------ */

/* Do `tell` with a descriptor; a number that none can have is nobody's. */
static PyObject *
with_fd(PyObject *arg, void (*tell)(int))
{
    long fd = PyLong_AsLong(arg);
    if (fd == -1 && PyErr_Occurred()) {
        return NULL;
    }
    tell(fd < INT_MAX ? (int)fd : -1);
    Py_RETURN_NONE;
}

static PyObject *
rt_fd_closed(PyObject *mod, PyObject *arg)
{
    (void)mod;
    return with_fd(arg, netpoll_closed);
}

static PyObject *
rt_fd_wake(PyObject *mod, PyObject *arg)
{
    (void)mod;
    return with_fd(arg, netpoll_wake);
}

static PyObject *
rt_fd_fresh(PyObject *mod, PyObject *arg)
{
    (void)mod;
    return with_fd(arg, netpoll_fresh);
}

static PyObject *
rt_io_turn(PyObject *mod, PyObject *unused)
{
    M *m = getm();
    (void)mod;
    (void)unused;
    return m == NULL || netpoll_turn(m) < 0 ? NULL : Py_NewRef(Py_None);
}

/* [(fd, modes)] -> wants; NULL with an exception. */
static PollWant *
wants_arg(PyObject *seq, Py_ssize_t *n)
{
    PyObject *fast = PySequence_Fast(seq, "_wait_fds: expected a list of (fd, modes)");
    if (fast == NULL) {
        return NULL;
    }
    *n = PySequence_Fast_GET_SIZE(fast);
    PollWant *wants = calloc((size_t)*n + 1, sizeof(PollWant));
    bool ok = wants != NULL;
    for (Py_ssize_t i = 0; ok && i < *n; i++) {
        PyObject *pair = PySequence_Fast_GET_ITEM(fast, i);
        ok = PyArg_ParseTuple(pair, "ii", &wants[i].fd, &wants[i].modes);
    }
    Py_DECREF(fast);
    if (!ok) {
        free(wants);
        if (wants == NULL) {
            PyErr_NoMemory();
        }
        return NULL;
    }
    return wants;
}

static PyObject *
rt_wait_fds(PyObject *mod, PyObject *args)
{
    M *m = getm();
    PyObject *seq, *timeout = NULL;
    int64_t ns;
    Py_ssize_t n;
    (void)mod;
    if (m == NULL || !PyArg_ParseTuple(args, "O|O:_wait_fds", &seq, &timeout) ||
        timeout_arg(timeout, &ns) < 0) {
        return NULL;
    }
    PollWant *wants = wants_arg(seq, &n);
    if (wants == NULL) {
        return NULL;
    }
    PollResult r = netpoll_wait_any(m, wants, n, ns);
    free(wants);
    return r == POLL_ERROR ? NULL : PyLong_FromLong(r);
}

static PyMethodDef functions[] = {
    METHOD("_io_turn", rt_io_turn, METH_NOARGS,
           PyDoc_STR("_io_turn()\n--\n\nBefore an I/O call: let others have their turn at times.")),
    METHOD("_fd_closed", rt_fd_closed, METH_O,
           PyDoc_STR("_fd_closed(fd)\n--\n\nfd is about to be closed: wake who waits for it.")),
    METHOD("_fd_wake", rt_fd_wake, METH_O,
           PyDoc_STR("_fd_wake(fd)\n--\n\nHave who waits for fd look again.")),
    METHOD("_fd_fresh", rt_fd_fresh, METH_O,
           PyDoc_STR("_fd_fresh(fd)\n--\n\nfd is the number of a new file.")),
    METHOD("_wait_fds", rt_wait_fds, METH_VARARGS,
           PyDoc_STR("_wait_fds([(fd, modes)], timeout=None)\n--\n\n"
                     "Park until one may be ready (0), the time is out (1), one was closed (2).\n"
                     "3: one cannot be polled, as a file.  Modes: 1 read, 2 write, 4 priority.")),
    {NULL, NULL, 0, NULL},
};

int
netpoll_add_functions(PyObject *mod)
{
    return PyModule_AddFunctions(mod, functions);
}
