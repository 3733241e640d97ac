/* eval_record.c - `reprise eval record`: one measurement, kept with all that is needed to
 * repeat it.
 *
 * Runs this program with the arguments behind `--` and writes FILE: a first line
 * {"about": {...}} (command, build, machine, every input file with its SHA-256, when and how
 * long), then the lines that the command printed. `eval report` reads such files. FILE
 * appears only when the command succeeded, in one piece; if FILE is there already and the
 * command, its inputs and this program are the same, nothing runs. A chain of records is
 * therefore resumed by starting it again.
 *
 * An argument is an input if it names a regular file and does not follow an option that
 * says where to write (its name ends in "out", or is --cache). */
#include "tools/command.h"
#include "tools/eval_tool.h"

#include "base/buffer.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "json/json.h"
#include "math/kernels.h"
#include <reprise/reprise.h>

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum { ABOUT_SIZE_MAX = 1 << 20, RESULT_SIZE_MAX = 1 << 30 };

typedef struct record_options {
    const char *out;
    char **command; /* (command_count) behind "--"; a NULL follows */
    int command_count;
    bool again, any_build;
} record_options;

static void
print_help(void)
{
    puts("Usage: reprise eval record --out FILE [options] -- COMMAND [arguments]\n\n"
         "Runs `reprise COMMAND ...` and keeps what it prints in FILE, under a first line that\n"
         "says what ran on what: command, commit, processor, SHA-256 of every input. Does\n"
         "nothing if FILE already holds the same command, inputs and program.\n\n"
         "  --out FILE    where to; written when the command has succeeded\n"
         "  --any-build   another build of this program is the same program, too\n"
         "  --again       run in any case\n"
         "  --help\n\n"
         "  reprise eval record --out s.jsonl -- eval stream --json --sweep stream.jsonl");
}

/* False: the exit status is in *exit_status. */
static bool
parse_arguments(int argc, char **argv, record_options *o, int *exit_status)
{
    static const struct option options[] = {
        { "out", required_argument, NULL, 'o' }, { "any-build", no_argument, NULL, 'b' },
        { "again", no_argument, NULL, 'a' },     { "help", no_argument, NULL, 'h' },
        { 0 },
    };
    int option;
    *exit_status = RP_EXIT_USAGE;
    /* "+": what follows the first other word belongs to the command. */
    while ((option = getopt_long(argc, argv, "+", options, NULL)) != -1)
        switch (option) {
        case 'o': o->out = optarg; break;
        case 'b': o->any_build = true; break;
        case 'a': o->again = true; break;
        case 'h':
            print_help();
            *exit_status = RP_EXIT_DONE;
            return false;
        default:
            fputs("Try `reprise eval record --help`.\n", stderr);
            return false;
        }
    o->command = argv + optind;
    o->command_count = argc - optind;
    if (o->out && o->command_count)
        return true;
    fputs("reprise eval record: give --out FILE and, behind --, a command\n", stderr);
    return false;
}

/* ---- what is said about a run -------------------------------------------------------------- */

static bool
names_an_output(const char *option)
{
    const rp_str name = rp_str_of(option);
    return rp_str_starts_with(name, RP_STR("--")) && !strchr(option, '=') &&
           (rp_str_ends_with(name, RP_STR("out")) || rp_str_equal(name, RP_STR("--cache")) ||
            rp_str_equal(name, RP_STR("--checkpoint")));
}

/* The path within an argument: itself, or what stands behind the '=' of an option. */
static const char *
path_of(const char *argument)
{
    const char *sign = strncmp(argument, "--", 2) == 0 ? strchr(argument, '=') : NULL;
    return sign ? sign + 1 : argument;
}

static bool
is_regular_file(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

static rp_status
hash_file(const char *path, char hex[65], size_t *size, rp_error *error)
{
    rp_file_map map;
    uint8_t digest[32];
    const rp_status status = rp_file_map_open(path, &map, error);
    if (status)
        return status;
    rp_sha256_of((rp_str){ map.ptr, map.len }, digest);
    rp_hex_encode(digest, sizeof digest, hex);
    *size = map.len;
    rp_file_map_close(&map);
    return RP_OK;
}

static rp_status
put_inputs(const record_options *o, rp_json_writer *writer, rp_error *error)
{
    rp_status status = RP_OK;
    rp_json_key(writer, "files");
    rp_json_open(writer, '[');
    for (int i = 0; !status && i < o->command_count; i++) {
        const char *path = path_of(o->command[i]);
        char hex[65];
        size_t size;
        if ((i && names_an_output(o->command[i - 1])) || !is_regular_file(path))
            continue;
        if ((status = hash_file(path, hex, &size, error)))
            break;
        rp_json_open(writer, '{');
        rp_json_key(writer, "path");
        rp_json_put_cstring(writer, path);
        rp_json_key(writer, "sha256");
        rp_json_put_cstring(writer, hex);
        rp_json_key(writer, "bytes");
        rp_json_put_uint(writer, size);
        rp_json_close(writer, '}');
    }
    rp_json_close(writer, ']');
    return status;
}

/* The processor's own name for itself; empty where the system does not say. */
static void
read_cpu_name(char *out, size_t size)
{
    char line[512];
    FILE *file = fopen("/proc/cpuinfo", "r");
    out[0] = 0;
    while (file && !out[0] && fgets(line, sizeof line, file)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon)
            snprintf(out, size, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
    }
    if (file)
        fclose(file);
}

static void
put_machine(rp_json_writer *writer)
{
    char cpu[256], now[32];
    const time_t seconds = time(NULL);
    struct tm utc;
    read_cpu_name(cpu, sizeof cpu);
    gmtime_r(&seconds, &utc);
    strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", &utc);
    rp_json_key(writer, "cpu");
    rp_json_put_cstring(writer, cpu);
    rp_json_key(writer, "cores");
    rp_json_put_int(writer, sysconf(_SC_NPROCESSORS_ONLN));
    rp_json_key(writer, "kernels");
    rp_json_put_cstring(writer, rp_kernels_best(RP_CLASS_F32)->name);
    rp_json_key(writer, "started");
    rp_json_put_cstring(writer, now);
}

/* What must be equal for a result to be worth keeping; the caller goes on in the object. */
static rp_status
put_identity(const record_options *o, rp_json_writer *writer, rp_error *error)
{
    char program[65];
    size_t size;
    rp_status status = hash_file("/proc/self/exe", program, &size, error);
    if (status)
        return status;
    rp_json_key(writer, "command");
    rp_json_open(writer, '[');
    rp_json_put_cstring(writer, "reprise");
    for (int i = 0; i < o->command_count; i++)
        rp_json_put_cstring(writer, o->command[i]);
    rp_json_close(writer, ']');
    status = put_inputs(o, writer, error);
    rp_json_key(writer, "version");
    rp_json_put_cstring(writer, RP_VERSION);
    rp_json_key(writer, "commit");
    rp_json_put_cstring(writer, rp_commit);
    rp_json_key(writer, "program_sha256");
    rp_json_put_cstring(writer, program);
    return status;
}

/* ---- is it there already? ------------------------------------------------------------------- */

static bool
outputs_exist(const record_options *o)
{
    for (int i = 1; i < o->command_count; i++)
        if (names_an_output(o->command[i - 1]) && !rp_file_exists(o->command[i]))
            return false;
    return true;
}

static bool
members_equal(const rp_json *a, const rp_json *b, const char *name)
{
    rp_buffer left, right;
    rp_buffer_init(&left, 0);
    rp_buffer_init(&right, 0);
    const rp_json *x = rp_json_get(a, name), *y = rp_json_get(b, name);
    if (x && y) {
        rp_json_write_canonical(x, &left);
        rp_json_write_canonical(y, &right);
    }
    const bool equal = x && y && !rp_buffer_failed(&left) && !rp_buffer_failed(&right) &&
                       rp_str_equal(rp_buffer_str(&left), rp_buffer_str(&right));
    rp_buffer_fini(&left);
    rp_buffer_fini(&right);
    return equal;
}

/* Does the file of an earlier run say that it was this one? Anything else, a damaged file
 * too, is a no. */
static bool
is_there(const record_options *o, rp_str identity)
{
    rp_buffer old;
    rp_arena arena;
    rp_json_reader *reader = NULL;
    const rp_json *document, *mine;
    bool same = false;
    rp_buffer_init(&old, 0);
    rp_arena_init(&arena, (size_t)64 << 20);
    if (outputs_exist(o) && !rp_file_read(o->out, RESULT_SIZE_MAX, &old, NULL) &&
        !rp_json_reader_new(&reader)) {
        rp_str rest = rp_buffer_str(&old);
        const rp_str first = rp_str_split(&rest, '\n');
        if (first.len <= ABOUT_SIZE_MAX && !rp_json_parse(reader, &arena, first, &document, NULL) &&
            !rp_json_parse(reader, &arena, identity, &mine, NULL)) {
            const rp_json *about = rp_json_get(document, "about");
            same = members_equal(about, mine, "command") && members_equal(about, mine, "files") &&
                   (o->any_build || members_equal(about, mine, "program_sha256"));
        }
    }
    rp_json_reader_free(reader);
    rp_arena_fini(&arena);
    rp_buffer_fini(&old);
    return same;
}

/* ---- running --------------------------------------------------------------------------------- */

/* Who ends this program ends what it runs, which may have something to save. */
static volatile sig_atomic_t running;

static void
pass_on(int number)
{
    if (running > 0)
        kill((pid_t)running, number);
}

/* Run with standard output in `fd`. Returns the exit status as a shell would say it. */
static int
run_command(const record_options *o, int fd)
{
    char **arguments = calloc((size_t)o->command_count + 2, sizeof *arguments);
    posix_spawn_file_actions_t actions;
    static char name[] = "reprise";
    pid_t child;
    int status = 0;
    if (!arguments)
        return RP_EXIT_FAILED;
    arguments[0] = name;
    memcpy(arguments + 1, o->command, (size_t)o->command_count * sizeof *arguments);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fd, STDOUT_FILENO);
    /* A Ctrl-C is for the command, which may have something to save; we clean up after it. */
    posix_spawnattr_t attributes;
    sigset_t interrupts;
    sigemptyset(&interrupts);
    sigaddset(&interrupts, SIGINT);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigdefault(&attributes, &interrupts);
    signal(SIGINT, SIG_IGN);
    const int failed = posix_spawn(&child, "/proc/self/exe", &actions, &attributes, arguments,
                                   environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    free(arguments);
    if (failed)
        return RP_EXIT_FAILED;
    running = child;
    signal(SIGTERM, pass_on);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    running = 0;
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static rp_status
read_all(int fd, rp_buffer *out, rp_error *error)
{
    ssize_t got;
    if (lseek(fd, 0, SEEK_SET) != 0)
        return rp_fail(error, RP_ERR_IO, "cannot read the result: %s", strerror(errno));
    do {
        char *room = rp_buffer_reserve(out, 65536);
        if (!room)
            return rp_fail(error, RP_ERR_LIMIT, "the command printed more than %d bytes",
                           RESULT_SIZE_MAX);
        got = read(fd, room, 65536);
        out->len += got > 0 ? (size_t)got : 0;
    } while (got > 0 || (got < 0 && errno == EINTR));
    return got == 0 ? RP_OK : rp_fail(error, RP_ERR_IO, "cannot read the result: %s", strerror(errno));
}

static rp_status
write_record(const record_options *o, rp_str identity, double seconds, int fd, rp_error *error)
{
    rp_buffer file;
    rp_buffer_init(&file, RESULT_SIZE_MAX);
    /* The identity is an object: its last bracket makes room for what a run adds. */
    rp_buffer_append(&file, RP_STR("{\"about\":"));
    rp_buffer_append(&file, (rp_str){ identity.ptr, identity.len - 1 });
    rp_buffer_printf(&file, ",\"seconds\":%.3f}}\n", seconds);
    rp_status status = read_all(fd, &file, error);
    if (!status)
        status = rp_file_replace(o->out, rp_buffer_str(&file), 0644, error);
    rp_buffer_fini(&file);
    return status;
}

static rp_status
describe(const record_options *o, rp_buffer *identity, rp_error *error)
{
    rp_json_writer writer;
    rp_json_writer_init(&writer, identity);
    rp_json_open(&writer, '{');
    const rp_status status = put_identity(o, &writer, error);
    put_machine(&writer);
    rp_json_close(&writer, '}');
    if (!status && rp_buffer_failed(identity))
        return rp_fail(error, RP_ERR_LIMIT, "the command line is too long");
    return status;
}

/* Asked before hours are spent on what could not be kept. */
static rp_status
check_place(const char *path, rp_error *error)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    const size_t len = slash ? RP_MAX((size_t)(slash - path), (size_t)1) : 1;
    snprintf(folder, sizeof folder, "%.*s", (int)RP_MIN(len, sizeof folder - 1), slash ? path : ".");
    if (access(folder, W_OK | X_OK) != 0)
        return rp_fail(error, RP_ERR_INVALID, "cannot write into %s: %s", folder, strerror(errno));
    return RP_OK;
}

/* *ran: the command's exit status. */
static rp_status
record(const record_options *o, int *ran, rp_error *error)
{
    rp_buffer identity;
    rp_buffer_init(&identity, ABOUT_SIZE_MAX - 64);
    rp_status status = check_place(o->out, error);
    if (!status)
        status = describe(o, &identity, error);
    if (!status && !o->again && is_there(o, rp_buffer_str(&identity))) {
        fprintf(stderr, "%s is there already: the same command, inputs and program\n", o->out);
        rp_buffer_fini(&identity);
        return RP_OK;
    }
    FILE *printed = status ? NULL : tmpfile();
    if (!status && !printed)
        status = rp_fail(error, RP_ERR_IO, "cannot make a temporary file: %s", strerror(errno));
    if (!status) {
        const int64_t started = rp_monotonic_ns();
        *ran = run_command(o, fileno(printed));
        if (*ran == RP_EXIT_DONE)
            status = write_record(o, rp_buffer_str(&identity),
                                  (double)(rp_monotonic_ns() - started) / 1e9, fileno(printed),
                                  error);
    }
    if (printed)
        fclose(printed);
    rp_buffer_fini(&identity);
    return status;
}

int
rp_command_eval_record(int argc, char **argv)
{
    record_options o = { 0 };
    rp_error error = { { 0 } };
    int exit_status, ran = RP_EXIT_DONE;
    if (!parse_arguments(argc, argv, &o, &exit_status))
        return exit_status;
    const rp_status status = record(&o, &ran, &error);
    if (status)
        fprintf(stderr, "reprise eval record: %s\n", error.text);
    return status ? rp_eval_exit_status(status) : ran;
}
