/* SPDX-License-Identifier: MIT
 *
 * sysmon.c: the thread that watches the others (Go's sysmon).
 *
 * It looks each TURN whether the main thread still runs the goroutine that it ran
 * before while others could; if so it trips a signal, of which only Python knows:
 * the handler runs between two bytecodes of the hog and lets the others run.
 *
 * Python's main thread alone serves signals, so goroutines of other threads are
 * not preempted.  It begins with patch(): a goroutine that is preempted with
 * an unpatched lock in its hands would stop its thread.
 *
 * Lock rules: it has no thread state and touches no object.  What it reads of an
 * M are single words, which may be a turn old.  It sleeps for good while the
 * main thread does, and is roused by that: sysmon.mu guards `asleep` and `stop`.
 */
#include "runtime.h"

#include <signal.h>
#include <time.h>

#define TURN ((int64_t)10 * 1000000)

static struct {
    pthread_mutex_t mu;
    pthread_cond_t change;
    pthread_t thread;
    bool runs, stop;
    int signum;
} sysmon;

_Atomic(bool) sysmon_asleep; /* the main thread must rouse it */

/* ---- the thread --------------------------------------------------------------------- */

/* Let a turn go by.  False: stop. */
static bool
nap(void)
{
    struct timespec until;
#ifdef __APPLE__
    clock_gettime(CLOCK_REALTIME, &until);
#else
    clock_gettime(CLOCK_MONOTONIC, &until);
#endif
    until.tv_nsec += TURN;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_mutex_lock(&sysmon.mu);
    while (!sysmon.stop && pthread_cond_timedwait(&sysmon.change, &sysmon.mu, &until) == 0) {
    }
    bool go_on = !sysmon.stop;
    pthread_mutex_unlock(&sysmon.mu);
    return go_on;
}

/* Until the main thread works again.  False: stop. */
static bool
sleep_while_idle(M *m)
{
    pthread_mutex_lock(&sysmon.mu);
    atomic_store(&sysmon_asleep, true);
    while (atomic_load(&sysmon_asleep) && atomic_load(&m->sleeping) && !sysmon.stop) {
        pthread_cond_wait(&sysmon.change, &sysmon.mu);
    }
    atomic_store(&sysmon_asleep, false);
    bool go_on = !sysmon.stop;
    pthread_mutex_unlock(&sysmon.mu);
    return go_on;
}

static inline uint64_t
switches(M *m)
{
    return *(volatile uint64_t *)&m->nswitch;
}

static inline bool
others_wait(M *m)
{
    return *(G *volatile *)&m->runq.head != NULL || atomic_load(&m->inbox) != NULL ||
           *(volatile Py_ssize_t *)&m->timers.n > 0 || *(volatile Py_ssize_t *)&m->npollwait > 0;
}

static void *
sysmon_main(void *arg)
{
    M *m = arg;
    for (uint64_t seen = switches(m); nap();) {
        if (atomic_load(&m->sleeping)) {
            if (!sleep_while_idle(m)) {
                break;
            }
        }
        else if (switches(m) == seen && others_wait(m)) {
            trip_signal(sysmon.signum);
            seen++; /* the switch that this makes begins the next one's turn */
            continue;
        }
        seen = switches(m);
    }
    return NULL;
}

/* The main thread has something to do again. */
void
sysmon_rouse(void)
{
    pthread_mutex_lock(&sysmon.mu);
    atomic_store(&sysmon_asleep, false);
    pthread_cond_signal(&sysmon.change);
    pthread_mutex_unlock(&sysmon.mu);
}

/* ---- start and stop -------------------------------------------------------------------- */

static void
make_locks(void)
{
    pthread_condattr_t attr;
    pthread_mutex_init(&sysmon.mu, NULL);
    pthread_condattr_init(&attr);
#ifndef __APPLE__
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
#endif
    pthread_cond_init(&sysmon.change, &attr);
    pthread_condattr_destroy(&attr);
}

/* Watch the main thread.  `signum` has a handler that calls gopreempt. */
int
sysmon_start(int signum)
{
    if (sysmon.runs || sched.main == NULL) {
        return 0;
    }
    sigset_t all, old;
    make_locks();
    sysmon.signum = signum;
    sysmon.stop = false;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    sysmon.runs = pthread_create(&sysmon.thread, NULL, sysmon_main, sched.main) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!sysmon.runs) {
        PyErr_SetString(PyExc_RuntimeError, "cannot start the thread that preempts goroutines");
        return -1;
    }
    return 0;
}

void
sysmon_stop(void)
{
    if (!sysmon.runs) {
        return;
    }
    pthread_mutex_lock(&sysmon.mu);
    sysmon.stop = true;
    pthread_cond_signal(&sysmon.change);
    pthread_mutex_unlock(&sysmon.mu);
    pthread_join(sysmon.thread, NULL);
    sysmon.runs = false;
}

/* The thread is the parent's. */
void
sysmon_after_fork(void)
{
    bool ran = sysmon.runs;
    atomic_store(&sysmon_asleep, false);
    sysmon.runs = false;
    if (ran && sysmon_start(sysmon.signum) < 0) {
        PyErr_WriteUnraisable(NULL);
    }
}
