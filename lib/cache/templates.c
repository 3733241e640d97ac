/* templates.c - what the prompts of a scope share, learned as they come (evidence/template.h).
 *
 * A scope's learner sees every prompt that may be answered semantically. Once it has settled,
 * prompts that fit are embedded without their fixed words, and their vectors live in a
 * scope of their own (rp_vector_scope), so that whole and cut prompts never meet. Nothing of
 * this is stored but the template's name with each entry: after a restart the next prompts
 * teach the same words again, and with them the same name; other words have another name
 * and leave the old entries to the exact tier.
 *
 * Only scopes with prompts long enough to have a template take a learner of about 16 KiB;
 * there are RP_TEMPLATE_SLOTS at most. */
#include "cache/cache_internal.h"

#include "base/bytes.h"
#include "evidence/template.h"

enum { WORDS_MIN = RP_TEMPLATE_FIXED_MIN + 1 };

void
rp_templates_init(rp_cache *cache)
{
    pthread_mutex_init(&cache->templates_lock, NULL);
}

void
rp_templates_fini(rp_cache *cache)
{
    for (size_t i = 0; i < RP_TEMPLATE_SLOTS; i++)
        rp_template_free(cache->templates[i].learner);
    pthread_mutex_destroy(&cache->templates_lock);
}

static bool
may_have_template(rp_str text)
{
    size_t words = 0;
    for (size_t i = 0; i < text.len && words < WORDS_MIN; i++)
        words += text.ptr[i] > ' ' && (i == 0 || text.ptr[i - 1] <= ' ');
    return words >= WORDS_MIN;
}

/* The scope's slot, or the one of its set that was used least lately. Under the lock. */
static rp_template_slot *
find_slot(rp_cache *cache, const rp_scope *scope, bool *found)
{
    const size_t sets = RP_TEMPLATE_SLOTS / RP_TEMPLATE_WAYS;
    const size_t first = rp_load_le64((const char *)scope->bytes) % sets * RP_TEMPLATE_WAYS;
    rp_template_slot *oldest = &cache->templates[first];
    *found = false;
    for (size_t i = first; i < first + RP_TEMPLATE_WAYS; i++) {
        rp_template_slot *slot = &cache->templates[i];
        if (slot->learner && memcmp(slot->scope.bytes, scope->bytes, sizeof scope->bytes) == 0) {
            *found = true;
            return slot;
        }
        if (!slot->learner || (oldest->learner && slot->used < oldest->used))
            oldest = slot;
    }
    return oldest;
}

static uint32_t
name_of(const rp_template *template_)
{
    const uint64_t fingerprint = rp_template_fingerprint(template_);
    const uint32_t folded = (uint32_t)(fingerprint ^ fingerprint >> 32);
    return fingerprint && !folded ? 1 : folded;
}

/* NULL: there is none, and no memory for one. */
static rp_template *
learner_of(rp_cache *cache, const rp_scope *scope)
{
    bool found;
    rp_template_slot *slot = find_slot(cache, scope, &found);
    slot->used = ++cache->template_questions;
    if (found)
        return slot->learner;
    rp_template_free(slot->learner);
    slot->learner = NULL;
    slot->scope = *scope;
    return rp_template_new(&slot->learner) == RP_OK ? slot->learner : NULL;
}

void
rp_templates_cut(rp_cache *cache, const rp_scope *scope, rp_str text, rp_str *fuzzy,
                 uint32_t *template_)
{
    bool fits = false;
    *fuzzy = text;
    *template_ = 0;
    if (!may_have_template(text))
        return;
    pthread_mutex_lock(&cache->templates_lock);
    rp_template *learner = learner_of(cache, scope);
    if (learner) {
        rp_template_learn(learner, text);
        *fuzzy = rp_template_cut(learner, text, &fits);
        *template_ = fits ? name_of(learner) : 0;
    }
    pthread_mutex_unlock(&cache->templates_lock);
}

rp_str
rp_templates_cut_stored(rp_cache *cache, const rp_scope *scope, rp_str text, uint32_t template_)
{
    bool found, fits;
    if (!template_)
        return text;
    pthread_mutex_lock(&cache->templates_lock);
    const rp_template_slot *slot = find_slot(cache, scope, &found);
    if (found && name_of(slot->learner) == template_)
        text = rp_template_cut(slot->learner, text, &fits);
    pthread_mutex_unlock(&cache->templates_lock);
    return text;
}
