/* SPDX-License-Identifier: MIT
 *
 * netpoll_epoll.c: Linux.  An eventfd is the break; ppoll waits, since it
 * counts nanoseconds on every kernel and swaps the signal mask (epoll_pwait2
 * needs 5.11; epoll_pwait counts milliseconds).
 */
#include "netpoll.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

int
backend_open(M *m)
{
    m->wakefd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return m->wakefd < 0 ? -1 : 0;
}

void
backend_close(M *m)
{
    close(m->wakefd);
}

void
backend_break(M *m)
{
    uint64_t one = 1;
    while (write(m->wakefd, &one, sizeof(one)) < 0 && errno == EINTR) {
    }
}

#define A_DAY ((int64_t)86400 * 1000000000)

void
backend_wait(M *m, int64_t ns, const sigset_t *mask)
{
    struct pollfd pfd = {.fd = m->wakefd, .events = POLLIN};
    if (ns > A_DAY) {
        ns = A_DAY; /* the caller looks again */
    }
    struct timespec ts = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    if (ppoll(&pfd, 1, &ts, mask) > 0) {
        uint64_t count;
        ssize_t ignored = read(m->wakefd, &count, sizeof(count));
        (void)ignored;
    }
}
