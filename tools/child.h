/* child.h - further processes of a demo or benchmark: this program again, or another.
 *
 * Threads: used by one thread at a time. */
#ifndef RP_TOOLS_CHILD_H
#define RP_TOOLS_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

typedef struct rp_child {
    pid_t pid;  /* 0: none */
    FILE *said; /* its standard output or error, from the line after the marker on */
} rp_child;

/* Start a program (path NULL: this one) and read what it says on descriptor `watched` (1
 * or 2) until a line has `marker`; the word behind the marker is copied to `out`. Other
 * lines go to standard error. marker NULL: do not wait. False: it ended, or did not start. */
bool rp_child_start(rp_child *child, const char *path, const char *const *arguments, int watched,
                    const char *marker, char *out, size_t size);
/* TERM, and wait for the end. Returns its exit status, -1 if it was killed. */
int rp_child_stop(rp_child *child);

/* User and system time that a process has used, in seconds; NaN if it is gone. */
double rp_process_cpu_seconds(pid_t pid);
/* Resident memory in bytes; 0 if it is gone. */
size_t rp_process_resident_bytes(pid_t pid);

/* A new folder under the system's temporary one, and its end with all that is in it. */
bool rp_folder_make_temporary(char *out, size_t size);
void rp_folder_remove(const char *path);

#endif
