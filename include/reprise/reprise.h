/* reprise.h - the whole public API of Reprise, and its version. */
#ifndef REPRISE_REPRISE_H
#define REPRISE_REPRISE_H

#include <reprise/cache.h>
#include <reprise/embed.h>
#include <reprise/index.h>
#include <reprise/judge.h>
#include <reprise/policy.h>
#include <reprise/status.h>
#include <reprise/types.h>
#include <reprise/verify.h>

#define RP_VERSION "0.1.0"

#endif
