/* http_client.c - see http_client.h; the picture is in http_client_internal.h. */
#include "net/http_client.h"
#include "base/bytes.h"
#include "net/http_client_internal.h"

#include <assert.h>
#include <stdlib.h>

/* ---- what both ways share --------------------------------------------------------- */

bool
rp_fetch_sends_field(const rp_header *field, rp_str connection)
{
    static const rp_str names[] = {
        { "Host", 4 },       { "Content-Length", 14 }, { "Connection", 10 },
        { "Keep-Alive", 10 }, { "Transfer-Encoding", 17 }, { "TE", 2 }, { "Trailer", 7 },
        { "Upgrade", 7 },    { "Proxy-Connection", 16 }, { "Proxy-Authorization", 19 },
        { "Expect", 6 },
    };
    for (size_t i = 0; i < RP_COUNT(names); i++) {
        if (field->name.len == names[i].len && rp_str_equal_ignoring_case(field->name, names[i]))
            return false;
    }
    /* A field named in Connection belongs to the connection, too (RFC 9110 7.6.1). */
    return rp_http_is_token(field->name) && rp_http_is_field_value(field->value) &&
           !(connection.len && rp_http_list_has(connection, field->name));
}

bool
rp_fetch_is_repeatable(const rp_fetch_request *request)
{
    static const rp_str methods[] = { { "GET", 3 }, { "HEAD", 4 }, { "OPTIONS", 7 }, { "TRACE", 5 },
                                      { "PUT", 3 }, { "DELETE", 6 } }; /* RFC 9110 9.2.2 */
    for (size_t i = 0; i < RP_COUNT(methods); i++)
        if (rp_str_equal(request->method, methods[i]))
            return true;
    return rp_http_header(request->headers, request->header_count, "idempotency-key").len > 0;
}

rp_fetch_patience
rp_fetch_patience_of(const rp_fetch_request *request)
{
    return (rp_fetch_patience){
        .connect_us = request->connect_timeout_us ? request->connect_timeout_us : 10 * RP_SECOND_US,
        .first_byte_us =
            request->first_byte_timeout_us ? request->first_byte_timeout_us : 600 * RP_SECOND_US,
        .idle_us = request->idle_timeout_us ? request->idle_timeout_us : 300 * RP_SECOND_US,
        .total_us = request->total_timeout_us,
    };
}

void
rp_http_client_enter(rp_http_client *client)
{
    client->busy++;
}

void
rp_http_client_leave(rp_http_client *client)
{
    client->busy--;
    if (client->wants_free && !client->busy)
        rp_http_client_free(client);
}

/* ---- fetches ------------------------------------------------------------------------ */

/* Whatever an address needs is made for the first one that needs it. */
static rp_status
make_ways(rp_http_client *client, rp_str url, rp_direct_target *target, bool *is_direct,
          rp_error *error)
{
    *is_direct = !client->proxy && !client->direct_is_off && rp_direct_parse(url, target);
    if (*is_direct)
        return client->direct ? RP_OK : rp_direct_new(client, error);
    return client->curl ? RP_OK : rp_curl_new(client, error);
}

rp_status
rp_http_client_prepare(rp_http_client *client, rp_str url, rp_error *error)
{
    rp_direct_target target;
    bool is_direct;
    return make_ways(client, url, &target, &is_direct, error);
}

rp_status
rp_fetch_start(rp_http_client *client, const rp_fetch_request *given,
               const rp_fetch_handler *handler, void *context, rp_fetch **out, rp_error *error)
{
    assert(handler->on_head && handler->on_data && handler->on_done);
    rp_fetch_request request = *given;
    request.body_is_whole |= given->body_size == 0; /* nothing will follow nothing */
    rp_direct_target target;
    bool is_direct;
    const rp_status status = make_ways(client, request.url, &target, &is_direct, error);
    if (status != RP_OK)
        return status;
    if (is_direct)
        return rp_direct_start(client->direct, &target, &request, handler, context, out, error);
    return rp_curl_start(client->curl, &request, handler, context, out, error);
}

void
rp_fetch_cancel(rp_fetch *fetch)
{
    if (fetch->is_direct)
        rp_direct_cancel(fetch);
    else
        rp_curl_cancel(fetch);
}

void
rp_fetch_resume(rp_fetch *fetch)
{
    if (fetch->is_direct)
        rp_direct_resume(fetch);
    else
        rp_curl_resume(fetch);
}

bool
rp_fetch_send(rp_fetch *fetch, rp_str bytes, bool last)
{
    assert(rp_loop_is_current(fetch->client->loop));
    return fetch->is_direct ? rp_direct_send(fetch, bytes, last) : rp_curl_send(fetch, bytes, last);
}

/* ---- the client ------------------------------------------------------------------------ */

rp_status
rp_http_client_new(rp_loop *loop, const rp_http_client_options *options, rp_http_client **out,
                   rp_error *error)
{
    rp_http_client *client = calloc(1, sizeof *client);
    if (!client)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for the HTTP client");
    client->loop = loop;
    client->connections_max = options->connections_max ? options->connections_max : 256;
    client->proxy = options->proxy ? strdup(options->proxy) : NULL;
    client->certificate_authorities =
        options->certificate_authorities ? strdup(options->certificate_authorities) : NULL;
    if ((options->proxy && !client->proxy) ||
        (options->certificate_authorities && !client->certificate_authorities)) {
        rp_http_client_free(client);
        return rp_fail(error, RP_ERR_NOMEM, "no memory for the HTTP client");
    }
    *out = client;
    return RP_OK;
}

void
rp_http_client_free(rp_http_client *client)
{
    if (!client)
        return;
    rp_direct_cancel_all(client->direct);
    rp_curl_cancel_all(client->curl);
    if (client->busy) {
        client->wants_free = true; /* the last who uses it does it */
        return;
    }
    rp_direct_free(client->direct);
    rp_curl_free(client->curl);
    free(client->proxy);
    free(client->certificate_authorities);
    free(client);
}
