/* SPDX-License-Identifier: MIT
 *
 * netpoll.c: how a thread without work sleeps, and how others rouse it.
 *
 * The contract of a backend (netpoll_epoll.c, netpoll_kqueue.c), all called by
 * the M's own thread but for backend_break:
 *
 *   int  backend_open(M *m)              make m->wakefd; -1 with errno
 *   void backend_close(M *m)
 *   void backend_break(M *m)             any thread: end m's present or next wait
 *   void backend_wait(M *m, int64_t ns, const sigset_t *mask)
 *            wait at most ns nanoseconds (FOREVER: no limit) for a break or a
 *            signal; `mask`, if given, is the signal mask while waiting
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
#include <signal.h>

#include "netpoll.h"

/* With the main thread's signals held back, is there a handler to run? */
static bool
main_has_signal(M *m)
{
    return m->is_main && signals_pending(m->ts);
}

/* To be called before m->sleeping is set: a waker uses the descriptor. */
void
netpoll_open(M *m)
{
    if (m->wakefd < 0 && backend_open(m) < 0) {
        throw_("cannot create the descriptor that rouses a thread");
    }
}

#define LOOK_AGAIN ((int64_t)500 * 1000000)

static bool
has_other_threads(PyThreadState *ts)
{
    return ts->next != NULL || ts->prev != NULL;
}

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
        PyThreadState *ts = PyEval_SaveThread();
        backend_wait(m, ns, m->is_main ? &old : NULL);
        PyEval_RestoreThread(ts);
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
    backend_break(m);
}

void
netpoll_close(M *m)
{
    if (m->wakefd >= 0) {
        backend_close(m);
        m->wakefd = -1;
    }
}
