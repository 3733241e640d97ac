/* judge.h - how any judge, local or remote, is asked before a deadline.
 *
 * A judge reads two prompts and says whether one answer serves both. A policy
 * that wants one (reprise/policy.h: RP_NEED_JUDGE) gets it through this callback.
 * Late, broken and unsure are the same answer: RP_JUDGE_UNSURE, a miss.
 *
 * Threads: the callback runs on the thread that looked up, perhaps on several at
 *          one time. */
#ifndef REPRISE_JUDGE_H
#define REPRISE_JUDGE_H

#include <reprise/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_judge_question {
    rp_str prompt;         /* what is asked now */
    rp_str stored_prompt;  /* what was asked when the answer was made */
    rp_str stored_answer;  /* its text; empty: unknown */
    rp_entry_id id;        /* the candidate */
    float similarity;
    unsigned attempt;      /* 0 first; a cascade asks again, perhaps a larger judge */
    int64_t deadline_us;   /* on CLOCK_MONOTONIC; 0: none */
} rp_judge_question;

/* Returns RP_JUDGE_YES, RP_JUDGE_NO or RP_JUDGE_UNSURE (reprise/policy.h); any other
 * number is taken as unsure. The question is lent for the call. */
typedef int rp_judge_ask(void *context, const rp_judge_question *question);

typedef struct rp_judge {
    rp_judge_ask *ask;   /* NULL: no judge */
    void *context;
    int64_t deadline_ms; /* from the moment it is asked; 0: 350 */
} rp_judge;

#ifdef __cplusplus
}
#endif
#endif
