/* gates.c - what differs between two analysed prompts; the contract is in gates.h.
 *
 * A gate fires only where both prompts are nearly the same sentence (alignment at
 * least what its threshold says): there a changed number is a changed question, while on loose
 * paraphrases it is noise (docs/policies.md has what each gate wins and costs). A
 * difference too weak or too loose for a veto is noted. */
#include "comparison.h"

const uint32_t RP_GATES_DEFAULT = ((1u << RP_GATE_COUNT) - 1) & ~(1u << RP_GATE_STRICT);

void
rp_gates_compare(const rp_features *a, const rp_features *b, const rp_gate_options *options,
                 bool with_detail, rp_gate_report *out)
{
    rp_comparison c;
    rp_compare(a, b, options, with_detail, out, &c);
    rp_gates_quantities(&c);
    rp_gates_polarity(&c);
    rp_gates_names(&c);
    rp_gates_order(&c);
    rp_gates_script(&c);
    const uint32_t enabled = options->enabled | (options->strict ? 1u << RP_GATE_STRICT : 0);
    out->fired &= enabled;
    out->noted &= enabled;
}
