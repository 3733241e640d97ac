/* routing.c - see routing.h. */
#include "server/routing.h"
#include "base/bytes.h"

rp_routing
rp_routing_find(const rp_site *site, const rp_tenant_config *tenant, rp_str tenant_name, rp_str path,
                rp_str model, rp_str namespace_name, bool anthropic,
                rp_config_header_of *header_of, void *context)
{
    const rp_config *config = site->config;
    rp_routing found = { .route = rp_config_route(config, path, model, tenant_name, namespace_name,
                                                  header_of, context) };
    found.route_index = (size_t)(found.route - config->routes);
    /* The route's, else the tenant's, else the first that speaks the protocol. */
    int at = found.route->upstream;
    if (at < 0 && tenant)
        at = tenant->upstream;
    const unsigned protocol = anthropic ? RP_PROTOCOL_ANTHROPIC : RP_PROTOCOL_OPENAI;
    for (size_t i = 0; at < 0 && i < config->upstream_count; i++)
        if (config->upstreams[i].protocols & protocol)
            at = (int)i;
    if (config->upstream_count)
        found.upstream = &config->upstreams[at < 0 ? 0 : at];
    return found;
}

rp_caller
rp_routing_caller(const rp_routing *routing, rp_str tenant_name, rp_str path,
                  const rp_client_headers *headers)
{
    return (rp_caller){
        .tenant = tenant_name,
        .upstream = rp_str_of(routing->upstream ? routing->upstream->name : NULL),
        .endpoint = path,
        .share_wires = routing->route->share_wires,
        .isolate_user = routing->route->isolate_user,
        .namespace_name = headers->namespace_name,
        .attributes = headers->attributes,
        .attribute_count = headers->attribute_count,
        .route = rp_str_of(routing->route->name),
        .category = headers->category.len ? headers->category
                                          : rp_str_of(routing->route->category),
    };
}
