/* labels.h - what the labels of a data set are called.
 *
 * Classes have names, or only numbers.  Names come from a config.json ("id2label"; transformers' placeholders LABEL_0, LABEL_1,
 * ... are none) or, when it has none, from the training data: its names in bytewise order, or its integers as they are.
 * Data may give a class by its name or by its number.  Values are real numbers (regression). */
#pragma once
#include <jansson.h>

#include "runtime/rows.h"

typedef struct LrtLabels LrtLabels;

/* Labels as `config` (borrowed; NULL: none) names them; `source` is the config's file in messages.  `values`: regression. */
LrtLabels *lrt_labels_new(const json_t *config, const char *source, bool values, LrtError *error);
void lrt_labels_free(LrtLabels *labels);

bool lrt_labels_are_values(const LrtLabels *labels);
int32_t lrt_labels_count(const LrtLabels *labels); /* classes; 0: not known yet; values: 1 */
const char *lrt_labels_name(const LrtLabels *labels, int32_t label); /* NULL: it has a number only */
/* The names as "id2label" has them, {"0": "no", "1": "yes"}, numbers as LABEL_0 ...; NULL: out of memory. */
json_t *lrt_labels_json(const LrtLabels *labels);

/* Are these the labels of a head with so many outputs?  Classes that have only numbers may be fewer: then there are as many as the
 * head has from now on.  `path`: the file that they are from, in messages. */
bool lrt_labels_fit(LrtLabels *labels, const char *path, int64_t outputs, LrtError *error);

/* --- for the reader of labelled data --- */

/* The class or value of a row.  While the labels are not known, a new name becomes the next class. */
bool lrt_labels_class(LrtLabels *labels, const LrtRow *row, int32_t *label, LrtError *error);
bool lrt_labels_value(const LrtRow *row, float *value, LrtError *error);
/* From now on the labels are known.  NULL, or (malloc'ed) the class that each class so far has become: names are put in order. */
bool lrt_labels_close(LrtLabels *labels, int32_t **classes, LrtError *error);
