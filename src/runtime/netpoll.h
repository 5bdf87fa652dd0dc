/* SPDX-License-Identifier: MIT
 *
 * netpoll.h: what a platform's backend supplies; the contract is in netpoll.c.
 */
#ifndef GOROUTINES_NETPOLL_H
#define GOROUTINES_NETPOLL_H

#include "runtime.h"

#include <signal.h>

HIDDEN int backend_open(M *m);
HIDDEN void backend_close(M *m);
HIDDEN void backend_break(M *m);
HIDDEN void backend_wait(M *m, int64_t ns, const sigset_t *mask);

#endif
