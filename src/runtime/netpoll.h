/* SPDX-License-Identifier: MIT
 *
 * netpoll.h: what a platform's backend supplies; the contract is in netpoll.c.
 */
#ifndef GOROUTINES_NETPOLL_H
#define GOROUTINES_NETPOLL_H

#include "runtime.h"

#include <signal.h>

typedef struct {
    int fd;
    int modes; /* POLL_READ, ..., POLL_ENDS */
} PollEvent;

#define POLL_EVENTS 128 /* taken at a time */
#define POLL_ENDS 8     /* the other side has closed, or there is an error or priority data */

HIDDEN int backend_open(M *m);
HIDDEN void backend_close(M *m);
HIDDEN void backend_break(M *m);
HIDDEN int backend_add(M *m, int fd);
HIDDEN int backend_wait(M *m, int64_t ns, const sigset_t *mask, PollEvent *out);

#endif
