/* admin.h - the second listener: metrics, health, management of all tenants.
 *
 * /healthz, /readyz and /metrics need no token; everything under /v1/reprise/ does
 * ("Authorization: Bearer TOKEN"). Requests with a foreign Host or Origin are refused, so
 * that a page in a browser on this machine cannot reach it by a name of its own.
 *
 * Threads: start and stop belong to one thread; the listener runs on a loop of its own. */
#ifndef RP_SERVER_ADMIN_H
#define RP_SERVER_ADMIN_H

#include "server/server.h"

typedef struct rp_admin rp_admin;

/* Listen as the server's configuration says. Without a configured token a random one is
 * made in DATA/admin.token (0600), which command-line tools read. Fails: RP_ERR_INVALID
 * (an address that is not loopback without an explicit token), RP_ERR_IO. */
RP_NODISCARD rp_status rp_admin_start(rp_server *server, rp_admin **out, rp_error *error);
rp_str rp_admin_address(const rp_admin *admin);
/* Take address, TLS files (read again) and token from the server's configuration. All or
 * nothing; fails as rp_admin_start does. By the thread that started it. */
RP_NODISCARD rp_status rp_admin_reload(rp_admin *admin, rp_error *error);
/* Stop answering, before rp_server_stop; free afterwards, because calls under way on the
 * server's pool still look at it. NULL is fine for both. */
void rp_admin_stop(rp_admin *admin);
void rp_admin_free(rp_admin *admin);

#endif
