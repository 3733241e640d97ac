/* child.c - see child.h. */
#include "tools/child.h"

#include <ftw.h>
#include <math.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static bool
wait_for_marker(rp_child *child, const char *marker, char *out, size_t size)
{
    char line[1024];
    while (fgets(line, sizeof line, child->said)) {
        const char *at = strstr(line, marker);
        if (!at) {
            fputs(line, stderr);
            continue;
        }
        at += strlen(marker);
        snprintf(out, size, "%.*s", (int)strcspn(at, ", \r\n"), at);
        return true;
    }
    return false;
}

bool
rp_child_start(rp_child *child, const char *path, const char *const *arguments, int watched,
               const char *marker, char *out, size_t size)
{
    int ends[2];
    posix_spawn_file_actions_t actions;
    *child = (rp_child){ 0 };
    if (pipe(ends) != 0)
        return false;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], watched);
    posix_spawn_file_actions_addclose(&actions, ends[0]);
    posix_spawn_file_actions_addclose(&actions, ends[1]);
    const int result = posix_spawn(&child->pid, path ? path : "/proc/self/exe", &actions, NULL,
                                   (char *const *)(uintptr_t)arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (result != 0) {
        child->pid = 0;
        close(ends[0]);
        return false;
    }
    child->said = fdopen(ends[0], "r");
    return child->said && (!marker || wait_for_marker(child, marker, out, size));
}

int
rp_child_stop(rp_child *child)
{
    int status = 0;
    if (child->pid) {
        kill(child->pid, SIGTERM);
        waitpid(child->pid, &status, 0);
    }
    if (child->said)
        fclose(child->said);
    *child = (rp_child){ 0 };
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

double
rp_process_cpu_seconds(pid_t pid)
{
    char path[64], line[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return (double)NAN;
    const bool read = fgets(line, sizeof line, file) != NULL;
    fclose(file);
    const char *at = read ? strrchr(line, ')') : NULL; /* the name may hold anything */
    unsigned long long user, system;
    if (!at || sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &system) != 2)
        return (double)NAN;
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

size_t
rp_process_resident_bytes(pid_t pid)
{
    char path[64];
    unsigned long long pages = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    if (fscanf(file, "%*u %llu", &pages) != 1)
        pages = 0;
    fclose(file);
    return (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
}

bool
rp_folder_make_temporary(char *out, size_t size)
{
    const char *parent = getenv("TMPDIR");
    snprintf(out, size, "%s/reprise-XXXXXX", parent && *parent ? parent : "/tmp");
    return mkdtemp(out) != NULL;
}

static int
remove_one(const char *path, const struct stat *info, int type, struct FTW *place)
{
    (void)info, (void)type, (void)place;
    return remove(path);
}

void
rp_folder_remove(const char *path)
{
    nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}
