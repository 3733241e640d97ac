/* wrap.h - the instruction of a scope whose prompts are all wrapped in one.
 *
 * What applications do that put everything into the user's message; for showing what
 * evidence/template.h is for.
 *
 * Threads: constant. */
#ifndef RP_EVAL_WRAP_H
#define RP_EVAL_WRAP_H

/* What stands before and behind the part that varies. */
#define RP_WRAP_FRONT                                                                              \
    "You are a careful assistant of a large public library. Read the question of the visitor "     \
    "below and answer it in at most three plain sentences. Do not invent facts, do not give "      \
    "medical or legal advice, and say so if you are not sure. Answer the question: "
#define RP_WRAP_BACK " Remember that your answer will be read aloud to the visitor."

#endif
