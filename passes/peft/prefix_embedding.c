/* prefix_embedding.c - learned word embeddings before the prompt (prefix) and behind it (infix), as in the LoRA paper's PreEmbed; with
 * a prefix only and under PEFT's names it is prompt tuning (Lester et al., 2021). */
#include <string.h>

#include "passes/peft/settings.h"
#include "passes/peft/virtual.h"

static const double word_deviation = 0.02; /* of a new table: about that of word embeddings */

/* Rows where a learned token stands, of these tables. */
static bool embed(PeftRewrite *r, const char *prefix_name, const char *infix_name)
{
    int count;
    PeftPlace *places = rewrite_places(r, "embedding", &count);
    if (!places || !virtual_check(r))
        return false;
    Virtual v = virtual_inputs(r);
    for (int i = 0; i < count; i++) {
        Node *site = places[i].node, *prefix = NULL, *infix = NULL;
        int64_t d = site->type.dim[1];
        graph_stamp(r->graph, site);
        if ((r->spec->prefix && !(prefix = virtual_table(r, prefix_name, r->spec->prefix, d, d, 0, word_deviation))) ||
            (r->spec->infix && !(infix = virtual_table(r, infix_name, r->spec->infix, d, d, 0, word_deviation))))
            return false;
        rewrite_replace(r, site, virtual_rows(r, &v, prefix, infix, site->inputs[0]));
    }
    r->result->virtual_logits = true;
    return true;
}

static bool apply(PeftRewrite *r)
{
    return embed(r, "prefix_embedding", "infix_embedding");
}

static bool apply_prompt_tuning(PeftRewrite *r)
{
    r->result->predict_first = true;
    return embed(r, "prompt_embeddings", NULL);
}

static const PeftKey keys[] = {VIRTUAL_KEYS};
static const PeftKey prompt_keys[] = {PEFT_KEY("tokens", INT, prefix, 1, 100000, "20")};

const PeftMethod peft_prefix_embedding = {.name = "prefix_embedding",
                                          .summary = "learned embeddings before and behind the prompt (PreEmbed of the LoRA paper)",
                                          .apply = apply, .keys = keys, .key_count = 2, .kind = PEFT_TOKENS};
const PeftMethod peft_prompt_tuning = {.name = "prompt_tuning", .summary = "learned embeddings before the text (Lester et al., 2021)",
                                       .apply = apply_prompt_tuning, .keys = prompt_keys, .key_count = 1,
                                       .settings = peft_prompt_settings, .kind = PEFT_TOKENS};
