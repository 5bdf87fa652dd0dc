/* SPDX-License-Identifier: MIT
 *
 * netpoll_kqueue.c: macOS and the BSDs.  An EVFILT_USER event is the break.
 *
 * kevent cannot swap the signal mask.  Signals are therefore let in before the
 * wait, and the wait is cut into pieces of a tenth of a second: a signal that
 * comes in between is served that late at the worst.
 */
#include "netpoll.h"

#include <pthread.h>
#include <sys/event.h>
#include <time.h>
#include <unistd.h>

#define A_PIECE ((int64_t)100 * 1000000)

int
backend_open(M *m)
{
    struct kevent ev;
    m->wakefd = kqueue();
    if (m->wakefd < 0) {
        return -1;
    }
    EV_SET(&ev, 0, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0, NULL);
    return kevent(m->wakefd, &ev, 1, NULL, 0, NULL);
}

void
backend_close(M *m)
{
    close(m->wakefd);
}

void
backend_break(M *m)
{
    struct kevent ev;
    EV_SET(&ev, 0, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL);
    kevent(m->wakefd, &ev, 1, NULL, 0, NULL);
}

static int
add_filter(M *m, int fd, int filter)
{
    struct kevent ev;
    EV_SET(&ev, fd, filter, EV_ADD | EV_CLEAR, 0, 0, NULL);
    return kevent(m->wakefd, &ev, 1, NULL, 0, NULL);
}

/* Also for one that was added before: adding again tells what is ready. */
int
backend_add(M *m, int fd)
{
    if (add_filter(m, fd, EVFILT_READ) < 0) {
        return -1;
    }
    add_filter(m, fd, EVFILT_WRITE); /* refused for what is only read */
    return 0;
}

static int
as_modes(const struct kevent *ev)
{
    int modes = ev->filter == EVFILT_READ ? POLL_READ : POLL_WRITE;
    return ev->flags & (EV_EOF | EV_ERROR) ? POLL_READ | POLL_WRITE | POLL_ENDS : modes;
}

int
backend_wait(M *m, int64_t ns, const sigset_t *mask, PollEvent *out)
{
    struct kevent events[POLL_EVENTS];
    if (mask != NULL) {
        pthread_sigmask(SIG_SETMASK, mask, NULL);
        if (ns > A_PIECE) {
            ns = A_PIECE;
        }
    }
    struct timespec ts = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    int n = kevent(m->wakefd, NULL, 0, events, POLL_EVENTS, ns == FOREVER ? NULL : &ts), kept = 0;
    for (int i = 0; i < n; i++) {
        if (events[i].filter != EVFILT_USER) {
            out[kept++] = (PollEvent){(int)events[i].ident, as_modes(&events[i])};
        }
    }
    return kept;
}
