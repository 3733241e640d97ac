/* serve.c - `reprise serve`: the caching proxy as a process.
 *
 * Signals: TERM and INT drain and stop within drain_timeout (a second one stops at
 * once), HUP reads the configuration again. The main thread does nothing but wait
 * for them. */
#include "tools/command.h"

#include "base/bytes.h"
#include "base/log.h"
#include "embed/registry.h"
#include "server/admin.h"
#include "server/config.h"
#include "server/server.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

typedef struct arguments {
    const char *file;
    rp_config_flags flags;
    bool check;
} arguments;

static void
print_help(void)
{
    fputs("Usage: reprise serve [-c FILE] [options]\n\n"
          "Stand between applications and an OpenAI- or Anthropic-compatible service and answer\n"
          "repeated or rephrased prompts from the store.\n\n"
          "  -c, --config FILE    YAML configuration (docs/configuration.md)\n"
          "      --upstream URL   the service behind us\n"
          "      --listen A:P     where applications connect (127.0.0.1:8080)\n"
          "      --admin A:P      metrics and management (127.0.0.1:8081)\n"
          "      --data DIR       the store\n"
          "      --model NAME|DIR encoder of the semantic tier; none: exact tier only\n"
          "      --policy SPEC    how a hit is decided, calibrated unless given;\n"
          "                       e.g. static:min_similarity=0.95\n"
          "      --mode MODE      serve, shadow (decide and report, always forward) or off\n"
          "      --seed N         repeatable decisions\n"
          "      --check          validate, print the effective values, secrets masked, and exit\n"
          "      --help           this text\n",
          stdout);
}

/* 0: go on; else the exit status plus one. */
static int
read_arguments(int argc, char **argv, arguments *out)
{
    enum { OPT_UPSTREAM = 256, OPT_LISTEN, OPT_ADMIN, OPT_DATA, OPT_MODEL, OPT_POLICY, OPT_MODE,
           OPT_SEED, OPT_CHECK, OPT_HELP };
    static const struct option options[] = {
        { "config", required_argument, NULL, 'c' },
        { "upstream", required_argument, NULL, OPT_UPSTREAM },
        { "listen", required_argument, NULL, OPT_LISTEN },
        { "admin", required_argument, NULL, OPT_ADMIN },
        { "data", required_argument, NULL, OPT_DATA },
        { "model", required_argument, NULL, OPT_MODEL },
        { "policy", required_argument, NULL, OPT_POLICY },
        { "mode", required_argument, NULL, OPT_MODE },
        { "seed", required_argument, NULL, OPT_SEED },
        { "check", no_argument, NULL, OPT_CHECK },
        { "help", no_argument, NULL, OPT_HELP },
        { NULL, 0, NULL, 0 },
    };
    int option;
    optind = 1;
    while ((option = getopt_long(argc, argv, "c:", options, NULL)) != -1) {
        switch (option) {
        case 'c': out->file = optarg; break;
        case OPT_UPSTREAM: out->flags.upstream = optarg; break;
        case OPT_LISTEN: out->flags.listen = optarg; break;
        case OPT_ADMIN: out->flags.admin = optarg; break;
        case OPT_DATA: out->flags.data = optarg; break;
        case OPT_MODEL: out->flags.model = optarg; break;
        case OPT_POLICY: out->flags.policy = optarg; break;
        case OPT_MODE: out->flags.mode = optarg; break;
        case OPT_SEED: out->flags.seed = optarg; break;
        case OPT_CHECK: out->check = true; break;
        case OPT_HELP: print_help(); return RP_EXIT_DONE + 1;
        default: return RP_EXIT_USAGE + 1;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "reprise serve: '%s' is not an option\n", argv[optind]);
        return RP_EXIT_USAGE + 1;
    }
    return 0;
}

/* What the configuration names outside of itself must be there. */
static bool
names_exist(const rp_config *config, rp_error *error)
{
    const char *const files[] = { config->tls_certificate, config->tls_key,
                                  config->admin_tls_certificate, config->admin_tls_key };
    char folder[4096];
    for (size_t i = 0; i < RP_COUNT(files); i++)
        if (files[i] && access(files[i], R_OK) != 0) {
            rp_fail(error, RP_ERR_NOT_FOUND, "cannot read %s: %s", files[i], strerror(errno));
            return false;
        }
    return config->encoder_off ||
           rp_model_resolve(config->encoder_model, folder, sizeof folder, error) == RP_OK;
}

static int
check(const rp_config *config)
{
    rp_error error = { { 0 } };
    if (!names_exist(config, &error)) {
        fprintf(stderr, "reprise serve: %s\n", error.text);
        return RP_EXIT_USAGE;
    }
    rp_buffer text;
    rp_buffer_init(&text, 0);
    rp_config_print(config, &text);
    fwrite(text.ptr, 1, text.len, stdout);
    rp_buffer_fini(&text);
    return RP_EXIT_DONE;
}

/* systemd's sd_notify(3): a datagram to the socket it named. Silence if there is none. */
static void
notify_systemd(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (!path || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof address.sun_path)
        return;
    memcpy(address.sun_path, path, strlen(path));
    if (path[0] == '@')
        address.sun_path[0] = '\0';
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    (void)!sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address,
                  (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path)));
    close(fd);
}

/* Also after a reload: an address may have changed. */
static void
say_addresses(rp_server *server, rp_admin *admin)
{
    const rp_config *config = rp_server_config(server);
    rp_log(RP_LOG_INFO, "admin listener on %.*s, its token in %s/admin.token unless configured",
           RP_FMT(rp_admin_address(admin)), config->data);
    rp_log(RP_LOG_INFO, "listening on %.*s, upstream %s", RP_FMT(rp_server_address(server)),
           config->upstreams[0].url);
    rp_config_unref(config);
}

static void
reload(rp_server *server, rp_admin *admin, const arguments *given)
{
    const rp_config *config;
    rp_error error = { { 0 } };
    notify_systemd("RELOADING=1");
    if (rp_config_load(given->file, &given->flags, &config, &error) != RP_OK) {
        rp_log(RP_LOG_ERROR, "the old configuration stays: %s", error.text);
    } else {
        if (rp_server_reload(server, config, &error) == RP_OK)
            rp_log(RP_LOG_INFO, "configuration reloaded");
        else
            rp_log(RP_LOG_ERROR, "the old configuration stays: %s", error.text);
        rp_config_unref(config);
    }
    if (rp_admin_reload(admin, &error) != RP_OK)
        rp_log(RP_LOG_ERROR, "the admin listener stays as it was: %s", error.text);
    say_addresses(server, admin);
    notify_systemd("READY=1");
}

static void
drain_and_stop(rp_server *server, const sigset_t *signals, int64_t timeout_us)
{
    rp_log(RP_LOG_INFO, "stopping: requests under way may end");
    notify_systemd("STOPPING=1");
    rp_server_drain(server);
    const struct timespec none = { 0, 0 };
    for (int64_t waited_us = 0; waited_us < timeout_us; waited_us += 100000) {
        if (rp_server_wait_drained(server, 100000))
            return;
        const int signal = sigtimedwait(signals, NULL, &none);
        if (signal == SIGTERM || signal == SIGINT)
            break;
    }
    rp_log(RP_LOG_WARNING, "requests that are still under way are broken off");
}

static void
wait_for_signals(rp_server *server, rp_admin *admin, const sigset_t *signals,
                 const arguments *given)
{
    for (;;) {
        int signal;
        if (sigwait(signals, &signal) != 0)
            continue;
        if (signal == SIGHUP) {
            reload(server, admin, given);
            continue;
        }
        const rp_config *config = rp_server_config(server);
        const int64_t timeout_us = config->drain_timeout_us;
        rp_config_unref(config);
        drain_and_stop(server, signals, timeout_us);
        return;
    }
}

static int
serve(const rp_config *config, const arguments *given)
{
    /* Blocked before any thread begins, so that only sigwait sees them. */
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);

    rp_server *server;
    rp_error error = { { 0 } };
    if (!names_exist(config, &error)) {
        fprintf(stderr, "reprise serve: %s\n", error.text);
        return RP_EXIT_USAGE;
    }
    for (size_t i = 0; i < config->upstream_count; i++)
        if (config->upstreams[i].version_dropped)
            rp_log(RP_LOG_INFO, "upstream %s: the /v1 at the end of its url is dropped, for requests bring "
                                "their whole path", config->upstreams[i].name);
    const rp_status status = rp_server_start(config, &server, &error);
    if (status != RP_OK) {
        fprintf(stderr, "reprise serve: %s\n", error.text);
        return status == RP_ERR_INVALID || status == RP_ERR_NOT_FOUND ? RP_EXIT_USAGE
                                                                      : RP_EXIT_FAILED;
    }
    rp_admin *admin;
    const rp_status managed = rp_admin_start(server, &admin, &error);
    if (managed != RP_OK) {
        fprintf(stderr, "reprise serve: %s\n", error.text);
        rp_server_stop(server);
        return managed == RP_ERR_INVALID ? RP_EXIT_USAGE : RP_EXIT_FAILED;
    }
    say_addresses(server, admin);
    notify_systemd("READY=1");
    wait_for_signals(server, admin, &signals, given);
    rp_admin_stop(admin);
    rp_server_stop(server);
    rp_admin_free(admin);
    return RP_EXIT_DONE;
}

int
rp_command_serve(int argc, char **argv)
{
    arguments given = { 0 };
    const int stop = read_arguments(argc, argv, &given);
    if (stop)
        return stop - 1;
    const rp_config *config;
    rp_error error = { { 0 } };
    if (rp_config_load(given.file, &given.flags, &config, &error) != RP_OK) {
        fprintf(stderr, "reprise serve: %s\n", error.text);
        return RP_EXIT_USAGE;
    }
    const int result = given.check ? check(config) : serve(config, &given);
    rp_config_unref(config);
    return result;
}
