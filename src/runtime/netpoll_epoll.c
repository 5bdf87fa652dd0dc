/* SPDX-License-Identifier: MIT
 *
 * netpoll_epoll.c: Linux.  One epoll instance for each thread, with an eventfd
 * in it as the break.  Descriptors are edge-triggered and added once.
 *
 * epoll_pwait2 counts nanoseconds; kernels before 5.11 lack it, so there ppoll
 * waits for the epoll descriptor itself.
 */
#include "netpoll.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif

#define EVERYTHING (EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLET)

static int
ctl(M *m, int op, int fd, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.fd = fd};
    return epoll_ctl(m->pollfd, op, fd, &ev);
}

int
backend_open(M *m)
{
    m->pollfd = epoll_create1(EPOLL_CLOEXEC);
    m->wakefd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (m->pollfd >= 0 && m->wakefd >= 0 && ctl(m, EPOLL_CTL_ADD, m->wakefd, EPOLLIN) == 0) {
        return 0;
    }
    int error = errno;
    if (m->wakefd >= 0) {
        close(m->wakefd);
    }
    if (m->pollfd >= 0) {
        close(m->pollfd);
    }
    m->wakefd = m->pollfd = -1;
    errno = error;
    return -1;
}

void
backend_close(M *m)
{
    close(m->wakefd);
    close(m->pollfd);
}

void
backend_break(M *m)
{
    uint64_t one = 1;
    while (write(m->wakefd, &one, sizeof(one)) < 0 && errno == EINTR) {
    }
}

/* Also for one that was added before: it tells of what is ready once more. */
int
backend_add(M *m, int fd)
{
    if (ctl(m, EPOLL_CTL_MOD, fd, EVERYTHING) == 0) {
        return 0;
    }
    return errno == ENOENT ? ctl(m, EPOLL_CTL_ADD, fd, EVERYTHING) : -1;
}

#define A_DAY ((int64_t)86400 * 1000000000)

static int
wait_for_events(M *m, struct epoll_event *events, int64_t ns, const sigset_t *mask)
{
    static _Atomic(bool) too_old;
    if (ns > A_DAY) {
        ns = A_DAY; /* the caller looks again */
    }
    struct timespec ts = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    if (!too_old) {
        long n =
            syscall(SYS_epoll_pwait2, m->pollfd, events, POLL_EVENTS, &ts, mask, (size_t)_NSIG / 8);
        if (n >= 0 || errno != ENOSYS) {
            return (int)n;
        }
        too_old = true;
    }
    struct pollfd pfd = {.fd = m->pollfd, .events = POLLIN};
    return ppoll(&pfd, 1, &ts, mask) <= 0 ? 0 : epoll_wait(m->pollfd, events, POLL_EVENTS, 0);
}

static int
as_modes(uint32_t events)
{
    int modes = 0;
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        modes |= POLL_READ;
    }
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) {
        modes |= POLL_WRITE;
    }
    if (events & (EPOLLPRI | EPOLLHUP | EPOLLERR)) {
        modes |= POLL_PRIO;
    }
    if (events & (EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        modes |= POLL_ENDS;
    }
    return modes;
}

int
backend_wait(M *m, int64_t ns, const sigset_t *mask, PollEvent *out)
{
    struct epoll_event events[POLL_EVENTS];
    int n = wait_for_events(m, events, ns, mask), kept = 0;
    for (int i = 0; i < n; i++) {
        if (events[i].data.fd == m->wakefd) {
            uint64_t count;
            ssize_t ignored = read(m->wakefd, &count, sizeof(count));
            (void)ignored;
        }
        else {
            out[kept++] = (PollEvent){events[i].data.fd, as_modes(events[i].events)};
        }
    }
    return kept;
}
