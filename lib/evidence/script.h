/* script.h - which script a letter is of, and what an English vocabulary cannot tell apart.
 *
 * Threads: pure functions. */
#ifndef RP_EVIDENCE_SCRIPT_H
#define RP_EVIDENCE_SCRIPT_H

#include <reprise/types.h>
#include <stdint.h>

typedef enum rp_script {
    RP_SCRIPT_LATIN, RP_SCRIPT_CYRILLIC, RP_SCRIPT_GREEK, RP_SCRIPT_HAN, RP_SCRIPT_KANA,
    RP_SCRIPT_HANGUL, RP_SCRIPT_ARABIC, RP_SCRIPT_HEBREW, RP_SCRIPT_INDIC, RP_SCRIPT_THAI,
    RP_SCRIPT_OTHER, RP_SCRIPT_COUNT,
} rp_script;

/* -1 (not UTF-8) is of another script. */
rp_script rp_script_of(int32_t cp);

/* What an English vocabulary turns into unknown tokens, as hashes in order; 0: nothing. */
typedef struct rp_unread {
    uint64_t words; /* of scripts it does not spell, and too long ones */
    uint64_t signs; /* pictures, arrows, currencies ... */
} rp_unread;
rp_unread rp_unread_of(rp_str text);

#endif
