/* routing.h - which route and which upstream a request gets, and what the cache is told
 * about its caller. One place, so that a native call finds the entries that the
 * proxied request made.
 *
 * Threads: pure functions of an immutable site. */
#ifndef RP_SERVER_ROUTING_H
#define RP_SERVER_ROUTING_H

#include "server/server_internal.h"

typedef struct rp_routing {
    const rp_route_config *route;       /* in the site's configuration */
    size_t route_index;
    const rp_upstream_config *upstream; /* in the site's configuration; NULL: none configured */
} rp_routing;

/* `anthropic`: the request speaks that protocol. `header_of` as rp_config_route. */
rp_routing rp_routing_find(const rp_site *site, const rp_tenant_config *tenant, rp_str tenant_name,
                           rp_str path, rp_str model, rp_str namespace_name, bool anthropic,
                           rp_config_header_of *header_of, void *context);

/* The caller of such a request; strings are borrowed. */
rp_caller rp_routing_caller(const rp_routing *routing, rp_str tenant_name, rp_str path,
                            const rp_client_headers *headers);

#endif
